"""Cancellation at every await point: of a stream, of a `predict`, of a close, of everything.

The same small scenario is played again and again from its seed, and each time the victim is
cancelled one step later. Afterwards nothing may be left, nothing may hang, and the client must work
as before.
"""

from __future__ import annotations

import asyncio
import enum
import random
from collections.abc import Awaitable, Callable, Coroutine, Generator
from dataclasses import dataclass, replace
from typing import Any

from servestream_client import ItemError, ServeStreamError, StreamClient
from servestream_client.server.outputs import Replay
from simulation.check import leftovers
from simulation.generators import read_output
from simulation.items import Items
from simulation.many import NO_GENERATIONS, NO_GENERATOR
from simulation.run import Outcome, Run, play, quiet
from simulation.schedule import Consumption, InputStyle, Scenario, draw_scenario

__all__ = ["Swept", "Victim", "sweep"]

_ITEMS = 12
_OUTPUTS = 20

_CAN_GO_ON = replace(NO_GENERATOR, replay=Replay.SEEK)

_SERVERS = ("sim call", "servestream reader", "servestream worker")
"""Tasks of other processes, were these not simulated in one."""

_CLOSING_SECONDS = 60.0
"""What a stream that was cancelled may take to end, at the most."""


class Victim(enum.StrEnum):
    """Whom the cancellation strikes."""

    STREAM = "the task that iterates a stream"
    CLOSING = "the same, while it closes the stream"
    PREDICT = "the task that waits for a prediction"
    GENERATION = "the task that iterates a generation"
    CLIENT = "the task that closes the client, with streams under way"
    EVERYTHING = "every task at once, as when an event loop ends"


@dataclass(frozen=True, slots=True)
class Swept:
    """What a sweep has found.

    Attributes:
        steps: how many places there were to cancel at.
        outcomes: of the runs that broke a promise, by the step.
    """

    steps: int
    outcomes: dict[int, Outcome]


class _Stepped(Awaitable[None]):
    """A coroutine whose steps are counted; at one of them something is done.

    Args:
        code: the coroutine.
        at: which step; 0: none.
        strike: what is done, once the coroutine waits.
    """

    def __init__(
        self, code: Coroutine[Any, Any, None], at: int, strike: Callable[[], object]
    ) -> None:
        self.steps = 0
        self._code = code
        self._at = at
        self._strike = strike

    def __await__(self) -> Generator[Any, Any, None]:
        send: Callable[[], Any] = lambda: self._code.send(None)  # noqa: E731 — replaced each step
        while True:
            try:
                waits_for = send()
            except StopIteration:
                return
            self.steps += 1
            if self.steps == self._at:
                asyncio.get_running_loop().call_soon(self._strike)
            try:
                value = yield waits_for
                send = _sender(self._code, value)
            except BaseException as error:
                send = _thrower(self._code, error)


def _sender(code: Coroutine[Any, Any, None], value: object) -> Callable[[], Any]:
    return lambda: code.send(value)


def _thrower(code: Coroutine[Any, Any, None], error: BaseException) -> Callable[[], Any]:
    return lambda: code.throw(error)


