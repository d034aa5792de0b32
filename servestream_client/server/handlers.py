"""From a user's method to answers: decode, call, encode; bounded in how many run at once.

Whatever user code does, each of its inputs gets exactly one answer here; a cancelled call is the
runner's to answer.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeGuard

import anyio
import anyio.to_thread

from servestream_client.codecs import Codec
from servestream_client.errors import ItemErrorKind, describe
from servestream_client.protocol.server import Input, ServerSession

__all__ = ["Handler", "batch_handler", "item_handler"]


class Handler(Protocol):
    """Answers inputs. One serves all streams of a process."""

    max_items: int
    """How many inputs one call takes."""
    interruptible: bool
    """Whether cancelling the call stops the user's code: not in a thread."""

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


def _failed(kind: ItemErrorKind, error: BaseException) -> _Failure:
    """What user code raised, as an item's failure. Lets those pass that end the process or the
    task.
    """
    if isinstance(error, KeyboardInterrupt | SystemExit):
        raise error
    if isinstance(error, asyncio.CancelledError):
        task = asyncio.current_task()
        if task is not None and task.cancelling():
            raise error
    return _Failure(kind, describe(error))


class _Caller:
    """Calls user code: an `async def` on the event loop, a plain `def` in a thread.

    Args:
        function: takes one argument; anything may come of it.
        max_concurrency: calls at a time.
    """

    def __init__(self, function: Callable[[Any], Any], max_concurrency: int) -> None:
        self._function = function
        self.interruptible = inspect.iscoroutinefunction(function)
        self._max_concurrency = max_concurrency
        self._places: anyio.Semaphore | None = None
        self._threads: anyio.CapacityLimiter | None = None

    async def reserve(self) -> None:
        if self._places is None:
            self._places = anyio.Semaphore(self._max_concurrency)
            # Never waited for: whoever has a place has a thread.
            self._threads = anyio.CapacityLimiter(self._max_concurrency)
        await self._places.acquire()

    def release(self) -> None:
        if self._places is not None:
            self._places.release()

    async def __call__(self, argument: object) -> object:
        """What the function returned, or a `_Failure`."""
        try:
            if self.interruptible:
                return await self._function(argument)
            outcome = await anyio.to_thread.run_sync(
                self._in_thread, argument, limiter=self._threads
            )
            # A plain function may return a coroutine, e.g. a decorated one.
            return await outcome if inspect.isawaitable(outcome) else outcome
        except BaseException as error:
            return _failed(ItemErrorKind.HANDLER, error)

    def _in_thread(self, argument: object) -> object:
        try:
            return self._function(argument)
        except BaseException as error:
            # Not as an exception: a StopIteration cannot cross into a future, and a
            # CancelledError would be taken for the event loop's.
            if isinstance(error, KeyboardInterrupt | SystemExit):
                raise
            return _Failure(ItemErrorKind.HANDLER, describe(error))


def _decode(codec: Codec[Any, Any], item: Input) -> object:
    try:
        value: object = codec.decode_input(item.payload)
    except BaseException as error:
        return _failed(ItemErrorKind.DECODE, error)
    return value


def _answer(
    session: ServerSession, codec: Codec[Any, Any], item: Input, result: object | _Failure
) -> None:
    if not isinstance(result, _Failure):
        try:
            payload = codec.encode_output(result)
            if not isinstance(payload, bytes):
                raise TypeError(f"the codec made a {type(payload).__name__}, not bytes")
        except BaseException as error:
            result = _failed(ItemErrorKind.ENCODE, error)
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
        self.interruptible = caller.interruptible
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
        self.interruptible = caller.interruptible
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

    async def _call(self, values: list[object]) -> Sequence[object] | _Failure:
        outputs = await self._caller(values)
        if isinstance(outputs, _Failure):
            return outputs
        if not _is_sequence(outputs):
            return _Failure(
                ItemErrorKind.HANDLER,
                f"predict_batch returned {type(outputs).__name__}, which is no sequence",
            )
        if len(outputs) != len(values):
            return _Failure(
                ItemErrorKind.HANDLER,
                f"predict_batch returned {len(outputs)} outputs for {len(values)} inputs",
            )
        return outputs


def _is_sequence(value: object) -> TypeGuard[Sequence[object]]:
    """Whether it has a length and places; NumPy's arrays do, and are no `Sequence`."""
    return hasattr(value, "__len__") and hasattr(value, "__getitem__") and not _is_mapping(value)


def _is_mapping(value: object) -> bool:
    return hasattr(value, "keys")


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
