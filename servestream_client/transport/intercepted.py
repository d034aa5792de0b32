"""Calls on a channel with interceptors: what is sent is pulled through them, one frame at a time.

Invariant: a frame counts as sent once the next one is asked for, and what waits for that hears of
the call's end as well (docs/decisions/0021).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, AsyncIterable, Awaitable, Callable
from contextlib import suppress
from typing import Generic, Self, TypeVar

import grpc.aio

from servestream_client.metadata import Metadata, metadata_size
from servestream_client.signals import Signal, running_task
from servestream_client.transport.writing import WRITE_FAILURES, AnyCall, writable, writer
from servestream_client.usercode import contained, describe, is_a
from servestream_client.wire import stream_pb2 as pb

__all__ = [
    "InterceptorFailedError",
    "Outgoing",
    "begin_intercepted",
    "cancel_intercepted",
    "has_interceptors",
    "watched",
]

logger: logging.Logger = logging.getLogger(__name__)

T = TypeVar("T")

_SOURCE = "an interceptor of the channel"
_INTERCEPTORS = "_interceptors"  # where grpc.aio keeps those of a method


class InterceptorFailedError(Exception):
    """An interceptor of the channel raised what is no status of gRPC's."""


class Outgoing(Generic[T]):
    """The messages of one call, as the request iterator that the interceptors and gRPC pull.

    One sends at a time, and one pulls.
    """

    def __init__(self) -> None:
        self.failure: str = ""
        """What an interceptor raised on the way out, if one did."""
        self.innermost: AnyCall | None = None
        """gRPC's own call, behind the interceptors, where we know it."""
        self.metadata_bytes: int | None = None
        """What its metadata take, with what interceptors made of them, where we know it."""
        self._waiting: list[T] = []
        self._offered = Signal()
        self._asked = Signal()
        self._sent = 0
        self._pulled = 0
        self._ended = False  # nothing more is sent
        self._over = False  # nothing more is pulled

    async def send(self, message: T) -> bool:
        """Offer a message, and wait until it is sent; False: it was not, and none will be."""
        if self._ended or self._over:
            return False
        self._waiting.append(message)
        self._offered.set()
        self._sent += 1
        number = self._sent
        while self._pulled <= number and not self._over:
            await self._asked.wait()
        return self._pulled > number

    def end(self) -> None:
        """Half-close, behind what was offered."""
        self._ended = True
        self._offered.set()

    def close(self) -> None:
        """The call is over, or takes no more: nobody waits any longer."""
        self._over = True
        self._waiting.clear()
        self.end()
        self._asked.set()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> T:
        self._pulled += 1
        self._asked.set()
        while not self._waiting:
            if self._ended:
                raise StopAsyncIteration
            await self._offered.wait()
        return self._waiting.pop()


def has_interceptors(method: object) -> bool:
    """Whether a method's calls pass interceptors, as far as grpc.aio lets one see. A call that is
    begun only to find out reaches them where tasks run as soon as they are made.
    """
    return bool(getattr(method, _INTERCEPTORS, None))


def begin_intercepted(
    method: Callable[..., AnyCall], metadata: Metadata
) -> tuple[AnyCall, Outgoing[pb.ClientFrame]]:
    """Begin a call of a method that has interceptors; with what it sends.

    A failed write of grpc.aio's own would hide the status behind INTERNAL, so the last interceptor
    is one of ours, which writes by itself. Where grpc does not let us in, it writes.
    """
    outgoing: Outgoing[pb.ClientFrame] = Outgoing()
    others = getattr(method, _INTERCEPTORS, None)
    if isinstance(others, list):
        setattr(method, _INTERCEPTORS, [*others, _Innermost(outgoing)])
    try:
        return method(outgoing, metadata=metadata), outgoing
    finally:
        if isinstance(others, list):
            setattr(method, _INTERCEPTORS, others)


class _Innermost(grpc.aio.StreamStreamClientInterceptor):
    """Writes what the interceptors around it let through, without hiding how the call ended."""

    def __init__(self, outgoing: Outgoing[pb.ClientFrame]) -> None:
        self._outgoing = outgoing

    async def intercept_stream_stream(  # type: ignore[override]  # the stubs know no None
        self,
        continuation: Callable[..., Awaitable[AnyCall]],
        client_call_details: grpc.aio.ClientCallDetails,
        request_iterator: AsyncIterable[pb.ClientFrame],
    ) -> AnyCall:
        call = self._outgoing.innermost = await continuation(client_call_details, None)
        with suppress(TypeError, ValueError):  # gRPC judges what it takes
            self._outgoing.metadata_bytes = metadata_size([*(client_call_details.metadata or ())])
        writing = asyncio.ensure_future(self._write(call, request_iterator))

        def stop(_: object) -> None:
            writing.cancel()

        call.add_done_callback(stop)
        return call

    async def _write(self, call: AnyCall, messages: AsyncIterable[pb.ClientFrame]) -> None:
        task = id(running_task())
        try:
            async for message in messages:
                if writable(call):
                    await (await writer(call))(message.SerializeToString())
                else:
                    await call.write(message)
            await call.done_writing()
        except WRITE_FAILURES as error:
            logger.debug("write refused: %r", error)
        except BaseException as error:
            self._outgoing.failure = describe(_raised(error, task))
            call.cancel()
        finally:
            self._outgoing.close()


def cancel_intercepted(call: AnyCall) -> None:
    """Cancel a call, whatever its interceptors have made of it."""
    try:
        call.cancel()
    except BaseException as error:
        logger.debug("cancelling: %s", describe(contained(error, _SOURCE)))


async def watched(
    call: AnyCall, outgoing: Outgoing[pb.ClientFrame]
) -> AsyncGenerator[pb.ServerFrame, None]:
    """The responses of a call, whose interceptors may raise anything, or end them.

    Raises:
        InterceptorFailedError: one did.
        AioRpcError, CancelledError: as any call.
    """
    task, given = id(running_task()), False
    try:
        async for response in call:
            given = True
            yield response
            given = False
            del response
    except grpc.aio.AioRpcError:
        raise
    except BaseException as error:
        if given or (isinstance(error, asyncio.CancelledError) and call.done()):
            raise
        failure = _raised(error, task)
        raise InterceptorFailedError(describe(failure)) from failure
    finally:
        # A call and its unfinished iterator refer to each other, with interceptors and without.
        for each in filter(None, (call, outgoing.innermost)):
            await _close_responses(each)
    if not call.done():
        raise InterceptorFailedError("it ended the responses while the call went on")


def _raised(error: BaseException, task: int) -> BaseException:
    """What an interceptor raised that was awaited in a task. A coroutine that is closed is not
    closed from within.
    """
    within = is_a(error, GeneratorExit) and id(running_task()) == task
    try:
        return contained(error, _SOURCE, awaited=not within)
    finally:
        del error  # its traceback refers to this frame, and must not refer to a task


async def _close_responses(call: AnyCall) -> None:
    task = id(running_task())
    try:
        close = getattr(aiter(call), "aclose", None)
        if close is not None:
            await close()
    except BaseException as error:  # an interceptor's may still run, or be anything
        logger.debug("closing: %s", describe(_raised(error, task)))
