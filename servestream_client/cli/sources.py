"""Where items come from: lines, records and frames of a file, of a compressed one, or of standard
input.

Invariant: what `Source.pieces` yields, with the bytes read for each, is the whole input from where
it began; so any number of pieces has a length and a digest by which it is found again.
"""

from __future__ import annotations

import csv
import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, Protocol

import msgspec

from servestream_client.cli.items import (
    LENGTH,
    LONGEST_FRAME,
    Encoder,
    InputFormat,
    Unreadable,
    encoder,
)
from servestream_client.cli.problems import Problem

__all__ = [
    "Changed",
    "Digest",
    "Piece",
    "Place",
    "Source",
    "behind",
    "new_digest",
    "payloads",
    "readable",
]

_BLOCK = 1 << 20
"""Bytes read at once of what is only passed."""


class Digest(Protocol):
    """A hash that goes on."""

    def update(self, data: bytes, /) -> None: ...
    def hexdigest(self) -> str: ...
    def copy(self) -> Digest: ...


def new_digest() -> Digest:
    """Of bytes read; it tells an input that was changed, and is no secret."""
    return hashlib.blake2b(digest_size=16)


class Changed(Exception):  # noqa: N818 — the one who asked says what it means
    """The input does not begin with what was read of it before."""


@dataclass(frozen=True, slots=True)
class Place:
    """How far an input was read: so many of its first bytes, decompressed.

    Attributes:
        bytes: that.
        lines: how many ends of lines are among them.
        digest: theirs, in hex.
    """

    bytes: int
    lines: int
    digest: str


class Piece(NamedTuple):
    """One item.

    Attributes:
        raw: the bytes read for it, with those of blank lines before it.
        payload: it, encoded; or why it cannot be.
    """

    raw: bytes
    payload: bytes | Unreadable


