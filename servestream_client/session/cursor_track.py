"""The way of a stream's inputs to a cursor.

Invariant: `_digest` is of the first inputs, no more than those that the consumer is done with, and
`_marks` has what a digest has of each one behind these that was pushed or passed over.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import deque
from collections.abc import Awaitable, Callable, Generator, Iterator, Sequence
from itertools import islice

from servestream_client.cursor import (
    BLOCK,
    NO_INPUTS,
    Cursor,
    CursorState,
    InputDigest,
    Job,
    marked,
    marks,
)
from servestream_client.errors import CursorMismatchError, ItemErrorKind
from servestream_client.protocol.client import ClientSession
from servestream_client.protocol.numbers import NumberSet
from servestream_client.session.lanes import Inlet, Wakes

__all__ = ["CursorTrack", "TrackedInlet"]


class CursorTrack:
    """See the module. Inputs that are passed over may be so in another thread than the rest.

    Args:
        start: where the stream begins.
        job: of the stream.
        encode: its codec's.
        max_item_bytes: the largest payload that is sent.

    Raises:
        CursorMismatchError: the cursor is one of another job.
    """

    def __init__(
        self,
        start: Cursor,
        job: Job,
        encode: Callable[[object], bytes],
        max_item_bytes: int,
    ) -> None:
        if start.job is not None:
            start.job.check(job)
        self.held: list[object] = []
        """Inputs among those passed over that are not done with: they come first."""
        self.restored: list[tuple[int, bytes]] = []
        """Inputs among those passed over that are computed again: they are between the state with
        which the stream goes on, and where it begins."""
        self.start: Cursor = start
        """Where the stream begins."""
        self._job = job
        # The numbers of a stream that goes on with a state are those of all inputs.
        self._offset = start.position if start.state is None else 0
        self._failed = NumberSet()
        for first, last in () if start.state is None else start.state.failed:
            self._failed.add_run(first, last - first + 1)
        self._encode = encode
        self._max_item_bytes = max_item_bytes
        self._digest = InputDigest()
        self._marks: deque[bytes] = deque()
        self._ahead = self._digest  # as far as one was asked for
        self._passed = 0
        self._sure = not start.through  # that the inputs passed over are those of the cursor
        self._again = 0  # held ones, which are pushed now
        self._beyond = NumberSet()
        for first, last in start.beyond:
            self._beyond.add_run(first, last - first + 1)
        left_out = [n for first, last in start.beyond for n in range(first, last + 1)]
        # Of those that are left out, how many come before the n-th that is not.
        self._gaps = [n - start.position - place for place, n in enumerate(left_out)]

    # ---------------------------------------------------------------- in

    def note(self, payload: bytes | None) -> None:
        """An input is about to be pushed; None: one that could not be encoded, or is too large."""
        if self._again:
            self._again -= 1
            return
        self._marks.append(marked(payload))

    def note_all(self, payloads: Sequence[bytes]) -> None:
        """The same of several."""
        if self._again:
            for payload in payloads:
                self.note(payload)
            return
        self._marks.extend(marks(payloads))

    def seek(self) -> int:
        """The inputs begin where they are to be read: behind how many. That is where a block
        begins, from which on digests can be made, or before that the state.
        """
        begun = self.start.position - self.start.position % BLOCK
        self._digest = InputDigest(begun, self.start.block)
        state = self.start.state
        self._passed = begun if state is None else min(begun, state.number)
        self._sure = not self.left_to_pass
        return self._passed

    @property
    def left_to_pass(self) -> int:
        """How many inputs are passed over before the first one that is sent."""
        return self.start.through - self._passed

    @property
    def left_out(self) -> int:
        """How many inputs are done with before this stream begins, and it does not count."""
        return self._offset + len(self._gaps)

    def pass_over(self, item: object) -> None:
        """An input that is done with, or is among those."""
        self._passed += 1
        try:
            payload: object = self._encode(item)
        except Exception:
            payload = None
        if not isinstance(payload, bytes) or len(payload) > self._max_item_bytes:
            payload = None
        self._pass(item, payload)

    def _pass(self, item: object, payload: bytes | None) -> None:
        state, position = self.start.state, self.start.position
        if (
            state is not None
            and payload is not None
            and state.number < self._passed <= position
            and self._passed not in self._failed
        ):
            self.restored.append((self._passed, payload))
        if self._passed <= self._digest.count:
            return  # before the block where digests begin
        self._marks.append(marked(payload))
        if self._passed > position:
            if self._passed not in self._beyond:
                self.held.append(item)
        elif self._passed == position or len(self._marks) == BLOCK:
            self._go_to(self._passed)
            if self._passed == position and self._digest.value != self.start.digest:
                raise _others(position)

    def passed(self) -> None:
        """There is no more to pass over, or there are no more inputs.

        Raises:
            CursorMismatchError: they are others than those of the cursor.
        """
        if self.left_to_pass:
            raise CursorMismatchError(
                f"the inputs ended after {self._passed:,}, but the cursor has passed"
                f" {self.start.through:,}: they are not those it was made with"
            )
        if self.start.beyond and self._digest_to(self.start.through) != self.start.digest_beyond:
            raise _others(self.start.through)
        self._again = len(self.held)
        self._sure = True

    def rest(self, iterator: Iterator[object]) -> Iterator[object]:
        """All that is to be sent, of plain inputs."""
        try:
            for item in islice(iterator, self.left_to_pass):
                self.pass_over(item)
            self.passed()
            held, self.held = self.held, []
            yield from held
            yield from iterator
        finally:
            if isinstance(iterator, Generator):
                iterator.close()

    # ---------------------------------------------------------------- out

    def number_of(self, sent: int) -> int:
        """Which of all inputs the n-th one of this stream is."""
        return self._offset + sent + bisect_right(self._gaps, sent)

    def trim(self, taken: NumberSet) -> None:
        """Forget what no cursor will tell any more."""
        if self._sure:
            self._go_to(self._through(taken))

    def _through(self, taken: NumberSet) -> int:
        """The first inputs that are done with, those before this stream included."""
        sent = taken.through
        # What comes next in the stream is behind those that were left out before it.
        return self.number_of(sent + 1) - 1

    def _go_to(self, position: int) -> None:
        count = min(position - self._digest.count, len(self._marks))
        if count > 0:
            take = self._marks.popleft
            self._digest.add([take() for _ in range(count)])

    def _digest_to(self, position: int) -> bytes:
        begun, ahead = self._digest.count, self._ahead
        if not begun <= ahead.count <= position or ahead is self._digest:
            ahead = self._digest.copy()
        ahead.add(list(islice(self._marks, ahead.count - begun, position - begun)))
        self._ahead = ahead
        return ahead.value

    def cursor(
        self,
        taken: NumberSet,
        *,
        without: int | None,
        state_at: Callable[[int], CursorState | None] = lambda _: None,
    ) -> Cursor:
        """Where the consumer is.

        Args:
            taken: the inputs of this stream that it is done with, by their numbers in it.
            without: one of these of which it is not: its failure was raised.
            state_at: what a cursor at a position holds of a stateful stream; None: no state.
        """
        if not self._sure:  # they are still being passed over, or others
            return self.start
        if without is not None:
            taken = taken.without(without)
        self._go_to(self._through(taken))
        beyond = NumberSet()
        for first, last in self.start.beyond:
            beyond.add_run(first, last - first + 1)
        for first, last in taken.beyond:
            for sent in range(first, last + 1):
                beyond.add(self.number_of(sent))
        position = self._digest.count
        beyond.add_run(1, position)
        ranges = tuple(beyond.beyond)
        return Cursor(
            position=position,
            beyond=ranges,
            digest=self._digest.value,
            digest_beyond=self._digest_to(ranges[-1][1]) if ranges else NO_INPUTS,
            job=self._job,
            block=self._digest.block,
            state=state_at(position),
        )


class TrackedInlet(Inlet):
    """Where inputs go in that are noted for cursors."""

    __slots__ = ("_track",)

    def __init__(self, session: ClientSession, stream: Wakes, track: CursorTrack) -> None:
        super().__init__(session, stream)
        self._track = track

    def _restore(self) -> None:
        """What is computed again comes before all that is new, and takes its room."""
        restored = self._track.restored
        if restored:
            for number, payload in restored:
                self.restore(number, payload)
            restored.clear()

    @property
    def has_place(self) -> bool:
        self._restore()
        return super().has_place

    @property
    def room(self) -> tuple[int, int]:
        self._restore()
        return super().room

    def fits(self, size: int) -> bool:
        self._restore()
        return super().fits(size)

    def push(self, payload: bytes, item: object = None) -> int:
        self._restore()
        self._track.note(payload)
        return super().push(payload, item)

    def push_all(self, payloads: Sequence[bytes], items: Sequence[object], size: int) -> None:
        self._restore()
        self._track.note_all(payloads)
        super().push_all(payloads, items, size)

    def push_eagerly(
        self, payloads: Sequence[bytes], items: Sequence[object], size: int
    ) -> Awaitable[None] | None:
        self._restore()
        self._track.note_all(payloads)
        return super().push_eagerly(payloads, items, size)

    def push_failure(
        self,
        kind: ItemErrorKind,
        text: str,
        item: object,
        cause: BaseException | None,
        *,
        size: int,
    ) -> None:
        self._restore()
        self._track.note(None)
        super().push_failure(kind, text, item, cause, size=size)

    def finish(self) -> None:
        self._restore()
        super().finish()


def _others(count: int) -> CursorMismatchError:
    return CursorMismatchError(
        f"the inputs are not those the cursor was made with: among the first {count:,}, some have"
        " changed, the codec encodes them differently, or `max_item_bytes` is another"
    )
