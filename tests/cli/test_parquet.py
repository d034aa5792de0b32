"""Parquet files in and out, and what kills in between make of them."""

import datetime as dt
import decimal
import os
import random
import subprocess
import sys
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from effort import effort

from servestream_client import JsonCodec
from servestream_client.cli import parquet
from servestream_client.cli.items import InputFormat
from servestream_client.cli.opening import open_source
from servestream_client.cli.parquet import rows_of, write_parquet
from servestream_client.cli.problems import Problem
from servestream_client.cli.sources import Changed, Place, payloads
from servestream_client.server import StreamService

ROWS = [{"text": f"row {number}", "number": number} for number in range(3000)]


def write(path, rows, **options) -> None:
    pq.write_table(pa.Table.from_pylist(rows), path, **options)


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "in.parquet"
    write(path, ROWS, row_group_size=700)
    return path


def opened(path):
    return open_source(str(path), InputFormat.PARQUET, "json")


def test_rows_are_objects(path):
    with opened(path) as source:
        assert [msgspec.json.decode(row) for row in payloads(source)] == ROWS
        assert source.done == source.size == 3000


@pytest.mark.parametrize("many", [0, 1, 699, 700, 701, 1400, 2999, 3000])
def test_behind_any_row_the_rest_is_found_again(path, many):
    with opened(path) as source:
        source.go_to(Place(0, 0, ""))
        source.digest.update(b"\n" * many)
        place = Place(many, many, source.digest.hexdigest())
    with opened(path) as source:
        source.go_to(place)
        rest = [msgspec.json.decode(piece.payload) for piece in source.pieces()]
    assert rest == ROWS[many:]
    if many:
        write(path, [{**ROWS[0], "number": -1}, *ROWS[1:]])
        with opened(path) as source, pytest.raises(Changed):
            source.go_to(place)


def test_values_become_what_json_has_for_them(tmp_path):
    path = tmp_path / "in.parquet"
    write(
        path,
        [
            {
                "day": dt.date(2026, 11, 29),
                "money": decimal.Decimal("1.50"),
                "raw": b"\xff",
                "nothing": None,
                "many": [1, 2],
            }
        ],
    )
    with opened(path) as source:
        (row,) = payloads(source)
    assert msgspec.json.decode(row) == {
        "day": "2026-11-29",
        "money": "1.50",
        "raw": "/w==",
        "nothing": None,
        "many": [1, 2],
    }


def test_what_is_no_parquet_file_is_said_in_words(tmp_path):
    path = tmp_path / "in.parquet"
    path.write_bytes(b"PAR1 and nothing else")
    with pytest.raises(Problem, match=r"in\.parquet is no Parquet file"), opened(path):
        pass
    with (
        pytest.raises(Problem, match="pass the file with --input"),
        open_source("-", InputFormat.PARQUET, "json"),
    ):
        pass


def test_lines_become_one_table_whatever_their_groups(tmp_path, monkeypatch):
    monkeypatch.setattr(parquet, "_GROUP", 2)
    output = tmp_path / "out.parquet"
    values = [{"a": 1}, {"a": 2.5, "b": "x"}, 7, {"a": None}, {"error": {"number": 5}}]
    rows_of(output).write_bytes(b"".join(msgspec.json.encode(value) + b"\n" for value in values))
    write_parquet(output)
    table = pq.read_table(output)
    assert table.to_pylist() == [
        {"a": 1.0, "b": None, "output": None, "error": None},
        {"a": 2.5, "b": "x", "output": None, "error": None},
        {"a": None, "b": None, "output": 7, "error": None},
        {"a": None, "b": None, "output": None, "error": None},
        {"a": None, "b": None, "output": None, "error": {"number": 5}},
    ]
    first = output.read_bytes()
    write_parquet(output)
    assert output.read_bytes() == first


def test_what_goes_into_no_table_is_kept_as_lines(tmp_path):
    output = tmp_path / "out.parquet"
    rows_of(output).write_bytes(b'{"a":1}\n{"a":"x"}\n')
    with pytest.raises(Problem, match=r"do not go into one table: .* They are in .*rows"):
        write_parquet(output)
    assert not output.exists()


def test_a_file_that_cannot_be_written_whole_leaves_the_one_that_is(tmp_path, monkeypatch):
    output = tmp_path / "out.parquet"
    rows_of(output).write_bytes(b'{"a":1}\n')
    write_parquet(output)
    before = output.read_bytes()

    def full(*_) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(pq.ParquetWriter, "write_table", full)
    with pytest.raises(OSError, match="No space"):
        write_parquet(output)
    assert output.read_bytes() == before


class Doubled(StreamService[dict, dict]):
    codec = JsonCodec(dict[str, Any], dict[str, Any])

    async def predict(self, item):
        if item["number"] == 13:
            raise ValueError("no")
        return {"text": item["text"] * 2, "number": item["number"] * 2}


@pytest.mark.parametrize("seed", range(effort(1, 10)))
def test_killed_at_random_the_file_is_the_same(make_stream_server, tmp_path, path, seed):
    rng = random.Random(seed)
    server = make_stream_server(Doubled)
    write(path, [{"text": "x" * (n % 90), "number": n} for n in range(20_000)], row_group_size=999)

    def command(output) -> list[str]:
        options = ["--codec", "json", "-i", str(path), "-o", str(output), "-k", "--resume"]
        return [sys.executable, "-m", "servestream_client.cli", "call", server.target, *options]

    plain, output = tmp_path / "plain.parquet", tmp_path / "out.parquet"
    assert subprocess.run(command(plain), check=False).returncode == 1, "an item fails"
    kills = 0
    while True:
        rows = rows_of(output)
        before = rows.stat().st_size if rows.exists() else 0
        wanted = before + rng.randrange(1, 900_000)
        process = subprocess.Popen(command(output), stderr=subprocess.DEVNULL)
        while process.poll() is None and (rows.stat().st_size if rows.exists() else 0) < wanted:
            os.sched_yield()
        ended = process.poll() is not None
        process.kill()
        process.wait()
        if ended:
            assert process.returncode == 1
            break
        kills += 1
    print(f"killed {kills} times")
    assert kills > 1
    assert output.read_bytes() == plain.read_bytes()
    table = pq.read_table(output).to_pylist()
    assert len(table) == 20_000
    assert table[13]["error"]["number"] == 14
    assert table[14]["number"] == 28


def test_options_for_parquet(servestream, make_stream_server, tmp_path, path):
    server = make_stream_server(Doubled)
    output = tmp_path / "out.parquet"
    command = ("call", server.target, "--codec", "json", "-i", path, "-o", output, "-k")
    code, _, err = servestream(*command)
    assert code == 2
    assert "needs --resume" in err
    output.write_bytes(b"mine")
    code, _, err = servestream(*command, "--resume")
    assert (code, output.read_bytes()) == (2, b"mine")
    assert "replace it with --overwrite" in err
    assert servestream(*command, "--resume", "--overwrite")[0] == 1
    assert pq.read_metadata(output).num_rows == 3000
    code, _, err = servestream(*command, "--resume", "--retry-failed")
    assert code == 1
    assert "1 item tried again, 0 with a result now" in err
