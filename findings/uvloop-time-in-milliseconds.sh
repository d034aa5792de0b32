#!/bin/sh
# uvloop 0.23.0 (CPython 3.11), beside asyncio's own event loop.
#
# A guess: loop.time() is as fine as time.monotonic(), which asyncio's is; so the difference of two calls
# is a duration, also of something quick.
#
# Seen: uvloop's counts whole milliseconds. What takes 0.1 ms measures as 0 or as 1 ms, and one duration
# less another that lies within it can come out below zero. Ray Serve's replicas run on uvloop.
#
#   asyncio: steps of less than 0.1 ms
#   uvloop: steps of 1 ms
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install --quiet --disable-pip-version-check uvloop==0.23.0
cat > "$folder/look.py" <<'PYTHON'
import asyncio
import itertools
import time

import uvloop


async def main() -> str:
    clock, until, seen = asyncio.get_running_loop().time, time.monotonic() + 0.2, []
    while time.monotonic() < until:
        seen.append(clock())
    moved = [later - earlier for earlier, later in itertools.pairwise(seen) if later != earlier]
    least = min(moved) * 1000
    return "steps of less than 0.1 ms" if least < 0.1 else f"steps of {least:.0f} ms"


with asyncio.Runner() as runner:
    print("asyncio:", runner.run(main()))
with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
    print("uvloop:", runner.run(main()))
PYTHON
seen=$("$folder/env/bin/python" "$folder/look.py")
echo "$seen"
test "$seen" = "asyncio: steps of less than 0.1 ms
uvloop: steps of 1 ms"
