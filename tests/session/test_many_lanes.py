"""Lanes of a stream whose inputs may have many outputs each."""

import asyncio
from collections.abc import Callable
from contextlib import aclosing

import pytest
from session.generations import whole
from session.memory_streams import connect, memory_stream, rest
from session.replicas import Replicas
from virtual_time import in_virtual_time

from servestream_client import (
    FlowControl,
    ItemError,
    ItemErrorKind,
    RetryPolicy,
    StreamError,
    StreamTimeoutError,
)
from servestream_client.protocol.frames import Limits, Load, Replay
from servestream_client.session.many_lanes import ManyLanes
from servestream_client.session.stream import PredictionStream
from servestream_client.transport.memory import CallFailed

ORDERS = pytest.mark.parametrize("ordered", [True, False], ids=["ordered", "unordered"])
THREE = Load(servers=3, items=5, item_us=50_000, places=4)


def stream_at(replicas: Callable, names, **options) -> PredictionStream:
    """A stream of an input for each name, with so many outputs; or of the inputs that are given."""
    inputs = names
    if isinstance(names, dict):
        inputs = [f"{name}:{count}".encode() for name, count in names.items()]
    return memory_stream(replicas, inputs, decode=bytes.decode, **options)


def all_of(names: dict[str, int]) -> list[str]:
    return [output for name, count in names.items() for output in whole(name, count)]


