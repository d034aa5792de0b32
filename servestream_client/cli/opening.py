"""The input of a command, opened as what it is."""

from __future__ import annotations

import bz2
import csv
import gzip
import importlib
import lzma
import os
import stat
import sys
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path, PurePath
from typing import Any, BinaryIO, cast

from servestream_client.cli.items import (
    COMPRESSED,
    LONGEST_FRAME,
    STANDARD,
    InputFormat,
    standard_input,
)
from servestream_client.cli.parquet import ParquetSource
from servestream_client.cli.problems import Problem
from servestream_client.cli.sources import Source
from servestream_client.wire.compressed import MODULE

__all__ = ["open_source"]


@contextmanager
def open_source(path: str, form: InputFormat, codec: str) -> Iterator[Source]:
    """Open the input.

    Raises:
        Problem: it cannot be opened, or not be read in that form.
    """
    csv.field_size_limit(LONGEST_FRAME)
    if path == STANDARD and form is InputFormat.PARQUET:
        raise Problem("Parquet cannot be read from standard input; pass the file with --input")
    if path == STANDARD:
        file = standard_input()
        try:
            yield Source(file, form, codec)
        finally:
            # A thread may be waiting in a read of what has no end, and closing would wait for it.
            if file.seekable():
                file.close()
        return
    with _opened(path) as file:
        suffix = PurePath(path).suffix.lower()
        if form is InputFormat.PARQUET:
            yield ParquetSource(file, path, codec)
            return
        if suffix not in COMPRESSED:
            yield Source(file, form, codec)
            return
        with _decompressed(file, suffix) as plain:
            yield Source(cast("BinaryIO", _Readable(plain, path)), form, codec, compressed=file)


@contextmanager
def _opened(path: str) -> Iterator[BinaryIO]:
    try:
        file = Path(path).open("rb")  # noqa: SIM115 — it is closed below
    except OSError as error:
        raise Problem(f"{path}: {error.strerror}") from None
    try:
        yield file
    finally:
        # As for standard input, a pipe may have a reader that waits.
        if stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            file.close()


@contextmanager
def _decompressed(file: BinaryIO, suffix: str) -> Iterator[Any]:
    opens: dict[str, Callable[[BinaryIO], Any]] = {
        ".gz": gzip.open,
        ".bz2": bz2.open,
        ".xz": lzma.open,
        ".zst": lambda packed: _zstd().open(packed),
    }
    with opens[suffix](file) as plain:
        yield plain


def _zstd() -> Any:  # noqa: ANN401 — mypy knows neither of the two
    """Python's module from 3.14 on, and what brings it to those before.

    Raises:
        Problem: it is not installed.
    """
    brought = sys.version_info >= (3, 14)
    try:
        return importlib.import_module(MODULE)
    except ImportError:
        raise Problem(
            "this Python was built without zstd, which reads .zst files; decompress it first"
            if brought
            else "pip install 'servestream-client[zstd]' brings what reads .zst files"
        ) from None


class _Readable:
    """A compressed file whose faults are said in words."""

    def __init__(self, file: Any, path: str) -> None:  # noqa: ANN401
        self._file = file
        self._path = path
        self._faults: tuple[type[Exception], ...] = (
            EOFError, OSError, lzma.LZMAError, zlib.error, ValueError,
        )  # fmt: skip
        if path.lower().endswith(".zst"):
            self._faults += (_zstd().ZstdError,)

    def __iter__(self) -> Iterator[bytes]:
        with self._in_words():
            # Not `yield from`, which closes the file when somebody stops in the midst of it.
            for line in self._file:  # noqa: UP028
                yield line

    def read(self, size: int) -> bytes:
        with self._in_words():
            return cast("bytes", self._file.read(size))

    @contextmanager
    def _in_words(self) -> Iterator[None]:
        try:
            yield
        except self._faults as error:
            raise Problem(f"{self._path} cannot be decompressed: {error}") from None
