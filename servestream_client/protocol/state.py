"""The rules of stateful streams that both ends share: docs/protocol.md, section 11.

Invariant: these are functions of what both ends have said.
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256

from servestream_client.protocol.continuation import DIGEST_BYTES, NO_OUTPUTS, ResumeTerms, digest
from servestream_client.protocol.frames import (
    HandlerKind,
    Open,
    Order,
    Position,
    RefusalKind,
    Refused,
    Replay,
    Welcome,
)

__all__ = [
    "FEATURE",
    "KEPT_WINDOWS",
    "TERMS",
    "chained",
    "emit_from",
    "misfit",
    "outputs_digest",
    "outputs_digests",
    "unfit",
]

FEATURE = "state"
"""The name of what stands in that section."""

KEPT_WINDOWS = 4
"""How many windows of inputs there may be that no state covers; one of them may be unanswered."""

TERMS = ResumeTerms(Replay.RESTART, "")
"""On which an input goes on that was cut: it is computed again, and compared by a digest."""


def outputs_digest(payloads: Sequence[bytes]) -> bytes:
    """That of the outputs of one input."""
    return digest(NO_OUTPUTS, payloads)


def outputs_digests(payloads: Sequence[bytes]) -> list[bytes]:
    """The same of inputs that have one output each."""
    return [sha256(NO_OUTPUTS + payload).digest()[:DIGEST_BYTES] for payload in payloads]


def chained(before: bytes, digests: Sequence[bytes]) -> bytes:
    """The digest of the outputs of several inputs.

    Args:
        before: that of the inputs before them; of none, `NO_OUTPUTS`.
        digests: `outputs_digest` of each.
    """
    return digest(before, digests)


def unfit(before: bool | None, now: Welcome, *, stateless: bool) -> Refused | None:
    """Why a stream cannot go on where it was welcomed now: a state is there, or is not, that was
    not before, or was.

    Args:
        before: whether its handler was stateful; None: that is not known.
        now: the welcome that came.
        stateless: whether it goes on behind inputs of a handler that was not.
    """
    stateful = now.handler_kind is HandlerKind.STATEFUL
    if before is None and stateful and stateless:
        return Refused(
            RefusalKind.BAD_OPEN,
            "the service is stateful, and the cursor holds no state: it was made when the service"
            " was not; begin anew, with Cursor()",
        )
    if before is None or stateful is before:
        return None
    was, is_now = ("is not stateful", "was") if not stateful else ("is stateful", "was not")
    return Refused(RefusalKind.TOKEN, f"the handler {was} now, and {is_now} when the stream began")


def emit_from(opened: Open) -> Position:
    """The first output that is missing at the client."""
    return opened.emit_from or Position(opened.first_number)


def misfit(opened: Open) -> Refused | None:
    """Why a stateful handler cannot serve a stream that was opened like this."""
    if FEATURE not in opened.features:
        return Refused(
            RefusalKind.VERSION,
            "the service is stateful, which this client's version cannot resume; update the client",
        )
    if opened.order is Order.ANY:
        return _bad(
            "the service is stateful, and answers inputs in their order alone: use client.stream"
            " with ordered=True"
        )
    if opened.token is not None:
        first = opened.token.number + 1
    else:  # where nothing was answered, the inputs before the first have failed at the client
        first = 1 if opened.emit_from is not None else opened.first_number
    if opened.first_number != first:
        return _bad(f"the first number is {opened.first_number}, not {first}, the state's next one")
    missing = emit_from(opened)
    if missing.number < first:
        return _bad(f"output {missing.number} is wanted, which is before the state")
    again = missing != Position(first)
    if len(opened.emit_digest) not in ((DIGEST_BYTES,) if again else (0, DIGEST_BYTES)):
        return _bad(f"a digest of {len(opened.emit_digest)} bytes, not {DIGEST_BYTES}")
    return None


def _bad(text: str) -> Refused:
    return Refused(RefusalKind.BAD_OPEN, text)
