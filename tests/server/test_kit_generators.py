"""Generators in a whole kit, by the frames of a client that is scripted."""

import asyncio
from collections.abc import AsyncIterator

import pytest
from attempts import PLENTY, for_a_while, until, workers_running

from servestream_client.config import FlowControl
from servestream_client.errors import ItemErrorKind
from servestream_client.protocol import continuation, frames
from servestream_client.protocol.frames import (
    ClientEnd,
    ClientFrame,
    CodecId,
    Credit,
    HandlerKind,
    InputCredit,
    InputRun,
    Limits,
    NumberRange,
    Open,
    Order,
    RefusalKind,
    Resume,
    ServerFrame,
    StreamErrorKind,
)
from servestream_client.server import Output, Replay, StreamService
from servestream_client.server.active_attempts import Totals
from servestream_client.server.kit import Interceptor, Kit
from servestream_client.server.service import checked_handler
from servestream_client.wire import stream_pb2 as pb
from servestream_client.wire.convert import client_frame_to_wire, server_frame_from_wire


class Talk:
    """One call: what its client says, and what it hears, acknowledged at once."""

    def __init__(self, kit: Kit, *, each: Credit = PLENTY, attempt: int = 1, **opened) -> None:
        self.outputs: dict[int, list[bytes]] = {}
        self.parts: list[frames.OutputPart] = []
        self.errors: dict[int, frames.ItemFailure] = {}
        self.first = ServerFrame()
        self.drain: frames.Drain | None = None
        self.failure: frames.StreamFailure | None = None
        self.end: frames.ServerEnd | None = None
        self._said: asyncio.Queue[pb.ClientFrame | None] = asyncio.Queue()
        self._read = 0
        fields = {
            "stream_id": bytes(16),
            "attempt": attempt,
            "codec": CodecId("bytes"),
            "features": [continuation.FEATURE],
            "order": Order.ANY,
            "limits": Limits(input_outputs=each.outputs, input_bytes=each.bytes),
            **opened,
        }
        self.say(ClientFrame(open=Open(**fields), credit=PLENTY))
        self.task = asyncio.ensure_future(self._hear(kit.frames(self._requests())))

    def say(self, frame: ClientFrame) -> None:
        self._said.put_nowait(client_frame_to_wire(frame))

    def send(self, *payloads: bytes, end: bool = False) -> None:
        last = ClientEnd(len(payloads)) if end else None
        self.say(ClientFrame(inputs=[InputRun(1, payloads)], end=last))

    async def _requests(self) -> AsyncIterator[pb.ClientFrame]:
        while (message := await self._said.get()) is not None:
            yield message

    async def _hear(self, messages: AsyncIterator[pb.ServerFrame]) -> None:
        heard = False
        async for message in messages:
            frame = server_frame_from_wire(pb.ServerFrame.FromString(message.SerializeToString()))
            if not heard:
                heard, self.first = True, frame
            for part in frame.parts:
                self.outputs.setdefault(part.number, []).extend(part.payloads)
                self.parts.append(part)
            self.errors |= {error.number: error for error in frame.errors}
            self.drain = frame.drain or self.drain
            self.failure = frame.error or self.failure
            self.end = frame.end or self.end
            if frame.paced:
                self._read += 1
                self.say(ClientFrame(frames_read=self._read))
            if frame.end or frame.error or frame.refused:
                self._said.put_nowait(None)

    async def leave(self) -> None:
        self._said.put_nowait(None)
        await self.task


class Counting(StreamService[bytes, bytes]):
    replay = Replay.SEEK
    fingerprint = "model 3"

    def __init__(self) -> None:
        self.closed: list[bytes] = []
        self.go = asyncio.Event()

    async def generate(self, item, resume):
        try:
            for n in range(resume.index, 5):
                if item.startswith(b"hold") and n == 2:
                    await self.go.wait()
                yield item + b"%d" % n
        finally:
            self.closed.append(item)


class Plain(Counting):
    def generate(self, item, resume):
        for n in range(resume.index, 5):
            yield item + b"%d" % n


def kit_of(service: StreamService) -> Kit:
    return Kit(service, checked_handler(service), Interceptor(), replica="here")


@pytest.fixture(autouse=True)
async def no_worker_stays():
    yield
    await until(lambda: not workers_running())


