"""What is decoded equals what was encoded, or who encodes gets an error: over all codecs."""

import array
import datetime as dt
import decimal
import enum
import math
import uuid
from collections import OrderedDict
from dataclasses import dataclass, field, fields, is_dataclass
from typing import Annotated, Any, NamedTuple

import attrs
import msgspec
import numpy as np
import pytest
from effort import effort
from google.protobuf import struct_pb2
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from servestream_client import (
    ArraySpec,
    BytesCodec,
    ConfigurationError,
    JsonCodec,
    MsgpackCodec,
    NumpyCodec,
    ProtobufCodec,
)
from servestream_client.wire import stream_pb2 as pb

BOTH = pytest.mark.parametrize("codec", [JsonCodec, MsgpackCodec])
BOUNDED = settings(
    max_examples=effort(100, 2000),
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
REFUSALS = (TypeError, ValueError, OverflowError, RecursionError)  # of which UnicodeError is one


class Colour(enum.Enum):
    RED = "red"
    TWO = "two"


class Level(enum.IntEnum):
    LOW = 1


class Mode(enum.StrEnum):
    FAST = "fast"


class Point(NamedTuple):
    x: float
    y: float


class Text(msgspec.Struct):
    text: str
    score: float = 0.5


class Short(msgspec.Struct, omit_defaults=True, rename="upper", tag="short"):
    text: str
    score: float | None = None
    note: str | msgspec.UnsetType = msgspec.UNSET


class Row(msgspec.Struct, array_like=True):
    name: str
    values: list[float]


@dataclass
class Sentiment:
    label: str
    score: float | None
    extra: Any = None


@attrs.define
class Attribute:
    name: str
    value: Any


class OwnInt(int):
    pass


class OwnText(str):
    __slots__ = ()


class OwnFloat(float):
    pass


class OwnBytes(bytes):
    pass


def alike(value: object, decoded: object) -> bool:
    """The oracle: equal by value, where arrays are arrays, records are their fields, NaN is NaN."""
    if isinstance(value, msgspec.Struct | Sentiment | Attribute):
        return alike_record(value, decoded)
    if isinstance(value, list | tuple):
        return (
            isinstance(decoded, list | tuple)
            and len(value) == len(decoded)
            and all(map(alike, value, decoded))
        )
    if isinstance(value, dict):
        return (
            isinstance(decoded, dict)
            and len(value) == len(decoded)
            and all(key in decoded and alike(each, decoded[key]) for key, each in value.items())
        )
    if isinstance(decoded, float) and math.isnan(decoded):
        return bool(value != value)  # noqa: PLR0124 — of whatever type of NaN
    if isinstance(value, decimal.Decimal) and value.is_nan():
        return isinstance(decoded, decimal.Decimal) and decoded.is_nan()
    return bool(value == decoded)


def alike_record(value: Any, decoded: object) -> bool:
    kind = type(value)
    if isinstance(value, msgspec.Struct):
        names = list(zip(kind.__struct_fields__, kind.__struct_encode_fields__, strict=True))
    elif is_dataclass(value):
        names = [(each.name, each.name) for each in fields(value)]
    else:
        names = [(each.name, each.name) for each in attrs.fields(kind)]
    if isinstance(decoded, list):
        came = dict(zip((name for _, name in names), decoded, strict=True))
    elif isinstance(decoded, dict):
        came = decoded
    else:
        came = {name: getattr(decoded, own) for own, name in names}
    return all(
        alike(getattr(value, own), came[name])
        if name in came
        # What is unset is not there; and a default need not be.
        else getattr(value, own) is msgspec.UNSET or (kind is Short and own in ("score", "note"))
        for own, name in names
    )


def holds(codec: Any, value: object) -> bool:
    """The property. Whether the value could be sent."""
    try:
        payload = codec.encode_output(value)
    except REFUSALS as error:
        assert str(error)  # noqa: PT017 — it has to say something
        return False
    assert isinstance(payload, bytes)
    decoded = codec.decode_output(payload)
    assert alike(value, decoded), (value, decoded, payload)
    return True


# ------------------------------------------------------------------ values of all kinds

INTEGERS = st.one_of(
    st.integers(-5, 5), st.integers(), st.sampled_from([2**53 + 1, 2**63, 2**64 - 1, 2**64, 10**30])
)
FLOATS = st.one_of(
    st.floats(), st.sampled_from([math.nan, math.inf, -math.inf, -0.0, 5e-324, 1e16, 1.0])
)
TEXTS = st.one_of(st.text(max_size=8), st.sampled_from(["null", "\ud800", "\0", "NaN", "1"]))
SIMPLE = st.one_of(st.none(), st.booleans(), INTEGERS, FLOATS, TEXTS)
NUMPY = st.one_of(
    st.sampled_from([np.float16, np.float32, np.float64]).flatmap(
        lambda kind: st.floats(width=16).map(kind)
    ),
    st.sampled_from([np.int8, np.uint64, np.longdouble, np.complex64]).map(lambda kind: kind(3)),
    st.sampled_from(
        [
            np.bool_(True),
            np.str_("x"),
            np.bytes_(b"x"),
            np.datetime64("NaT"),
            np.datetime64("2020-01-01"),
            np.timedelta64(1, "s"),
            np.array(1.5),
            np.arange(3),
            np.float32("nan"),
        ]
    ),
)
ODD = st.one_of(
    st.binary(max_size=4),
    st.binary(max_size=4).map(bytearray),
    st.binary(max_size=4).map(memoryview),
    st.datetimes(),
    st.datetimes(
        timezones=st.integers(-86_000, 86_000).map(
            lambda seconds: dt.timezone(dt.timedelta(seconds=seconds))
        )
    ),
    st.dates(),
    st.times(),
    st.timedeltas(),
    st.decimals(),
    st.uuids(),
    st.sampled_from([*Colour, *Level, *Mode]),
    st.sampled_from([OwnInt(3), OwnText("x"), OwnFloat(1.5), OwnBytes(b"x"), OwnFloat("nan")]),
    st.sampled_from([complex(1, 2), range(3), object(), msgspec.UNSET, {1, 2}, frozenset("a")]),
    NUMPY,
)
KEYS = st.one_of(
    TEXTS, INTEGERS, FLOATS, st.none(), st.booleans(), st.binary(max_size=3), st.dates(),
    st.sampled_from([*Colour, *Level, *Mode, OwnText("x"), np.int64(1), np.str_("k"), (1, 2)]),
)  # fmt: skip


def containers(inner: st.SearchStrategy) -> st.SearchStrategy:
    return st.one_of(
        st.lists(inner, max_size=4),
        st.lists(inner, max_size=3).map(tuple),
        st.dictionaries(TEXTS, inner, max_size=3),
        st.dictionaries(KEYS, inner, max_size=3),
        st.dictionaries(TEXTS, inner, max_size=2).map(OrderedDict),
        st.builds(Sentiment, TEXTS, inner, inner),
        st.builds(Attribute, TEXTS, inner),
        st.builds(Text, TEXTS, FLOATS | inner),
        st.builds(Short, TEXTS, st.none() | FLOATS),
        st.builds(Row, TEXTS, st.lists(FLOATS | inner, max_size=3)),
        st.builds(Point, inner, inner),
    )


ANYTHING = st.recursive(SIMPLE | ODD, containers, max_leaves=8)
PLAIN = st.recursive(SIMPLE, containers, max_leaves=8)


@BOTH
@BOUNDED
@given(ANYTHING)
def test_of_anything_what_comes_back_is_equal(codec, value):
    holds(codec(object, object), value)


@BOTH
@BOUNDED
@given(PLAIN)
def test_of_plain_values_what_comes_back_is_equal(codec, value):
    holds(codec(object, object), value)


TYPES = [
    bool, int, float, str, bytes, None, int | None, float | None, int | float, str | None,
    list[float], list[int], list[str], list[float | None], tuple[int, ...], tuple[int, str],
    set[int], frozenset[str], list[list[float]], list[Any], dict[str, Any], dict[str, float],
    dict[int, str], dict[float, int], dict[str, list[float]], dict[Colour, int],
    dt.datetime, dt.date, dt.time, dt.timedelta, decimal.Decimal, uuid.UUID, Colour, Level, Mode,
    Text, Short, Row, Sentiment, Attribute, Point, list[Text], list[Sentiment], Text | None,
    Annotated[int, msgspec.Meta(gt=0)], Annotated[str, msgspec.Meta(max_length=2)],
    bytearray | None,
]  # fmt: skip


@BOTH
@BOUNDED
@given(kind=st.sampled_from(TYPES), value=ANYTHING)
def test_whatever_a_typed_codec_is_given(codec, kind, value):
    """Also what is not of its type, which no type checker would let pass."""
    holds(codec(kind, kind), value)


def values_of(kind: Any) -> st.SearchStrategy:
    """Of a type, as well as a type checker can tell."""
    if kind is None:
        return st.none()
    if kind is float:
        return FLOATS | st.integers()
    if kind in (Any, object):
        return ANYTHING
    if kind == list[Sentiment]:
        return st.lists(values_of(Sentiment), max_size=3)
    if kind == list[Any]:
        return st.lists(ANYTHING, max_size=4)
    if kind == dict[str, Any]:
        return st.dictionaries(TEXTS, ANYTHING, max_size=4)
    if kind is Row:
        return st.builds(Row, TEXTS, st.lists(FLOATS | st.integers(), max_size=4))
    if kind is Sentiment:
        return st.builds(Sentiment, TEXTS, FLOATS | st.none(), ANYTHING)
    if kind is Attribute:
        return st.builds(Attribute, TEXTS, ANYTHING)
    return st.from_type(kind)


@BOTH
@BOUNDED
@given(data=st.data(), kind=st.sampled_from([kind for kind in TYPES if kind is not Short]))
def test_values_of_a_codecs_own_type(codec, data, kind):
    holds(codec(kind, kind), data.draw(values_of(kind)))


# ------------------------------------------------------------------ what works, and what does not

NOT_IN_JSON = [math.nan, math.inf, -math.inf]


def wrapped(value: float) -> list[tuple[Any, object]]:
    return [
        (object, value),
        (float, value),
        (float | None, value),
        (object, {"a": [1.0, {"b": value}]}),
        (list[float], [0.5, value]),
        (list[float | None], [None, value]),
        (dict[str, list[float]], {"a": [value]}),
        (Text, Text("x", value)),
        (Sentiment, Sentiment("x", value)),
        (Sentiment, Sentiment("null", 0.5, (value,))),
        (Row, Row("x", [value])),
        (object, Attribute("x", value)),
        (object, np.float32(value)),
    ]


@pytest.mark.parametrize("value", NOT_IN_JSON)
@pytest.mark.parametrize("place", range(13))
def test_json_refuses_nan_and_infinity_wherever_they_are(value, place):
    kind, whole = wrapped(value)[place]
    with pytest.raises(ValueError, match=r"JSON has neither NaN nor infinity.*MsgpackCodec"):
        JsonCodec(kind, kind).encode_input(whole)
    assert holds(MsgpackCodec(kind, kind), whole)


def test_the_text_says_where():
    with pytest.raises(ValueError, match=r"^nan at \$\.extra\['b'\]\[1\]: "):
        JsonCodec(Sentiment, object).encode_input(Sentiment("x", 1.0, {"b": [0.1, math.nan]}))


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ({1: 2}, "the key 1 at \\$ would come back as '1'"),
        ({"1": 1, 1: 2}, r"1 at \$\['1'\] would come back as 2"),
        ({"a": b"x"}, r"b'x' at \$\['a'\] would come back as 'eA=='"),
        (dt.date(2020, 1, 2), "would come back as '2020-01-02'"),
        (decimal.Decimal("1.10"), "would come back as '1.10'"),
        (uuid.UUID(int=1), "would come back as '0000"),
        (Colour.RED, "would come back as 'red'"),
        ([{1, 2}], r"at \$\[0\] would come back as \["),
    ],
    ids=str,
)
def test_what_json_has_no_type_for_is_refused_where_the_codec_names_none(value, said):
    with pytest.raises(ValueError, match=rf"{said}.*; name the type in the codec"):
        JsonCodec(object, object).encode_output(value)


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        (dict[int, int], {1: 2}),
        (bytes, b"x"),
        (dt.date, dt.date(2020, 1, 2)),
        (dt.datetime, dt.datetime(2020, 1, 2, 3, 4, 5, 678901, dt.UTC)),
        (decimal.Decimal, decimal.Decimal("1.10")),
        (decimal.Decimal, decimal.Decimal("NaN")),
        (uuid.UUID, uuid.UUID(int=1)),
        (Colour, Colour.TWO),
        (set[int], {1, 2}),
        (tuple[int, str], (1, "x")),
    ],
    ids=str,
)
@BOTH
def test_with_its_type_named_it_comes_back(codec, kind, value):
    both = codec(kind, kind)
    decoded = both.decode_input(both.encode_input(value))
    assert alike(value, decoded)
    assert type(decoded) is type(value)


