#!/bin/sh
# grpcio 1.85.3 (grpc.aio), CPython 3.11.
#
# A guess: NO_PROXY, no_proxy=* and all_proxy mean to gRPC what they mean to curl or to requests, and
# calls to localhost go by no proxy.
#
# Seen: the proxy comes from grpc_proxy, https_proxy or http_proxy, in lower case only, for calls without
# TLS and to localhost as well; all_proxy and HTTP_PROXY are ignored. no_proxy=* excepts nothing, and
# neither does NO_PROXY; a host's name in no_proxy does.
#
#   no variable: direct
#   http_proxy: goes by the proxy
#   HTTP_PROXY: direct
#   all_proxy: direct
#   http_proxy, no_proxy=*: goes by the proxy
#   http_proxy, NO_PROXY=localhost: goes by the proxy
#   http_proxy, no_proxy=localhost: direct
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install --quiet --disable-pip-version-check grpcio==1.85.3
cat > "$folder/call.py" <<'PYTHON'
"""Calls port argv[1] of localhost; exits with 0 if it is answered."""

import asyncio
import sys

import grpc.aio


async def main() -> None:
    async with grpc.aio.insecure_channel(f"localhost:{sys.argv[1]}") as channel:
        try:
            await channel.unary_unary("/a.Service/Call")(b"", timeout=10)
        except grpc.aio.AioRpcError as error:
            raise SystemExit(f"not answered: {error.code().name}") from None


asyncio.run(main())
PYTHON
cat > "$folder/look.py" <<'PYTHON'
import asyncio
import os
import sys

import grpc
import grpc.aio

NAMES = ("grpc_proxy", "http_proxy", "https_proxy", "no_proxy", "no_grpc_proxy", "all_proxy")
asked: list[bytes] = []


async def proxy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Notes that it was asked, and refuses."""
    asked.append(await reader.readline())
    writer.write(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n")
    await writer.drain()
    writer.close()


async def answered(port: int, **settings: str) -> bool:
    plain = {k: v for k, v in os.environ.items() if k.lower() not in NAMES}
    done = await asyncio.create_subprocess_exec(
        sys.executable, sys.argv[1], str(port), env={**plain, **settings},
        stderr=asyncio.subprocess.DEVNULL,
    )
    return await done.wait() == 0


async def main() -> None:
    async def call(_request: bytes, _context: object) -> bytes:
        return b""

    server = grpc.aio.server()
    handlers = {"Call": grpc.unary_unary_rpc_method_handler(call)}
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("a.Service", handlers),))
    port = server.add_insecure_port("localhost:0")
    await server.start()
    listening = await asyncio.start_server(proxy, "127.0.0.1", 0)
    address = f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}"

    seen = {"no variable": "direct" if await answered(port) else "not answered"}
    for name, settings in {
        "http_proxy": {"http_proxy": address},
        "HTTP_PROXY": {"HTTP_PROXY": address},
        "all_proxy": {"all_proxy": address},
        "http_proxy, no_proxy=*": {"http_proxy": address, "no_proxy": "*"},
        "http_proxy, NO_PROXY=localhost": {"http_proxy": address, "NO_PROXY": "localhost"},
        "http_proxy, no_proxy=localhost": {"http_proxy": address, "no_proxy": "localhost"},
    }.items():
        asked.clear()
        direct = await answered(port, **settings)
        seen[name] = "direct" if direct and not asked else "goes by the proxy"
    for name, what in seen.items():
        print(f"{name}: {what}")
    by_proxy = [name for name, what in seen.items() if "proxy" in what]
    assert seen["no variable"] == "direct"
    assert by_proxy == ["http_proxy", "http_proxy, no_proxy=*", "http_proxy, NO_PROXY=localhost"]
    listening.close()
    await server.stop(None)


asyncio.run(main())
PYTHON
"$folder/env/bin/python" "$folder/look.py" "$folder/call.py"
