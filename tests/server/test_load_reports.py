"""When clients are told of a server's load, and who counts the servers."""

import asyncio

import pytest
from session.test_exchange import in_virtual_time

from servestream_client.protocol.frames import Load
from servestream_client.server.active_attempts import ActiveAttempts
from servestream_client.server.item_time import ItemTime
from servestream_client.server.reports import LoadReports


class Attempt:
    """One that is here, and what it was told."""

    attempt = 1
    to_compute = 7

    def __init__(self) -> None:
        self.told: list[Load] = []

    def supersede(self) -> None: ...

    def drain(self, grace: float) -> None: ...

    def report(self, load: Load) -> None:
        self.told.append(load)


class Workers:
    capacity = 4

    def __init__(self) -> None:
        self.item_time = ItemTime()
        self.item_time.value = 0.25


class Controller:
    """Counts servers, in its time.

    Attributes:
        asked: when it was.
    """

    def __init__(self, servers: int = 3, seconds: float = 0.01) -> None:
        self.servers = servers
        self.seconds = seconds
        self.asked: list[float] = []

    async def __call__(self) -> int:
        self.asked.append(asyncio.get_running_loop().time())
        await asyncio.sleep(self.seconds)
        if self.servers < 0:
            raise RuntimeError("the controller is away")
        return self.servers


def reporting(controller: Controller | None) -> ActiveAttempts:
    active = ActiveAttempts()
    LoadReports(active, Workers(), controller)  # type: ignore[arg-type]  # as much as it looks at
    return active


def test_an_attempt_hears_all_there_is():
    async def main():
        active, attempt = reporting(Controller()), Attempt()
        active.arrive(attempt)
        await asyncio.sleep(0.2)
        assert attempt.told[-1] == Load(servers=3, items=7, item_us=250_000, places=4)
        assert active.load == attempt.told[-1]
        active.unregister(attempt, None)

    in_virtual_time(main)


def test_it_is_looked_soon_at_first_and_then_once_a_second():
    async def main():
        active, attempt = reporting(None), Attempt()
        active.arrive(attempt)
        await asyncio.sleep(1.0)
        assert len(attempt.told) >= 5
        before = len(attempt.told)
        await asyncio.sleep(100.0)
        assert len(attempt.told) - before == pytest.approx(100, abs=1)
        active.unregister(attempt, None)

    in_virtual_time(main)


def test_nobody_looks_or_asks_while_nobody_is_here():
    async def main():
        controller = Controller()
        active, attempt = reporting(controller), Attempt()
        for _ in range(3):
            active.arrive(attempt)
            await asyncio.sleep(10.0)
            active.unregister(attempt, None)
            told, asked = len(attempt.told), len(controller.asked)
            await asyncio.sleep(100.0)
            assert (len(attempt.told), len(controller.asked)) == (told, asked)
        assert asyncio.all_tasks() == {asyncio.current_task()}

    in_virtual_time(main)


def test_the_controller_is_not_asked_at_once():
    async def main():
        controller = Controller()
        active, attempt = reporting(controller), Attempt()
        for _ in range(3):
            came = asyncio.get_running_loop().time()
            active.arrive(attempt)
            await asyncio.sleep(1.0)
            assert 0.1 <= controller.asked.pop(0) - came <= 0.2
            assert not controller.asked
            active.unregister(attempt, None)
            await asyncio.sleep(10.0)

    in_virtual_time(main)


def test_nothing_is_said_before_the_servers_were_asked_for():
    async def main():
        controller = Controller(seconds=1.5)
        active, attempt = reporting(controller), Attempt()
        active.arrive(attempt)
        await asyncio.sleep(1.5)
        assert not attempt.told
        await asyncio.sleep(0.5)
        assert attempt.told[0].servers == 3
        active.unregister(attempt, None)

    in_virtual_time(main)


@pytest.mark.parametrize("away", [True, False])
def test_a_controller_that_is_slow_keeps_nobody_from_hearing_the_rest(away):
    async def main():
        controller = Controller(-1 if away else 3, seconds=0.01 if away else 60.0)
        active, attempt = reporting(controller), Attempt()
        active.arrive(attempt)
        await asyncio.sleep(1.0)
        assert not attempt.told
        await asyncio.sleep(4.0)
        assert attempt.told[-1] == Load(servers=0, items=7, item_us=250_000, places=4)
        controller.servers = 3
        await asyncio.sleep(60.0)
        assert attempt.told[-1].servers == 3
        active.unregister(attempt, None)
        await asyncio.sleep(60.0)

    in_virtual_time(main)


@pytest.mark.parametrize("seconds", [0.01, 30.0])
def test_the_controller_is_asked_every_other_second_and_never_twice_at_once(seconds):
    async def main():
        controller = Controller(seconds=seconds)
        active, attempt = reporting(controller), Attempt()
        active.arrive(attempt)
        await asyncio.sleep(60.0)
        pauses = [b - a for a, b in zip(controller.asked, controller.asked[1:], strict=False)]
        assert len(controller.asked) == pytest.approx(60 / max(2, seconds), rel=0.6, abs=1)
        assert min(pauses) >= min(seconds, 2.0)
        active.unregister(attempt, None)
        await asyncio.sleep(seconds)

    in_virtual_time(main)


def test_a_controller_that_is_away_changes_nothing():
    async def main():
        controller = Controller()
        active, attempt = reporting(controller), Attempt()
        active.arrive(attempt)
        await asyncio.sleep(5.0)
        controller.servers = -1
        await asyncio.sleep(20.0)
        assert attempt.told[-1].servers == 3
        controller.servers = 5
        await asyncio.sleep(5.0)
        assert attempt.told[-1].servers == 5
        active.unregister(attempt, None)

    in_virtual_time(main)
