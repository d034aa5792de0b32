"""Which streams a server takes, and on which terms: docs/protocol.md, section 4, at the server.

Invariant: these are functions of what both ends have said, and of nothing else; an open is refused
for the first thing in the order of that section that is wrong with it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from servestream_client.errors import printable
from servestream_client.protocol import (
    chunks,
    coming,
    compression,
    continuation,
    hedge,
    load,
    state,
)
from servestream_client.protocol.frames import (
    PROTOCOL_VERSION,
    SINGLE_OUTPUT,
    STREAM_ID_BYTES,
    CodecId,
    Credit,
    HandlerKind,
    InputRun,
    Limits,
    Open,
    Order,
    RefusalKind,
    Refused,
    Replay,
    Welcome,
)

__all__ = [
    "SHORTEST_HEARTBEAT_MS",
    "ServerOffer",
    "Terms",
    "agree",
    "exceeds",
    "incompatibility",
    "welcome",
]

SHORTEST_HEARTBEAT_MS = 100
"""A server promises no more than ten frames a second, whatever a client wishes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerOffer:
    """What a service says of itself to every client.

    Attributes:
        codec: what both ends must agree on.
        application: the name under which it is deployed; empty: it has none, and takes any.
        code_version: of the user's code.
        replica: names this process.
        handler_kind: which of the four kinds.
        replay: how a handler of many outputs goes on with an input that was cut.
        fingerprint: what its outputs depend on; see `Welcome`.
        endpoints: targets where the same service can be reached, too.
        hedging: whether an input may be at another server at the same time.
        limits: what it accepts at the most.
        ahead_bytes: how much finished output may wait for its turn or for credit before no
            further input is started.
        compression: the level at which payloads are compressed for clients that ask for it; 0: this
            end cannot.
    """

    codec: CodecId
    application: str = ""
    code_version: str = ""
    replica: str = ""
    handler_kind: HandlerKind = HandlerKind.ONE_TO_ONE
    replay: Replay = Replay.UNSPECIFIED
    fingerprint: str = ""
    endpoints: Sequence[str] = ()
    hedging: bool = True
    limits: Limits = field(default_factory=Limits)
    ahead_bytes: int = 4 * 1024 * 1024
    compression: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """What holds for an attempt that is served.

    Attributes:
        ordered: answers leave in the order of their inputs.
        first_number: no input below it comes.
        limits: what the client must keep to.
        output_bytes: the largest output that the client accepts.
        checkpoint_bytes: the largest checkpoint that either end accepts; 0: the client takes none.
        frame_bytes: the largest frame that the client accepts.
        heartbeat_ms: the interval that this end promises; 0: none.
        features: those that both ends know.
        input_credit: with which an input begins; None: the client knows of no such credit.
        compression: the level at which outputs are compressed; 0: they are not.
    """

    ordered: bool
    first_number: int
    limits: Limits
    output_bytes: int
    frame_bytes: int
    heartbeat_ms: int
    features: Sequence[str]
    checkpoint_bytes: int = 0
    input_credit: Credit | None = None
    compression: int = 0


def incompatibility(offer: ServerOffer, opened: Open) -> Refused | None:
    """Why this server cannot serve that stream; the order is that of docs section 4."""
    if opened.protocol_version != PROTOCOL_VERSION:
        return Refused(
            RefusalKind.VERSION,
            f"the client speaks version {opened.protocol_version} of the protocol, this"
            f" server version {PROTOCOL_VERSION}",
        )
    if len(opened.stream_id) != STREAM_ID_BYTES:
        return Refused(RefusalKind.BAD_OPEN, f"a stream id has {STREAM_ID_BYTES} bytes, not these")
    if opened.attempt < 1 or opened.first_number < 1:
        return Refused(RefusalKind.BAD_OPEN, "attempts and inputs are numbered from 1")
    if offer.application and opened.application not in ("", offer.application):
        return Refused(
            RefusalKind.APPLICATION,
            f"this is application {offer.application!r}, not"
            f" {printable(opened.application, 200)!r}",
        )
    if not opened.codec.fits(offer.codec):
        return Refused(
            RefusalKind.CODEC,
            f"this service speaks {_codec(offer.codec)}, the client {_codec(opened.codec)}",
        )
    if offer.handler_kind is HandlerKind.STATEFUL:
        return state.misfit(opened)
    if opened.token is not None or opened.emit_from is not None:
        return Refused(
            RefusalKind.TOKEN, "a state token, but this service's handler is not stateful"
        )
    return None


def agree(offer: ServerOffer, opened: Open) -> Terms:
    """The terms on which a stream is served that is compatible."""
    wished, theirs = opened.heartbeat_interval_ms, opened.limits
    many = offer.handler_kind is HandlerKind.ONE_TO_MANY and continuation.FEATURE in opened.features
    hedging = offer.hedging and offer.handler_kind in SINGLE_OUTPUT
    in_chunks = chunks.FEATURE in opened.features
    limits = offer.limits.within(theirs)
    known = [
        coming.FEATURE,
        load.FEATURE,
        chunks.FEATURE,
        *([compression.FEATURE] if offer.compression else []),
        *([continuation.FEATURE] if many else []),
        *([hedge.FEATURE] if hedging else []),
        *([state.FEATURE] if offer.handler_kind is HandlerKind.STATEFUL else []),
    ]
    return Terms(
        ordered=opened.order is not Order.ANY,
        first_number=opened.first_number,
        limits=limits if in_chunks else replace(limits, chunked_bytes=0),
        output_bytes=theirs.largest if in_chunks else theirs.item_bytes,
        frame_bytes=theirs.frame_bytes,
        heartbeat_ms=max(SHORTEST_HEARTBEAT_MS, wished) if wished else 0,
        features=tuple(name for name in known if name in opened.features),
        checkpoint_bytes=min(theirs.token_bytes, offer.limits.token_bytes) if many else 0,
        input_credit=Credit(theirs.input_outputs, theirs.input_bytes) if many else None,
        compression=offer.compression if compression.FEATURE in opened.features else 0,
    )


def exceeds(inputs: Sequence[InputRun], limits: Limits) -> bool:
    """Whether inputs that came with the open are more than the limits allow, which their client
    cannot have known.
    """
    sizes = [len(payload) for run in inputs for payload in run.payloads]
    return (
        max(sizes, default=0) > limits.largest
        or len(sizes) > limits.window_items
        or (len(sizes) > 1 and sum(sizes) > limits.window_bytes)
    )


def welcome(offer: ServerOffer, terms: Terms) -> Welcome:
    """What the client is told of the server and the terms."""
    return Welcome(
        application=offer.application,
        code_version=offer.code_version,
        replica=offer.replica,
        handler_kind=offer.handler_kind,
        restartable=offer.replay is Replay.SEEK,
        features=terms.features,
        limits=terms.limits,
        heartbeat_interval_ms=terms.heartbeat_ms,
        replay=offer.replay,
        fingerprint=offer.fingerprint,
        endpoints=offer.endpoints,
    )


def _codec(codec: CodecId) -> str:
    return f"codec {printable(codec.id, 100)!r}" + (
        f" ({printable(codec.fingerprint, 400)})" if codec.fingerprint else ""
    )
