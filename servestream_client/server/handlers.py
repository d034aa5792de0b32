"""From a user's method to answers: decode, call, encode.

Whatever user code does, each of its inputs gets exactly one answer; a cancelled call's inputs are
the workers' to answer.
"""

from __future__ import annotations

import asyncio
import functools
import inspect
import math
import threading
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, TypeGuard, cast

import anyio
import anyio.to_thread

from servestream_client.codecs import Codec, is_bytes_codec
from servestream_client.errors import ItemErrorKind
from servestream_client.protocol.runs import Run
from servestream_client.protocol.server import ServerSession
from servestream_client.server.tries import Tries
from servestream_client.server.workers import Call, Cancelled, Expired, Handler, Part, forsake
from servestream_client.signals import being_cancelled
from servestream_client.usercode import describe

__all__ = ["batch_handler", "item_handler"]

_BYTES = {bytes}


@dataclass(frozen=True, slots=True)
class _Failure:
    kind: ItemErrorKind
    text: str


def _failed(kind: ItemErrorKind, error: BaseException) -> _Failure:
    """What user code raised, as an item's failure. Lets those pass that end the process or the
    task.
    """
    if isinstance(error, KeyboardInterrupt | SystemExit | Cancelled):
        raise error
    if isinstance(error, asyncio.CancelledError) and being_cancelled():
        raise error
    if isinstance(error, Expired):
        return _Failure(ItemErrorKind.TIMEOUT, str(error))
    return _Failure(kind, describe(error))


def _mapped(
    function: Callable[[Any], object], values: Sequence[object]
) -> tuple[list[object], BaseException | None]:
    """A function's results up to the first value for which it raises, and what it raised."""
    results: list[object] = []
    try:
        results.extend(map(function, values))
    except BaseException as error:
        return results, error
    if len(results) < len(values):  # which is what extend() takes a StopIteration for
        return results, RuntimeError("the codec raised StopIteration")
    return results, None


class _Answers:
    """The answers to a run of inputs, in their order.

    Attributes:
        next: the input whose answer is next.
    """

    __slots__ = ("_codec", "_session", "next")

    def __init__(self, session: ServerSession, first: int, codec: Codec[Any, Any]) -> None:
        self._session = session
        self.next = first
        self._codec = codec

    def add_all(self, results: Sequence[object]) -> None:
        """What the handler made of the next inputs, or failures of theirs."""
        kinds = set(map(type, results))
        if _Failure in kinds:
            for result in results:
                self.add(result)
            return
        if kinds == _BYTES and is_bytes_codec(self._codec):
            self._send(cast("Sequence[bytes]", results))
            return
        payloads, error = _mapped(self._codec.encode_output, results)
        if error is None and set(map(type, payloads)) == _BYTES:
            self._send(cast("Sequence[bytes]", payloads))
            return
        for payload in payloads:
            self._post(payload)
        if error is not None:
            self.fail(_failed(ItemErrorKind.ENCODE, error))
            for result in results[len(payloads) + 1 :]:
                self.add(result)

    def add(self, result: object) -> None:
        """The same of one input."""
        payload: object
        if isinstance(result, _Failure):
            self.fail(result)
            return
        try:
            payload = self._codec.encode_output(result)
        except BaseException as error:
            self.fail(_failed(ItemErrorKind.ENCODE, error))
        else:
            self._post(payload)

    def _send(self, payloads: Sequence[bytes]) -> None:
        self._session.outputs(self.next, payloads)
        self.next += len(payloads)

    def _post(self, payload: object) -> None:
        if isinstance(payload, bytes):
            self._session.output(self.next, payload, last=True)
            self.next += 1
        else:
            made = TypeError(f"the codec made a {type(payload).__name__}, not bytes")
            self.fail(_Failure(ItemErrorKind.ENCODE, describe(made)))

    def fail(self, failure: _Failure) -> None:
        """The next input has failed."""
        self._session.fail(self.next, failure.kind, failure.text)
        self.next += 1


def _decoded(codec: Codec[Any, Any], payload: bytes) -> object:
    try:
        value: object = codec.decode_input(payload)
    except BaseException as error:
        return _failed(ItemErrorKind.DECODE, error)
    return value