class _SweptRun(Run):
    def __init__(self, scenario: Scenario, victim: Victim, at: int) -> None:
        super().__init__(scenario)
        self.steps = 0
        self._victim = victim
        self._at = at
        self._main: asyncio.Task[Any] | None = None

    async def main(self) -> None:
        self._main = asyncio.current_task()
        client = self.client()
        beside = self._beside(client)
        task: asyncio.Task[None] | None = None
        stepped = _Stepped(self._work(client), self._at, lambda: self._strike(task))

        async def victim() -> None:
            await stepped

        task = self.loop.create_task(victim(), name="sim victim")
        done, _ = await asyncio.wait({task}, timeout=1000)
        self.steps = stepped.steps
        if not done:
            self.violations.append("it hangs")
        elif not task.cancelled() and (error := task.exception()) is not None:
            self.violations.append(f"the victim raised {error!r}")
        for each in beside:
            each.cancel()
        if beside:
            await asyncio.wait(beside)
        await asyncio.sleep(_CLOSING_SECONDS)
        if self._victim is Victim.CLIENT:
            await client.aclose()
            self.violations += leftovers(self.loop, self.network)
        else:
            await self._works_afterwards(client)
        await self.finish(client)

    def check(self) -> None:
        """What the users got is no matter here: they were interrupted."""
        self.violations += self.loop.problems
        for service in self.network.services:
            if service.running:
                self.violations.append(f"{service.running} handlers have not ended")

    def _strike(self, task: asyncio.Task[None] | None) -> None:
        if self._victim is Victim.EVERYTHING:
            for each in sorted(asyncio.all_tasks(self.loop), key=asyncio.Task.get_name):
                if each is not self._main and not each.get_name().startswith(_SERVERS):
                    each.cancel()
        elif task is not None:
            task.cancel()

    def _items(self) -> Items:
        return self.streams[0].plan.items

    async def _work(self, client: StreamClient[bytes, bytes]) -> None:
        items = self._items()
        try:
            if self._victim is Victim.PREDICT:
                for number in range(1, 4):
                    await client.predict(_item(items, number))
            elif self._victim is Victim.GENERATION:
                for number in range(1, 4):
                    await _generate(client, items, number)
            elif self._victim is Victim.CLIENT:
                await asyncio.sleep(0.05)
                await client.aclose()
            else:
                await self._iterate(client, items)
        except (ServeStreamError, TimeoutError):
            return

    async def _iterate(self, client: StreamClient[bytes, bytes], items: Items) -> None:
        stream = client.stream(
            (_item(items, number) for number in range(1, items.count + 1)),
            ordered=self.streams[0].plan.ordered,
            return_exceptions=True,
        )
        if self._victim is Victim.CLOSING:
            await anext(stream)
            await stream.aclose()
            return
        async for _ in stream:
            await asyncio.sleep(0.001)

    def _beside(self, client: StreamClient[bytes, bytes]) -> list[asyncio.Task[None]]:
        """What else goes on while a client is closed."""
        if self._victim is not Victim.CLIENT:
            return []

        async def one(coroutine: Coroutine[Any, Any, None]) -> None:
            try:
                await coroutine
            except ServeStreamError:
                return

        async def predict() -> None:
            await client.predict(_item(self._items(), 1))

        users = (self._iterate(client, self._items()), predict())
        return [self.loop.create_task(one(each), name="sim beside") for each in users]

    async def _works_afterwards(self, client: StreamClient[bytes, bytes]) -> None:
        items = self._items()
        await asyncio.sleep(self.scenario.weather.until)  # when faults end
        if self.scenario.many:
            for number in range(1, items.count + 1):
                if await _generate(client, items, number) != items.outputs_of(number):
                    self.violations.append(f"generation {number} afterwards is wrong")
            return
        stream = client.stream(
            [_item(items, number) for number in range(1, items.count + 1)], return_exceptions=True
        )
        got = [output async for output in stream]
        right = [items.number_of(each) for each in got if not isinstance(each, ItemError)]
        if right != list(range(1, items.count + 1)):
            self.violations.append(f"a stream afterwards gives {got!r:.300}")
        if items.number_of(await client.predict(_item(items, 1))) != 1:
            self.violations.append("a prediction afterwards is wrong")


async def _generate(client: StreamClient[bytes, bytes], items: Items, number: int) -> int:
    """Iterate a generation; how many outputs it had."""
    count = 0
    # A task that was cancelled keeps what it had, and a generation that is kept keeps its place.
    async with client.generate(_item(items, number)) as generation:
        async for output in generation:
            count += read_output(output).index == count
            await asyncio.sleep(0.001)
    return count


def _item(items: Items, number: int) -> bytes:
    item = items.item(number)
    if not isinstance(item, bytes):
        raise TypeError(f"item {number} is no plain one")
    return item


def _scenario(seed: int, victim: Victim) -> Scenario:
    """A small one, with what the network does in the seed's."""
    scenario = draw_scenario(seed, many=victim is Victim.GENERATION)
    items = replace(scenario.streams[0].items, count=_ITEMS, specials={}, most_outputs=_OUTPUTS)
    plan = replace(
        scenario.streams[0],
        items=items,
        timeout=None,
        inputs=InputStyle.GENERATOR,
        consumption=Consumption.FAST,
        starts=0.0,
    )
    predicts = replace(scenario.predicts, items=replace(scenario.predicts.items, count=0))
    return replace(
        scenario,
        streams=[plan],
        predicts=predicts,
        generations=NO_GENERATIONS,
        service=replace(scenario.service, generator=_CAN_GO_ON),
        stingy=False,
        retry=replace(scenario.retry, attempts=200, connect_attempts=200, give_up_after=None),
        weather=replace(scenario.weather, until=min(2.0, scenario.weather.until), hides=False),
        faults=[],
        closes=None,
    )


def sweep(seed: int, victim: Victim, *, most: int = 40) -> Swept:
    """Cancel at every step of a victim, or at so many of them.

    Args:
        seed: of the scenario.
        victim: whom.
        most: runs; where there are more steps, the first half of them is taken as they come, and
            the rest is drawn from the others.
    """
    with quiet():
        first = _SweptRun(_scenario(seed, victim), victim, 0)
        outcome = play(first)
        steps = first.steps
        broken = {0: outcome} if outcome.violations else {}
        places = list(range(1, steps + 1))
        if steps > most:
            rest = random.Random(f"sweep {seed}").sample(places[most // 2 :], most - most // 2)
            places = [*places[: most // 2], *sorted(rest)]
        for at in places:
            outcome = play(_SweptRun(_scenario(seed, victim), victim, at))
            if outcome.violations:
                broken[at] = outcome
    return Swept(steps, broken)
