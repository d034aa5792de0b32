"""`servestream call --resume --retry-failed`: what failed once more, and its results in its place.

What comes of it goes into a file beside the output, with everything else of the output around it,
and takes the output's place once it is whole: killed before that, nothing has changed.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import msgspec

from servestream_client.cli.items import Unreadable
from servestream_client.cli.job import JobOptions, OpenStream, Shown
from servestream_client.cli.job_files import tail_of
from servestream_client.cli.journal import FailedItem, Journal, sync_directory
from servestream_client.cli.problems import Problem, errors
from servestream_client.cli.results import refuse_state, renumbered
from servestream_client.cli.show import count
from servestream_client.cli.show import progress as showing
from servestream_client.cli.sources import Source, readable
from servestream_client.errors import ItemError

__all__ = ["finish_replacement", "retry"]

_BLOCK = 1 << 20


def retry(
    journal: Journal,
    wanted: JobOptions,
    source: Source,
    show: Shown,
    open_stream: OpenStream,
) -> int:
    """Try the failed items of a job again.

    Returns:
        How many of its items failed, these counted anew.

    Raises:
        Problem: the input is another one.
        ServeStreamError: as for `SyncStreamClient`.
        OSError: a disk is full, or worse.
    """
    if not journal.progress.whole:
        raise Problem(
            f"{wanted.output} is not finished: run the same command without --retry-failed first"
        )
    if not journal.failed:
        if not wanted.quiet:
            errors().print("no item has failed")
        return 0
    failed = sorted(journal.failed, key=lambda item: item.number)
    output, beside = wanted.output, _beside(wanted.output)
    with output.open("rb") as old, beside.open("wb") as new:
        end = journal.progress.written
        page = _Page(old, new, failed, end=end, ordered=wanted.ordered)
        with (
            showing(source, mute=wanted.quiet) as tell,
            open_stream(_failed_ones(journal, failed, source, wanted)) as stream,
        ):
            by_number = {item.number: item for item in failed}
            for result in renumbered(stream, lambda sent: failed[sent - 1].number):
                if isinstance(result, ItemError):
                    item = by_number[result.number]
                    page.add(item, show(result), last=True, failed=True)
                else:
                    item, found = failed[result.number - 1], result.output
                    line = None if found is None else show(found)
                    page.add(item, line, last=result.last, failed=False)
                tell(stream.statistics)
            refuse_state(stream)
        page.rest()
        new.flush()
        os.fsync(new.fileno())
        size = new.tell()
    left = page.failed
    with beside.open("rb") as new:
        tail = tail_of(new, size)
    progress = msgspec.structs.replace(journal.progress, written=size, tail=tail, failed=len(left))
    sync_directory(beside)  # the file must be there before it is said to be
    journal.replace(progress, left)
    finish_replacement(journal, output)
    if not wanted.quiet:
        errors().print(
            f"{count(len(failed), 'item')} tried again, {len(failed) - len(left):,} with a result"
            " now"
        )
    return len(left)


def finish_replacement(journal: Journal, output: Path) -> None:
    """Put what is beside the output in its place, if that was decided."""
    if not journal.replacing:
        _beside(output).unlink(missing_ok=True)
        return
    if _beside(output).exists():  # or it was done, and not noted any more
        _beside(output).replace(output)
        sync_directory(output)
    journal.replaced()


def _beside(output: Path) -> Path:
    return output.with_name(output.name + ".retry")


def _failed_ones(
    journal: Journal, failed: list[FailedItem], source: Source, wanted: JobOptions
) -> Iterator[bytes | Unreadable]:
    numbers = {item.number for item in failed}
    last = failed[-1].number
    digest, passed, done = source.fresh_digest(), 0, journal.progress
    through, number = done.beyond[-1][1] if done.beyond else 0, 0
    pieces = source.pieces(wanted=lambda number: number in numbers)
    for number, piece in enumerate(pieces, 1):
        digest.update(piece.raw)
        if number <= done.items:
            passed += len(piece.raw)
        for place, expected in ((done.items, done.digest), (through, done.digest_beyond)):
            if number == place and digest.hexdigest() != expected:
                raise _other_input(wanted)
        if number in numbers:
            yield readable(piece.payload, keep_going=wanted.keep_going)
        if number >= max(last, done.items, through):
            break
    if passed != done.bytes or number < through:
        raise _other_input(wanted)


def _other_input(wanted: JobOptions) -> Problem:
    return Problem(
        f"the input has changed since {wanted.output} was written from it; the output is left as"
        " it is"
    )


class _Page:
    """The new output: the old one, but for what the items that failed have there.

    Invariant: of an ordered job, each item's results stand between those of its neighbours; of an
    unordered one, new results stand behind all others.
    """

    def __init__(
        self, old: BinaryIO, new: BinaryIO, failed: list[FailedItem], *, end: int, ordered: bool
    ) -> None:
        self.failed: list[FailedItem] = []
        """Those that failed again, and where that stands."""
        self._old, self._new = old, new
        self._ordered = ordered
        self._end = end
        self._copied = 0  # bytes of the old one that were copied, or left out
        self._held: dict[int, list[bytes]] = {}  # results of items that may have more
        if not ordered:
            for item in sorted(failed, key=lambda item: item.start):
                self._copy(item.start, go_on_at=item.end)
            self.rest()

    def add(self, item: FailedItem, line: bytes | None, *, last: bool, failed: bool) -> None:
        """A result of an item came; see `Job.add`."""
        held = self._held.setdefault(item.number, [])
        if line is not None:
            held.append(line)
        if not last:
            return
        if self._ordered:
            self._copy(item.start, go_on_at=item.end)
        start = self._new.tell()
        self._new.write(b"".join(self._held.pop(item.number)))
        if failed:
            self.failed.append(FailedItem(item.number, start, self._new.tell()))

    def rest(self) -> None:
        """What stands behind the last of them."""
        self._copy(self._end, go_on_at=self._end)

    def _copy(self, until: int, *, go_on_at: int) -> None:
        self._old.seek(self._copied)
        left = until - self._copied
        while left:
            block = self._old.read(min(left, _BLOCK))
            if not block:
                raise Problem("the output is shorter than its journal says; it is left as it is")
            self._new.write(block)
            left -= len(block)
        self._copied = go_on_at
