"""What a client's arguments must be, and what to say where they are something else.

Each function raises a `ConfigurationError`.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Mapping, Sequence

import grpc

from servestream_client import environment
from servestream_client.config import Endpoints, FlowControl, RetryPolicy, Watchdog, check_number
from servestream_client.errors import ConfigurationError
from servestream_client.events import Hooks
from servestream_client.metadata import is_printable_ascii
from servestream_client.transport.targets import parse_target
from servestream_client.wire.compressed import MODULE, available

__all__ = [
    "check_application",
    "check_close_timeout",
    "check_compression",
    "check_credentials",
    "check_parameters",
    "check_policies",
    "checked_endpoints",
    "checked_hooks",
]


def checked_endpoints(target: object) -> Endpoints:
    """Where to."""
    given: object = target.targets if isinstance(target, Endpoints) else target
    discover: object = target.discover if isinstance(target, Endpoints) else True
    if not isinstance(discover, bool):
        raise ConfigurationError(f"Endpoints.discover must be true or false, not {discover!r}")
    targets = (given,) if isinstance(given, str) else given
    if isinstance(targets, bytes | bytearray) or not isinstance(targets, Sequence):
        raise ConfigurationError(_no_target(target))
    for each in targets:
        if not isinstance(each, str) or not each.strip():
            raise ConfigurationError(_no_target(each))
        parse_target(each)
    if not targets:
        raise ConfigurationError("there is no target in the list")
    return Endpoints(tuple(dict.fromkeys(targets)), discover)


def _no_target(found: object) -> str:
    return (
        f"target must be a string such as 'host:9000', or a list of them, not {found!r}; without"
        f" one, {environment.TARGET} in the environment is taken"
    )


def check_application(application: object) -> None:
    """What is wanted there."""
    if not isinstance(application, str):
        raise ConfigurationError(f"application must be a string, not {application!r}")
    if not is_printable_ascii(application):
        raise ConfigurationError(f"application must be ASCII text, not {application!r}")


def check_credentials(credentials: object) -> None:
    """Whom to trust."""
    if credentials is not None and not isinstance(credentials, grpc.ChannelCredentials):
        raise ConfigurationError(
            "credentials must be those of a channel, such as grpc.ssl_channel_credentials(),"
            f" and not a {type(credentials).__name__}"
        )


def check_policies(*, retry: object, flow: object, watchdog: object) -> None:
    """How; None: as the environment says, or by default."""
    for name, value, kind in (
        ("retry", retry, RetryPolicy),
        ("flow", flow, FlowControl),
        ("watchdog", watchdog, Watchdog),
    ):
        if value is not None and not isinstance(value, kind):
            raise ConfigurationError(f"{name} must be a {kind.__name__}(...), not {value!r}")


def check_compression(flow: FlowControl) -> None:
    """Whether this process can compress, if it is to."""
    if flow.compression_level and not available():
        raise ConfigurationError(
            f"FlowControl.compression_level={flow.compression_level} needs {MODULE}, which is not"
            " installed: pip install 'servestream-client[zstd]'"
        )


def check_parameters(parameters: object) -> None:
    """What a stream tells the service."""
    if parameters is None:
        return
    if not isinstance(parameters, Mapping):
        raise ConfigurationError(f"parameters must be a mapping, not {parameters!r}")
    for name, value in parameters.items():
        if not (_is_text(name) and _is_text(value)):
            raise ConfigurationError(f"parameters must be strings of Unicode: {name!r}: {value!r}")


def _is_text(value: object) -> bool:
    """Text for others, too: half of a surrogate pair is none."""
    try:
        return isinstance(value, str) and value.encode() is not None
    except UnicodeEncodeError:
        return False


def check_close_timeout(seconds: float) -> None:
    """How long leave-taking may last."""
    check_number("close_timeout", seconds)
    if not seconds > 0:
        raise ConfigurationError("close_timeout must be positive")


def checked_hooks(hooks: Iterable[Hooks]) -> tuple[Hooks, ...]:
    """Who is told."""
    if isinstance(hooks, Hooks) or not isinstance(hooks, Iterable):
        raise ConfigurationError(f"hooks is a list of them: hooks=[...], not {hooks!r}")
    given = tuple(hooks)
    for hook in given:
        if not isinstance(hook, Hooks):
            raise ConfigurationError(
                f"hooks are objects of a class derived from Hooks, not {hook!r}"
            )
        if inspect.iscoroutinefunction(hook.on_event):
            raise ConfigurationError(f"on_event of hooks must be a plain def: {hook!r}")
    return given
