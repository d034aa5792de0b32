"""Interceptors on the channel, as instrumentation puts them there: calls pass through all of them,
and nothing of what they say or raise is lost.
"""

import asyncio
import gc
import subprocess
import sys

import grpc
import grpc.aio
import pytest
from eager import eager_task_factory
from faces import only_async
from faulty import streams_running
from helpers import collect, numbered, until
from surroundings.intercepting import Interceptor, install
from test_scripts import REFUSING

from servestream_client import (
    AccessDeniedError,
    MessageTooLargeError,
    RetriesExhaustedError,
    RetryPolicy,
    StreamClient,
    SyncStreamClient,
    WrongApplicationError,
)
from servestream_client.server import add_to_server
from servestream_client.testing import Echo
from servestream_client.testing.faults import Fault, FaultKind
from servestream_client.transport import intercepted

QUICK = RetryPolicy(connect_attempts=2, connect_timeout=0, initial=0.001, maximum=0.001)


@pytest.fixture
def intercept(monkeypatch):
    """Puts an interceptor on every channel of the test."""
    monkeypatch.setattr(grpc.aio, "insecure_channel", grpc.aio.insecure_channel)
    monkeypatch.setattr(grpc.aio, "secure_channel", grpc.aio.secure_channel)
    for count in ("calls", "requests", "responses"):
        monkeypatch.setattr(Interceptor, count, 0)
    return install


@pytest.fixture(params=[False, True], ids=["call", "iterator"])
def counting(request, intercept) -> None:
    intercept(Interceptor(iterates=request.param))


async def tasks_left() -> list[asyncio.Task]:
    """What is left of intercepted calls once their stream is over."""
    await asyncio.sleep(0)
    return [
        task
        for task in asyncio.all_tasks()
        if "intercepted.py" in str(task.get_coro()) or "_Innermost" in str(task.get_coro())
    ]


async def test_all_that_is_sent_and_received_passes(counting, echo, connect):
    async with connect(echo) as client:
        assert await collect(client.stream(numbered(3000))) == numbered(3000)
        assert await client.predict(b"x") == b"x"
    assert Interceptor.calls == 2, "no call was made in vain"
    assert Interceptor.requests > 2


@only_async
async def test_no_call_is_made_in_vain_where_tasks_begin_at_once(counting, echo, connect):
    loop = asyncio.get_running_loop()
    loop.set_task_factory(eager_task_factory)
    try:
        async with connect(echo) as client:
            assert await collect(client.stream(numbered(3000))) == numbered(3000)
            assert await client.predict(b"x") == b"x"
    finally:
        loop.set_task_factory(None)
    assert Interceptor.calls == 2


async def test_a_stream_resumes(counting, echo, plan, connect):
    plan.add(*(Fault(FaultKind.CLOSE, at=n) for n in (5, 500, 900)))
    async with connect(echo) as client:
        stream = client.stream(numbered(1000))
        assert await collect(stream) == numbered(1000)
        assert stream.statistics().attempts >= 4


@only_async
async def test_nothing_is_left_of_calls(counting, echo, plan, connect):
    plan.add(*(Fault(FaultKind.CLOSE, at=n) for n in (5, 50, 90)))
    async with connect(echo) as client:
        assert await collect(client.stream(numbered(100))) == numbered(100)
        async with client.stream(numbered(100)) as stream:
            await anext(stream)
        await until(lambda: not streams_running())
        transport = client._connection.endpoints.endpoints[0].transport
        assert [connection.calls for connection in transport._connections] == [0]
        async with asyncio.timeout(20):
            while await tasks_left():
                pass


async def test_several_interceptors_all_have_their_turn(intercept, echo, connect):
    seen = []

    class Named(grpc.aio.StreamStreamClientInterceptor):
        def __init__(self, name):
            self.name = name

        async def intercept_stream_stream(self, continuation, details, requests):
            seen.append(self.name)
            return await continuation(details, requests)

    intercept(Named("one"))
    intercept(Named("two"))
    async with connect(echo) as client:
        assert await collect(client.stream(numbered(10))) == numbered(10)
    assert sorted(seen) == ["one", "two"]


# ------------------------------------------------------------------ what they say


@pytest.mark.parametrize("ours", [True, False], ids=["written-by-us", "written-by-grpc"])
def test_a_refusal_keeps_its_reason(counting, ours, monkeypatch):
    """Even while the first frame is on its way; where grpc has changed, as often as it can be."""
    if not ours:
        monkeypatch.setattr(intercepted, "_INTERCEPTORS", "no_such_attribute")
    server = subprocess.Popen([sys.executable, "-c", REFUSING], stdout=subprocess.PIPE, text=True)
    try:
        assert server.stdout is not None
        target = f"127.0.0.1:{server.stdout.readline().strip()}"
        retry = RetryPolicy(
            connect_attempts=1 if ours else 20, connect_timeout=0, initial=0.001, maximum=0.001
        )
        with SyncStreamClient(target, retry=retry, application="x") as client:
            for _ in range(100):
                with pytest.raises(WrongApplicationError, match="Application 'x' not found"):
                    list(client.stream([b"x"]))
    finally:
        server.kill()
        server.communicate()


