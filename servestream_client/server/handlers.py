"""From a user's method to answers: decode, call, encode.

Whatever user code does, each of its inputs gets exactly one answer; a cancelled call's inputs are
the workers' to answer.
"""

from __future__ import annotations

import asyncio
import inspect
import math
import threading
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from types import CoroutineType, GeneratorType
from typing import Any, TypeGuard, cast

import anyio
import anyio.to_thread

from servestream_client.codecs import BytesCodec, Codec, direct, is_bytes_codec
from servestream_client.errors import ItemErrorKind
from servestream_client.protocol.runs import Run
from servestream_client.protocol.server import ServerSession
from servestream_client.server.tries import Tries
from servestream_client.server.workers import (
    Attempt,
    Call,
    Cancelled,
    Expired,
    Handler,
    Part,
    abandon,
)
from servestream_client.signals import running_task
from servestream_client.turns import BUDGET_SECONDS, Turn, turn_of_loop
from servestream_client.usercode import contained, describe, is_a, type_name

__all__ = ["batch_handler", "item_handler"]

_BYTES_CODEC = BytesCodec()

_DECODE, _HANDLER, _ENCODE = ItemErrorKind.DECODE, ItemErrorKind.HANDLER, ItemErrorKind.ENCODE

_SOURCES = {_DECODE: "the codec", _HANDLER: "the handler", _ENCODE: "the codec"}


@dataclass(frozen=True, slots=True)
class _Failure:
    kind: ItemErrorKind
    text: str


def _failed(
    kind: ItemErrorKind, error: BaseException, task: asyncio.Task[Any] | None = None
) -> _Failure:
    """What user code raised, as an item's failure. Lets those pass that end the process or the
    task.

    Args:
        kind: which of the service's code raised it.
        error: that.
        task: in which it was awaited. A coroutine that is closed is not closed from within.
    """
    awaited = task is not None
    if is_a(error, GeneratorExit):
        awaited = awaited and running_task() is not task
    failure = contained(error, _SOURCES[kind], awaited=awaited)
    if is_a(failure, SystemExit):
        return _Failure(kind, f"{_SOURCES[kind]} called sys.exit(): {describe(failure)}")
    return _Failure(kind, describe(failure))


def _payload(codec: Codec[Any, Any], result: object) -> bytes | _Failure:
    """What a handler made of an input, encoded; or why it cannot be."""
    if type(result) is _Failure:
        return result
    try:
        payload: object = codec.encode_output(result)
        return payload if type(payload) is bytes else _exact_bytes(payload)
    except BaseException as error:
        return _failed(_ENCODE, error)


def _exact_bytes(payload: object) -> bytes:
    """The bytes of a subclass, whatever its methods would say."""
    if not issubclass(type(payload), bytes):
        raise TypeError(f"the codec made a {type_name(payload)}, not bytes")
    return b"".join((cast("bytes", payload), b""))


_BYTES = frozenset({bytes})


def _all_of(kinds: Iterable[type], values: Sequence[object]) -> bool:
    """Whether each is of one of these classes. One of the user's may refuse even to be hashed."""
    try:
        return set(map(type, values)).issubset(kinds)
    except BaseException as error:
        contained(error, "the handler")
        return False


class _Answers:
    """The answers to a run of inputs, in their order.

    Attributes:
        next: the input whose answer is next.
    """

    __slots__ = ("_attempt", "_codec", "_session", "next")

    def __init__(self, attempt: Attempt, first: int, codec: Codec[Any, Any]) -> None:
        self._attempt = attempt
        self._session = attempt.session
        self.next = first
        self._codec = codec

    async def encode(self, results: Sequence[object]) -> None:
        """What the handler made of the next inputs, or failures of theirs; in as many turns of the
        event loop as it takes.
        """
        codec = self._codec
        if is_bytes_codec(codec):
            self.add(results)
            return
        turn = turn_of_loop()
        payloads: list[bytes | _Failure] = []
        until = turn.enter() or await turn.wait()
        for result in results:
            if turn.clock() >= until:
                turn.leave()
                self.add(payloads)
                self._attempt.wake_writer()
                payloads.clear()
                until = turn.enter() or await turn.wait()
                if not self._session.awaits(self.next):  # or the next ones, most probably
                    payloads.append(_UNWANTED)
                    continue
            payloads.append(_payload(codec, result))
        turn.leave()
        self.add(payloads)

    def add(self, payloads: Sequence[object]) -> None:
        """The payloads of the next inputs, or failures of theirs. Of `BytesCodec`, whose code is
        not others', it takes results as they are.
        """
        if payloads and _all_of(_BYTES, payloads):
            self._session.outputs(self.next, cast("Sequence[bytes]", payloads))
            self.next += len(payloads)
            return
        for result in payloads:
            payload = result if type(result) is bytes else _payload(_BYTES_CODEC, result)
            if isinstance(payload, _Failure):
                self.fail(payload)
            else:
                self._session.output(self.next, payload, last=True)
                self.next += 1

    def fail(self, failure: _Failure) -> None:
        """The next input has failed."""
        self._session.fail(self.next, failure.kind, failure.text)
        self.next += 1


