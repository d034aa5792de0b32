"""A client that was itself stopped says so, blames nobody, and goes on."""

import asyncio
import contextlib
import signal
import sys
from pathlib import Path

import pytest
from helpers import until

from servestream_client.server import StreamService
from servestream_client.testing import StreamServer

CLIENT = Path(__file__).parent / "streaming_client.py"


class Large(StreamService[bytes, bytes]):
    """Its answers take several frames, of which only a few may be on their way unread."""

    async def predict(self, item: bytes) -> bytes:
        return item + bytes(20_000)


@pytest.mark.parametrize("count", [150, 3000])
async def test_a_client_process_that_was_stopped_says_so_and_resumes(count):
    with StreamServer(Large) as server:
        process = await asyncio.create_subprocess_exec(
            sys.executable, CLIENT, server.target, str(count), stdout=asyncio.subprocess.PIPE
        )
        try:
            assert await process.stdout.readline() == b"begun\n"
            # The server has given it up, by its own watchdog.
            await until(lambda: "broken off" in str(server.history))
            process.send_signal(signal.SIGCONT)
            said = (await process.stdout.read()).decode().splitlines()
        finally:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()
    print(*said, sep="\n")
    assert said[-1] == "complete"
    assert len(said) >= 2
    assert not [line for line in said if "broke the protocol" in line or "were lost" in line]
    assert "this process itself was stopped, or its event loop kept busy, for" in said[0]
