import bz2
import gzip
import importlib
import lzma
import sys

import pytest

from servestream_client.cli.items import InputFormat
from servestream_client.cli.opening import open_source
from servestream_client.cli.problems import Problem
from servestream_client.cli.sources import Place, payloads

LINES = b'{"a": 1}\n\n{ "a" :2}\r\n  \n{"a":3}'

zstd = importlib.import_module(
    "compression.zstd" if sys.version_info >= (3, 14) else "backports.zstd"
)


COMPRESSED = pytest.mark.parametrize(
    ("suffix", "compress"),
    [
        ("gz", gzip.compress),
        ("bz2", bz2.compress),
        ("xz", lzma.compress),
        ("zst", zstd.compress),
    ],
)


@COMPRESSED
def test_compressed_files_are_read_as_what_is_in_them(tmp_path, suffix, compress):
    path = tmp_path / f"in.jsonl.{suffix}"
    path.write_bytes(compress(LINES))
    with open_source(str(path), InputFormat.JSON, "json") as opened:
        assert len(list(payloads(opened))) == 3
        assert opened.done == opened.size == path.stat().st_size
    path.write_bytes(compress((LINES + b"\n") * 1000)[:-9])
    with (
        open_source(str(path), InputFormat.JSON, "json") as opened,
        pytest.raises(Problem, match="cannot be decompressed"),
    ):
        list(payloads(opened))


def test_files_that_were_compressed_in_parts_are_read_whole(tmp_path):
    path = tmp_path / "in.jsonl.zst"
    path.write_bytes(zstd.compress(b'{"a": 1}\n{"a"') + zstd.compress(b": 2}\n"))
    with open_source(str(path), InputFormat.JSON, "json") as opened:
        assert list(payloads(opened)) == [b'{"a":1}', b'{"a":2}']


def test_without_what_reads_zstd_it_says_what_to_install(tmp_path, monkeypatch):
    path = tmp_path / "in.jsonl.zst"
    path.write_bytes(zstd.compress(LINES))
    monkeypatch.setitem(sys.modules, zstd.__name__, None)
    with (
        pytest.raises(Problem, match=r"servestream-client\[zstd\]|built without zstd"),
        open_source(str(path), InputFormat.JSON, "json"),
    ):
        pass


@COMPRESSED
def test_compressed_records_go_on_behind_the_names_of_their_columns(tmp_path, suffix, compress):
    path = tmp_path / f"in.csv.{suffix}"
    path.write_bytes(compress(b'a,b\n1,"x\n"\n2,y\n'))
    with open_source(str(path), InputFormat.CSV, "json") as opened:
        pieces = list(opened.pieces())
    assert [piece.payload for piece in pieces] == [b'{"a":"1","b":"x\\n"}', b'{"a":"2","b":"y"}']
    first = pieces[0].raw
    with open_source(str(path), InputFormat.CSV, "json") as opened:
        digest = opened.fresh_digest()
        digest.update(first)
        opened.go_to(Place(len(first), first.count(b"\n"), digest.hexdigest()))
        assert [piece.payload for piece in opened.pieces()] == [b'{"a":"2","b":"y"}']
