"""The web service under real uvicorn with uvloop, whose clients leave, upload and are shut out."""

import asyncio
import json
import os
import signal
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import anyio.from_thread
import grpc.aio
import httpx
import psutil
import pytest

from servestream_client.server import GRPC_SERVER_OPTIONS, StreamService, add_to_server
from servestream_client.testing.ray_serve.cluster import free_ports

pytestmark = pytest.mark.timeout(300)

PROJECT = Path(__file__).resolve().parents[2] / "examples" / "webservice"
KEPT = """
import gc

import digits_web.app
from starlette.responses import StreamingResponse

gc.disable()
kept = []


class Kept(StreamingResponse):
    def __init__(self, content, **options):
        kept.append(content)
        super().__init__(content, **options)


digits_web.app.StreamingResponse = Kept
from digits_web.main import app
"""
"""The service, where generators that are left suspended stay so, since something refers to them."""


class Json:
    """As the service has it."""

    id = "digits-web"
    fingerprint = "1"

    def encode_input(self, item, /):
        return json.dumps(item).encode()

    def decode_input(self, payload, /):
        return json.loads(payload)

    encode_output = encode_input
    decode_output = decode_input


class Answering(StreamService):
    """Answers at once; with what it was asked, or with something that is long; or waits."""

    codec = Json()
    max_concurrency = 1000

    def __init__(self) -> None:
        self.calls = 0

    async def predict(self, item):
        self.calls += 1
        if item == "wait":
            await asyncio.Event().wait()
        return "x" * 50_000 if item == "long" else item

    @property
    def streams(self) -> int:
        return int(asyncio.run(self.record_autoscaling_stats())["servestream_streams"])


@pytest.fixture
def service() -> Answering:
    return Answering()


@pytest.fixture
def target(service: Answering) -> Iterator[str]:
    with anyio.from_thread.start_blocking_portal() as portal:

        async def serve() -> tuple[grpc.aio.Server, int]:
            server = grpc.aio.server(options=GRPC_SERVER_OPTIONS)
            add_to_server(service, server)
            port = server.add_insecure_port("127.0.0.1:0")
            await server.start()
            return server, port

        server, port = portal.call(serve)
        yield f"127.0.0.1:{port}"
        portal.call(server.stop, None)


@pytest.fixture
def run(target: str, tmp_path: Path) -> tuple[str, Path]:
    return target, tmp_path


@contextmanager
def uvicorn(target: str, folder: Path, module: str, *options: str) -> Iterator[tuple[int, int]]:
    """Its port and its process id."""
    (folder / "kept.py").write_text(KEPT)
    (port,) = free_ports(1)
    command = ("-m", "uvicorn", f"{module}:app", "--loop", "uvloop", "--port", str(port), *options)
    paths = f"{PROJECT}{os.pathsep}{folder}"
    with (folder / "log.txt").open("w") as log:
        process = subprocess.Popen(
            [sys.executable, *command],
            env={**os.environ, "DIGITS_TARGET": target, "PYTHONPATH": paths},
            stdout=log,
            stderr=log,
        )
    try:
        until(lambda: listens(port) or process.poll() is not None)
        assert process.poll() is None, (folder / "log.txt").read_text()
        yield port, process.pid
        process.send_signal(signal.SIGTERM)
        process.wait()
    finally:
        if process.poll() is None:
            for each in (*psutil.Process(process.pid).children(recursive=True), process):
                each.kill()
            process.wait()


def listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def until(condition) -> None:
    """The test's own limit ends a vain wait."""
    while not condition():
        time.sleep(0.02)


@pytest.fixture
def clients() -> Iterator[list[socket.socket]]:
    made: list[socket.socket] = []
    yield made
    for each in made:
        each.close()


def ask(clients: list[socket.socket], port: int, path: str, items: list[str]) -> None:
    """A client that has read two lines, and reads no more."""
    body = "\n".join(map(json.dumps, items)).encode()
    client = socket.socket()
    clients.append(client)
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    client.connect(("127.0.0.1", port))
    head = f"POST {path} HTTP/1.1\r\nHost: web\r\nContent-Length: {len(body)}\r\n\r\n"
    client.sendall(head.encode() + body)
    read = b""
    while read.partition(b"\r\n\r\n")[2].count(b'"\n') < 2:
        more = client.recv(4096)
        assert more, read
        read += more


def reset(client: socket.socket) -> None:
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.close()


WAITS, SENDS = ["a", "b", *["wait"] * 3], ["long"] * 1000


@pytest.mark.parametrize(
    ("path", "items"),
    [
        pytest.param("/classify-many", WAITS, id="lines-while-it-waits"),
        pytest.param("/classify-events", SENDS, id="events-while-it-sends"),
        pytest.param("/classify-many", SENDS, id="lines-while-it-sends", marks=pytest.mark.long),
        pytest.param("/classify-events", WAITS, id="events-while-it-waits", marks=pytest.mark.long),
    ],
)
def test_fifty_clients_that_leave_leave_no_stream(run, service, clients, items, path):
    target, tmp_path = run
    with uvicorn(target, tmp_path, "kept", "--workers", "2") as (port, _):
        for _ in range(50):
            ask(clients, port, path, items)
        assert service.streams == 50
        settled(service)
        for client in clients:
            reset(client)
        until(lambda: service.streams == 0)
        assert service.calls < 50 * 1000, "it went on for nobody"
    if path == "/classify-many":  # FastAPI's events end with one (findings/fastapi-sse-leaving.sh)
        log = (tmp_path / "log.txt").read_text()
        assert "Traceback" not in log, log[-2000:]


def settled(service: Answering) -> None:
    """Once nothing moves any more, since nobody reads."""
    seen: list[int] = []
    until(lambda: seen.append(service.calls) or seen[-10:] == [seen[-1]] * 10)


def test_an_upload_takes_no_memory_in_proportion(target, tmp_path):
    line = json.dumps("x" * 20_000).encode() + b"\n"
    with uvicorn(target, tmp_path, "digits_web.main") as (port, pid):
        process, peak = psutil.Process(pid), 0

        def upload(lines: int) -> int:
            nonlocal peak
            count = 0
            url = f"http://127.0.0.1:{port}/classify-many"
            with httpx.stream("POST", url, content=(line for _ in range(lines)), timeout=60) as got:
                for chunk in got.iter_bytes():
                    peak = max(peak, process.memory_info().rss)
                    count += chunk.count(b"\n")
            return count

        assert upload(500) == 500
        before, peak = peak, 0
        assert upload(5000) == 5000  # 100 MB
        assert peak - before < 30 << 20


def test_a_shutdown_waits_no_longer_than_it_may(target, service, clients, tmp_path):
    options = ("--workers", "2", "--timeout-graceful-shutdown", "1")
    with uvicorn(target, tmp_path, "digits_web.main", *options) as (port, _):
        for _ in range(5):
            ask(clients, port, "/classify-many", ["a", "b", "wait"])
    until(lambda: service.streams == 0)
