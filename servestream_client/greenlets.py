"""Processes whose threads are greenlets: gRPC's asyncio layer waits there for ever.

Measured on gevent 26 and eventlet 0.41: what matters is whether threads are patched. With sockets,
select, time, ssl, signals or os patched, and threads not, everything works.
"""

from __future__ import annotations

import sys

from servestream_client.errors import ConfigurationError

__all__ = ["check_threads"]


def check_threads() -> None:
    """
    Raises:
        ConfigurationError: gevent or eventlet has put greenlets in the place of threads.
    """
    culprit = _patched_by()
    if culprit is not None:
        raise ConfigurationError(
            f"{culprit} has replaced this process's threads with greenlets, in which grpc.aio waits"
            " for ever: patch without threads (thread=False), or use the client in a process that"
            " is not patched"
        )


def _patched_by() -> str | None:
    """Who did it; what nobody has imported has patched nothing."""
    gevent = sys.modules.get("gevent.monkey")
    if gevent is not None and _says(gevent, "is_module_patched", "threading"):
        return "gevent"
    eventlet = sys.modules.get("eventlet.patcher")
    if eventlet is not None and _says(eventlet, "is_monkey_patched", "thread"):
        return "eventlet"
    return None


def _says(module: object, question: str, name: str) -> bool:
    ask = getattr(module, question, None)
    return callable(ask) and bool(ask(name))
