"""Inputs that can be made anew at any time, and answers that can be told to belong to them.

Both ends use this; nothing of an input need be kept to check its answer.
"""

from __future__ import annotations

import os
import struct
import zlib
from typing import NamedTuple

__all__ = [
    "BEGINNING",
    "ITEM_SECONDS",
    "Answer",
    "answer",
    "follow",
    "payload",
    "read",
    "same_answer",
]

ITEM_SECONDS = 0.002
"""That handlers take where streams shall spread over all replicas."""

_HEAD = struct.Struct("<QI")
_ANSWER = struct.Struct("<QIIII")
_CHAIN = struct.Struct("<I")
_FILLING = bytes(range(256)) * 2
_SHORTEST, _LENGTHS = 8, 56


BEGINNING = bytes(_CHAIN.size)
"""The state before the first input."""


class Answer(NamedTuple):
    """What the service says of an input.

    Attributes:
        stream: the tag of the stream that the input came from.
        number: its number there, from 1 on.
        crc: of all its bytes.
        version: of the code that answered; 0: it does not say.
        pid: of the process that answered; 0: likewise.
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


def same_answer(item: bytes) -> bytes:
    """What every replica gives for it, as a stateful service must."""
    stream, number = _HEAD.unpack_from(item)
    return _ANSWER.pack(stream, number, zlib.crc32(item), 0, 0)


def follow(state: bytes, item: bytes) -> bytes:
    """The state behind an input, which says of all inputs up to there what they were."""
    return _CHAIN.pack(zlib.crc32(item, _CHAIN.unpack(state)[0]))


def read(output: bytes) -> Answer:
    """
    Raises:
        struct.error: it is no answer.
    """
    return Answer._make(_ANSWER.unpack(output))
