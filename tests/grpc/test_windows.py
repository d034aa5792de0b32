"""The default window opens while a stream runs, and whoever waits for room is told; frames grow."""

import asyncio

import pytest
from own_servers import serving

from servestream_client import StreamClient, Watchdog
from servestream_client.protocol import frame_size
from servestream_client.server import Replay, Resume, StreamService, kit
from servestream_client.testing import Echo, StreamServer
from servestream_client.transport import grpc_link

MORE = 9000
"""Than a window has room for at first."""


class Held:
    """Counts who is being served, until all are let go."""

    def __init__(self):
        self.running, self.all_run = 0, asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self._servers = self._go = None

    async def here(self):
        """In the server's event loop, which another thread runs."""
        if self._go is None:
            self._servers, self._go = asyncio.get_running_loop(), asyncio.Event()
        self.running += 1
        if self.running == MORE:
            self._loop.call_soon_threadsafe(self.all_run.set)
        await self._go.wait()

    def let_go(self):
        self._servers.call_soon_threadsafe(self._go.set)


def sizes_of(frames, module, monkeypatch):
    """Those that a function of this module writes from now on."""
    write, sizes = getattr(module, frames), []

    def noting(frame):
        message = write(frame)
        written = message if isinstance(message, bytes) else message.SerializeToString()
        sizes.append(len(written))
        return message

    monkeypatch.setattr(module, frames, noting)
    return sizes


async def test_the_frames_of_both_ends_grow_where_they_are_acknowledged_soon(monkeypatch):
    monkeypatch.setattr(frame_size, "QUICK_SECONDS", 1000.0)  # however busy this machine is
    monkeypatch.setattr(frame_size, "SLOW_SECONDS", 1000.0)
    inputs = sizes_of("client_frame_bytes", grpc_link, monkeypatch)
    outputs = sizes_of("written_server_frame", kit, monkeypatch)
    async with serving(Echo()) as target, StreamClient(target) as client:
        items = [bytes(10_000)] * 3000
        assert [output async for output in client.stream(items)] == items
    for sizes in (inputs, outputs):
        assert 300_000 < max(sizes) < 600_000
        assert max(sizes[:2]) < 70_000


@pytest.mark.parametrize("kind", ["predict", "generate"])
async def test_calls_that_wait_for_room_are_sent_once_the_window_has_opened(kind, monkeypatch):
    monkeypatch.setattr(frame_size, "QUICK_SECONDS", 1000.0)  # however busy this machine is
    monkeypatch.setattr(frame_size, "SLOW_SECONDS", 1000.0)
    held = Held()

    class Predicting(StreamService[bytes, bytes]):
        max_concurrency = 2 * MORE

        async def predict(self, item):
            await held.here()
            return item

    class Generating(StreamService[bytes, bytes]):
        max_concurrency = 2 * MORE
        replay = Replay.RESTART

        async def generate(self, item, resume: Resume[bytes]):
            await held.here()
            yield item

    async def generated(client):
        async with client.generate(b"x") as generation:
            return [output async for output in generation]

    service = Predicting() if kind == "predict" else Generating()
    with StreamServer(service) as server:
        # No heartbeats: what comes in is looked at when it comes, not when the next frame leaves.
        silent = Watchdog(heartbeat_interval=None)
        async with StreamClient(server.target, predict_streams=1, watchdog=silent) as client:
            call = client.predict if kind == "predict" else None
            calls = [
                asyncio.ensure_future(call(b"x") if call else generated(client))
                for _ in range(MORE)
            ]
            async with asyncio.timeout(60):
                await held.all_run.wait()
            held.let_go()
            answers = await asyncio.gather(*calls)
    assert answers == [b"x" if call else [b"x"]] * MORE
