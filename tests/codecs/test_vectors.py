"""The test vectors of docs/protocol.md, section 19, against the codecs."""

import datetime as dt
import re
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from servestream_client import (
    ArraySpec,
    BytesCodec,
    JsonCodec,
    MsgpackCodec,
    NumpyCodec,
    ProtobufCodec,
)
from servestream_client.wire import stream_pb2 as pb

PROTOCOL = Path(__file__).resolve().parents[2] / "docs" / "protocol.md"


class Text(msgspec.Struct):
    text: str
    language: str = "en"


class Label(msgspec.Struct):
    label: str
    score: float


class Tagged(msgspec.Struct, tag="v1", array_like=True):
    name: str
    sizes: list[int]


class Tree(msgspec.Struct):
    name: str
    children: list["Tree"]


WIDE = msgspec.defstruct(
    "Wide", [(f"n{n:02}", list[dict[str, int]]) for n in range(14)], array_like=True
)
PICTURES = ArraySpec(np.uint8, (None, 2))
POINT = ArraySpec(">f4", (3,))
MESSAGES = ProtobufCodec(pb.Credit, pb.ClientEnd)

CASES: dict[str, tuple[Any, object]] = {
    "bytes": (BytesCodec(), b"\x00\xff"),
    "protobuf": (MESSAGES, pb.Credit(outputs=3, bytes=300)),
    "json, a record": (JsonCodec(Text, Label), Text("hé", "de")),
    "json, its output": (JsonCodec(Label, Text), Label("a", 0.5)),
    "json, anything": (JsonCodec(object, object), {"a": [1, 2.5, None, True, -0.0]}),
    "json, typed": (
        JsonCodec(dict[int, bytes], dt.datetime),
        {1: b"\xff"},
    ),
    "json, an instant": (JsonCodec(dt.datetime, str), dt.datetime(2020, 1, 2, 3, 4, 5, 6, dt.UTC)),
    "json, recursive": (JsonCodec(Tree, int | None), Tree("r", [Tree("l", [])])),
    "json, long": (JsonCodec(WIDE, bool), WIDE(*[[]] * 14)),
    "msgpack, a record": (MsgpackCodec(Label, tuple[int, str]), Label("a", 0.5)),
    "msgpack, tagged": (MsgpackCodec(Tagged, set[str]), Tagged("n", [1, 300])),
    "msgpack, anything": (
        MsgpackCodec(object, object),
        {"a": [b"\xff", float("inf"), -1], 7: None},
    ),
    "msgpack, an instant": (
        MsgpackCodec(dt.datetime, float),
        dt.datetime(2020, 1, 2, 3, 4, 5, 6, dt.UTC),
    ),
    "numpy": (NumpyCodec(PICTURES, POINT), np.array([[1, 2], [3, 4], [5, 6]], np.uint8)),
    "numpy, its output": (NumpyCodec(POINT, PICTURES), np.array([1, -2, 0.5], ">f4")),
    "numpy, text": (
        NumpyCodec(ArraySpec("U2", (1,)), ArraySpec("M8[s]")),
        np.array(["é"], "U2"),
    ),
}


def vectors() -> dict[str, dict[str, str]]:
    """What the document says, by name."""
    (block,) = re.findall(
        r"<!-- vectors -->\n+```text\n(.*?)\n```", PROTOCOL.read_text(), re.DOTALL
    )
    found = {}
    for lines in block.split("\n\n"):
        name, *rest = lines.splitlines()
        found[name] = dict(re.split(r": *", line.strip(), maxsplit=1) for line in rest)
    return found


VECTORS = vectors()


def test_every_vector_is_checked():
    assert VECTORS.keys() == CASES.keys()
    assert {vector["codec"] for vector in VECTORS.values()} == {
        "bytes",
        "protobuf",
        "json",
        "msgpack",
        "numpy",
    }


@pytest.mark.parametrize("name", CASES)
def test_a_codec_makes_and_reads_what_the_document_says(name):
    codec, value = CASES[name]
    vector = VECTORS[name]
    assert codec.id == vector["codec"]
    assert codec.fingerprint == vector["fingerprint"]
    payload = bytes.fromhex(vector["payload"])
    assert codec.encode_input(value) == payload
    np.testing.assert_equal(codec.decode_input(payload), value)
