"""Servers that break the protocol: the client neither hangs, nor loses, nor invents anything."""

import asyncio
from collections.abc import AsyncIterator, Callable

import pytest
from faulty import FaultyEcho
from helpers import collect, numbered, until

from servestream_client import (
    FlowControl,
    NotAServerError,
    PeerProtocolError,
    RetryPolicy,
    ServerFailedError,
    StreamClient,
    VersionMismatchError,
    Watchdog,
)
from servestream_client.config import MIB
from servestream_client.testing.injector import Garbage
from servestream_client.wire import stream_pb2 as pb

QUICK = RetryPolicy(attempts=3, connect_attempts=3, connect_timeout=0, initial=0.001, maximum=0.001)

ONE = pb.HANDLER_KIND_ONE_TO_ONE
WELCOME = pb.ServerFrame(
    welcome=pb.Welcome(protocol_version=1, replica="scripted", handler_kind=ONE)
)


def run(first: int, *payloads: bytes) -> pb.ServerFrame:
    return pb.ServerFrame(outputs=[pb.OutputRun(first_number=first, payloads=payloads)])


def end(last: int, received: int, answered: int) -> pb.ServerFrame:
    return pb.ServerFrame(
        end=pb.ServerEnd(last_number=last, inputs_received=received, inputs_answered=answered)
    )


ANSWERS = run(1, b"1", b"2", b"3")


async def received_all(requests: AsyncIterator[pb.ClientFrame]) -> None:
    """Read until the client's end."""
    async for frame in requests:
        if frame.HasField("end"):
            return


def script(*frames: pb.ServerFrame, calls: list[int]) -> Callable:
    """A server that welcomes, reads all inputs, and then sends this."""

    async def serve(requests, context):
        calls.append(len(calls) + 1)
        await anext(aiter(requests))
        yield WELCOME
        await received_all(requests)
        for frame in frames:
            yield frame
        async for _ in requests:
            pass

    return serve


BREACHES = {
    "an answer to an input that was never sent": [run(9, b"x")],
    "an answer to input 0": [run(0, b"x")],
    "the last output first": [run(3, b"3")],
    "an end with a wrong last number": [ANSWERS, end(4, 3, 3)],
    "an end with too few received": [ANSWERS, end(3, 2, 3)],
    "an end with too few answered": [ANSWERS, end(3, 3, 2)],
    "an end with too many": [ANSWERS, end(3, 4, 4)],
    "an end with inputs unanswered": [run(1, b"1"), end(3, 3, 3)],
    "a second welcome": [WELCOME],
    "a refusal after the welcome": [pb.ServerFrame(refused=pb.Refused())],
    "acknowledging what was never sent": [pb.ServerFrame(frames_read=99)],
    "a run without payloads": [pb.ServerFrame(outputs=[pb.OutputRun(first_number=1)])],
    "an unknown encoding": [
        pb.ServerFrame(outputs=[pb.OutputRun(first_number=1, payloads=[b"1"], encoding=7)])
    ],
    "a token": [pb.ServerFrame(tokens=[pb.StateToken(number=1, token=b"x")])],
    "an index ahead": [
        pb.ServerFrame(parts=[pb.OutputPart(number=1, first_index=1, payloads=[b"1"], last=True)])
    ],
    "an empty part that is not the last": [pb.ServerFrame(parts=[pb.OutputPart(number=1)])],
}


@pytest.mark.parametrize("breach", BREACHES)
async def test_a_breach_abandons_the_attempt_and_ends_as_the_servers_fault(listen, breach):
    calls: list[int] = []
    target = await listen(script(*BREACHES[breach], calls=calls))
    seen = []
    async with StreamClient(target, retry=QUICK) as client:
        with pytest.raises(PeerProtocolError, match="broke the protocol") as caught:
            async for output in client.stream(numbered(3)):
                seen.append(output)
    assert seen == numbered(3)[: len(seen)]
    assert caught.value.last_number == len(seen)
    assert len(calls) >= 3


