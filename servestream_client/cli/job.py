"""A job: an input through a service into an output, resumable.

Invariant: what the journal counts is the first items of the input (and some behind them, of an
unordered job), and the output holds their results, all of them and nothing else, but for what was
written since.
"""

from __future__ import annotations

import math
import os
import threading
import time
from bisect import bisect_right
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from servestream_client.cli.items import Unreadable
from servestream_client.cli.job_files import tail_of
from servestream_client.cli.journal import FailedItem, Journal, Progress
from servestream_client.cli.problems import Problem
from servestream_client.cli.sources import Piece, Source, readable
from servestream_client.errors import ItemError
from servestream_client.outputs import Numbered
from servestream_client.sync_streams import SyncPredictionStream

__all__ = [
    "Job",
    "JobOptions",
    "OpenStream",
    "Shown",
    "Stream",
]

_MOST_BEYOND = 16_384
"""Items that may be pulled behind the first one whose results are not all there."""

_MOST_BYTES = 256 << 20
"""Their bytes; one item may exceed it."""

_UNSAVED_BYTES = 64 << 20
"""Input bytes after which the journal is written in any case."""

_SAVE_SECONDS = 0.5
"""No more often the journal is written..."""

_SAVE_SHARE = 50
"""...and no more often than so many times as long as it takes, so that it costs 2 % at the most."""

_BLOCK = 1 << 18
"""Bytes that are written at once, or about that."""

_LOOK = 1024
"""Items after which it is seen to what need not be seen to at each."""


Stream = SyncPredictionStream[Numbered[bytes] | ItemError]
Shown = Callable[[bytes | ItemError], bytes]
"""Makes what is written of a result."""

OpenStream = Callable[[Iterator[bytes | Unreadable]], Stream]


@dataclass(frozen=True, slots=True, kw_only=True)
class JobOptions:
    """What a job is, and how to run it.

    Attributes:
        output: where its results go; the journal is beside it.
        parquet: whether that is to be made of lines beside it.
        identity: what decides about the results, by name.
        ordered: whether they come in the order of their items.
        keep_going: whether an item that fails is a result.
        overwrite: whether to begin anew.
        retry_failed: whether to try again the items that failed, and nothing else.
        quiet: whether to say nothing.
    """

    output: Path
    parquet: bool
    identity: dict[str, object]
    ordered: bool
    keep_going: bool
    overwrite: bool
    retry_failed: bool
    quiet: bool


