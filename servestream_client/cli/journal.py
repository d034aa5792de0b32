"""The journal of a job: what of it is done for certain, beside its output.

Invariant: a record is in the file whole or does not count, and what it says of the output was
durable before. So whenever the process or the machine dies, the last whole record tells where to go
on, and what stands in the output behind that is cut off.

Each record is a line: a checksum, and a JSON object with one key that says what it is. `job` begins
(again), `run` notes a process, `at` is progress. When they have become many, a new file with a few
that say the same takes the old one's place.
"""

from __future__ import annotations

import fcntl
import os
import stat
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from servestream_client.cli.problems import Problem

__all__ = ["FailedItem", "Journal", "Progress", "journal_of", "open_journal", "sync_directory"]

_VERSION = 1

_MOST_BYTES = 1 << 20
"""A journal that is larger is written anew..."""

_GROWTH = 4
"""...once it is so many times as large as it was when it was last written anew."""


class FailedItem(msgspec.Struct, frozen=True, array_like=True):
    """An item that failed, and where its results stand in the output.

    Attributes:
        number: of the item, from 1.
        start: where its results begin, in bytes.
        end: where they end; the last of them tells the failure.
    """

    number: int
    start: int
    end: int


class Progress(msgspec.Struct, frozen=True, kw_only=True):
    """What is done.

    Attributes:
        items: the first ones, whose results are all written.
        bytes: how much of the input these are, decompressed.
        lines: the ends of lines among them.
        digest: theirs.
        beyond: further items whose results are written, as ranges, both ends included; sorted.
        digest_beyond: of all to the last of these.
        written: bytes of the output; none, or whole items' results.
        tail: a checksum of the last of these.
        whole: whether the input had no more.
        failed: how many of the items failed.
    """

    items: int = 0
    bytes: int = 0
    lines: int = 0
    digest: str = ""
    beyond: list[tuple[int, int]] = msgspec.field(default_factory=list)
    digest_beyond: str = ""
    written: int = 0
    tail: int = 0
    whole: bool = False
    failed: int = 0


@dataclass(slots=True)
class Journal:
    """An open journal, which nobody else has open.

    Attributes:
        path: the file.
        job: what the job is; None: it is new.
        progress: what of it is done.
        failed: those of its items that failed.
        replacing: whether a file beside the output holds what is to be in its place.
    """

    path: Path
    job: dict[str, Any] | None = None
    progress: Progress = field(default_factory=Progress)
    failed: list[FailedItem] = field(default_factory=list)
    replacing: bool = False
    _descriptor: int = -1
    _size: int = 0
    _limit: int = 0  # bytes, besides _MOST_BYTES

    def begin(self, job: dict[str, Any]) -> None:
        """From here on it is that job, of which nothing is done."""
        self._append({"job": {"version": _VERSION, **job}})
        sync_directory(self.path)
        self.job, self.progress, self.failed, self.replacing = job, Progress(), [], False

    def run(self) -> None:
        """Note that this process works on it, for whoever comes too."""
        self._append({"run": {"pid": os.getpid()}}, durable=False)

    def note(self, progress: Progress, failed: list[FailedItem]) -> None:
        """So much is done, and durable in the output; these have failed besides those known."""
        self._append({"at": {"progress": progress, "failed": failed}})
        self.progress = progress
        self.failed.extend(failed)
        if self._size > max(_MOST_BYTES, self._limit):
            self._compact()

    def replace(self, progress: Progress, failed: list[FailedItem]) -> None:
        """What is beside the output is durable, and is to take its place, with this progress."""
        self._append({"replace": {"progress": progress, "failed": failed}})
        self.progress, self.failed, self.replacing = progress, list(failed), True

    def replaced(self) -> None:
        """The output is that file now."""
        self._append({"replaced": {}})
        self.replacing = False

    def _append(self, record: dict[str, object], *, durable: bool = True) -> None:
        self._size += _write(self._descriptor, record)
        if durable:
            os.fsync(self._descriptor)

    def _compact(self) -> None:
        """Write it anew. Where that fails, such as on a full disk, the old one serves."""
        self._limit = 2 * self._size
        with suppress(OSError):
            path, beside = self.path.resolve(), _beside(self.path)
            descriptor = os.open(beside, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o666)
            try:
                # Locked before anybody can find it where the journal was.
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                _make_alike(descriptor, os.fstat(self._descriptor))
                size = _write(descriptor, {"job": {"version": _VERSION, **(self.job or {})}})
                size += _write(descriptor, {"run": {"pid": os.getpid()}})
                whole = {"progress": self.progress, "failed": self.failed}
                size += _write(descriptor, {"at": whole})
                os.fsync(descriptor)
                beside.replace(path)
            except BaseException:
                os.close(descriptor)
                beside.unlink(missing_ok=True)
                raise
            before, self._descriptor, self._size = self._descriptor, descriptor, size
            self._limit = _GROWTH * size
            os.close(before)
            sync_directory(path)

    # ---------------------------------------------------------------- reading

    def _read(self) -> None:
        """Take what is there, and cut off what is torn."""
        with os.fdopen(os.dup(self._descriptor), "rb") as file:
            file.seek(0)
            whole = 0
            for line in file:
                record = _record(line)
                if record is None:
                    break
                self._apply(record)
                whole += len(line)
        os.ftruncate(self._descriptor, whole)
        os.lseek(self._descriptor, whole, os.SEEK_SET)
        self._size = whole

    def _apply(self, record: dict[str, Any]) -> None:
        if "job" in record:
            job = dict(record["job"])
            if job.pop("version", None) != _VERSION:
                raise Problem(f"{self.path} was written by another version of this command")
            self.job, self.progress, self.failed, self.replacing = job, Progress(), [], False
        elif "at" in record or "replace" in record:
            replaces = "replace" in record
            found = record["replace" if replaces else "at"]
            self.progress = msgspec.convert(found["progress"], Progress)
            failed = msgspec.convert(found["failed"], list[FailedItem])
            if replaces:
                self.failed = failed
            else:
                self.failed.extend(failed)
            self.replacing = replaces
        elif "replaced" in record:
            self.replacing = False


