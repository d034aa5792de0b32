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

__all__ = ["MODULE", "available", "compressed_client_frame", "compressed_server_frame", "unpacked"]

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
    inputs = [_compressed(run, level) for run in frame.inputs]
    return replace(frame, inputs=inputs, chunk=_compressed_chunk(frame.chunk, level), compression=0)


def compressed_server_frame(frame: f.ServerFrame) -> f.ServerFrame:
    """The same of a server's."""
    level = frame.compression
    return replace(
        frame,
        outputs=[_compressed(run, level) for run in frame.outputs],
        parts=[_compressed(part, level) for part in frame.parts],
        chunk=_compressed_chunk(frame.chunk, level),
        compression=0,
    )


def _compressed(run: _Run, level: int) -> _Run:
    sizes = [*map(len, run.payloads)]
    packed = _packed(b"".join(run.payloads), level) if sum(sizes) >= LEAST_BYTES else None
    return run if packed is None else replace(run, payloads=[packed], sizes=sizes)


def _compressed_chunk(chunk: f.Chunk | None, level: int) -> f.Chunk | None:
    if chunk is None or len(chunk.data) < LEAST_BYTES:
        return chunk
    packed = _packed(chunk.data, level)
    return chunk if packed is None else replace(chunk, data=packed, size=len(chunk.data))


def _packed(data: bytes | memoryview, level: int) -> bytes | None:
    """What is to be sent in its place; None: that saves less than a sixteenth."""
    if len(data) > MOST_BYTES:
        return None
    packed: bytes = _zstd().compress(data, level=level)
    return packed if len(packed) * 16 < len(data) * 15 else None


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
