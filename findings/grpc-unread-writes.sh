#!/bin/sh
# grpcio 1.85.3 (grpc.aio), CPython 3.11.
#
# A guess: HTTP/2 opens a stream with a window of 65,535 bytes, so `await call.write()` blocks once some
# 64 KiB lie unread at the server: writes that have returned bound what is in flight.
#
# Seen: with no reader at all, writes of 10 kB go on returning until 4 MiB are unread. It is the server's
# BDP probing that widens the window, on whatever link; grpc.max_receive_message_length, 1 MiB or 16 MiB,
# does not matter, nor does grpc.http2.lookahead_bytes. With grpc.http2.bdp_probe=0 at the *server* the
# guess holds. So on a link of 50 kB/s a write can have returned 80 s before its last byte arrives, and
# whatever else travels in that stream comes behind it.
#
#   default: 4190000 bytes written and unread
#   messages up to 1 MiB: 4190000 bytes written and unread
#   look-ahead of 64 KiB: 4190000 bytes written and unread
#   no BDP probing: 60000 bytes written and unread
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install --quiet --disable-pip-version-check grpcio==1.85.3
cat > "$folder/look.py" <<'PYTHON'
import asyncio

import grpc
import grpc.aio

SIZE, MOST = 10_000, 2_000


async def unread(options: list[tuple[str, int]]) -> int:
    """How many bytes can be written to a server that reads nothing."""
    over = asyncio.Event()

    async def handler(requests, _context):
        await over.wait()
        async for _ in requests:
            pass
        yield b""

    server = grpc.aio.server(options=options)
    method = grpc.stream_stream_rpc_method_handler(handler)
    server.add_generic_rpc_handlers(
        (grpc.method_handlers_generic_handler("a.Service", {"Stream": method}),)
    )
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        call = channel.stream_stream("/a.Service/Stream")()
        written = 0
        while written < MOST:
            write = asyncio.ensure_future(call.write(bytes(SIZE)))
            done, _ = await asyncio.wait({write}, timeout=2)
            if not done:
                break
            written += 1
        over.set()
        await asyncio.wait({write}, timeout=5)
        await call.done_writing()
        async for _ in call:
            pass
    await server.stop(None)
    return written * SIZE


async def main() -> None:
    for name, options in (
        ("default", []),
        ("messages up to 1 MiB", [("grpc.max_receive_message_length", 1 << 20)]),
        ("look-ahead of 64 KiB", [("grpc.http2.lookahead_bytes", 1 << 16)]),
        ("no BDP probing", [("grpc.http2.bdp_probe", 0)]),
    ):
        size = await unread(options)
        print(f"{name}: {size} bytes written and unread", flush=True)
        low, high = (30_000, 200_000) if name == "no BDP probing" else (3_500_000, 5_000_000)
        if not low <= size <= high:
            raise SystemExit(f"expected {low} to {high}")


asyncio.run(main())
PYTHON
"$folder/env/bin/python" "$folder/look.py"