def journal_of(output: Path) -> Path:
    """Where the journal of an output is."""
    return output.with_name(output.name + ".job")


@contextmanager
def open_journal(output: Path, *, create: bool) -> Iterator[Journal | None]:
    """The journal of an output, locked.

    Args:
        output: where results go.
        create: whether to begin one where there is none; else that gives None.

    Raises:
        Problem: another process has it, or it cannot be opened.
    """
    path = journal_of(output)
    try:
        descriptor = _locked(path, output, create=create)
    except FileNotFoundError:
        if create:
            raise Problem(f"{path}: there is no such directory") from None
        yield None
        return
    except OSError as error:
        raise Problem(f"{path}: {error.strerror}") from None
    journal = Journal(path, _descriptor=descriptor)
    try:
        _beside(path).unlink(missing_ok=True)  # of a process that died as it wrote one anew
        journal._read()  # noqa: SLF001 — its own module
        yield journal
    finally:
        os.close(journal._descriptor)  # noqa: SLF001


def _locked(path: Path, output: Path, *, create: bool) -> int:
    """A descriptor of the file that is there, which nobody else has locked."""
    while True:
        descriptor = os.open(path, os.O_RDWR | (os.O_CREAT if create else 0), 0o666)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # Whoever had it may have put another in its place, or removed it, in between.
            with suppress(FileNotFoundError):
                if os.path.samestat(os.fstat(descriptor), path.stat()):
                    return descriptor
        except BlockingIOError:
            os.close(descriptor)
            raise Problem(
                f"another process{_runner(path)} is working on {output}; wait for it, or stop it"
            ) from None
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)


def _beside(path: Path) -> Path:
    """Where a journal is that is to take its place."""
    path = path.resolve()
    return path.with_name(path.name + ".new")


def _make_alike(descriptor: int, other: os.stat_result) -> None:
    """Give a file the mode and, where that is allowed, the owner of another one."""
    with suppress(PermissionError):
        os.fchown(descriptor, other.st_uid, other.st_gid)
    os.fchmod(descriptor, stat.S_IMODE(other.st_mode))


def _write(descriptor: int, record: dict[str, Any]) -> int:
    """Append a record; returns its bytes."""
    text = msgspec.json.encode(record)
    line = memoryview(b"%08x %b\n" % (zlib.crc32(text), text))
    size = len(line)
    while line:
        line = line[os.write(descriptor, line) :]
    return size


def sync_directory(path: Path) -> None:
    """Make durable that a file is there, or has another name."""
    descriptor = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _record(line: bytes) -> dict[str, Any] | None:
    """None: it is torn, or no record."""
    checksum, _, text = line.partition(b" ")
    if not text.endswith(b"\n") or checksum != b"%08x" % zlib.crc32(text[:-1]):
        return None
    return msgspec.json.decode(text, type=dict[str, Any])


def _runner(path: Path) -> str:
    pid = None
    with suppress(FileNotFoundError), path.open("rb") as file:
        for line in file:
            record = _record(line)
            if record is not None and "run" in record:
                pid = record["run"]["pid"]
    return "" if pid is None else f" ({pid})"