_UNWANTED = _Failure(ItemErrorKind.CANCELLED, "cancelled")


def _decoded(codec: Codec[Any, Any], payload: bytes) -> object:
    try:
        value: object = codec.decode_input(payload)
    except BaseException as error:
        return _failed(_DECODE, error)
    return value


class _AsyncItems:
    """An `async def predict`, called on the event loop.

    Most handlers that wait for nothing are done at once, and the next input follows, until the
    budget of the loop's turn is spent: then what is done is answered, and the others of the run
    are given back. So they are when an input comes to wait, for whatever it may be; also for its
    next turn, between being decoded, handled and encoded.
    """

    def __init__(
        self, predict: Callable[[Any], Coroutine[Any, Any, object]], codec: Codec[Any, Any]
    ) -> None:
        self._predict: Callable[[Any], Awaitable[object]] = predict
        self._codec = codec
        self._decode = direct(codec.decode_input)
        self._encode: Callable[[Any], bytes] = direct(codec.encode_output)
        self._waits = True  # as far as is known
        self._run = self._of_bytes if is_bytes_codec(codec) else self._of_any

    async def handle(self, call: Call, parts: Sequence[Part]) -> None:
        for part in parts:
            await self._handle(call, part)

    async def _handle(self, call: Call, part: Part) -> None:
        session, run = part.attempt.session, part.run
        answers = _Answers(part.attempt, run.first, self._codec)
        made: list[object] = []
        stretch = _Stretch(call.turn)

        def on_suspend() -> None:
            stretch.waits()
            self._waits = stretch.waited = True
            _give_back(session, run, len(made) + 1)
            answers.add(made)
            made.clear()

        begun = 1  # and not answered, if an exception passes
        try:
            with call.run_inline(part, on_suspend):
                await self._run(stretch, run.payloads, made)
            begun = 0
            self._waits = stretch.waited
        except Expired as error:
            made.append(_Failure(ItemErrorKind.TIMEOUT, str(error)))
            begun = 0
        finally:
            stretch.end()
            _give_back(session, run, answers.next - run.first + len(made) + begun)
            answers.add(made)

    def _predict_in(self, stretch: _Stretch) -> tuple[Callable[[Any], Awaitable[object]], bool]:
        """What to call for each input, and whether to look at the clock after every one.

        Where it seems that the handler does not wait, it is called as it is, if nobody else does
        so at the moment.
        """
        turn = stretch.turn
        if self._waits or turn.unmetered:
            return partial(_in_turns, turn, self._predict), turn.unmetered
        stretch.unmetered = turn.unmetered = True
        return self._predict, False

    async def _of_bytes(
        self, stretch: _Stretch, inputs: Sequence[bytes], made: list[object]
    ) -> None:
        """Handle inputs as they are, until it is another's turn; they may grow fewer meanwhile."""
        clock = stretch.turn.clock
        until, look = await stretch.begin(), True
        predict, always = self._predict_in(stretch)
        for value in inputs:
            try:
                made.append(await predict(value))
            except BaseException as error:
                made.append(_failed(_HANDLER, error, stretch.task))
            # At every other one, and at the first: so no more than two keep the loop that are slow
            # after quick ones, and slow ones that follow upon one another are single.
            if look and clock() >= until:
                return
            look = always or not look

    async def _of_any(self, stretch: _Stretch, inputs: Sequence[bytes], made: list[object]) -> None:
        """The same, where the codec's code is others', too."""
        clock, decode, encode = stretch.turn.clock, self._decode, self._encode
        await stretch.begin()
        predict, always = self._predict_in(stretch)
        # After the first input's parts each, and then after every other one of those that follow
        # upon one another: no more than two keep the loop that are slow after quick ones.
        look = True
        for payload in inputs:
            step = _DECODE
            try:
                value = decode(payload)
                if look and clock() >= stretch.until:
                    await stretch.begin()
                step = _HANDLER
                value = await predict(value)
                if (stretch.careful or always or not look) and clock() >= stretch.until:
                    await stretch.begin()
                step = _ENCODE
                output = encode(value)
                made.append(output if type(output) is bytes else _exact_bytes(output))
            except BaseException as error:
                made.append(_failed(step, error, stretch.task))
                look = True  # what failed passed a place where one looks
            if look:
                if clock() >= stretch.until:
                    return
                stretch.careful = False
            look = always or not look