class Source:
    """Items of one input, in order.

    Args:
        file: the input, decompressed.
        compressed: what the file at hand is read from, if that is another.
        form: how items stand there.
        codec: that of the service.
    """

    def __init__(
        self, file: BinaryIO, form: InputFormat, codec: str, *, compressed: BinaryIO | None = None
    ) -> None:
        self.blank: int = 0
        """Lines without anything in them, so far."""
        self.digest: Digest = new_digest()
        """Of what `go_to` has passed."""
        self._file = file
        self._under = file if compressed is None else compressed
        self._form = form
        self._line = 0
        self._head = b""  # what was read of it, and belongs to the first piece
        self._encode: Encoder | None = None
        self._codec = codec
        self._columns: list[str] | None = None
        self._open_end = False  # what was passed ends within a line
        if form not in (InputFormat.FRAMES, InputFormat.PARQUET):
            self._encode = encoder(form, codec)

    @property
    def size(self) -> int | None:
        """Bytes of the file as it stands there, for progress; None: nobody knows."""
        return Path(f"/dev/fd/{self._under.fileno()}").stat().st_size if self.seekable else None

    @property
    def done(self) -> int:
        """How many of these were read."""
        return self._under.tell()

    @property
    def seekable(self) -> bool:
        """Whether it is a file, and nobody who may type."""
        return self._under.seekable()

    @property
    def file(self) -> BinaryIO:
        """What is read from, as it stands there."""
        return self._under

    def fresh_digest(self) -> Digest:
        """That of nothing read yet."""
        return new_digest()

    def begin_digest(self) -> None:
        """Nothing is read yet."""
        self.digest = self.fresh_digest()

    def go_to(self, place: Place) -> None:
        """Pass what was read before, and see that it is the same.

        Raises:
            Changed: it is not.
        """
        if self._form is InputFormat.CSV:
            self._read_columns()
        if len(self._head) > place.bytes:
            if place.bytes:
                raise Changed
            return
        self.digest.update(self._head)
        left, self._head = place.bytes - len(self._head), b""
        block = b"\n"
        while left:
            block = self._file.read(min(left, _BLOCK))
            if not block:
                raise Changed
            self.digest.update(block)
            left -= len(block)
        if place.bytes and self.digest.hexdigest() != place.digest:
            raise Changed
        self._line = place.lines
        self._open_end = self._form is not InputFormat.FRAMES and not block.endswith(b"\n")

    def _closes(self, raw: bytes) -> bool:
        """Whether these bytes only end the last line that was passed.

        Raises:
            Problem: they make another line of it.
        """
        if not self._open_end:
            return False
        self._open_end = False
        if raw.strip(b"\r\n"):
            raise Problem(
                "the last line of the input has grown since its result was written. Start over with"
                " --overwrite"
            )
        return True

    def pieces(self, *, wanted: Callable[[int], bool] | None = None) -> Iterator[Piece]:
        """The items from here on.

        Args:
            wanted: by their numbers from here, beginning with 1, which of them shall be encoded;
                others have an empty payload. None: all.

        Raises:
            Problem: the file is none of that kind.
        """
        if self._form is InputFormat.FRAMES:
            yield from self._frames()
        elif self._form is InputFormat.CSV:
            yield from self._records(wanted)
        else:
            yield from self._lines(wanted)

    def _lines(self, wanted: Callable[[int], bool] | None) -> Iterator[Piece]:
        encode = self._encode
        assert encode is not None  # noqa: S101 — for all forms but frames
        # An empty text is a text; nothing else is written as nothing.
        blank_is_item = self._form is InputFormat.TEXT
        before, number = b"", 0
        for at, raw in enumerate(self._file, self._line + 1):
            if self._open_end and self._closes(raw):
                before += raw
                continue
            line = raw.rstrip(b"\r\n")
            if not blank_is_item and (not line or line.isspace()):
                before += raw
                self.blank += 1
                continue
            number += 1
            if wanted is not None and not wanted(number):
                yield Piece(before + raw, b"")
            else:
                yield Piece(before + raw, self._encoded(encode, line, at))
            before = b""

    def _encoded(self, encode: Encoder, item: Any, line: int) -> bytes | Unreadable:  # noqa: ANN401
        try:
            return encode(item)
        except (msgspec.MsgspecError, UnicodeError, RecursionError, OverflowError) as error:
            return Unreadable(f"line {line} of the input cannot be read: {error}")

    def _frames(self) -> Iterator[Piece]:
        number = 0
        while head := self._file.read(LENGTH.size):
            number += 1
            length = LENGTH.unpack(head)[0] if len(head) == LENGTH.size else LONGEST_FRAME + 1
            if length > LONGEST_FRAME:
                raise Problem(f"frame {number} of the input has no sensible length: {head.hex()}")
            payload = self._file.read(length)
            if len(payload) < length:
                raise Problem(
                    f"frame {number} of the input ends after {len(payload)} of {length} B"
                )
            yield Piece(head + payload, payload)

    # ---------------------------------------------------------------- CSV

    def _read_columns(self) -> None:
        if self._columns is not None:
            return
        lines: list[bytes] = []
        reader = csv.reader(self._texts(lines), strict=True)
        try:
            columns = next((record for record in reader if record), [])
        except csv.Error as error:
            raise Problem(
                f"the first line of the input, its header, cannot be read: {error}"
            ) from None
        twice = {name for name in columns if columns.count(name) > 1}
        if twice:
            raise Problem(f"the input has two columns {min(twice)!r}")
        self._columns, self._head = columns, b"".join(lines)

    def _records(self, wanted: Callable[[int], bool] | None) -> Iterator[Piece]:
        encode = self._encode
        assert encode is not None  # noqa: S101 — for all forms but frames
        self._read_columns()
        columns, number = self._columns or [], 0
        lines: list[bytes] = [self._head] if self._head else []
        self._head = b""
        reader = csv.reader(self._texts(lines), strict=True)
        while True:
            try:
                record = next(reader, None)
                problem = None
            except csv.Error as error:
                record, problem = [], f"line {self._line} of the input cannot be read: {error}"
                reader = csv.reader(self._texts(lines), strict=True)
            if record is None:
                return
            if problem is None and not record:
                self.blank += 1
                continue
            if problem is None and len(record) != len(columns):
                problem = (
                    f"line {self._line} of the input has {len(record)} fields, and its header"
                    f" {len(columns)}"
                )
            number += 1
            raw = b"".join(lines)
            lines.clear()
            if problem is not None:
                yield Piece(raw, Unreadable(problem))
            elif wanted is not None and not wanted(number):
                yield Piece(raw, b"")
            else:
                item = dict(zip(columns, record, strict=True))
                yield Piece(raw, self._encoded(encode, item, self._line))

    def _texts(self, lines: list[bytes]) -> Iterator[str]:
        """Lines for the reader of records, which takes no more of them than a record has."""
        for raw in self._file:
            first = not self._line
            self._line += 1
            lines.append(raw)
            if self._open_end and self._closes(raw):
                continue
            try:
                yield raw.decode("utf-8-sig" if first else "utf-8")
            except UnicodeDecodeError as error:
                raise csv.Error(str(error)) from None


def payloads(source: Source) -> Iterator[bytes]:
    """The payloads of a source's items.

    Raises:
        Problem: an item cannot be read.
    """
    for piece in source.pieces():
        if isinstance(piece.payload, Unreadable):
            raise Problem(piece.payload.text)
        yield piece.payload


def behind(source: Source, skip: int) -> Iterator[bytes | Unreadable]:
    """The payloads behind the first items, of which nothing need be right.

    Raises:
        Problem: there are no more than these.
    """
    number = 0
    wanted = (lambda number: number > skip) if skip else None
    for number, piece in enumerate(source.pieces(wanted=wanted), 1):
        if number > skip:
            yield piece.payload
    if number < skip:
        raise Problem(f"the input has {number:,} items, and --skip leaves out {skip:,}")


def readable(payload: bytes | Unreadable, *, keep_going: bool) -> bytes | Unreadable:
    """
    Raises:
        Problem: it cannot be read, and that is to end it all.
    """
    if isinstance(payload, Unreadable) and not keep_going:
        raise Problem(payload.text)
    return payload