def _decoded_all(
    codec: Codec[Any, Any], payloads: Sequence[bytes]
) -> tuple[list[Any], BaseException | None]:
    """The values up to the first payload that cannot be decoded, and why it cannot."""
    if is_bytes_codec(codec):
        return list(payloads), None
    return _mapped(codec.decode_input, payloads)


class _AsyncItems:
    """An `async def predict`, called on the event loop.

    Most handlers that wait for nothing are done at once, and the next input follows. When one comes
    to wait, what is done is answered, and the other inputs of its run are given back.
    """

    def __init__(
        self, predict: Callable[[Any], Coroutine[Any, Any, object]], codec: Codec[Any, Any]
    ) -> None:
        self._predict = predict
        self._codec = codec

    async def handle(self, call: Call, parts: Sequence[Part]) -> None:
        for part in parts:
            await self._handle(call, part)

    async def _handle(self, call: Call, part: Part) -> None:
        session, run = part.attempt.session, part.run
        answers = _Answers(session, run.first, self._codec)
        values, undecoded = _decoded_all(self._codec, run.payloads)
        results: list[object] = []

        def waits() -> None:
            _give_back(session, run, len(results) + 1)
            del values[len(results) + 1 :]
            answers.add_all(results)
            results.clear()

        predict = self._predict
        try:
            with call.watched(part, waits):
                for value in values:
                    try:
                        results.append(await predict(value))
                    except BaseException as error:
                        results.append(_failed(ItemErrorKind.HANDLER, error))
        except Expired as error:
            results.append(_failed(ItemErrorKind.TIMEOUT, error))
        answers.add_all(results)
        if undecoded is not None and answers.next <= run.last:
            _give_back(session, run, len(values) + 1)
            answers.fail(_failed(ItemErrorKind.DECODE, undecoded))


def _give_back(session: ServerSession, run: Run, done: int) -> None:
    if done < len(run.payloads):
        session.put_back(run.split(done))


class _Progress:
    """How far a thread has come with a function's arguments.

    Args:
        total: how many arguments there are.
        clock: the event loop's.
        on_forsaken: called in the event loop once nobody waits for it any more, with the results so
            far and why.
    """

    def __init__(
        self,
        total: int,
        clock: Callable[[], float],
        on_forsaken: Callable[[Sequence[object], str], None],
    ) -> None:
        self._total = total
        self._lock = threading.Lock()
        self.results: list[object] = []
        self.began: float = clock()
        self._clock = clock
        self._on_forsaken = on_forsaken
        self.forsaken: bool = False

    @property
    def done(self) -> int:
        return len(self.results)

    @property
    def finished(self) -> bool:
        return len(self.results) == self._total

    def run(self, function: Callable[[Any], object], arguments: Sequence[object]) -> list[object]:
        """In the thread."""
        for argument in arguments:
            with self._lock:
                if self.forsaken:
                    break
                self.began = self._clock()
            result = function(argument)
            with self._lock:
                self.results.append(result)
        return self.results

    def forsake(self, text: str, since: float) -> bool:
        with self._lock:
            if self.began != since or self.finished:
                return False
            self.forsaken = True
            results = list(self.results)  # the thread may add another one at any moment
        self._on_forsaken(results, text)
        return True


