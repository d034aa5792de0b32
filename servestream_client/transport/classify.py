"""What a failed attempt means: statuses by their table, and what the protocol itself says.

A status alone cannot say whether a replica died or user code raised (both are INTERNAL on the
default proxy), nor whether a stream was complete (a truncated one may end with OK): the protocol
says those things itself.
"""

from __future__ import annotations

from dataclasses import dataclass

from servestream_client.errors import (
    AccessDeniedError,
    CodecMismatchError,
    NotAServerError,
    PeerProtocolError,
    RejectedError,
    RetriesExhaustedError,
    ServerFailedError,
    StreamError,
    VersionMismatchError,
    WrongApplicationError,
)
from servestream_client.protocol.coming import NOT_IN_TIME
from servestream_client.protocol.frames import (
    RefusalKind,
    Refused,
    StreamErrorKind,
    StreamFailure,
)
from servestream_client.transport.base import LinkStatus
from servestream_client.transport.statuses import STATUS_TABLE, Decision, matching_row

__all__ = [
    "STATUS_TABLE",
    "Decision",
    "Verdict",
    "classify_failure",
    "classify_refusal",
    "classify_status",
    "classify_violation",
]


@dataclass(frozen=True, slots=True)
class Verdict:
    """The meaning of one failed attempt.

    Attributes:
        decision: what to do.
        reason: what happened, for people.
        error: what to raise, now or once the retry policy is exhausted.
        retry_after: seconds that the server asked to wait; None: it did not.
        unreachable: whether nobody is there who could answer.
        vague: whether another attempt that failed for the same cause may say more.
        status: gRPC's name for how the call ended; empty where that is not the cause.
    """

    decision: Decision
    reason: str
    error: type[StreamError] = RetriesExhaustedError
    retry_after: float | None = None
    unreachable: bool = False
    vague: bool = False
    status: str = ""


def classify_status(status: LinkStatus, *, known: bool) -> Verdict:
    """What an attempt means that ended with `status` before its stream was complete.

    Args:
        status: as the link saw it.
        known: whether the target has ever spoken the protocol with this client.
    """
    row = matching_row(status, known=known)
    meaning = row.said(status.metadata_bytes)
    return Verdict(
        row.decision,
        f"{meaning} ({status})",
        row.error,
        unreachable=row.unreachable,
        vague=row.vague,
        status=status.code,
    )


_FINAL_REFUSALS: dict[RefusalKind, type[StreamError]] = {
    RefusalKind.VERSION: VersionMismatchError,
    RefusalKind.APPLICATION: WrongApplicationError,
    RefusalKind.CODEC: CodecMismatchError,
    RefusalKind.TOKEN: RejectedError,
    RefusalKind.BAD_OPEN: RejectedError,
    RefusalKind.UNAUTHENTICATED: AccessDeniedError,
    RefusalKind.PERMISSION_DENIED: AccessDeniedError,
}


TOKEN_TRIES = 3
"""Servers that are asked to go on with the state of a stateful stream, if none can: after a
redeploy some may be of the release that made it."""


_OF_CURSOR = (
    ". It is the state of the cursor: either it is older than the service's state_lifetime, or the"
    " service's keys, fingerprint or state_version are others now; its log says which. Begin anew,"
    " with Cursor()"
)


def classify_refusal(
    refused: Refused, *, known: bool, token_refusals: int = 0, of_cursor: bool = False
) -> Verdict:
    """What a refused frame means, or a welcome that does not fit this client.

    Another application at a target that was right before is one that got the port of a replica
    that died: the ingress will learn of it (docs/serve.md).

    Args:
        refused: that.
        known: whether the target has ever spoken the protocol with this client.
        token_refusals: how many servers could not go on with the stream's state.
        of_cursor: whether that is from a cursor.
    """
    reason = f"the stream is not served there ({refused.kind.name.lower()}): {refused.text}"
    if refused.kind is RefusalKind.TOKEN and of_cursor:
        reason += _OF_CURSOR
    final = _FINAL_REFUSALS.get(refused.kind)
    after = _seconds(refused.retry_after_ms)
    if refused.kind is RefusalKind.APPLICATION and known:
        return Verdict(Decision.RESUME, reason, WrongApplicationError, retry_after=after)
    if refused.kind is RefusalKind.TOKEN and token_refusals < TOKEN_TRIES:
        return Verdict(Decision.RESUME, reason, RejectedError, retry_after=after)
    if final is not None:
        return Verdict(Decision.FAIL, reason, final)
    return Verdict(Decision.WAIT, reason, retry_after=after)


def classify_failure(failure: StreamFailure) -> Verdict:
    """What a stream error frame means."""
    if failure.kind is StreamErrorKind.SILENCE and NOT_IN_TIME in failure.text:
        reason = f"the server gave the stream up: {failure.text}"
    elif failure.kind is StreamErrorKind.SILENCE:
        reason = (
            "the server received nothing from this client for three heartbeat intervals, and ended"
            " the attempt: this process was stopped (or slept with its machine), its event loop was"
            f" kept busy, or the link was dead ({failure.text})"
        )
    else:
        reason = f"the server gave the stream up ({failure.kind.name.lower()}): {failure.text}"
    if failure.kind in (StreamErrorKind.PROTOCOL, StreamErrorKind.STATE):
        return Verdict(Decision.FAIL, reason, ServerFailedError)
    if failure.kind is StreamErrorKind.OVERLOADED or failure.retry_after_ms is not None:
        return Verdict(Decision.WAIT, reason, retry_after=_seconds(failure.retry_after_ms))
    return Verdict(Decision.RESUME, reason)


def classify_violation(text: str, *, known: bool, perhaps_lost: bool = False) -> Verdict:
    """What it means that the peer broke the protocol.

    A target that never welcomed this client most likely speaks another one; a server that was
    welcome before may have failed this once. Where a frame lost on the way would look the same,
    nobody is to blame.
    """
    if perhaps_lost:
        return Verdict(
            Decision.RESUME,
            f"frames were lost on the way, or the server broke the protocol: {text}",
            PeerProtocolError,
        )
    if not known:
        return Verdict(
            Decision.FAIL, f"the server does not speak this protocol: {text}", NotAServerError
        )
    return Verdict(Decision.RESUME, f"the server broke the protocol: {text}", PeerProtocolError)


def _seconds(milliseconds: int | None) -> float | None:
    return None if milliseconds is None else milliseconds / 1000