class _Stretch:
    """The calls of user code from one suspension of a worker to the next.

    Attributes:
        until: when it is over, by the turn's clock.
        careful: whether that is looked at after the handler in any case: in the first input, which
            may be slow in all its parts like those before it, and in one that has waited.
        task: in which all of them are awaited.
        waited: whether user code did.
        unmetered: whether what user code does after waiting is charged when it is done only.
    """

    __slots__ = ("careful", "task", "turn", "unmetered", "until", "waited")

    def __init__(self, turn: Turn) -> None:
        self.turn = turn
        self.task = asyncio.current_task()
        self.until = 0.0
        self.careful = True
        self.waited = False
        self.unmetered = False

    async def begin(self) -> float:
        """Returns `until`."""
        self.until = self.turn.enter() or await self.turn.wait()
        return self.until

    def end(self) -> None:
        """Nothing more is called."""
        self.turn.leave()
        if self.unmetered:
            self.turn.unmetered = False
            if self.waited:
                self.turn.spend(BUDGET_SECONDS)

    def waits(self) -> None:
        """User code waits for something; what goes on afterwards begins anew."""
        self.turn.leave()
        self.until = 0.0
        self.careful = True


def _in_turns(
    turn: Turn, predict: Callable[[Any], Awaitable[object]], value: object
) -> Awaitable[object]:
    """For a handler that waits: all that go on in one turn of the loop would keep it together."""
    return turn.metered(predict(value))


def _give_back(session: ServerSession, run: Run, done: int) -> None:
    if done < len(run.payloads):
        session.put_back(run.split(done))


class _Progress:
    """How far a thread has come with a function's arguments.

    Args:
        total: how many arguments there are.
        clock: the event loop's.
        on_abandoned: called in the event loop once nobody waits for it any more, with the results
            so far and why.
    """

    def __init__(
        self,
        total: int,
        clock: Callable[[], float],
        on_abandoned: Callable[[Sequence[object], str], None],
    ) -> None:
        self._total = total
        self._lock = threading.Lock()
        self.results: list[object] = []
        self.began: float = clock()
        self._clock = clock
        self._on_abandoned = on_abandoned
        self.abandoned: bool = False

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
                if self.abandoned:
                    break
                self.began = self._clock()
            result = function(argument)
            with self._lock:
                self.results.append(result)
        return self.results

    def abandon(self, text: str, since: float) -> bool:
        with self._lock:
            if self.began != since or self.finished:
                return False
            self.abandoned = True
            results = list(self.results)  # the thread may add another one at any moment
        self._on_abandoned(results, text)
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
        on_abandoned: Callable[[Sequence[object], str], None],
        *,
        until: float = math.inf,
    ) -> list[object]:
        """What the function returned for each argument, or a `_Failure`.

        Should it not end, by `until` if that is before an input's time is over: `on_abandoned` is
        told, with the results so far and why; what comes afterwards is nobody's.
        """
        if self._threads is None:
            self._threads = anyio.CapacityLimiter(self._places)  # whoever has a place has a thread
        clock = asyncio.get_running_loop().time
        progress = _Progress(len(arguments), clock, on_abandoned)
        outcomes = await call.run(
            anyio.to_thread.run_sync(progress.run, self._one, arguments, limiter=self._threads),
            parts,
            non_cancellable=progress,
            until=until,
        )
        if progress.abandoned:
            raise Cancelled  # its inputs are answered
        if _all_of(_NEVER_AWAITED, outcomes):
            return outcomes
        try:
            for position, outcome in enumerate(outcomes):
                if _is_awaitable(outcome):
                    self.returns_awaitables = True
                    outcomes[position] = await _awaited(
                        call,
                        parts,
                        partial(_itself, outcome),
                        until=until,
                        answer_without=partial(on_abandoned, outcomes[:position]),
                    )
        except Cancelled:
            for outcome in outcomes:
                if type(outcome) is CoroutineType:
                    outcome.close()  # nobody awaits it any more
            raise
        return outcomes

    def _one(self, argument: object) -> object:
        try:
            return self._function(argument)
        except BaseException as error:
            # Not as an exception: a StopIteration cannot cross into a future, and a
            # CancelledError or SystemExit would be taken for the event loop's.
            return _failed(_HANDLER, error)


