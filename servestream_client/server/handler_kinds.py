"""Which handler a service has: the one that it overrides, of those that are declared here."""

from __future__ import annotations

from collections.abc import Mapping

from servestream_client.protocol.frames import HandlerKind

__all__ = ["HANDLERS", "declared", "handler_name", "overridden"]

HANDLERS: Mapping[str, HandlerKind] = {
    "predict": HandlerKind.ONE_TO_ONE,
    "predict_batch": HandlerKind.BATCH,
    "generate": HandlerKind.ONE_TO_MANY,
    "step": HandlerKind.STATEFUL,
    "step_many": HandlerKind.STATEFUL,
    "step_batch": HandlerKind.STATEFUL,
}

_HERE = "servestream_client.server."


def _declares(service: type, name: str) -> type | None:
    """The package's own class that a service has a method from, overridden or not."""
    first = next((each for each in reversed(service.__mro__) if name in vars(each)), None)
    return first if first is not None and first.__module__.startswith(_HERE) else None


def declared(service: type) -> list[str]:
    """The handlers of which a service may override one."""
    names = [name for name in HANDLERS if _declares(service, name) is not None]
    stateful = [name for name in names if HANDLERS[name] is HandlerKind.STATEFUL]
    return stateful or names


def overridden(service: type) -> list[str]:
    """Those that it does override, whether it may or not."""
    return [
        name
        for name in HANDLERS
        if (base := _declares(service, name)) is not None
        and getattr(service, name) is not getattr(base, name)
    ]


def handler_name(service: type) -> str:
    """The one of a service that was checked."""
    (name,) = overridden(service)
    return name
