"""Stateful services on a real gRPC server: one fold over the inputs, whoever dies."""

import asyncio
import hashlib
import logging
import subprocess
import sys
import threading
from contextlib import suppress
from itertools import islice
from random import Random
from typing import NamedTuple

import pytest

from servestream_client import (
    Cursor,
    CursorMismatchError,
    FlowControl,
    ItemError,
    RejectedError,
    RetryPolicy,
    SeekableInputs,
    ServerFailedError,
    StreamClient,
    SyncStreamClient,
    Watchdog,
)
from servestream_client.codecs import BytesCodec, JsonCodec
from servestream_client.errors import ConfigurationError, ItemErrorKind
from servestream_client.server import StatefulService, StreamService, Tokens
from servestream_client.server.sealing import KEYS_VARIABLE, new_key
from servestream_client.testing import Fault, FaultKind, StreamServer

KEY, OTHER = new_key(), new_key()
RETRY = RetryPolicy(initial=0.01, maximum=0.05)


def following(state: bytes, item: bytes) -> bytes:
    return hashlib.sha256(state + item).digest()


class Folding(StatefulService[bytes, bytes, bytes]):
    """A chain of digests. Inputs that end in 7 fail."""

    state_keys = (KEY,)
    tokens = Tokens(inputs=10, share=1.0)

    def begin(self, parameters):
        return parameters.get("start", "").encode()


class Step(Folding):
    def step(self, state, item):
        if item.endswith(b"7"):
            raise ValueError("seven")
        state = following(state, item)
        return state, state[:8]


class AsyncStep(Folding):
    async def step(self, state, item):
        if item.endswith(b"7"):
            raise ValueError("seven")
        if item.endswith(b"9"):
            await asyncio.sleep(0)
        state = following(state, item)
        return state, state[:8]


class StepMany(Folding):
    def step_many(self, state, item):
        if item.endswith(b"7"):
            raise ValueError("seven")
        state = following(state, item)
        return state, [state[:8] + bytes([index]) for index in range(item[-1] % 3)]


class StepBatch(Folding):
    def step_batch(self, states, items):
        if any(item.endswith(b"7") for item in items):
            raise ValueError("seven")
        made = [following(*each) for each in zip(states, items, strict=True)]
        return made, [state[:8] for state in made]


SERVICES = [Step, AsyncStep, StepMany, StepBatch]


def inputs(count: int) -> list[bytes]:
    return [b"%d" % number for number in range(count)]


def expected(service: type, count: int, start: bytes = b"") -> list[bytes | None]:
    state, found = start, []
    for item in inputs(count):
        if item.endswith(b"7"):
            found.append(None)
            continue
        state = following(state, item)
        if service is StepMany:
            found += [state[:8] + bytes([index]) for index in range(item[-1] % 3)]
        else:
            found.append(state[:8])
    return found


async def outputs_of(client, count, **options):
    found = []
    async with client.stream(inputs(count), return_exceptions=True, **options) as stream:
        async for output in stream:
            found.append(None if isinstance(output, ItemError) else output)
            if isinstance(output, ItemError):
                assert output.kind is ItemErrorKind.HANDLER
        return found, stream.statistics()


@pytest.mark.parametrize("service", SERVICES)
async def test_each_stream_is_a_fold_of_its_own(service):
    with StreamServer(service) as server:
        async with StreamClient(server.target) as client:
            results = await asyncio.gather(
                *(outputs_of(client, 200, parameters={"start": str(n)}) for n in range(5))
            )
    for number, (found, statistics) in enumerate(results):
        assert found == expected(service, 200, str(number).encode())
        assert statistics.tokens
        assert statistics.resumes == 0


@pytest.mark.parametrize("service", SERVICES)
async def test_servers_that_die_change_nothing(service):
    """Also where the next one dies while it computes again what was delivered."""
    rng = Random(service.__name__)
    kills = sorted(rng.sample(range(1, 290), 8))
    with StreamServer(service) as server:
        for at in kills:
            server.add_faults(Fault(FaultKind.KILL, at=at))
        async with StreamClient(server.target, retry=RETRY) as client:
            found, statistics = await outputs_of(client, 300)
    assert found == expected(service, 300)
    assert statistics.resumes == len(kills)
    assert statistics.replayed > 0


