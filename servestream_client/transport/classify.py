"""What a failed attempt means: the one table from what was seen to what is done.

The rows were collected from Ray Serve 2.60 in both ingress modes, and from fronts before it
(`seen` says where each came from; docs/protocol.md, section 14, repeats them for readers). A row
matches on the gRPC status, on a part of its details, and on whether the target has ever spoken the
protocol with this client: an address that never did is most likely wrong, one that did is most
likely restarting. The first matching row counts.

A status alone cannot say whether a replica died or user code raised (both are INTERNAL on the
default proxy), nor whether a stream was complete (a truncated one may end with OK): the protocol
says those things itself.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass

from servestream_client.errors import (
    AccessDeniedError,
    CodecMismatchError,
    MessageTooLargeError,
    NotAServerError,
    PeerProtocolError,
    RejectedError,
    RetriesExhaustedError,
    ServerFailedError,
    StreamError,
    UnreachableError,
    VersionMismatchError,
    WrongApplicationError,
)
from servestream_client.protocol.frames import (
    RefusalKind,
    Refused,
    StreamErrorKind,
    StreamFailure,
)
from servestream_client.transport.base import LinkStatus

__all__ = [
    "STATUS_TABLE",
    "Decision",
    "Verdict",
    "classify_failure",
    "classify_refusal",
    "classify_status",
    "classify_violation",
]


class Decision(enum.Enum):
    """What to do about a failed attempt."""

    RESUME = "try again, at once after progress and with growing waits otherwise"
    WAIT = "try again, but not at once even after progress"
    FAIL = "trying again would not help: raise"


@dataclass(frozen=True, slots=True)
class Verdict:
    """The meaning of one failed attempt.

    Attributes:
        decision: what to do.
        reason: what happened, for people.
        error: what to raise, now or once the retry policy is exhausted.
        retry_after: seconds that the server asked to wait; None: it did not.
        unreachable: whether nobody is there who could answer.
    """

    decision: Decision
    reason: str
    error: type[StreamError] = RetriesExhaustedError
    retry_after: float | None = None
    unreachable: bool = False


@dataclass(frozen=True, slots=True)
class Row:
    """One row of the table.

    Attributes:
        code: the gRPC status; ``"*"``: any.
        details: what its details contain, in any case of letters; empty: anything.
        strangers_only: the row holds only for a target that never spoke the protocol.
        decision: what to do.
        error: what to raise, now or when retries are exhausted.
        meaning: for people.
        seen: where this comes from.
    """

    code: str
    decision: Decision
    meaning: str
    seen: str
    details: str = ""
    strangers_only: bool = False
    error: type[StreamError] = RetriesExhaustedError


_RESUME, _WAIT, _FAIL = Decision.RESUME, Decision.WAIT, Decision.FAIL

STATUS_TABLE: tuple[Row, ...] = (
    # ---- final, whoever says it
    Row(
        "UNAUTHENTICATED",
        _FAIL,
        "the server asks for credentials",
        "a front before Serve, or the service itself",
        error=AccessDeniedError,
    ),
    Row(
        "PERMISSION_DENIED",
        _FAIL,
        "the server does not allow this",
        "a front before Serve, or the service itself",
        error=AccessDeniedError,
    ),
    Row(
        "INVALID_ARGUMENT",
        _FAIL,
        "the server calls the call invalid",
        "the service itself",
        error=RejectedError,
    ),
    Row(
        "OUT_OF_RANGE",
        _FAIL,
        "the server calls the call out of range",
        "the service itself",
        error=RejectedError,
    ),
    Row(
        "RESOURCE_EXHAUSTED",
        _FAIL,
        "a message exceeds what a gRPC peer on the way accepts; lower FlowControl.max_item_bytes,"
        " or raise the peer's grpc.max_receive_message_length",
        "grpc itself, either end",
        details="larger than max",
        error=MessageTooLargeError,
    ),
    # ---- final from a stranger
    Row(
        "NOT_FOUND",
        _FAIL,
        "several applications are deployed there, and this client names none: pass application=",
        "both: a call without the metadata, with several applications deployed",
        details="metadata not set",
        strangers_only=True,
        error=WrongApplicationError,
    ),
    Row(
        "NOT_FOUND",
        _FAIL,
        "no such application is deployed there",
        "HAProxy: unknown application; default proxy: the same with several deployed",
        strangers_only=True,
        error=WrongApplicationError,
    ),
    Row(
        "UNIMPLEMENTED",
        _FAIL,
        "the server does not know servestream.v1.StreamService; list"
        " servestream_client.server.GRPC_SERVICER_FUNCTIONS in its gRPCOptions",
        "any gRPC server; Serve without the servicer registered",
        strangers_only=True,
        error=NotAServerError,
    ),
    Row(
        "OK",
        _FAIL,
        "the call ended at once without a word of the protocol: its method is not"
        " a StreamService's",
        "a deployment with a Stream method of its own",
        strangers_only=True,
        error=NotAServerError,
    ),
    Row(
        "INTERNAL",
        _FAIL,
        "the application has no Stream method: it is not a StreamService",
        "default proxy: a deployment without the method",
        details="tried to call a method",
        strangers_only=True,
        error=NotAServerError,
    ),
    Row(
        "UNKNOWN",
        _FAIL,
        "the application has no Stream method: it is not a StreamService",
        "HAProxy: a deployment without the method",
        details="tried to call a method",
        strangers_only=True,
        error=NotAServerError,
    ),
    # ---- a front that a stranger does not get through, in gRPC's words
    Row(
        "UNAVAILABLE",
        _RESUME,
        "the TLS handshake failed: the certificate there is not signed by whom credentials= trusts,"
        " or has expired",
        "nginx, Envoy",
        details="certificate_verify_failed",
        strangers_only=True,
        error=UnreachableError,
    ),
    Row(
        "UNAVAILABLE",
        _RESUME,
        "the TLS handshake failed: the certificate there is for another name",
        "nginx, Envoy",
        details="hostname verification",
        strangers_only=True,
        error=UnreachableError,
    ),
    Row(
        "UNAVAILABLE",
        _RESUME,
        "credentials= ask for TLS, and what listens there has none; Serve itself never has",
        "Serve's gRPC port",
        details="wrong_version_number",
        strangers_only=True,
        error=UnreachableError,
    ),
    Row(
        "UNAVAILABLE",
        _RESUME,
        "what listens there does not speak gRPC: Serve's HTTP port, or a front with TLS, for which"
        " this client lacks credentials=",
        "Serve's HTTP port; nginx",
        details="expected settings frame",
        strangers_only=True,
        error=UnreachableError,
    ),
    Row(
        "UNAVAILABLE",
        _RESUME,
        "the connection was closed before a word: a server that has just gone, or a front with TLS,"
        " for which this client lacks credentials=",
        "Envoy; an ingress that dies",
        details="socket closed",
        strangers_only=True,
        error=UnreachableError,
    ),
    Row(
        "UNAVAILABLE",
        _RESUME,
        "the connection was closed after the TLS handshake: the front may ask for a certificate of"
        " the client's",
        "Envoy",
        details="unwrap failed",
        strangers_only=True,
        error=UnreachableError,
    ),
    Row(
        "INTERNAL",
        _FAIL,
        "a front calls the request bad: it may ask for a certificate of the client's",
        "nginx that speaks HTML, most times",
        details="http2 header with status: 400",
        strangers_only=True,
        error=RejectedError,
    ),
    Row(
        "INTERNAL",
        _RESUME,
        "a front broke the call off before a word: it may have nobody behind it, or ask for"
        " credentials",
        "nginx that speaks HTML, now and then",
        details="end_stream flag received",
        strangers_only=True,
        error=UnreachableError,
    ),
    Row(
        "UNAVAILABLE",
        _RESUME,
        "nobody answers there",
        "connection refused, name not resolved",
        strangers_only=True,
        error=UnreachableError,
    ),
    # ---- the server is busy
    Row(
        "RESOURCE_EXHAUSTED",
        _WAIT,
        "the server is overloaded",
        "default proxy: max_queued_requests exceeded",
    ),
    # ---- how streams die
    Row(
        "OK",
        _RESUME,
        "the call ended in good order, but with inputs unanswered",
        "an early return; a proxy that shuts down",
    ),
    Row(
        "INTERNAL",
        _RESUME,
        "the replica died",
        "default proxy: SIGKILL of the replica",
        details="actor died",
    ),
    Row(
        "INTERNAL",
        _RESUME,
        "the replica is unavailable",
        "default proxy with RAY_SERVE_USE_GRPC_BY_DEFAULT=1: SIGKILL of the replica",
        details="is unavailable",
    ),
    Row(
        "INTERNAL",
        _RESUME,
        "the call broke",
        "both: redeploy; a masked status; user code outside the handlers",
    ),
    Row(
        "CANCELLED",
        _RESUME,
        "the replica died",
        "HAProxy: SIGKILL of the replica (RST_STREAM, code 8)",
    ),
    Row(
        "DEADLINE_EXCEEDED",
        _RESUME,
        "the server's request_timeout_s cut the stream",
        "both: request_timeout_s bounds a whole stream",
    ),
    Row(
        "UNAVAILABLE",
        _RESUME,
        "the connection broke, or is refused",
        "both: the proxy or HAProxy died; no replica is up",
    ),
    Row(
        "NOT_FOUND",
        _RESUME,
        "the application is gone, or not back yet",
        "HAProxy: the application was deleted, or is being redeployed",
    ),
    Row("*", _RESUME, "the call failed", "anything else"),
)


def classify_status(status: LinkStatus, *, stranger: bool) -> Verdict:
    """What an attempt means that ended with `status` before its stream was complete.

    Args:
        status: as the link saw it.
        stranger: whether the target has never spoken the protocol with this client.
    """
    details = status.details.lower()
    for row in STATUS_TABLE:
        if row.code not in ("*", status.code):
            continue
        if row.details not in details or (row.strangers_only and not stranger):
            continue
        return Verdict(
            row.decision,
            f"{row.meaning} ({status})",
            row.error,
            unreachable=row.code == "UNAVAILABLE" or row.error is UnreachableError,
        )
    raise AssertionError("the last row matches everything")


_FINAL_REFUSALS: dict[RefusalKind, type[StreamError]] = {
    RefusalKind.VERSION: VersionMismatchError,
    RefusalKind.APPLICATION: WrongApplicationError,
    RefusalKind.CODEC: CodecMismatchError,
    RefusalKind.TOKEN: RejectedError,
    RefusalKind.BAD_OPEN: RejectedError,
    RefusalKind.UNAUTHENTICATED: AccessDeniedError,
    RefusalKind.PERMISSION_DENIED: AccessDeniedError,
}


def classify_refusal(refused: Refused, *, stranger: bool) -> Verdict:
    """What a refused frame means, or a welcome that does not fit this client.

    Another application at a target that was right before is one that got the port of a replica
    that died: the ingress will learn of it (docs/serve.md).
    """
    reason = f"the server refused the stream ({refused.kind.name.lower()}): {refused.text}"
    final = _FINAL_REFUSALS.get(refused.kind)
    if refused.kind is RefusalKind.APPLICATION and not stranger:
        return Verdict(Decision.RESUME, reason, WrongApplicationError)
    if final is not None:
        return Verdict(Decision.FAIL, reason, final)
    return Verdict(Decision.WAIT, reason, retry_after=_seconds(refused.retry_after_ms))


def classify_failure(failure: StreamFailure) -> Verdict:
    """What a stream error frame means."""
    reason = f"the server gave the stream up ({failure.kind.name.lower()}): {failure.text}"
    if failure.kind in (StreamErrorKind.PROTOCOL, StreamErrorKind.STATE):
        return Verdict(Decision.FAIL, reason, ServerFailedError)
    if failure.kind is StreamErrorKind.OVERLOADED or failure.retry_after_ms is not None:
        return Verdict(Decision.WAIT, reason, retry_after=_seconds(failure.retry_after_ms))
    return Verdict(Decision.RESUME, reason)


def classify_violation(text: str, *, stranger: bool, perhaps_lost: bool = False) -> Verdict:
    """What it means that the peer broke the protocol.

    A stranger that does so most likely speaks another one; a server that was welcome before may
    have failed this once. Where a frame lost on the way would look the same, nobody is to blame.
    """
    if perhaps_lost:
        return Verdict(
            Decision.RESUME,
            f"frames were lost on the way, or the server broke the protocol: {text}",
            PeerProtocolError,
        )
    if stranger:
        return Verdict(
            Decision.FAIL, f"the server does not speak this protocol: {text}", NotAServerError
        )
    return Verdict(Decision.RESUME, f"the server broke the protocol: {text}", PeerProtocolError)


def _seconds(milliseconds: int | None) -> float | None:
    return None if milliseconds is None else milliseconds / 1000
