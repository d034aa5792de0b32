"""What a user may set, and why the defaults are what they are."""

from __future__ import annotations

import math
import numbers
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

from servestream_client.errors import ConfigurationError

__all__ = [
    "Endpoints",
    "FlowControl",
    "RetryPolicy",
    "Watchdog",
    "check_count",
    "check_number",
    "check_timeout",
]

KIB = 1024
MIB = 1024 * KIB

_HIGHEST_LEVEL = 19

_MOST_WHOLE_BYTES = 64 * MIB
"""Of one payload in a frame. Larger ones need a peer that takes chunks."""


def _require(holds: bool, message: str) -> None:
    if not holds:
        raise ConfigurationError(message)


def check_number(name: str, value: object, *, whole: bool = False, optional: bool = False) -> None:
    """
    Raises:
        ConfigurationError: it is no number, nor None where that is allowed.
    """
    if value is None and optional:
        return
    kind = numbers.Integral if whole else numbers.Real
    if isinstance(value, bool) or not isinstance(value, kind):
        wanted = "a whole number" if whole else "a number"
        raise ConfigurationError(
            f"{name} must be {wanted}{', or None' if optional else ''}, not {value!r}"
        )


def check_count(name: str, value: object) -> None:
    """
    Raises:
        ConfigurationError: it is no number from 1 up.
    """
    check_number(name, value, whole=True)
    _require(value >= 1, f"{name} must be at least 1, not {value!r}")  # type: ignore[operator]


def check_timeout(timeout: float | None) -> None:
    """
    Raises:
        ConfigurationError: it is neither a time in seconds nor None.
    """
    if timeout is not None:
        check_number("timeout", timeout, optional=True)
        _require(timeout > 0, "timeout must be positive, or None")


def _check_numbers(policy: Any) -> None:  # noqa: ANN401 — any dataclass of numbers
    """That each field is of the kind that its annotation says, which is text in this module."""
    for field in fields(policy):
        check_number(
            f"{type(policy).__name__}.{field.name}",
            getattr(policy, field.name),
            whole=field.type == "int",
            optional="None" in str(field.type),
        )


