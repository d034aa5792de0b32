"""Clients that break the protocol: the kit says so, frees everything, and serves others."""

import asyncio

import grpc.aio
import pytest
from faulty import streams_running
from helpers import collect, numbered, until

from servestream_client import StreamClient
from servestream_client.wire import stream_pb2 as pb
from servestream_client.wire.stream_pb2_grpc import StreamServiceStub

CREDIT = pb.Credit(outputs=100, bytes=1_000_000)


def opening(**changes) -> pb.ClientFrame:
    fields = {
        "protocol_version": 1,
        "stream_id": b"0123456789abcdef",
        "attempt": 1,
        "first_number": 1,
        "codec": pb.Codec(id="bytes"),
        "limits": pb.Limits(window_items=5, window_bytes=100, unacknowledged_frames=4),
        **changes,
    }
    return pb.ClientFrame(open=pb.Open(**fields), credit=CREDIT)


def inputs(first: int, *payloads: bytes) -> pb.ClientFrame:
    return pb.ClientFrame(inputs=[pb.InputRun(first_number=first, payloads=payloads)])


def end(last: int) -> pb.ClientFrame:
    return pb.ClientFrame(end=pb.ClientEnd(last_number=last))


@pytest.fixture
async def stub(echo):
    async with grpc.aio.insecure_channel(echo) as channel:
        yield StreamServiceStub(channel)


async def talk(stub, *frames: pb.ClientFrame, half_close: bool = True) -> list[pb.ServerFrame]:
    """Send the first frame, wait for the answer, send the rest; all that came back."""
    call = stub.Stream()
    received = []
    await call.write(frames[0])
    async for frame in call:
        received.append(frame)
        if len(received) == 1:
            for later in frames[1:]:
                await call.write(later)
        if frame.HasField("error") or frame.HasField("end") or frame.HasField("refused"):
            await call.done_writing()
    return received


async def test_a_good_client_is_served(stub):
    frames = await talk(stub, opening(), inputs(1, b"x", b"y"), end(2))
    assert frames[0].welcome.limits.window_items == 5
    assert [p for frame in frames for run in frame.outputs for p in run.payloads] == [b"x", b"y"]
    assert frames[-1].end == pb.ServerEnd(last_number=2, inputs_received=2, inputs_answered=2)


BREACHES = {
    "inputs beyond the window": [inputs(1, *[b"x"] * 6)],
    "bytes beyond the window": [inputs(1, b"x" * 60, b"x" * 60)],
    "input 0": [inputs(0, b"x")],
    "a number again": [inputs(1, b"x"), inputs(1, b"x")],
    "a number below the first": [inputs(2, b"x"), inputs(1, b"x")],
    "an end below the last input": [inputs(1, b"x", b"y"), end(1)],
    "an input after the end": [
        pb.ClientFrame(
            inputs=[pb.InputRun(first_number=1, payloads=[b"x"])], end=pb.ClientEnd(last_number=1)
        ),
        inputs(2, b"x"),
    ],
    "a second open": [opening()],
    "an empty run": [inputs(1)],
    "an unknown encoding": [
        pb.ClientFrame(inputs=[pb.InputRun(first_number=1, payloads=[b"x"], encoding=3)])
    ],
    "too little metadata": [
        pb.ClientFrame(
            inputs=[
                pb.InputRun(first_number=1, payloads=[b"x", b"y"], metadata=[pb.ItemMetadata()])
            ]
        )
    ],
    "acknowledging what was never sent": [pb.ClientFrame(frames_read=7)],
}


@pytest.mark.parametrize("breach", BREACHES)
async def test_a_breach_is_named_and_ends_the_attempt(stub, breach):
    if breach == "an input after the end":
        # The echo may have ended in good order before the second frame came; both are right.
        frames = await talk(stub, opening(), *BREACHES[breach])
        assert frames[-1].HasField("end") or frames[-1].HasField("error")
        return
    frames = await talk(stub, opening(), *BREACHES[breach])
    assert frames[-1].error.kind == pb.STREAM_ERROR_KIND_PROTOCOL
    assert frames[-1].error.text