class _InThread:
    """Calls a plain `def` in a thread; a call cannot be interrupted."""

    def __init__(self, function: Callable[[Any], Any], places: int) -> None:
        self._function = function
        self._places = places
        self._threads: anyio.CapacityLimiter | None = None
        self.returns_awaitables: bool = False
        """Whether it was seen to, as a decorated function may."""

    async def __call__(
        self,
        call: Call,
        parts: Sequence[Part],
        arguments: Sequence[object],
        on_forsaken: Callable[[Sequence[object], str], None],
        *,
        until: float = math.inf,
    ) -> list[object]:
        """What the function returned for each argument, or a `_Failure`.

        Should it not end, by `until` if that is before an input's time is over: `on_forsaken` is
        told, with the results so far and why; what comes afterwards is nobody's.
        """
        if self._threads is None:
            self._threads = anyio.CapacityLimiter(self._places)  # whoever has a place has a thread
        clock = asyncio.get_running_loop().time
        progress = _Progress(len(arguments), clock, on_forsaken)
        outcomes = await call.run(
            anyio.to_thread.run_sync(progress.run, self._one, arguments, limiter=self._threads),
            parts,
            uninterruptible=progress,
            until=until,
        )
        if progress.forsaken:
            raise Cancelled  # its inputs are answered
        for position, outcome in enumerate(outcomes):
            if inspect.isawaitable(outcome):
                self.returns_awaitables = True
                outcomes[position] = await _awaited(
                    call,
                    parts,
                    outcome,
                    until=until,
                    answer_without=functools.partial(on_forsaken, outcomes[:position]),
                )
        return outcomes

    def _one(self, argument: object) -> object:
        try:
            return self._function(argument)
        except BaseException as error:
            # Not as an exception: a StopIteration cannot cross into a future, and a
            # CancelledError would be taken for the event loop's.
            if isinstance(error, KeyboardInterrupt | SystemExit):
                raise
            return _Failure(ItemErrorKind.HANDLER, describe(error))


async def _awaited(
    call: Call,
    parts: Sequence[Part],
    code: Awaitable[object],
    *,
    until: float = math.inf,
    answer_without: Callable[[str], None] | None = None,
) -> object:
    try:
        return await call.run(code, parts, until=until, answer_without=answer_without)
    except BaseException as error:
        return _failed(ItemErrorKind.HANDLER, error)


class _ThreadedItems:
    """A plain `def predict`, called in threads, as often in a row as its run is long."""

    def __init__(self, predict: Callable[[Any], Any], codec: Codec[Any, Any], places: int) -> None:
        self._predict = _InThread(predict, places)
        self._codec = codec

    async def handle(self, call: Call, parts: Sequence[Part]) -> None:
        for part in parts:
            await self._handle(call, part)

    async def _handle(self, call: Call, part: Part) -> None:
        if self._predict.returns_awaitables and len(part.run.payloads) > 1:
            # What they wait for may take an input's whole time, for which no other should wait.
            call.again(Part(part.attempt, part.run.split(1)))
        values = [_decoded(self._codec, payload) for payload in part.run.payloads]
        sound = [place for place, value in enumerate(values) if not isinstance(value, _Failure)]
        answers = _Answers(part.attempt.session, part.run.first, self._codec)

        def on_forsaken(results: Sequence[object], text: str) -> None:
            reached = sound[len(results)]
            if reached + 1 < len(values):
                call.again(Part(part.attempt, part.run.split(reached + 1)))
            answers.add_all(_merged(values[:reached], results))
            answers.fail(_Failure(ItemErrorKind.TIMEOUT, text))

        arguments = [values[place] for place in sound]
        results = await self._predict(call, [part], arguments, on_forsaken) if sound else ()
        answers.add_all(_merged(values, results))


def _merged(values: Sequence[object], results: Sequence[object]) -> list[object]:
    """Results in the places of the values that are no failures already."""
    rest = iter(results)
    return [value if isinstance(value, _Failure) else next(rest) for value in values]


