"""What a session consists of, for tests that nothing in it changes."""

from __future__ import annotations

from enum import Enum


def anatomy(thing: object) -> object:
    """Everything that a session consists of, as comparable values."""
    if isinstance(thing, dict):
        return [(key, anatomy(value)) for key, value in thing.items()]
    if isinstance(thing, (str, bytes, int, float, Enum, type(None))):
        return thing
    if hasattr(thing, "__iter__"):
        return [anatomy(value) for value in thing]
    names = getattr(thing, "__slots__", None) or vars(thing)
    return [(name, anatomy(getattr(thing, name))) for name in names]
