"""Settings from the environment: what the code leaves unsaid, who runs it may say.

``SERVESTREAM_TARGET`` and ``SERVESTREAM_APPLICATION`` say where to, and a variable for each field
of a policy how: ``SERVESTREAM_RETRY_GIVE_UP_AFTER``, ``SERVESTREAM_FLOW_WINDOW_ITEMS``,
``SERVESTREAM_WATCHDOG_ITEM_TIMEOUT``. What the code says itself goes before.
"""

from __future__ import annotations

import os
from dataclasses import fields
from typing import Any, TypeVar, get_args, get_type_hints

from servestream_client.config import FlowControl, RetryPolicy, Watchdog
from servestream_client.errors import ConfigurationError

__all__ = ["APPLICATION", "PREFIXES", "TARGET", "names", "policy"]

TARGET = "SERVESTREAM_TARGET"
APPLICATION = "SERVESTREAM_APPLICATION"

PREFIXES: dict[type, str] = {
    RetryPolicy: "SERVESTREAM_RETRY_",
    FlowControl: "SERVESTREAM_FLOW_",
    Watchdog: "SERVESTREAM_WATCHDOG_",
}

P = TypeVar("P", RetryPolicy, FlowControl, Watchdog)


def names(kind: type) -> dict[str, str]:
    """The variables of a policy, and the fields that they set."""
    return {f"{PREFIXES[kind]}{field.name.upper()}": field.name for field in fields(kind)}


def policy(kind: type[P]) -> P:
    """A policy as the environment has it, with its defaults elsewhere.

    Raises:
        ConfigurationError: a variable names no field, or its value cannot work.
    """
    known = names(kind)
    given = {name: text for name, text in os.environ.items() if name.startswith(PREFIXES[kind])}
    if strange := sorted(given.keys() - known.keys()):
        raise ConfigurationError(
            f"the environment's {strange[0]} is no setting; there are {', '.join(known)}"
        )
    hints = get_type_hints(kind)
    said: dict[str, Any] = {
        known[name]: _value(name, text, hints[known[name]]) for name, text in given.items()
    }
    try:
        return kind(**said)
    except ConfigurationError as error:
        raise ConfigurationError(f"{error} (from the environment: {', '.join(given)})") from None


def _value(name: str, text: str, hint: type) -> float | None:
    optional = type(None) in get_args(hint)
    if optional and text.lower() == "none":
        return None
    try:
        return int(text) if hint is int else float(text)
    except ValueError:
        what = "a whole number" if hint is int else "a number" + (", or none" if optional else "")
        raise ConfigurationError(f"the environment's {name} must be {what}, not {text!r}") from None
