"""What faults make of a connection's bytes. It reads no socket and no clock: it is told."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TypeVar

from servestream_client.testing.network import (
    Cut,
    CutKind,
    Deaf,
    Delay,
    Direction,
    NetworkFault,
    Slice,
    Throttle,
)

__all__ = ["BURST_SECONDS", "Armed", "Chunk", "InForce", "Shaping"]

BURST_SECONDS = 0.01
"""The grain of a throttle. Finer would only mean more wake-ups."""

F = TypeVar("F", Cut, Deaf, Delay, Throttle, Slice)


@dataclass(eq=False, slots=True)
class Armed:
    """A fault in force. The same fault may be so twice, so these are told apart by identity."""

    fault: NetworkFault
    left: int | None
    fired: bool = False


class InForce:
    """The faults of a proxy: a cut is in force while it has connections left to cut, and what had
    an effect stands in `fired` once, whatever became of it.
    """

    def __init__(self) -> None:
        self.fired: list[NetworkFault] = []
        self._armed: list[Armed] = []

    def __contains__(self, armed: Armed) -> bool:
        return armed in self._armed

    @property
    def faults(self) -> list[NetworkFault]:
        """In the order in which they were added; may be asked from any thread."""
        return [armed.fault for armed in list(self._armed)]

    def add(self, fault: NetworkFault) -> Armed:
        armed = Armed(fault, fault.times if isinstance(fault, Cut) else None)
        self._armed.append(armed)
        return armed

    def remove(self, fault: NetworkFault) -> None:
        """The first that equals it, if there is one."""
        found = next((armed for armed in self._armed if armed.fault == fault), None)
        if found is not None:
            self._armed.remove(found)

    def clear(self) -> None:
        self._armed.clear()

    def use(self, armed: Armed) -> None:
        """A connection is cut by this fault, which may have been its last."""
        if armed.left is not None:
            armed.left -= 1
            if not armed.left:
                self._armed.remove(armed)

    def fire(self, armed: Armed) -> None:
        """It has an effect."""
        if not armed.fired:
            armed.fired = True
            self.fired.append(armed.fault)

    def of(self, kind: type[F], direction: Direction) -> Iterator[tuple[Armed, F]]:
        """Those of a kind that concern a direction."""
        for armed in self._armed:
            fault = armed.fault
            if isinstance(fault, kind) and fault.direction in (direction, Direction.BOTH):
                yield armed, fault


@dataclass(slots=True)
class Chunk:
    """What was read at once: bytes, or how the stream ended."""

    content: memoryview | CutKind
    read_at: float
    draw: float | None = None
    """From -1 to 1: where in the range of a jitter its delay lies."""


class Shaping:
    """What may pass of one direction of a connection, and when: never a byte beyond the tightest
    cut, nor one earlier than every delay and the slowest throttle allow.

    Args:
        in_force: the proxy's faults.
        direction: which of them concern it.
        rng: draws the jitter of its delays.
        fired: is told of each fault that holds something back, and may be told again.
    """

    def __init__(
        self,
        in_force: InForce,
        direction: Direction,
        rng: random.Random,
        fired: Callable[[Armed, str], None],
    ) -> None:
        self.free_at: float = 0.0
        """When a throttle lets the next bytes pass."""
        self._in_force = in_force
        self._direction = direction
        self._random = rng
        self._fired = fired
        self._passed = 0
        self._marks: dict[Armed, int] = {}

    def changed(self) -> None:
        """What a throttle has promised is void: another one may be in force."""
        self.free_at = 0.0

    def mark(self, armed: Armed) -> None:
        """A fault counts bytes from here."""
        self._marks[armed] = self._passed

    @property
    def delays(self) -> bool:
        """Whether a delay is in force."""
        return any(True for _ in self._in_force.of(Delay, self._direction))

    @property
    def slices(self) -> bool:
        """Whether what passes does so in pieces."""
        return any(True for _ in self._in_force.of(Slice, self._direction))

    def held_until(self, chunk: Chunk, now: float) -> float | None:
        """When a chunk that a delay holds may pass; None: it may now."""
        delays = [
            (armed, fault.seconds + (fault.jitter * self._drawn(chunk) if fault.jitter else 0.0))
            for armed, fault in self._in_force.of(Delay, self._direction)
        ]
        due = chunk.read_at + sum(seconds for _, seconds in delays)
        if due <= now:
            return None
        for armed, seconds in delays:
            self._fired(armed, f", {seconds:.6f} s")
        return due

    def due_cut(self) -> tuple[Armed, CutKind] | None:
        """The cut to whose place the connection has come.

        Asked before bytes pass, for a cut after none of them, and after they did.
        """
        for room, armed, fault in self._rooms():
            if room <= 0:
                return armed, fault.how
        return None

    def size(self, wanted: int, now: float) -> int:
        """How many bytes may pass at once; 0: none before `free_at`. No cut is due."""
        size = self._paced(wanted, now)
        for armed, fault in self._in_force.of(Slice, self._direction):
            if fault.bytes < size:
                self._fired(armed, "")
                size = fault.bytes
        return min([size, *(room for room, _, _ in self._rooms())])

    def passed(self, count: int, now: float) -> None:
        """So many bytes have passed."""
        self._passed += count
        slowest = self._slowest()
        if slowest is not None:
            # A timer that was late must not make the line slower, a pause not faster.
            start = max(self.free_at, now - BURST_SECONDS)
            self.free_at = start + count / slowest[1].bytes_per_second

    def _drawn(self, chunk: Chunk) -> float:
        if chunk.draw is None:
            chunk.draw = self._random.uniform(-1, 1)
        return chunk.draw

    def _slowest(self) -> tuple[Armed, Throttle] | None:
        return min(
            self._in_force.of(Throttle, self._direction),
            key=lambda each: each[1].bytes_per_second,
            default=None,
        )

    def _paced(self, size: int, now: float) -> int:
        slowest = self._slowest()
        if slowest is None:
            return size
        armed, fault = slowest
        if now < self.free_at:
            self._fired(armed, "")
            return 0
        return min(size, max(1, int(fault.bytes_per_second * BURST_SECONDS)))

    def _rooms(self) -> Iterator[tuple[int, Armed, Cut]]:
        """How many bytes may pass before each cut."""
        for armed, fault in self._in_force.of(Cut, self._direction):
            yield fault.after_bytes - self._passed + self._marks.get(armed, 0), armed, fault
