"""Jobs that are killed anywhere, and machines that lose what was not made durable."""

import io
import itertools
import math
import os
import queue
import random
import threading
from pathlib import Path

import pytest

from servestream_client.cli import job as job_module
from servestream_client.cli import journal as journal_module
from servestream_client.cli.items import InputFormat
from servestream_client.cli.job import Job
from servestream_client.cli.job_files import go_on, open_output
from servestream_client.cli.journal import journal_of, open_journal
from servestream_client.cli.problems import Problem
from servestream_client.cli.sources import Source


def lines(many: int) -> bytes:
    return b"".join(b"item %d\n" % number for number in range(1, many + 1))


class Died(Exception):  # noqa: N818 — it is no error of anybody's
    """The process is no more."""


class Disk:
    """Notes what is durable, as of each fsync; all else a power cut may take."""

    def __init__(self, rng: random.Random, monkeypatch: pytest.MonkeyPatch) -> None:
        self.durable: dict[Path, bytes] = {}
        self.left = 0  # writes, renames, and calls of fsync, until the process dies
        self.renames = 0
        self._replaced: dict[Path, bytes] = {}  # what a rename that is not durable took away
        self._rng = rng
        self._fsync, self._write, self._replace = os.fsync, os.write, os.replace
        monkeypatch.setattr(os, "fsync", self.fsync)
        monkeypatch.setattr(os, "write", self.write)
        monkeypatch.setattr(os, "replace", self.replace)

    def fsync(self, descriptor: int) -> None:
        self.left -= 1
        if self.left <= 0:
            raise Died
        self._fsync(descriptor)
        path = Path(f"/proc/self/fd/{descriptor}").readlink()
        if path.is_file():
            self.durable[path] = path.read_bytes()
        else:
            self._replaced.clear()

    def replace(self, source: Path, target: Path) -> None:
        self.left -= 1
        if self.left <= 0:
            raise Died
        # The old one, as it is for certain.
        self._replaced.setdefault(target, self.durable.get(target, b""))
        self._replace(source, target)
        self.durable[target] = self.durable.pop(source, b"")
        self.renames += 1

    def write(self, descriptor: int, data: bytes) -> int:
        self.left -= 1
        if self.left > 0:
            return self._write(descriptor, data)
        # It is cut off in its midst.
        self._write(descriptor, bytes(data[: self._rng.randrange(len(data))]))
        raise Died

    def cut_power(self, *paths: Path) -> None:
        for path, content in self._replaced.items():
            if self._rng.randrange(2):
                path.write_bytes(content)
                self.durable[path] = content
        self._replaced.clear()
        for path in paths:
            if not path.exists():
                continue
            durable = self.durable.get(path, b"")
            behind = path.read_bytes()[len(durable) :]
            kept = bytearray(behind[: self._rng.randrange(len(behind) + 1)])
            for _ in range(self._rng.randrange(2) if kept else 0):
                kept[self._rng.randrange(len(kept))] ^= 255
            path.write_bytes(durable + kept)


def result_of(payload: bytes, number: int, many: int) -> list[bytes]:
    return [b"%d %d of %b\n" % (number, part, payload) for part in range(many)]


def run(output, data: bytes, rng: random.Random, *, ordered: bool, many: int) -> None:
    with open_journal(output, create=True) as journal:
        if journal.job is None:
            # The command would say that the output is not its own.
            assert not output.exists() or not output.stat().st_size
            journal.begin({})
        source = Source(io.BytesIO(data), InputFormat.TEXT, "bytes")
        go_on(journal, source, output)
        with open_output(journal, output) as file:
            job = Job(journal, source, file, ordered=ordered)
            under_way: list[tuple[int, list[bytes]]] = []

            def answer() -> None:
                number, results = under_way[0 if ordered else rng.randrange(len(under_way))]
                line = results.pop(0)
                if not results:
                    under_way.remove((number, results))
                job.add(number, line, last=not results, failed=number % 7 == 0 and not results)
                if rng.randrange(10) == 0:
                    job.save()

            for sent, payload in enumerate(job.inputs(), 1):
                number = job.number_of(sent)
                under_way.append((number, result_of(payload, number, many)))
                while under_way and rng.randrange(3):
                    answer()
            while under_way:
                answer()
            job.save()


@pytest.mark.parametrize(("many", "ordered"), [*itertools.product([1, 3], [True, False])])
@pytest.mark.parametrize("power", [True, False])
@pytest.mark.parametrize("seed", range(4))
def test_killed_at_any_write_it_ends_as_undisturbed(
    tmp_path, monkeypatch, seed, power, *, ordered, many
):
    rng = random.Random(f"{seed} {power} {ordered} {many}")
    monkeypatch.setattr(job_module, "_BLOCK", 50)
    monkeypatch.setattr(journal_module, "_MOST_BYTES", 600)
    disk = Disk(rng, monkeypatch)
    data = lines(150)
    output = tmp_path / "out"
    deaths = 0
    for _ in range(1000):
        # More and more, so that it comes to its end.
        disk.left = rng.randrange(1, 15 + 2 * deaths)
        try:
            run(output, data, rng, ordered=ordered, many=many)
            break
        except Died:
            deaths += 1
            if power:
                disk.cut_power(output, journal_of(output))
    assert deaths > 3
    assert disk.renames > 0
    expected = [
        line for number in range(1, 151) for line in result_of(b"item %d" % number, number, many)
    ]
    written = output.read_bytes().splitlines(keepends=True)
    if ordered:
        assert written == expected
    else:
        assert sorted(written) == sorted(expected)
        # An item's results stand together, in their order.
        groups = [written[at : at + many] for at in range(0, len(written), many)]
        assert all(group == sorted(group) for group in groups)
        assert all(len({line.split()[0] for line in group}) == 1 for group in groups)
    with open_journal(output, create=False) as journal:
        assert journal.progress.items == 150
        assert sorted(item.number for item in journal.failed) == list(range(7, 151, 7))
        assert journal.progress.failed == 21
        content = output.read_bytes()
        for item in journal.failed:
            found = content[item.start : item.end].splitlines(keepends=True)
            assert found == result_of(b"item %d" % item.number, item.number, many)


