"""Payloads that travel compressed: docs/protocol.md, section 23.

Each run, part or chunk is compressed by itself, and sent as it is where that makes it hardly
smaller: what is compressed already, or random, takes little time to find out.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from itertools import accumulate
from typing import Any, TypeVar

from servestream_client.errors import RemoteProtocolError
from servestream_client.protocol import frames as f
from servestream_client.protocol.compression import LEAST_BYTES, MOST_BYTES
from servestream_client.wire import stream_pb2 as pb

__all__ = [
    "MODULE",
    "available",
    "check_sizes",
    "compressed_client_frame",
    "compressed_server_frame",
    "unpacked",
]

MODULE: str = "compression.zstd" if sys.version_info >= (3, 14) else "backports.zstd"
"""Python's module from 3.14 on, and what brings it to those before."""

_WINDOW_LOG = MOST_BYTES.bit_length() - 1
"""What a peer's data may make this end keep while it unpacks: no more than all of it."""

_Run = TypeVar("_Run", f.InputRun, f.OutputRun, f.OutputPart)


@cache
def _zstd() -> Any:  # noqa: ANN401 — mypy knows neither of the two
    try:
        return importlib.import_module(MODULE)
    except ImportError:
        return None


def available() -> bool:
    """Whether this process can compress."""
    return _zstd() is not None


def compressed_client_frame(frame: f.ClientFrame) -> f.ClientFrame:
    """The same frame, its payloads compressed at the level that it names."""
    level = frame.compression
    inputs = _all_compressed(frame.inputs, level)
    return replace(frame, inputs=inputs, chunk=_compressed_chunk(frame.chunk, level), compression=0)


def compressed_server_frame(frame: f.ServerFrame) -> f.ServerFrame:
    """The same of a server's."""
    level = frame.compression
    outputs = _all_compressed(frame.outputs, level)
    parts = _all_compressed(frame.parts, level, sum(sum(each.sizes) for each in outputs))
    chunk = _compressed_chunk(frame.chunk, level)
    return replace(frame, outputs=outputs, parts=parts, chunk=chunk, compression=0)


def _all_compressed(runs: Sequence[_Run], level: int, before: int = 0) -> list[_Run]:
    """As many of them as a frame may have that are compressed, besides so many bytes before."""
    made: list[_Run] = []
    for each in runs:
        made.append(_compressed(each, level, MOST_BYTES - before))
        before += sum(made[-1].sizes)
    return made


def _compressed(run: _Run, level: int, most: int) -> _Run:
    sizes = [*map(len, run.payloads)]
    if not LEAST_BYTES <= sum(sizes) <= most:
        return run
    packed = _packed(b"".join(run.payloads), level)
    return run if packed is None else replace(run, payloads=[packed], sizes=sizes)


def _compressed_chunk(chunk: f.Chunk | None, level: int) -> f.Chunk | None:
    if chunk is None or not LEAST_BYTES <= len(chunk.data) <= MOST_BYTES:
        return chunk
    packed = _packed(chunk.data, level)
    return chunk if packed is None else replace(chunk, data=packed, size=len(chunk.data))


def _packed(data: bytes | memoryview, level: int) -> bytes | None:
    """What is to be sent in its place; None: that saves less than a sixteenth."""
    packed: bytes = _zstd().compress(data, level=level)
    return packed if len(packed) * 16 < len(data) * 15 else None


def check_sizes(*runs: pb.InputRun | pb.OutputRun | pb.OutputPart, chunk: int) -> None:
    """Look at all that a frame would unpack to, with so many bytes in a chunk, before any of it is.

    Raises:
        RemoteProtocolError: it is more than may be.
    """
    total = chunk + sum(sum(run.sizes) for run in runs if run.encoding)
    if total > MOST_BYTES:
        raise RemoteProtocolError(
            f"a frame with compressed payloads of {total} bytes: {MOST_BYTES} are allowed"
        )


def unpacked(packed: bytes, sizes: Sequence[int]) -> list[bytes]:
    """The payloads that stand for these bytes, which have such sizes.

    Raises:
        RemoteProtocolError: they do not, or are more than may be.
    """
    zstd, total = _zstd(), sum(sizes)
    if zstd is None:
        raise RemoteProtocolError("payloads are compressed, which was not agreed on")
    if not 0 < total <= MOST_BYTES:
        raise RemoteProtocolError(
            f"compressed payloads of {total} bytes: between 1 and {MOST_BYTES} are allowed"
        )
    unpacker = zstd.ZstdDecompressor(
        options={zstd.DecompressionParameter.window_log_max: _WINDOW_LOG}
    )
    try:
        data = unpacker.decompress(packed, max_length=total + 1)
    except zstd.ZstdError as error:
        raise RemoteProtocolError(f"compressed payloads that cannot be read: {error}") from None
    if len(data) != total or not unpacker.eof or unpacker.unused_data:
        raise RemoteProtocolError(
            f"compressed payloads that are not the {total} bytes that they were said to be"
        )
    if len(sizes) == 1:
        return [data]
    ends = [*accumulate(sizes)]
    return [data[end - size : end] for size, end in zip(sizes, ends, strict=True)]