@BOTH
def test_arrays_and_records_are_equal_by_their_parts(codec):
    anything = codec(object, object)
    assert anything.decode_output(anything.encode_output((1, [2]))) == [1, [2]]
    decoded = anything.decode_output(anything.encode_output(Sentiment("x", 0.5)))
    assert decoded == {"label": "x", "score": 0.5, "extra": None}
    assert holds(anything, Short("x"))
    assert holds(anything, Row("x", [1.0]))
    assert holds(codec(list[int], list[int]), [1, 2])
    assert holds(codec(list[list[int]], list[list[int]]), [(1, 2)])


@pytest.mark.parametrize(
    ("kind", "value", "built_in"),
    [
        (float, np.float16(1.5), 1.5),
        (float, np.float32(0.1), 0.10000000149011612),
        (float, np.float64(0.1), 0.1),
        (int, np.int8(-3), -3),
        (int, np.uint64(2**64 - 1), 2**64 - 1),
        (bool, np.bool_(True), True),
        (str, np.str_("x"), "x"),
        (object, {"a": [np.float32(0.5), np.int64(2)]}, {"a": [0.5, 2]}),
        (Sentiment, Sentiment("x", np.float64(0.5)), Sentiment("x", 0.5)),
        (object, OwnInt(3), 3),
        (object, OwnText("x"), "x"),
        (object, [Level.LOW, Mode.FAST], [1, "fast"]),
    ],
    ids=repr,
)
@BOTH
def test_scalars_of_numpy_and_of_subclasses_are_what_they_equal(codec, kind, value, built_in):
    both = codec(kind, kind)
    decoded = both.decode_output(both.encode_output(value))
    assert decoded == built_in
    assert type(decoded) is type(built_in)


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (np.arange(3), "NumPy array .*tolist.*NumpyCodec"),
        (np.array(1.5), "NumPy array"),
        (np.datetime64("NaT"), "no built-in value equals a NumPy datetime64"),
        (np.timedelta64(1, "s"), "no built-in value equals a NumPy timedelta64"),
        (np.longdouble(1), "no built-in value equals a NumPy longdouble"),
        (np.complex64(1), "no built-in value equals a NumPy complex64"),
        (object(), "there is no encoding of a object"),
    ],
    ids=lambda value: type(value).__name__ if type(value) is object else repr(value),
)
@BOTH
def test_what_has_no_encoding_is_refused_helpfully(codec, value, said):
    for whole in (value, [value], {"a": value}, Sentiment("x", None, value)):
        with pytest.raises(TypeError, match=said):
            codec(object, object).encode_output(whole)


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        (float, 2**53 + 1),
        (list[float], [1.0, 2**53 + 1]),
        (Row, Row("x", [2**53 + 1])),
        (int, True),
        (list[int], [1, 1.0]),
        (str, Colour.RED),
        (list[str], ["a", b"b"]),
        (list[str], [dt.date(2020, 1, 1)]),
        (Text, Text(b"bytes", 1.0)),
        (Sentiment, Sentiment(uuid.UUID(int=1), 0.5)),
        (dict[str, int], {1: 1}),
    ],
    ids=repr,
)
def test_what_is_not_of_the_named_type_is_refused_at_the_sender(kind, value):
    with pytest.raises((TypeError, ValueError)):
        JsonCodec(kind, kind).encode_input(value)


