"""A name whose addresses change, with a real resolver, in namespaces of its own.

The system's resolver asks a small DNS server here, since /etc/resolv.conf is another file in this
mount namespace. Two servers stand at two addresses of the loopback, first at one name together,
then at one each. Prints what streams saw, as JSON.
"""

import asyncio
import json
import os
import socket
import struct
import subprocess
import sys
import tempfile
import threading
from collections import Counter
from pathlib import Path

import grpc.aio
import trustme

from servestream_client import RetryPolicy, StreamClient
from servestream_client.server import GRPC_SERVER_OPTIONS, StreamService, add_to_server

FIRST, SECOND = "127.0.0.2", "127.0.0.3"
PORT = 9000
TARGET = f"replicas.example:{PORT}"
ITEMS = [b"%d" % n for n in range(100)]
_A = 1


class Names:
    """A DNS server that knows IPv4 addresses of one name."""

    def __init__(self, *addresses: str) -> None:
        self.addresses = addresses
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind(("127.0.0.1", 53))
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            query, client = self._socket.recvfrom(4096)
            end = query.index(b"\0", 12) + 5  # of the question: a name, a type and a class
            question = query[12:end]
            (kind,) = struct.unpack("!H", question[-4:-2])
            answers = [
                struct.pack("!HHHIH", 0xC00C, _A, 1, 0, 4) + socket.inet_aton(address)
                for address in self.addresses
                if kind == _A
            ]
            header = query[:2] + struct.pack("!HHHHH", 0x8180, 1, len(answers), 0, 0)
            self._socket.sendto(header + question + b"".join(answers), client)


class Echo(StreamService[bytes, bytes]):
    async def predict(self, item: bytes) -> bytes:
        return item


async def serve(address: str) -> grpc.aio.Server:
    server = grpc.aio.server(options=GRPC_SERVER_OPTIONS)
    add_to_server(Echo(), server)
    server.add_insecure_port(f"{address}:{PORT}")
    await server.start()
    return server


async def by_tls() -> str:
    """Whose certificate is asked for: the name's, and not the address's."""
    authority = trustme.CA()
    issued = authority.issue_cert("replicas.example")
    chain = b"".join(blob.bytes() for blob in issued.cert_chain_pems)
    pair = (issued.private_key_pem.bytes(), chain)
    server = grpc.aio.server(options=GRPC_SERVER_OPTIONS)
    add_to_server(Echo(), server)
    server.add_secure_port(f"{FIRST}:{PORT + 1}", grpc.ssl_server_credentials([pair]))
    await server.start()
    trusted = grpc.ssl_channel_credentials(authority.cert_pem.bytes())
    async with StreamClient(f"replicas.example:{PORT + 1}", credentials=trusted) as client:
        endpoint = await run(client)
    await server.stop(None)
    return endpoint


async def run(client: StreamClient[bytes, bytes]) -> str:
    stream = client.stream(ITEMS)
    if [output async for output in stream] != ITEMS:
        raise AssertionError("not what was sent")
    return stream.statistics().endpoint


async def main() -> None:
    names = Names(FIRST)
    tls = await by_tls()
    names.addresses = (FIRST, SECOND)
    first, second = await serve(FIRST), await serve(SECOND)
    retry = RetryPolicy(give_up_after=20.0)  # gRPC itself looks again after 30 s
    async with StreamClient(TARGET, retry=retry) as client:
        together = Counter([await run(client) for _ in range(40)])
        names.addresses = (FIRST,)
        await second.stop(None)
        left = Counter([await run(client) for _ in range(10)])
        await first.stop(None)
        waiting = [asyncio.ensure_future(run(client)) for _ in range(10)]
        await asyncio.sleep(1)
        second = await serve(SECOND)
        loop = asyncio.get_running_loop()
        moved, names.addresses = loop.time(), (SECOND,)
        after = Counter(await asyncio.gather(*waiting))
        took = loop.time() - moved
    await second.stop(None)
    print(
        json.dumps({"together": together, "left": left, "after": after, "tls": tls, "took": took})
    )


def in_namespaces() -> int:
    """Run this in user, network and mount namespaces of its own; its exit code."""
    command = ["unshare", "--user", "--map-root-user", "--net", "--mount"]
    return subprocess.run([*command, sys.executable, __file__, "inside"], check=False).returncode


if __name__ == "__main__":
    if sys.argv[1:] != ["inside"]:
        sys.exit(in_namespaces())
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    with tempfile.TemporaryDirectory() as folder:
        for name, text in {
            "resolv.conf": "nameserver 127.0.0.1\noptions timeout:1 attempts:1\n",
            "nsswitch.conf": "hosts: files dns\n",
        }.items():
            path = Path(folder, name)
            path.write_text(text, encoding="utf-8")
            if Path("/etc", name).exists():
                subprocess.run(["mount", "--bind", path, f"/etc/{name}"], check=True)
        for variable in ("http_proxy", "https_proxy", "grpc_proxy"):
            os.environ.pop(variable, None)
        asyncio.run(main())