@pytest.mark.parametrize("kind", [FaultKind.CLOSE, FaultKind.DUPLICATE, FaultKind.SKIP])
async def test_frames_that_go_wrong_change_nothing(kind):
    with StreamServer(Step) as server:
        for at in (5, 77, 130):
            server.add_faults(Fault(kind, at=at))
        async with StreamClient(server.target, retry=RETRY) as client:
            found, _ = await outputs_of(client, 200)
    assert found == expected(Step, 200)


@pytest.mark.parametrize("service", SERVICES)
async def test_a_small_window_is_no_standstill(service):
    """No state is due by itself: the client asks for each."""

    class Seldom(service):
        tokens = Tokens(inputs=10_000, payload_bytes=1 << 30, seconds=1e6)

    flow = FlowControl(window_bytes=6)
    with StreamServer(Seldom) as server:
        async with StreamClient(server.target, flow=flow) as client:
            found, statistics = await outputs_of(client, 60)
    assert found == expected(service, 60)
    assert statistics.tokens >= 15


async def test_a_server_that_leaves_gives_its_state():
    with StreamServer(Step) as server:

        async def some():
            for number, item in enumerate(inputs(100)):
                yield item
                if number == 50:
                    while seen < 50:
                        await asyncio.sleep(0)
                    server.service.drain(30)

        seen = 0
        async with StreamClient(server.target, retry=RETRY) as client:
            found = []
            async with client.stream(some(), return_exceptions=True) as stream:
                async for output in stream:
                    seen += 1
                    found.append(None if isinstance(output, ItemError) else output)
                    if stream.statistics().attempts > 1 and server.lives == 1:
                        await asyncio.to_thread(server.kill)  # or it would refuse them for good
                statistics = stream.statistics()
    assert found == expected(Step, 100)
    assert statistics.replayed == 0


async def test_without_keys_it_does_not_serve(monkeypatch):
    class Keyless(Step):
        state_keys = None

    monkeypatch.delenv(KEYS_VARIABLE, raising=False)
    with pytest.raises(ConfigurationError, match=f"set {KEYS_VARIABLE}.*servestream key"):
        StreamServer(Keyless)
    monkeypatch.setenv(KEYS_VARIABLE, f" {OTHER} , {KEY}")
    with StreamServer(Keyless) as server:
        async with StreamClient(server.target) as client:
            found, _ = await outputs_of(client, 30)
    assert found == expected(Step, 30)


async def test_a_state_that_no_server_can_use_ends_the_stream(caplog):
    """The client learns that, and not why."""
    caplog.set_level(logging.WARNING, "servestream_client")
    lives = [(KEY,), (OTHER,)]

    def service():
        made = Step()
        made.state_keys = lives.pop(0) if len(lives) > 1 else lives[0]
        return made

    taken = asyncio.Event()

    async def given():
        """A server that is quick would be at the hundredth before any state has left."""
        for number, item in enumerate(inputs(200)):
            if number == 50:
                await taken.wait()
            yield item

    with StreamServer(service) as server:
        server.add_faults(Fault(FaultKind.KILL, at=100))
        async with StreamClient(server.target, retry=RETRY) as client:
            with pytest.raises(RejectedError, match="the state cannot be used here") as caught:
                async for _ in (stream := client.stream(given(), return_exceptions=True)):
                    if stream.statistics().tokens:
                        taken.set()
    assert caplog.text.count("a key that is not in the ring") == 3
    assert "key" not in str(caught.value).replace("token", "")
    assert 0 < caught.value.delivered.answered <= 99


async def test_keys_are_exchanged_under_a_stream():
    lives = [(KEY,), (OTHER, KEY), (OTHER,)]

    def service():
        made = Step()
        made.state_keys = lives.pop(0) if len(lives) > 1 else lives[0]
        return made

    with StreamServer(service) as server:
        for at in (60, 120):
            server.add_faults(Fault(FaultKind.KILL, at=at))
        few = FlowControl(window_items=8)  # so that each life has sealed a state
        async with StreamClient(server.target, retry=RETRY, flow=few) as client:
            found, statistics = await outputs_of(client, 200)
    assert found == expected(Step, 200)
    assert statistics.resumes == 2


async def test_states_are_upgraded_by_a_redeploy():
    class Newer(Step):
        state_version = 2

        def upgrade(self, version, raw):
            assert version == 1
            return raw

    lives = [Step, Newer]

    def service():
        return lives.pop(0)() if len(lives) > 1 else lives[0]()

    with StreamServer(service) as server:
        server.add_faults(Fault(FaultKind.KILL, at=100))
        async with StreamClient(server.target, retry=RETRY) as client:
            found, _ = await outputs_of(client, 200)
    assert found == expected(Step, 200)


