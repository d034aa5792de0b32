#!/bin/sh
# grpcio 1.85.3 (grpc.aio), CPython 3.11.
#
# A guess: `asyncio.wait_for(call.read(), 0.2)` waits for a message for so long, and if none has come, a later
# read goes on waiting, as with a queue, a socket or an anyio stream.
#
# Seen: the read that is cancelled takes its whole call with it. The server's handler is cancelled, what it had
# sent meanwhile is lost, and the next read raises CancelledError in a task that nobody has cancelled: in a
# TaskGroup, or under `except Exception`, that looks like a cancellation from outside. A task that reads, and is
# waited for with `asyncio.wait`, leaves the call alone.
#
#   within the limit: first
#   after a read that was cancelled: CancelledError, task.cancelling() 0, call CANCELLED
#   after a read that was waited for: second
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install --quiet --disable-pip-version-check grpcio==1.85.3
cat > "$folder/look.py" <<'PYTHON'
import asyncio

import grpc
import grpc.aio


async def slow(request, context):
    yield b"first"
    await asyncio.sleep(1.0)
    yield b"second"


async def main() -> list[str]:
    server = grpc.aio.server()
    method = grpc.unary_stream_rpc_method_handler(slow)
    server.add_generic_rpc_handlers(
        (grpc.method_handlers_generic_handler("demo.Slow", {"Read": method}),)
    )
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    seen = []
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        read = channel.unary_stream("/demo.Slow/Read")
        call = read(b"")
        first = await asyncio.wait_for(call.read(), 30)
        seen.append(f"within the limit: {first.decode()}")
        try:
            await asyncio.wait_for(call.read(), 0.2)
        except TimeoutError:
            pass
        try:
            found = (await call.read()).decode()
        except asyncio.CancelledError:
            cancelling = asyncio.current_task().cancelling()
            found = f"CancelledError, task.cancelling() {cancelling}, call {(await call.code()).name}"
        seen.append(f"after a read that was cancelled: {found}")
        call = read(b"")
        await call.read()
        reading = asyncio.ensure_future(call.read())
        await asyncio.wait({reading}, timeout=0.2)
        seen.append(f"after a read that was waited for: {(await reading).decode()}")
    await server.stop(None)
    return seen


seen = asyncio.run(main())
print(*seen, sep="\n")
assert seen == [
    "within the limit: first",
    "after a read that was cancelled: CancelledError, task.cancelling() 0, call CANCELLED",
    "after a read that was waited for: second",
], seen
PYTHON
"$folder/env/bin/python" "$folder/look.py"
