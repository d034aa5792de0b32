"""A client process: streams numbers to a target, and says what happens in lines on stdout.

``streaming_client.py TARGET COUNT``: the first line comes with the first output, at which the
process stops itself (SIGSTOP), so that it has not ended before, however busy the machine is. Then
comes one for each attempt that failed, and the last one is ``complete`` or an error. Outputs begin
with their input.
"""

import asyncio
import os
import signal
import sys

from servestream_client import StreamClient, Watchdog
from servestream_client.events import AttemptEnded, AttemptOutcome, Hooks


class Telling(Hooks):
    def on_event(self, event, /):
        if isinstance(event, AttemptEnded) and event.outcome is AttemptOutcome.BROKEN:
            print("broken:", event.reason, flush=True)


async def main(target: str, count: int) -> None:
    watchdog = Watchdog(heartbeat_interval=0.1)
    expected = 0
    async with StreamClient(target, watchdog=watchdog, hooks=[Telling()]) as client:
        async for output in client.stream(b"%d," % number for number in range(count)):
            if expected == 0:
                print("begun", flush=True)
                os.kill(os.getpid(), signal.SIGSTOP)
            assert output.startswith(b"%d," % expected)
            expected += 1
    print("complete" if expected == count else f"truncated: {expected}", flush=True)


asyncio.run(main(sys.argv[1], int(sys.argv[2])))
