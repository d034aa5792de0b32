"""What a service's attributes must be: said when the class is made, and when it begins to serve."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from servestream_client.codecs import check_codec
from servestream_client.config import FlowControl, check_count, check_number
from servestream_client.errors import ConfigurationError
from servestream_client.server.outputs import Replay
from servestream_client.server.tokens import Tokens

__all__ = ["check_class", "check_service"]


def check_class(service: type) -> None:
    """
    Raises:
        ConfigurationError: an attribute that this class sets itself cannot work.
    """
    for name, check in {**_CHECKS, **STATEFUL}.items():
        value = vars(service).get(name)
        if name in vars(service) and not hasattr(value, "__get__"):  # or it is made for each object
            check(f"{service.__name__}.{name}", value)


def check_service(service: object) -> None:
    """
    Raises:
        ConfigurationError: one of the service's attributes cannot work.
    """
    own = {name: check for name, check in STATEFUL.items() if hasattr(service, name)}
    for name, check in {**_CHECKS, **own}.items():
        check(f"{type(service).__name__}.{name}", getattr(service, name))


def _count_or_none(name: str, value: object) -> None:
    if value is not None:
        check_number(name, value, whole=True, optional=True)
        check_count(name, value)


def _seconds(name: str, value: object) -> None:
    check_number(name, value)
    if not value >= 0:  # type: ignore[operator]  # a number, as was checked
        raise ConfigurationError(f"{name} must be at least 0, not {value!r}")


def _positive(name: str, value: object) -> None:
    _seconds(name, value)
    if not value:
        raise ConfigurationError(f"{name} must be positive, not {value!r}")


def _keys(name: str, value: object) -> None:
    if value is not None:
        _texts(name, value)


def _tokens(name: str, value: object) -> None:
    if not isinstance(value, Tokens):
        raise ConfigurationError(f"{name} must be Tokens(...), not {value!r}")


def _text(name: str, value: object) -> None:
    if not isinstance(value, str):
        raise ConfigurationError(f"{name} must be a string, not {value!r}")


def _text_or_none(name: str, value: object) -> None:
    if value is not None:
        _text(name, value)


def _flow(name: str, value: object) -> None:
    if not isinstance(value, FlowControl):
        raise ConfigurationError(f"{name} must be a FlowControl(...), not {value!r}")


def _replay(name: str, value: object) -> None:
    if not isinstance(value, Replay):
        members = ", ".join(f"Replay.{each.name}" for each in Replay)
        raise ConfigurationError(f"{name} must be one of {members}, not {value!r}")


def _flag(name: str, value: object) -> None:
    if not isinstance(value, bool):
        raise ConfigurationError(f"{name} must be True or False, not {value!r}")


def _texts(name: str, value: object) -> None:
    if not isinstance(value, Sequence) or isinstance(value, str | bytes | bytearray):
        raise ConfigurationError(f"{name} must be a list of strings, not {value!r}")
    for each in value:
        _text(f"each of {name}", each)


_CHECKS: Mapping[str, Callable[[str, object], None]] = {
    "codec": check_codec,
    "application": _text_or_none,
    "code_version": _text,
    "endpoints": _texts,
    "max_concurrency": _count_or_none,
    "max_batch_size": check_count,
    "batch_wait": _seconds,
    "flow": _flow,
    "replay": _replay,
    "fingerprint": _text,
    "hedging": _flag,
}

STATEFUL: Mapping[str, Callable[[str, object], None]] = {
    "state_codec": check_codec,
    "state_version": check_count,
    "state_lifetime": _positive,
    "state_keys": _keys,
    "tokens": _tokens,
    "in_place": _flag,
}
"""What a stateful service has besides."""