def by_name(outputs: list[str]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for output in outputs:
        found.setdefault(output.split()[0], []).append(output)
    return found


NAMES = {f"n{number}": 3 + number % 40 for number in range(60)}


@ORDERS
@pytest.mark.parametrize("lanes", [None, 2, 5])
def test_each_output_comes_once_from_all_servers(lanes, ordered):
    async def main():
        replicas = Replicas(load=THREE)
        replicas.stopped = True
        stream = stream_at(replicas, NAMES, lanes=lanes, ordered=ordered)
        reading = asyncio.ensure_future(rest(stream))
        await asyncio.sleep(0.5)
        got = [session.intake.received for session in replicas.sessions]
        shares = [sum(got[server::3]) for server in range(3)]
        if lanes != 2:
            assert shares == ([20, 20, 20] if lanes else [16, 16, 16])
        replicas.go_on()
        outputs = await reading
        if ordered:
            assert outputs == all_of(NAMES)
        else:
            assert by_name(outputs) == by_name(all_of(NAMES))
        assert replicas.made == NAMES  # nothing was computed twice
        assert sum(bool(names) for names in replicas.places.values()) == min(lanes or 3, 3)
        statistics = stream.statistics()
        assert (statistics.accepted, statistics.sent) == (60, 60)
        ends = range(61)  # that came by themselves
        assert statistics.received - len(outputs) in ends
        assert statistics.attempts == replicas.calls
        assert sum(lane.attempts for lane in statistics.lanes) == statistics.attempts
        assert sum(lane.received for lane in statistics.lanes) - len(outputs) in ends
        assert {lane.under_way for lane in statistics.lanes} == {0}

    in_virtual_time(main())


def test_inputs_that_come_one_by_one_go_out_at_once():
    async def main():
        replicas, turn, given = Replicas(load=THREE), asyncio.Event(), []

        async def inputs():
            for name in "abcde":
                yield f"{name}:3".encode()
                await turn.wait()
                turn.clear()

        async for output in stream_at(replicas, inputs()):
            given.append(output)
            if output.endswith(" 2"):
                turn.set()
        assert given == all_of(dict.fromkeys("abcde", 3))

    in_virtual_time(main())


def test_one_lane_is_the_stream_itself():
    async def main():
        replicas = Replicas(load=THREE)
        assert await rest(stream_at(replicas, NAMES, lanes=1)) == all_of(NAMES)
        assert replicas.calls == 1

    in_virtual_time(main())


@pytest.mark.parametrize(
    "load",
    [
        Load(servers=1, items=5, item_us=50_000, places=4),
        Load(servers=3, items=5, item_us=50, places=4),
        Load(items=5, item_us=50_000, places=4),
        None,
    ],
    ids=["one server", "quick", "nobody knows", "says nothing"],
)
def test_where_there_is_no_choice_the_stream_carries_all(load):
    async def main():
        replicas = Replicas(load=load)
        assert await rest(stream_at(replicas, NAMES)) == all_of(NAMES)
        assert replicas.calls == 1

    in_virtual_time(main())


@pytest.mark.parametrize("says", [True, False])
def test_until_the_servers_are_counted_few_inputs_go_out(says):
    async def main():
        replicas = Replicas()
        replicas.stopped = True
        reading = asyncio.ensure_future(rest(stream_at(replicas, NAMES)))
        await asyncio.sleep(2.0)
        (session,) = replicas.sessions
        assert session.intake.received == 2
        if says:
            replicas.load = Load(places=4)  # nobody knows
        else:
            await asyncio.sleep(2.0)
            assert session.intake.received == 60
        replicas.go_on()
        assert await reading == all_of(NAMES)
        assert replicas.calls == 1

    in_virtual_time(main())


def test_what_waits_goes_to_servers_that_come():
    async def main():
        replicas = Replicas(load=Load(servers=1, items=5, item_us=50_000, places=4))
        replicas.stopped = True
        names = {f"n{number}": 3 for number in range(200)}
        stream = stream_at(replicas, names)
        reading = asyncio.ensure_future(rest(stream))
        await asyncio.sleep(1.0)
        assert replicas.sessions[0].intake.received == 64
        replicas.load = THREE
        replicas.go_on()
        assert await reading == all_of(names)
        assert len(replicas.places) == 3
        assert max(map(len, replicas.places.values())) < 130

    in_virtual_time(main())


@pytest.mark.parametrize(("places", "most"), [(4, 48), (20, 120)])
def test_what_is_under_way_leaves_something_for_servers_that_come(places, most):
    async def main():
        replicas = Replicas(load=Load(servers=3, items=5, item_us=50_000, places=places))
        replicas.stopped = True
        names = {f"n{number}": 3 for number in range(300)}
        stream = stream_at(replicas, names)
        reading = asyncio.ensure_future(rest(stream))
        await asyncio.sleep(5.0)
        assert sum(session.intake.received for session in replicas.sessions[1:]) == most
        assert replicas.sessions[0].intake.received <= 2
        replicas.go_on()
        assert await reading == all_of(names)

    in_virtual_time(main())


def test_a_server_that_no_lane_comes_to_keeps_nothing_waiting():
    async def main():
        replicas = Replicas(load=THREE, one=True)
        replicas.stopped = True
        reading = asyncio.ensure_future(rest(stream_at(replicas, NAMES)))
        await asyncio.sleep(0.5)
        assert sum(session.intake.received for session in replicas.sessions) <= 18
        await asyncio.sleep(1.5)
        assert sum(session.intake.received for session in replicas.sessions) == 48
        replicas.go_on()
        assert await reading == all_of(NAMES)

    in_virtual_time(main())


@ORDERS
def test_outputs_say_to_what_they_belong(ordered):
    async def main():
        replicas = Replicas(load=THREE)
        stream = stream_at(replicas, NAMES, ordered=ordered, numbered=True)
        seen: dict[int, list] = {}
        async for each in stream:
            if each.output is not None:
                seen.setdefault(each.number, []).append((each.index, each.output))
        assert seen == {
            number: list(enumerate(whole(name, count)))
            for number, (name, count) in enumerate(NAMES.items(), 1)
        }

    in_virtual_time(main())


def test_the_next_stream_knows_from_the_start():
    async def main():
        replicas = Replicas(load=THREE)
        connection = connect(replicas)
        await rest(stream_at(replicas, {"first": 3}, connection=connection))
        calls = replicas.calls
        stream = stream_at(replicas, NAMES, connection=connection)
        assert isinstance(stream._driver.lanes, ManyLanes)
        assert await rest(stream) == all_of(NAMES)
        assert replicas.sessions[calls].intake.received <= 2

    in_virtual_time(main())


@ORDERS
@pytest.mark.parametrize("replay", [Replay.RESTART, Replay.SEEK, Replay.CONTINUE])
def test_what_is_cut_on_a_lane_goes_on_elsewhere(replay, ordered):
    async def main():
        deaths = {("n7", 5), ("n21", 0), ("n33", 20), ("n35", 30)}

        def dies(_call: int, name: str, index: int) -> bool:
            if (name, index) not in deaths:
                return False
            deaths.discard((name, index))
            return True

        replicas = Replicas(replay, load=THREE, dies=dies)
        outputs = await rest(stream_at(replicas, NAMES, ordered=ordered))
        assert by_name(outputs) == by_name(all_of(NAMES))
        if ordered:
            assert outputs == all_of(NAMES)
        assert replicas.deaths == 4

    in_virtual_time(main())


@ORDERS
def test_what_breaks_its_servers_is_blamed_once(ordered):
    async def main():
        names = {**NAMES, "poison": 20, "after": 5}
        replicas = Replicas(load=THREE, dies=lambda _, name, index: (name, index) == ("poison", 3))
        stream = stream_at(replicas, names, ordered=ordered, return_exceptions=True)
        outputs = await rest(stream)
        (error,) = (output for output in outputs if isinstance(output, ItemError))
        assert (error.kind, error.number, error.index) == (ItemErrorKind.POISON, 61, 3)
        outputs.remove(error)
        assert by_name(outputs) == by_name(all_of({**names, "poison": 3}))

    in_virtual_time(main())


def test_what_cannot_go_on_fails_where_it_was_cut():
    async def main():
        deaths = [("n20", 8)]

        def dies(_call: int, name: str, index: int) -> bool:
            return bool(deaths) and (name, index) == deaths[0] and bool(deaths.pop())

        replicas = Replicas(Replay.NEVER, load=THREE, dies=dies)
        stream = stream_at(replicas, NAMES, return_exceptions=True)
        outputs = await rest(stream)
        errors = [output for output in outputs if isinstance(output, ItemError)]
        assert {error.kind for error in errors} == {ItemErrorKind.INTERRUPTED}
        assert 21 in {error.number for error in errors}
        given = by_name([output for output in outputs if not isinstance(output, ItemError)])
        failed = {error.number: error.index for error in errors}
        for number, (name, count) in enumerate(NAMES.items(), 1):
            assert given.get(name, []) == whole(name, failed.get(number, count))

    in_virtual_time(main())


@ORDERS
def test_of_each_input_there_is_no_more_than_its_bound(ordered):
    async def main():
        replicas, flow = Replicas(load=THREE), FlowControl(outputs_per_input=4)
        names = {f"n{number}": 40 for number in range(30)}
        stream = stream_at(replicas, names, ordered=ordered, flow=flow)
        queue, outputs = stream._driver.session.delivery, []
        async for output in stream:
            outputs.append(output)
            await asyncio.sleep(0.01)
            assert all(held.outputs <= 4 for held in queue._held_of.values())
        assert by_name(outputs) == by_name(all_of(names))
        assert replicas.made == names
        assert not queue.held_outputs

    in_virtual_time(main())


@pytest.mark.parametrize("limits", [Limits(window_items=3), Limits(window_bytes=12)])
@ORDERS
def test_what_waits_for_its_turn_keeps_no_place_of_the_one_whose_turn_it_is(limits, ordered):
    """Servers take few inputs; the one whose turn it is is cut, and comes behind the others."""

    async def main():
        deaths = [("n1", 2)]

        def dies(_call: int, name: str, index: int) -> bool:
            return bool(deaths) and (name, index) == deaths[0] and bool(deaths.pop())

        names = {f"n{number}": 9 for number in range(1, 9)}
        replicas = Replicas(load=THREE, limits=limits, dies=dies)
        flow = FlowControl(outputs_per_input=2)
        replicas.stopped = True
        reading = asyncio.ensure_future(
            rest(stream_at(replicas, names, ordered=ordered, flow=flow))
        )
        await asyncio.sleep(2.0)
        sent = sum(session.intake.received for session in replicas.sessions)
        assert sent <= 3 if ordered else sent > 3
        replicas.go_on()
        outputs = await reading
        assert by_name(outputs) == by_name(all_of(names))
        assert outputs == all_of(names) or not ordered

    in_virtual_time(main())


def test_the_one_at_its_turn_goes_out_though_a_server_takes_no_more():
    """It was at the stream's own attempt while the next one went on a lane, and both are cut."""

    async def main():
        replicas, gate = Replicas(limits=Limits(window_items=1)), asyncio.Event()
        replicas.stopped = True
        names, outputs = {"a": 9, "b": 9, "c": 9}, []
        stream = stream_at(replicas, names, flow=FlowControl(outputs_per_input=2))

        async def read() -> None:
            async for output in stream:
                outputs.append(output)
                if len(outputs) == 1:
                    await gate.wait()

        reading = asyncio.ensure_future(read())
        await asyncio.sleep(1.0)
        replicas.load = THREE
        replicas.go_on()
        await asyncio.sleep(2.0)
        assert replicas.made == {"a": 2, "b": 2}
        replicas.go_down()
        await asyncio.sleep(0.05)
        replicas.down = False
        await asyncio.sleep(1.0)
        gate.set()
        await reading
        assert outputs == all_of(names)

    in_virtual_time(main())


def test_a_stream_whose_own_attempt_finds_no_server_goes_on_by_its_lanes():
    async def main():
        replicas, own = Replicas(load=THREE), []

        async def refusing(requests):
            first = await anext(requests)
            own.append(first.open.stream_id)

            async def again():
                yield first
                async for frame in requests:
                    yield frame

            if own[0] != own[-1]:
                async with aclosing(replicas(again())) as frames:
                    async for frame in frames:
                        yield frame
            if own.count(own[0]) == 1:
                async with aclosing(replicas(again())) as frames:
                    yield await anext(frames)
                    await asyncio.sleep(1.0)
            raise CallFailed("UNAVAILABLE", "Socket closed")

        names, outputs = {f"n{number}": 40 for number in range(10)}, []
        retry = RetryPolicy(attempts=10_000, initial=0.01, maximum=0.5, give_up_after=5.0)
        flow = FlowControl(outputs_per_input=4)
        async for output in stream_at(refusing, names, retry=retry, flow=flow):
            outputs.append(output)
            await asyncio.sleep(0.05)
        assert outputs == all_of(names)
        assert own.count(own[0]) > 10

    in_virtual_time(main())


def test_what_it_takes_to_go_on_keeps_no_place_of_the_one_whose_turn_it_is():
    """After a cut outputs are sent back, and may fill the server's window in bytes."""

    async def main():
        deaths = [("n25", 8)]

        def dies(_call: int, name: str, index: int) -> bool:
            return bool(deaths) and (name[:3], index) == deaths[0] and bool(deaths.pop())

        names = {f"n{number}" + "x" * 200: 60 for number in range(30)}

        async def inputs():
            for name, count in names.items():
                yield f"{name}:{count}".encode()
                if name.startswith("n2x"):
                    await asyncio.sleep(5.0)

        limits = Limits(window_bytes=20_000)
        replicas = Replicas(load=THREE, limits=limits, one=True, dies=dies)
        flow, outputs = FlowControl(outputs_per_input=16), []
        async for output in stream_at(replicas, inputs(), flow=flow):
            outputs.append(output)
            if len(outputs) == 1:
                await asyncio.sleep(20.0)
        assert outputs == all_of(names)
        assert not deaths

    in_virtual_time(main())


@pytest.mark.parametrize(("size", "most"), [(1, 200), (1000, 160_000)])
def test_outputs_that_wait_for_their_turn_are_bounded(size, most):
    async def main():
        names = {"first": 300, **{f"n{number}" + "x" * size: 3 for number in range(3000)}}
        flow = FlowControl(output_items=100, output_bytes=100_000, outputs_per_input=20)
        stream = stream_at(Replicas(load=THREE), names, flow=flow)
        queue, outputs = stream._driver.session.delivery, [await anext(stream)]
        await asyncio.sleep(5.0)
        held = queue.held_outputs if size == 1 else queue.held_bytes
        assert held <= most, "the budget, and what was under way"
        outputs += await rest(stream)
        assert outputs == all_of(names)

    in_virtual_time(main())


def test_a_stream_whose_own_attempt_is_cut_again_and_again_goes_on_by_its_lanes():
    async def main():
        replicas, own = Replicas(load=THREE), []

        async def cutting(requests):
            async with aclosing(replicas(requests)) as frames:
                yield await anext(frames)
                own.append(replicas.sessions[-1].opened.stream_id)
                if own[0] != own[-1]:
                    async for frame in frames:
                        yield frame
                await asyncio.sleep(1.0)
            raise CallFailed("UNAVAILABLE", "Socket closed")

        names = {f"n{number}": 40 for number in range(10)}
        retry = RetryPolicy(attempts=3, initial=0.01, maximum=0.01)
        flow = FlowControl(outputs_per_input=4)
        outputs = []
        async for output in stream_at(cutting, names, retry=retry, flow=flow):
            outputs.append(output)
            await asyncio.sleep(0.05)
        assert outputs == all_of(names)
        assert own.count(own[0]) > 10

    in_virtual_time(main())


def test_a_lane_that_gives_up_before_anything_came_is_replaced():
    async def main():
        replicas, refused = Replicas(load=THREE), []

        async def refusing(requests):
            if replicas.calls == 1 and len(refused) < 3:
                refused.append(1)
                raise CallFailed("PERMISSION_DENIED", "not any more")
            async for frame in replicas(requests):
                yield frame

        assert await rest(stream_at(refusing, {"a": 3, "b": 4, "c": 5})) == all_of(
            {"a": 3, "b": 4, "c": 5}
        )
        assert refused

    in_virtual_time(main())


def test_lanes_that_all_give_up_fail_a_stream_with_many_outputs():
    async def main():
        replicas = Replicas(load=THREE)

        async def refusing(requests):
            if replicas.calls:
                raise CallFailed("PERMISSION_DENIED", "not any more")
            async for frame in replicas(requests):
                yield frame

        with pytest.raises(StreamError, match="not any more"):
            await rest(stream_at(refusing, NAMES))
        await asyncio.sleep(1.0)
        assert asyncio.all_tasks() == {asyncio.current_task()}

    in_virtual_time(main())


def test_a_stream_with_many_outputs_that_is_left_leaves_no_lane():
    async def main():
        replicas = Replicas(load=THREE)
        stream = stream_at(replicas, {f"n{number}": 10**6 for number in range(20)})
        async for output in stream:
            if output == "n0 50":
                break
        await stream.aclose()
        assert asyncio.all_tasks() == {asyncio.current_task()}

    in_virtual_time(main())


def test_a_stream_with_many_outputs_that_fails_leaves_no_lane():
    async def main():
        replicas = Replicas(load=THREE)
        replicas.stopped = True
        with pytest.raises(StreamTimeoutError):
            await rest(stream_at(replicas, NAMES, timeout=2.0))
        assert len(replicas.places) > 1
        await asyncio.sleep(1.0)
        assert asyncio.all_tasks() == {asyncio.current_task()}

    in_virtual_time(main())