@dataclass
class Rounded:
    """Whose decoding is not what was encoded."""

    score: float
    total: float = field(init=False, default=0.0)

    def __post_init__(self) -> None:
        self.score = round(self.score)


@BOTH
def test_a_class_that_makes_something_else_of_its_fields(codec):
    value = Rounded(1.0)
    assert holds(codec(Rounded, Rounded), value)
    value.score = 1.5
    assert not holds(codec(Rounded, Rounded), value)


class Odd:
    def __eq__(self, other: object) -> bool:
        raise RuntimeError("no comparison")

    def __repr__(self) -> str:
        raise RuntimeError("no text")

    __hash__ = None


@dataclass(eq=False)
class Identity:
    name: str


@BOTH
def test_classes_without_a_comparison_are_compared_by_their_fields(codec):
    both = codec(Identity, Identity)
    assert both.decode_output(both.encode_output(Identity("x"))).name == "x"
    with pytest.raises(TypeError, match="no encoding of a Odd"):
        codec(object, object).encode_output({"a": Odd()})


def test_decoders_leave_nothing_in_classes_that_cannot_be_pickled():
    class Own(NamedTuple):
        x: float
        y: float | None

    JsonCodec(Own, Own).encode_input(Own(1.0, None))
    assert not hasattr(Own, "__msgspec_cache__")