@pytest.mark.parametrize("changed", [b"a\nX\nb\nc\nd\n", b"a\nb\nX\nd\n", b"a\nb\nc\n"])
def test_items_that_are_done_behind_others_must_be_the_same(journal, output, changed):
    """An unordered job; none of the others among them is sent before that is sure."""
    with open_output(journal, output) as file:
        source = Source(io.BytesIO(b"a\nb\nc\nd\n"), InputFormat.TEXT, "bytes")
        job = Job(journal, source, file, ordered=False)
        assert len(list(job.inputs())) == 4
        for number in (1, 3, 4):
            job.add(number, b"x\n", last=True)
        job.save()
    assert journal.progress.beyond == [(3, 4)]
    for data in (b"a\nb\nc\nd\ne\n", changed):
        source = Source(io.BytesIO(data), InputFormat.TEXT, "bytes")
        go_on(journal, source, output)
        with open_output(journal, output) as file:
            inputs = Job(journal, source, file, ordered=False).inputs()
            if data == changed:
                with pytest.raises(Problem, match="the input has changed"):
                    next(inputs)
            else:
                assert list(inputs) == [b"b", b"e"]


def test_memory_in_bytes_is_bounded_too(journal, output, monkeypatch):
    monkeypatch.setattr(job_module, "_MOST_BYTES", 30)
    source = Source(io.BytesIO(lines(100)), InputFormat.TEXT, "bytes")
    with open_output(journal, output) as file:
        job = Job(journal, source, file, ordered=False)
        inputs = job.inputs()
        pulled = 0
        while job._may_go_on():
            next(inputs)
            pulled += 1
            if pulled > 1:
                job.add(pulled, b"x\n", last=True)
            if job._bytes_pulled + 7 > 30:
                break
        assert pulled == 4
        job.add(1, b"x\n", last=True)
        assert job._bytes_pulled == job._bytes_done


def test_what_is_not_saved_yet_takes_no_memory(journal, output, monkeypatch):
    """A disk that was slow once is not asked again for long."""
    monkeypatch.setattr(job_module, "_BLOCK", 100)
    with open_output(journal, output) as file:
        job = Job(
            journal, Source(io.BytesIO(lines(1000)), InputFormat.TEXT, "bytes"), file, ordered=True
        )
        job._next_save = math.inf
        for number, _ in enumerate(job.inputs(), 1):
            job.add(number, b"x\n", last=True)
            job.save_at_times()
            assert sum(map(len, job._passed)) < 200
            assert not job._raw
            assert sum(map(len, job._buffer)) < 200
        assert journal.progress.items == 0
        job.save()
    assert journal.progress.lines == 1000
    source = Source(io.BytesIO(lines(1000)), InputFormat.TEXT, "bytes")
    go_on(journal, source, output)
    assert not list(source.pieces())


def test_much_that_is_not_saved_is_saved_before_its_time(journal, output, monkeypatch):
    monkeypatch.setattr(job_module, "_BLOCK", 10)
    monkeypatch.setattr(job_module, "_UNSAVED_BYTES", 300)
    with open_output(journal, output) as file:
        job = Job(
            journal, Source(io.BytesIO(lines(100)), InputFormat.TEXT, "bytes"), file, ordered=True
        )
        for number, _ in enumerate(job.inputs(), 1):
            job._next_save = math.inf
            job.add(number, b"x\n", last=True)
            job.save_at_times()
        assert journal.progress.items > 60


def test_what_could_not_be_written_is_not_noted(journal, output, monkeypatch):
    source = Source(io.BytesIO(lines(3)), InputFormat.TEXT, "bytes")
    with open_output(journal, output) as file:
        job = Job(journal, source, file, ordered=True)
        list(job.inputs())
        job.add(1, b"one\n", last=True)
        job.save()
        job.add(2, b"two\n", last=True)

        def full(descriptor: int, data: bytes) -> int:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(os, "write", full)
        with pytest.raises(OSError, match="No space"):
            job.save()
        monkeypatch.undo()
        assert not job.save_what_can_be()
        assert job.saved == 1
    assert journal.progress.items == 1
    assert journal.progress.written == 4


def test_an_unordered_job_does_not_run_away_from_its_oldest_item(journal, output, monkeypatch):
    monkeypatch.setattr(job_module, "_MOST_BEYOND", 10)
    source = Source(io.BytesIO(lines(100)), InputFormat.TEXT, "bytes")
    with open_output(journal, output) as file:
        job = Job(journal, source, file, ordered=False)
        waits, pulled = threading.Event(), queue.SimpleQueue()

        class Room(threading.Condition):
            def wait_for(self, predicate, timeout=None):
                waits.set()
                return super().wait_for(predicate, timeout)

        job._room = Room()
        inputs = job.inputs()
        for number in range(1, 11):
            next(inputs)
            if number > 1:
                job.add(number, b"x\n", last=True)
        threading.Thread(target=lambda: pulled.put(next(inputs)), daemon=True).start()
        assert waits.wait(30)
        job.save()
        assert (job.items, journal.progress.beyond) == (0, [(2, 10)])
        assert pulled.empty()
        job.add(1, b"x\n", last=True)
        assert pulled.get(timeout=30) == b"item 11"
        job.save()
        assert (job.items, journal.progress.beyond) == (10, [])
