"""From a user's method to answers: decode, call, encode; bounded in how many run at once.

Whatever a handler does, each of its inputs gets exactly one answer here.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import anyio
import anyio.to_thread

from servestream_client.codecs import Codec
from servestream_client.errors import ItemErrorKind, printable
from servestream_client.protocol.server import Input, ServerSession

__all__ = ["Handler", "batch_handler", "item_handler"]


class Handler(Protocol):
    """Answers inputs. One serves all streams of a process."""

    max_items: int
    """How many inputs one call takes."""

    async def reserve(self) -> None:
        """Wait for a free place among the calls that may run; each must be given back."""
        ...

    def release(self) -> None:
        """Give the place back."""
        ...

    async def handle(self, session: ServerSession, inputs: Sequence[Input]) -> None:
        """Answer these inputs in the session, one way or another."""
        ...


@dataclass(frozen=True, slots=True)
class _Failure:
    kind: ItemErrorKind
    text: str

    @classmethod
    def of(cls, kind: ItemErrorKind, error: BaseException) -> _Failure:
        text = str(error)
        name = type(error).__name__
        return cls(kind, printable(f"{name}: {text}" if text else name))


class _Caller:
    """Calls user code: an `async def` on the event loop, a plain `def` in a thread."""

    def __init__(self, function: Callable[[Any], Any], max_concurrency: int) -> None:
        self._function = function
        self._async = inspect.iscoroutinefunction(function)
        self._max_concurrency = max_concurrency
        self._places: anyio.Semaphore | None = None
        self._threads: anyio.CapacityLimiter | None = None

    async def reserve(self) -> None:
        if self._places is None:
            self._places = anyio.Semaphore(self._max_concurrency)
            self._threads = anyio.CapacityLimiter(self._max_concurrency)
        await self._places.acquire()

    def release(self) -> None:
        if self._places is not None:
            self._places.release()

    async def __call__(self, argument: object) -> object:
        """What the function returned, or how it failed."""
        if self._async:
            return await _outcome_async(self._function(argument))
        outcome: object = await anyio.to_thread.run_sync(
            _outcome, self._function, argument, limiter=self._threads, abandon_on_cancel=True
        )
        if inspect.isawaitable(outcome):  # a plain function that returned a coroutine
            return await _outcome_async(outcome)
        return outcome


# Exceptions do not leave these two as exceptions: a StopIteration cannot cross into a future, and
# a cancellation raised by user code must not be taken for one of the kit's.


def _outcome(function: Callable[[Any], object], argument: object) -> object:
    try:
        return function(argument)
    except Exception as error:
        return _Failure.of(ItemErrorKind.HANDLER, error)


async def _outcome_async(awaitable: Awaitable[object]) -> object:
    try:
        return await awaitable
    except anyio.get_cancelled_exc_class() as error:
        if _being_cancelled():
            raise
        return _Failure.of(ItemErrorKind.HANDLER, error)
    except Exception as error:
        return _Failure.of(ItemErrorKind.HANDLER, error)


def _being_cancelled() -> bool:
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


def _decode(codec: Codec[Any, Any], item: Input) -> object:
    try:
        value: object = codec.decode_input(item.payload)
    except Exception as error:
        return _Failure.of(ItemErrorKind.DECODE, error)
    return value


def _answer(
    session: ServerSession, codec: Codec[Any, Any], item: Input, result: object | _Failure
) -> None:
    if not isinstance(result, _Failure):
        try:
            payload = codec.encode_output(result)
            if not isinstance(payload, bytes):
                raise TypeError(f"the codec made a {type(payload).__name__}, not bytes")
        except Exception as error:
            result = _Failure.of(ItemErrorKind.ENCODE, error)
        else:
            session.output(item.number, payload, last=True)
            return
    session.fail(item.number, result.kind, result.text)


class _ItemHandler:
    """`predict`: one input a call."""

    max_items = 1

    def __init__(self, caller: _Caller, codec: Codec[Any, Any]) -> None:
        self._caller = caller
        self._codec = codec
        self.reserve = caller.reserve
        self.release = caller.release

    async def handle(self, session: ServerSession, inputs: Sequence[Input]) -> None:
        for item in inputs:
            value = _decode(self._codec, item)
            result = value if isinstance(value, _Failure) else await self._caller(value)
            _answer(session, self._codec, item, result)


class _BatchHandler:
    """`predict_batch`: several inputs a call, singly if that fails."""

    def __init__(self, caller: _Caller, codec: Codec[Any, Any], max_items: int) -> None:
        self._caller = caller
        self._codec = codec
        self.max_items = max_items
        self.reserve = caller.reserve
        self.release = caller.release

    async def handle(self, session: ServerSession, inputs: Sequence[Input]) -> None:
        decoded: list[tuple[Input, object]] = []
        for item in inputs:
            value = _decode(self._codec, item)
            if isinstance(value, _Failure):
                _answer(session, self._codec, item, value)
            else:
                decoded.append((item, value))
        if not decoded:
            return
        results = await self._call([value for _, value in decoded])
        if isinstance(results, _Failure) and len(decoded) > 1:
            for item, value in decoded:
                single = await self._call([value])
                _answer(
                    session,
                    self._codec,
                    item,
                    single if isinstance(single, _Failure) else single[0],
                )
            return
        for position, (item, _) in enumerate(decoded):
            result = results if isinstance(results, _Failure) else results[position]
            _answer(session, self._codec, item, result)

    async def _call(self, values: list[object]) -> list[object] | _Failure:
        results = await self._caller(values)
        if isinstance(results, _Failure):
            return results
        try:
            outputs: list[object] | None = list(results)  # type: ignore[call-overload]
        except TypeError:  # user code: anything may come
            outputs = None
        if outputs is None or len(outputs) != len(values):
            got = type(results).__name__ if outputs is None else f"{len(outputs)} outputs"
            return _Failure(
                ItemErrorKind.HANDLER, f"predict_batch returned {got} for {len(values)} inputs"
            )
        return outputs


def item_handler(
    predict: Callable[[Any], Any], codec: Codec[Any, Any], max_concurrency: int
) -> Handler:
    """A handler that calls `predict` with one input at a time."""
    return _ItemHandler(_Caller(predict, max_concurrency), codec)


def batch_handler(
    predict_batch: Callable[[list[Any]], Any],
    codec: Codec[Any, Any],
    max_concurrency: int,
    max_batch_size: int,
) -> Handler:
    """A handler that calls `predict_batch` with what has arrived."""
    return _BatchHandler(_Caller(predict_batch, max_concurrency), codec, max_batch_size)
