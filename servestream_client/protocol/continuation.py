"""How an input of which outputs were received goes on: docs/protocol.md, section 18.

Invariant: these are functions of what both ends have said; outputs of two servers become one answer
only where both gave the same word on how their handlers go on, and on what their outputs depend.
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256
from typing import NamedTuple

from servestream_client.protocol.frames import HandlerKind, Replay, Welcome

__all__ = [
    "DIGEST_BYTES",
    "FEATURE",
    "NEVER",
    "NO_OUTPUTS",
    "ResumeTerms",
    "digest",
    "holds",
    "terms_of",
]

FEATURE = "many"
"""The name of what stands in that section."""

DIGEST_BYTES = 8
"""Enough against accidents; it is no protection against forgery."""

NO_OUTPUTS = bytes(DIGEST_BYTES)
"""The digest of no outputs."""


def digest(before: bytes, payloads: Sequence[bytes]) -> bytes:
    """The digest of outputs.

    Args:
        before: that of those before them.
        payloads: the outputs.
    """
    for payload in payloads:
        before = sha256(before + payload).digest()[:DIGEST_BYTES]
    return before


class ResumeTerms(NamedTuple):
    """On which a server goes on with an input.

    Attributes:
        replay: what its handler can do.
        fingerprint: on what its outputs depend.
    """

    replay: Replay
    fingerprint: str

    @property
    def resumable(self) -> bool:
        """Whether it can be sent again at all once outputs of it were received."""
        return self.replay not in (Replay.UNSPECIFIED, Replay.NEVER)


NEVER = ResumeTerms(Replay.NEVER, "")
"""Those of a server of which nothing is known."""


def holds(welcome: Welcome) -> bool:
    """Whether what stands in that section holds on an attempt."""
    return welcome.handler_kind is HandlerKind.ONE_TO_MANY and FEATURE in welcome.features


def terms_of(welcome: Welcome) -> ResumeTerms:
    """Those of the server that welcomed a stream."""
    if holds(welcome):
        return ResumeTerms(welcome.replay, welcome.fingerprint)
    # A server without digests: its own word, and the code's version, are all there is.
    return ResumeTerms(Replay.SEEK if welcome.restartable else Replay.NEVER, welcome.code_version)
