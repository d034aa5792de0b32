"""Frames with many bytes of payload, written at once.

`SerializeToString` copies each payload three times, through buffers that grow as it goes, and those
of more than some 100 kB the C library gives back to the system after each frame: half of the time
is page faults then. Here each payload is copied once.

Source of the layout: protobuf's encoding, in which messages that stand one behind the other are
merged into one.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from itertools import chain
from typing import Any

from servestream_client.protocol import frames as f
from servestream_client.wire import stream_pb2 as pb
from servestream_client.wire.compressed import compressed_client_frame, compressed_server_frame
from servestream_client.wire.convert import (
    chunk_to_wire,
    client_frame_to_wire,
    input_run_to_wire,
    output_run_to_wire,
    server_frame_to_wire,
)

__all__ = ["Written", "client_frame_bytes", "written_server_frame"]

_FEW_BYTES = 48 * 1024
"""Of payload in a frame; with fewer, and with smaller payloads, `SerializeToString` is quicker."""
_SMALL_BYTES = 500

_LENGTH_DELIMITED = 2
_PAYLOADS_TAG = bytes([pb.InputRun.PAYLOADS_FIELD_NUMBER << 3 | _LENGTH_DELIMITED])
"""In an `InputRun` and in an `OutputRun`, which have the same number for it."""
_CHUNK_TAG = bytes([pb.Chunk.DATA_FIELD_NUMBER << 3 | _LENGTH_DELIMITED])

_MOST_PREFIXES = 4096


class Written:
    """A message that is written already, for whoever asks hardly anything else of it."""

    __slots__ = ("_data", "_message")

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._message: pb.ServerFrame | None = None

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 — whatever the message has
        """Somebody wants to know more: an interceptor of the server's, say."""
        if name.startswith("_"):  # no field, and a copy that is being made has none of its own yet
            raise AttributeError(name)
        if self._message is None:
            self._message = pb.ServerFrame.FromString(self._data)
        return getattr(self._message, name)

    def SerializeToString(self) -> bytes:  # noqa: N802 — a message's method, and Serve calls it
        return self._data


def client_frame_bytes(frame: f.ClientFrame) -> bytes:
    """A client's frame as it is sent."""
    if frame.compression:
        frame = compressed_client_frame(frame)
    if frame.chunk is not None and len(frame.chunk.data) >= _FEW_BYTES:
        rest = client_frame_to_wire(replace(frame, chunk=None)).SerializeToString()
        return _with_chunk(rest, pb.ClientFrame.CHUNK_FIELD_NUMBER, frame.chunk)
    if not _pays(frame.inputs):
        return client_frame_to_wire(frame).SerializeToString()
    rest = client_frame_to_wire(replace(frame, inputs=())).SerializeToString()
    return _joined(rest, pb.ClientFrame.INPUTS_FIELD_NUMBER, map(_input_run, frame.inputs))


def written_server_frame(frame: f.ServerFrame) -> pb.ServerFrame | Written:
    """A server's frame, for whoever only has it serialized."""
    if frame.compression:
        frame = compressed_server_frame(frame)
    if frame.chunk is not None and len(frame.chunk.data) >= _FEW_BYTES:
        rest = server_frame_to_wire(replace(frame, chunk=None)).SerializeToString()
        return Written(_with_chunk(rest, pb.ServerFrame.CHUNK_FIELD_NUMBER, frame.chunk))
    if not _pays(frame.outputs):
        return server_frame_to_wire(frame)
    rest = server_frame_to_wire(replace(frame, outputs=())).SerializeToString()
    outputs = map(_output_run, frame.outputs)
    return Written(_joined(rest, pb.ServerFrame.OUTPUTS_FIELD_NUMBER, outputs))


_Run = tuple[bytes, Sequence[bytes]]
"""What a run has besides its payloads, as bytes, and these."""


def _input_run(run: f.InputRun) -> _Run:
    message = pb.InputRun(first_number=run.first_number)
    input_run_to_wire(replace(run, payloads=()), message)
    return message.SerializeToString(), run.payloads


def _output_run(run: f.OutputRun) -> _Run:
    message = pb.OutputRun(first_number=run.first_number)
    output_run_to_wire(replace(run, payloads=()), message)
    return message.SerializeToString(), run.payloads


def _pays(runs: Sequence[f.InputRun] | Sequence[f.OutputRun]) -> bool:
    if not runs or len(runs[0].payloads[0]) < _SMALL_BYTES:
        return False
    return sum(sum(map(len, run.payloads)) for run in runs) >= _FEW_BYTES


def _with_chunk(message: bytes, field: int, chunk: f.Chunk) -> bytes:
    """A message, and in one of its fields a chunk."""
    rest = chunk_to_wire(replace(chunk, data=b"")).SerializeToString()
    data = _CHUNK_TAG + _varint(len(chunk.data))
    size = _varint(len(rest) + len(data) + len(chunk.data))
    return b"".join(
        (message, _varint(field << 3 | _LENGTH_DELIMITED), size, rest, data, chunk.data)
    )


def _joined(message: bytes, field: int, runs: Iterable[_Run]) -> bytes:
    """A message, and runs in one of its repeated fields."""
    pieces, tag = [message], bytes([field << 3 | _LENGTH_DELIMITED])
    for rest, payloads in runs:
        prefixes = [*map(_prefix, map(len, payloads))]
        size = len(rest) + sum(map(len, payloads)) + sum(map(len, prefixes))
        pieces += (tag, _varint(size), rest)
        pieces += chain.from_iterable(zip(prefixes, payloads, strict=True))
    return b"".join(pieces)


def _varint(number: int) -> bytes:
    digits = bytearray()
    while number > 0x7F:
        digits.append(number & 0x7F | 0x80)
        number >>= 7
    digits.append(number)
    return bytes(digits)


class _Prefixes(dict[int, bytes]):
    """What stands before a payload, by its size; some sizes are kept."""

    def __missing__(self, size: int) -> bytes:
        prefix = _PAYLOADS_TAG + _varint(size)
        if len(self) < _MOST_PREFIXES:
            self[size] = prefix
        return prefix


_prefix = _Prefixes().__getitem__
