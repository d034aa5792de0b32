"""Inputs that can be made anew at any time, and answers that can be told to belong to them.

Both ends use this; nothing of an input need be kept to check its answer.
"""

from __future__ import annotations

import os
import struct
import zlib
from typing import NamedTuple

__all__ = ["ITEM_SECONDS", "Answer", "answer", "payload", "read"]

ITEM_SECONDS = 0.002
"""That handlers take where streams shall spread over all replicas."""

_HEAD = struct.Struct("<QI")
_ANSWER = struct.Struct("<QIIII")
_FILLING = bytes(range(256)) * 2
_SHORTEST, _LENGTHS = 8, 56


class Answer(NamedTuple):
    """What the service says of an input.

    Attributes:
        stream: the tag of the stream that the input came from.
        number: its number there, from 1 on.
        crc: of all its bytes.
        version: of the code that answered.
        pid: of the process that answered.
    """

    stream: int
    number: int
    crc: int
    version: int
    pid: int


def payload(stream: int, number: int) -> bytes:
    """An input: who it is, and some bytes that differ in content and length."""
    start = (stream + 7 * number) % 256
    return _HEAD.pack(stream, number) + _FILLING[start : start + _SHORTEST + number % _LENGTHS]


def answer(item: bytes, version: int) -> bytes:
    """What the service gives for an input."""
    stream, number = _HEAD.unpack_from(item)
    return _ANSWER.pack(stream, number, zlib.crc32(item), version, os.getpid())


def read(output: bytes) -> Answer:
    """
    Raises:
        struct.error: it is no answer.
    """
    return Answer._make(_ANSWER.unpack(output))
