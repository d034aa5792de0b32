"""The files of a job: whether they are still as it left them."""

from __future__ import annotations

import os
import zlib
from pathlib import Path
from typing import Any, BinaryIO

from servestream_client.cli.journal import Journal, sync_directory
from servestream_client.cli.problems import Problem
from servestream_client.cli.sources import Changed, Place, Source

__all__ = ["check_same", "go_on", "holds_something", "open_output", "tail_of"]

_TAIL_BYTES = 4096
"""Bytes of the output's end that are looked at when it is resumed."""


def check_same(journal: Journal, job: dict[str, Any], output: Path) -> None:
    """That the journal is that of this job.

    Raises:
        Problem: it is not; says what is another.
    """
    known = journal.job or {}
    others = [
        f"{name.replace('_', ' ')} was {known.get(name)!r}, and is {value!r}"
        for name, value in job.items()
        if known.get(name) != value
    ]
    if others:
        raise Problem(
            f"{output} belongs to another job: {'; '.join(others)}. Run the same command to resume"
            " it, or start over with --overwrite"
        )


def go_on(journal: Journal, source: Source, output: Path) -> None:
    """Move the source to the first item that is not done.

    Raises:
        Problem: the input is another one.
    """
    done = journal.progress
    try:
        source.go_to(Place(done.bytes, done.lines, done.digest))
    except Changed:
        raise Problem(
            f"the input has changed: {output} has the results of its first {done.items:,} items,"
            f" and these {done.bytes:,} bytes are different now. Resume with the same input, or"
            " start over with --overwrite"
        ) from None


def open_output(journal: Journal, output: Path) -> BinaryIO:
    """The output, with what the journal counts and nothing behind it.

    Raises:
        Problem: it is not what was written there.
    """
    written = journal.progress.written
    try:
        file = output.open("r+b" if output.exists() else "x+b", buffering=0)
    except OSError as error:
        raise Problem(f"{output}: {error.strerror}") from None
    try:
        size = os.fstat(file.fileno()).st_size
        if size < written or tail_of(file, written) != journal.progress.tail:
            raise Problem(
                f"{output} has changed since its job last wrote to it: it had {written:,} bytes"
                f" then, and has {size:,} now, or others. Start over with --overwrite"
            )
        file.truncate(written)
        file.seek(written)
        if not written:
            sync_directory(output)
    except BaseException:
        file.close()
        raise
    return file


def tail_of(output: BinaryIO, end: int) -> int:
    """A checksum of what is there before that place."""
    start = max(0, end - _TAIL_BYTES)
    return zlib.crc32(os.pread(output.fileno(), end - start, start))


def holds_something(output: Path) -> bool:
    """Whether there is such a file, and it is not empty."""
    return output.is_file() and output.stat().st_size > 0
