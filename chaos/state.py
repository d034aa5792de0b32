"""What a stream that hangs is doing, for whoever has to find out why."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

__all__ = ["dump"]

_LONGEST = 300
_INNER = ("session", "pump", "exchange", "endpoints", "ledger", "delivery", "attempt", "counters")


def dump(stream: object) -> dict[str, str]:
    """The attributes of a stream, its driver and session, and where its tasks stand."""
    driver = getattr(stream, "_driver", None)
    state = dict(_attributes("driver", driver, depth=2))
    session = getattr(driver, "session", None)
    stream_id = getattr(session, "stream_id", b"").hex()
    for task in asyncio.all_tasks():
        if stream_id and stream_id in task.get_name():
            frames = [f"{frame.f_code.co_qualname}:{frame.f_lineno}" for frame in task.get_stack()]
            state[f"task {task.get_name()}"] = " > ".join(frames) + _awaited(task)
    return state


def _awaited(task: asyncio.Task[object]) -> str:
    """What a task's innermost coroutine is in."""
    names: list[str] = []
    inner: Any = task.get_coro()
    while inner is not None and len(names) < 20:
        frame = getattr(inner, "cr_frame", None) or getattr(inner, "ag_frame", None)
        if frame is not None:
            names.append(f"{frame.f_code.co_qualname}:{frame.f_lineno}")
        inner = getattr(inner, "cr_await", None) or getattr(inner, "ag_await", None)
    return " | " + " > ".join(names)


def _attributes(name: str, what: object, *, depth: int) -> Iterator[tuple[str, str]]:
    for key in _names(what):
        try:
            value = getattr(what, key, None)
        except Exception as error:  # a property of something half done
            value = error
        if callable(value):
            continue
        if key in _INNER and depth and value is not None:
            yield from _attributes(f"{name}.{key}", value, depth=depth - 1)
        else:
            yield f"{name}.{key}", repr(value)[:_LONGEST]


def _names(what: object) -> list[str]:
    kinds = [kind for kind in type(what).__mro__ if kind is not object]
    slots = [slot for kind in kinds for slot in getattr(kind, "__slots__", ()) or ()]
    properties = [
        key for kind in kinds for key, value in vars(kind).items() if isinstance(value, property)
    ]
    names = {*slots, *properties, *getattr(what, "__dict__", {})}
    return sorted(names - {"__weakref__", "__dict__"})
