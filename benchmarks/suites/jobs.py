"""What it costs to keep results exactly once: batches into SQLite beside the stream alone.

Each transaction has 1,000 outputs and their cursor. Once for an echo, where all that there is to do
is to carry items and to insert rows, and once for a model.
"""

from __future__ import annotations

import asyncio
import itertools
import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

from benchmarks.bench import Bench, Suite
from benchmarks.measure import Contender, MeasurementError
from benchmarks.servers import Mode
from servestream_client import Cursor, SyncStreamClient

ITEM = bytes(range(100))
BATCH = 1000
"""Outputs in a transaction."""

ALONE, KEPT = "the stream alone", "batches into SQLite"


def alone(client: SyncStreamClient[Any, Any], item: object) -> Contender:
    """Outputs that nobody keeps."""

    def iterate(items: int) -> None:
        _check(sum(1 for _ in client.stream(itertools.repeat(item, items))), items)

    async def run(items: int) -> None:
        await asyncio.to_thread(iterate, items)

    return Contender(ALONE, run, least=BATCH)


def kept(client: SyncStreamClient[Any, Any], item: object) -> Contender:
    """Outputs and cursor in one transaction."""

    def iterate(items: int) -> None:
        stream = client.stream(itertools.repeat(item, items), cursor=Cursor())
        with tempfile.TemporaryDirectory() as folder:
            database = sqlite3.connect(Path(folder) / "results.db")
            with closing(database):
                database.execute("CREATE TABLE results (number INTEGER PRIMARY KEY, output BLOB)")
                database.execute("CREATE TABLE job (cursor BLOB)")
                database.execute("INSERT INTO job VALUES (?)", (bytes(Cursor()),))
                numbers = itertools.count()
                for batch in stream.batches(BATCH):
                    with database:
                        database.executemany(
                            "INSERT INTO results VALUES (?, ?)", _rows(numbers, batch.outputs)
                        )
                        database.execute("UPDATE job SET cursor = ?", (bytes(batch.cursor),))
                (rows,) = database.execute("SELECT count(*) FROM results").fetchone()
        _check(rows, items)

    async def run(items: int) -> None:
        await asyncio.to_thread(iterate, items)

    return Contender(KEPT, run, least=BATCH)


def _rows(numbers: Iterator[int], outputs: list[Any]) -> list[tuple[int, object]]:
    if isinstance(outputs[0], bytes):
        return list(zip(numbers, outputs, strict=False))
    return [(number, output.digit) for number, output in zip(numbers, outputs, strict=False)]


def _check(returned: int, items: int) -> None:
    if returned != items:
        raise MeasurementError(f"{returned} of {items} items came back")


async def run(bench: Bench) -> None:
    """Either way, for an echo and for the classifier."""
    # Not at the top: scikit-learn's many objects would slow every garbage collection of a run.
    from servestream_client.demo.model import DigitsCodec, digits  # noqa: PLC0415

    servers = bench.servers
    with servers.blocking_client("echo") as client:
        await _compare(bench, client, ITEM, "an echo")
    classifier = "digits:64:0.0" if servers.mode is Mode.PLAIN else "digits"
    target = servers.require(classifier)
    application = "" if servers.mode is Mode.PLAIN else "digits"
    with SyncStreamClient(target, application=application, codec=DigitsCodec()) as client:
        await _compare(bench, client, digits()[0][0], "a classifier")


async def _compare(
    bench: Bench, client: SyncStreamClient[Any, Any], item: object, service: str
) -> None:
    rates = await bench.rates([alone(client, item), kept(client, item)], where=service)
    bench.compare(f"{service}, {KEPT} over {ALONE}", rates[KEPT], rates[ALONE])


SUITE = Suite(
    name="jobs",
    about="outputs and a cursor into SQLite, 1,000 a transaction, against the stream alone",
    run=run,
)