class _Batches:
    """`predict_batch`: several inputs a call, singly if that fails."""

    def __init__(
        self, predict_batch: Callable[[Any], Any], codec: Codec[Any, Any], places: int
    ) -> None:
        self._codec = codec
        self._predict_batch = predict_batch
        self._in_thread = (
            None if inspect.iscoroutinefunction(predict_batch) else _InThread(predict_batch, places)
        )

    async def handle(self, call: Call, parts: Sequence[Part]) -> None:
        payloads = [payload for part in parts for payload in part.run.payloads]
        values, undecoded = _decoded_all(self._codec, payloads)
        sound = values
        if undecoded is not None:  # what cannot be decoded fails in its place
            values = [_decoded(self._codec, payload) for payload in payloads]
            sound = [value for value in values if not isinstance(value, _Failure)]

        def answer(results: Sequence[object]) -> None:
            every = iter(results if sound is values else _merged(values, results))
            for attempt, run in parts:
                own = list(islice(every, len(run.payloads)))
                _Answers(attempt.session, run.first, self._codec).add_all(own)

        answer(await self._results(call, parts, sound, answer) if sound else ())

    async def _results(
        self,
        call: Call,
        parts: Sequence[Part],
        values: list[object],
        answer: Callable[[Sequence[object]], None],
    ) -> Sequence[object]:
        clock = asyncio.get_running_loop().time
        began = clock()
        results = await self._call(call, parts, values)
        if not isinstance(results, _Failure):
            return results
        if len(values) == 1:
            return [results]
        # All have one limit. Twice that is the most that any of them waits for its answer, however
        # long user code takes to clean up.
        limit = parts[0].attempt.session.item_timeout
        until = min(clock(), began + limit) + limit
        tries = Tries(len(values), until=until, shared=self._in_thread is None, reason=results.text)
        return await self._tried_singly(call, parts, values, tries, answer)

    async def _tried_singly(
        self,
        call: Call,
        parts: Sequence[Part],
        values: Sequence[object],
        tries: Tries,
        answer: Callable[[Sequence[object]], None],
    ) -> Sequence[object]:
        clock = asyncio.get_running_loop().time
        results: list[object] = [_Failure(ItemErrorKind.TIMEOUT, tries.untried)] * len(values)
        while (turn := tries.next(clock())) is not None:
            began = clock()
            results[turn.position] = _Failure(ItemErrorKind.TIMEOUT, tries.unended)
            single = await self._call(
                call,
                parts,
                [values[turn.position]],
                until=turn.until,
                answer_without=lambda _: answer(results),
            )
            if not isinstance(single, _Failure):
                results[turn.position] = single[0]
            elif single.kind is ItemErrorKind.TIMEOUT:
                tries.cut_off(turn, began)
            else:
                results[turn.position] = single
        return results

    async def _call(
        self,
        call: Call,
        parts: Sequence[Part],
        values: list[object],
        *,
        until: float = math.inf,
        answer_without: Callable[[str], None] | None = None,
    ) -> Sequence[object] | _Failure:
        outputs: object
        if self._in_thread is None:
            outputs = await _awaited(
                call,
                parts,
                self._predict_batch(values),
                until=until,
                answer_without=answer_without,
            )
        else:

            def on_forsaken(_: Sequence[object], text: str) -> None:
                if answer_without is not None:
                    answer_without(text)
                else:
                    forsake(parts, text)

            (outputs,) = await self._in_thread(call, parts, [values], on_forsaken, until=until)
        if isinstance(outputs, _Failure):
            return outputs
        if not _is_sequence(outputs):
            return _Failure(
                ItemErrorKind.HANDLER,
                f"predict_batch returned {type(outputs).__name__}, which is no sequence of outputs",
            )
        if len(outputs) != len(values):
            return _Failure(
                ItemErrorKind.HANDLER,
                f"predict_batch returned {len(outputs)} outputs for {len(values)} inputs",
            )
        return outputs


def _is_sequence(value: object) -> TypeGuard[Sequence[object]]:
    """Whether it has a length and places; NumPy's arrays do, and are no `Sequence`. Text and bytes
    are one output each.
    """
    if isinstance(value, str | bytes | bytearray | memoryview):
        return False
    return hasattr(value, "__len__") and hasattr(value, "__getitem__") and not _is_mapping(value)


def _is_mapping(value: object) -> bool:
    return hasattr(value, "keys")


def item_handler(predict: Callable[[Any], Any], codec: Codec[Any, Any], places: int) -> Handler:
    """A handler that calls `predict` with one input at a time, up to `places` times at once."""
    if inspect.iscoroutinefunction(predict):
        return _AsyncItems(predict, codec)
    return _ThreadedItems(predict, codec, places)


def batch_handler(
    predict_batch: Callable[[list[Any]], Any], codec: Codec[Any, Any], places: int
) -> Handler:
    """A handler that calls `predict_batch` with what it is given."""
    return _Batches(predict_batch, codec, places)
