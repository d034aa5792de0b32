#!/bin/sh
# FastAPI 0.165.0 (starlette 1.10.0, uvicorn 0.54.0), CPython 3.11.
#
# A guess: a reader that leaves is nothing unusual, and no server logs it as a failure of the application.
#
# Seen: of a StreamingResponse nothing is logged. Of an EventSourceResponse that has an event to send in that
# moment, which is nearly always where the reader was slower than the service, the server logs "Exception in
# ASGI application" with a traceback of about a hundred lines: the task that inserts keep-alive comments
# finds that nobody reads its stream, and its error leaves the request's exit stack. So an alarm on
# tracebacks rings for each tab that is closed.
#
#   StreamingResponse, left while it is sent: nothing logged
#   EventSourceResponse, left while it is sent: BrokenResourceError logged
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install --quiet --disable-pip-version-check \
	fastapi==0.165.0 starlette==1.10.0 uvicorn==0.54.0 h11==0.16.0
cat > "$folder/look.py" <<'PYTHON'
import asyncio
import logging
import socket
from collections.abc import AsyncIterator
from typing import Annotated

import uvicorn
from fastapi import Depends, FastAPI
from fastapi.responses import StreamingResponse
from fastapi.sse import EventSourceResponse, ServerSentEvent

app = FastAPI()
left = asyncio.Event()
sent = 0


async def dependency() -> AsyncIterator[None]:
    try:
        yield
    finally:
        left.set()


@app.get("/StreamingResponse")
async def plain(_: Annotated[None, Depends(dependency)]) -> StreamingResponse:
    async def lines() -> AsyncIterator[str]:
        global sent
        while True:
            yield "data:" + "x" * 10_000
            sent += 1
            await asyncio.sleep(0)

    return StreamingResponse(lines())


@app.get("/EventSourceResponse", response_class=EventSourceResponse)
async def events(_: Annotated[None, Depends(dependency)]) -> AsyncIterator[ServerSentEvent]:
    global sent
    while True:
        yield ServerSentEvent(data="x" * 10_000)
        sent += 1


class Noted(logging.Handler):
    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.texts: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.texts.append(self.format(record))


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
    noted = Noted()
    server = uvicorn.Server(uvicorn.Config(app, log_config=None))
    logging.getLogger("uvicorn.error").addHandler(noted)
    with socket.create_server(("127.0.0.1", 0)) as listening:
        task = asyncio.create_task(server.serve([listening]))
        port = listening.getsockname()[1]
        for kind in ("StreamingResponse", "EventSourceResponse"):
            left.clear()
            noted.texts.clear()
            await leave(port, f"/{kind}")
            logged = "".join(noted.texts)
            what = "BrokenResourceError" if "BrokenResourceError" in logged else logged or "nothing"
            print(f"{kind}, left while it is sent: {what} logged")
        server.should_exit = True
        await task


asyncio.run(main())
PYTHON
seen=$("$folder/env/bin/python" "$folder/look.py")
echo "$seen"
test "$seen" = "StreamingResponse, left while it is sent: nothing logged
EventSourceResponse, left while it is sent: BrokenResourceError logged"
