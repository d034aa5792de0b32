"""Server processes that die and come back."""

import asyncio
import sys
from contextlib import asynccontextmanager
from pathlib import Path

from ports import reserved_port


@asynccontextmanager
async def restarted_server(script: Path, *arguments: object):
    """A server process that is started again whenever it dies: ``script PORT ARGUMENTS``, which
    prints a line once it is up. Yields its target, and its lives.
    """
    with reserved_port() as port:
        lives: list[asyncio.subprocess.Process] = []
        up = asyncio.Event()

        async def keep_alive():
            while True:
                process = await asyncio.create_subprocess_exec(
                    sys.executable,
                    script,
                    str(port),
                    *map(str, arguments),
                    stdout=asyncio.subprocess.PIPE,
                )
                lives.append(process)
                await process.stdout.readline()
                up.set()
                await process.wait()

        keeper = asyncio.ensure_future(keep_alive())
        try:
            await up.wait()
            yield f"127.0.0.1:{port}", lives
        finally:
            keeper.cancel()
            await asyncio.wait({keeper})
            for process in lives:
                if process.returncode is None:
                    process.kill()
                    await process.wait()