@pytest.mark.parametrize("breach", BREACHES)
async def test_a_single_breach_costs_an_attempt_and_nothing_else(listen, plan, breach):
    calls: list[int] = []
    broken, good = script(*BREACHES[breach], calls=calls), FaultyEcho(plan)

    async def serve(requests, context):
        server = broken if not calls else good.Stream
        async for frame in server(requests, context):
            yield frame

    async with StreamClient(await listen(serve), retry=QUICK) as client:
        stream = client.stream(numbered(3))
        assert await collect(stream) == numbered(3)
        assert stream.statistics().attempts == 2


async def test_output_beyond_the_credit(listen):
    async def flood(requests, context):
        await anext(aiter(requests))
        yield WELCOME
        await received_all(requests)
        yield run(1, *[b"x"] * 100)

    flow = FlowControl(output_items=10)
    async with StreamClient(await listen(flood), flow=flow, retry=QUICK) as client:
        with pytest.raises(PeerProtocolError, match="beyond the credit"):
            await collect(client.stream(numbered(100)))


async def test_an_output_beyond_the_item_limit(listen):
    calls: list[int] = []
    target = await listen(script(run(1, b"x" * 100), calls=calls))
    async with StreamClient(target, flow=FlowControl(max_item_bytes=99), retry=QUICK) as client:
        with pytest.raises(PeerProtocolError, match="99"):
            await collect(client.stream(numbered(3)))


@pytest.mark.parametrize("first", [ANSWERS, end(3, 3, 3), pb.ServerFrame()], ids=str)
async def test_a_first_frame_that_neither_welcomes_nor_refuses(listen, first):
    async def serve(requests, context):
        await anext(aiter(requests))
        yield first
        await received_all(requests)

    async with StreamClient(await listen(serve), retry=QUICK) as client:
        with pytest.raises(NotAServerError):
            await collect(client.stream(numbered(3)))


async def test_an_end_before_the_clients(listen):
    async def serve(requests, context):
        await anext(aiter(requests))
        yield WELCOME
        yield end(0, 0, 0)
        async for _ in requests:
            pass

    async def endless():
        yield b"1"
        await asyncio.Event().wait()

    async with StreamClient(await listen(serve), retry=QUICK) as client:
        with pytest.raises(PeerProtocolError, match="before the client's end"):
            await collect(client.stream(endless()))


async def test_frames_after_the_end_change_nothing(listen):
    calls: list[int] = []
    frames = [ANSWERS, end(3, 3, 3), ANSWERS, run(9, b"x"), WELCOME]
    async with StreamClient(await listen(script(*frames, calls=calls))) as client:
        stream = client.stream(numbered(3))
        assert await collect(stream) == numbered(3)
        assert stream.statistics().attempts == 1


async def test_a_server_that_never_sends_its_end_costs_the_close_timeout_only(listen):
    calls: list[int] = []
    async with StreamClient(
        await listen(script(ANSWERS, calls=calls)), close_timeout=0.05
    ) as client:
        stream = client.stream(numbered(3))
        assert await collect(stream) == numbered(3)
        assert stream.statistics().attempts == 1


async def test_a_server_that_never_ends_the_call_costs_the_close_timeout_only(listen):
    async def serve(requests, context):
        await anext(aiter(requests))
        yield WELCOME
        await received_all(requests)
        yield ANSWERS
        yield end(3, 3, 3)
        await asyncio.Event().wait()

    async with StreamClient(await listen(serve), close_timeout=0.05) as client:
        assert await collect(client.stream(numbered(3))) == numbered(3)


async def test_a_refusal_by_a_server_that_never_ends_the_call(listen):
    async def serve(requests, context):
        await anext(aiter(requests))
        yield pb.ServerFrame(refused=pb.Refused(kind=pb.REFUSAL_KIND_CODEC, text="mine"))
        await asyncio.Event().wait()

    from servestream_client import CodecMismatchError

    async with StreamClient(await listen(serve), close_timeout=0.05) as client:
        with pytest.raises(CodecMismatchError, match="mine"):
            await collect(client.stream(numbered(3)))


