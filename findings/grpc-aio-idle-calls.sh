#!/bin/sh
# grpcio 1.85.3 (grpc.aio), CPython 3.11, x86-64 Linux, glibc.
#
# A guess: a bidirectional call that is open and idle costs its client a few Python objects and a small structure
# in C, some 5 KiB in all: 10,000 of them, 50 MiB.
#
# Seen: about 28 KiB each, of which Python's own objects are about a sixth: 10,000 idle streams are 280 MiB, whatever
# a client adds to them. Calls that are over give most of it to the next ones, but not to the system.
#
#   between 20 and 40 KiB for each idle call, of which Python traces less than 8
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install --quiet --disable-pip-version-check grpcio==1.85.3
cat > "$folder/serve.py" <<'PYTHON'
import asyncio
import sys

import grpc.aio


async def echo(requests, context):
    async for request in requests:
        yield request


async def main() -> None:
    server = grpc.aio.server()
    method = grpc.stream_stream_rpc_method_handler(echo)
    server.add_generic_rpc_handlers(
        (grpc.method_handlers_generic_handler("demo.Echo", {"Talk": method}),)
    )
    print(server.add_insecure_port("127.0.0.1:0"), flush=True)
    await server.start()
    await asyncio.to_thread(sys.stdin.read)
    await server.stop(None)


asyncio.run(main())
PYTHON
cat > "$folder/look.py" <<'PYTHON'
import asyncio
import gc
import subprocess
import sys
import tracemalloc

import grpc.aio

CALLS = 2000


def resident_kib() -> int:
    gc.collect()
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmRSS"))


async def main(port: int) -> tuple[float, float]:
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        talk = channel.stream_stream("/demo.Echo/Talk")

        async def idle():
            call = talk()
            await call.write(b"x")
            await call.read()
            return call

        async def several(count: int, kept: list) -> None:
            for _ in range(0, count, 100):
                kept += await asyncio.gather(*(idle() for _ in range(100)))

        kept: list = []
        await several(200, kept)
        before = resident_kib()
        await several(CALLS, kept)
        resident = (resident_kib() - before) / CALLS
        tracemalloc.start()
        traced, _ = tracemalloc.get_traced_memory()
        await several(CALLS, kept)
        gc.collect()
        traced = (tracemalloc.get_traced_memory()[0] - traced) / CALLS / 1024
        return resident, traced


server = subprocess.Popen(
    [sys.executable, sys.argv[1]], stdin=subprocess.PIPE, stdout=subprocess.PIPE
)
try:
    resident, traced = asyncio.run(main(int(server.stdout.readline())))
finally:
    server.kill()
    server.wait()
print(f"{resident:.0f} KiB for each idle call, of which Python traces {traced:.1f}", file=sys.stderr)
assert 20 < resident < 40, resident
assert traced < 8, traced
print("between 20 and 40 KiB for each idle call, of which Python traces less than 8")
PYTHON
"$folder/env/bin/python" "$folder/look.py" "$folder/serve.py"
