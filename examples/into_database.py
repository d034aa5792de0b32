"""Predictions into a database, each of them once, however often this script is killed.

    make serve APPLICATIONS=echo                          # in another terminal
    python examples/into_database.py in.txt results.db    # SQLite; perhaps another host:port
    python examples/into_database.py in.txt "postgresql://user@host/database"

Run the same command again, after whatever ended it, until it ends by itself. Outputs and the cursor
behind them go into one transaction: either both are there, or neither is.
"""

import sqlite3
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from servestream_client import Cursor, SyncStreamClient

BATCH = 1000
"""Outputs of a transaction."""

TABLES = (
    "CREATE TABLE IF NOT EXISTS results (number BIGINT PRIMARY KEY, output TEXT)",
    "CREATE TABLE IF NOT EXISTS job (id INTEGER PRIMARY KEY, state TEXT)",
)


KEEP_RESULT = "INSERT INTO results VALUES (?, ?)"
BEGIN_JOB = "INSERT INTO job VALUES (1, ?)"
KEEP_CURSOR = "UPDATE job SET state = ?"


def connect(database: str) -> tuple[Any, str]:
    """A connection, and what stands for a value in its statements."""
    if database.startswith("postgresql:"):
        import psycopg  # noqa: PLC0415 — only who has such a database needs it

        return psycopg.connect(database), "%s"
    return sqlite3.connect(database), "?"


def lines(path: Path) -> Iterator[bytes]:
    """The file's lines, without their ends."""
    with path.open("rb") as file:
        for line in file:
            yield line.rstrip(b"\n")


def main(source: str, database: str, target: str = "127.0.0.1:9000") -> None:
    """Send each line, and keep each result under its line's number."""
    db, value = connect(database)
    cursor = db.cursor()
    for table in TABLES:
        cursor.execute(table)
    db.commit()
    cursor.execute("SELECT state FROM job")
    row = cursor.fetchone()
    if row is None:
        cursor.execute(BEGIN_JOB.replace("?", value), (bytes(Cursor()).decode(),))
    done = Cursor() if row is None else Cursor.from_bytes(row[0].encode())
    print(f"resuming after {done.position:,} lines", flush=True)
    with SyncStreamClient(target, application="echo") as client:
        stream = client.stream(lines(Path(source)), cursor=done, numbered=True)
        for batch in stream.batches(BATCH):
            results = [(each.number, each.output.decode()) for each in batch.outputs]
            cursor.executemany(KEEP_RESULT.replace("?", value), results)
            cursor.execute(KEEP_CURSOR.replace("?", value), (bytes(batch.cursor).decode(),))
            db.commit()
            print(f"{batch.cursor.position:,} lines are kept", flush=True)
    db.close()


if __name__ == "__main__":
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    main(*sys.argv[1:])
