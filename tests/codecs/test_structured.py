import pickle
from dataclasses import dataclass, make_dataclass
from enum import Enum
from typing import Annotated, Any, Literal, NamedTuple, TypedDict, Union

import msgspec
import pytest
import typing_extensions
from ray import cloudpickle

from servestream_client import ConfigurationError, JsonCodec, MsgpackCodec
from servestream_client.codecs.signature import signature


class Text(msgspec.Struct):
    text: str
    language: str = "en"


@dataclass
class Sentiment:
    label: str
    score: float


class Point(NamedTuple):
    x: float
    y: float


class Options(TypedDict, total=False):
    depth: int


class Tree(msgspec.Struct):
    children: list["Tree"]
    name: str


class Colour(Enum):
    RED = "red"
    BLUE = "blue"


BOTH = pytest.mark.parametrize("codec", [JsonCodec, MsgpackCodec])


@BOTH
@pytest.mark.parametrize(
    ("kind", "value"),
    [
        (Text, Text("hello", "de")),
        (Sentiment, Sentiment("positive", 0.5)),
        (Point, Point(1.0, 2.0)),
        (Options, {"depth": 3}),
        (Tree, Tree([Tree([], "leaf")], "root")),
        (Colour, Colour.BLUE),
        (float, 3),
        (list[int], [1, 2, 3]),
        (dict[str, list[float]], {"a": [0.5]}),
        (object, {"anything": [None, True, "x"]}),
        (int | None, None),
    ],
)
def test_what_is_encoded_is_decoded(codec, kind, value):
    both = codec(kind, kind)
    assert both.decode_input(both.encode_input(value)) == value
    assert both.decode_output(both.encode_output(value)) == value


@BOTH
def test_a_value_of_another_type_is_refused_before_it_is_sent(codec):
    with pytest.raises(TypeError, match="expected Text, got Sentiment"):
        codec(Text, Sentiment).encode_input(Sentiment("x", 1.0))
    with pytest.raises(TypeError, match="expected Sentiment, got dict"):
        codec(Text, Sentiment).encode_output({"label": "x"})
    with pytest.raises(TypeError, match="got tuple"):
        codec(list[int], Text).encode_input((1, 2))


def test_a_payload_that_does_not_fit_says_where():
    with pytest.raises(ValueError, match=r"missing required field `text`"):
        JsonCodec(Text, Text).decode_input(b"{}")
    with pytest.raises(ValueError, match=r"Expected `float`, got `str` - at `\$.score`"):
        JsonCodec(Text, Sentiment).decode_output(b'{"label": "x", "score": "high"}')


def test_messagepack_carries_bytes():
    codec = MsgpackCodec(dict[str, bytes], bytes)
    assert codec.decode_input(codec.encode_input({"image": b"\xff"})) == {"image": b"\xff"}
    assert codec.decode_output(codec.encode_output(b"\x00")) == b"\x00"


def test_what_no_codec_can_carry_is_said_at_once():
    with pytest.raises(ConfigurationError, match=r"JsonCodec of Opaque: .*no encoding of Opaque"):
        JsonCodec(Opaque, object)


class Opaque:
    pass


@BOTH
def test_serve_can_pickle_a_class_that_has_one(codec):
    copy = pickle.loads(pickle.dumps(codec(Text, Sentiment)))
    assert copy.fingerprint == codec(Text, Sentiment).fingerprint
    assert copy.decode_input(copy.encode_input(Text("x"))) == Text("x")


OWN = {
    "dataclass": lambda: make_dataclass("Own", [("label", str)]),
    "struct": lambda: msgspec.defstruct("Own", [("text", str)]),
    "named tuple": lambda: NamedTuple("Own", [("x", float)]),
    "typed dictionary": lambda: TypedDict("Own", {"depth": int}),
}


@BOTH
@pytest.mark.parametrize("kind", OWN)
def test_classes_of_a_script_go_by_value_or_not_at_all(codec, kind):
    """No other process can import them; and some lose their fields on that way."""
    own = OWN[kind]()
    own.__module__ = "__main__"
    both = codec(own, list[own])
    if kind in ("dataclass", "struct"):
        with pytest.raises(ConfigurationError, match="Own is defined in the script that is run"):
            cloudpickle.dumps(both)
    elif kind == "named tuple":  # cloudpickle loads no typed dictionary that was made by a call
        assert cloudpickle.loads(cloudpickle.dumps(both)).fingerprint == both.fingerprint


