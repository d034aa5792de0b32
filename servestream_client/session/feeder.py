"""Inputs of plain code: their iterator runs in a thread of its own, where it may block."""

from __future__ import annotations

import asyncio
import contextvars
import logging
import threading
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from typing import Generic, NamedTuple, TypeVar, cast

from servestream_client.cursor import SeekableInputs
from servestream_client.errors import InputsError
from servestream_client.portal import crossing
from servestream_client.session.cursor_track import CursorTrack
from servestream_client.session.source import INPUTS, InputsFailed, begun, check_inputs
from servestream_client.signals import Signal
from servestream_client.usercode import contained, report, type_name

__all__ = ["Fed", "InputFeeder"]

logger: logging.Logger = logging.getLogger(__name__)

BUSY_SECONDS = 0.2
"""How long the end of a stream waits for inputs that are just being pulled: nobody can interrupt
them, and they may take for ever."""

Payload = TypeVar("Payload")


class Fed(NamedTuple, Generic[Payload]):
    """Inputs that were pulled.

    Attributes:
        items: as they came.
        payloads: as many.
        size: what the payloads count for together.
        as_is: whether each item is bytes, and its own payload.
    """

    items: Sequence[object]
    payloads: Sequence[Payload]
    size: int
    as_is: bool


class InputFeeder(Generic[Payload]):
    """Pulls and encodes in a thread, no more than it was allowed to; hands over what there is.

    The thread is a daemon, and starts when it is first allowed anything. It runs in a copy of the
    context in which the feeder was made.

    Args:
        inputs: the caller's.
        track: passes over those that are done with; None: there are none.

    Attributes:
        pulled: how many inputs came out of the caller's iterator.

    Raises:
        InputsError: they are no iterable.
    """

    def __init__(self, inputs: Iterable[object], track: CursorTrack | None = None) -> None:
        check_inputs(inputs)
        if isinstance(inputs, SeekableInputs):
            # What is asynchronous is told below.
            after = cast("Callable[[int], Iterable[object]]", inputs.after)
            inputs = begun(after, 0 if track is None else track.seek())
        if not hasattr(type(inputs), "__iter__") and not hasattr(type(inputs), "__getitem__"):
            raise InputsError(
                f"the inputs must be an iterable, not a {type_name(inputs)}; async iterables"
                " are for StreamClient"
            )
        self.pulled: int = 0
        self._inputs: Iterator[object] = begun(iter, inputs)
        if track is not None and track.left_to_pass:
            self._inputs = track.rest(self._inputs)
        self._context = contextvars.copy_context()
        self._encode: Callable[[object], Payload] | None = None
        self._size: Callable[[Payload], int] = lambda _: 0
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None

        # Each of these is written by one side only. The thread waits for `_turn` when it may not
        # pull, and the event loop for `_arrived` when there is nothing.
        # What is its own payload stands there by itself. It is taken from the front, while the
        # thread appends: each is a single step.
        self._fed: list[bytes | tuple[object, Payload, int]] = []
        self._as_is = -1  # up to which size bytes are their own payloads
        self._turn = threading.Condition()
        self._most_inputs = 0  # to be pulled in all
        self._most_bytes = 0  # likewise; the last input may exceed it
        self._taken = 0
        self._bytes_fed = 0
        self._bytes_taken = 0
        self._closing = False
        self._busy = False  # the caller's code is running
        self._error: BaseException | None = None
        self._ended = False
        self._told = False  # the event loop, that there is something
        self._arrived = Signal()

    # ---------------------------------------------------------------- from the event loop

    def start(
        self,
        encode: Callable[[object], Payload],
        size: Callable[[Payload], int],
        *,
        as_is: int = -1,
    ) -> None:
        """Say how items are encoded, and what a payload counts for. Nothing is pulled yet.

        Args:
            encode: makes payloads.
            size: of one, in bytes.
            as_is: bytes of that size at the most are their own payloads; -1: none are.
        """
        self._encode, self._size, self._as_is = encode, size, as_is
        self._loop = asyncio.get_running_loop()

    def allow(self, inputs: int, size: int) -> None:
        """Let so many inputs and bytes be pulled beyond those handed over; at least one input."""
        with self._turn:
            self._most_inputs = self._taken + inputs
            self._most_bytes = self._bytes_taken + max(1, size)
            self._turn.notify()
        if self._thread is None:
            thread = threading.Thread(
                target=self._context.run,
                args=(self._feed,),
                name="servestream inputs",
                daemon=True,
            )
            thread.start()
            self._thread = thread  # now that it runs, and will say when it ends

    async def fed(self) -> Fed[Payload]:
        """Items and their payloads, as soon as there are any; none at the end.

        Raises:
            InputsFailed: the inputs raised; those before it are handed over.
        """
        while True:
            self._told = False
            if count := len(self._fed):
                fed = self._fed[:count]
                del self._fed[:count]
                self._taken += count
                taken = _sorted_out(fed)
                self._bytes_taken += taken.size
                return taken
            if self._ended:
                if self._fed:
                    continue  # they came just before the end
                if self._error is not None:
                    raise InputsFailed(self._error)
                return Fed([], [], 0, as_is=True)
            await self._arrived.wait()

    async def aclose(self) -> None:
        """Pull no further, and let a generator run its `finally` blocks in its thread.

        Waits for it, unless the caller's code is busy with the next input: that may block for as
        long as it likes.
        """
        with self._turn:
            self._closing = True
            self._turn.notify()
        self._fed.clear()
        if self._thread is None:
            self._close_inputs()
            return
        loop = asyncio.get_running_loop()
        patience = loop.time() + BUSY_SECONDS
        while True:
            self._told = False  # first, or the thread might end without a word
            if self._ended:
                return
            if self._busy and loop.time() >= patience:
                logger.info("inputs are blocked; their thread ends as soon as they return")
                return
            try:
                async with asyncio.timeout(BUSY_SECONDS):
                    await self._arrived.wait()
            except TimeoutError:
                continue

    # ---------------------------------------------------------------- in the thread

    def _feed(self) -> None:
        try:
            while self._may_pull():
                self._busy = True
                if not self._pull():
                    return
                self._busy = False
        except BaseException as error:  # whatever it is, it is the caller's
            self._error = contained(error, INPUTS)
        finally:
            self._busy = False
            try:
                self._close_inputs()
            finally:
                if self._closing:
                    self._fed.clear()  # nobody takes them
                self._ended = True
                self._tell()

    def _pull(self) -> bool:
        """Pull what may be pulled now; False: the inputs have ended."""
        inputs, as_is = self._inputs, self._as_is
        item: object = None
        try:
            while True:
                try:
                    item = next(inputs)
                except StopIteration:
                    return False
                self.pulled += 1
                if type(item) is bytes and len(item) <= as_is:
                    self._bytes_fed += len(item)
                    self._fed.append(item)
                else:
                    self._encode_one(item)
                if not self._told:
                    self._tell()
                if self._closing or not self._has_room():
                    return True
        finally:
            item = None  # the traceback of what was raised keeps this frame

    def _close_inputs(self) -> None:
        inputs, self._inputs = self._inputs, iter(())
        _close(inputs)

    def _may_pull(self) -> bool:
        if not self._has_room():
            # A finaliser that the garbage collector runs here must not wait for the event loop,
            # which may be waiting for this lock.
            with crossing(), self._turn:
                self._turn.wait_for(lambda: self._closing or self._has_room())
        return not self._closing

    def _has_room(self) -> bool:
        return self.pulled < self._most_inputs and self._bytes_fed < self._most_bytes

    def _encode_one(self, item: object) -> None:
        assert self._encode is not None  # noqa: S101 — `start` comes before `allow`
        payload = self._encode(item)
        size = self._size(payload)
        self._bytes_fed += size
        self._fed.append((item, payload, size))

    def _tell(self) -> None:
        if self._told or self._loop is None:
            return
        self._told = True
        try:
            self._loop.call_soon_threadsafe(self._arrived.set)
        except RuntimeError:  # the loop is gone, and with it what might listen
            self._closing = True


def _sorted_out(fed: list[bytes | tuple[object, Payload, int]]) -> Fed[Payload]:
    if set(map(type, fed)) == {bytes}:
        plain = cast("list[bytes]", fed)
        return Fed(plain, plain, sum(map(len, plain)), as_is=True)  # type: ignore[arg-type]
    each = [(one, one, len(one)) if isinstance(one, bytes) else one for one in fed]
    items, payloads, sizes = zip(*each, strict=True)
    return Fed(items, payloads, sum(sizes), as_is=False)


def _close(inputs: object) -> None:
    if isinstance(inputs, Generator):
        try:
            inputs.close()
        except BaseException as error:
            failure = contained(error, INPUTS)
            report(logger, logging.WARNING, "closing the inputs failed", failure)
