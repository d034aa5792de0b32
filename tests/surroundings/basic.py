"""The basic suite, as a program: what everybody uses, once, and nothing reported behind its back.

    python tests/surroundings/basic.py [--uvloop] [--eager] [--interceptor call|iterator]
        [--instrumented] [--hooks] [--collect] [--threads N]

It fails on a wrong result, and on anything that reaches the event loop's exception handler, the
hook for unraisable exceptions or the one for threads, on a warning, and on an error in the log.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import logging
import sys
import threading
import traceback
import warnings
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from surroundings import intercepting

from servestream_client import (
    ClientClosedError,
    Hooks,
    ItemError,
    RetryPolicy,
    StreamClient,
    SyncStreamClient,
)
from servestream_client.server import StreamService
from servestream_client.testing import Fault, FaultKind, StreamServer

BOUND = 60
"""Seconds after which one part hangs."""

ITEMS = [b"%d" % number for number in range(2000)]

problems: list[str] = []


class Echo(StreamService[bytes, bytes]):
    """Gives back what it gets, but for one item."""

    async def predict(self, item: bytes) -> bytes:
        if item == b"bad":
            raise ValueError("a bad item")
        return item


class Busy(Hooks):
    """Makes calls of its own from within each event, some of which are wrong there."""

    def __init__(self, server: StreamServer) -> None:
        self.server = server
        self.events = 0

    def on_event(self, event: object, /) -> None:
        self.events += 1
        started = getattr(event, "statistics", None)
        if callable(started):
            started()
        other = SyncStreamClient(self.server.target)
        other.close()


# ------------------------------------------------------------------ the suite


async def ordered(client: StreamClient, server: StreamServer) -> None:
    assert [output async for output in client.stream(ITEMS)] == ITEMS


async def unordered(client: StreamClient, server: StreamServer) -> None:
    outputs = [output async for output in client.stream(iter(ITEMS), ordered=False)]
    assert sorted(outputs) == sorted(ITEMS)


async def async_inputs(client: StreamClient, server: StreamServer) -> None:
    async def inputs() -> AsyncIterator[bytes]:
        for item in ITEMS[:300]:
            await asyncio.sleep(0)
            yield item

    assert [output async for output in client.stream(inputs())] == ITEMS[:300]


async def predict(client: StreamClient, server: StreamServer) -> None:
    calls = (client.predict(item) for item in ITEMS[:200])
    assert await asyncio.gather(*calls) == ITEMS[:200]


async def errors(client: StreamClient, server: StreamServer) -> None:
    stream = client.stream([b"1", b"bad", b"2"], return_exceptions=True)
    outputs = [output async for output in stream]
    assert [type(output) for output in outputs] == [bytes, ItemError, bytes]
    try:
        await client.predict(b"bad")
    except ItemError as error:
        said = str(error)
    else:
        said = "nothing"
    assert "a bad item" in said


async def leave_early(client: StreamClient, server: StreamServer) -> None:
    async for _ in client.stream(ITEMS):
        break
    async with client.stream(ITEMS) as stream:
        await anext(stream)
    waiting = asyncio.ensure_future(anext(client.stream(endless())))
    await asyncio.sleep(0)
    waiting.cancel()
    await asyncio.wait({waiting})


async def endless() -> AsyncIterator[bytes]:
    while True:
        await asyncio.sleep(0.001)
        yield b"x"


async def resume(client: StreamClient, server: StreamServer) -> None:
    server.add_faults(Fault(FaultKind.CLOSE, at=500))
    items, seen = ITEMS * 40, 0  # more than a window
    stream = client.stream(items)
    async for output in stream:
        assert output == items[seen]
        seen += 1
        if seen == 1000:
            server.proxy.cut()
    assert seen == len(items)
    assert stream.statistics().resumes >= 2


async def move(client: StreamClient, server: StreamServer) -> None:
    async def inputs() -> AsyncIterator[bytes]:
        while stream.statistics().resumes < 3:
            await asyncio.sleep(0.001)
            yield b"x"

    mover = client.with_options(retry=RetryPolicy(max_attempt_age=0.03))
    stream = mover.stream(inputs())
    outputs = [output async for output in stream]
    assert len(outputs) == stream.statistics().accepted


async def blocking(client: StreamClient, server: StreamServer) -> None:
    def use() -> None:
        with SyncStreamClient(server.target) as plain:
            assert list(plain.stream(ITEMS)) == ITEMS
            assert plain.predict(b"x") == b"x"
            for _ in plain.stream(ITEMS):
                break
            server.proxy.cut()
            assert plain.predict(b"y") == b"y"

    await asyncio.to_thread(use)


async def close(client: StreamClient, server: StreamServer) -> None:
    stream = client.stream(endless())
    await anext(stream)
    await client.aclose()
    try:
        while True:
            await anext(stream)
    except ClientClosedError:
        pass


SUITE: tuple[Callable[[StreamClient, StreamServer], Awaitable[None]], ...] = (
    *(ordered, unordered, async_inputs, predict, errors, leave_early),
    *(resume, move, blocking, close),
)


async def suite(*, hooks: bool) -> None:
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(
        lambda _, context: problems.append(f"in the event loop: {described(context)}")
    )
    for part in SUITE:
        with StreamServer(Echo) as server:
            client: StreamClient = StreamClient(
                server.target, hooks=[Busy(server)] if hooks else []
            )
            try:
                async with asyncio.timeout(BOUND):
                    await part(client, server)
                    await client.aclose()
            except Exception:
                problems.append(f"{part.__name__}: {traceback.format_exc()}")
            sys.stdout.write(f"{part.__name__}\n")  # at once: loops in threads write side by side
            sys.stdout.flush()
    left = [task for task in asyncio.all_tasks() if task.get_name().startswith("servestream")]
    if left:
        problems.append(f"tasks are left: {left}")


def described(context: dict[str, Any]) -> str:
    error = context.get("exception")
    trace = "".join(traceback.format_exception(error)) if error is not None else ""
    return f"{context.get('message')}\n{trace}"


# ------------------------------------------------------------------ around it


class Noting(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        error = record.exc_info[0] if record.exc_info else None
        if error is not None and error.__name__ == "_ServerStoppedError":
            return  # a part is over, and its server with it, in the midst of a call
        problems.append(f"in the log: {self.format(record)}")


def listen() -> None:
    """Have whatever is reported behind the suite's back fail it."""
    sys.unraisablehook = lambda args: problems.append(
        f"unraisable: {args.err_msg} {args.object!r}: {args.exc_value!r}\n"
        + "".join(traceback.format_tb(args.exc_traceback))
    )
    threading.excepthook = lambda args: problems.append(f"in a thread: {args.exc_value!r}")
    for name in ("servestream_client", "asyncio"):
        logging.getLogger(name).addHandler(Noting(logging.ERROR))

    def warned(message: Any, category: Any, filename: str, lineno: int, *_: Any) -> None:
        problems.append(f"warning: {filename}:{lineno}: {category.__name__}: {message}")

    warnings.simplefilter("always")
    warnings.showwarning = warned