@pytest.mark.parametrize("kind", OWN)
def test_msgspec_leaves_no_note_that_cannot_be_pickled(kind):
    own = OWN[kind]()
    own.__module__ = "__main__"
    JsonCodec(own, own)
    cloudpickle.dumps(own)


def test_it_names_its_types():
    assert repr(JsonCodec(Text, list[int])) == "JsonCodec(Text, list[int])"


# ---------------------------------------------------------------- fingerprints


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        (Text, "{text: str}"),
        (Sentiment, "{label: str, score: float}"),
        (Point, "[float, float]"),
        (Options, "{}"),
        (Tree, "{children: [^0, ...], name: str}"),
        (Colour, "'blue' | 'red'"),
        (Literal[1, 2], "1 | 2"),
        (int | None, "int | none"),
        (dict[str, list[Text]], "{str: [{text: str}, ...], ...}"),
        (tuple[int, str], "[int, str]"),
        (tuple[int, ...], "[int, ...]"),
    ],
)
def test_a_signature_is_the_structure(kind, text):
    assert signature(kind) == text


def test_fields_with_a_default_and_names_of_classes_do_not_count():
    class Request(msgspec.Struct):
        text: str

    assert signature(Request) == signature(Text)


def test_what_differs_on_the_wire_differs():
    class Tagged(msgspec.Struct, tag="text"):
        text: str

    class AsArray(msgspec.Struct, array_like=True):
        text: str

    class Renamed(msgspec.Struct, rename="upper"):
        text: str

    found = {signature(kind) for kind in (Text, Tagged, AsArray, Renamed)}
    assert len(found) == 4


def test_a_long_signature_ends_in_a_digest():
    def wide(last):
        names = [f"a_field_with_a_long_name_{n}" for n in range(40)]
        return msgspec.defstruct("Wide", [*((name, int) for name in names), (last, int)])

    one, other = signature(wide("y")), signature(wide("z"))
    assert one != other
    assert len(one) <= 300


def test_anything_goes_fits_everything():
    assert JsonCodec(object, object).fingerprint == ""
    assert JsonCodec(Text, object).fingerprint == "{text: str} -> any"


class Branch(TypedDict):
    value: int
    branches: "list[Branch]"


class Pair(NamedTuple):
    left: "Pair | None"
    right: int


@pytest.mark.parametrize("kind", [Branch, Pair])
def test_recursive_types_of_every_kind_have_a_signature(kind):
    assert "^" in signature(kind)
    codec = JsonCodec(kind, kind)
    assert pickle.loads(pickle.dumps(codec)).fingerprint == codec.fingerprint


def syntax(size: int, leaf: type = int) -> type:
    """A union of so many tagged structs, each of which refers to all of them."""
    scope: dict[str, object] = {}
    names = [f"Node{number}" for number in range(size)]
    for name in names:
        types = {"left": "Any", "right": "Any", "leaf": leaf}
        scope[name] = msgspec.defstruct(name, list(types.items()), tag=True, module=__name__)
    union = Union[tuple(scope.values())]  # noqa: UP007 — of a list
    for each in scope.values():
        each.__annotations__ |= {"left": union, "right": union}
    return union


def chain(levels: int, leaf: type) -> type:
    """Each level refers twice to the one below it."""
    kind = leaf
    for level in range(levels):
        kind = make_dataclass(f"Level{level}", [("a", kind), ("b", kind)])
    return kind


def test_types_that_refer_to_one_another_many_times_take_no_time():
    """Written out they would be beyond any limit; told apart they are all the same."""
    for make, size in ((syntax, 12), (chain, 25)):
        assert signature(make(size, int)) == signature(make(size, int))
        assert signature(make(size, int)) != signature(make(size, str))


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        (Any, {"a": 1}),
        (dict[str, Any], {"a": None}),
        (Annotated[int, msgspec.Meta(gt=0)], 3),
        (typing_extensions.TypedDict("Old", {"a": int}), {"a": 1}),
    ],
    ids=str,
)
def test_more_of_what_msgspec_supports(kind, value):
    codec = JsonCodec(kind, kind)
    assert codec.decode_input(codec.encode_input(value)) == value


def test_anything_has_two_names():
    assert JsonCodec(Any, Any).fingerprint == JsonCodec(object, object).fingerprint == ""
    with pytest.raises(ConfigurationError, match=r"typing\.Any stands for anything"):
        JsonCodec(dict[str, object], int)
