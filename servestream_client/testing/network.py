"""What can happen to connections: the faults that a `FaultProxy` puts in force."""

from __future__ import annotations

import enum
import math
from dataclasses import MISSING, asdict, dataclass, fields
from typing import Any

from servestream_client.errors import ConfigurationError

__all__ = [
    "Cut",
    "CutKind",
    "Deaf",
    "Delay",
    "Direction",
    "NetworkFault",
    "Slice",
    "Throttle",
    "require",
]


class Direction(enum.StrEnum):
    """Which bytes a fault concerns."""

    UP = "up"
    """From the client to the server."""
    DOWN = "down"
    """From the server to the client."""
    BOTH = "both"


class CutKind(enum.StrEnum):
    """How a connection ends."""

    RESET = "reset"
    """RST to both sides, as when a machine was restarted."""
    CLOSE = "close"
    """FIN to both sides, after what was forwarded, as when a process ends in good order."""


class _FaultBase:
    """What faults have in common."""

    __slots__ = ()

    def to_json(self) -> dict[str, Any]:
        """The fault as plain values; `fault` names its kind."""
        return {"fault": type(self).__name__.lower(), **asdict(self)}  # type: ignore[call-overload]

    def __repr__(self) -> str:
        values = (
            (each.name, getattr(self, each.name))
            for each in fields(self)  # type: ignore[arg-type]  # every kind is a dataclass
            if each.default is MISSING or getattr(self, each.name) != each.default
        )
        return f"{type(self).__name__}({', '.join(f'{k}={_shown(v)}' for k, v in values)})"


@dataclass(frozen=True, slots=True, repr=False)
class Cut(_FaultBase):
    """Ends a connection once so many bytes have passed; those arrive, and none after them.

    They are counted from the connection's start, or from when the fault was added if that came
    later. Before a connection is cut, the receiver's kernel has acknowledged them; other bytes on
    their way are lost with a reset, as they are in a network.

    Attributes:
        after_bytes: how many; 0: the connection ends when its next byte would pass.
        how: reset or orderly end.
        direction: what is counted; BOTH: each direction for itself, whichever is first.
        times: how many connections; None: every one.

    Raises:
        ConfigurationError: a number that cannot be.
    """

    after_bytes: int = 0
    how: CutKind = CutKind.RESET
    direction: Direction = Direction.BOTH
    times: int | None = 1

    def __post_init__(self) -> None:
        _check_count("Cut.after_bytes", self.after_bytes, 0)
        require(self.how in tuple(CutKind), "Cut.how must be a CutKind")
        _check_direction(self)
        if self.times is not None:
            _check_count("Cut.times", self.times, 1)


@dataclass(frozen=True, slots=True, repr=False)
class Deaf(_FaultBase):
    """Connections stay open, and nothing gets through: a partition.

    Bytes, ends of stream, resets and, in direction UP, the opening of new connections are held
    back, and go on when the fault is removed.

    Attributes:
        direction: what is held back.

    Raises:
        ConfigurationError: no such direction.
    """

    direction: Direction = Direction.BOTH

    def __post_init__(self) -> None:
        _check_direction(self)


@dataclass(frozen=True, slots=True, repr=False)
class Delay(_FaultBase):
    """Bytes and ends of stream arrive late, in their order, while others are already on their way.

    Up to 1 MiB is under way in a direction of a connection; then the sender has to wait.

    Attributes:
        seconds: how late.
        jitter: seconds; each delay is drawn from ``seconds - jitter`` to ``seconds + jitter``, by
            the proxy's seed. What is read at once has one delay.
        direction: what is delayed.

    Raises:
        ConfigurationError: a number that cannot be, or a jitter above `seconds`.
    """

    seconds: float
    jitter: float = 0.0
    direction: Direction = Direction.BOTH

    def __post_init__(self) -> None:
        _check_seconds("Delay.seconds", self.seconds)
        _check_seconds("Delay.jitter", self.jitter)
        require(self.jitter <= self.seconds, "Delay.jitter must not exceed Delay.seconds")
        _check_direction(self)


@dataclass(frozen=True, slots=True, repr=False)
class Throttle(_FaultBase):
    """A slow line, for each connection and direction by itself.

    Attributes:
        bytes_per_second: how slow.
        direction: what is slowed down.

    Raises:
        ConfigurationError: a number that cannot be.
    """

    bytes_per_second: int
    direction: Direction = Direction.BOTH

    def __post_init__(self) -> None:
        _check_count("Throttle.bytes_per_second", self.bytes_per_second, 1)
        _check_direction(self)


@dataclass(frozen=True, slots=True, repr=False)
class Slice(_FaultBase):
    """Bytes are forwarded in small pieces, each a segment of its own as far as TCP lets it be.

    Attributes:
        bytes: the most in a piece.
        direction: what is sliced.

    Raises:
        ConfigurationError: a number that cannot be.
    """

    bytes: int
    direction: Direction = Direction.BOTH

    def __post_init__(self) -> None:
        _check_count("Slice.bytes", self.bytes, 1)
        _check_direction(self)


NetworkFault = Cut | Deaf | Delay | Throttle | Slice


def require(holds: bool, message: str) -> None:
    if not holds:
        raise ConfigurationError(message)


def _check_count(name: str, value: object, least: int) -> None:
    whole = isinstance(value, int) and not isinstance(value, bool) and value >= least
    require(whole, f"{name} must be a whole number, at least {least}")


def _check_seconds(name: str, value: object) -> None:
    time = isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < math.inf
    require(time, f"{name} must be a time in seconds, at least 0")


def _check_direction(fault: NetworkFault) -> None:
    require(
        fault.direction in tuple(Direction), f"{type(fault).__name__}.direction must be a Direction"
    )


def _shown(value: object) -> str:
    return f"{type(value).__name__}.{value.name}" if isinstance(value, enum.Enum) else repr(value)