async def test_what_comes_out_otherwise_the_second_time_ends_the_stream():
    class Drifting(Step):
        tokens = Tokens(inputs=1000)
        lives = 0

        def __init__(self):
            type(self).lives += 1

        def step(self, state, item):
            state, output = super().step(state, item)
            return state, output + b"%d" % self.lives

    with StreamServer(Drifting) as server:
        server.add_faults(Fault(FaultKind.KILL, at=6))
        async with StreamClient(server.target, retry=RETRY) as client:
            with pytest.raises(ServerFailedError, match="computed again"):
                await outputs_of(client, 20)


@pytest.mark.parametrize("fails", ["raises", "is too large", "gives no pair"])
@pytest.mark.parametrize("asynchronous", [False, True])
async def test_a_state_that_is_changed_in_place_is_lost_with_a_failure(asynchronous, fails):
    computed = []

    class InPlace(StatefulService[bytes, bytes, bytearray]):
        state_keys = (KEY,)
        in_place = True

        def begin(self, parameters):
            return bytearray()

        def step(self, state, item):
            computed.append(item)
            state += item
            if item != b"bad":
                return state, bytes(state)
            if fails == "raises":
                raise ValueError("no")
            return (state, bytes(2_000)) if fails == "is too large" else state

    class AsyncInPlace(InPlace):
        async def step(self, state, item):
            return super().step(state, item)

    service = AsyncInPlace if asynchronous else InPlace
    items, found = [b"a", b"b", b"bad", *[b"c"] * 20], []
    flow = FlowControl(max_item_bytes=1_000)
    with StreamServer(service) as server:
        async with StreamClient(server.target, retry=RETRY, flow=flow) as client:
            assert [each async for each in client.stream([b"a", b"b"])] == [b"a", b"ab"]
            with pytest.raises(ServerFailedError, match="inputs 1 to 2") as raised:
                async for each in client.stream(items, return_exceptions=True):
                    found.append(each)
    assert "in place" in str(raised.value)
    assert found == [b"a", b"ab"]
    assert computed == [b"a", b"b", b"a", b"b", b"bad"]  # and nothing with the state that is lost


@pytest.mark.parametrize("kind", ["step with a codec", "step_many"])
async def test_a_state_that_is_changed_in_place_goes_on_from_input_to_input(kind):
    class InPlace(StatefulService):
        state_keys = (KEY,)
        in_place = True

        def begin(self, parameters):
            return bytearray()

    class WithCodec(InPlace):
        codec = JsonCodec(str, str)

        def step(self, state, item):
            state += item.encode()
            return state, state.decode()

    class Many(InPlace):
        def step_many(self, state, item):
            state += item
            return state, [bytes(state)]

    coded = kind == "step with a codec"
    items, codec = (
        (["a", "b", "c"], JsonCodec(str, str)) if coded else ([b"a", b"b", b"c"], BytesCodec())
    )
    with StreamServer(WithCodec if coded else Many) as server:
        async with StreamClient(server.target, retry=RETRY, codec=codec) as client:
            found = [each async for each in client.stream(items)]
    assert found == (["a", "ab", "abc"] if coded else [b"a", b"ab", b"abc"])


@pytest.mark.parametrize("asynchronous", [False, True])
async def test_a_step_that_does_not_end_keeps_neither_its_stream_nor_others(asynchronous):
    """Its input fails, what it makes afterwards is nobody's, and the inputs behind it go on."""
    release = threading.Event()

    class Hanging(Step):
        def step(self, state, item):
            if item == b"5":
                release.wait(20)
            return super().step(state, item)

    class AsyncHanging(AsyncStep):
        async def step(self, state, item):
            while item == b"5" and not release.is_set():
                with suppress(asyncio.CancelledError):
                    await asyncio.sleep(0.01)
            return await super().step(state, item)

    watchdog = Watchdog(item_timeout=0.3)
    with StreamServer(AsyncHanging if asynchronous else Hanging) as server:
        async with StreamClient(server.target, retry=RETRY, watchdog=watchdog) as client:
            found = []
            async with client.stream(inputs(60), return_exceptions=True) as stream:
                async for output in stream:
                    found.append(None if isinstance(output, ItemError) else output)
            release.set()
    state, wanted = b"", []
    for item in inputs(60):
        if item.endswith(b"7") or item == b"5":
            wanted.append(None)
            continue
        state = following(state, item)
        wanted.append(state[:8])
    assert found == wanted


