"""What the reader of a generation sees, and what is left of it when it goes."""

import asyncio
import gc
import os
import weakref

import pytest
from session.generations import everything, until, whole
from session.replicas import Replicas
from turns_clock import SLACK, SLOW, Stalls, clock

from servestream_client import (
    ClientClosedError,
    ConfigurationError,
    FlowControl,
    InputEncodeError,
    ItemError,
    OutputDecodeError,
    StreamTimeoutError,
    WrongEventLoopError,
)
from servestream_client.session.encoding import encoded
from servestream_client.turns import turn_of_loop

__all__ = ["clock"]


class Prompt:
    """An item that can be seen to be let go."""

    def __init__(self, text: str) -> None:
        self.text = text

    def __bytes__(self) -> bytes:
        return self.text.encode()


async def test_delivered_counts_what_the_caller_has_and_nothing_else(generate_with):
    generation = generate_with(Replicas()).generate("g:100")
    counts = [generation.delivered]
    for _ in range(3):
        await anext(generation)
        counts.append(generation.delivered)
    await generation.aclose()
    assert [*counts, generation.delivered] == [0, 1, 2, 3, 3]


async def test_a_reader_that_is_cancelled_while_it_waits_loses_nothing(generate_with):
    harness = generate_with(Replicas(), flow=FlowControl(outputs_per_input=4))
    generation, seen = harness.generate("g:50"), []
    while len(seen) < 50:
        step = asyncio.ensure_future(anext(generation))
        await asyncio.sleep(0)
        step.cancel()
        try:
            seen.append(await step)
        except asyncio.CancelledError:
            seen.append(await anext(generation))
    assert seen == whole("g", 50)
    assert await everything(generation) == []


async def test_a_second_task_is_told_and_the_first_goes_on(generate_with):
    replicas = Replicas()
    replicas.stopped = True
    generation = generate_with(replicas).generate("g:3")
    first = asyncio.ensure_future(everything(generation))
    await until(lambda: generation._iterating)
    with pytest.raises(ConfigurationError, match="at the same time"):
        await anext(generation)
    replicas.go_on()
    assert await first == whole("g", 3)


async def test_who_waits_for_an_output_hears_that_it_was_closed(generate_with):
    replicas = Replicas()
    replicas.stopped = True
    harness = generate_with(replicas)
    generation = harness.generate("g:3")
    waiting = asyncio.ensure_future(anext(generation))
    await until(lambda: harness.drivers and harness.drivers[0].session.ledger.sent_through == 1)
    await generation.aclose()
    with pytest.raises(ClientClosedError, match="closed while it was iterated"):
        await waiting
    assert await everything(generation) == []
    await until(lambda: replicas.cancelled == [1])


async def test_one_that_was_closed_before_it_began_never_begins(generate_with):
    harness = generate_with(Replicas())
    async with harness.generate("g:3") as generation:
        pass
    await generation.aclose()
    assert await everything(generation) == []
    assert not harness.drivers


# ------------------------------------------------------------------ the codec


async def test_an_item_that_cannot_be_encoded_fails_it_once_and_reaches_nobody(generate_with):
    harness = generate_with(Replicas())

    def encode(item):
        return encoded(lambda _: 1 / 0, item, 100)

    generation = harness.generate("g:3", encode=encode)
    with pytest.raises(InputEncodeError, match="ZeroDivisionError") as caught:
        await anext(generation)
    assert caught.value.input == "g:3"
    assert await everything(generation) == []
    assert not harness.drivers


async def test_one_that_is_closed_while_it_waits_for_its_turn_is_not_encoded(
    generate_with, monkeypatch
):
    harness, seen = generate_with(Replicas()), []
    generation = harness.generate("g:3", encode=seen.append)
    turn = turn_of_loop()

    async def wait():
        generation._close()
        return 1.0

    monkeypatch.setattr(turn, "enter", lambda: 0.0)
    monkeypatch.setattr(turn, "wait", wait)
    with pytest.raises(ClientClosedError):
        await anext(generation)
    assert not seen


async def test_an_output_that_cannot_be_decoded_ends_it_at_its_place(generate_with):
    replicas = Replicas()

    def decode(payload):
        if payload.endswith(b" 2"):
            raise ValueError("no such word") from KeyError("why")
        return payload.decode()

    generation, seen = generate_with(replicas).generate("g:100", decode=decode), []
    with pytest.raises(OutputDecodeError, match="no such word") as caught:
        async for output in generation:
            seen.append(output)
    assert seen == whole("g", 2)
    assert (caught.value.index, generation.delivered) == (2, 2)
    assert isinstance(caught.value.__cause__, ValueError)
    assert isinstance(caught.value.__cause__.__cause__, KeyError)
    assert await everything(generation) == []
    await until(lambda: replicas.cancelled == [1])


@pytest.mark.parametrize(
    "raised", [StopIteration(3), StopAsyncIteration(), GeneratorExit()], ids=repr
)
async def test_a_codec_that_raises_control_flow_ends_no_loop(generate_with, raised):
    def decode(_):
        raise raised

    with pytest.raises(OutputDecodeError, match=type(raised).__name__):
        await everything(generate_with(Replicas()).generate("g:3", decode=decode))


