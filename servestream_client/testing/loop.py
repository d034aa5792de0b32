"""The event loop that servers and proxies under test share, in a thread of its own."""

from __future__ import annotations

from contextlib import AbstractContextManager

from anyio.from_thread import BlockingPortal, BlockingPortalProvider

__all__ = ["shared_portal"]

# Not the blocking clients': a test that keeps one of these busy should not stop the other.
_provider = BlockingPortalProvider()


def shared_portal() -> AbstractContextManager[BlockingPortal]:
    """A lease of it; the thread ends with the last one."""
    return _provider