# ------------------------------------------------------------------ the other codecs


@given(st.binary() | st.binary().map(bytearray) | st.binary().map(memoryview) | TEXTS)
def test_bytes(value):
    if isinstance(value, str):
        with pytest.raises(TypeError, match="takes bytes"):
            BytesCodec().encode_input(value)
    else:
        assert BytesCodec().decode_input(BytesCodec().encode_input(value)) == value


def test_bytes_of_a_machines_own_layout_are_refused():
    numbers = memoryview(array.array("i", [1, 2]))
    with pytest.raises(TypeError, match=r"memoryview of format 'i'.*cast"):
        BytesCodec().encode_output(numbers)
    assert BytesCodec().encode_output(numbers.cast("B")) == numbers.tobytes()
    assert BytesCodec().encode_output(memoryview(b"abcd")[::2]) == b"ac"
    assert type(BytesCodec().encode_output(OwnBytes(b"x"))) is bytes


STRUCTS = st.recursive(
    st.none() | st.booleans() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=6,
)


@BOUNDED
@given(st.dictionaries(st.text(max_size=3), STRUCTS, max_size=3))
def test_protobuf(value):
    message = struct_pb2.Struct()
    message.update(value)
    codec = ProtobufCodec(struct_pb2.Struct, struct_pb2.Struct)
    assert codec.decode_output(codec.encode_output(message)) == message


