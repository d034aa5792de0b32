"""A service of nobody's kit, its stub, and a process that serves it: ``counting.py PORT``.

A request says where to begin; a reply has a number, and each third one a token. Both are messages
that protobuf brings along, so that nothing need be generated.
"""

import asyncio
import sys

import grpc
import grpc.aio
from google.protobuf.any_pb2 import Any
from google.protobuf.wrappers_pb2 import Int64Value, StringValue

LAST = 40


class CountingStub:
    """As it would be generated."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        def method(name: str, request: type, reply: type) -> grpc.aio.UnaryStreamMultiCallable:
            return channel.unary_stream(
                f"/tests.Counting/{name}",
                request_serializer=request.SerializeToString,
                response_deserializer=reply.FromString,
            )

        self.Count = method("Count", Int64Value, Int64Value)
        self.Tokens = method("Tokens", StringValue, Any)
        self.Watch = method("Watch", StringValue, StringValue)
        self.One = channel.unary_unary("/tests.Counting/One")
        self.Double = channel.stream_stream(
            "/tests.Counting/Double",
            request_serializer=Int64Value.SerializeToString,
            response_deserializer=Any.FromString,
        )


class Counting:
    """Counts from the request's value to `LAST`.

    Attributes:
        ignores: it begins at 1 whatever the request says.
        early: its OK comes after so many replies; 0: with the last.
        fails: raised before a reply of this number, once each.
        drifts: what it adds to its replies on later calls.
        swaps: so many replies come in the wrong order together.
    """

    def __init__(self) -> None:
        self.ignores = False
        self.early = 0
        self.fails: dict[int, grpc.StatusCode] = {}
        self.drifts = 0
        self.calls: list[int] = []
        self.metadata: list[dict[str, str]] = []
        self.pause = 0.0
        self.silent_at = 0
        self.cancelled = 0
        self.asked: list[int] = []
        self.swaps = 1

    async def count(self, request: Int64Value, context: grpc.aio.ServicerContext):
        begin = 1 if self.ignores else max(1, request.value)
        self.calls.append(request.value)
        self.metadata.append(dict(context.invocation_metadata()))
        try:
            for sent, number in enumerate(range(begin, LAST + 1)):
                if self.early and sent == self.early:
                    return
                if number in self.fails:
                    await context.abort(self.fails.pop(number), "as planned")
                if number == self.silent_at:
                    self.silent_at = 0
                    await asyncio.sleep(3600)
                await asyncio.sleep(self.pause)
                yield Int64Value(value=number + self.drifts * (len(self.calls) > 1))
        except asyncio.CancelledError:
            self.cancelled += 1
            raise

    async def tokens(self, request: StringValue, context: grpc.aio.ServicerContext):
        begin = 1 if self.ignores else int(request.value or 0) + 1
        self.calls.append(begin)
        for number in range(begin, LAST - LAST % 3 + 1):
            if number in self.fails:
                await context.abort(self.fails.pop(number), "as planned")
            token = str(number) if number % 3 == 0 else ""
            yield Any(value=str(number).encode(), type_url=token)

    async def watch(self, request: StringValue, context: grpc.aio.ServicerContext):
        self.calls.append(len(self.calls))
        for state in ("NOT_SERVING", "SERVING")[len(self.calls) > 1 :]:
            yield StringValue(value=state)
        if len(self.calls) == 1:
            await context.abort(grpc.StatusCode.UNAVAILABLE, "as planned")
        yield StringValue(value="NOT_SERVING")
        await asyncio.sleep(3600)

    async def double(self, requests, context: grpc.aio.ServicerContext):
        """A reply to each: as type the request's value, as value twice that."""
        self.calls.append(0)
        waiting, came = [], 0
        async for request in requests:
            self.asked.append(request.value)
            if self.early and came == self.early:
                return
            came += 1
            if request.value in self.fails:
                await context.abort(self.fails.pop(request.value), "as planned")
            if request.value == self.silent_at:
                await asyncio.sleep(3600)
            waiting.append(request.value)
            if len(waiting) < self.swaps:
                continue
            for value in reversed(waiting):
                yield Any(type_url=str(value), value=str(2 * value).encode())
            waiting = []
        for value in waiting:
            yield Any(type_url=str(value), value=str(2 * value).encode())


def handlers(service: Counting) -> grpc.GenericRpcHandler:
    def method(behaviour, request: type, reply: type) -> grpc.RpcMethodHandler:
        return grpc.unary_stream_rpc_method_handler(
            behaviour,
            request_deserializer=request.FromString,
            response_serializer=reply.SerializeToString,
        )

    return grpc.method_handlers_generic_handler(
        "tests.Counting",
        {
            "Count": method(service.count, Int64Value, Int64Value),
            "Tokens": method(service.tokens, StringValue, Any),
            "Watch": method(service.watch, StringValue, StringValue),
            "Double": grpc.stream_stream_rpc_method_handler(
                service.double,
                request_deserializer=Int64Value.FromString,
                response_serializer=Any.SerializeToString,
            ),
        },
    )


async def main(port: str) -> None:
    service = Counting()
    service.pause = 0.005
    server = grpc.aio.server()
    server.add_generic_rpc_handlers((handlers(service),))
    server.add_insecure_port(f"127.0.0.1:{port}")
    await server.start()
    print("up", flush=True)
    await server.wait_for_termination()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
