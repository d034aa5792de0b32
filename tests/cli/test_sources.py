import io
import json
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from servestream_client.cli.items import InputFormat, Unreadable
from servestream_client.cli.problems import Problem
from servestream_client.cli.sources import (
    Changed,
    Place,
    Source,
    behind,
    new_digest,
    payloads,
)

LINES = b'{"a": 1}\n\n{ "a" :2}\r\n  \n{"a":3}'
CSV = b'\xef\xbb\xbfname,age\r\n"Ann, the\nfirst",4\r\n\r\nBob,\r\n'


def source(data: bytes, form: InputFormat, codec: str = "json") -> Source:
    return Source(io.BytesIO(data), form, codec)


@given(st.lists(st.binary(max_size=50)))
def test_frames_are_read_as_they_were_written(items):
    written = b"".join(struct.pack(">I", len(item)) + item for item in items)
    assert list(payloads(source(written, InputFormat.FRAMES, "any"))) == items


def test_blank_lines_are_passed_over_and_counted():
    lines = source(LINES, InputFormat.JSON)
    assert list(payloads(lines)) == [b'{"a":1}', b'{"a":2}', b'{"a":3}']
    assert lines.blank == 2


def test_an_empty_text_is_a_text():
    assert list(payloads(source(b"a\n\nb\n", InputFormat.TEXT, "bytes"))) == [b"a", b"", b"b"]


def test_records_are_objects_of_strings():
    records = source(CSV, InputFormat.CSV)
    expected = [{"name": "Ann, the\nfirst", "age": "4"}, {"name": "Bob", "age": ""}]
    assert [json.loads(item) for item in payloads(records)] == expected
    assert records.blank == 1


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"a,b\n1\n2,3\n", "line 2 of the input has 1 fields, and its header 2"),
        (b"a,b\n1,2,3\n2,3\n", "line 2 of the input has 3 fields, and its header 2"),
        (b'a,b\n"x"y,1\n2,3\n', "line 2 of the input cannot be read"),
        (b"a,b\n\xff,1\n2,3\n", "line 2 of the input cannot be read"),
    ],
)
def test_a_record_that_cannot_be_read_is_that_and_no_more(data, text):
    bad, good = source(data, InputFormat.CSV).pieces()
    assert isinstance(bad.payload, Unreadable)
    assert text in bad.payload.text
    assert json.loads(good.payload) == {"a": "2", "b": "3"}
    with pytest.raises(Problem, match=text):
        list(payloads(source(data, InputFormat.CSV)))


def test_two_columns_of_one_name_would_lose_one():
    with pytest.raises(Problem, match="two columns 'a'"):
        list(payloads(source(b"a,b,a\n1,2,3\n", InputFormat.CSV)))


def test_what_is_left_out_need_not_be_right():
    data = b'{oops\n{"a":1}\n'
    assert list(behind(source(data, InputFormat.JSON), 1)) == [b'{"a":1}']
    with pytest.raises(Problem, match="has 2 items, and --skip leaves out 3"):
        list(behind(source(data, InputFormat.JSON), 3))


INPUTS = {
    "lines": (LINES + b"\n" + b'{"a":4}\n', InputFormat.JSON),
    "texts": (b"one\ntwo\n\nthree", InputFormat.TEXT),
    "records": (CSV + b'"\n",5\n', InputFormat.CSV),
    "frames": (b"".join(struct.pack(">I", n) + bytes(n) for n in range(5)), InputFormat.FRAMES),
}


def place_of(raw: bytes) -> Place:
    digest = new_digest()
    digest.update(raw)
    return Place(len(raw), raw.count(b"\n"), digest.hexdigest())


@pytest.mark.parametrize("kind", INPUTS)
def test_behind_any_item_the_rest_is_found_again(kind):
    data, form = INPUTS[kind]
    pieces = list(source(data, form, "json").pieces())
    for many in range(len(pieces) + 1):
        again = source(data, form, "json")
        again.go_to(place_of(b"".join(piece.raw for piece in pieces[:many])))
        rest = list(again.pieces())
        assert [piece.payload for piece in rest] == [piece.payload for piece in pieces[many:]]
        if many:
            assert [piece.raw for piece in rest] == [piece.raw for piece in pieces[many:]]


@pytest.mark.parametrize("kind", INPUTS)
def test_an_input_that_was_changed_or_cut_is_another(kind):
    data, form = INPUTS[kind]
    pieces = list(source(data, form, "json").pieces())
    raw = b"".join(piece.raw for piece in pieces[:3])
    for at in range(len(raw)):
        changed = bytearray(data)
        changed[at] ^= 1
        with pytest.raises((Changed, Problem)):  # a header may be none any more
            source(bytes(changed), form, "json").go_to(place_of(raw))
    with pytest.raises(Changed):
        source(raw[:-1], form, "json").go_to(place_of(raw))


def test_lines_are_counted_on_behind_what_was_passed():
    good = b'{"a":1}\n\n{"a":2}\n'
    lines = source(good + b"{oops\n", InputFormat.JSON)
    lines.go_to(place_of(good))
    (bad,) = lines.pieces()
    assert "line 4 of the input" in bad.payload.text
