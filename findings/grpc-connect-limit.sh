#!/bin/sh
# grpcio 1.85.3 (grpc.aio), CPython 3.11, a TLS server whose answers take 0.4 s.
#
# A guess: the three grpc.*_reconnect_backoff_ms say how long a client pauses between two attempts to
# connect, so small values only make it try sooner.
#
# Seen: the minimum, or the present backoff where that is longer, is also the time that one attempt may
# take, handshake included. With 50 ms, growing to 500, a client never reaches a TLS server whose handshake
# takes longer, however long the call waits for it, and nothing says that the client gave up itself. With
# a minimum of 5000 beside the same two, or with the defaults, the call is answered.
#
#   backoff from 50 to 500 ms, minimum 50: DEADLINE_EXCEEDED
#   backoff from 50 to 500 ms, minimum 5000: answered
#   defaults: answered
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install --quiet --disable-pip-version-check grpcio==1.85.3 trustme==1.2.1
cat > "$folder/look.py" <<'PYTHON'
import asyncio

import grpc
import grpc.aio
import trustme

DELAY = 0.2


async def forward(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    loop = asyncio.get_running_loop()
    while chunk := await reader.read(65536):
        loop.call_later(DELAY, writer.write, chunk)
    loop.call_later(DELAY, writer.close)


async def main() -> None:
    authority = trustme.CA()
    certificate = authority.issue_cert("localhost")
    key, chain = certificate.private_key_pem.bytes(), certificate.cert_chain_pems[0].bytes()

    async def call(_request: bytes, _context: object) -> bytes:
        return b""

    server = grpc.aio.server()
    handlers = {"Call": grpc.unary_unary_rpc_method_handler(call)}
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("a.Service", handlers),))
    port = server.add_secure_port("localhost:0", grpc.ssl_server_credentials([(key, chain)]))
    await server.start()
    tasks: set[asyncio.Task[None]] = set()

    async def pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection("localhost", port)
        tasks.update(asyncio.ensure_future(each) for each in (forward(reader, back), forward(there, writer)))

    far = await asyncio.start_server(pass_on, "localhost", 0)
    target = f"localhost:{far.sockets[0].getsockname()[1]}"
    trusted = grpc.ssl_channel_credentials(authority.cert_pem.bytes())

    async def tried(options: list[tuple[str, int]]) -> str:
        async with grpc.aio.secure_channel(target, trusted, options=options) as channel:
            try:
                await channel.unary_unary("/a.Service/Call")(b"", timeout=12, wait_for_ready=True)
            except grpc.aio.AioRpcError as error:
                return error.code().name
            return "answered"

    def backoff(minimum: int) -> list[tuple[str, int]]:
        named = {"initial": 50, "min": minimum, "max": 500}
        return [(f"grpc.{name}_reconnect_backoff_ms", value) for name, value in named.items()]

    seen = [await tried(backoff(50)), await tried(backoff(5000)), await tried([])]
    short = "backoff from 50 to 500 ms, minimum"
    for setting, what in zip((f"{short} 50", f"{short} 5000", "defaults"), seen, strict=True):
        print(f"{setting}: {what}")
    assert seen == ["DEADLINE_EXCEEDED", "answered", "answered"]
    far.close()
    await server.stop(None)


asyncio.run(main())
PYTHON
"$folder/env/bin/python" "$folder/look.py"