_NEVER_AWAITED = frozenset({_Failure, bytes, str, int, float, bool, list, tuple, dict, type(None)})


def _itself(value: Any) -> Any:  # noqa: ANN401 — whatever a handler returned
    return value


def _is_awaitable(value: object) -> bool:
    """Asks the class alone: an object may say anything of itself, and raise."""
    if type(value) is GeneratorType:
        return bool(value.gi_code.co_flags & inspect.CO_ITERABLE_COROUTINE)
    return any("__await__" in vars(base) for base in type(value).__mro__)


async def _turn_for(parts: Sequence[Part]) -> float:
    """Enter the event loop's turn, whatever it takes; then as `Turn.enter`.

    Raises:
        Cancelled: meanwhile all these inputs were, or their streams ended.
    """
    turn = turn_of_loop()
    until = turn.enter()
    if not until:
        until = await turn.wait()
        if not any(
            attempt.session.wants(number)
            for attempt, run in parts
            for number in range(run.first, run.last + 1)
        ):
            turn.leave()
            raise Cancelled
    return until


async def _awaited(
    call: Call,
    parts: Sequence[Part],
    code: Callable[[], Awaitable[object]],
    *,
    until: float = math.inf,
    answer_without: Callable[[str], None] | None = None,
) -> object:
    """What comes of awaiting that, in its turn of the event loop."""
    await _turn_for(parts)
    turn, task = turn_of_loop(), asyncio.current_task()
    try:
        return await call.run(
            turn.metered(code()), parts, until=until, answer_without=answer_without
        )
    except Cancelled:
        raise
    except Expired as error:
        return _Failure(ItemErrorKind.TIMEOUT, str(error))
    except BaseException as error:
        return _failed(_HANDLER, error, task)
    finally:
        turn.leave()


class _ThreadedItems:
    """A plain `def predict`, called in threads, as often in a row as its run is long, or as there
    is time to decode inputs for in one turn of the event loop.
    """

    def __init__(self, predict: Callable[[Any], Any], codec: Codec[Any, Any], places: int) -> None:
        self._predict = _InThread(predict, places)
        self._codec = codec

    async def handle(self, call: Call, parts: Sequence[Part]) -> None:
        for part in parts:
            await self._handle(call, part)

    async def _handle(self, call: Call, part: Part) -> None:
        attempt, run = part
        if self._predict.returns_awaitables and len(run.payloads) > 1:
            # What they wait for may take an input's whole time, for which no other should wait.
            call.requeue(Part(attempt, run.split(1)))
        values = self._values(run.payloads)
        _give_back(attempt.session, run, len(values))
        sound = [place for place, value in enumerate(values) if type(value) is not _Failure]
        answers = _Answers(attempt, run.first, self._codec)
        encoding: list[asyncio.Task[None]] = []

        def on_abandoned(results: Sequence[object], text: str) -> None:
            reached = sound[len(results)]
            if reached + 1 < len(values):
                call.requeue(Part(attempt, run.split(reached + 1)))
            attempt.session.fail(run.first + reached, ItemErrorKind.TIMEOUT, text)
            task = asyncio.get_running_loop().create_task(
                answers.encode(_merged(values[:reached], results)),
                name="servestream encoder",
                context=attempt.context.copy(),
            )
            task.add_done_callback(lambda _: attempt.wake_writer())
            encoding.append(task)

        arguments = [values[place] for place in sound]
        try:
            results = await self._predict(call, [part], arguments, on_abandoned) if sound else ()
        except Cancelled:
            if encoding:
                await asyncio.wait(encoding)
            raise
        await answers.encode(_merged(values, results))

    def _values(self, payloads: Sequence[bytes]) -> list[object]:
        """Of the first ones, decoded: at least one, and as many as there is time for."""
        if is_bytes_codec(self._codec):
            return list(payloads)
        turn, values = turn_of_loop(), list[object]()
        until = turn.enter()
        for payload in payloads:
            values.append(_decoded(self._codec, payload))
            if turn.clock() >= until:
                break
        turn.leave()
        return values