async def test_inputs_and_outputs_are_converted_in_turns_of_the_loop(generate_with, clock):
    def slowly(convert):
        def converted(value):
            clock.now += SLOW
            return convert(value)

        return converted

    harness, stalls = generate_with(Replicas()), Stalls(clock)
    with stalls.watched():
        generations = [
            harness.generate(f"g{n}:5", encode=slowly(str.encode), decode=slowly(bytes.decode))
            for n in range(20)
        ]
        found = await asyncio.gather(*map(everything, generations))
    assert found == [whole(f"g{n}", 5) for n in range(20)]
    assert stalls.longest <= SLOW + SLACK


# ------------------------------------------------------------------ timeouts


async def test_one_that_waits_for_a_place_and_expires_is_never_sent(generate_with):
    replicas = Replicas()
    replicas.stopped = True
    harness = generate_with(replicas, flow=FlowControl(window_items=1))
    first = asyncio.ensure_future(everything(harness.generate("first:3")))
    await until(lambda: harness.drivers and harness.drivers[0].session.ledger.sent_through == 1)
    with pytest.raises(StreamTimeoutError, match="did not end within") as caught:
        await anext(harness.generate("second:3", timeout=0.01))
    assert (caught.value.delivered.accepted, caught.value.delivered.unsent) == (1, 1)
    assert not harness.generator._waiting
    replicas.go_on()
    assert await first == whole("first", 3)
    assert await everything(harness.generate("third:2")) == whole("third", 2)
    assert set(replicas.made) == {"first", "third"}


async def test_one_that_is_parked_and_expires_gives_what_came_and_is_never_resumed(generate_with):
    cut = []
    replicas = Replicas(dies=lambda call, name, _: call == 1 and bool(cut) and name == "other")
    harness = generate_with(replicas, flow=FlowControl(outputs_per_input=20))
    slow = harness.generate("slow:100", timeout=3600)
    seen = [await anext(slow)]
    await until(lambda: slow._request.received == 20)
    cut.append(True)
    assert await everything(harness.generate("other:100")) == whole("other", 100)
    assert slow._request in harness.generator._parked
    slow._request.expire(3600)
    assert not harness.generator._parked
    with pytest.raises(StreamTimeoutError):
        async for output in slow:
            seen.append(output)
    assert seen == whole("slow", 20)
    assert not [name for name, *_ in replicas.resumed if name == "slow"]


async def test_a_timeout_that_passes_behind_its_end_says_nothing(generate_with):
    generation = generate_with(Replicas()).generate("g:3", timeout=3600)
    seen = [await anext(generation)]
    await until(lambda: generation._request.ended)
    generation._request.expire(3600)
    seen += await everything(generation)
    assert seen == whole("g", 3)
    assert generation._timer.cancelled()


# ------------------------------------------------------------------ what is kept


async def test_it_lets_go_of_its_input_at_its_end(generate_with):
    prompt = Prompt("g:3")
    kept = weakref.ref(prompt)
    generation = generate_with(Replicas()).generate(prompt, encode=bytes)
    del prompt
    assert await everything(generation) == whole("g", 3)
    gc.collect()
    assert kept() is None
    assert generation.delivered == 3


async def test_who_keeps_its_error_keeps_no_circle(generate_with):
    generation = generate_with(Replicas(dies=lambda *_: True)).generate("g:3", timeout=0.01)
    gone = weakref.ref(generation)
    try:
        await anext(generation)
    except (ItemError, StreamTimeoutError) as error:
        kept = error
    gc.collect()
    gc.disable()
    try:
        del generation
        kept = None
        assert gone() is None
    finally:
        gc.enable()
    assert kept is None


async def test_a_parked_one_that_is_dropped_is_forgotten_and_not_sent_again(generate_with):
    cut = []
    replicas = Replicas(dies=lambda call, name, _: call == 1 and bool(cut) and name == "other")
    harness = generate_with(replicas, flow=FlowControl(outputs_per_input=20))
    slow = harness.generate("slow:100")
    await anext(slow)
    request = slow._request
    await until(lambda: request.received == 20)
    cut.append(True)
    await everything(harness.generate("other:100"))
    assert harness.generator._parked == {request}
    del slow
    await until(lambda: not harness.generator._parked)
    assert not harness.generator._waiting
    assert not [name for name, *_ in replicas.resumed if name == "slow"]


# ------------------------------------------------------------------ elsewhere


async def test_another_event_loop_is_refused_and_may_close_it(generate_with):
    replicas = Replicas()
    generation = generate_with(replicas).generate("g:1000")
    seen = [await anext(generation)]
    generation._rest.clear()
    raised = []

    def elsewhere() -> None:
        async def iterate() -> None:
            await anext(generation)

        async def close() -> None:
            await generation.aclose()

        try:
            asyncio.run(iterate())
        except WrongEventLoopError as error:
            raised.append(error)
        asyncio.run(close())

    await asyncio.to_thread(elsewhere)
    assert len(raised) == 1
    await until(lambda: replicas.cancelled == [1])
    assert seen == ["g 0"]


async def test_a_forked_child_is_told(generate_with, monkeypatch):
    generation = generate_with(Replicas()).generate("g:1000")
    await anext(generation)
    generation._rest.clear()
    monkeypatch.setattr(os, "getpid", lambda: -1)
    with pytest.raises(ClientClosedError, match="forked"):
        await anext(generation)
