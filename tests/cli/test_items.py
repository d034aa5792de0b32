import io
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from servestream_client.cli.items import InputFormat, input_format, payloads


@given(st.lists(st.binary(max_size=50)))
def test_frames_are_read_as_they_were_written(items):
    written = b"".join(struct.pack(">I", len(item)) + item for item in items)
    assert list(payloads(io.BytesIO(written), InputFormat.FRAMES, "any")) == items


@pytest.mark.parametrize(
    ("path", "codec", "form"),
    [
        ("-", "bytes", InputFormat.TEXT),
        ("-", "json", InputFormat.JSON),
        ("-", "msgpack", InputFormat.JSON),
        ("a/b.JSONL", "bytes", InputFormat.JSON),
        ("a.ndjson", "bytes", InputFormat.JSON),
        ("a.txt", "json", InputFormat.TEXT),
        ("a.bin", "bytes", InputFormat.TEXT),
    ],
)
def test_the_name_of_a_file_says_what_is_in_it(path, codec, form):
    assert input_format(InputFormat.AUTO, path, codec) is form
    assert input_format(InputFormat.FRAMES, path, codec) is InputFormat.FRAMES