class Pair(NamedTuple):
    """What some steps give."""

    state: bytes
    output: bytes


async def test_a_pair_may_be_a_named_one_and_nothing_else_is_one():
    class Named(Step):
        def step(self, state, item):
            return Pair(state + item, item) if item != b"3" else [state, item]

    with StreamServer(Named) as server:
        async with StreamClient(server.target, retry=RETRY) as client:
            found = [each async for each in client.stream(inputs(5), return_exceptions=True)]
    assert found[:3] + found[4:] == [b"0", b"1", b"2", b"4"]
    assert "a pair, not list" in found[3].text


def test_names_of_ones_own_are_ones_own():
    class Mine(Step):
        _handlers = "log", print

    class Old(StreamService):
        def step(self, item):
            return item

        def predict(self, item):
            return self.step(item)

    StreamServer(Mine)
    StreamServer(Old)
    with pytest.raises(TypeError, match="exactly one of step, step_many, step_batch"):
        type("Both", (Step,), {"predict": lambda self, item: item})


class Seeking(SeekableInputs[bytes]):
    """Inputs of which it is noted from where on they were read."""

    def __init__(self, count: int) -> None:
        self.count = count
        self.read_from: list[int] = []

    def after(self, count):
        self.read_from.append(count)
        return (b"%d" % number for number in range(count, self.count))


async def some(server, cursor, items, most=None, *, start=b"s", flow=None, **options):
    """Outputs of a client of its own, so many, and the cursor behind them, as it is kept."""
    found = []
    async with (
        StreamClient(server.target, retry=RETRY, flow=flow or FlowControl()) as client,
        client.stream(
            items,
            cursor=cursor,
            return_exceptions=True,
            parameters={"start": start.decode()},
            **options,
        ) as stream,
    ):
        async for output in stream:
            found.append(None if isinstance(output, ItemError) else output)
            if len(found) == most:
                break
        return found, Cursor.from_bytes(bytes(stream.cursor())), stream.statistics()


@pytest.mark.parametrize("service", [Step, AsyncStep, StepBatch])
async def test_another_process_goes_on_with_the_state_of_the_cursor(service):
    rng = Random(5)
    cursor, found, lives = Cursor(), [], 0
    while cursor.position < 300:
        with StreamServer(service) as server:  # nothing of the one before is left
            more, cursor, statistics = await some(server, cursor, inputs(300), rng.randint(1, 60))
        found += more
        lives += 1
        assert statistics.taken_through == len(more)
        assert len(found) == cursor.position
    assert found == expected(service, 300, b"s")
    assert lives > 5


async def test_an_input_is_computed_again_from_its_beginning():
    with StreamServer(StepMany) as server:
        # Up to the first of two outputs of input 6.
        found, cursor, _ = await some(server, Cursor(), inputs(40), 5)
        assert cursor.position == 5
        rest, _, _ = await some(server, cursor, inputs(40))
    assert found[:4] + rest == expected(StepMany, 40, b"s")


async def test_one_cursor_serves_as_often_as_one_likes():
    with StreamServer(Step) as server:
        found, cursor, _ = await some(server, Cursor(), inputs(100), 50)
        first, _, _ = await some(server, cursor, inputs(100))
        second, end, _ = await some(server, cursor, inputs(100))
        again, _, _ = await some(server, end, inputs(100))
    assert found + first == found + second == expected(Step, 100, b"s")
    assert again == []


async def test_inputs_are_read_from_the_state_on():
    items = Seeking(1500)
    with StreamServer(Step) as server:
        found, cursor, _ = await some(server, Cursor(), items, 1027)
        rest, _, statistics = await some(server, cursor, items)
    assert found + rest == expected(Step, 1500, b"s")
    assert cursor.position == 1027
    assert items.read_from == [0, min(1024, cursor.state.number)]
    assert 0 < statistics.replayed == 1027 - cursor.state.number - len(cursor.state.failed)


