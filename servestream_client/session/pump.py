"""The pump: from the caller's inputs to the session, no faster than there is room."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterable, Awaitable, Callable, Iterable, Iterator
from itertools import islice
from typing import NamedTuple

from servestream_client.errors import ClientClosedError, ItemErrorKind
from servestream_client.protocol.client import ClientSession
from servestream_client.session.feeder import InputFeeder
from servestream_client.session.source import INPUTS, InputsFailed, InputSource
from servestream_client.signals import Signal, being_cancelled
from servestream_client.usercode import (
    annotate,
    as_value,
    contained,
    describe,
    is_a,
    type_name,
    unforeseen,
)

__all__ = ["InputPump", "Refusal"]

_FIRST_RUN = 64
_LONGEST_RUN = 1024
_RUN_SECONDS = 0.001
"""How long a plain iterator keeps the event loop, if its items come fast enough for that."""


class Refusal(NamedTuple):
    """Why an input is not sent."""

    kind: ItemErrorKind
    text: str
    cause: BaseException | None = None


class InputPump:
    """Pulls, encodes and pushes inputs while there is room for them.

    Invariant: however its task ends, the session's inputs are finished, and unless they were
    exhausted `error` says why.

    It runs the caller's code, so it wants a task of its own: that gets one cancellation and then
    its time to clean up, where a cancel scope would interrupt it again and again.

    Args:
        session: where the inputs go.
        inputs: the caller's. From a feeder they come encoded.
        encode: item to payload; whatever it raises becomes that item's error.
        max_item_bytes: the largest payload to send.
        pushed: called when there may be something to send.
        speak: the same, and the frame is sent in the pump's own task: a turn of the event loop
            sooner.
        refused: called when there may be something to take: an input that failed here, or the end.

    Raises:
        InputsError: the inputs are no iterable.
    """

    def __init__(
        self,
        *,
        session: ClientSession,
        inputs: Iterable[object] | AsyncIterable[object] | InputFeeder[bytes | Refusal],
        encode: Callable[[object], bytes],
        max_item_bytes: int,
        pushed: Callable[[], None],
        speak: Callable[[], Awaitable[None]],
        refused: Callable[[], None],
    ) -> None:
        self.error: BaseException | None = None
        """What the iterator raised, or why nobody pulls it any more."""
        self.room: Signal = Signal()
        """To be raised when there may be room for inputs."""

        self._session = session
        self._feeder = inputs if isinstance(inputs, InputFeeder) else None
        self._source = InputSource(() if isinstance(inputs, InputFeeder) else inputs)
        self._pulled = 0
        self._encode = encode
        self._max_item_bytes = max_item_bytes
        self._pushed = pushed
        self._speak = speak
        self._refused = refused
        self._run_length = _FIRST_RUN
        self._finished = False

    @property
    def pulled(self) -> int:
        """How many inputs came out of the caller's iterator."""
        return self._pulled if self._feeder is None else self._feeder.pulled

    async def run(self) -> None:
        """Until the inputs are exhausted, or fail. They are finished in any case."""
        try:
            if self._feeder is not None:
                await self._pump_fed(self._feeder)
            elif self._source.plain is None:
                await self._pump_async()
            else:
                await self._pump_plain(self._source.plain)
            self._finished = True
        except InputsFailed as failed:
            self.error = failed.error
            annotate(failed.error, f"raised by {INPUTS}, after {self.pulled} of them")
        except Exception as bug:
            self.error = unforeseen(bug)
        finally:
            self._finish()

    def ended(self, task: asyncio.Task[None]) -> None:
        """The task that ran it is over, in whatever way; it may never have begun."""
        if not task.cancelled():
            task.exception()  # seen: `error` tells of it
        if not self._finished:
            self._finish()

    def _finish(self) -> None:
        if not self._finished and self.error is None:
            self.error = ClientClosedError("the task that pulls the stream's inputs was cancelled")
        self._finished = True
        self._session.finish()
        self._pushed()
        self._refused()

    def _raised(self, error: BaseException, *, awaited: bool = False) -> InputsFailed:
        """What the inputs raised, to be told from what anything else raises.

        Raises:
            BaseException: the same, if it concerns this task.
        """
        if not (is_a(error, asyncio.CancelledError) and being_cancelled()):
            self.error = as_value(error, INPUTS)  # should it pass
        return InputsFailed(contained(error, INPUTS, awaited=awaited))

    async def aclose(self) -> None:
        """Close the caller's iterator, if it is a generator."""
        if self._feeder is not None:
            await self._feeder.aclose()
        await self._source.aclose()

    async def _pump_async(self) -> None:
        while True:
            await self._place()
            try:
                item = await self._source.pull()
            except StopAsyncIteration:
                return
            except BaseException as error:
                raise self._raised(error, awaited=True) from None
            self._pulled += 1
            await self._push(self._payload(item), item)
            if self._session.unanswered == 1:
                await self._speak()  # nothing else is under way: somebody waits for this one
            else:
                self._pushed()

    async def _pump_plain(self, inputs: Iterator[object]) -> None:
        while True:
            await self._place()
            began = time.perf_counter()
            more, unfitting = self._push_run(inputs)
            self._learn(time.perf_counter() - began)
            self._pushed()
            if unfitting is not None:
                await self._push(*unfitting)
                self._pushed()
            if not more:
                return
            await asyncio.sleep(0)  # what was pushed can be sent, and others have their turn

    async def _pump_fed(self, feeder: InputFeeder[bytes | Refusal]) -> None:
        feeder.start(self._payload, _size)
        while True:
            await self._place()
            places, room = self._session.room
            feeder.allow(min(places, _LONGEST_RUN), room)
            fed = await feeder.fed()
            if not fed:
                return
            await self._push_fed(fed)
            if self._session.unanswered == 1:
                await self._speak()
            else:
                self._pushed()

    async def _push_fed(self, fed: list[tuple[object, bytes | Refusal]]) -> None:
        """Push what has a place already, as far as it fits in runs."""
        items: list[object] = []
        payloads: list[bytes] = []
        size = 0
        _, room = self._session.room
        for item, payload in fed:
            if isinstance(payload, bytes) and size + len(payload) <= room:
                items.append(item)
                payloads.append(payload)
                size += len(payload)
                continue
            if payloads:
                self._session.push_all(payloads, items, size)
                self._pushed()
            await self._push(payload, item)
            items, payloads, size = [], [], 0
            _, room = self._session.room
        if payloads:
            self._session.push_all(payloads, items, size)

    async def _place(self) -> None:
        while not self._session.has_place:
            await self.room.wait()

    def _push_run(
        self, inputs: Iterator[object]
    ) -> tuple[bool, tuple[bytes | Refusal, object] | None]:
        """Pull and push as many as there is room for, at most a run.

        Returns:
            Whether there may be more inputs; and one that was pulled but not pushed, if it is
            not to be sent or does not fit now.
        """
        places, room = self._session.room
        longest = min(self._run_length, places)
        bound = min(room, self._max_item_bytes)
        encode = self._encode
        payloads: list[bytes] = []
        items: list[object] = []
        size = 0
        try:
            for item in islice(inputs, longest):
                items.append(item)
                try:
                    payload = encode(item)
                except BaseException as error:
                    return True, (self._why_not(error), item)
                length = len(payload) if type(payload) is bytes else bound
                if size + length >= bound:  # or else there is nothing special about it
                    checked = self._checked(payload)
                    if isinstance(checked, Refusal) or size + len(checked) > room:
                        return True, (checked, item)
                    payload, length = checked, len(checked)
                    if size + length == room:
                        size += length
                        payloads.append(payload)
                        return True, None
                size += length
                payloads.append(payload)
            return len(items) == longest, None
        except BaseException as error:
            if len(items) > len(payloads):
                raise  # not from the inputs
            raise self._raised(error) from None
        finally:
            self._pulled += len(items)
            if payloads:
                self._session.push_all(payloads, items[: len(payloads)], size)

    async def _push(self, payload: bytes | Refusal, item: object) -> None:
        if isinstance(payload, Refusal):
            self._session.push_failure(payload.kind, payload.text, item, payload.cause)
            self._refused()
            return
        while not self._session.fits(len(payload)):
            await self.room.wait()
        self._session.push(payload, item)

    def _payload(self, item: object) -> bytes | Refusal:
        """An item encoded, or why it cannot be sent."""
        try:
            payload = self._encode(item)
        except BaseException as error:
            return self._why_not(error)
        return self._checked(payload)

    def _checked(self, payload: object) -> bytes | Refusal:
        try:
            if not isinstance(payload, bytes):
                raise TypeError(f"the codec made a {type_name(payload)}, not bytes")
            size = len(payload)
        except BaseException as error:  # the object itself may raise anything
            return self._why_not(error)
        if size > self._max_item_bytes:
            return Refusal(
                ItemErrorKind.INPUT_TOO_LARGE,
                f"{size} bytes encoded, and FlowControl.max_item_bytes is {self._max_item_bytes}",
            )
        return payload

    def _why_not(self, error: BaseException) -> Refusal:
        failure = contained(error, "the codec")
        return Refusal(ItemErrorKind.INPUT_ENCODE, describe(failure), failure)

    def _learn(self, seconds: float) -> None:
        """Longer runs while items come fast, single ones where each takes its time."""
        if seconds > _RUN_SECONDS:
            self._run_length = max(1, self._run_length // 2)
        elif seconds < _RUN_SECONDS / 2:
            self._run_length = min(_LONGEST_RUN, self._run_length * 2)


def _size(payload: bytes | Refusal) -> int:
    return len(payload) if isinstance(payload, bytes) else 0