@pytest.mark.parametrize("kind", [Counting, Plain])
async def test_a_stream_from_its_open_to_its_end(kind):
    talk = Talk(kit_of(kind()))
    talk.send(b"a", b"b", end=True)
    await talk.task
    welcome = talk.first.welcome
    assert (welcome.handler_kind, welcome.replay) == (HandlerKind.ONE_TO_MANY, frames.Replay.SEEK)
    assert (welcome.fingerprint, welcome.restartable) == ("model 3", True)
    assert list(welcome.features) == [continuation.FEATURE]
    assert talk.outputs == {1: [b"a%d" % n for n in range(5)], 2: [b"b%d" % n for n in range(5)]}
    assert talk.end == frames.ServerEnd(2, 2, 2)


@pytest.mark.parametrize("replay", Replay)
async def test_a_welcome_says_how_a_service_goes_on(replay):
    service = Counting()
    service.replay = replay
    talk = Talk(kit_of(service))
    talk.say(ClientFrame(end=ClientEnd(0)))
    await talk.task
    assert talk.first.welcome.replay.name == replay.name


async def test_other_services_say_nothing_of_it():
    class Echo(StreamService[bytes, bytes]):
        async def predict(self, item):
            return item

    talk = Talk(kit_of(Echo()))
    talk.say(ClientFrame(end=ClientEnd(0)))
    await talk.task
    assert talk.first.welcome.replay is frames.Replay.UNSPECIFIED
    assert list(talk.first.welcome.features) == []


async def test_readers_that_stop_and_go_on_again():
    talk = Talk(kit_of(Counting()), each=Credit(2, 1000))
    talk.send(b"a", b"b", end=True)
    await until(lambda: [len(each) for each in talk.outputs.values()] == [2, 2])
    await for_a_while()
    talk.say(ClientFrame(input_credit=[InputCredit(2, 9, 1000)]))
    await until(lambda: talk.parts[-1].last)
    assert [len(talk.outputs[n]) for n in (1, 2)] == [2, 5]
    talk.say(ClientFrame(input_credit=[InputCredit(1, 9, 1000)]))
    await talk.task
    assert talk.end is not None


async def test_a_generator_that_waits_for_its_reader_is_no_load():
    service = Counting()
    kit = kit_of(service)
    talk = Talk(kit, each=Credit(2, 1000))
    talk.send(b"a", b"hold", end=True)
    await until(lambda: [len(each) for each in talk.outputs.values()] == [2, 2])
    await until(lambda: kit.totals == Totals(streams=1, items=0))
    talk.say(ClientFrame(input_credit=[InputCredit(2, 9, 1000)]))
    await until(lambda: kit.totals == Totals(streams=1, items=1))
    service.go.set()
    talk.say(ClientFrame(input_credit=[InputCredit(1, 9, 1000)]))
    await talk.task
    await until(lambda: kit.totals == Totals(streams=0, items=0))


async def test_what_was_cancelled_while_it_waited_for_its_reader_counts_once():
    kit = kit_of(Counting())
    talk = Talk(kit, each=Credit(2, 1000))
    talk.send(b"a", b"b", b"c")
    await until(lambda: [len(each) for each in talk.outputs.values()] == [2, 2, 2])
    seen: set[int] = set()
    talk.say(ClientFrame(cancelled=[frames.NumberRange(1, 3)], end=ClientEnd(3)))
    while not talk.task.done():
        seen.add(kit.totals.items)
        await asyncio.sleep(0)
    assert min(seen) >= 0


async def test_a_cancelled_input_is_answered_at_once_and_its_generator_closed():
    service = Counting()
    talk = Talk(kit_of(service))
    talk.send(b"hold")
    await until(lambda: len(talk.outputs.get(1, ())) == 2)
    talk.say(ClientFrame(cancelled=[NumberRange(1, 1)]))
    await until(lambda: 1 in talk.errors)
    assert (talk.errors[1].kind, talk.errors[1].index) == (ItemErrorKind.CANCELLED, 2)
    await until(lambda: service.closed == [b"hold"])
    await talk.leave()


async def test_a_client_that_goes_away_stops_its_generators():
    service = Counting()
    talk = Talk(kit_of(service))
    talk.send(b"hold1", b"hold2")
    await until(lambda: len(talk.outputs) == 2)
    await talk.leave()
    await until(lambda: sorted(service.closed) == [b"hold1", b"hold2"])