async def test_where_grpc_lets_no_interceptor_of_ours_in_streams_work_as_well(
    counting, echo, plan, connect, monkeypatch
):
    monkeypatch.setattr(intercepted, "_INTERCEPTORS", "no_such_attribute")
    plan.add(*(Fault(FaultKind.CLOSE, at=n) for n in (5, 500, 900)))
    async with connect(echo) as client:
        stream = client.stream(numbered(1000))
        assert await collect(stream) == numbered(1000)
        assert stream.statistics().attempts >= 4


def _status(code: grpc.StatusCode, details: str) -> grpc.aio.AioRpcError:
    return grpc.aio.AioRpcError(code, grpc.aio.Metadata(), grpc.aio.Metadata(), details=details)


async def test_a_status_of_an_interceptors_own_is_the_calls(intercept, echo, connect):
    class Denying(grpc.aio.StreamStreamClientInterceptor):
        async def intercept_stream_stream(self, continuation, details, requests):
            raise _status(grpc.StatusCode.UNAUTHENTICATED, "no token here")

    intercept(Denying())
    async with connect(echo) as client:
        with pytest.raises(AccessDeniedError, match="no token here"):
            await collect(client.stream(numbered(3)))


class OddError(Exception):
    def __str__(self) -> str:
        raise ValueError("unreadable")


class Failing(grpc.aio.StreamStreamClientInterceptor):
    """Raises, in the place that it is told."""

    def __init__(self, where: str, error: BaseException) -> None:
        self.where, self.error = where, error

    async def intercept_stream_stream(self, continuation, details, requests):
        if self.where == "before":
            raise self.error
        call = await continuation(details, self._passing(requests, "request"))
        if self.where == "after":
            raise self.error
        return self._passing(call, "response")

    async def _passing(self, messages, kind):
        async for message in messages:
            if self.where == kind:
                raise self.error
            yield message


@pytest.mark.parametrize("where", ["before", "after", "request", "response"])
@pytest.mark.parametrize(
    ("error", "said"),
    [
        (ZeroDivisionError("of its own"), "interceptor.*ZeroDivisionError: of its own"),
        (StopAsyncIteration(), "interceptor.*StopAsyncIteration"),
        (OddError(), r"interceptor.*OddError \(its text cannot be read\)"),
        (asyncio.CancelledError(), "interceptor"),
    ],
)
async def test_one_that_raises_is_named(intercept, echo, where, error, said):
    intercept(Failing(where, error))
    async with StreamClient(echo, retry=QUICK) as client:
        with pytest.raises(RetriesExhaustedError, match=said):
            await collect(client.stream(numbered(3)))
    gc.collect()  # a task's exception that nobody has seen would be reported


@pytest.mark.parametrize("where", ["request", "response"])
async def test_one_that_closes_itself_is_named(intercept, echo, where):
    intercept(Failing(where, GeneratorExit()))
    async with StreamClient(echo, retry=QUICK) as client:
        with pytest.raises(RetriesExhaustedError, match=r"interceptor.*raised GeneratorExit"):
            await collect(client.stream(numbered(3)))


@pytest.mark.parametrize("error", [AttributeError(), SystemExit(), asyncio.CancelledError()])
def test_what_cannot_be_cancelled_harms_nothing(error):
    """Of what an interceptor returned that is no call, gRPC's own `cancel` raises."""

    class Call:
        def cancel(self):
            raise error

    intercepted.cancel_intercepted(Call())


@pytest.mark.parametrize("size", [20_000, 70_000])
async def test_metadata_that_one_adds_count(intercept, size):
    class Adding(grpc.aio.StreamStreamClientInterceptor):
        async def intercept_stream_stream(self, continuation, details, requests):
            metadata = grpc.aio.Metadata(*(details.metadata or ()), ("x-added", "x" * size))
            return await continuation(details._replace(metadata=metadata), requests)

    intercept(Adding())
    server = grpc.aio.server()
    add_to_server(Echo(), server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        async with StreamClient(f"127.0.0.1:{port}", retry=QUICK) as client:
            with pytest.raises(
                MessageTooLargeError, match=rf"the call, {size // 1000}\d\d\d bytes"
            ):
                await collect(client.stream(numbered(3)))
    finally:
        await server.stop(None)


@pytest.mark.parametrize("how", ["end", "status"])
async def test_one_that_ends_the_responses_itself_is_believed(intercept, echo, how):
    class Ending(grpc.aio.StreamStreamClientInterceptor):
        async def intercept_stream_stream(self, continuation, details, requests):
            call = await continuation(details, requests)

            async def none():
                async for _ in call:
                    if how == "end":
                        return
                    raise _status(grpc.StatusCode.PERMISSION_DENIED, "not today")
                yield

            return none()

    intercept(Ending())
    async with StreamClient(echo, retry=QUICK) as client:
        expected = {
            "end": (RetriesExhaustedError, "ended the responses while the call went on"),
            "status": (AccessDeniedError, "not today"),
        }
        error, said = expected[how]
        with pytest.raises(error, match=said):
            await collect(client.stream(numbered(3)))


async def test_one_that_raises_now_and_then_costs_attempts_only(intercept, echo, connect):
    class Sometimes(Failing):
        calls = 0

        async def intercept_stream_stream(self, continuation, details, requests):
            self.calls += 1
            self.where = "response" if self.calls < 3 else "never"
            return await super().intercept_stream_stream(continuation, details, requests)

    intercept(Sometimes("", ZeroDivisionError()))
    async with connect(echo) as client:
        assert await collect(client.stream(numbered(100))) == numbered(100)
