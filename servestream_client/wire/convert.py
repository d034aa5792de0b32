"""Frames to protobuf messages and back.

What the wire leaves open is settled here once: a missing limit is the protocol's default, an
enumeration's unknown value is its zero. What no frame can mean is the peer's protocol error.

Longer than other files, since each message has its two functions here, which are read against one
another and against the .proto file.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from servestream_client.errors import ItemErrorKind, RemoteProtocolError, printable
from servestream_client.protocol import frames as f
from servestream_client.wire import stream_pb2 as pb
from servestream_client.wire.compressed import (
    check_sizes,
    compressed_client_frame,
    compressed_server_frame,
    unpacked,
)

__all__ = [
    "chunk_to_wire",
    "client_frame_from_wire",
    "client_frame_to_wire",
    "server_frame_from_wire",
    "server_frame_to_wire",
]

_E = TypeVar("_E", bound=enum.IntEnum)
_T = TypeVar("_T")

_DEFAULTS = f.Limits()
_NUMBERS_END = 2**63
_MOST_NUMBERS = 65_536  # in a frame; the window's own limit comes later
_FIRST_LOCAL_KIND = 100  # ItemErrorKind values from here on never travel


def _known(kind: type[_E], value: int) -> _E:
    try:
        return kind(value)
    except ValueError:
        return kind(0)


def _item_error_kind(value: int) -> ItemErrorKind:
    return _known(ItemErrorKind, value) if value < _FIRST_LOCAL_KIND else ItemErrorKind.UNKNOWN


def _payloads(run: pb.InputRun | pb.OutputRun | pb.OutputPart) -> list[bytes]:
    payloads: list[bytes] = run.payloads[:]  # quicker than list()
    if not run.encoding:
        return payloads
    _check_encoding(run.encoding)
    if len(payloads) != 1:
        raise RemoteProtocolError(f"{len(payloads)} compressed payloads, where one holds them all")
    return unpacked(payloads[0], run.sizes[:])


def _check_encoding(encoding: int) -> None:
    if encoding != pb.ENCODING_ZSTD:
        raise RemoteProtocolError(f"payloads in encoding {encoding}, which was not agreed on")


def _run_of(run: pb.InputRun | pb.OutputRun) -> list[bytes]:
    payloads = _payloads(run)
    if not payloads:
        raise RemoteProtocolError("a run without payloads")
    return payloads


def _number(value: int, count: int = 1) -> int:
    """The first of so many numbers, if there are such numbers."""
    if not 1 <= value <= _NUMBERS_END - count:
        raise RemoteProtocolError(
            f"{count} inputs from number {value}: they run from 1 to 2^63 - 1"
        )
    return value


def _index(value: int, count: int = 1) -> int:
    """The first of so many indexes, if there are such indexes."""
    if value > _NUMBERS_END - count:
        raise RemoteProtocolError(
            f"{count} outputs from index {value}: they run from 0 to 2^63 - 1"
        )
    return value


# ------------------------------------------------------------------ shared parts


def _limits_to_wire(limits: f.Limits) -> pb.Limits:
    return pb.Limits(
        window_items=limits.window_items,
        window_bytes=limits.window_bytes,
        unacknowledged_frames=limits.unacknowledged_frames,
        frame_bytes=limits.frame_bytes,
        item_bytes=limits.item_bytes,
        input_outputs=limits.input_outputs,
        input_bytes=limits.input_bytes,
        token_bytes=limits.token_bytes,
        chunked_bytes=limits.chunked_bytes,
    )


def _limits_from_wire(limits: pb.Limits) -> f.Limits:
    return f.Limits(
        window_items=limits.window_items or _DEFAULTS.window_items,
        window_bytes=limits.window_bytes or _DEFAULTS.window_bytes,
        unacknowledged_frames=limits.unacknowledged_frames or _DEFAULTS.unacknowledged_frames,
        frame_bytes=limits.frame_bytes or _DEFAULTS.frame_bytes,
        item_bytes=limits.item_bytes or _DEFAULTS.item_bytes,
        input_outputs=limits.input_outputs or _DEFAULTS.input_outputs,
        input_bytes=limits.input_bytes or _DEFAULTS.input_bytes,
        token_bytes=limits.token_bytes or _DEFAULTS.token_bytes,
        chunked_bytes=limits.chunked_bytes,
    )


def _heartbeat_to_wire(heartbeat: f.Heartbeat) -> pb.Heartbeat:
    return pb.Heartbeat(
        inputs_through=heartbeat.inputs_through,
        outputs=heartbeat.outputs,
        chunk_bytes=heartbeat.chunk_bytes,
    )


def _heartbeat_from_wire(heartbeat: pb.Heartbeat) -> f.Heartbeat:
    return f.Heartbeat(heartbeat.inputs_through, heartbeat.outputs, heartbeat.chunk_bytes)


def _coming_to_wire(coming: f.Coming) -> pb.Coming:
    return pb.Coming(
        bytes=coming.bytes,
        frame_bytes=coming.frame_bytes,
        number=coming.number,
        acknowledge=coming.acknowledge,
    )


def _coming_from_wire(coming: pb.Coming) -> f.Coming:
    return f.Coming(coming.bytes, coming.frame_bytes, coming.number, coming.acknowledge)


def chunk_to_wire(chunk: f.Chunk) -> pb.Chunk:
    data = bytes(chunk.data)
    made = pb.Chunk(number=chunk.number, index=chunk.index, offset=chunk.offset, data=data)
    if chunk.size:
        made.encoding, made.size = pb.ENCODING_ZSTD, chunk.size
    return made


def _chunk_from_wire(chunk: pb.Chunk) -> f.Chunk:
    if not chunk.data:
        raise RemoteProtocolError("a chunk without bytes")
    data = chunk.data
    if chunk.encoding:
        _check_encoding(chunk.encoding)
        (data,) = unpacked(data, (chunk.size,))
    return f.Chunk(_number(chunk.number), _index(chunk.index), chunk.offset, data)


def _token_to_wire(token: f.StateToken) -> pb.StateToken:
    return pb.StateToken(number=token.number, token=token.token, digest=token.digest)


def _token_from_wire(token: pb.StateToken) -> f.StateToken:
    return f.StateToken(_index(token.number), token.token, token.digest)


def _conditions_to_wire(
    frame: f.ClientFrame | f.ServerFrame, message: pb.ClientFrame | pb.ServerFrame
) -> None:
    """What either end may say of itself."""
    if frame.heartbeat is not None:
        message.heartbeat.CopyFrom(_heartbeat_to_wire(frame.heartbeat))
    if frame.coming is not None:
        message.coming.CopyFrom(_coming_to_wire(frame.coming))
    if frame.chunk is not None:
        message.chunk.CopyFrom(chunk_to_wire(frame.chunk))


# ------------------------------------------------------------------ client frames


def client_frame_to_wire(frame: f.ClientFrame) -> pb.ClientFrame:
    if frame.compression:
        frame = compressed_client_frame(frame)
    message = pb.ClientFrame(frames_read=frame.frames_read, taken_through=frame.taken_through)
    if frame.want_token:
        message.want_token = True
    for run in frame.inputs:
        input_run_to_wire(run, message.inputs.add(first_number=run.first_number))
    for numbers in frame.cancelled:
        message.cancelled.add(first=numbers.first, last=numbers.last)
    for granted in frame.input_credit:
        message.input_credit.add(
            number=granted.number, outputs=granted.outputs, bytes=granted.bytes
        )
    if frame.open is not None:
        message.open.CopyFrom(_open_to_wire(frame.open))
    if frame.credit is not None:
        message.credit.outputs = frame.credit.outputs
        message.credit.bytes = frame.credit.bytes
    if frame.end is not None:
        message.end.CopyFrom(pb.ClientEnd(last_number=frame.end.last_number))
    _conditions_to_wire(frame, message)
    return message


def client_frame_from_wire(message: pb.ClientFrame) -> f.ClientFrame:
    """
    Raises:
        RemoteProtocolError: the message means nothing.
    """
    check_sizes(*message.inputs, chunk=message.chunk.size)
    frame = f.ClientFrame()
    for field, value in message.ListFields():
        setattr(frame, field.name, _CLIENT_FRAME[field.name](value))
    return frame


def _open_to_wire(opened: f.Open) -> pb.Open:
    message = pb.Open(
        protocol_version=opened.protocol_version,
        features=opened.features,
        stream_id=opened.stream_id,
        attempt=opened.attempt,
        application=opened.application,
        codec=pb.Codec(id=opened.codec.id, fingerprint=opened.codec.fingerprint),
        order=pb.Order.ValueType(opened.order),
        first_number=opened.first_number,
        limits=_limits_to_wire(opened.limits),
        isolated=opened.isolated,
        heartbeat_interval_ms=opened.heartbeat_interval_ms,
        deadline_ms=opened.deadline_ms,
        parameters=opened.parameters,
        item_timeout_ms=opened.item_timeout_ms,
        emit_digest=opened.emit_digest,
    )
    if opened.token is not None:
        message.token.CopyFrom(_token_to_wire(opened.token))
    if opened.emit_from is not None:
        message.emit_from.number = opened.emit_from.number
        message.emit_from.index = opened.emit_from.index
    return message


def _open_from_wire(message: pb.Open) -> f.Open:
    return f.Open(
        protocol_version=message.protocol_version,
        features=tuple(message.features),
        stream_id=message.stream_id,
        attempt=message.attempt,
        application=message.application,
        codec=f.CodecId(message.codec.id, message.codec.fingerprint),
        order=_known(f.Order, message.order),
        first_number=message.first_number,
        limits=_limits_from_wire(message.limits),
        isolated=message.isolated,
        token=_token_from_wire(message.token) if message.HasField("token") else None,
        emit_from=(
            f.Position(_index(message.emit_from.number), _index(message.emit_from.index))
            if message.HasField("emit_from")
            else None
        ),
        heartbeat_interval_ms=message.heartbeat_interval_ms,
        deadline_ms=message.deadline_ms,
        parameters=dict(message.parameters),
        item_timeout_ms=message.item_timeout_ms,
        emit_digest=message.emit_digest,
    )


def input_run_to_wire(run: f.InputRun, message: pb.InputRun) -> None:
    """Put what a run has into a message that has its number."""
    message.payloads.extend(run.payloads)
    if run.first_start_index:
        message.first_start_index = run.first_start_index
    if run.first_credit is not None:
        message.first_credit.outputs = run.first_credit.outputs
        message.first_credit.bytes = run.first_credit.bytes
    if run.first_resume is not None:
        message.first_resume.CopyFrom(_resume_to_wire(run.first_resume))
    if run.first_offset:
        message.first_offset = run.first_offset
    if run.sizes:
        message.encoding = pb.ENCODING_ZSTD
        message.sizes.extend(run.sizes)
    for m in run.metadata:
        message.metadata.add(
            deadline_ms=m.deadline_ms,
            priority=m.priority,
            traceparent=m.traceparent,
            tracestate=m.tracestate,
            key=m.key,
        )


def _run_from_wire(run: pb.InputRun) -> f.InputRun:
    payloads = _run_of(run)
    first = _number(run.first_number, len(payloads))
    made = f.InputRun(first, payloads, _index(run.first_start_index))
    if run.metadata:
        made.metadata = _metadata_from_wire(run.metadata, len(payloads))
    if run.HasField("first_credit"):
        made.first_credit = f.Credit(run.first_credit.outputs, run.first_credit.bytes)
    if run.HasField("first_resume"):
        made.first_resume = _resume_from_wire(run.first_resume)
    if run.first_offset:
        made.first_offset = run.first_offset
    return made


def _metadata_from_wire(metadata: Sequence[pb.ItemMetadata], count: int) -> list[f.ItemMetadata]:
    if len(metadata) != count:
        raise RemoteProtocolError(f"metadata for {len(metadata)} of {count} inputs")
    return [
        f.ItemMetadata(m.deadline_ms, m.priority, m.traceparent, m.tracestate, m.key)
        for m in metadata
    ]


def _resume_to_wire(resume: f.Resume) -> pb.Resume:
    return pb.Resume(
        digest=resume.digest,
        checkpoint=resume.checkpoint,
        outputs_from=resume.outputs_from,
        outputs=resume.outputs,
    )


def _resume_from_wire(message: pb.Resume) -> f.Resume:
    outputs = list(message.outputs)
    return f.Resume(
        message.digest,
        message.checkpoint if message.HasField("checkpoint") else None,
        _index(message.outputs_from, len(outputs) or 1),
        outputs,
    )


def _input_credit_from_wire(granted: Sequence[pb.InputCredit]) -> list[f.InputCredit]:
    if len(granted) > _MOST_NUMBERS:
        raise RemoteProtocolError(f"credit for {len(granted)} inputs in one frame")
    return [f.InputCredit(each.number, each.outputs, each.bytes) for each in granted]


def _cancelled_from_wire(ranges: Sequence[pb.NumberRange]) -> list[f.NumberRange]:
    if len(ranges) > _MOST_NUMBERS:
        raise RemoteProtocolError(f"{len(ranges)} ranges cancelled in one frame")
    return [f.NumberRange(numbers.first, numbers.last) for numbers in ranges]


# ------------------------------------------------------------------ server frames


def server_frame_to_wire(frame: f.ServerFrame) -> pb.ServerFrame:
    if frame.compression:
        frame = compressed_server_frame(frame)
    message = pb.ServerFrame(frames_read=frame.frames_read)
    if frame.paced:
        _answers_to_wire(frame, message)
    if frame.welcome is not None:
        message.welcome.CopyFrom(_welcome_to_wire(frame.welcome))
    if frame.refused is not None:
        message.refused.CopyFrom(_refused_to_wire(frame.refused))
    if frame.running is not None:
        message.running.CopyFrom(_running_to_wire(frame.running))
    if frame.drain or frame.error or frame.end:
        _parting_to_wire(frame, message)
    _conditions_to_wire(frame, message)
    if frame.load is not None:
        load = frame.load
        message.load.servers, message.load.places = load.servers, load.places
        message.load.items, message.load.item_us = load.items, load.item_us
    if frame.no_token:
        message.no_token = frame.no_token
    return message


def _parting_to_wire(frame: f.ServerFrame, message: pb.ServerFrame) -> None:
    if frame.drain is not None:
        message.drain.CopyFrom(
            pb.Drain(grace_ms=frame.drain.grace_ms, endpoints=frame.drain.endpoints)
        )
    if frame.error is not None:
        message.error.CopyFrom(_stream_error_to_wire(frame.error))
    if frame.end is not None:
        message.end.CopyFrom(_server_end_to_wire(frame.end))


def output_run_to_wire(run: f.OutputRun, message: pb.OutputRun) -> None:
    """Put what a run has into a message that has its number."""
    message.payloads.extend(run.payloads)
    if run.first_offset:
        message.first_offset = run.first_offset
    if run.sizes:
        message.encoding = pb.ENCODING_ZSTD
        message.sizes.extend(run.sizes)


def _answers_to_wire(frame: f.ServerFrame, message: pb.ServerFrame) -> None:
    for run in frame.outputs:
        output_run_to_wire(run, message.outputs.add(first_number=run.first_number))
    for part in frame.parts:
        message.parts.add(
            number=part.number,
            first_index=part.first_index,
            payloads=part.payloads,
            last=part.last,
            checkpoint=part.checkpoint,
            first_offset=part.first_offset,
            encoding=pb.ENCODING_ZSTD if part.sizes else pb.ENCODING_UNSPECIFIED,
            sizes=part.sizes,
        )
    for failure in frame.errors:
        message.errors.add(
            number=failure.number,
            index=failure.index,
            kind=pb.ItemErrorKind.ValueType(failure.kind),
            retryable=failure.retryable,
            text=failure.text,
        )
    for token in frame.tokens:
        message.tokens.append(_token_to_wire(token))


def server_frame_from_wire(message: pb.ServerFrame) -> f.ServerFrame:
    """
    Raises:
        RemoteProtocolError: the message means nothing.
    """
    check_sizes(*message.outputs, *message.parts, chunk=message.chunk.size)
    frame = f.ServerFrame()
    for field, value in message.ListFields():
        setattr(frame, field.name, _SERVER_FRAME[field.name](value))
    return frame


def _refused_to_wire(refused: f.Refused) -> pb.Refused:
    return pb.Refused(
        kind=pb.RefusalKind.ValueType(refused.kind),
        text=refused.text,
        retry_after_ms=refused.retry_after_ms,
    )


def _refused_from_wire(message: pb.Refused) -> f.Refused:
    return f.Refused(
        _known(f.RefusalKind, message.kind), printable(message.text), _retry_after(message)
    )


def _failure_from_wire(message: pb.ItemError) -> f.ItemFailure:
    return f.ItemFailure(
        _number(message.number),
        _item_error_kind(message.kind),
        printable(message.text),
        _index(message.index),
        message.retryable,
    )


def _drain_from_wire(message: pb.Drain) -> f.Drain:
    return f.Drain(message.grace_ms, [printable(endpoint, 500) for endpoint in message.endpoints])


def _stream_error_to_wire(error: f.StreamFailure) -> pb.StreamError:
    return pb.StreamError(
        kind=pb.StreamErrorKind.ValueType(error.kind),
        text=error.text,
        retry_after_ms=error.retry_after_ms,
    )


def _stream_error_from_wire(message: pb.StreamError) -> f.StreamFailure:
    return f.StreamFailure(
        _known(f.StreamErrorKind, message.kind), printable(message.text), _retry_after(message)
    )


def _server_end_to_wire(end: f.ServerEnd) -> pb.ServerEnd:
    return pb.ServerEnd(
        last_number=end.last_number,
        inputs_received=end.inputs_received,
        inputs_answered=end.inputs_answered,
    )


def _server_end_from_wire(message: pb.ServerEnd) -> f.ServerEnd:
    return f.ServerEnd(message.last_number, message.inputs_received, message.inputs_answered)


def _retry_after(message: pb.Refused | pb.StreamError) -> int | None:
    return message.retry_after_ms if message.HasField("retry_after_ms") else None


def _output_run(run: pb.OutputRun) -> f.OutputRun:
    payloads = _run_of(run)
    return f.OutputRun(_number(run.first_number, len(payloads)), payloads, run.first_offset)


def _output_part(part: pb.OutputPart) -> f.OutputPart:
    payloads = _payloads(part)
    first_index = _index(part.first_index, len(payloads) or 1)
    checkpoint = part.checkpoint if part.HasField("checkpoint") else None
    made = f.OutputPart(_number(part.number), first_index, payloads, part.last, checkpoint)
    if part.first_offset:
        made.first_offset = part.first_offset
    return made


def _welcome_to_wire(welcome: f.Welcome) -> pb.Welcome:
    return pb.Welcome(
        protocol_version=welcome.protocol_version,
        application=welcome.application,
        code_version=welcome.code_version,
        replica=welcome.replica,
        handler_kind=pb.HandlerKind.ValueType(welcome.handler_kind),
        features=welcome.features,
        limits=_limits_to_wire(welcome.limits),
        endpoints=welcome.endpoints,
        heartbeat_interval_ms=welcome.heartbeat_interval_ms,
        restartable=welcome.restartable,
        replay=pb.Replay.ValueType(welcome.replay),
        fingerprint=welcome.fingerprint,
    )


def _welcome_from_wire(message: pb.Welcome) -> f.Welcome:
    return f.Welcome(
        protocol_version=message.protocol_version,
        application=printable(message.application, 500),
        code_version=printable(message.code_version, 500),
        replica=printable(message.replica, 500),
        handler_kind=_known(f.HandlerKind, message.handler_kind),
        features=[printable(feature, 500) for feature in message.features],
        limits=_limits_from_wire(message.limits),
        endpoints=[printable(endpoint, 500) for endpoint in message.endpoints],
        heartbeat_interval_ms=message.heartbeat_interval_ms,
        restartable=message.restartable,
        replay=_known(f.Replay, message.replay),
        fingerprint=message.fingerprint,
    )


def _running_to_wire(running: f.Running) -> pb.Running:
    return pb.Running(
        oldest_number=running.oldest_number,
        oldest_age_ms=running.oldest_age_ms,
        started_through=running.started_through,
        count=running.count,
        blocked_on=pb.BlockedOn.ValueType(running.blocked_on),
    )


def _running_from_wire(message: pb.Running) -> f.Running:
    return f.Running(
        oldest_number=message.oldest_number,
        oldest_age_ms=message.oldest_age_ms,
        started_through=message.started_through,
        count=message.count,
        blocked_on=_known(f.BlockedOn, message.blocked_on),
    )


def _load_from_wire(message: pb.Load) -> f.Load:
    return f.Load(
        servers=message.servers,
        items=message.items,
        item_us=message.item_us,
        places=message.places,
    )


def _same(value: _T) -> _T:
    return value


_CLIENT_FRAME: dict[str, Callable[[Any], object]] = {
    "open": _open_from_wire,
    "inputs": lambda runs: [_run_from_wire(run) for run in runs[:]],
    "frames_read": _same,
    "credit": lambda credit: f.Credit(credit.outputs, credit.bytes),
    "cancelled": _cancelled_from_wire,
    "want_token": _same,
    "taken_through": _same,
    "end": lambda end: f.ClientEnd(end.last_number),
    "heartbeat": _heartbeat_from_wire,
    "coming": _coming_from_wire,
    "input_credit": _input_credit_from_wire,
    "chunk": _chunk_from_wire,
}
"""How each field is read that a client's message may have; one that it has not is the default."""

_SERVER_FRAME: dict[str, Callable[[Any], object]] = {
    "welcome": _welcome_from_wire,
    "refused": _refused_from_wire,
    "outputs": lambda runs: [_output_run(run) for run in runs[:]],
    "parts": lambda parts: [_output_part(part) for part in parts],
    "errors": lambda errors: [_failure_from_wire(error) for error in errors],
    "tokens": lambda tokens: [_token_from_wire(token) for token in tokens],
    "frames_read": _same,
    "running": _running_from_wire,
    "drain": _drain_from_wire,
    "error": _stream_error_from_wire,
    "end": _server_end_from_wire,
    "heartbeat": _heartbeat_from_wire,
    "coming": _coming_from_wire,
    "load": _load_from_wire,
    "no_token": printable,
    "chunk": _chunk_from_wire,
}
"""The same for a server's."""
