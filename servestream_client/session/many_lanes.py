"""The lanes of a stream of whose inputs each may have many outputs.

Where there are servers to choose from, the stream's own attempt carries none of its inputs. They go
one by one to a `Generator`, which spreads them over the servers, and moves what was cut; outputs
come back into the stream's own delivery queue, in its order. Rule: docs/protocol.md, section 19.

Invariant: an input that left the stream is with the generator until its last word is in the stream,
and what the consumer has not taken of it is held against its own credit alone.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from servestream_client.errors import ItemError
from servestream_client.events import LaneStatistics
from servestream_client.protocol import continuation, load
from servestream_client.protocol.client import Part
from servestream_client.protocol.frames import Load
from servestream_client.session.driver import StreamDriver
from servestream_client.session.forwarded import Forwarded
from servestream_client.session.generator import Generator
from servestream_client.session.outcome import as_own
from servestream_client.session.request import Carrier
from servestream_client.session.spread import ALONE, MOST_LANES, SLOW_US
from servestream_client.session.ways import OwnWay
from servestream_client.usercode import unforeseen

__all__ = ["ManyLanes"]

_QUEUES = 2
"""How often over the servers' places may be filled."""

_LEAST = 16
"""What may go to each server in any case."""

_UNKNOWN = 2
"""What it carries until a server has said how many there are, for `_UNKNOWN_SECONDS`."""

_UNKNOWN_SECONDS = 3.0
"""A server says nothing before it has asked."""

_FAILURES = 3
"""Lanes in a row that gave up before the stream does."""


