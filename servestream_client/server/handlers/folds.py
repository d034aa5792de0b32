"""`step`, `step_many` and `step_batch`: from a state and an input to the next state and outputs.

Invariant: an input's outputs and the state behind it are handed over together, or neither is. What
a handler makes that nobody waits for any more changes no stream.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from types import CoroutineType
from typing import Any, NamedTuple

from servestream_client.codecs import BytesCodec, Codec, is_bytes_codec
from servestream_client.errors import ItemErrorKind
from servestream_client.protocol.server.fold import FoldOutbox
from servestream_client.server.calls import Attempt, Call, Handler, Part
from servestream_client.server.handlers.answers import Answers, Failure, exact_bytes, failure_of
from servestream_client.server.handlers.batches import Batches
from servestream_client.server.handlers.fold_rounds import Pace, Rounds
from servestream_client.server.handlers.items import AsyncItems
from servestream_client.server.handlers.threads import ThreadedItems
from servestream_client.turns import Turn
from servestream_client.usercode import type_name

__all__ = ["BatchFolds", "Folds", "Stepping", "pair"]

_DECODE, _ENCODE = ItemErrorKind.DECODE, ItemErrorKind.ENCODE
_BYTES = BytesCodec()

_Step = Callable[[Any, Any], Any]


class Folds:
    """`step`, or `step_many`, for one input of a stream after the other.

    Args:
        step: that.
        codec: the service's.
        many: whether it gives any number of outputs.
        places: calls at a time.
        in_place: whether it changes the state that it is given.
    """

    def __init__(
        self,
        step: _Step,
        codec: Codec[Any, Any],
        *,
        many: bool,
        places: int,
        in_place: bool = False,
    ) -> None:
        self._step = step
        self._codec = codec
        self._many = many
        self._places = places
        self._in_place = in_place
        self._asynchronous = inspect.iscoroutinefunction(step)

    async def handle(self, call: Call, parts: Sequence[Part]) -> None:
        for attempt, run in parts:
            fold = attempt.fold
            assert fold is not None  # noqa: S101 — for all streams of a stateful service
            stepping = fold.handler
            if not isinstance(stepping, Stepping):
                stepping = fold.handler = self._stepping()
            # What a thread makes that nobody waits for any more, it makes of the stretch it had.
            stepping.stretch = _Stretch(attempt, run.first, self._codec, many=self._many)
            fold.busy += 1
            try:
                await stepping.handler.handle(call, [Part(attempt, run)])
            finally:
                fold.busy -= 1
                fold.settle()

    def _stepping(self) -> Stepping:
        """What calls the step for one stream."""
        stepping = Stepping()
        step = _while_whole(self._step, stepping) if self._in_place else self._step
        if self._asynchronous:
            stepping.handler = AsyncItems(self._awaited(step, stepping), _BYTES)
        else:
            stepping.handler = ThreadedItems(self._called(step, stepping), _BYTES, self._places)
        return stepping

    def _called(self, step: _Step, holder: Stepping) -> Callable[[bytes], bytes | Failure]:
        def of_bytes(payload: bytes) -> bytes | Failure:
            stretch = holder.stretch
            stretch.number += 1
            return stretch.made(step(stretch.state, payload))

        def of_any(payload: bytes) -> bytes | Failure:
            stretch = holder.stretch
            item = stretch.next(payload)
            if type(item) is Failure:
                return item
            return stretch.made(step(stretch.state, item))

        return of_bytes if is_bytes_codec(self._codec) else of_any

    def _awaited(self, step: _Step, holder: Stepping) -> Callable[[bytes], Any]:
        async def of_bytes(payload: bytes) -> bytes | Failure:
            stretch = holder.stretch
            stretch.number += 1
            return stretch.made(await step(stretch.state, payload))

        async def of_any(payload: bytes) -> bytes | Failure:
            stretch = holder.stretch
            item = stretch.next(payload)
            if type(item) is Failure:
                return item
            return stretch.made(await step(stretch.state, item))

        return of_bytes if is_bytes_codec(self._codec) else of_any


def _while_whole(step: _Step, holder: Stepping) -> _Step:
    """A step that changes its state in place, as long as no failure has left that half changed."""

    def stepped(state: object, item: object) -> object:
        holder.stretch.begin_change()
        return step(state, item)

    return stepped


class Stepping:
    """Calls the step for one stream.

    Attributes:
        handler: does so for runs of inputs.
        stretch: the inputs at hand.
    """

    __slots__ = ("handler", "stretch")

    handler: Handler
    stretch: _Stretch


class _Stretch:
    """Inputs of one stream that are computed one after the other, and the state between them.

    Attributes:
        state: behind the last one that was computed.
        number: of the input at hand.
        dead: whether nobody waits any more for what it makes.
        half_changed: whether a step began to change the state in place, and nothing came of it.
    """

    __slots__ = (
        "_codec",
        "_many",
        "_most",
        "_plain",
        "_prepare",
        "dead",
        "half_changed",
        "number",
        "state",
    )

    def __init__(self, attempt: Attempt, first: int, codec: Codec[Any, Any], *, many: bool) -> None:
        outbox = _outbox(attempt)
        self.state: object = outbox.state
        self.number: int = first - 1
        self.dead: bool = False
        self.half_changed: bool = False
        self._prepare = outbox.prepare
        self._codec = codec
        self._many = many
        self._plain = is_bytes_codec(codec) and not many
        self._most = outbox.output_bytes

    def next(self, payload: bytes) -> object:
        """The next input; or why it is none."""
        self.number += 1
        try:
            value: object = self._codec.decode_input(payload)
        except BaseException as error:
            return failure_of(_DECODE, error)
        return value

    def begin_change(self) -> None:
        """A step is to change the state in place.

        Raises:
            RuntimeError: the one before has failed.
        """
        if self.half_changed:
            raise RuntimeError("the state was lost with an input before")
        self.half_changed = True

    def made(self, found: object) -> bytes | Failure:
        """What the handler made of it: its output, or where there are any number of them, an empty
        answer in whose place they stand.
        """
        state, result = found if type(found) is tuple and len(found) == 2 else pair(found)
        if self.dead:
            return b""
        if self._plain and type(result) is bytes and len(result) <= self._most:
            self.state = state
            self.half_changed = False
            self._prepare(self.number, state)
            return result
        results = result if self._many else (result,)
        outputs = _encoded(self._codec, results, self._most)
        if isinstance(outputs, Failure):
            return outputs
        self.state = state
        self.half_changed = False
        self._prepare(self.number, state, outputs)
        return b""


def _outbox(attempt: Attempt) -> FoldOutbox:
    outbox = attempt.session.fold
    assert outbox is not None  # noqa: S101 — for all streams of a stateful service
    return outbox


class _Entry(NamedTuple):
    outbox: FoldOutbox
    number: int
    state: object
    item: object


class _Entries:
    """The codec of one batch: inputs come with their states, and outputs with theirs."""

    id = "folds"
    fingerprint = ""

    def __init__(self, codec: Codec[Any, Any], parts: Sequence[Part]) -> None:
        self._codec = codec
        self._parts: Iterator[Part] = iter(parts)

    def decode_input(self, payload: bytes, /) -> _Entry:
        attempt, run = next(self._parts)
        outbox = _outbox(attempt)
        return _Entry(outbox, run.first, outbox.state, self._codec.decode_input(payload))

    def encode_output(self, item: tuple[_Entry, object, object], /) -> bytes:
        entry, state, output = item
        payload = exact_bytes(self._codec.encode_output(output))
        if len(payload) > entry.outbox.output_bytes:
            text = _too_large(payload, entry.outbox.output_bytes)
            entry.outbox.fail(entry.number, ItemErrorKind.TOO_LARGE, text)
            return b""
        entry.outbox.prepare(entry.number, state)
        return payload

    encode_input: Any = None
    decode_output: Any = None


class _BytesBatches(Batches):
    """Where nothing is to be decoded and encoded, without turns for that."""

    async def _values(
        self, turn: Turn, parts: Sequence[Part], payloads: Sequence[bytes]
    ) -> Sequence[object]:
        del turn, payloads
        boxes = [_outbox(attempt) for attempt, _ in parts]
        both = zip(boxes, parts, strict=True)
        return [_Entry(box, run.first, box.state, run.payloads[0]) for box, (_, run) in both]

    async def _answer(self, parts: Sequence[Part], results: Sequence[Any], *, tells: bool) -> None:
        for (attempt, run), result in zip(parts, results, strict=True):
            entry, state, output = (None, None, None) if type(result) is Failure else result
            if (
                entry is None
                or type(output) is not bytes
                or len(output) > entry.outbox.output_bytes
            ):
                await Answers(attempt, run.first, self._codec).encode((result,))
            else:
                entry.outbox.prepare(entry.number, state)
                entry.outbox.outputs(entry.number, (output,))
            if tells:
                attempt.wake_writer()


class BatchFolds:
    """`step_batch`: one input each of several streams, with their states.

    Args:
        step_batch: that.
        codec: the service's.
        places: calls at a time.
        pace: how many inputs of each stream it gets.
    """

    def __init__(
        self,
        step_batch: Callable[[Any, Any], Any],
        codec: Codec[Any, Any],
        places: int,
        pace: Pace,
    ) -> None:
        self._codec = codec
        self._places = places
        self._rounds = Rounds(partial(_stepped, step_batch), places, pace)
        if inspect.iscoroutinefunction(step_batch):

            async def awaited(entries: list[_Entry]) -> list[tuple[_Entry, object, object]]:
                made = await step_batch([e.state for e in entries], [e.item for e in entries])
                return _zipped(entries, made)

            self._call: Callable[[Any], Any] = awaited
        else:

            def called(entries: list[_Entry]) -> list[tuple[_Entry, object, object]]:
                made = step_batch([e.state for e in entries], [e.item for e in entries])
                return _zipped(entries, made)

            self._call = called

    async def handle(self, call: Call, parts: Sequence[Part]) -> None:
        try:
            if any(len(run.payloads) > 1 for _, run in parts):
                boxes = [_outbox(attempt) for attempt, _ in parts]
                if await self._rounds.handle(call, parts, boxes):
                    return
            await self._one_of_each(call, parts)
        finally:
            for attempt, _ in parts:
                if attempt.fold is not None:
                    attempt.fold.settle()

    async def _one_of_each(self, call: Call, parts: Sequence[Part]) -> None:
        codec: Any = _Entries(self._codec, parts)
        kind = _BytesBatches if is_bytes_codec(self._codec) else Batches
        await kind(self._call, codec, self._places, tells=False).handle(call, parts)


def pair(found: Any) -> tuple[Any, Any]:  # noqa: ANN401 — whatever a handler gave
    """What a step gave.

    Raises:
        TypeError: it is no pair.
    """
    if isinstance(found, tuple) and len(found) == 2:
        return found
    if isinstance(found, CoroutineType):
        found.close()
        raise TypeError(
            "a step that is no `async def` gave a coroutine: what decorates it should leave it one"
        )
    raise TypeError(
        f"a step must give the next state and its output, a pair, not {type_name(found)}"
    )


def _stepped(
    step_batch: Callable[[Any, Any], Any], states: list[Any], items: list[Any]
) -> tuple[Sequence[Any], Sequence[Any]]:
    wanted = len(items)
    new, outputs = pair(step_batch(states, items))
    if len(new) != wanted or len(outputs) != wanted:
        raise _uneven(len(new), len(outputs), wanted)
    return new, outputs


def _zipped(entries: list[_Entry], found: object) -> list[tuple[_Entry, object, object]]:
    states, outputs = pair(found)
    if len(states) != len(entries) or len(outputs) != len(entries):
        raise _uneven(len(states), len(outputs), len(entries))
    return list(zip(entries, states, outputs, strict=True))


def _uneven(states: int, outputs: int, inputs: int) -> ValueError:
    return ValueError(f"step_batch gave {states} states and {outputs} outputs for {inputs} inputs")


def _encoded(
    codec: Codec[Any, Any],
    results: Any,  # noqa: ANN401 — whatever a handler gave
    most: int,
) -> Sequence[bytes] | Failure:
    outputs: list[bytes] = []
    try:
        for result in results:
            payload: object = codec.encode_output(result)
            outputs.append(payload if type(payload) is bytes else exact_bytes(payload))
    except BaseException as error:
        return failure_of(_ENCODE, error)
    for output in outputs:
        if len(output) > most:
            return Failure(ItemErrorKind.TOO_LARGE, _too_large(output, most))
    return outputs


def _too_large(output: bytes, most: int) -> str:
    return f"an output of {len(output)} bytes, and the client accepts {most}"
