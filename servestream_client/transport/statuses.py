"""The table from how a call ended to what that means, and what is done: the first matching row.

The rows were collected from Ray Serve 2.60 in both ingress modes, and from reverse proxies before
it (`seen` says where each came from; docs/protocol.md, section 14, repeats them for readers). Each
is named by a test that makes its true cause (`tests/rows.py`). It is one table, and so long.

A status alone does not tell causes apart that look the same from here, so a row may ask what this
end knows of itself: whether the target has ever spoken the protocol with this client (an address
that never did is most likely wrong, one that did is most likely restarting), whether the channel
has credentials, and how large the call's metadata were.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass

from servestream_client.errors import (
    AccessDeniedError,
    MessageTooLargeError,
    NotAServerError,
    RejectedError,
    RetriesExhaustedError,
    StreamError,
    UnreachableError,
    WrongApplicationError,
)
from servestream_client.metadata import COMMON_HARD_LIMIT, COMMON_SOFT_LIMIT
from servestream_client.transport.base import LinkStatus

__all__ = ["STATUS_TABLE", "Decision", "Row", "Where", "matching_row"]


class Decision(enum.Enum):
    """What to do about a failed attempt."""

    RESUME = "try again, at once after progress and with growing waits otherwise"
    WAIT = "try again, but not at once even after progress"
    FAIL = "trying again would not help: raise"


class Where(enum.Enum):
    """What else a row asks for, besides the status."""

    ANYWHERE = ""
    UNKNOWN = "no handshake yet"
    WITH_TLS = "a channel with credentials"
    WITHOUT_TLS = "a channel without credentials"
    LARGE = "metadata above 8 KiB"
    LARGE_AND_UNKNOWN = "metadata above 8 KiB, no handshake yet"
    HUGE = "metadata above 16 KiB"
    HUGE_AND_UNKNOWN = "metadata above 16 KiB, no handshake yet"

    def holds(self, status: LinkStatus, *, known: bool) -> bool:
        """Whether it is so for a call that ended like this."""
        match self:
            case Where.ANYWHERE:
                return True
            case Where.UNKNOWN:
                return not known
            case Where.WITH_TLS:
                return not known and status.tls
            case Where.WITHOUT_TLS:
                return not known and not status.tls
            case Where.LARGE:
                return status.metadata_bytes > COMMON_SOFT_LIMIT
            case Where.LARGE_AND_UNKNOWN:
                return not known and status.metadata_bytes > COMMON_SOFT_LIMIT
            case Where.HUGE:
                return status.metadata_bytes > COMMON_HARD_LIMIT
            case Where.HUGE_AND_UNKNOWN:
                return not known and status.metadata_bytes > COMMON_HARD_LIMIT


@dataclass(frozen=True, slots=True)
class Row:
    """One row of the table.

    Attributes:
        name: for tests.
        code: the gRPC status; ``"*"``: any.
        decision: what to do.
        meaning: for people; ``{metadata_bytes}`` is filled in.
        seen: where this comes from.
        details: what its details contain, one of these, in any case of letters; none: anything.
        no_details: it has none.
        where: what else must hold.
        error: what to raise, now or when retries are exhausted.
        busy: somebody is there, although the status is UNAVAILABLE.
        vague: it may hide a cause that another attempt names: gRPC's own race.
        collected: it was seen, and no test makes it.
    """

    name: str
    code: str
    decision: Decision
    meaning: str
    seen: str
    details: tuple[str, ...] = ()
    no_details: bool = False
    where: Where = Where.ANYWHERE
    error: type[StreamError] = RetriesExhaustedError
    busy: bool = False
    vague: bool = False
    collected: bool = False

    @property
    def unreachable(self) -> bool:
        """Whether nobody is there who could answer."""
        missing = self.code == "UNAVAILABLE" or self.error is UnreachableError
        return missing and not self.busy

    def said(self, metadata_bytes: object) -> str:
        """The meaning, filled in."""
        return self.meaning.replace("{metadata_bytes}", str(metadata_bytes))

    def matches(self, status: LinkStatus, *, known: bool) -> bool:
        """Whether a call that ended like this is such a case."""
        if self.code not in ("*", status.code) or (self.no_details and status.details):
            return False
        details = status.details.lower()
        if self.details and not any(part in details for part in self.details):
            return False
        return self.where.holds(status, known=known)


_RESUME, _WAIT, _FAIL = Decision.RESUME, Decision.WAIT, Decision.FAIL

_ADVICE_ON_METADATA = (
    "send less in metadata= and Hooks.metadata (Serve accepts 8 KiB, and its limit cannot be"
    " raised), and put the rest into the items or parameters="
)

_REFUSING: tuple[Row, ...] = (
    # ---- final, whatever says it
    Row(
        "unauthenticated",
        "UNAUTHENTICATED",
        _FAIL,
        "the server asks for credentials: a token in metadata=, or a client certificate in"
        " credentials=",
        "a reverse proxy before Serve, or the service itself",
        error=AccessDeniedError,
    ),
    Row(
        "permission-denied",
        "PERMISSION_DENIED",
        _FAIL,
        "the server does not allow this",
        "a reverse proxy before Serve, or the service itself",
        error=AccessDeniedError,
    ),
    Row(
        "invalid-argument",
        "INVALID_ARGUMENT",
        _FAIL,
        "the server calls the call invalid",
        "the service itself",
        error=RejectedError,
    ),
    Row(
        "out-of-range",
        "OUT_OF_RANGE",
        _FAIL,
        "the server calls the call out of range",
        "the service itself",
        error=RejectedError,
    ),
    Row(
        "message-too-large",
        "RESOURCE_EXHAUSTED",
        _FAIL,
        "a message exceeds what a gRPC peer on the way accepts; lower FlowControl.max_item_bytes,"
        " or raise the peer's grpc.max_receive_message_length",
        "grpc itself, either end",
        details=("larger than max",),
        error=MessageTooLargeError,
    ),
    Row(
        "body-too-large",
        "*",
        _FAIL,
        "a reverse proxy limits the size of a request, and a stream's inputs are one request"
        " without an end: take its limit off (nginx: client_max_body_size 0)",
        "nginx: client_max_body_size",
        details=("http2 header with status: 413", "client_max_body_size"),
        error=MessageTooLargeError,
    ),
    # ---- metadata
    Row(
        "metadata-hard-limit",
        "RESOURCE_EXHAUSTED",
        _FAIL,
        "the metadata of the call, {metadata_bytes} bytes, exceed the hard limit of a gRPC server"
        f" on the way, 16 KiB by default: {_ADVICE_ON_METADATA}",
        "grpc itself; Serve's default proxy",
        details=("exceeds hard limit",),
        error=MessageTooLargeError,
    ),
    Row(
        "metadata-soft-limit-never-welcomed",
        "RESOURCE_EXHAUSTED",
        _FAIL,
        "the metadata of the call, {metadata_bytes} bytes, exceed the soft limit of a gRPC server"
        " on the way, 8 KiB by default, above which it refuses calls at random:"
        f" {_ADVICE_ON_METADATA}",
        "grpc itself; both ingress modes",
        details=("exceeds soft limit",),
        where=Where.UNKNOWN,
        error=MessageTooLargeError,
    ),
    Row(
        "metadata-soft-limit",
        "RESOURCE_EXHAUSTED",
        _RESUME,
        "the metadata of the call, {metadata_bytes} bytes, exceed the soft limit of a gRPC server"
        " on the way, 8 KiB by default, above which it refuses calls at random, as this one:"
        f" {_ADVICE_ON_METADATA}",
        "the same, where an earlier call was let through",
        details=("exceeds soft limit",),
        error=MessageTooLargeError,
    ),
    Row(
        "metadata-huge-unsaid",
        "RESOURCE_EXHAUSTED",
        _FAIL,
        "the server does not say what it lacks, and the metadata of the call, {metadata_bytes}"
        " bytes, exceed the hard limit of gRPC servers, 16 KiB by default:"
        f" {_ADVICE_ON_METADATA}",
        "grpc itself, for many short pairs: its own words were too long to send",
        no_details=True,
        where=Where.HUGE,
        error=MessageTooLargeError,
    ),
    Row(
        "metadata-large-unsaid",
        "RESOURCE_EXHAUSTED",
        _WAIT,
        "the server is overloaded, or the metadata of the call, {metadata_bytes} bytes, exceed its"
        " soft limit, above which gRPC servers refuse calls at random (8 KiB by default):"
        f" {_ADVICE_ON_METADATA}",
        "the same, above 8 KiB",
        no_details=True,
        where=Where.LARGE,
        error=MessageTooLargeError,
    ),
    Row(
        "metadata-connection-closed",
        "UNAVAILABLE",
        _FAIL,
        "the connection was closed over this call, whose metadata, {metadata_bytes} bytes, exceed"
        f" what a reverse proxy on the way accepts: {_ADVICE_ON_METADATA}",
        "HAProxy (codes 2, 9), nginx (11), Envoy (9)",
        details=(
            "goaway received; error code: 2;",
            "goaway received; error code: 9;",
            "goaway received; error code: 11;",
        ),
        where=Where.LARGE_AND_UNKNOWN,
        error=MessageTooLargeError,
        busy=True,
    ),
    Row(
        "metadata-stream-reset",
        "INTERNAL",
        _FAIL,
        "a reverse proxy on the way took the call for a breach of HTTP/2: its metadata,"
        f" {{metadata_bytes}} bytes, exceed what it accepts: {_ADVICE_ON_METADATA}",
        "HAProxy, above 14 KiB",
        details=("rst_stream with error code 1)",),
        where=Where.LARGE_AND_UNKNOWN,
        error=MessageTooLargeError,
    ),
    Row(
        "metadata-huge-reset",
        "INTERNAL",
        _RESUME,
        "a reverse proxy broke the call off before the first response, perhaps because of its"
        f" metadata: {{metadata_bytes}} bytes are more than most accept: {_ADVICE_ON_METADATA}",
        "Envoy, above 60 KiB",
        details=("rst_stream with error code 2)",),
        where=Where.HUGE_AND_UNKNOWN,
        error=MessageTooLargeError,
    ),
)

_WRONG_ADDRESS: tuple[Row, ...] = (
    # ---- final from a new target
    Row(
        "no-application-named",
        "NOT_FOUND",
        _FAIL,
        "several applications are deployed there, and this client names none: pass application=",
        "both: a call without the metadata, with several applications deployed",
        details=("metadata not set",),
        where=Where.UNKNOWN,
        error=WrongApplicationError,
    ),
    Row(
        "no-such-application",
        "NOT_FOUND",
        _FAIL,
        "no such application is deployed there",
        "HAProxy: unknown application; default proxy: the same with several deployed",
        where=Where.UNKNOWN,
        error=WrongApplicationError,
    ),
    Row(
        "http-404",
        "UNIMPLEMENTED",
        _FAIL,
        "what answers there is an HTTP server or a reverse proxy that has no"
        " /servestream.v1.StreamService/: route that path to Serve's gRPC port",
        "nginx without the location",
        details=("http2 header with status: 404",),
        where=Where.UNKNOWN,
        error=NotAServerError,
    ),
    Row(
        "unimplemented",
        "UNIMPLEMENTED",
        _FAIL,
        "the server does not know servestream.v1.StreamService: list"
        " servestream_client.server.GRPC_SERVICER_FUNCTIONS in its gRPCOptions, and route that"
        " service in a reverse proxy before it",
        "any gRPC server; Serve without the servicer registered; Envoy without the route",
        where=Where.UNKNOWN,
        error=NotAServerError,
    ),
    Row(
        "ok-at-once",
        "OK",
        _FAIL,
        "the call ended at once without a frame of the protocol: its method is not"
        " a StreamService's",
        "a deployment with a Stream method of its own",
        where=Where.UNKNOWN,
        error=NotAServerError,
    ),
    Row(
        "no-method",
        "*",
        _FAIL,
        "the application has no Stream method: it is not a StreamService",
        "a deployment without the method; default proxy: INTERNAL; HAProxy: UNKNOWN, or INTERNAL"
        " while it does not know the deployment yet",
        details=("tried to call a method",),
        where=Where.UNKNOWN,
        error=NotAServerError,
    ),
    Row(
        "http-redirect",
        "UNKNOWN",
        _FAIL,
        "what answers there is a web server that redirects elsewhere, and gRPC does not follow:"
        " target= must be that of Serve's gRPC port, or of a reverse proxy before it",
        "nginx with a redirect",
        details=("http2 header with status: 30",),
        where=Where.UNKNOWN,
        error=NotAServerError,
    ),
    Row(
        "http-400",
        "INTERNAL",
        _FAIL,
        "a reverse proxy calls the request bad: it may ask for a client certificate"
        " (grpc.ssl_channel_credentials(private_key=, certificate_chain=))",
        "nginx that speaks HTML and asks for a certificate",
        details=("http2 header with status: 400",),
        where=Where.UNKNOWN,
        error=RejectedError,
    ),
)

_BUSY: tuple[Row, ...] = (
    # ---- the server is busy
    Row(
        "envoy-overflow",
        "UNAVAILABLE",
        _WAIT,
        "a reverse proxy has as many calls under way as it allows (Envoy: circuit_breakers, 1,024"
        " by default; each stream is one)",
        "Envoy: circuit_breakers",
        details=("reset reason: overflow",),
        busy=True,
    ),
    Row(
        "envoy-overloaded",
        "UNAVAILABLE",
        _WAIT,
        "the reverse proxy is overloaded",
        "Envoy: overload_manager",
        details=("envoy overloaded",),
        busy=True,
    ),
    Row(
        "rate-limited",
        "UNAVAILABLE",
        _WAIT,
        "a reverse proxy limits the rate of calls",
        "Envoy: local_ratelimit; nginx that speaks HTML: limit_req_status 429",
        details=("rate_limited", "http2 header with status: 429"),
        busy=True,
    ),
    Row(
        "overloaded",
        "RESOURCE_EXHAUSTED",
        _WAIT,
        "the server is overloaded",
        "default proxy: max_queued_requests exceeded; nginx by the page: limit_req",
    ),
)

_NO_CONNECTION: tuple[Row, ...] = (
    # ---- TLS, in gRPC's words: also where it worked before, since certificates expire
    Row(
        "tls-expired",
        "UNAVAILABLE",
        _RESUME,
        "the TLS handshake failed: the certificate there has expired",
        "any server with TLS",
        details=("certificate has expired",),
        error=UnreachableError,
    ),
    Row(
        "tls-untrusted",
        "UNAVAILABLE",
        _RESUME,
        "the TLS handshake failed: the certificate there is not signed by an authority that"
        " credentials= trust",
        "nginx, Envoy",
        details=("certificate_verify_failed",),
        error=UnreachableError,
    ),
    Row(
        "tls-other-name",
        "UNAVAILABLE",
        _RESUME,
        "the TLS handshake failed: the certificate there is for another name",
        "nginx, Envoy",
        details=("hostname verification",),
        error=UnreachableError,
    ),
    Row(
        "tls-no-tls-there",
        "UNAVAILABLE",
        _RESUME,
        "credentials= ask for TLS, and what listens there has none; Serve itself never has",
        "Serve's gRPC port",
        details=("wrong_version_number",),
        error=UnreachableError,
    ),
    Row(
        "tls-no-http2",
        "UNAVAILABLE",
        _RESUME,
        "what listens there has TLS, but not HTTP/2, which gRPC needs (nginx: http2 on; Envoy:"
        " alpn_protocols: [h2])",
        "nginx, Envoy",
        details=("no_application_protocol", "missing selected alpn"),
        error=UnreachableError,
    ),
    Row(
        "tls-certificate-wanted",
        "UNAVAILABLE",
        _RESUME,
        "the connection was closed after the TLS handshake: the server may ask for a client"
        " certificate that it trusts (grpc.ssl_channel_credentials(private_key=,"
        " certificate_chain=))",
        "Envoy",
        details=("unwrap failed",),
        where=Where.UNKNOWN,
        error=UnreachableError,
    ),
    # ---- no connection to a new target
    Row(
        "not-grpc-without-tls",
        "UNAVAILABLE",
        _RESUME,
        "what listens there does not speak gRPC: Serve's HTTP port, or a reverse proxy with TLS,"
        " for which this client lacks credentials=",
        "Serve's HTTP port; nginx with TLS",
        details=("expected settings frame",),
        where=Where.WITHOUT_TLS,
        error=UnreachableError,
    ),
    Row(
        "not-grpc-with-tls",
        "UNAVAILABLE",
        _RESUME,
        "what listens there has TLS, but does not speak gRPC behind it",
        "a server of another kind",
        details=("expected settings frame",),
        where=Where.WITH_TLS,
        error=UnreachableError,
    ),
    Row(
        "silent",
        "UNAVAILABLE",
        _RESUME,
        "the connection was accepted, and nothing was received on it: what listens there does not"
        " speak gRPC, or hangs, or is a reverse proxy with TLS, for which this client lacks"
        " credentials=",
        "a process that was stopped; Python's own HTTP server with TLS",
        details=("before receiving settings frame",),
        where=Where.WITHOUT_TLS,
        error=UnreachableError,
    ),
    Row(
        "silent-with-tls",
        "UNAVAILABLE",
        _RESUME,
        "the connection was accepted, and ended in the TLS handshake: what listens there has no"
        " TLS, or hangs",
        "a server without TLS; a process that was stopped",
        details=("handshake read failed", "before receiving settings frame"),
        where=Where.WITH_TLS,
        error=UnreachableError,
    ),
    Row(
        "closed-without-tls",
        "UNAVAILABLE",
        _RESUME,
        "the connection was closed before the first response: a server that has just gone, or a"
        " reverse proxy with TLS, for which this client lacks credentials=",
        "Envoy; an ingress that dies",
        details=("socket closed", "connection reset"),
        where=Where.WITHOUT_TLS,
        error=UnreachableError,
    ),
    Row(
        "closed-with-tls",
        "UNAVAILABLE",
        _RESUME,
        "the connection was closed before the first response: a server that has just gone, or one"
        " that asks for a client certificate that it trusts"
        " (grpc.ssl_channel_credentials(private_key=, certificate_chain=))",
        "a grpc server that requires client certificates; an ingress that dies",
        details=("socket closed", "connection reset"),
        where=Where.WITH_TLS,
        error=UnreachableError,
    ),
    Row(
        "unknown-name",
        "UNAVAILABLE",
        _RESUME,
        "the name of the target cannot be resolved",
        "a name that does not exist, or not yet",
        details=("errors resolving", "dns resolution failed", "name resolution"),
        where=Where.UNKNOWN,
        error=UnreachableError,
    ),
    Row(
        "http1-behind",
        "UNAVAILABLE",
        _RESUME,
        "a reverse proxy answers there, and what is behind it does not speak HTTP/2, or is not"
        " asked to (Envoy: http2_protocol_options)",
        "Envoy",
        details=("reset reason: protocol error",),
        where=Where.UNKNOWN,
        error=UnreachableError,
    ),
    Row(
        "nobody-behind-never-welcomed",
        "UNAVAILABLE",
        _RESUME,
        "a reverse proxy answers there, and reaches no server behind it that takes the call",
        "Envoy, nginx and HAProxy with every server behind them gone",
        details=(
            "upstream",
            "no server behind",
            "http2 header with status: 502",
            "http2 header with status: 503",
            "http2 header with status: 504",
        ),
        where=Where.UNKNOWN,
        error=UnreachableError,
    ),
    Row(
        "broken-off",
        "INTERNAL",
        _RESUME,
        "a reverse proxy broke the call off before the first response: it may have nobody behind"
        " it, or ask for credentials",
        "nginx that speaks HTML, now and then",
        details=("end_stream flag received",),
        where=Where.UNKNOWN,
        error=UnreachableError,
        vague=True,
    ),
    Row(
        "refused",
        "UNAVAILABLE",
        _RESUME,
        "nobody answers there",
        "connection refused",
        where=Where.UNKNOWN,
        error=UnreachableError,
    ),
)

_DYING: tuple[Row, ...] = (
    # ---- how streams die
    Row(
        "truncated",
        "OK",
        _RESUME,
        "the call ended in good order, but with inputs unanswered",
        "an early return; a proxy that shuts down",
    ),
    Row(
        "replica-died-default-proxy",
        "INTERNAL",
        _RESUME,
        "the replica died",
        "default proxy: SIGKILL of the replica",
        details=("actor died",),
    ),
    Row(
        "replica-unavailable",
        "INTERNAL",
        _RESUME,
        "the replica is unavailable",
        "default proxy with RAY_SERVE_USE_GRPC_BY_DEFAULT=1: SIGKILL of the replica",
        details=("is unavailable",),
        collected=True,
    ),
    Row(
        "reset-by-proxy",
        "INTERNAL",
        _RESUME,
        "a reverse proxy reset the call: its server has gone, or the call lasted too long or was"
        " silent for too long, or carried more than it allows (nginx: client_max_body_size)",
        "nginx, Envoy",
        details=("rst_stream with error code 2)",),
        vague=True,
    ),
    Row(
        "internal",
        "INTERNAL",
        _RESUME,
        "the call broke",
        "both: redeploy; a masked status; user code outside the handlers",
        vague=True,
    ),
    Row(
        "replica-died-haproxy",
        "CANCELLED",
        _RESUME,
        "the replica died",
        "HAProxy: SIGKILL of the replica (RST_STREAM, code 8)",
    ),
    Row(
        "proxy-timeout",
        "*",
        _RESUME,
        "a reverse proxy cut the call for its length or its silence (Envoy: max_stream_duration,"
        " stream_idle_timeout), before the server had said anything",
        "Envoy",
        details=("downstream duration timeout", "stream timeout"),
        busy=True,
    ),
    Row(
        "request-timeout",
        "DEADLINE_EXCEEDED",
        _RESUME,
        "the server's request_timeout_s cut the stream",
        "both: request_timeout_s bounds a whole stream",
    ),
    Row(
        "nobody-behind",
        "UNAVAILABLE",
        _RESUME,
        "a reverse proxy reaches no server behind it that takes the call",
        "Envoy, nginx and HAProxy with every server behind them gone",
        details=(
            "upstream",
            "no server behind",
            "http2 header with status: 502",
            "http2 header with status: 503",
            "http2 header with status: 504",
        ),
    ),
    Row(
        "connection-broke",
        "UNAVAILABLE",
        _RESUME,
        "the connection broke, or is refused",
        "both: the proxy or HAProxy died; no replica is up",
    ),
    Row(
        "application-gone",
        "NOT_FOUND",
        _RESUME,
        "the application is gone, or not back yet",
        "HAProxy: the application was deleted, or is being redeployed",
    ),
    Row("any", "*", _RESUME, "the call failed", "anything else", vague=True),
)

STATUS_TABLE: tuple[Row, ...] = (*_REFUSING, *_WRONG_ADDRESS, *_BUSY, *_NO_CONNECTION, *_DYING)


def matching_row(status: LinkStatus, *, known: bool) -> Row:
    """The first row that holds for a call that ended like this."""
    return next(row for row in STATUS_TABLE if row.matches(status, known=known))