class ManyLanes:
    """See the module.

    Args:
        stream: whose inputs they carry.
        make_generator: makes what has them answered.
        lanes: how many there may be; None: one for each server.
    """

    hedged = 0
    """A handler with many outputs may have done something that is not to be done twice."""

    def __init__(
        self, stream: StreamDriver, make_generator: Callable[[], Generator], lanes: int | None
    ) -> None:
        self._stream = stream
        self._session = stream.session
        self._sharing = stream.sharing
        self._make_generator = make_generator
        self._generator: Generator | None = None
        self._given = lanes
        self._own = OwnWay(stream)
        self._requests: dict[int, Forwarded] = {}  # until the consumer has all that came
        self._under_way = 0  # of these, how many lack their last word
        self._size = 0  # of their payloads, in bytes
        self._failures = 0
        self._gave_up: Carrier | None = None  # the last one
        self._patient: asyncio.TimerHandle | None = None
        self._impatient = False
        self._looking = False
        self._ended = False
        self.active: bool = True
        self._sharing.bound(_UNKNOWN)

    @property
    def attempts(self) -> int:
        """How many calls were made for lanes."""
        return 0 if self._generator is None else self._generator.attempts

    def statistics(self) -> Sequence[LaneStatistics]:
        """Of each way; may be asked for in any thread."""
        beside = () if self._generator is None else self._generator.statistics()
        return self._own.statistics(ended=self._ended), *beside

    # ---------------------------------------------------------------- from the stream

    def look(self) -> None:
        """Something has changed: hand out what may go on lanes."""
        if self._ended or self._looking or self._session.welcome is None:
            return
        self._looking = True
        try:
            self._make_way()
            ways = self._ways()
            self.active = ways != 1
            if ways > 1:
                self._hand_out(ways)
            else:
                self._sharing.bound(self._share(ways))
        finally:
            self._looking = False

    def end(self) -> None:
        """The stream's outcome is settled."""
        self._ended = True
        if self._patient is not None:
            self._patient.cancel()
        if self._generator is not None:
            self._generator.abandon()
        for request in self._requests.values():
            request.drop()
        self._requests.clear()

    async def aclose(self) -> None:
        """Wait until nothing is left."""
        if self._generator is not None:
            await self._generator.aclose()

    # ---------------------------------------------------------------- how many, and how much

    @property
    def _load(self) -> Load:
        return self._session.load or Load()

    def _ways(self) -> int:
        """Among how many servers there is a choice; 0: that may be known soon."""
        welcome = self._session.welcome
        if welcome is None or not continuation.holds(welcome):
            return 1
        if self._given is not None:
            return self._given
        said = self._load
        if said.item_us and said.item_us < SLOW_US:
            return 1
        if said.servers:
            return min(said.servers, MOST_LANES)
        if said.places or load.FEATURE not in welcome.features or self._impatient:
            return 1  # or nobody knows
        if self._patient is None:
            self._patient = asyncio.get_running_loop().call_later(
                _UNKNOWN_SECONDS, self._nobody_knows, context=self._stream.context
            )
        return 0

    def _nobody_knows(self) -> None:
        self._impatient = True
        try:
            self.look()
        except Exception as bug:  # which would leave the stream waiting
            self._stream.abandon(unforeseen(bug))
        self._stream.wake_writer()

    def _share(self, ways: int) -> int | None:
        """What the stream's own attempt carries. At one server, and where nobody knows, it leaves
        something over for others that come: what was sent cannot go to them.
        """
        if not ways:
            return _UNKNOWN
        welcome = self._session.welcome
        if welcome is None or load.FEATURE not in welcome.features:
            return None
        return max(ALONE, _QUEUES * self._load.places)

    # ---------------------------------------------------------------- inputs

    def _hand_out(self, ways: int) -> None:
        self._sharing.bound(0)
        most = ways * max(_LEAST, _QUEUES * self._load.places)
        while (number := self._sharing.next) and not self._ended:
            if self._under_way >= most or not self._fits(number):
                return
            self._sharing.take_one()
            self._submit(number)
        if self._session.ledger.finished and self._generator is not None:
            self._generator.orphaned()

    def _fits(self, number: int) -> bool:
        """Whether there is room for outputs of an input, and lanes can send it whatever they have:
        where answers wait for their turn, the one at its turn must not wait behind others that
        have no credit.
        """
        welcome = self._session.welcome
        if not self._sharing.has_room_for(number):
            return False
        if not self._session.ordered or welcome is None:
            return True
        if number == self._stream.quarantine.turn or not self._under_way:
            return True
        size = len(self._sharing.payload(number))
        limits = welcome.limits
        return self._under_way < limits.window_items and self._size + size <= limits.window_bytes

    def _submit(self, number: int) -> None:
        if self._generator is None:
            self._generator = self._make_generator()
            self._generator.learn(self._load)
            self._stream.quarantine.tell(self._taken)
        request = Forwarded(self, self._stream, number)
        request.owner = self._generator
        self._requests[number] = request
        self._under_way += 1
        self._size += request.size
        self._generator.submit(request)

    def _taken(self, number: int, count: int, size: int) -> None:
        request = self._requests.get(number)
        if request is not None:
            request.acknowledge(count, size)
            self._forget(request)

    def _forget(self, request: Forwarded) -> None:
        if request.ended and not request.held.outputs and not self._ended:
            self._requests.pop(request.of, None)

    def _make_way(self) -> None:
        """What it takes to go on with others after a cut may fill a server's window. If the one at
        its turn waits behind such as have no credit, its lane takes leave of its server without
        these.
        """
        request = self._requests.get(self._stream.quarantine.turn)
        if request is not None and self._generator is not None:
            self._generator.make_way(request)

    # ---------------------------------------------------------------- from the generator

    def came(self, part: Part) -> None:
        """Outputs of an input came."""
        if not self._ended:
            self._sharing.resolve_part(part)

    def left(self, request: Forwarded, error: BaseException | None) -> None:
        """There are no further outputs of an input."""
        try:
            self._left(request, error)
        except Exception as bug:  # which would leave the stream waiting
            self._stream.abandon(unforeseen(bug))

    def _left(self, request: Forwarded, error: BaseException | None) -> None:
        self._under_way -= 1
        if self._ended:
            return
        number = request.of
        self._size -= request.size
        if error is None:
            self._failures = 0
            self._sharing.resolve_end(number, request.received)
        elif isinstance(error, ItemError):
            self._failures = 0
            self._sharing.fail(number, request.failure(error))
        else:
            if not self._goes_on(request):
                self._stream.abandon(as_own(error, "a lane of the stream ended"))
            elif not self._ended:
                self._submit(number)
            return
        self._forget(request)
        self.look()

    def _goes_on(self, request: Forwarded) -> bool:
        """Whether another lane may do: nothing came of it, and it was not that the retry policy
        allows no more, which holds for all lanes.
        """
        lane = request.lane
        came = request.received > self._stream.quarantine.received(request.of)
        if lane is None or lane.driver.gave_up or came:
            return False
        if lane is not self._gave_up:
            self._failures, self._gave_up = self._failures + 1, lane
        return self._failures < _FAILURES