REFUSED = {
    "a newer version": ({"protocol_version": 2}, pb.REFUSAL_KIND_VERSION),
    "no version": ({"protocol_version": 0}, pb.REFUSAL_KIND_VERSION),
    "a short stream id": ({"stream_id": b"short"}, pb.REFUSAL_KIND_BAD_OPEN),
    "attempt 0": ({"attempt": 0}, pb.REFUSAL_KIND_BAD_OPEN),
    "first number 0": ({"first_number": 0}, pb.REFUSAL_KIND_BAD_OPEN),
    "another codec": ({"codec": pb.Codec(id="json")}, pb.REFUSAL_KIND_CODEC),
    "a token": ({"token": pb.StateToken(number=1, token=b"forged")}, pb.REFUSAL_KIND_TOKEN),
}


@pytest.mark.parametrize("case", REFUSED)
async def test_an_open_that_cannot_be_served_is_refused(stub, case):
    changes, kind = REFUSED[case]
    (frame,) = await talk(stub, opening(**changes))
    assert frame.refused.kind == kind
    assert frame.refused.text


async def test_a_first_frame_that_does_not_open(stub):
    (frame,) = await talk(stub, inputs(1, b"x"))
    assert frame.error.kind == pb.STREAM_ERROR_KIND_PROTOCOL


async def test_more_inputs_with_the_open_than_fit_are_refused_for_now(stub):
    frame = opening()
    frame.inputs.append(pb.InputRun(first_number=1, payloads=[b"x"] * 6))
    (answer,) = await talk(stub, frame)
    assert answer.refused.kind == pb.REFUSAL_KIND_OVERLOADED
    assert answer.refused.retry_after_ms == 0


async def next_outputs(incoming, count: int) -> list[bytes]:
    """So many outputs, in however many frames; and not one more in the last of them."""
    payloads: list[bytes] = []
    while len(payloads) < count:
        frame = await anext(incoming)
        payloads += [payload for run in frame.outputs for payload in run.payloads]
    return payloads


async def test_no_output_leaves_without_credit(stub):
    frame = opening()
    frame.credit.Clear()
    call = stub.Stream()
    await call.write(frame)
    incoming = aiter(call)
    assert (await anext(incoming)).HasField("welcome")
    await call.write(inputs(1, b"x", b"y", b"z"))
    await call.write(pb.ClientFrame(credit=pb.Credit(outputs=2, bytes=100)))
    assert await next_outputs(incoming, 2) == [b"x", b"y"]
    await call.write(pb.ClientFrame(credit=pb.Credit(outputs=3, bytes=100), frames_read=1))
    assert await next_outputs(incoming, 1) == [b"z"]
    call.cancel()


async def test_a_higher_attempt_ends_a_lower_one(stub):
    lower = stub.Stream()
    await lower.write(opening())
    assert (await anext(aiter(lower))).HasField("welcome")
    higher = stub.Stream()
    await higher.write(opening(attempt=2))
    assert (await anext(aiter(higher))).HasField("welcome")
    frame = await anext(aiter(lower))
    assert frame.error.kind == pb.STREAM_ERROR_KIND_SUPERSEDED
    late = stub.Stream()
    await late.write(opening())
    assert (await anext(aiter(late))).refused.kind == pb.REFUSAL_KIND_BAD_OPEN
    for call in (lower, higher, late):
        call.cancel()


async def test_a_client_that_never_half_closes_is_left_after_the_linger(stub):
    call = stub.Stream()
    await call.write(opening(protocol_version=9))
    frames = [frame async for frame in call]
    assert frames[0].HasField("refused")
    assert await call.code() is grpc.StatusCode.OK


async def test_clients_that_vanish_leave_nothing_behind(stub, echo):
    for _ in range(50):
        call = stub.Stream()
        await call.write(opening(stream_id=b"0123456789abcde%d" % (_ % 10)))
        await anext(aiter(call))
        call.cancel()
    await until(lambda: not streams_running())
    async with StreamClient(echo) as client:
        assert await collect(client.stream(numbered(10))) == numbered(10)


