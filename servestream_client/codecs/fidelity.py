"""What JSON and MessagePack carry: a payload leaves only if decoding it gives back a value that
equals the encoded one.

Both formats write values for which they have no type as others that they have: JSON writes NaN as
null and bytes as text, and both write dates, enumerations and sets as what a reader without types
takes for text, numbers and arrays. A value of exactly the types that its format has comes back for
sure, which `quick_check` sees at once; any other is decoded again and compared.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from numbers import Rational, Real
from types import NoneType
from typing import Any

import msgspec
from msgspec import inspect

from servestream_client.errors import printable

__all__ = ["QuickCheck", "difference", "no_number", "quick_check", "scalar"]

_SCALARS: Mapping[type[inspect.Type], type] = {
    inspect.NoneType: NoneType,
    inspect.BoolType: bool,
    inspect.IntType: int,
    inspect.FloatType: float,
    inspect.StrType: str,
    inspect.BytesType: bytes,
}


@dataclass(frozen=True, slots=True)
class QuickCheck:
    """Of one type in one format.

    Attributes:
        plain: whether a value comes back for sure, but for what is said of `no_null`.
        no_null: only if there is no ``null`` in the payload, as which JSON writes NaN and infinity.
        possible: whether that can be so of any value.
    """

    plain: Callable[[Any], bool]
    no_null: bool
    possible: bool


def quick_check(info: inspect.Type, *, json: bool) -> QuickCheck:
    """How to see that values of a type come back. Those of which nothing is plain have to be
    decoded to know, or that takes no longer: it is done in C.
    """
    made = _Expression(json=json)
    text = made.field(info, "value") or made.record(info, "value")
    plain = eval(f"lambda value: {text or False}", made.names)  # noqa: S307 — every item passes it
    return QuickCheck(plain, made.floats, possible=text is not None)


class _Expression:
    """Python's text of a check, made once and compiled: calls for each field would take longer
    than to decode.
    """

    def __init__(self, *, json: bool) -> None:
        self._json = json
        self.floats = False
        """Whether a value may contain floats of which JSON writes some as null, and the text looks
        at none.
        """
        self.names: dict[str, object] = {}
        """What the text refers to."""

    def _name(self, value: object) -> str:
        name = f"_{len(self.names)}"
        self.names[name] = value
        return name

    def field(self, info: inspect.Type, value: str) -> str | None:
        """Of a scalar or a list of scalars; None: of such a type nothing is plain."""
        kinds = self._scalars(info)
        if kinds is not None:
            finite = f"{value} - {value} == 0.0"
            if len(kinds) > 1:
                finite = f"({value}.__class__ is not float or {finite})"
                check = f"{value}.__class__ in {self._name(kinds)}"
            else:
                check = f"{value}.__class__ is {self._name(*kinds)}"
            return f"{check} and {finite}" if self._json and float in kinds else check
        match info:
            case inspect.ListType(item_type=item, min_length=None, max_length=None):
                kinds = self._scalars(item)
                if kinds is not None:
                    allowed = self._name(kinds)
                    check = f"{value}.__class__ is list and set(map(type, {value})) <= {allowed}"
                    if not self._json or float not in kinds:
                        return check
                    if len(kinds) == 1:  # a sum that is finite has no NaN and no infinity in it
                        return f"{check} and {self._name(math.isfinite)}(sum({value}))"
                    self.floats = True
                    return check
        return None

    def _scalars(self, info: inspect.Type) -> frozenset[type] | None:
        if isinstance(info, inspect.UnionType):
            members = [self._scalars(each) for each in info.types]
            known = [each for each in members if each is not None]
            return frozenset().union(*known) if len(known) == len(members) else None
        kind = _SCALARS.get(type(info))
        if kind is None or any(getattr(info, name) is not None for name in info.__struct_fields__):
            return None  # a type with further demands
        return frozenset({kind})

    def record(self, info: inspect.Type, value: str) -> str | None:
        """Of a record of such fields."""
        if not isinstance(info, inspect.StructType | inspect.DataclassType):
            return None
        if _customised(info.cls) or not all(each.name.isidentifier() for each in info.fields):
            return None
        checks = [self.field(each.type, f"{value}.{each.name}") for each in info.fields]
        known = [check for check in checks if check is not None]
        if len(known) < len(checks):
            return None
        return " and ".join([f"{value}.__class__ is {self._name(info.cls)}", *known])


def _customised(cls: type) -> bool:
    """Whether a record does more than hold what it is given."""
    fields = getattr(cls, "__dataclass_fields__", None)
    return (
        hasattr(cls, "__post_init__")
        or hasattr(cls, "__attrs_attrs__")
        or (fields is not None and not all(field.init for field in fields.values()))
    )


# ---------------------------------------------------------------- what the format has no type for

_PLAIN = frozenset({bool, int, float, str, bytes})


def scalar(value: object) -> object:
    """The built-in value that equals a NumPy scalar, or an instance of a subclass of a built-in
    type.

    Raises:
        TypeError: there is none.
    """
    numpy = sys.modules.get("numpy")
    if numpy is not None and isinstance(value, numpy.generic):
        found = (
            value.item() if not isinstance(value, numpy.datetime64 | numpy.timedelta64) else None
        )
        if type(found) in _PLAIN:
            return found
        raise TypeError(f"no built-in value equals a NumPy {type(value).__name__} for sure")
    if numpy is not None and isinstance(value, numpy.ndarray):
        raise TypeError("a NumPy array has no place here: use .tolist(), or NumpyCodec")
    if isinstance(value, int):
        return int.__index__(value)
    if isinstance(value, float):
        return float.__float__(value)
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, bytes):
        return bytes(value)
    raise TypeError(f"there is no encoding of a {type(value).__name__}")


# ---------------------------------------------------------------- comparing


def difference(value: Any, decoded: Any, where: str = "$") -> str | None:  # noqa: ANN401 — anything
    """Where and how a decoded value differs from what was encoded; None: they are equal.

    Arrays are equal by their items, whether they are lists or tuples, and records by their fields:
    without a type for it, a record comes back as a mapping. NaN equals NaN.
    """
    if _equal(value, decoded):
        return None
    if isinstance(value, msgspec.Raw) and isinstance(decoded, msgspec.Raw):
        return None if bytes(value) == bytes(decoded) else f"other raw bytes at {where}"
    fields = _fields(value)
    if fields is not None:
        return _fields_difference(value, fields, decoded, where)
    if isinstance(value, dict) and isinstance(decoded, dict):
        return _keys_difference(value, decoded, where)
    arrays = isinstance(value, list | tuple) and isinstance(decoded, list | tuple)
    if arrays and len(value) == len(decoded):
        pairs = enumerate(zip(value, decoded, strict=True))
        return _first(difference(*pair, f"{where}[{place}]") for place, pair in pairs)
    return f"{_shown(value)} at {where} would come back as {_shown(decoded)}"


def _first(found: Any) -> str | None:  # noqa: ANN401 — something iterable
    return next((each for each in found if each is not None), None)


def _equal(value: object, decoded: object) -> bool:
    try:
        if value == decoded:
            return True
    except Exception:  # of a class of the user's, or of a signalling NaN
        return False
    if isinstance(decoded, Decimal) and isinstance(value, Decimal):
        return decoded.is_nan() and value.is_nan() and str(value) == str(decoded)
    return isinstance(decoded, float) and math.isnan(decoded) and _is_nan(value)


def _is_nan(value: Any) -> bool:  # noqa: ANN401 — anything
    try:
        return bool(value != value)  # noqa: PLR0124 — NumPy's scalars are floats by this only
    except Exception:
        return False


def no_number(value: Any, where: str = "$") -> str | None:  # noqa: ANN401 — anything
    """Where in a value there is NaN or an infinity; None: nowhere."""
    if isinstance(value, Real) and not isinstance(value, Rational):  # NumPy's floats are such, too
        return None if math.isfinite(value) else f"{value!r} at {where}"
    if isinstance(value, dict):
        return _first(no_number(each, f"{where}[{_shown(key)}]") for key, each in value.items())
    if isinstance(value, list | tuple | set | frozenset):
        return _first(no_number(each, f"{where}[{place}]") for place, each in enumerate(value))
    names = [name for name, _ in _fields(value) or ()]
    return _first(no_number(getattr(value, name, None), f"{where}.{name}") for name in names)


def _fields(value: object) -> list[tuple[str, str]] | None:
    """Names of a record's fields, each with its name in the payload; None: it is none."""
    kind: Any = type(value)
    if isinstance(value, msgspec.Struct):
        return list(zip(kind.__struct_fields__, kind.__struct_encode_fields__, strict=True))
    for attribute in ("__dataclass_fields__", "__attrs_attrs__"):
        found = getattr(kind, attribute, None)
        if found is not None:
            names = [each if isinstance(each, str) else each.name for each in found]
            return list(zip(names, names, strict=True))
    return None


