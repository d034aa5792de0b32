"""When does somebody speak? A recording through the detector of service.py.

    python examples/speech/listen.py meeting.wav                # and perhaps another host:port

Mono, 16 bits, 16 kHz. Interrupted or killed, the same command goes on where it was, with what the
model had heard by then: beside the recording it keeps a cursor, which holds the model's state.
"""

import json
import struct
import sys
import wave
from collections.abc import Iterator
from pathlib import Path

from servestream_client import Cursor, SeekableInputs, ServeStreamError, SyncStreamClient

RATE, CHUNK = 16_000, 512
THRESHOLD = 0.5
BATCH = 100
"""Chunks between two looks at what is kept: 3.2 s."""


class Chunks(SeekableInputs[bytes]):
    """A recording's chunks. Those that are done with are not read again."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def after(self, count: int) -> Iterator[bytes]:
        """The chunks behind the first so many."""
        with wave.open(str(self._path)) as audio:
            if (audio.getframerate(), audio.getnchannels(), audio.getsampwidth()) != (RATE, 1, 2):
                sys.exit(f"{self._path} is not mono with 16 bits at 16 kHz")
            audio.setpos(min(count * CHUNK, audio.getnframes()))
            while len(chunk := audio.readframes(CHUNK)) == 2 * CHUNK:
                yield chunk


def main(recording: str, target: str = "127.0.0.1:9000") -> None:
    """Print from when to when."""
    path = Path(recording)
    kept = path.with_suffix(".cursor")
    cursor, since = Cursor(), None
    if kept.exists():
        saved = json.loads(kept.read_text())
        cursor, since = Cursor.from_bytes(saved["cursor"].encode()), saved["since"]
        print(f"going on at {cursor.position * CHUNK / RATE:.1f} s", file=sys.stderr)
    with SyncStreamClient(target, application="vad") as client:
        at = cursor.position
        for batch in client.stream(Chunks(path), cursor=cursor).batches(BATCH):
            for output in batch.outputs:
                (probability,) = struct.unpack("<f", output)
                speaks, seconds = probability > THRESHOLD, at * CHUNK / RATE
                if speaks and since is None:
                    since = seconds
                elif since is not None and not speaks:
                    print(f"{since:8.1f} s to {seconds:8.1f} s", flush=True)
                    since = None
                at += 1
            new = kept.with_suffix(".new")
            new.write_text(json.dumps({"cursor": bytes(batch.cursor).decode(), "since": since}))
            new.replace(kept)
    if since is not None:
        print(f"{since:8.1f} s to {at * CHUNK / RATE:8.1f} s")
    kept.unlink(missing_ok=True)


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    try:
        main(*sys.argv[1:])
    except (OSError, wave.Error, ServeStreamError) as problem:
        sys.exit(f"{problem}")