async def test_a_failed_step_that_was_raised_is_tried_again():
    with StreamServer(Step) as server:
        async with StreamClient(server.target, retry=RETRY) as client:
            stream, found = client.stream(inputs(30), cursor=Cursor()), []
            with pytest.raises(ItemError) as raised:
                found += [each async for each in stream]
            cursor = stream.cursor()
            assert (cursor.position, raised.value.number) == (7, 8)
            stream = client.stream(inputs(30), cursor=cursor)
            with pytest.raises(ItemError) as raised:
                [each async for each in stream]
            assert raised.value.number == 8


async def test_answers_do_not_wait_for_a_batch_that_hangs():
    """They may go along with the next ones, but not for ever."""
    go = threading.Event()

    class Gated(Folding):
        def step_batch(self, states, items):
            if items[0] == b"90":
                assert go.wait(30)
            return states, items

    with StreamServer(Gated) as server:
        async with (
            StreamClient(server.target, watchdog=Watchdog(heartbeat_interval=None)) as client,
            client.stream(inputs(100)) as stream,
        ):
            first = [await anext(stream) for _ in range(90)]
            go.set()
            assert first + [each async for each in stream] == inputs(100)


@pytest.mark.parametrize(("size", "item", "count"), [(1_000, 1_000, 8_000), (60_000, 20, 80_000)])
async def test_states_are_few_whatever_their_size(size, item, count):
    class Large(Step):
        tokens = Tokens()

        def begin(self, parameters):
            return bytes(size)

        async def step(self, state, item):
            return state, item

    items = [bytes(item)] * count
    with StreamServer(Large) as server:
        async with StreamClient(server.target) as client, client.stream(items) as stream:
            async for _ in stream:
                pass
            states = stream.statistics().token_bytes
    # The last one comes whatever the share, and so may one that the client asked for.
    assert states <= 0.05 * (2 * item * count + states) + 2 * (size + 100)


async def test_states_of_what_is_done_are_not_kept():
    items, most = inputs(3_000), 0
    with StreamServer(Step) as server:
        async with StreamClient(server.target, flow=FlowControl(window_items=256)) as client:
            stream = client.stream(items, cursor=Cursor(), return_exceptions=True)
            async for _ in stream:
                history = stream._driver.session.carried._history
                most = max(most, len(history._behind) + len(history._ahead), len(history._coming))
    assert 0 < most <= 512


def test_a_blocking_client_goes_on_with_it_as_well():
    found = []
    with StreamServer(Step) as server:
        cursor = Cursor()
        for _ in range(4):
            with SyncStreamClient(server.target, retry=RETRY) as client:
                stream = client.stream(inputs(100), cursor=cursor, return_exceptions=True)
                for batch in islice(stream.batches(25), 1):
                    found += [
                        None if isinstance(each, ItemError) else each for each in batch.outputs
                    ]
                    cursor = Cursor.from_bytes(bytes(batch.cursor))
                stream.close()
    assert found == expected(Step, 100)


async def test_it_goes_on_while_nothing_new_comes():
    """What is to be computed again goes out with the first new input, or with the end."""
    with StreamServer(Step) as server:
        _, cursor, _ = await some(server, Cursor(), inputs(5), 3)

        async def slowly():
            for item in inputs(3):
                yield item
            yield await asyncio.sleep(0, b"3")

        rest, _, _ = await some(server, cursor, slowly())
    assert rest == expected(Step, 4, b"s")[3:]


async def test_a_cursor_that_is_too_old_says_what_to_do():
    class Ageing(Step):
        state_lifetime = 1e-9

    with StreamServer(Ageing) as server:
        few = FlowControl(window_items=8)  # so that a state is among the first 50
        _, cursor, _ = await some(server, Cursor(), inputs(100), 50, flow=few)
        with pytest.raises(RejectedError, match=r"state_lifetime.*Begin anew, with Cursor\(\)"):
            await some(server, cursor, inputs(100))


async def test_what_a_failure_says_was_delivered_is_of_this_process():
    class InPlace(Folding):
        in_place = True

        def step(self, state, item):
            if item == b"8":
                raise ValueError("eight")
            return state, item

    with StreamServer(InPlace) as server:
        _, cursor, _ = await some(server, Cursor(), inputs(10), 5)
        with pytest.raises(ServerFailedError) as raised:
            await some(server, cursor, inputs(10))
    delivered = raised.value.delivered
    assert (delivered.taken_through, delivered.answered, delivered.accepted) == (3, 3, 5)
    assert "every output of inputs 1 to 3" in str(raised.value)


