"""The opening of an attempt at its client: what is asked for, and whether the answer fits.

Pure functions, in the order of docs/protocol.md, section 4; the server's side of that section
stands beside its session.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from servestream_client.config import FlowControl
from servestream_client.errors import FrameLostError, RemoteProtocolError, printable
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
    CodecId,
    HandlerKind,
    Limits,
    Open,
    Order,
    Position,
    RefusalKind,
    Refused,
    ServerFrame,
    StateToken,
    StreamFailure,
    Welcome,
)

__all__ = ["Offer", "first_word", "incompatibility", "limits_of", "milliseconds", "open_of"]


@dataclass(frozen=True, slots=True)
class Offer:
    """What a stream asks for, the same on each of its attempts.

    Attributes:
        stream_id: 16 random bytes.
        codec: what both ends must agree on.
        application: the wanted application; empty: any.
        ordered: whether outputs come in input order.
        parameters: for the handler, as they are.
        isolated: its inputs are suspected of breaking servers.
        limits: what it would have under way at the most.
        heartbeat_ms: the interval that it promises; 0: none.
        item_timeout_ms: what a server has for one input; 0: no limit.
        compression: the level at which payloads are compressed; 0: they are not.
    """

    stream_id: bytes
    codec: CodecId
    application: str = ""
    ordered: bool = True
    parameters: Mapping[str, str] = field(default_factory=dict)
    isolated: bool = False
    limits: Limits = field(default_factory=Limits)
    heartbeat_ms: int = 0
    item_timeout_ms: int = 0
    compression: int = 0


def limits_of(flow: FlowControl) -> Limits:
    """What a client offers."""
    return Limits(
        window_items=flow.window_items,
        window_bytes=flow.window_bytes,
        unacknowledged_frames=flow.max_unacknowledged_frames,
        frame_bytes=flow.max_frame_bytes,
        item_bytes=flow.max_whole_bytes,
        input_outputs=flow.outputs_per_input,
        input_bytes=flow.bytes_per_input,
        token_bytes=flow.checkpoint_bytes,
        chunked_bytes=flow.max_item_bytes,
    )


def milliseconds(seconds: float | None) -> int:
    """As the wire says it; 0: none."""
    return 0 if seconds is None else max(1, round(seconds * 1000))


def open_of(
    offer: Offer,
    *,
    attempt: int,
    first_number: int,
    deadline_ms: int,
    going_on: tuple[StateToken | None, Position | None, bytes] = (None, None, b""),
) -> Open:
    """What the first frame of an attempt says.

    Args:
        offer: what the stream asks for.
        attempt: its number.
        first_number: no input below it comes on this attempt.
        deadline_ms: what is left until the stream's deadline; 0: it has none.
        going_on: of a stateful stream: its state, the first output that is missing, and the digest
            of those between.
    """
    token, emit_from, emit_digest = going_on
    return Open(
        stream_id=offer.stream_id,
        attempt=attempt,
        features=(
            coming.FEATURE,
            continuation.FEATURE,
            load.FEATURE,
            hedge.FEATURE,
            state.FEATURE,
            chunks.FEATURE,
            *([compression.FEATURE] if offer.compression else []),
        ),
        codec=offer.codec,
        application=offer.application,
        order=Order.INPUT if offer.ordered else Order.ANY,
        first_number=first_number,
        limits=offer.limits,
        isolated=offer.isolated,
        heartbeat_interval_ms=offer.heartbeat_ms,
        deadline_ms=deadline_ms,
        parameters=offer.parameters,
        item_timeout_ms=offer.item_timeout_ms,
        token=token,
        emit_from=emit_from,
        emit_digest=emit_digest,
    )


def first_word(offer: Offer, frame: ServerFrame) -> Welcome | Refused | StreamFailure:
    """What the server's first frame comes to. A welcome that this client cannot take comes to a
    refusal.

    Raises:
        RemoteProtocolError: a first frame may not say that.
        FrameLostError: another one must have come before it.
    """
    if frame.refused is not None and (frame.welcome or frame.error):
        raise RemoteProtocolError("the first frame holds a welcome, and also a refusal or an error")
    if frame.welcome is not None:
        return incompatibility(offer, frame.welcome) or frame.welcome
    if frame.refused is not None:
        return frame.refused
    if frame.error is not None:
        return frame.error
    if frame.heartbeat is not None:
        raise FrameLostError("a gap: a heartbeat came, and no welcome before it")
    raise RemoteProtocolError("the first frame neither welcomes nor refuses the stream")


def incompatibility(offer: Offer, welcome: Welcome) -> Refused | None:
    """Why a client cannot be served by the server that welcomed it."""
    if welcome.protocol_version != PROTOCOL_VERSION:
        return Refused(
            RefusalKind.VERSION,
            f"the server speaks version {welcome.protocol_version} of the protocol, this"
            f" client version {PROTOCOL_VERSION}",
        )
    if offer.application and welcome.application not in ("", offer.application):
        return Refused(
            RefusalKind.APPLICATION,
            f"application {printable(welcome.application, 200)!r} answered",
        )
    if welcome.handler_kind is HandlerKind.STATEFUL and state.FEATURE not in welcome.features:
        return Refused(
            RefusalKind.VERSION,
            "the handler is stateful, and its server does not say how to go on with its state",
        )
    if welcome.handler_kind is HandlerKind.UNSPECIFIED:
        return Refused(
            RefusalKind.VERSION,
            "the handler is of a kind that this client does not know, and could not resume;"
            " update the client",
        )
    return None