async def test_a_server_that_welcomes_and_dies_is_not_hammered_for_ever(listen):
    calls = 0

    async def serve(requests, context):
        nonlocal calls
        calls += 1
        await anext(aiter(requests))
        yield WELCOME

    from servestream_client import RetriesExhaustedError

    async with StreamClient(await listen(serve), retry=QUICK) as client:
        with pytest.raises(RetriesExhaustedError):
            await collect(client.stream(numbered(3)))
    # Three attempts are the policy's; what is tried alone has as many of its own.
    assert 3 <= calls <= 6


async def test_a_stream_error_of_the_protocol_is_final_and_keeps_its_text(listen):
    calls: list[int] = []
    error = pb.StreamError(kind=pb.STREAM_ERROR_KIND_PROTOCOL, text="you sent \x1b[31mred")
    target = await listen(script(run(1, b"1"), pb.ServerFrame(error=error), calls=calls))
    seen = []
    async with StreamClient(target, retry=QUICK) as client:
        with pytest.raises(ServerFailedError, match=r"you sent \\x1b") as caught:
            async for output in client.stream(numbered(3)):
                seen.append(output)
    assert seen == [b"1"]
    assert caught.value.last_number == 1
    assert calls == [1]


async def test_unknown_kinds_and_fields_are_not_fatal(listen, plan):
    """A newer server of the same version: it says things that this client does not know."""
    calls: list[int] = []
    newer = pb.ServerFrame()
    newer.ParseFromString(ANSWERS.SerializeToString() + b"\xf2\x3f\x03abc")  # field 1022
    novel = pb.ServerFrame(error=pb.StreamError(kind=99, text="novel"))  # type: ignore[arg-type]
    broken, good = script(newer, novel, calls=calls), FaultyEcho(plan)

    async def serve(requests, context):
        server = broken if not calls else good.Stream
        async for frame in server(requests, context):
            yield frame

    async with StreamClient(await listen(serve), retry=QUICK) as client:
        assert await collect(client.stream(numbered(4))) == numbered(4)


async def test_a_drain_moves_the_stream_without_an_error(listen, plan):
    calls = 0
    good = FaultyEcho(plan)
    drained = asyncio.Event()

    async def serve(requests, context):
        nonlocal calls
        calls += 1
        if calls > 1:
            async for frame in good.Stream(requests, context):
                yield frame
            return
        incoming = aiter(requests)
        await anext(incoming)
        yield WELCOME
        frame = await anext(incoming)
        yield pb.ServerFrame(drain=pb.Drain(grace_ms=1000))
        (inputs,) = frame.inputs
        yield pb.ServerFrame(
            outputs=[pb.OutputRun(first_number=inputs.first_number, payloads=inputs.payloads)]
        )
        async for late in incoming:
            assert not late.inputs, "an input after the drain"
        drained.set()

    async def inputs():
        for item in numbered(200):
            if item == b"51":
                await drained.wait()
            yield item

    async with StreamClient(await listen(serve), retry=QUICK) as client:
        stream = client.stream(inputs())
        assert await collect(stream) == numbered(200)
        assert calls == stream.statistics().attempts == 2


async def test_a_write_that_is_under_way_when_its_attempt_breaks_is_no_fault_of_the_inputs(listen):
    """A lone input is sent by the task that pulls the inputs."""
    calls: list[int] = []
    pulled = asyncio.Event()
    limits = pb.Limits(item_bytes=6 * MIB, window_bytes=8 * MIB, frame_bytes=7 * MIB)
    welcome = pb.ServerFrame(
        welcome=pb.Welcome(protocol_version=1, replica="scripted", handler_kind=ONE, limits=limits)
    )

    async def serve(requests, context):
        calls.append(1)
        await anext(aiter(requests))
        yield welcome
        if len(calls) == 1:
            await pulled.wait()
            yield Garbage()  # nobody reads the input, which does not fit into any buffer
            await asyncio.Event().wait()
        await received_all(requests)
        yield run(1, b"answer")
        yield end(1, 1, 1)
        async for _ in requests:
            pass

    async def inputs():
        await until(lambda: stream.statistics().replica == "scripted")
        pulled.set()
        yield bytes(6 * MIB)

    flow = FlowControl(max_item_bytes=6 * MIB, window_bytes=8 * MIB)
    async with StreamClient(await listen(serve), retry=QUICK, flow=flow) as client:
        stream = client.stream(inputs())
        assert await collect(stream) == [b"answer"]
    assert len(calls) == 2


