#!/bin/sh
# FastAPI 0.165.0 (starlette 1.10.0, uvicorn 0.54.0), CPython 3.11.
#
# A guess: when the client of a streaming endpoint leaves, the endpoint's generator is closed, and its
# `finally` runs, in the moment in which the server notices.
#
# Seen: with EventSourceResponse that holds while the generator waits for something of its own, and then its
# `finally` runs at once. If an event is being sent, as it is where the client reads too slowly, the
# generator stays suspended at its `yield` after the request has ended, in a cycle of references, until the
# garbage collector finds it. What `finally` gives back (a lock, a place, a count of readers) is kept as
# long. A dependency with `yield` is left at once in both cases, so what must be given back belongs there.
#
#   while the generator waits: dependency left, finally run
#   while an event is sent: dependency left, finally not run
#   after a garbage collection: finally run
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install --quiet --disable-pip-version-check \
	fastapi==0.165.0 starlette==1.10.0 uvicorn==0.54.0 h11==0.16.0
cat > "$folder/look.py" <<'PYTHON'
import asyncio
import gc
import socket
from collections.abc import AsyncIterator
from typing import Annotated

import uvicorn
from fastapi import Depends, FastAPI
from fastapi.sse import EventSourceResponse, ServerSentEvent

app = FastAPI()
left, run = asyncio.Event(), asyncio.Event()
sent = 0


async def dependency() -> AsyncIterator[None]:
    try:
        yield
    finally:
        left.set()


@app.get("/waits", response_class=EventSourceResponse)
async def waits(_: Annotated[None, Depends(dependency)]) -> AsyncIterator[ServerSentEvent]:
    try:
        yield ServerSentEvent(data="first")
        await asyncio.Event().wait()
    finally:
        run.set()


@app.get("/sends", response_class=EventSourceResponse)
async def sends(_: Annotated[None, Depends(dependency)]) -> AsyncIterator[ServerSentEvent]:
    global sent
    try:
        while True:
            yield ServerSentEvent(data="x" * 10_000)
            sent += 1
    finally:
        run.set()


async def leave(port: int, path: str) -> None:
    """Ask, read nothing more than the beginning until the server can send no more, and leave."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1000)
    writer.write(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
    await reader.readuntil(b"data:")
    before = -1
    while before != sent:
        before = sent
        await asyncio.sleep(0.5)
    writer.transport.abort()
    await asyncio.wait_for(left.wait(), 10)
    await asyncio.sleep(1)


async def main() -> None:
    gc.disable()
    server = uvicorn.Server(uvicorn.Config(app, log_level="critical"))
    with socket.create_server(("127.0.0.1", 0)) as listening:
        task = asyncio.create_task(server.serve([listening]))
        port = listening.getsockname()[1]
        for path, what in (("/waits", "the generator waits"), ("/sends", "an event is sent")):
            left.clear()
            run.clear()
            await leave(port, path)
            print(f"while {what}: dependency left, finally {'run' if run.is_set() else 'not run'}")
        gc.collect()
        await asyncio.wait_for(run.wait(), 10)
        print("after a garbage collection: finally run")
        server.should_exit = True
        await task


asyncio.run(main())
PYTHON
seen=$("$folder/env/bin/python" "$folder/look.py")
echo "$seen"
test "$seen" = "while the generator waits: dependency left, finally run
while an event is sent: dependency left, finally not run
after a garbage collection: finally run"