@dataclass(frozen=True, slots=True)
class Endpoints:
    """Several targets of one client, and what becomes of those that servers tell of.

    Attributes:
        targets: each as the client takes it alone; a name stands for all its addresses.
        discover: whether targets are used, too, that servers tell of when they take a stream or
            leave it. They get what the given ones get, metadata included.
    """

    targets: Sequence[str]
    discover: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryPolicy:
    """When to try again, and when to stop. Progress on a stream starts the count afresh.

    The defaults outlive what Ray Serve was seen to need: a refused port for 15 s after its proxy
    died, 26 s after HAProxy did. A target that has never completed a handshake with this client is
    given up far sooner, since it is most often a wrong address.

    Attributes:
        attempts: attempts in a row without progress before the stream fails.
        connect_attempts: the same while the target has never completed a handshake with this
            client, and is not merely busy; it is given up once so many were made and
            `connect_timeout` has passed, too.
        connect_timeout: seconds from the first failure for which such a target is tried at least,
            since a name or a server may come up a little later than its client.
        give_up_after: seconds from the first of a row of failures without progress until the
            stream fails; time in which a server has the stream is not counted. A longer delay that
            a server asks for ends it, too. None: no limit.
        initial: upper bound of the first backoff in seconds, which is drawn at random (full
            jitter); it doubles with each retry.
        maximum: the backoff cap in seconds: no upper bound exceeds it.
        open_timeout: seconds that a server may take to answer the opening of an attempt, while
            no large item keeps the connection busy. Ray Serve lets a stream wait silently while
            its replicas are full.
        max_attempt_age: seconds after which an attempt takes leave of its replica in good order
            and another one begins, so that long streams reach new replicas; ± 20 % jitter. It waits
            for inputs with many outputs that cannot go on elsewhere. None: it stays as long as it
            can.
        hedge: of the inputs of a stream with lanes, how large a share, from 0 to 1, may go to a
            second replica because the first is late by far; 0: none. Whichever answers first has
            answered. No input is hedged that was under way when a server broke.
    """

    attempts: int = 30
    connect_attempts: int = 3
    connect_timeout: float = 5.0
    give_up_after: float | None = 120.0
    initial: float = 0.1
    maximum: float = 5.0
    open_timeout: float = 15.0
    max_attempt_age: float | None = None
    hedge: float = 0.05

    def __post_init__(self) -> None:
        _check_numbers(self)
        _require(0 <= self.hedge <= 1, "RetryPolicy.hedge must lie between 0 and 1")
        _require(self.attempts >= 1, "RetryPolicy.attempts must be at least 1")
        _require(self.connect_attempts >= 1, "RetryPolicy.connect_attempts must be at least 1")
        _require(
            0 <= self.connect_timeout < math.inf,
            "RetryPolicy.connect_timeout must be seconds, or 0",
        )
        _require(
            self.give_up_after is None or self.give_up_after > 0,
            "RetryPolicy.give_up_after must be positive, or None",
        )
        _require(
            0 < self.initial <= self.maximum < math.inf,
            "RetryPolicy: 0 < initial <= maximum must hold",
        )
        _require(self.open_timeout > 0, "RetryPolicy.open_timeout must be positive")
        _require(
            self.max_attempt_age is None or self.max_attempt_age > 0,
            "RetryPolicy.max_attempt_age must be positive, or None",
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Watchdog:
    """How long silence, and a single input, may last.

    A link that is half-open (a partition, a host that froze) resets nothing and reports nothing:
    only missing heartbeats show it. They show a peer whose event loop is kept busy as well, so a
    handler that computes on the event loop for longer than three intervals belongs into a plain
    `def`, which runs in a thread.

    Attributes:
        heartbeat_interval: seconds in which each end sends at least one frame; after three of them
            without any, the link is given up and the stream resumes elsewhere. A chunk of a large
            item is a frame as well. Where items go whole (below 2 s, and from peers of 0.1.0), the
            time that they take at 32 KiB/s is added; a link that is slower is given up. None: no
            heartbeats, and a half-open link lasts until TCP notices.
        item_timeout: seconds that the server's handler may take for one input, or, where it gives
            many outputs, for each of them; waiting for its turn, or for its reader, is not
            counted. The input then fails with `ItemErrorKind.TIMEOUT` while others go on.
            None: any time.
    """

    heartbeat_interval: float | None = 10.0
    item_timeout: float | None = 300.0

    def __post_init__(self) -> None:
        _check_numbers(self)
        for name in ("heartbeat_interval", "item_timeout"):
            value = getattr(self, name)
            _require(
                value is None or 0.01 <= value <= 86_400 * 365,
                f"Watchdog.{name} must be seconds, not below 0.01, or None",
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class FlowControl:
    """How much may be under way. The server may lower what concerns it when a stream opens.

    The item limit keeps a frame with a single item below 4 MiB, the largest message that a gRPC
    peer accepts unless told otherwise.

    Attributes:
        window_items: inputs whose outputs the caller has not taken yet. Of the default a stream
            has 4096 at first, and the others where its server turns out to be near and quick.
        window_bytes: payload bytes of inputs that are not answered yet, of a stateful stream those
            that no state covers, and of those that failed until the caller has taken their errors,
            which hold the inputs; one that could not be
            encoded counts for 64 KiB where its size is unknown. One input is always allowed.
        output_items: outputs received or under way that the caller has not taken.
        output_bytes: the same in payload bytes; may be exceeded by one output.
        outputs_per_input: of a handler that gives many outputs, how many of one input are received
            or under way that its reader has not taken.
        bytes_per_input: the same in payload bytes; may be exceeded by one output.
        continuation_bytes: what is kept at the most of each input that was answered in part, so
            that another replica can go on with it: its outputs since the last checkpoint, and that.
            An input that exceeds it cannot be continued until its next checkpoint.
        checkpoint_bytes: the largest checkpoint, or sealed state.
        max_item_bytes: the largest payload, either way. What is too large for a frame travels in
            chunks; above 64 MiB, the peer must know these.
        max_unacknowledged_frames: frames with items outstanding in each direction (K).
        compression_level: at which payloads are compressed, both ways, where that makes them
            smaller: 1 to 19, of Zstandard; 0: not at all. It is done in the event loop, for up to
            512 KiB at a time: from 10 on that takes long. A client's is what it asks for, and needs
            ``servestream-client[zstd]`` at both ends: a server without it sends and gets them as
            they are. A service's is the level of what it sends then, 1 by default.
    """

    window_items: int = 16_384
    window_bytes: int = 4 * MIB
    output_items: int = 16_384
    output_bytes: int = 4 * MIB
    outputs_per_input: int = 256
    bytes_per_input: int = 256 * KIB
    continuation_bytes: int = MIB
    checkpoint_bytes: int = 64 * KIB
    max_item_bytes: int = 3 * MIB
    max_unacknowledged_frames: int = 4
    compression_level: int = 0

    def __post_init__(self) -> None:
        _check_numbers(self)
        _require(
            0 <= self.compression_level <= _HIGHEST_LEVEL,
            f"FlowControl.compression_level must lie between 0 and {_HIGHEST_LEVEL}",
        )
        for name in (
            "window_items",
            "window_bytes",
            "output_items",
            "output_bytes",
            "outputs_per_input",
            "bytes_per_input",
            "continuation_bytes",
            "checkpoint_bytes",
        ):
            _require(
                1 <= getattr(self, name) < 2**31,
                f"FlowControl.{name} must lie between 1 and 2^31 - 1",
            )
        _require(
            1 <= self.max_item_bytes <= 1024 * MIB,
            "FlowControl.max_item_bytes must lie between 1 and 1 GiB",
        )
        _require(
            2 <= self.max_unacknowledged_frames <= 16,
            "FlowControl.max_unacknowledged_frames must lie between 2 and 16",
        )

    @property
    def max_whole_bytes(self) -> int:
        """The largest payload that comes in one frame, from a peer that knows no chunks."""
        return min(self.max_item_bytes, _MOST_WHOLE_BYTES)

    @property
    def max_frame_bytes(self) -> int:
        """The largest frame: one item of that size, or many small ones, and the rest."""
        return self.max_whole_bytes + max(512 * KIB, self.checkpoint_bytes + 64 * KIB)
