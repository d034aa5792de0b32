"""One service object in several event loops, and what reaches all of them."""

import asyncio
import gc
import threading
import weakref
from collections.abc import AsyncIterator, Callable

import pytest

from servestream_client.errors import ItemErrorKind
from servestream_client.protocol.frames import (
    ClientFrame,
    CodecId,
    Credit,
    InputRun,
    Open,
    RefusalKind,
    ServerFrame,
)
from servestream_client.server import Refuse, StreamService, kits
from servestream_client.signals import Signal
from servestream_client.wire import stream_pb2 as pb
from servestream_client.wire.convert import client_frame_to_wire, server_frame_from_wire


class Client:
    """A stream's client without a network; what it says stands from the beginning on."""

    def __init__(
        self, service: StreamService, *payloads: bytes, open_later: bool = False, limit_ms: int = 0
    ) -> None:
        self.frames: list[ServerFrame] = []
        self.opened = ClientFrame(
            open=Open(
                stream_id=id(self).to_bytes(16, "big"),
                attempt=1,
                codec=CodecId("bytes"),
                item_timeout_ms=limit_ms,
            ),
            inputs=[InputRun(1, payloads)] if payloads else [],
            credit=Credit(1000, 1_000_000),
        )
        self.may_open = asyncio.Event()
        if not open_later:
            self.may_open.set()
        self.leaves = asyncio.Event()
        self._came = Signal()
        self.task = asyncio.get_running_loop().create_task(self._run(service))

    async def _requests(self) -> AsyncIterator[pb.ClientFrame]:
        await self.may_open.wait()
        yield client_frame_to_wire(self.opened)
        await self.leaves.wait()

    async def _run(self, service: StreamService) -> None:
        async for message in service.Stream(self._requests()):
            self.frames.append(server_frame_from_wire(message))
            self._came.set()

    async def until(self, says: Callable[[ServerFrame], object]) -> ServerFrame:
        """Wait for a frame that says that."""
        while True:
            for frame in self.frames:
                if says(frame):
                    return frame
            async with asyncio.timeout(20):
                await self._came.wait()

    async def go(self) -> None:
        self.leaves.set()
        self.may_open.set()
        await asyncio.wait({self.task}, timeout=20)


class Upper(StreamService[bytes, bytes]):
    async def predict(self, item: bytes) -> bytes:
        if item == b"hangs":
            await asyncio.Event().wait()
        return item.upper()


class InLoop:
    """An event loop in a thread of its own."""

    def __enter__(self) -> asyncio.AbstractEventLoop:
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self.loop.run_forever)
        self.thread.start()
        return self.loop

    def __exit__(self, *_: object) -> None:
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join()
        self.loop.close()


async def in_loop(loop: asyncio.AbstractEventLoop, coro):
    return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(coro, loop))


async def made(service: StreamService, *payloads: bytes, **options) -> Client:
    client = Client(service, *payloads, **options)
    await client.until(lambda frame: frame.welcome)
    return client


@pytest.mark.parametrize("earlier", ["closed", "open"])
async def test_an_input_that_hangs_ends_in_whatever_event_loop(earlier):
    service = Upper()

    async def served() -> None:
        client = await made(service, b"hangs", b"x", limit_ms=100)
        frame = await client.until(lambda frame: frame.errors)
        assert frame.errors[0].kind is ItemErrorKind.TIMEOUT
        await client.go()

    async def left_hanging() -> Client:
        return await made(service, b"hangs", limit_ms=3_600_000)

    with InLoop() as loop:
        if earlier == "open":
            client = await in_loop(loop, left_hanging())
            await served()
            await in_loop(loop, client.go())
        else:
            await in_loop(loop, served())
    await served()
    await served()


async def test_an_input_that_hangs_ends_although_another_event_loop_has_stopped_over_one():
    service = Upper()
    other = asyncio.new_event_loop()
    try:
        stopped = await asyncio.to_thread(
            other.run_until_complete, made(service, b"hangs", limit_ms=50)
        )
        client = await made(service, b"hangs", limit_ms=100)
        await client.until(lambda frame: frame.errors)
        await client.go()
        await asyncio.to_thread(other.run_until_complete, stopped.go())
    finally:
        other.close()


async def test_a_kit_goes_with_its_event_loop():
    service = Upper()

    async def served() -> None:
        client = await made(service, b"x", limit_ms=3_600_000)
        await client.until(lambda frame: frame.outputs)
        hanging = await made(service, b"hangs", limit_ms=3_600_000)
        await hanging.go()
        await client.go()

    gone: list[weakref.ref] = []
    for _ in range(3):
        with InLoop() as loop:
            await in_loop(loop, served())
            gone.append(weakref.ref(loop))
        del loop
    gc.collect()
    assert [ref() for ref in gone] == [None] * 3
    assert len(service._kits()._kits) == 0


@pytest.mark.loop_errors
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
async def test_a_kit_whose_event_loop_was_closed_over_its_work_is_dropped_by_the_next_one():
    service = Upper()
    with InLoop() as loop:
        client = await in_loop(loop, made(service, b"hangs", limit_ms=3_600_000))
    assert len(service._kits()._kits) == 1
    await (await made(service, b"x")).go()
    assert list(service._kits()._kits) == [asyncio.get_running_loop()]
    del client