def runner(options: argparse.Namespace) -> Callable[[Coroutine[Any, Any, None]], None]:
    if options.uvloop:
        import uvloop

        return uvloop.run

    def run(coroutine: Coroutine[Any, Any, None]) -> None:
        if not options.eager:
            asyncio.run(coroutine)
            return

        async def eagerly() -> None:
            asyncio.get_running_loop().set_task_factory(asyncio.eager_task_factory)
            await asyncio.create_task(coroutine)

        asyncio.run(eagerly())

    return run


def main() -> int:
    parser = argparse.ArgumentParser()
    for name in ("uvloop", "eager", "instrumented", "hooks", "collect"):
        parser.add_argument(f"--{name}", action="store_true")
    parser.add_argument("--interceptor", choices=("call", "iterator"))
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    if options.instrumented:
        from opentelemetry.instrumentation.grpc import GrpcAioInstrumentorClient
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import SimpleSpanProcessor
        from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

        spans = InMemorySpanExporter()
        provider = TracerProvider()
        provider.add_span_processor(SimpleSpanProcessor(spans))
        GrpcAioInstrumentorClient().instrument(tracer_provider=provider)
    listen()
    if options.interceptor:
        intercepting.install(intercepting.Interceptor(iterates=options.interceptor == "iterator"))
    if options.collect:
        gc.set_threshold(1)
    run = runner(options)
    threads = [
        threading.Thread(target=lambda: run(suite(hooks=options.hooks)))
        for _ in range(options.threads)
    ]
    for thread in threads[1:]:
        thread.start()
    run(suite(hooks=options.hooks))
    for thread in threads[1:]:
        thread.join()
    gc.collect()
    if options.interceptor and not intercepting.Interceptor.calls:
        problems.append("the interceptor saw no call")
    if options.instrumented and not spans.get_finished_spans():
        problems.append("the instrumentation saw no call")
    for problem in problems:
        print(problem, file=sys.stderr)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