@pytest.mark.parametrize("kind", [0, 4, 5, 99])
async def test_a_handler_of_a_kind_that_the_client_cannot_resume_is_left(listen, kind):
    calls = 0

    async def serve(requests, context):
        nonlocal calls
        calls += 1
        async for _ in requests:
            yield pb.ServerFrame(welcome=pb.Welcome(protocol_version=1, handler_kind=kind))

    async with StreamClient(await listen(serve), retry=QUICK) as client:
        with pytest.raises(VersionMismatchError, match=r"kind that this client|is stateful"):
            await collect(client.stream(numbered(3)))
    assert calls == 1


async def test_losses_without_end_do_not_accuse_the_server_alone(listen):
    calls: list[int] = []
    target = await listen(script(run(3, b"3"), calls=calls))
    async with StreamClient(target, retry=QUICK) as client:
        with pytest.raises(PeerProtocolError, match="frames were lost on the way, or the server"):
            await collect(client.stream(numbered(3)))


@pytest.mark.parametrize("single_last", [False, True])
async def test_single_outputs_may_come_as_parts(listen, single_last):
    """A server that cannot know whether another output follows sends an empty last part."""
    calls: list[int] = []
    parts = []
    for number in (1, 2, 3):
        part = pb.OutputPart(number=number, payloads=[b"%d" % number], last=single_last)
        parts.append(pb.ServerFrame(parts=[part]))
        if not single_last:
            last = pb.OutputPart(number=number, first_index=1, last=True)
            parts.append(pb.ServerFrame(parts=[last]))
    target = await listen(script(*parts, end(3, 3, 3), calls=calls))
    async with StreamClient(target, retry=QUICK) as client:
        assert await collect(client.stream(numbered(3))) == numbered(3)
    assert calls == [1]


# ---------------------------------------------------------------- frames that are lost on the way

BEATING = Watchdog(heartbeat_interval=0.1)


class Lossy:
    """An echo behind which one frame of the first call is lost, up or down."""

    def __init__(self, service: FaultyEcho, way: str, position: int) -> None:
        self.service = service
        self.way = way
        self.position = position
        self.calls = 0
        self.lost = False

    async def serve(self, requests, context):
        self.calls += 1
        first = self.calls == 1
        up = self.drop(requests) if first and self.way == "up" else requests
        down = self.service.Stream(up, context)
        async for frame in self.drop(down) if first and self.way == "down" else down:
            yield frame

    async def drop(self, frames):
        position = 0
        async for frame in frames:
            if position == self.position:
                self.lost = True
            else:
                yield frame
            position += 1


@pytest.mark.parametrize("position", range(5))
@pytest.mark.parametrize("way", ["up", "down"])
@pytest.mark.parametrize("open_ended", [False, True])
async def test_a_single_frame_that_is_lost_is_never_final(listen, plan, way, position, open_ended):
    """Whichever it is, at a target that never welcomed this client before: nothing is lost, and
    nothing comes twice.
    """
    lossy = Lossy(FaultyEcho(plan), way, position)
    results: list[bytes] = []

    async def inputs():
        for number, item in enumerate(numbered(12)):
            if number % 3 == 0 and (open_ended or not lossy.lost):
                await until(lambda have=number - 3: lossy.lost or len(results) >= have)
            yield item
        if open_ended:
            await until(lambda: len(results) == 12)

    retry = RetryPolicy(initial=0.001, maximum=0.001, open_timeout=0.5)
    async with StreamClient(
        await listen(lossy.serve), retry=retry, watchdog=BEATING, close_timeout=0.2
    ) as client:
        async for output in client.stream(inputs()):
            results.append(output)
    assert results == numbered(12)
    assert lossy.lost or position > 2  # there may be fewer
