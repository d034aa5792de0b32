"""Settings from the environment: what the code leaves unsaid, who runs it may say.

``SERVESTREAM_TARGET`` and ``SERVESTREAM_APPLICATION`` say where to, and a variable for each field
of a policy how: ``SERVESTREAM_RETRY_GIVE_UP_AFTER``, ``SERVESTREAM_FLOW_WINDOW_ITEMS``,
``SERVESTREAM_WATCHDOG_ITEM_TIMEOUT``. What the code says itself goes before.

A name that is none of these is told, with the nearest one: refused where it begins as a policy's
do, and warned of elsewhere. What Kubernetes sets for a Service that is called ``servestream``, or
begins so, is nobody's mistake, and ignored.
"""

from __future__ import annotations

import os
import re
import warnings
from collections.abc import Iterable
from dataclasses import fields
from difflib import get_close_matches
from typing import Any, TypeVar, get_args, get_type_hints

from servestream_client.config import FlowControl, RetryPolicy, Watchdog
from servestream_client.errors import ConfigurationError

__all__ = ["APPLICATION", "PREFIXES", "TARGET", "check_names", "names", "policy"]

TARGET = "SERVESTREAM_TARGET"
APPLICATION = "SERVESTREAM_APPLICATION"

PREFIXES: dict[type, str] = {
    RetryPolicy: "SERVESTREAM_RETRY_",
    FlowControl: "SERVESTREAM_FLOW_",
    Watchdog: "SERVESTREAM_WATCHDOG_",
}

_PREFIX = "SERVESTREAM_"

_OF_KUBERNETES = re.compile(
    r"SERVESTREAM(_[A-Z0-9_]+)?"
    r"(_SERVICE_HOST|_SERVICE_PORT(_[A-Z0-9_]+)?|_PORT(_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)?)"
)

_OF_SERVERS = "SERVESTREAM_STATE_KEYS"  # what stateful services seal their states with
_OF_TESTS = "SERVESTREAM_FIXTURE"  # by which servestream_client.testing knows its processes

_told: set[str] = set()
"""Names that were warned of; once is enough for a process."""

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
    strange = sorted(name for name in given.keys() - known.keys() if not _of_kubernetes(name))
    if strange:
        raise ConfigurationError(
            f"the environment's {strange[0]} is no setting"
            f"{_nearest(strange[0], known, PREFIXES[kind])}; there are {', '.join(known)}"
        )
    hints = get_type_hints(kind)
    said: dict[str, Any] = {
        known[name]: _value(name, text, hints[known[name]])
        for name, text in given.items()
        if name in known
    }
    try:
        return kind(**said)
    except ConfigurationError as error:
        named = ", ".join(given.keys() & known.keys())
        raise ConfigurationError(f"{error} (from the environment: {named})") from None


def check_names() -> None:
    """Warn of the variables that look like settings and are none, once each."""
    known = [TARGET, APPLICATION, *(name for kind in PREFIXES for name in names(kind))]
    for name in sorted(os.environ.keys() - {*known, _OF_SERVERS, _OF_TESTS} - _told):
        if (
            not name.startswith(_PREFIX)
            or name.startswith(tuple(PREFIXES.values()))
            or _of_kubernetes(name)
        ):
            continue
        _told.add(name)
        warnings.warn(
            f"the environment's {name} is no setting of servestream_client"
            f"{_nearest(name, known, _PREFIX)}, and is ignored",
            stacklevel=4,
        )


def _of_kubernetes(name: str) -> bool:
    return _OF_KUBERNETES.fullmatch(name) is not None


def _nearest(name: str, known: Iterable[str], prefix: str) -> str:
    tails = [each.removeprefix(prefix) for each in known]
    close = get_close_matches(name.removeprefix(prefix), tails, n=1, cutoff=0.7)
    return f" (is it {prefix}{close[0]}?)" if close else ""


def _value(name: str, text: str, hint: type) -> float | None:
    optional = type(None) in get_args(hint)
    if optional and text.lower() == "none":
        return None
    try:
        return int(text) if hint is int else float(text)
    except ValueError:
        what = "a whole number" if hint is int else "a number" + (", or none" if optional else "")
        raise ConfigurationError(f"the environment's {name} must be {what}, not {text!r}") from None
