"""Build wheel and sdist, and see each of them work in clean environments.

An environment has one of the supported Pythons and one protobuf of each major version, and nothing
but the package and what it requires. In it a server and a client talk over a socket.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
UV = (sys.executable, "-m", "uv")
PYTHONS = ("3.11", "3.12", "3.13")
PROTOBUFS = ("5.29.6", "6.33.6", "7.36.2")

DIRECT = {"anyio", "grpcio", "protobuf", "tenacity"}
INDIRECT = {"idna", "sniffio", "typing-extensions"}
"""What those four need, on one Python or another."""

SMOKE = """
import asyncio, importlib.metadata, re, sys
from pathlib import Path
import google.protobuf
import servestream_client
from servestream_client import StreamClient, SyncStreamClient
from servestream_client.server import StreamService
from servestream_client.testing import StreamServer

protobuf, names = sys.argv[1], set(sys.argv[2].split(","))
assert google.protobuf.__version__ == protobuf, google.protobuf.__version__
assert "site-packages" in servestream_client.__file__, servestream_client.__file__
assert Path(servestream_client.__file__).with_name("py.typed").exists()
found = {each.metadata["Name"].lower().replace("_", "-") for each in
         importlib.metadata.distributions()}
extra = found - names - {"servestream-client", "pip", "setuptools"}
assert not extra, f"the core brought more than it needs: {extra}"

class Upper(StreamService[bytes, bytes]):
    def predict(self, item):
        return item.upper()

items = [b"item %d" % number for number in range(1000)]

async def stream(target):
    async with StreamClient(target) as client:
        return [output async for output in client.stream(items)]

with StreamServer(Upper) as server:
    assert asyncio.run(stream(server.target)) == [item.upper() for item in items]
    with SyncStreamClient(server.target) as client:
        assert client.predict(b"x") == b"X"
print("ok")
"""


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--all", action="store_true", help=f"fail if one of Python {', '.join(PYTHONS)} is missing"
    )
    options = parser.parse_args(arguments)
    pythons = {version: find(version) for version in PYTHONS}
    missing = [version for version, path in pythons.items() if path is None]
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run([*UV, "build", "--quiet", "--out-dir", folder, ROOT], check=True)
        (wheel,) = Path(folder).glob("*.whl")
        (sdist,) = Path(folder).glob("*.tar.gz")
        for version, path in pythons.items():
            if path is None:
                print(f"Python {version}: not found here")
                continue
            for archive, protobuf in cases(wheel, sdist):
                print(f"Python {version}, protobuf {protobuf}, {archive.suffix}: ", end="")
                sys.stdout.flush()
                smoke(path, archive, protobuf, folder)
    if len(missing) == len(PYTHONS) or (missing and options.all):
        print(f"not seen: Python {', '.join(missing)}")
        return 1
    return 0


def cases(wheel: Path, sdist: Path) -> Iterator[tuple[Path, str]]:
    """The wheel with every protobuf, the sdist with the newest."""
    for protobuf in PROTOBUFS:
        yield wheel, protobuf
    yield sdist, PROTOBUFS[-1]


def find(version: str) -> str | None:
    """Where that Python is."""
    done = subprocess.run(
        [*UV, "python", "find", "--no-project", "--system", version],
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stdout.strip() or None


def smoke(python: str, archive: Path, protobuf: str, folder: str) -> None:
    """Install there, and let it talk."""
    environment = Path(folder) / "environment"
    subprocess.run([*UV, "venv", "--quiet", "--clear", "--python", python, environment], check=True)
    install = (*UV, "pip", "install", "--quiet", "--python", environment / "bin" / "python")
    subprocess.run([*install, archive, f"protobuf=={protobuf}"], check=True)
    subprocess.run(
        [
            *(environment / "bin" / "python", "-I", "-W", "error", "-c", SMOKE),
            *(protobuf, ",".join(DIRECT | INDIRECT)),
        ],
        check=True,
        cwd=folder,
        env={**os.environ, "GRPC_VERBOSITY": "NONE"},
    )


if __name__ == "__main__":
    sys.exit(main())