_MISSING = object()


def _fields_difference(
    value: object, fields: list[tuple[str, str]], decoded: object, where: str
) -> str | None:
    config = getattr(type(value), "__struct_config__", None)
    if isinstance(decoded, list) and config is not None and config.array_like:
        offset = 0 if config.tag is None else 1
        if len(decoded) != len(fields) + offset:
            return f"{_shown(value)} at {where} would come back as {_shown(decoded)}"
        came = {name: each for (_, name), each in zip(fields, decoded[offset:], strict=True)}
    elif isinstance(decoded, dict):
        came = decoded
    elif _fields(decoded) is not None and {a for a, _ in _fields(decoded) or ()} == {
        a for a, _ in fields
    }:
        came = {name: getattr(decoded, attribute, _MISSING) for attribute, name in fields}
    else:
        return f"{_shown(value)} at {where} would come back as {_shown(decoded)}"
    for attribute, name in fields:
        own, other = getattr(value, attribute, _MISSING), came.get(name, _MISSING)
        if other is _MISSING:
            if own is msgspec.UNSET or (config is not None and config.omit_defaults):
                continue
            return f"the field {attribute} at {where} would not come back"
        found = difference(own, other, f"{where}.{attribute}")
        if found is not None:
            return found
    return None


def _keys_difference(
    value: dict[object, object], decoded: dict[object, object], where: str
) -> str | None:
    for key, each in value.items():
        if key not in decoded:
            near = next((k for k in decoded if str(k) == str(key)), _MISSING)
            found = "would not come back" if near is _MISSING else f"would come back as {near!r}"
            return f"the key {_shown(key)} at {where} {found}"
        different = difference(each, decoded[key], f"{where}[{_shown(key)}]")
        if different is not None:
            return different
    return None if len(value) == len(decoded) else f"other keys at {where}"


def _shown(value: object) -> str:
    try:
        return printable(f"{value!r}", 80)
    except Exception:  # of a class of the user's
        return f"a {type(value).__name__}"
