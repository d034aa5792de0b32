#!/bin/sh
# Ray Serve 2.60.0 with its default gRPC proxy, CPython 3.11, 2 cores.
#
# A guess: Ray keeps values of more than 100 kB in its object store, which costs a trip to it, so that
# streamed gRPC responses should stay below; larger ones take longer, the larger the longer.
#
# Seen: a response of 110 kB does take longer than one of 90 kB. But one of 512 kB takes hardly longer than
# one of 110 kB: what counts is the message, so that four times as many bytes arrive in the same time, and
# twice as many as with 90 kB. To stay just below the step is not what carries most.
#
#   bytes a second, 512 kB over 90 kB: more than 1.3 times; 512 kB over 110 kB: more than 2 times
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install --quiet --disable-pip-version-check "ray[serve]==2.60.0"
cat > "$folder/look.py" <<'PYTHON'
import logging
import socket
import statistics
import sys
import time

import grpc
import ray
from ray import serve
from ray.serve.config import gRPCOptions, HTTPOptions
from ray.serve.generated import serve_pb2, serve_pb2_grpc

SIZES = {"90 kB": 90_000, "110 kB": 110_000, "512 kB": 512_000}
MESSAGES = 150


@serve.deployment(ray_actor_options={"num_cpus": 0.1})
class Service:
    async def Streaming(self, request):
        response = serve_pb2.UserDefinedResponse(greeting="x" * request.num)
        for _ in range(MESSAGES):
            yield response


def rate(stub, size):
    start = time.perf_counter()
    request = serve_pb2.UserDefinedMessage(num=size)
    came = sum(len(r.greeting) for r in stub.Streaming(request, metadata=[("application", "a")]))
    assert came == size * MESSAGES, came
    return came / (time.perf_counter() - start)


def compared(rates, one, other, times):
    ratio = statistics.median(rates[one]) / statistics.median(rates[other])
    print(f"{one} over {other}: {ratio:.2f}")
    return f"{one} over {other}: {'more' if ratio > times else 'not more'} than {times} times"


ray.init(
    num_cpus=4, include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR,
    _temp_dir=sys.argv[1],
)
logging.getLogger("ray.serve").setLevel(logging.ERROR)


def free_port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


port = free_port()
added = "ray.serve.generated.serve_pb2_grpc.add_UserDefinedServiceServicer_to_server"
serve.start(
    http_options=HTTPOptions(host="127.0.0.1", port=free_port()),
    grpc_options=gRPCOptions(port=port, grpc_servicer_functions=[added]),
)
serve.run(Service.bind(), name="a", route_prefix="/a")
with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
    grpc.channel_ready_future(channel).result(60)
    stub = serve_pb2_grpc.UserDefinedServiceStub(channel)
    deadline = time.monotonic() + 60
    while True:  # until the proxy has heard of the application
        try:
            rate(stub, 1000)
            break
        except grpc.RpcError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.2)
    rates = {name: [] for name in SIZES}
    for _ in range(6):
        for name, size in SIZES.items():
            rates[name].append(rate(stub, size))
told = compared(rates, "512 kB", "90 kB", 1.3), compared(rates, "512 kB", "110 kB", 2)
print("bytes a second,", "; ".join(told))
ray.shutdown()
PYTHON
RAY_USAGE_STATS_ENABLED=0 RAY_AUTH_TOKEN=none "$folder/env/bin/python" "$folder/look.py" "$folder/ray" \
	> "$folder/seen" 2> "$folder/errors" || { cat "$folder/errors"; exit 1; }
cat "$folder/seen"
grep -qx 'bytes a second, 512 kB over 90 kB: more than 1.3 times; 512 kB over 110 kB: more than 2 times' \
	"$folder/seen"