def test_protobuf_keeps_fields_that_it_does_not_know_and_refuses_other_classes():
    newer = pb.Credit.FromString(pb.Credit(outputs=1).SerializeToString() + b"\xf2\x3f\x03abc")
    codec = ProtobufCodec(pb.Credit, pb.Credit)
    assert codec.decode_input(codec.encode_input(newer)).SerializeToString() == (
        newer.SerializeToString()
    )
    for other in (pb.ClientEnd(last_number=1), {"outputs": 1}, b"\x08\x01", None):
        with pytest.raises(TypeError, match="expected Credit"):
            codec.encode_input(other)


@pytest.mark.parametrize(
    "array",
    [
        np.array([1.5, math.nan, math.inf, -0.0], ">f2"),
        np.array(["NaT", "2020-01-01"], "M8[D]"),
        np.array([(1, "NaT")], [("n", ">u2"), ("t", "m8[ns]")]),
        np.array(["ab", ""], "U3"),
        np.array([b"a\0b"], "S4"),
        np.array([True, False]),
        np.array(7, ">i8"),
        np.empty((0, 3), "f4"),
        np.rec.array([(1, 2.0)], dtype=[("a", "i4"), ("b", "f8")]),
        np.arange(6).reshape(2, 3).T,
    ],
    ids=repr,
)
def test_numpy(array):
    spec = ArraySpec(
        np.dtype(array.dtype.descr if array.dtype.fields else array.dtype), array.shape
    )
    codec = NumpyCodec(spec, spec)
    decoded = codec.decode_output(codec.encode_output(array))
    assert decoded.tobytes() == np.asarray(array, order="C").tobytes()
    assert decoded.shape == array.shape


@pytest.mark.parametrize(
    "dtype",
    [np.longdouble, np.clongdouble, [("a", "i4"), ("b", "g", (2,))], np.dtypes.StringDType()],
)
def test_layouts_that_differ_between_machines_are_refused(dtype):
    with pytest.raises(ConfigurationError):
        ArraySpec(dtype, (2,))
