"""The script that listens, killed in the middle, and run again."""

import math
import signal
import struct
import subprocess
import sys
import wave
from pathlib import Path

import pytest

from servestream_client.server import StatefulService
from servestream_client.server.sealing import new_key
from servestream_client.testing import StreamServer

SCRIPT = Path(__file__).resolve().parents[2] / "examples" / "speech" / "listen.py"
RATE, CHUNK = 16_000, 512


class Loudness(StatefulService[bytes, bytes, bytes]):
    """Probable is what has been loud for three chunks."""

    application = "vad"
    state_keys = (new_key(),)

    def begin(self, parameters):
        return bytes(3)

    def step(self, state, item):
        samples = struct.unpack(f"<{len(item) // 2}h", item)
        state = state[1:] + bytes([max(map(abs, samples)) > 1000])
        return state, struct.pack("<f", sum(state) / 3)


def detector(kind: str) -> type[StatefulService]:
    if kind == "loudness":
        return Loudness
    pytest.importorskip("onnxruntime", reason="make demo-state installs it")
    pytest.importorskip("espeakng_loader", reason="make demo-state installs it")
    from servestream_client.demo.state.service import VoiceActivity

    return type("Vad", (VoiceActivity,), {"application": "vad", "state_keys": (new_key(),)})


def tones(seconds: int) -> bytes:
    """Every other second is loud."""
    quiet = bytes(2 * RATE)
    loud = struct.pack(f"<{RATE}h", *(int(9000 * math.sin(n * 0.3)) for n in range(RATE)))
    return b"".join(loud if second % 2 else quiet for second in range(seconds))


def audio(kind: str) -> bytes:
    if kind == "loudness":
        return tones(600)
    from servestream_client.demo.state.speech import recording

    return recording(1, 60.0) * 3


@pytest.mark.timeout(180)
@pytest.mark.parametrize("kind", ["loudness", "speech"])
def test_killed_in_the_middle_it_hears_the_same(kind, tmp_path):
    service = detector(kind)
    recording = tmp_path / "meeting.wav"
    with wave.open(str(recording), "wb") as file:
        file.setparams((1, 2, RATE, 0, "NONE", ""))
        file.writeframes(audio(kind))
    with StreamServer(service) as server:
        command = [sys.executable, SCRIPT, recording, server.target]

        def listen() -> subprocess.CompletedProcess:
            return subprocess.run(command, capture_output=True, text=True, timeout=150, check=True)

        whole = listen().stdout.splitlines()
        assert len(whole) == (300 if kind == "loudness" else len(set(whole)))
        assert len(whole) > 10
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as first:
            heard = [next(first.stdout).rstrip("\n") for _ in range(5)]
            first.send_signal(signal.SIGKILL)
            heard += first.stdout.read().splitlines()
        assert (tmp_path / "meeting.cursor").exists()
        rest = listen()
    assert "going on at" in rest.stderr
    rest_lines = rest.stdout.splitlines()
    assert len(rest_lines) < len(whole)
    # What was heard since the cursor was kept last is told again.
    overlap = len(heard) + len(rest_lines) - len(whole)
    assert overlap >= 0
    assert heard + rest_lines[overlap:] == whole
    assert not (tmp_path / "meeting.cursor").exists()