async def test_bytes_that_are_no_frame(echo):
    async with grpc.aio.insecure_channel(echo) as channel:
        method = channel.stream_stream("/servestream.v1.StreamService/Stream")
        call = method()
        await call.write(b"\xff\xff\xff\xff")
        frames = [pb.ServerFrame.FromString(raw) async for raw in call]
    assert not frames or frames[0].error.kind == pb.STREAM_ERROR_KIND_PROTOCOL
    await asyncio.sleep(0)
    await until(lambda: not streams_running())


async def test_the_server_lingers_until_the_client_has_half_closed(stub):
    call = stub.Stream()
    await call.write(opening())
    incoming = aiter(call)
    await anext(incoming)
    await call.write(end(0))
    assert (await anext(incoming)).HasField("end")
    for _ in range(200):
        await asyncio.sleep(0)
    assert streams_running()
    assert not call.done()
    await call.done_writing()
    assert [frame async for frame in incoming] == []
    await until(lambda: not streams_running())


async def test_every_cancelled_input_is_answered_also_one_that_waits_for_its_place(serve):
    from servestream_client.server import StreamService

    class Hanging(StreamService[bytes, bytes]):
        max_concurrency = 3

        async def predict(self, item):
            await asyncio.Event().wait()

    async with grpc.aio.insecure_channel(await serve(Hanging())) as channel:
        frame = opening(limits=pb.Limits(window_items=10))
        call = StreamServiceStub(channel).Stream()
        await call.write(frame)
        incoming = aiter(call)
        await anext(incoming)
        last = inputs(1, *[b"x"] * 8)
        last.end.last_number = 8
        await call.write(last)
        await until(lambda: sum("worker" in t.get_name() for t in streams_running()) == 3)
        await call.write(pb.ClientFrame(cancelled=[pb.NumberRange(first=1, last=2**64 - 1)]))
        answered = []
        async for frame in incoming:
            answered += [error.number for error in frame.errors]
            if frame.HasField("end"):
                await call.done_writing()
    assert answered == list(range(1, 9))


# ---------------------------------------------------------------- what the protocol says of it


@pytest.mark.parametrize("start", [1, 2])
async def test_an_output_that_was_received_is_not_sent_again(stub, start):
    run = pb.InputRun(first_number=1, payloads=[b"x", b"y"], first_start_index=start)
    last = pb.ClientFrame(inputs=[run], end=pb.ClientEnd(last_number=2))
    frames = await talk(stub, opening(), last)
    parts = [part for frame in frames for part in frame.parts]
    assert parts == [pb.OutputPart(number=1, first_index=start, last=True)]
    outputs = [run for frame in frames for run in frame.outputs]
    assert outputs == [pb.OutputRun(first_number=2, payloads=[b"y"])]
    assert frames[-1].end == pb.ServerEnd(last_number=2, inputs_received=2, inputs_answered=2)


async def test_a_frame_of_the_clients_that_was_lost_is_no_breach(stub):
    positions = pb.ClientFrame(heartbeat=pb.Heartbeat(inputs_through=2))
    frames = await talk(stub, opening(), inputs(1, b"x"), positions)
    assert frames[-1].error.kind == pb.STREAM_ERROR_KIND_INTERNAL
    assert "a gap" in frames[-1].error.text


async def test_positions_that_lag_behind_are_no_loss(stub):
    positions = pb.ClientFrame(heartbeat=pb.Heartbeat(inputs_through=1, outputs=99))
    frames = await talk(stub, opening(), inputs(1, b"x", b"y"), positions, end(2))
    assert frames[-1].HasField("end")


async def test_an_empty_frame_is_legal(stub):
    frames = await talk(stub, opening(), pb.ClientFrame(), inputs(1, b"x"), end(1))
    assert frames[-1].HasField("end")
