"""`predict_batch`: several inputs a call.

Invariant: an input whose batch failed fails itself only when it has been tried alone, or when there
is no time left for that, or its code does not end.
"""

from __future__ import annotations

import asyncio
import inspect
import math
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any, TypeGuard

from servestream_client.codecs import Codec, is_bytes_codec
from servestream_client.errors import ItemErrorKind
from servestream_client.server.calls import Call, Cancelled, Part, abandon
from servestream_client.server.handlers.answers import (
    Answers,
    Failure,
    decoded,
    failure_of,
    merge,
    without_failures,
)
from servestream_client.server.handlers.awaiting import await_in_turn, wait_for_turn
from servestream_client.server.handlers.threads import InThread
from servestream_client.server.tries import Tries
from servestream_client.turns import Turn
from servestream_client.usercode import type_name

__all__ = ["Batches"]

_HANDLER = ItemErrorKind.HANDLER


class Batches:
    """`predict_batch`: several inputs a call, singly if that fails."""

    def __init__(
        self,
        predict_batch: Callable[[Any], Any],
        codec: Codec[Any, Any],
        places: int,
        *,
        tells: bool = True,
    ) -> None:
        self._codec = codec
        self._tells = tells
        self._bytes = is_bytes_codec(codec)
        self._predict_batch = predict_batch
        self._in_thread = (
            None if inspect.iscoroutinefunction(predict_batch) else InThread(predict_batch, places)
        )

    async def handle(self, call: Call, parts: Sequence[Part]) -> None:
        payloads = parts[0].run.payloads
        if len(parts) > 1:
            payloads = [payload for part in parts for payload in part.run.payloads]
        sound: Sequence[object] = payloads
        values = sound
        if not self._bytes:
            values = await self._values(call.turn, parts, payloads)
            sound = without_failures(values)
        encoding: list[asyncio.Task[None]] = []

        async def answer(results: Sequence[object], *, tells: bool) -> None:
            await self._answer(parts, merge(values, results), tells=tells)

        def answer_without(results: Sequence[object]) -> None:
            """Of code that does not end, and with which this may never go on."""
            task = asyncio.get_running_loop().create_task(
                answer(list(results), tells=True),
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
        await answer(results, tells=self._tells)

    async def _answer(
        self, parts: Sequence[Part], results: Sequence[object], *, tells: bool
    ) -> None:
        end = 0
        for attempt, run in parts:
            begin, end = end, end + len(run.payloads)
            own = results if len(parts) == 1 else results[begin:end]
            await Answers(attempt, run.first, self._codec).encode(own)
            if tells:
                attempt.wake_writer()

    async def _values(
        self, turn: Turn, parts: Sequence[Part], payloads: Sequence[bytes]
    ) -> Sequence[object]:
        """All decoded, in as many turns of the event loop as it takes: a batch is not to shrink
        because its inputs are large.
        """
        values = list[object]()
        until = turn.enter() or await wait_for_turn(turn, parts)
        for payload in payloads:
            if turn.clock() >= until:
                until = turn.enter() or await wait_for_turn(turn, parts)
            values.append(decoded(self._codec, payload))
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
        if not isinstance(results, Failure):
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
        results: list[object] = [Failure(ItemErrorKind.TIMEOUT, tries.untried)] * len(values)
        while (turn := tries.next(clock())) is not None:
            began = clock()
            results[turn.position] = Failure(ItemErrorKind.TIMEOUT, tries.unended)
            single = await self._call(
                call,
                parts,
                [values[turn.position]],
                until=turn.until,
                answer_without=lambda _: answer(results),
            )
            if not isinstance(single, Failure):
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
    ) -> list[object] | Failure:
        outputs: object
        batch = [*values]  # the user's own, who may change it
        if self._in_thread is None:
            outputs = await await_in_turn(
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
        if type(outputs) is Failure:
            return outputs
        return await _listed(outputs, len(values), call.turn, parts)


async def _listed(
    outputs: object, wanted: int, turn: Turn, parts: Sequence[Part]
) -> list[object] | Failure:
    """What `predict_batch` returned, as a list of so many; or what is wrong with it."""
    if type(outputs) is list or type(outputs) is tuple:
        listed, length = [*outputs], len(outputs)
    else:
        try:
            if not _is_sequence(outputs):
                return Failure(
                    _HANDLER,
                    f"predict_batch returned {type_name(outputs)}, which is no sequence of outputs",
                )
            length = len(outputs)
            listed = await _elements(outputs, wanted, turn, parts) if length == wanted else []
        except Cancelled:
            raise
        except BaseException as error:
            return failure_of(_HANDLER, error)
    if length != wanted:
        return Failure(_HANDLER, f"predict_batch returned {length} outputs for {wanted} inputs")
    if len(listed) != wanted:
        return Failure(
            _HANDLER,
            f"predict_batch returned {type_name(outputs)}, which says that it has {wanted} outputs"
            f" and gives {'more' if len(listed) > wanted else len(listed)}",
        )
    return listed


async def _elements(
    values: Iterable[object], most: int, turn: Turn, parts: Sequence[Part]
) -> list[object]:
    """Those of a container of the user's, in their turns; one more than there may be, if any."""
    elements = list[object]()
    until = turn.enter() or await wait_for_turn(turn, parts)
    try:
        for element in values:
            elements.append(element)
            if len(elements) > most:
                break
            if turn.clock() >= until:
                until = turn.enter() or await wait_for_turn(turn, parts)
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
