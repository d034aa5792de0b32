"""The structure of a type in one line of text, so that two ends can tell whether theirs fit.

Names of classes do not count, and neither do fields with a default: those can be added or left out
on one side without the other, as in a deployment that is newer than its clients.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from contextlib import suppress

from msgspec import inspect

__all__ = ["records", "signature"]

_LONGEST = 300
"""Characters of a signature; a longer one ends in a digest of all of it."""


def signature(kind: type) -> str:
    """Of one type, e.g. ``{label: str, score: float}``.

    Raises:
        TypeError: msgspec does not support the type.
    """
    text = _text(inspect.type_info(kind), ())
    if len(text) <= _LONGEST:
        return text
    digest = hashlib.sha256(text.encode()).hexdigest()[:16]
    return f"{text[: _LONGEST - 22]} … #{digest}"


def records(kind: type) -> set[type]:
    """The structs and dataclasses in a type."""
    found: set[type] = set()
    todo: list[object] = [inspect.type_info(kind)]
    while todo:
        info = todo.pop()
        cls = getattr(info, "cls", None)
        if cls is not None:
            _forget(cls)
        if isinstance(info, inspect.StructType | inspect.DataclassType):
            if info.cls in found:
                continue
            found.add(info.cls)
        if isinstance(info, tuple):
            todo += info
        elif isinstance(info, inspect.Type | inspect.Field):
            todo += [getattr(info, name) for name in info.__struct_fields__]
    return found


def _text(info: inspect.Type, within: tuple[type, ...]) -> str:
    match info:
        case (
            inspect.StructType()
            | inspect.DataclassType()
            | inspect.TypedDictType()
            | inspect.NamedTupleType()
        ):
            return _object(info, within)
        case inspect.UnionType(types=types):
            return " | ".join(sorted(_text(each, within) for each in types))
        case inspect.TupleType(item_types=types):
            return f"[{', '.join(_text(each, within) for each in types)}]"
        case inspect.DictType(key_type=key, value_type=value):
            return f"{{{_text(key, within)}: {_text(value, within)}, ...}}"
        case inspect.LiteralType(values=values):
            return _choice(values)
        case inspect.EnumType(cls=cls):
            return _choice(member.value for member in cls)
        case inspect.CustomType(cls=cls):
            raise TypeError(f"msgspec has no encoding of {cls.__qualname__}")
        case inspect.Metadata(type=inner):
            return _text(inner, within)
    item = getattr(info, "item_type", None)
    if isinstance(item, inspect.Type):  # of a list, a set, or another collection
        return f"[{_text(item, within)}, ...]"
    return type(info).__name__.removesuffix("Type").lower()


def _forget(cls: type) -> None:
    """Remove what msgspec has noted in a class of the user's.

    Serve pickles a deployment with the classes of its script by value, and that note cannot be
    pickled. msgspec makes another one when it needs it, which then is in the replica.
    """
    with suppress(AttributeError):
        delattr(cls, "__msgspec_cache__")


def _choice(values: Iterable[object]) -> str:
    return " | ".join(sorted(repr(value) for value in values))


def _object(
    info: inspect.StructType
    | inspect.DataclassType
    | inspect.TypedDictType
    | inspect.NamedTupleType,
    within: tuple[type, ...],
) -> str:
    if info.cls in within:
        return f"^{within[::-1].index(info.cls)}"  # the object that encloses it, so many levels up
    inside = (*within, info.cls)
    _forget(info.cls)
    tag = getattr(info, "tag", None)
    tags = [f"{getattr(info, 'tag_field', None)}={tag!r}"] if tag is not None else []
    fields = [
        (field.encode_name, _text(field.type, inside)) for field in info.fields if field.required
    ]
    if getattr(info, "array_like", False) or isinstance(info, inspect.NamedTupleType):
        return f"[{', '.join([*tags, *(text for _, text in fields)])}]"
    return f"{{{', '.join([*tags, *(f'{name}: {text}' for name, text in sorted(fields))])}}}"
