"""The structure of a type in one line of text, so that two ends can tell whether theirs fit.

Names of classes do not count, and neither do fields with a default: those can be added or left out
on one side without the other, as in a deployment that is newer than its clients.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import TypeAlias

from msgspec import inspect

__all__ = ["described", "records", "signature"]

_LONGEST = 300
"""Characters of a signature; a longer one ends in a digest of all of it."""

_MOST_OBJECTS = 100
"""That are written out. Types that refer to one another would make more of them than there is time
for; of these, only digests are compared."""

_ROUNDS = 32
"""Levels of nesting up to which such digests tell types apart."""

_OBJECTS = (
    inspect.StructType,
    inspect.DataclassType,
    inspect.TypedDictType,
    inspect.NamedTupleType,
)
_Object: TypeAlias = (
    inspect.StructType | inspect.DataclassType | inspect.TypedDictType | inspect.NamedTupleType
)


def signature(kind: type) -> str:
    """Of one type, e.g. ``{label: str, score: float}``.

    Raises:
        TypeError: msgspec does not support the type.
    """
    info = inspect.type_info(kind)
    objects = _objects(info)
    try:
        text = _Expansion().text(info)
    except _TooManyError:
        text = _digests(info, objects)
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 22]} … #{_digest(text)}"


def described(kind: type) -> inspect.Type:
    """What msgspec says of a type."""
    info = inspect.type_info(kind)
    _objects(info)
    return info


def records(kind: type) -> set[type]:
    """The structs and dataclasses in a type."""
    kinds = inspect.StructType | inspect.DataclassType
    return {found.cls for found in _objects(inspect.type_info(kind)) if isinstance(found, kinds)}


def _objects(root: inspect.Type) -> list[_Object]:
    """All in a type that have fields, each once."""
    found: dict[int, _Object] = {}  # a recursive type refers to the very same description
    todo: list[object] = [root]
    while todo:
        info = todo.pop()
        _forget(getattr(info, "cls", None))
        if isinstance(info, _OBJECTS):
            if id(info) in found:
                continue
            found[id(info)] = info
        if isinstance(info, tuple):
            todo += info
        elif isinstance(info, inspect.Type | inspect.Field):
            todo += [getattr(info, name) for name in info.__struct_fields__]
    return list(found.values())


def _forget(cls: type | None) -> None:
    """Remove what msgspec has noted in a class of the user's.

    Serve pickles a deployment with the classes of its script by value, and that note cannot be
    pickled. msgspec makes another one when it needs it, which then is in the replica.
    """
    with suppress(AttributeError, TypeError):
        delattr(cls, "__msgspec_cache__")


class _TooManyError(Exception):
    """There are more objects to write out than there is time for."""


class _Expansion:
    """Writes every object out where it stands."""

    def __init__(self) -> None:
        self._left = _MOST_OBJECTS
        self._within: list[_Object] = []

    def text(self, info: inspect.Type) -> str:
        return _text(info, self._nested)

    def _nested(self, info: _Object) -> str:
        for levels, enclosing in enumerate(reversed(self._within)):
            if enclosing is info:
                return f"^{levels}"  # the object that encloses it, so many levels up
        if not self._left:
            raise _TooManyError
        self._left -= 1
        self._within.append(info)
        try:
            return _fields(info, self._nested)
        finally:
            self._within.pop()


def _digests(root: inspect.Type, objects: Iterable[_Object]) -> str:
    """With a digest in the place of each object: of its fields, and of the digests in those, round
    after round.
    """
    digests = {id(info): "" for info in objects}

    def nested(info: _Object) -> str:
        return f"#{digests[id(info)]}"

    for _ in range(_ROUNDS):
        digests = {id(info): _digest(_fields(info, nested)) for info in objects}
    return _text(root, nested)


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _text(info: inspect.Type, nested: Callable[[_Object], str]) -> str:
    match info:
        case (
            inspect.StructType()
            | inspect.DataclassType()
            | inspect.TypedDictType()
            | inspect.NamedTupleType()
        ):
            return nested(info)
        case inspect.UnionType(types=types):
            return " | ".join(sorted(_text(each, nested) for each in types))
        case inspect.TupleType(item_types=types):
            return f"[{', '.join(_text(each, nested) for each in types)}]"
        case inspect.DictType(key_type=key, value_type=value):
            return f"{{{_text(key, nested)}: {_text(value, nested)}, ...}}"
        case inspect.LiteralType(values=values):
            return _choice(values)
        case inspect.EnumType(cls=cls):
            return _choice(member.value for member in cls)
        case inspect.CustomType(cls=cls):
            hint = "; typing.Any stands for anything" if cls is object else ""
            raise TypeError(f"msgspec has no encoding of {cls.__qualname__}{hint}")
        case inspect.Metadata(type=inner):
            return _text(inner, nested)
    item = getattr(info, "item_type", None)
    if isinstance(item, inspect.Type):  # of a list, a set, or another collection
        return f"[{_text(item, nested)}, ...]"
    return type(info).__name__.removesuffix("Type").lower()


def _choice(values: Iterable[object]) -> str:
    return " | ".join(sorted(repr(value) for value in values))


def _fields(info: _Object, nested: Callable[[_Object], str]) -> str:
    tag = getattr(info, "tag", None)
    tags = [f"{getattr(info, 'tag_field', None)}={tag!r}"] if tag is not None else []
    fields = [
        (field.encode_name, _text(field.type, nested)) for field in info.fields if field.required
    ]
    if getattr(info, "array_like", False) or isinstance(info, inspect.NamedTupleType):
        return f"[{', '.join([*tags, *(text for _, text in fields)])}]"
    return f"{{{', '.join([*tags, *(f'{name}: {text}' for name, text in sorted(fields))])}}}"
