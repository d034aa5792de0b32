"""The examples that need no Ray, against their services in this process."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from servestream_client.demo.model import DigitsCodec, DigitsModel, Image, Prediction
from servestream_client.server import StreamService
from servestream_client.testing import StreamServer

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


class Digits(StreamService[Image, Prediction]):
    codec = DigitsCodec()

    def __init__(self) -> None:
        self._model = DigitsModel()

    def predict_batch(self, items):
        return self._model.predict_batch(items)


class Echo(StreamService[bytes, bytes]):
    async def predict(self, item: bytes) -> bytes:
        return item


def run(script: str, *arguments: object) -> str:
    command = [sys.executable, "-W", "error", EXAMPLES / script, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=200, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_classify():
    with StreamServer(Digits) as server:
        out = run("classify.py", server.target)
    right = re.search(r"^([\d.]+)% of 1797 are right", out)
    assert right
    assert 90 < float(right[1]) < 100  # half of the images were never seen in training


@pytest.mark.parametrize("count", [0, 20_000])
def test_large_file(tmp_path, count):
    source, destination = tmp_path / "in.txt", tmp_path / "out.txt"
    source.write_bytes(b"".join(b"line %d\n" % number for number in range(count)))
    with StreamServer(Echo) as server:
        out = run("large_file.py", source, destination, server.target)
    assert f"{count:,} lines" in out
    assert destination.read_bytes() == source.read_bytes()