async def test_a_higher_attempt_stops_those_of_the_lower_one_and_goes_on():
    service = Counting()
    kit = kit_of(service)
    before = Talk(kit)
    before.send(b"hold")
    await until(lambda: len(before.outputs.get(1, ())) == 2)
    after = Talk(kit, attempt=2)
    digest = continuation.digest(continuation.NO_OUTPUTS, before.outputs[1])
    service.go.set()
    run = InputRun(1, [b"hold"], 2, first_resume=Resume(digest))
    after.say(ClientFrame(inputs=[run], end=ClientEnd(1)))
    await after.task
    await before.task
    assert before.failure.kind is StreamErrorKind.SUPERSEDED
    assert before.outputs[1][:2] + after.outputs[1] == [b"hold%d" % n for n in range(5)]


async def test_a_drain_lets_generations_end_within_its_grace():
    service = Counting()
    kit = kit_of(service)
    talk = Talk(kit)
    talk.send(b"hold")
    await until(lambda: len(talk.outputs.get(1, ())) == 2)
    kit.drain(20)
    await until(lambda: talk.drain is not None)
    service.go.set()
    await until(lambda: len(talk.outputs[1]) == 5)
    refused = Talk(kit)
    await refused.task
    assert refused.first.refused.kind is RefusalKind.DRAINING
    await talk.leave()


async def test_after_its_grace_they_are_broken_off_and_closed():
    service = Counting()
    kit = kit_of(service)
    talk = Talk(kit, each=Credit(1, 1000))
    talk.send(b"hold", b"pauses")
    await until(lambda: len(talk.outputs) == 2)
    talk.say(ClientFrame(input_credit=[InputCredit(1, 9, 1000)]))
    await until(lambda: len(talk.outputs[1]) == 2)
    kit.drain(0)
    await talk.task
    assert talk.failure.kind is StreamErrorKind.INTERNAL
    await until(lambda: sorted(service.closed) == [b"hold", b"pauses"])


async def test_a_checkpoint_comes_back_over_the_wire():
    class Service(StreamService[bytes, bytes]):
        replay = Replay.CONTINUE

        async def generate(self, item, resume):
            given.append(resume)
            for n in range(resume.index, 4):
                yield Output(b"%d" % n, b"at %d" % n if n == 1 else None)

    given: list[object] = []
    kit = kit_of(Service())
    talk = Talk(kit, each=Credit(3, 1000))
    talk.send(b"x")
    await until(lambda: len(talk.outputs.get(1, ())) == 3)
    (checkpoint,) = [part.checkpoint for part in talk.parts if part.checkpoint is not None]
    await talk.leave()
    other = Talk(kit, attempt=2)
    digest = continuation.digest(continuation.NO_OUTPUTS, talk.outputs[1])
    resume = Resume(digest, checkpoint, 2, [b"2"])
    run = InputRun(1, [b"x"], 3, first_resume=resume, first_credit=Credit(100, 1000))
    other.say(ClientFrame(inputs=[run], end=ClientEnd(1)))
    await other.task
    assert other.outputs[1] == [b"3"]
    assert (given[1].index, given[1].outputs, given[1].checkpoint) == (3, (b"2",), b"at 1")


async def test_what_cannot_be_of_a_resume_is_the_clients_error():
    talk = Talk(kit_of(Counting()))
    talk.say(ClientFrame(inputs=[InputRun(1, [b"x"], 3)]))
    await talk.task
    assert talk.failure.kind is StreamErrorKind.PROTOCOL
    assert "lacks its resume" in talk.failure.text


async def test_parameters_of_the_request_reach_generators_as_they_reach_other_handlers():
    import contextvars

    request = contextvars.ContextVar("request", default="")
    seen = []

    class Service(StreamService[bytes, bytes]):
        async def generate(self, item, resume):
            seen.append(request.get())
            yield item

    request.set("this one")
    talk = Talk(kit_of(Service()))
    talk.send(b"x", end=True)
    await talk.task
    assert seen == ["this one"]


async def test_a_services_own_limit_of_checkpoints_holds():
    class Large(StreamService[bytes, bytes]):
        replay = Replay.CONTINUE
        flow = FlowControl(checkpoint_bytes=200_000, continuation_bytes=300_000)

        async def generate(self, item, resume):
            yield Output(b"a", checkpoint=bytes(150_000))

    service = Large()
    kit = Kit(service, checked_handler(service), Interceptor(), replica="r")
    talk = Talk(kit, limits=Limits(token_bytes=200_000))
    talk.say(ClientFrame(inputs=[InputRun(1, [b"x"])]))
    await until(lambda: 1 in talk.outputs or 1 in talk.errors)
    assert talk.first.welcome.limits.token_bytes == 200_000
    assert (talk.outputs, talk.errors) == ({1: [b"a"]}, {})
    talk.task.cancel()
