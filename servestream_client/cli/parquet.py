"""Parquet files: rows as items, and results as rows.

Rows are read by row groups. Results of a job are written as lines first, as those of any job, and
made into a Parquet file once they are all there: such a file has its index at its end, so that one
which is half written can be neither read nor continued.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO, cast

import msgspec

from servestream_client.cli.items import InputFormat, Unreadable, encoder
from servestream_client.cli.journal import sync_directory
from servestream_client.cli.problems import Problem
from servestream_client.cli.sources import Changed, Digest, Piece, Place, Source, new_digest

__all__ = ["ParquetSource", "rows_of", "write_parquet"]

_ROWS = 1024
"""Rows that are read at once."""

_GROUP = 65_536
"""Rows of a row group that is written."""

_BLOCK = 1 << 20

_ROW = b"\n"
"""Stands for a row where bytes are counted: where they are in the file says nothing."""


def pyarrow(module: str) -> Any:  # noqa: ANN401 — it has no types
    """A module of pyarrow.

    Raises:
        Problem: it is not installed.
    """
    try:
        return importlib.import_module(module)
    except ImportError:
        raise Problem(
            "pip install 'servestream-client[parquet]' brings what reads and writes Parquet files"
        ) from None


class ParquetSource(Source):
    """Rows of a Parquet file, as objects by the names of their columns.

    Args:
        file: the input.
        path: its name, for messages.
        codec: that of the service.

    Raises:
        Problem: it is no Parquet file.
    """

    def __init__(self, file: BinaryIO, path: str, codec: str) -> None:
        super().__init__(file, InputFormat.PARQUET, codec)
        self._encode_row = encoder(InputFormat.PARQUET, codec)
        self._rows_read = 0
        self._skipped = 0
        try:
            self._parquet = pyarrow("pyarrow.parquet").ParquetFile(file)
        except (pyarrow("pyarrow").ArrowException, OSError) as error:
            raise Problem(f"{path} is no Parquet file that can be read: {error}") from None

    @property
    def size(self) -> int | None:
        return cast("int", self._parquet.metadata.num_rows)

    @property
    def done(self) -> int:
        return self._rows_read

    def fresh_digest(self) -> Digest:
        """That of the whole file: any change of it may be one of any row."""
        digest = new_digest()
        with Path(f"/dev/fd/{self.file.fileno()}").open("rb") as file:
            while block := file.read(_BLOCK):
                digest.update(block)
        return digest

    def go_to(self, place: Place) -> None:
        self.begin_digest()
        for first in range(0, place.bytes, _BLOCK):
            self.digest.update(_ROW * min(_BLOCK, place.bytes - first))
        if place.bytes and self.digest.hexdigest() != place.digest:
            raise Changed
        self._skipped = place.bytes

    def pieces(self, *, wanted: Callable[[int], bool] | None = None) -> Iterator[Piece]:
        number = 0
        for row in self._values():
            number += 1
            if wanted is not None and not wanted(number):
                yield Piece(_ROW, b"")
                continue
            yield Piece(_ROW, self._encoded_row(row))

    def _values(self) -> Iterator[dict[str, Any]]:
        metadata = self._parquet.metadata
        left = self._skipped
        for group in range(metadata.num_row_groups):
            rows = metadata.row_group(group).num_rows
            if left >= rows:
                left -= rows
                self._rows_read += rows
                continue
            for batch in self._parquet.iter_batches(_ROWS, row_groups=[group]):
                skipped = min(left, batch.num_rows)
                left -= skipped
                self._rows_read += skipped
                for row in batch.slice(skipped).to_pylist():
                    self._rows_read += 1
                    yield row

    def _encoded_row(self, row: dict[str, Any]) -> bytes | Unreadable:
        try:
            return self._encode_row(row)
        except (TypeError, ValueError, OverflowError) as error:
            return Unreadable(f"row {self._rows_read} of the input cannot be sent: {error}")


# ---------------------------------------------------------------- out


def rows_of(output: Path) -> Path:
    """Where the lines are of which a Parquet file is made."""
    return output.with_name(output.name + ".rows")


def write_parquet(output: Path) -> None:
    """Make the file of the lines beside it, as a whole or not at all.

    Raises:
        Problem: they do not go into one table.
        OSError: a disk is full, or worse.
    """
    arrow, parquet = pyarrow("pyarrow"), pyarrow("pyarrow.parquet")
    lines = rows_of(output)
    try:
        schema = arrow.schema([])
        for rows in _groups(lines):
            # Not by `Table.from_pylist`, which has the columns of the first row only.
            names = dict.fromkeys(name for row in rows for name in row)
            found = arrow.table({name: [row.get(name) for row in rows] for name in names}).schema
            schema = arrow.unify_schemas([schema, found], promote_options="permissive")
        beside = output.with_name(output.name + ".writing")
        with beside.open("wb") as file:
            with parquet.ParquetWriter(file, schema) as writer:
                for rows in _groups(lines):
                    writer.write_table(arrow.Table.from_pylist(rows, schema=schema))
            file.flush()
            os.fsync(file.fileno())
    except (arrow.ArrowException, OverflowError, msgspec.DecodeError) as error:
        raise Problem(
            f"the results do not go into one table: {error}. They are in {lines}, one a line"
        ) from None
    beside.replace(output)
    sync_directory(output)


def _groups(lines: Path) -> Iterator[list[dict[str, Any]]]:
    rows: list[dict[str, Any]] = []
    with lines.open("rb") as file:
        for line in file:
            value = msgspec.json.decode(line)
            rows.append(value if isinstance(value, dict) else {"output": value})
            if len(rows) == _GROUP:
                yield rows
                rows = []
    if rows:
        yield rows
