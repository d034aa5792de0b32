"""Inputs under simulation, and what their answers must be.

An answer names its input and carries a checksum of it, so that no two answers can be taken for
each other, and the right one can be computed by whoever looks at it.
"""

from __future__ import annotations

import enum
import zlib
from collections.abc import Mapping
from dataclasses import dataclass

from servestream_client.codecs import BytesCodec
from servestream_client.errors import ItemErrorKind

__all__ = [
    "GARBLED",
    "PLANNED_ERRORS",
    "Items",
    "SimulatedCodec",
    "Special",
]


class Special(enum.Enum):
    """An input that cannot be answered by an output."""

    FAILS = "its handler raises"
    UNENCODABLE = "the client's codec refuses it"
    TOO_LARGE = "it is larger than the client sends"
    ANSWER_TOO_LARGE = "its output is larger than the client accepts"
    UNDECODABLE = "the client's codec cannot decode its output"
    UNKNOWN_TO_SERVER = "the server's codec cannot decode it"
    POISON = "its replica dies of it"


PLANNED_ERRORS: Mapping[Special, ItemErrorKind] = {
    Special.FAILS: ItemErrorKind.HANDLER,
    Special.UNENCODABLE: ItemErrorKind.INPUT_ENCODE,
    Special.TOO_LARGE: ItemErrorKind.INPUT_TOO_LARGE,
    Special.ANSWER_TOO_LARGE: ItemErrorKind.TOO_LARGE,
    Special.UNDECODABLE: ItemErrorKind.OUTPUT_DECODE,
    Special.UNKNOWN_TO_SERVER: ItemErrorKind.DECODE,
    Special.POISON: ItemErrorKind.POISON,
}

_FOREIGN = b"foreign"

GARBLED: bytes = b"garbled"
"""What an output ends in that cannot be decoded."""

_SPECIAL_OUTPUTS = 5
"""At least so many has an input with something special about it, if it has many."""


class SimulatedCodec(BytesCodec):
    """Bytes as they are, but for payloads that it cannot decode."""

    def decode_input(self, payload: bytes, /) -> bytes:
        if payload.endswith(_FOREIGN):
            raise ValueError("a foreign payload")
        return payload

    def decode_output(self, payload: bytes, /) -> bytes:
        if payload.endswith(GARBLED):
            raise ValueError("a garbled payload")
        return payload


@dataclass(frozen=True, slots=True, kw_only=True)
class Items:
    """The inputs of one stream, by their numbers.

    Attributes:
        key: names the stream.
        count: how many.
        size: of an input at the most, beyond some bytes that name it.
        answer_size: likewise of an output.
        most_bytes: the client's limit for one.
        specials: the inputs with something special about them.
        most_outputs: of an input at the most, where it has many.
    """

    key: int
    count: int
    size: int
    answer_size: int
    most_bytes: int
    specials: Mapping[int, Special]
    most_outputs: int = 0

    def outputs_of(self, number: int) -> int:
        """How many outputs an input has, where it has many."""
        usual = number * 48271 % (self.most_outputs + 1)
        return max(usual, _SPECIAL_OUTPUTS) if number in self.specials else usual

    def special_index(self, number: int) -> int:
        """Before which output something special happens."""
        return number % (_SPECIAL_OUTPUTS - 2)

    def item(self, number: int) -> object:
        """The input of a number."""
        special = self.specials.get(number)
        if special is Special.UNENCODABLE:
            return number
        padding = b"." * (number * 7919 % (self.size + 1))
        if special is Special.TOO_LARGE:
            padding = b"." * (self.most_bytes + 1)
        elif special is Special.UNKNOWN_TO_SERVER:
            padding += _FOREIGN
        return b"%d:%d:%b" % (self.key, number, padding)

    def answer(self, item: bytes) -> bytes:
        """The one right output for an input."""
        _, text, _ = item.split(b":", 2)
        number = int(text)
        special = self.specials.get(number)
        padding = b"." * (number * 104729 % (self.answer_size + 1))
        if special is Special.ANSWER_TOO_LARGE:
            padding = b"." * (self.most_bytes + 1)
        elif special is Special.UNDECODABLE:
            padding += GARBLED
        return b"%d:%d:%08x:%b" % (self.key, number, zlib.crc32(item), padding)

    def number_of(self, output: object) -> int | None:
        """Whose output this is; None: nobody's."""
        if not isinstance(output, bytes):
            return None
        key, text, _ = output.split(b":", 2)
        number = int(text)
        if int(key) != self.key or not 1 <= number <= self.count:
            return None
        item = self.item(number)
        return number if isinstance(item, bytes) and self.answer(item) == output else None
