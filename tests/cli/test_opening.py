import bz2
import gzip
import lzma

import pytest

from servestream_client.cli.items import InputFormat
from servestream_client.cli.opening import open_source
from servestream_client.cli.problems import Problem
from servestream_client.cli.sources import payloads

LINES = b'{"a": 1}\n\n{ "a" :2}\r\n  \n{"a":3}'


@pytest.mark.parametrize(
    ("suffix", "compress"), [("gz", gzip.compress), ("bz2", bz2.compress), ("xz", lzma.compress)]
)
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