@pytest.mark.parametrize("whence", ["here", "there", "a thread without an event loop"])
async def test_a_drain_reaches_the_streams_of_every_event_loop(whence):
    service = Upper()
    with InLoop() as loop:
        here, there = await made(service), await in_loop(loop, made(service))
        if whence == "here":
            service.drain(60)
        elif whence == "there":
            await in_loop(loop, asyncio.sleep(0, loop.call_soon_threadsafe(service.drain, 60)))
        else:
            await asyncio.to_thread(service.drain, 60)
        frame = await here.until(lambda frame: frame.drain)
        assert 59_000 < frame.drain.grace_ms <= 60_000
        await in_loop(loop, there.until(lambda frame: frame.drain))
        for client in (here, there):
            late = Client(service) if client is here else await in_loop(loop, made_late(service))
            says = late.until(lambda frame: frame.refused)
            frame = await (says if client is here else in_loop(loop, says))
            assert frame.refused.kind is RefusalKind.DRAINING
            for each in (late, client):
                await (each.go() if client is here else in_loop(loop, each.go()))
    with InLoop() as loop:  # which had no kit when the drain was said
        late = await in_loop(loop, made_late(service))
        await in_loop(loop, late.until(lambda frame: frame.refused))
        await in_loop(loop, late.go())


async def made_late(service: StreamService) -> Client:
    return Client(service)


async def test_a_health_check_speaks_for_every_event_loop():
    service = Upper()
    with InLoop() as loop:
        client = await in_loop(loop, made(service))
        await service.check_health()
        kit = service._kits()._kits[loop]
        kit.workers._kept.stuck = True
        with pytest.raises(RuntimeError, match="all handler slots"):
            await service.check_health()
        with pytest.raises(RuntimeError, match="all handler slots"):
            await in_loop(loop, service.check_health())
        await in_loop(loop, client.go())
    await service.check_health()  # that event loop is no more


async def test_health_checks_that_cease_reach_every_event_loop(monkeypatch):
    service = Upper()
    with InLoop() as loop:
        client = await in_loop(loop, made(service))
        for _ in range(3):
            await service.check_health()
        await in_loop(loop, client.until(lambda frame: frame.drain))
        await in_loop(loop, client.go())


async def test_health_checks_in_another_event_loop_go_on(monkeypatch):
    """The last of them, in whatever loop it came, is the one whose successor is awaited."""
    asked = []
    monkeypatch.setattr(kits.Kit, "ask_to_leave", lambda _, grace: asked.append(grace))
    service = Upper()
    for _ in range(3):
        await service.check_health()
    check = service._kits()._check
    with InLoop() as loop:
        await in_loop(loop, service.check_health())
        service._kits()._forgotten(check)  # rings here, since nobody can take it back
        assert asked == []
        await in_loop(loop, asyncio.sleep(0, service._kits()._forgotten(check + 1)))


# ------------------------------------------------------------------ whatever state it is in


class Admitting(Upper):
    """Holds every stream in its `admit` until it is let go."""

    def __init__(self) -> None:
        self.inside = Signal()
        self.go = asyncio.Event()

    async def admit(self, request) -> None:
        self.inside.set()
        await self.go.wait()


async def test_a_stream_that_is_being_admitted_when_its_server_drains_is_refused():
    service = Admitting()
    client = Client(service, b"x")
    await service.inside.wait()
    service.drain(60)
    service.go.set()
    frame = await client.until(lambda frame: frame.refused or frame.welcome)
    assert frame.refused.kind is RefusalKind.DRAINING
    assert not any(frame.outputs for frame in client.frames)
    await client.go()


async def test_a_stream_whose_open_has_not_come_when_its_server_drains_is_refused():
    service = Upper()
    client = Client(service, b"x", open_later=True)
    while not service._kit()._active._here:
        await asyncio.sleep(0)
    service.drain(60)
    client.may_open.set()
    frame = await client.until(lambda frame: frame.refused or frame.welcome)
    assert frame.refused.kind is RefusalKind.DRAINING
    await client.go()


@pytest.mark.parametrize("state", ["no open yet", "being admitted"])
async def test_a_stream_that_is_asked_to_leave_before_its_welcome_is_drained_right_after_it(state):
    """As where health checks cease: streams are still taken."""
    service = Admitting()
    client = Client(service, b"x", open_later=state == "no open yet")
    if state == "being admitted":
        await service.inside.wait()
    else:
        while not service._kit()._active._here:
            await asyncio.sleep(0)
    service._kit().ask_to_leave(60)
    client.may_open.set()
    service.go.set()
    frame = await client.until(lambda frame: frame.drain)
    assert frame is client.frames[0]
    assert frame.welcome is not None
    await client.until(lambda frame: frame.outputs)
    await client.go()


async def test_a_refusal_of_the_services_own_is_not_changed_by_a_drain():
    class Refusing(Admitting):
        async def admit(self, request) -> None:
            await super().admit(request)
            raise Refuse("no place", kind=RefusalKind.OVERLOADED)

    service = Refusing()
    client = Client(service)
    await service.inside.wait()
    service._kit().ask_to_leave(60)
    service.go.set()
    frame = await client.until(lambda frame: frame.refused)
    assert frame.refused.kind is RefusalKind.OVERLOADED
    await client.go()


async def test_of_two_drains_the_shorter_grace_holds():
    client = await made(service := Upper())
    kit = service._kit()
    kit.ask_to_leave(3600)
    await client.until(lambda frame: frame.drain)
    kit.ask_to_leave(7200)
    kit.ask_to_leave(60)
    await client.until(lambda frame: frame.drain and frame.drain.grace_ms <= 60_000)
    assert [frame.drain.grace_ms // 1000 for frame in client.frames if frame.drain] in (
        [3600, 60],
        [3600, 59],
        [3599, 60],
        [3599, 59],
    )
    await client.go()
    assert not kit._active._here