async def test_a_cursor_and_the_kind_of_its_service_belong_together():
    class Plain(StreamService[bytes, bytes]):
        def predict(self, item):
            return item

    with StreamServer(Plain) as server:
        _, plain, _ = await some(server, Cursor(), inputs(10), 5)
    with StreamServer(Step) as server:
        _, stateful, _ = await some(server, Cursor(), inputs(10), 5)
        with pytest.raises(RejectedError, match="the cursor holds no state: it was made when"):
            await some(server, plain, inputs(10))
        with pytest.raises(CursorMismatchError, match="leave out ordered=False"):
            await some(server, stateful, inputs(10), ordered=False)
        with pytest.raises(CursorMismatchError, match="the parameter 'start' has another value"):
            await some(server, stateful, inputs(10), start=b"other")
        with pytest.raises(CursorMismatchError, match="the inputs are not those"):
            await some(server, stateful, [b"x"] * 10)
    with (
        StreamServer(Plain) as server,
        pytest.raises(RejectedError, match="handler is not stateful"),
    ):
        await some(server, stateful, inputs(10))


async def test_it_is_for_ordered_streams_alone():
    with StreamServer(Step) as server:
        async with StreamClient(server.target, retry=RETRY) as client:
            with pytest.raises(RejectedError, match="answers inputs in their order"):
                await client.predict(b"x")
            with pytest.raises(RejectedError, match="ordered=True"):
                [each async for each in client.stream([b"x"], ordered=False)]


@pytest.mark.parametrize(
    "attributes",
    [
        {"state_keys": ("short",)},
        {"state_version": 0},
        {"state_lifetime": 0.0},
        {"tokens": 5},
        {"in_place": "yes"},
        {"in_place": True, "step": Folding.step, "step_batch": StepBatch.step_batch},
        {"state_codec": bytes},
    ],
)
def test_attributes_that_cannot_work_are_said_at_once(attributes):
    with pytest.raises(ConfigurationError, match=next(iter(attributes)) + "|state key"):
        StreamServer(type("Wrong", (Step,), attributes))


async def test_a_state_that_is_too_large_for_the_client_says_so():
    class Large(Step):
        def step(self, state, item):
            return bytes(100_000), b"x"

    found = []
    with StreamServer(Large) as server:
        async with StreamClient(server.target, retry=RETRY) as client:
            with pytest.raises(ServerFailedError, match=r"raise FlowControl\.checkpoint_bytes"):
                async for each in client.stream(inputs(20)):
                    found.append(each)
        assert found  # what was computed is not lost
        flow = FlowControl(checkpoint_bytes=200_000)
        async with StreamClient(server.target, retry=RETRY, flow=flow) as client:
            found, _ = await outputs_of(client, 20)
    assert found == [b"x"] * 20


def test_no_stream_waits_for_an_import():
    """It takes a fresh process to see it."""
    code = """if True:
        import sys
        from servestream_client.server.sealing import Sealer, new_key
        Sealer([new_key()], fingerprint="", version=1, lifetime=1.0)
        before = set(sys.modules)
        sealer = Sealer([new_key()], fingerprint="", version=1, lifetime=1.0)
        token = sealer.seal(b"state", stream=b"s", number=1, now=1.0)
        sealer.open(token, stream=b"s", number=1, now=1.0)
        late = {name for name in set(sys.modules) - before if name.startswith("cryptography")}
        assert not late, late
    """
    subprocess.run([sys.executable, "-c", code], check=True, timeout=150)


async def test_a_state_beside_answers_never_exceeds_what_the_client_takes():
    flow = FlowControl(
        max_item_bytes=64 << 10,
        checkpoint_bytes=1 << 20,
        window_bytes=20 << 20,
        output_bytes=16 << 20,
    )
    large = Random(1).randbytes(900_000)

    class Large(Folding):
        tokens = Tokens(inputs=64, share=1.0)

        def begin(self, parameters):
            return large

        async def step(self, state, item):
            return state, item

    Large.flow = flow
    inputs = [bytes(8000)] * 1500  # whose frames grow
    with StreamServer(Large()) as server:
        async with StreamClient(server.target, flow=flow, retry=RETRY) as client:
            stream = client.stream(inputs)
            assert [output async for output in stream] == inputs
            assert stream.statistics().attempts == 1
            assert stream.statistics().tokens
