"""What a service's attributes must be: said when the class is made, and when it begins to serve."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from servestream_client.codecs import Codec, check_names
from servestream_client.config import FlowControl, check_number
from servestream_client.errors import ConfigurationError

__all__ = ["check_class", "check_service"]


def check_class(service: type) -> None:
    """
    Raises:
        ConfigurationError: an attribute that this class sets itself cannot work.
    """
    for name, check in _CHECKS.items():
        value = vars(service).get(name)
        if name in vars(service) and not hasattr(value, "__get__"):  # or it is made for each object
            check(f"{service.__name__}.{name}", value)


def check_service(service: object) -> None:
    """
    Raises:
        ConfigurationError: one of the service's attributes cannot work.
    """
    for name, check in _CHECKS.items():
        check(f"{type(service).__name__}.{name}", getattr(service, name))


def _count(name: str, value: object) -> None:
    check_number(name, value, whole=True)
    _least(name, value, 1)


def _count_or_none(name: str, value: object) -> None:
    check_number(name, value, whole=True, optional=True)
    if value is not None:
        _least(name, value, 1)


def _seconds(name: str, value: object) -> None:
    check_number(name, value)
    _least(name, value, 0)


def _least(name: str, value: object, least: int) -> None:
    if not value >= least:  # type: ignore[operator]  # a number, as was checked
        raise ConfigurationError(f"{name} must be at least {least}, not {value!r}")


def _text(name: str, value: object) -> None:
    if not isinstance(value, str):
        raise ConfigurationError(f"{name} must be a string, not {value!r}")


def _text_or_none(name: str, value: object) -> None:
    if value is not None:
        _text(name, value)


def _codec(name: str, value: object) -> None:
    if isinstance(value, type):
        raise ConfigurationError(f"{name} is a class, {value.__name__}: make an instance of it")
    if not isinstance(value, Codec):
        raise ConfigurationError(f"{name} lacks the methods of Codec: {value!r}")
    check_names(name, value)


def _flow(name: str, value: object) -> None:
    if not isinstance(value, FlowControl):
        raise ConfigurationError(f"{name} must be a FlowControl(...), not {value!r}")


_CHECKS: Mapping[str, Callable[[str, object], None]] = {
    "codec": _codec,
    "application": _text_or_none,
    "code_version": _text,
    "max_concurrency": _count_or_none,
    "max_batch_size": _count,
    "batch_wait": _seconds,
    "flow": _flow,
}