class Job:
    """What is done and what is under way.

    Args:
        journal: locked; its job is this one.
        source: the input, at its beginning.
        output: the file, open for writing.
        ordered: whether results come in the order of their items.
    """

    def __init__(
        self, journal: Journal, source: Source, output: BinaryIO, *, ordered: bool
    ) -> None:
        progress = journal.progress
        self.resumed_at: int = progress.items
        self.failed: int = progress.failed
        """Items that failed, in all runs."""
        self.results: int = 0
        """How many results were written in this run."""
        self.items: int = progress.items
        """The first ones whose results are all there."""
        self.saved: int = progress.items
        """The first ones of which this is certain."""
        self._journal = journal
        self._source = source
        self._output = output
        self._ordered = ordered
        self._pulled = progress.items
        self._raw: dict[int, bytes] = {}
        self._ended: set[int] = {
            number for first, last in progress.beyond for number in range(first, last + 1)
        }
        # Of those that are left out, how many come before the n-th that is not.
        beyond = sorted(self._ended)
        self._gaps = [number - progress.items - place for place, number in enumerate(beyond)]
        self._passed: list[bytes] = []  # raw bytes of items that the digest has not got yet
        self._bytes_digested = 0  # of this run; `_bytes_done` less than that are theirs
        self._bytes_saved = progress.bytes
        self._bytes_pulled = self._bytes_done = 0  # of all items of this run; of those done with
        self._bytes, self._lines = progress.bytes, progress.lines
        self._written = progress.written
        self._buffer: list[bytes] = []
        self._flushed = progress.written
        self._held: dict[int, list[bytes]] = {}  # of an unordered job: results of unfinished items
        self._start: int | None = None  # of an ordered one: where the item at hand begins
        self._newly_failed: list[FailedItem] = []
        self._next_save = time.monotonic() + _SAVE_SECONDS
        self._sound = True  # whether what is counted here is what was written
        self._look_at = self._look_at_bytes = 0  # items, and bytes in and out, see `_look`
        self._room = threading.Condition()
        self._closed = False

    # ---------------------------------------------------------------- in

    def inputs(self, *, keep_going: bool = True) -> Iterator[bytes | Unreadable]:
        """What is left to send. It runs in a thread of its own.

        Args:
            keep_going: whether an item that cannot be read is to fail like any.

        Raises:
            Problem: the input is none of its kind, or such an item ends it.
        """
        left_out = frozenset(self._ended)
        base = self._pulled
        wanted = (lambda number: base + number not in left_out) if left_out else None
        pieces = self._source.pieces(wanted=wanted)
        for payload in self._among(left_out, pieces):
            yield readable(payload, keep_going=keep_going)
        kept = self._raw
        for raw, payload in pieces:
            # `_pull` and `_may_go_on`, without a call for each item.
            self._pulled = number = self._pulled + 1
            kept[number] = raw
            self._bytes_pulled += len(raw)
            if (
                number - self.items > _MOST_BEYOND
                or self._bytes_pulled - self._bytes_done > _MOST_BYTES
            ):
                with self._room:
                    self._room.wait_for(self._may_go_on)
            if self._closed:
                return
            if isinstance(payload, Unreadable):
                readable(payload, keep_going=keep_going)
            yield payload

    def _pull(self, piece: Piece) -> None:
        self._pulled += 1
        self._raw[self._pulled] = piece.raw
        self._bytes_pulled += len(piece.raw)

    def _among(
        self, left_out: frozenset[int], pieces: Iterator[Piece]
    ) -> Iterator[bytes | Unreadable]:
        """Items among those whose results are there, once it is sure that they are the same."""
        through = max(left_out, default=0)
        digest, held = self._source.digest.copy(), []
        while self._pulled < through:
            piece = next(pieces, None)
            if piece is None:
                raise _other_input(through)
            self._pull(piece)
            digest.update(piece.raw)
            if self._pulled not in left_out:
                held.append(piece.payload)
        if left_out and digest.hexdigest() != self._journal.progress.digest_beyond:
            raise _other_input(through)
        yield from held

    def _may_go_on(self) -> bool:
        ahead = self._pulled - self.items
        few = self._bytes_pulled - self._bytes_done <= _MOST_BYTES or ahead <= 1
        return self._closed or (ahead <= _MOST_BEYOND and few)

    def close(self) -> None:
        """Nothing more is to be pulled."""
        self._closed = True
        with self._room:
            self._room.notify_all()

    def number_of(self, sent: int) -> int:
        """Which item of the input the n-th one sent is."""
        return self.resumed_at + sent + bisect_right(self._gaps, sent)

    # ---------------------------------------------------------------- out

    def take(self, result: Numbered[bytes] | ItemError, show: Shown) -> None:
        """What the stream has yielded: `add` it, and `save_at_times`.

        Args:
            result: of a failure the number becomes that in the input.
            show: makes what is written of it.

        Raises:
            OSError: it cannot be written.
        """
        if isinstance(result, ItemError):
            result.number = self.number_of(result.number)
            self.add(result.number, show(result), last=True, failed=True)
        else:
            sent, found = result.number, result.output
            number = self.number_of(sent) if self._gaps else self.resumed_at + sent
            self.add(number, None if found is None else show(found), last=result.last)
        if time.monotonic() >= self._next_save:
            self.save_at_times()

    def add(self, number: int, line: bytes | None, *, last: bool, failed: bool = False) -> None:
        """A result of an item came.

        Args:
            number: of the item in the input.
            line: what to write; None: it only ends its item.
            last: whether the item has no further result.
            failed: whether it is the item's failure.

        Raises:
            OSError: it cannot be written.
        """
        if (
            line is not None
            and last
            and number == self.items + 1
            and not (failed or self._ended or self._held or self._start is not None)
        ):  # as nearly always; written out here, since each call would cost as much as the rest
            self._buffer.append(line)
            self._written += len(line)
            self.results += 1
            raw = self._raw.pop(number)
            self._passed.append(raw)
            self._bytes_done += len(raw)
            self.items = number
            if number >= self._look_at or self._bytes_done + self._written >= self._look_at_bytes:
                self._look()
            return
        if self._ordered or (last and number not in self._held):
            if self._start is None:
                self._start = self._written
            self._write(line)
        else:
            held = self._held.setdefault(number, [])
            if line is not None:
                held.append(line)
            if last:
                self._start = self._written
                for one in self._held.pop(number):
                    self._write(one)
        if not last:
            return
        start, self._start = self._start, None
        if failed:
            self.failed += 1
            assert start is not None  # noqa: S101 — it has a result, its failure
            self._newly_failed.append(FailedItem(number, start, self._written))
        self._end(number)

    def _write(self, line: bytes | None) -> None:
        if line is None:
            return
        self._buffer.append(line)
        self._written += len(line)
        self.results += 1
        if self._written - self._flushed >= _BLOCK:
            self._flush()

    def _end(self, number: int) -> None:
        self._ended.add(number)
        self._advance()
        self._look()

    def _look(self) -> None:
        """See to what need not be seen to at each item."""
        self._look_at = self.items + _LOOK
        self._look_at_bytes = self._bytes_done + self._written + _BLOCK
        if self._written - self._flushed >= _BLOCK:
            self._flush()
        if self._bytes_done - self._bytes_digested >= _BLOCK:
            self._digest_passed()
        if self._bytes - self._bytes_saved >= _UNSAVED_BYTES:
            self._next_save = -math.inf
        with self._room:
            self._room.notify()

    def _advance(self) -> None:
        while self.items + 1 in self._ended:
            raw = self._raw.pop(self.items + 1, None)
            if raw is None:  # it is left out, and was not come to yet
                break
            self._ended.remove(self.items + 1)
            self._pass(raw)

    def _pass(self, raw: bytes) -> None:
        """The next of the first items has all its results."""
        self.items += 1
        self._passed.append(raw)
        self._bytes_done += len(raw)
        if self._bytes_done - self._bytes_digested >= _BLOCK:
            self._digest_passed()

    def _digest_passed(self) -> None:
        passed = b"".join(self._passed)
        self._passed.clear()
        self._bytes_digested = self._bytes_done
        self._source.digest.update(passed)
        self._bytes += len(passed)
        self._lines += passed.count(b"\n")

    def _flush(self) -> None:
        sound, self._sound = self._sound, False
        data, self._buffer, self._flushed = b"".join(self._buffer), [], self._written
        view = memoryview(data)
        while view:
            view = view[os.write(self._output.fileno(), view) :]
        self._sound = sound

    # ---------------------------------------------------------------- to be certain

    def save_at_times(self) -> None:
        """`save`, if it is time to."""
        now = time.monotonic()
        if now < self._next_save:
            return
        self.save()
        done = time.monotonic()
        self._next_save = done + max(_SAVE_SECONDS, _SAVE_SHARE * (done - now))

    def save(self, *, whole: bool = False) -> None:
        """Make what was written durable, and then note it.

        Args:
            whole: the input has no more.

        Raises:
            OSError: a disk is full, or worse.
        """
        self._flush()
        os.fsync(self._output.fileno())
        sound, self._sound = self._sound, False
        self._advance()
        self._digest_passed()
        failed, self._newly_failed = self._newly_failed, []
        # Without what there is of an item that has more.
        written = self._written if self._start is None else self._start
        self._journal.note(
            Progress(
                items=self.items,
                bytes=self._bytes,
                lines=self._lines,
                digest=self._source.digest.hexdigest(),
                beyond=_ranges(self._ended),
                digest_beyond=self._digest_beyond(),
                written=written,
                tail=tail_of(self._output, written),
                whole=whole,
                failed=self.failed,
            ),
            failed,
        )
        self.saved, self._bytes_saved = self.items, self._bytes
        self._sound = sound

    def _digest_beyond(self) -> str:
        if not self._ended:
            return ""
        through = max(self._ended)
        if through not in self._raw:  # it was not come to in this run
            return self._journal.progress.digest_beyond
        digest = self._source.digest.copy()
        for number in range(self.items + 1, through + 1):
            digest.update(self._raw[number])
        return digest.hexdigest()

    def save_what_can_be(self) -> bool:
        """`save`, where something has gone wrong already. Returns whether it could."""
        if self._sound:
            with suppress(OSError):
                self.save()
        return self._sound


def _other_input(through: int) -> Problem:
    return Problem(
        f"the input has changed: there are results of items up to {through:,}, and some of these"
        " items are different now. Resume with the same input, or start over with --overwrite"
    )


def _ranges(numbers: set[int]) -> list[tuple[int, int]]:
    ranges: list[tuple[int, int]] = []
    for number in sorted(numbers):
        if ranges and ranges[-1][1] == number - 1:
            ranges[-1] = (ranges[-1][0], number)
        else:
            ranges.append((number, number))
    return ranges
