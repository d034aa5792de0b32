"""The pump: from the caller's inputs to the session, no faster than there is room."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, Awaitable, Callable, Iterable, Iterator
from itertools import islice
from typing import NamedTuple, cast

from servestream_client.codecs import direct, encodes_bytes
from servestream_client.cursor import SeekableInputs
from servestream_client.errors import ClientClosedError, CursorMismatchError, ItemErrorKind
from servestream_client.protocol.client import UNKNOWN_BYTES
from servestream_client.session.cursor_track import CursorTrack
from servestream_client.session.feeder import Fed, InputFeeder
from servestream_client.session.lanes import Inlet
from servestream_client.session.source import INPUTS, InputsFailed, InputSource, begun
from servestream_client.signals import Signal, being_cancelled, start_task
from servestream_client.turns import turn_of_loop
from servestream_client.usercode import (
    annotate,
    as_value,
    contained,
    describe,
    is_a,
    type_name,
    unforeseen,
)

__all__ = ["InputPump", "UnsendableInput"]

_LONGEST_RUN = 1024


class UnsendableInput(NamedTuple):
    """Why an input is not sent.

    Attributes:
        kind: of its failure.
        text: likewise.
        size: the bytes that it counts for until the consumer has taken its failure.
        cause: what its codec raised.
    """

    kind: ItemErrorKind
    text: str
    size: int
    cause: BaseException | None = None


class InputPump:
    """Pulls, encodes and pushes inputs while there is room for them.

    Invariant: however its task ends, the session's inputs are finished, and unless they were
    exhausted `error` says why.

    It runs the caller's code, so it wants a task of its own: that gets one cancellation and then
    its time to clean up, where a cancel scope would interrupt it again and again.

    Args:
        inlet: where the inputs go.
        inputs: the caller's. From a feeder they come encoded.
        encode: item to payload; whatever it raises becomes that item's error.
        max_item_bytes: the largest payload to send.
        notify: called when the inputs are finished: the stream's end may be due.
        track: passes over inputs that are done with; None: there are none, or a feeder does.

    Raises:
        InputsError: the inputs are no iterable.
    """

    def __init__(
        self,
        *,
        inlet: Inlet,
        inputs: Iterable[object] | AsyncIterable[object] | InputFeeder[bytes | UnsendableInput],
        encode: Callable[[object], bytes],
        max_item_bytes: int,
        notify: Callable[[], None],
        track: CursorTrack | None = None,
    ) -> None:
        self.error: BaseException | None = None
        """What the iterator raised, or why nobody pulls it any more."""
        self.room: Signal = Signal()
        """To be raised when there may be room for inputs."""

        self._inlet = inlet
        self._feeder = inputs if isinstance(inputs, InputFeeder) else None
        if isinstance(inputs, SeekableInputs):
            inputs = begun(inputs.after, 0 if track is None else track.seek())
        self._source = InputSource(() if isinstance(inputs, InputFeeder) else inputs)
        self._track = track if self._feeder is None else None
        self._pulled = 0
        self._encode = direct(encode)
        self._as_is = encodes_bytes(encode)  # what is bytes already
        self._max_item_bytes = max_item_bytes
        self._notify = notify
        self._task: asyncio.Task[None] | None = None
        self._finished = False

    @property
    def pulled(self) -> int:
        """How many inputs came out of the caller's iterator."""
        return self._pulled if self._feeder is None else self._feeder.pulled

    def start(self, name: str) -> None:
        """Begin, in a task of this name."""
        self._task = start_task(self.run(), name)
        self._task.add_done_callback(self.ended)

    async def stop(self, timeout: float) -> None:
        """Pull no further, and close the caller's iterator, if it lets go within so many seconds.
        Each of the two steps may last so long.
        """
        pumping = self._task
        if pumping is None:
            return
        pumping.cancel()
        await asyncio.wait({pumping}, timeout=timeout)
        if not pumping.done():
            return  # the caller's iterator is still running, and cannot be closed
        closing = start_task(self.aclose(), f"{pumping.get_name()}, closing")
        await asyncio.wait({closing}, timeout=timeout)
        closing.cancel()

    async def at_rest(self, timeout: float) -> None:
        """Wait until nothing is pulled from the caller any more, for so many seconds at most."""
        if self._task is not None:
            await asyncio.wait({self._task}, timeout=timeout)

    async def run(self) -> None:
        """Until the inputs are exhausted, or fail. They are finished in any case."""
        try:
            if self._track is not None and self._track.left_to_pass:
                await self._pass_over(self._track)
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
        self._inlet.finish()
        self._notify()

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

    async def _pass_over(self, track: CursorTrack) -> None:
        """Read inputs that are done with, in turns with others on the event loop."""
        turn, plain = turn_of_loop(), self._source.plain
        until = turn.enter() or await turn.wait()
        try:
            while track.left_to_pass:
                if plain is None:
                    item = await turn.metered(self._source.pull())
                else:
                    item = next(plain)
                track.pass_over(item)
                if turn.clock() >= until:
                    until = turn.enter() or await turn.wait()
        except (StopIteration, StopAsyncIteration):
            pass
        except BaseException as error:
            raise self._raised(error, awaited=plain is None) from None
        finally:
            turn.leave()
        try:
            track.passed()
        except CursorMismatchError as error:
            raise InputsFailed(error) from None
        held, track.held = track.held, []
        for item in held:
            await self._place()
            await self._push(self._payload(item), item)  # which fits, or is waited for

    async def _pump_async(self) -> None:
        turn = turn_of_loop()
        while True:
            await self._place()
            if not turn.enter():
                await turn.wait()
            try:
                try:
                    item = await turn.metered(self._source.pull())
                except StopAsyncIteration:
                    return
                except BaseException as error:
                    raise self._raised(error, awaited=True) from None
                self._pulled += 1
                payload = self._payload(item)
            finally:
                turn.leave()
            if not self._inlet.fits(_size(payload)):
                await self._room_for(payload)
            sending = self._push_eagerly(payload, item)
            del item, payload  # they count where they were pushed, and are not held while waiting
            if sending is not None:
                await sending

    async def _pump_plain(self, inputs: Iterator[object]) -> None:
        turn = turn_of_loop()
        while True:
            await self._place()
            until = turn.enter() or await turn.wait()
            try:
                more, unfitting = self._push_run(inputs, turn.clock, until)
            finally:
                turn.leave()
            if unfitting is not None:
                await self._push(*unfitting)
                del unfitting  # it counts where it was pushed
            if not more:
                return
            await turn.passes()  # what was pushed can be sent, and others have their turn

    async def _pump_fed(self, feeder: InputFeeder[bytes | UnsendableInput]) -> None:
        as_is = self._max_item_bytes if self._as_is else -1
        feeder.start(self._payload, _size, as_is=as_is)
        while True:
            await self._place()
            places, room = self._inlet.room
            feeder.allow(min(places, _LONGEST_RUN), room)
            fed = await feeder.fed()
            if not fed.items:
                return
            sending = await self._push_fed(fed)
            del fed  # it counts where it was pushed
            if sending is not None:
                await sending

    async def _push_fed(self, fed: Fed[bytes | UnsendableInput]) -> Awaitable[None] | None:
        """Push what has a place already, as far as it fits in runs. What it returns is to be
        awaited, if anything: see `Inlet.push_eagerly`.
        """
        _, room = self._inlet.room
        if fed.as_is and fed.size <= room:
            plain = cast("list[bytes]", fed.payloads)
            return self._inlet.push_eagerly(plain, plain, fed.size)
        items: list[object] = []
        payloads: list[bytes] = []
        size = 0
        for item, payload in zip(fed.items, fed.payloads, strict=True):
            if isinstance(payload, bytes) and size + len(payload) <= room:
                items.append(item)
                payloads.append(payload)
                size += len(payload)
                continue
            if payloads:
                self._inlet.push_all(payloads, items, size)
            await self._push(payload, item)
            items, payloads, size = [], [], 0
            _, room = self._inlet.room
        return self._inlet.push_eagerly(payloads, items, size) if payloads else None

    async def _place(self) -> None:
        while not self._inlet.has_place:
            await self.room.wait()

    def _push_run(  # noqa: C901 — one loop, whose speed counts
        self, inputs: Iterator[object], clock: Callable[[], float], until: float
    ) -> tuple[bool, tuple[bytes | UnsendableInput, object] | None]:
        """Pull and push as many as there is room and time for, at most a run.

        Args:
            inputs: the caller's.
            clock: for `until`.
            until: none is pulled afterwards; one is in any case.

        Returns:
            Whether there may be more inputs; and one that was pulled but not pushed, if it is
            not to be sent or does not fit now.
        """
        places, room = self._inlet.room
        longest = min(_LONGEST_RUN, places)
        bound = min(room, self._max_item_bytes)
        if self._as_is:
            return self._push_bytes(inputs, longest, bound, clock, until)
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
                    return True, (self._why_not(error, item), item)
                length = len(payload) if type(payload) is bytes else bound
                if size + length >= bound:  # or else there is nothing special about it
                    checked = self._checked(payload, item)
                    if isinstance(checked, UnsendableInput) or size + len(checked) > room:
                        return True, (checked, item)
                    payload, length = checked, len(checked)
                    if size + length == room:
                        size += length
                        payloads.append(payload)
                        return True, None
                size += length
                payloads.append(payload)
                if clock() >= until:
                    return True, None
            return len(items) == longest, None
        except BaseException as error:
            if len(items) > len(payloads):
                raise  # not from the inputs
            raise self._raised(error) from None
        finally:
            self._pulled += len(items)
            if payloads:
                self._inlet.push_all(payloads, items[: len(payloads)], size)
            # They count where they were pushed. The traceback of what was raised keeps this frame.
            item, payload, checked = None, b"", b""
            del payloads, items

    def _push_bytes(
        self,
        inputs: Iterator[object],
        longest: int,
        bound: int,
        clock: Callable[[], float],
        until: float,
    ) -> tuple[bool, tuple[bytes | UnsendableInput, object] | None]:
        """The same of bytes, which are their own payloads. What is special in any way goes the
        other one's way, by itself.
        """
        payloads: list[bytes] = []
        size, look = 0, True
        try:
            for item in islice(inputs, longest):
                if type(item) is not bytes or size + len(item) >= bound:
                    self._pulled += 1
                    return True, (self._payload(item), item)
                payloads.append(item)
                size += len(item)
                # Only at every other one, and the first: two that are slow after quick ones take
                # no longer than one that is pulled and encoded.
                if look and clock() >= until:
                    return True, None
                look = not look
            return len(payloads) == longest, None
        except BaseException as error:
            raise self._raised(error) from None
        finally:
            self._pulled += len(payloads)
            if payloads:
                self._inlet.push_all(payloads, payloads, size)
            item = None  # as in the other one
            del payloads

    async def _room_for(self, payload: bytes | UnsendableInput) -> None:
        while not self._inlet.fits(_size(payload)):
            await self.room.wait()

    async def _push(self, payload: bytes | UnsendableInput, item: object) -> None:
        await self._room_for(payload)
        if isinstance(payload, UnsendableInput):
            self._push_failure(payload, item)
        else:
            self._inlet.push(payload, item)

    def _push_eagerly(
        self, payload: bytes | UnsendableInput, item: object
    ) -> Awaitable[None] | None:
        """Push what fits; see `Inlet.push_eagerly`."""
        if isinstance(payload, bytes):
            return self._inlet.push_eagerly((payload,), (item,), len(payload))
        self._push_failure(payload, item)
        return None

    def _push_failure(self, unsendable: UnsendableInput, item: object) -> None:
        kind, text, size, cause = unsendable
        self._inlet.push_failure(kind, text, item, cause, size=size)

    def _payload(self, item: object) -> bytes | UnsendableInput:
        """An item encoded, or why it cannot be sent."""
        try:
            payload = self._encode(item)
        except BaseException as error:
            return self._why_not(error, item)
        return self._checked(payload, item)

    def _checked(self, payload: object, item: object) -> bytes | UnsendableInput:
        try:
            if not isinstance(payload, bytes):
                raise TypeError(f"the codec made a {type_name(payload)}, not bytes")
            size = len(payload)
        except BaseException as error:  # the object itself may raise anything
            return self._why_not(error, item)
        if size > self._max_item_bytes:
            return UnsendableInput(
                ItemErrorKind.INPUT_TOO_LARGE,
                f"{size} bytes encoded, and FlowControl.max_item_bytes is {self._max_item_bytes}",
                size,
            )
        return payload

    def _why_not(self, error: BaseException, item: object) -> UnsendableInput:
        failure = contained(error, "the codec")
        return UnsendableInput(
            ItemErrorKind.INPUT_ENCODE, describe(failure), _item_size(item), failure
        )


def _size(payload: bytes | UnsendableInput) -> int:
    return len(payload) if isinstance(payload, bytes) else payload.size


def _item_size(item: object) -> int:
    """What an item counts for that could not be encoded. Others are not asked: they may raise."""
    if type(item) in (bytes, bytearray, str):
        return len(cast("bytes", item))
    return item.nbytes if type(item) is memoryview else UNKNOWN_BYTES
