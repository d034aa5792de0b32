#!/bin/sh
# FastAPI 0.165.0 (starlette 1.10.0, uvicorn 0.54.0, h11 0.16.0 or httptools 0.8.0), CPython 3.11.
#
# A guess: an endpoint that streams and raises in the middle ends its response without the last chunk, so
# that every HTTP client can tell a truncated body from a whole one.
#
# Seen: so it is for StreamingResponse. An endpoint with response_class=EventSourceResponse that raises
# some time after an event ends its response in good order, with the last chunk, and only the server's log
# says that something failed. (One that raises at once behind an event is cut.) A client in a program has a complete answer that is cut in its middle; a
# browser's EventSource connects again, as it does after any end, and so runs the endpoint from its start.
# An error has to be caught in the generator and sent as an event of its own.
#
#   h11: StreamingResponse is cut, EventSourceResponse is complete
#   httptools: StreamingResponse is cut, EventSourceResponse is complete
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install --quiet --disable-pip-version-check \
	fastapi==0.165.0 starlette==1.10.0 uvicorn==0.54.0 h11==0.16.0 httptools==0.8.0 httpx==0.28.1
cat > "$folder/look.py" <<'PYTHON'
import asyncio
import socket
from collections.abc import AsyncIterator

import httpx
import uvicorn
from fastapi import FastAPI
from fastapi.responses import StreamingResponse
from fastapi.sse import EventSourceResponse, ServerSentEvent

app = FastAPI()


@app.get("/EventSourceResponse", response_class=EventSourceResponse)
async def events() -> AsyncIterator[ServerSentEvent]:
    yield ServerSentEvent(data="first")
    await asyncio.sleep(0.2)
    raise RuntimeError


@app.get("/StreamingResponse")
async def stream() -> StreamingResponse:
    async def texts() -> AsyncIterator[str]:
        yield "first"
        await asyncio.sleep(0.2)
        raise RuntimeError

    return StreamingResponse(texts())


async def ends(port: int, name: str) -> str:
    received = b""
    async with httpx.AsyncClient() as client:
        try:
            async with client.stream("GET", f"http://127.0.0.1:{port}/{name}") as response:
                async for chunk in response.aiter_bytes():
                    received += chunk
        except httpx.RemoteProtocolError:
            return f"{name} is cut"
    assert b"first" in received
    return f"{name} is complete"


async def look(http: str) -> None:
    server = uvicorn.Server(uvicorn.Config(app, log_level="critical", http=http))
    with socket.create_server(("127.0.0.1", 0)) as listening:
        task = asyncio.create_task(server.serve([listening]))
        port = listening.getsockname()[1]
        names = ("StreamingResponse", "EventSourceResponse")
        print(f"{http}: " + ", ".join([await ends(port, name) for name in names]))
        server.should_exit = True
        await task


asyncio.run(look("h11"))
asyncio.run(look("httptools"))
PYTHON
seen=$("$folder/env/bin/python" "$folder/look.py")
echo "$seen"
test "$seen" = "h11: StreamingResponse is cut, EventSourceResponse is complete
httptools: StreamingResponse is cut, EventSourceResponse is complete"
