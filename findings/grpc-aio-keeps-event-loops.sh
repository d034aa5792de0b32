#!/bin/sh
# grpcio 1.85.3 (grpc.aio), CPython 3.11.
#
# A guess: an event loop that was closed, and whose channels were closed before, is freed like any other
# object; so a worker that runs each job with `asyncio.run()` holds nothing of the jobs before.
#
# Seen: true as long as nothing else in the process uses grpc.aio. While one other channel (or server) is
# there, in whatever thread, each event loop that ever had a channel stays in memory, closed, with the
# selector and the buffers that it had: gRPC keeps them by loop until its last user in the process has gone.
# Then one is left, that of the last job.
#
#   alone: 1 closed event loops after 20 jobs
#   beside another channel: 20 closed event loops after 20 jobs
#   once that one is closed: 1 closed event loops
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install --quiet --disable-pip-version-check grpcio==1.85.3
cat > "$folder/look.py" <<'PYTHON'
import asyncio
import gc
import threading

import grpc.aio

JOBS = 20


async def job() -> None:
    async with grpc.aio.insecure_channel("127.0.0.1:1") as channel:
        channel.get_state()


def closed_loops() -> int:
    gc.collect()
    loops = [each for each in gc.get_objects() if isinstance(each, asyncio.AbstractEventLoop)]
    return sum(loop.is_closed() for loop in loops)


def run_jobs() -> None:
    for _ in range(JOBS):
        asyncio.run(job())


begun, over = threading.Event(), threading.Event()


async def other_user() -> None:
    async with grpc.aio.insecure_channel("127.0.0.1:1") as channel:
        channel.get_state()
        begun.set()
        while not over.is_set():
            await asyncio.sleep(0.01)


run_jobs()
alone = closed_loops()
print(f"alone: {alone} closed event loops after {JOBS} jobs")
thread = threading.Thread(target=asyncio.run, args=(other_user(),))
thread.start()
begun.wait()
before = closed_loops()
run_jobs()
beside = closed_loops() - before
print(f"beside another channel: {beside} closed event loops after {JOBS} jobs")
over.set()
thread.join()
run_jobs()
after = closed_loops()
print(f"once that one is closed: {after} closed event loops")
if not (alone <= 2 and beside >= JOBS - 1 and after <= 2):
    raise SystemExit("the behaviour has changed")
PYTHON
"$folder/env/bin/python" "$folder/look.py"