def _sound(values: Sequence[object]) -> Sequence[object]:
    """Those that are no failures."""
    return [value for value in values if type(value) is not _Failure]


def _merged(values: Sequence[object], results: Sequence[object]) -> Sequence[object]:
    """Results in the places of the values that are no failures already."""
    if len(results) == len(values):
        return results
    rest = iter(results)
    return [value if type(value) is _Failure else next(rest) for value in values]


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
        (_, run), *others = parts
        payloads = [*run.payloads]
        for other in others:
            payloads += other.run.payloads
        values = await self._values(parts, payloads)
        sound = values if values is payloads else _sound(values)
        encoding: list[asyncio.Task[None]] = []

        async def answer(results: Sequence[object]) -> None:
            merged, end = _merged(values, results), 0
            for attempt, run in parts:
                begin, end = end, end + len(run.payloads)
                await _Answers(attempt, run.first, self._codec).encode(merged[begin:end])
                attempt.wake_writer()

        def answer_without(results: Sequence[object]) -> None:
            """Of code that does not end, and with which this may never go on."""
            task = asyncio.get_running_loop().create_task(
                answer(list(results)),
                name="servestream encoder",
                context=parts[0].attempt.context.copy(),
            )
            encoding.append(task)

        try:
            results = await self._results(call, parts, sound, answer_without) if sound else ()
        except Cancelled:
            if encoding:
                await asyncio.wait(encoding)
            raise
        await answer(results)

    async def _values(self, parts: Sequence[Part], payloads: Sequence[bytes]) -> Sequence[object]:
        """All decoded, in as many turns of the event loop as it takes: a batch is not to shrink
        because its inputs are large.
        """
        if is_bytes_codec(self._codec):
            return payloads
        turn, values = turn_of_loop(), list[object]()
        until = await _turn_for(parts)
        for payload in payloads:
            if turn.clock() >= until:
                until = await _turn_for(parts)
            values.append(_decoded(self._codec, payload))
        turn.leave()
        return values

    async def _results(
        self,
        call: Call,
        parts: Sequence[Part],
        values: Sequence[object],
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
        values: Sequence[object],
        *,
        until: float = math.inf,
        answer_without: Callable[[str], None] | None = None,
    ) -> list[object] | _Failure:
        outputs: object
        batch = [*values]  # the user's own, who may change it
        if self._in_thread is None:
            outputs = await _awaited(
                call,
                parts,
                partial(self._predict_batch, batch),
                until=until,
                answer_without=answer_without,
            )
        else:

            def on_abandoned(_: Sequence[object], text: str) -> None:
                if answer_without is not None:
                    answer_without(text)
                else:
                    abandon(parts, text)

            (outputs,) = await self._in_thread(call, parts, [batch], on_abandoned, until=until)
        if type(outputs) is _Failure:
            return outputs
        return await _listed(outputs, len(values), parts)


async def _listed(outputs: object, wanted: int, parts: Sequence[Part]) -> list[object] | _Failure:
    """What `predict_batch` returned, as a list of so many; or what is wrong with it."""
    if type(outputs) is list or type(outputs) is tuple:
        listed, length = [*outputs], len(outputs)
    else:
        try:
            if not _is_sequence(outputs):
                return _Failure(
                    _HANDLER,
                    f"predict_batch returned {type_name(outputs)}, which is no sequence of outputs",
                )
            length = len(outputs)
            listed = await _elements(outputs, wanted, parts) if length == wanted else []
        except Cancelled:
            raise
        except BaseException as error:
            return _failed(_HANDLER, error)
    if length != wanted:
        return _Failure(_HANDLER, f"predict_batch returned {length} outputs for {wanted} inputs")
    if len(listed) != wanted:
        return _Failure(
            _HANDLER,
            f"predict_batch returned {type_name(outputs)}, which says that it has {wanted} outputs"
            f" and gives {'more' if len(listed) > wanted else len(listed)}",
        )
    return listed


async def _elements(values: Iterable[object], most: int, parts: Sequence[Part]) -> list[object]:
    """Those of a container of the user's, in their turns; one more than there may be, if any."""
    turn, elements = turn_of_loop(), list[object]()
    until = await _turn_for(parts)
    try:
        for element in values:
            elements.append(element)
            if len(elements) > most:
                break
            if turn.clock() >= until:
                until = await _turn_for(parts)
    finally:
        turn.leave()
    return elements


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
