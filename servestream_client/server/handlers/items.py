"""An `async def predict`, called on the event loop.

Invariant: what user code keeps waiting is the input at hand alone: what was done before it is
answered at once, and what stands behind it goes back.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from functools import partial
from typing import Any

from servestream_client.codecs import Codec, direct, is_bytes_codec
from servestream_client.errors import ItemErrorKind
from servestream_client.server.calls import Call, Expired, Part
from servestream_client.server.handlers.answers import (
    Answers,
    Failure,
    exact_bytes,
    failure_of,
    give_back,
)
from servestream_client.turns import BUDGET_SECONDS, Turn

__all__ = ["AsyncItems"]

_DECODE, _HANDLER, _ENCODE = ItemErrorKind.DECODE, ItemErrorKind.HANDLER, ItemErrorKind.ENCODE


class AsyncItems:
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
        intake, run = part.attempt.session.intake, part.run
        answers = Answers(part.attempt, run.first, self._codec)
        made: list[object] = []
        stretch = _Stretch(call.turn)

        def on_suspend() -> None:
            stretch.waits()
            self._waits = stretch.waited = True
            give_back(intake, run, len(made) + 1)
            answers.add(made)
            made.clear()

        begun = 1  # and not answered, if an exception passes
        try:
            with call.run_inline(part, on_suspend):
                await self._run(stretch, run.payloads, made)
            begun = 0
            self._waits = stretch.waited
        except Expired as error:
            made.append(Failure(ItemErrorKind.TIMEOUT, str(error)))
            begun = 0
        finally:
            stretch.end()
            give_back(intake, run, answers.next - run.first + len(made) + begun)
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
                made.append(failure_of(_HANDLER, error, stretch.task))
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
                made.append(output if type(output) is bytes else exact_bytes(output))
            except BaseException as error:
                made.append(failure_of(step, error, stretch.task))
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
