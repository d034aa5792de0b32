"""The ledger of a stream: its inputs, from their acceptance until the consumer has their answer.

Invariant: each input that was accepted is in exactly one of these places. It is *carried* (it waits
for its frame, or is in flight: each attempt says which), *elsewhere* (in quarantine, or decided
before its turn), or *settled* (answered). What the window has room for is said here (`fits`,
`room`), and asked before anything is accepted. What a resume needs is here and nowhere else: an
attempt takes a copy with it (`resume`), and dies with it. Of a stateful stream the answered inputs
that a state does not cover are its `fold`'s, and count in the window like those without an answer.

Longer than other files: each place of an input counts in the window, which has its rules here.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from servestream_client.config import FlowControl
from servestream_client.errors import LocalProtocolError
from servestream_client.protocol.client.fold import Fold
from servestream_client.protocol.client.partial import Partial
from servestream_client.protocol.continuation import ResumeTerms
from servestream_client.protocol.numbers import NumberSet
from servestream_client.protocol.replay import OrderedReplay, UnorderedReplay
from servestream_client.protocol.runs import Run
from servestream_client.protocol.state import KEPT_WINDOWS

__all__ = ["UNKNOWN_BYTES", "Ledger"]

UNKNOWN_BYTES = 64 * 1024
"""What an input counts for that failed before it had a size."""

_DEFAULT_WINDOW = FlowControl().window_items
_FIRST_WINDOW = 4096
"""Inputs that the default window has room for at first. What a user says holds at once."""


class Ledger:
    """The inputs of one stream.

    Args:
        flow: the window that holds here, whatever a server allows.
        ordered: whether answers come in the order of the inputs.
        frees_places: whether an input is done with once it is answered, and not only when its
            answer is taken: each has a consumer of its own.
    """

    __slots__ = (
        "_cancelled",
        "_charges",
        "_dropped_sizes",
        "_failed_bytes",
        "_frees_places",
        "_places",
        "_taken",
        "accepted",
        "before",
        "decided",
        "farthest",
        "finished",
        "fold",
        "known_good",
        "lent",
        "most_items",
        "ordered",
        "partials",
        "quarantined",
        "replay",
        "sent_through",
        "share",
        "window_bytes",
        "window_items",
    )

    def __init__(self, flow: FlowControl, *, ordered: bool, frees_places: bool = False) -> None:
        self._frees_places = frees_places
        self.most_items: int = flow.window_items
        """What the window has room for at the most."""
        self.window_items: int = self._first_window
        """Inputs whose outputs are not taken; see `open_window`."""
        self.window_bytes: int = flow.window_bytes
        """Payloads that are kept, in bytes."""
        self.ordered: bool = ordered
        self.replay: OrderedReplay | UnorderedReplay = (
            OrderedReplay() if ordered else UnorderedReplay()
        )
        """The unanswered inputs. With something special about them:"""
        self.partials: dict[int, Partial] = {}
        """Received in part: what it takes to go on."""
        self.decided: dict[int, bool] = {}
        """Answered before their turn, or without a server: whether one may have got the input."""
        self.quarantined: set[int] = set()
        """Answered on another stream."""
        self.lent: set[int] = set()
        """Carried, and on a lane as well: whichever answers first has answered it."""
        self._cancelled: set[int] = set()
        self._dropped_sizes: dict[int, int] = {}  # cancelled: the size that its payload had
        self._charges: dict[int, int] = {}  # never sendable: what it counts for

        self.before: int = 0
        """How many inputs were done with before the stream began."""
        self.accepted: int = 0
        """How many inputs there are, those before the stream included: the last one's number."""
        self.sent_through: int = 0
        """Every input up to this one was sent at least once, or failed on this side."""
        self.finished: bool = False
        """No further inputs will come."""
        self.fold: Fold | None = None
        """Of a stateful stream: what it takes to go on with its state."""
        self.share: int | None = None
        """How many inputs the stream's own attempts have in flight at the most, since others go on
        its lanes; None: as many as a server takes."""
        self.farthest: int | None = None
        """How many inputs there may be behind the first ones with which the consumer is done; None:
        no matter. Those in between are few by `window_items`, but not where they are."""
        self.known_good: tuple[int, bytes] | None = None
        """The first input that a server answered: the control when suspects are isolated."""
        self._places = 0  # inputs whose last output the consumer has not taken, or that lack one
        self._failed_bytes = 0  # what failed inputs count for, until they are taken
        self._taken = NumberSet()

    # ---------------------------------------------------------------- the window

    @property
    def has_place(self) -> bool:
        """Whether the user's iterator may be pulled for one more input (docs section 6)."""
        return (
            self._places < self.window_items
            and self.kept_bytes < self.window_bytes
            and not self._too_far
            and (self.fold is None or self._uncovered < self._most_uncovered)
        )

    @property
    def _uncovered(self) -> int:
        """Of a stateful stream: the inputs that it may have to send."""
        return len(self.replay) + (0 if self.fold is None else len(self.fold))

    @property
    def _most_uncovered(self) -> int:
        return self.most_items * KEPT_WINDOWS

    @property
    def _first_window(self) -> int:
        return _FIRST_WINDOW if self.most_items == _DEFAULT_WINDOW else self.most_items

    def open_window(self, quick: int) -> None:
        """So many full frames were acknowledged soon on an attempt: the default window opens with
        each. More than a quick server needs would only take memory, of which many streams have
        little. It does not close again: somebody may be about to use the room that there was.
        """
        opened = min(self.most_items, self._first_window << min(quick, 8))
        self.window_items = max(self.window_items, opened)

    @property
    def crowded(self) -> bool:
        """Whether what a stateful stream may have to send again leaves no room for more inputs."""
        fold = self.fold
        full = self._uncovered >= self._most_uncovered or self.kept_bytes >= self.window_bytes
        return fold is not None and (full or fold.short) and not self.finished

    @property
    def _too_far(self) -> bool:
        return self.farthest is not None and self.accepted - self._taken.through >= self.farthest

    @property
    def done(self) -> NumberSet:
        """The inputs with which the consumer is done. To look at."""
        return self._taken

    @property
    def kept_bytes(self) -> int:
        """What counts against the window in bytes: payloads that may have to be sent again, and
        the inputs that failed, until the consumer has taken that.
        """
        kept = self.replay.size + self._failed_bytes
        return kept if self.fold is None else kept + self.fold.size

    @property
    def room(self) -> tuple[int, int]:
        """How many inputs, and of how many bytes together, may be pushed now. See `fits`."""
        places = self.window_items - self._places
        if self.farthest is not None:
            places = min(places, self.farthest - (self.accepted - self._taken.through))
        if self.fold is not None:
            places = min(places, self._most_uncovered - self._uncovered)
        return places, self.window_bytes - self.kept_bytes

    def fits(self, size: int) -> bool:
        """Whether an input of `size` bytes may be pushed now; one is allowed whatever its size."""
        if self.fold is not None:
            fits = self.kept_bytes + size <= self.window_bytes or not (
                self._uncovered or self._failed_bytes
            )
            fits = fits and self._uncovered < self._most_uncovered
            self.fold.short = not fits
            return fits and self._places < self.window_items
        kept = self.replay.size + self._failed_bytes  # `kept_bytes`, which is asked for each item
        return self._places < self.window_items and (
            kept + size <= self.window_bytes or not (self.replay or self._failed_bytes)
        )

    # ---------------------------------------------------------------- in

    def append(self, payloads: Sequence[bytes], items: Sequence[object], size: int) -> int:
        """Accept inputs, at least one, and return the first one's number. See `room`.

        Args:
            payloads: as the codec made them.
            items: as many, handed back with a failure of their input.
            size: of the payloads together.
        """
        self._check_unfinished()
        first = self.accepted + 1
        count = len(payloads)
        self.accepted += count
        self._places += count
        self.replay.append(first, payloads, items, size)
        return first

    def in_part(self, number: int) -> bool:
        """Whether outputs of an input were received, and it is not answered."""
        return number in self.partials and number not in self.decided

    def next_index(self, number: int) -> int:
        """The index of the first output of an input that is missing."""
        partial = self.partials.get(number)
        return 0 if partial is None else partial.index

    def partial(self, number: int, terms: ResumeTerms, limit: int) -> Partial:
        """What was received of an input; begun on these terms, if nothing was. See `Partial`."""
        partial = self.partials.get(number)
        if partial is None:
            partial = self.partials[number] = Partial(terms, limit)
        return partial

    def append_at(self, number: int, payload: bytes) -> None:
        """Accept one input under a number of the caller's, which is not unanswered. Only where
        answers come in any order.
        """
        self._check_unfinished()
        accepted, self.accepted = self.accepted, number - 1
        self.append((payload,), (None,), len(payload))
        self.accepted = max(accepted, number)

    def _check_unfinished(self) -> None:
        if self.finished:
            raise LocalProtocolError("input after finish()")

    def begin_behind(self, position: int) -> None:
        """The inputs up to there were answered, and their outputs taken, before the stream began.
        Only of an ordered stream, before any input.
        """
        if not isinstance(self.replay, OrderedReplay) or self.accepted:
            raise LocalProtocolError("begin_behind needs an ordered stream that has no inputs")
        self.before = self.accepted = self.sent_through = position
        self.replay.head = position + 1
        self._taken.add_run(1, position)

    def append_unsendable(self, item: object, size: int) -> int:
        """Accept an input that cannot be sent, and return its number. It is to be decided next.

        Args:
            item: handed back with its failure.
            size: the bytes that it counts for until the consumer has taken that.
        """
        number = self.append((b"",), (item,), 0)
        self._charges[number] = size
        self._failed_bytes += size
        return number

    def finish(self) -> None:
        """No further inputs will come."""
        self.finished = True

    # ---------------------------------------------------------------- what is known of an input

    def elsewhere(self, number: int) -> bool:
        """Whether an unanswered input needs no answer of the present attempt's server."""
        return number in self.decided or number in self.quarantined

    def carries(self, number: int) -> bool:
        """Whether an attempt is to carry this input, or does."""
        return number in self.replay and not self.elsewhere(number)

    def is_cancelled(self, number: int) -> bool:
        """Whether nobody wants the outputs of this input any more."""
        return number in self._cancelled

    def payload(self, number: int) -> bytes:
        """Of an unanswered input; empty if it was cancelled."""
        return self.replay.payload(number)

    def size_sent(self, number: int) -> int:
        """Of an unanswered input's payload, as it was sent."""
        stripped = self._dropped_sizes.get(number)
        return len(self.replay.payload(number)) if stripped is None else stripped

    # ---------------------------------------------------------------- what is known of all

    @property
    def turn(self) -> int:
        """The input that the consumer waits for; 0 where answers come in any order."""
        return self.replay.head if isinstance(self.replay, OrderedReplay) else 0

    @property
    def unanswered(self) -> int:
        """How many inputs still lack their last output."""
        return len(self.replay)

    @property
    def unsent(self) -> int:
        """How many unanswered inputs were never sent."""
        waiting = sum(
            number > self.sent_through and number not in self.decided for number, _ in self.replay
        )
        return waiting + sum(not sent for sent in self.decided.values())

    @property
    def taken_through(self) -> int:
        """Every input up to this one is answered, and its outputs were taken, unless each has a
        consumer of its own.
        """
        return self._taken.through

    @property
    def complete(self) -> bool:
        """Every input there will ever be is answered. Outputs may still wait to be taken."""
        return self.finished and not self.replay

    def resume(self) -> Iterator[Run]:
        """What an attempt that begins has to carry: everything unanswered that is not elsewhere,
        ascending, under its old numbers, from the first output that is missing; of a stateful
        stream, everything behind its state, each from the beginning.
        """
        if self.fold is not None:
            yield from self.fold.kept
        for number, payload in self.replay:
            if self.elsewhere(number):
                continue
            partial = self.partials.get(number)
            if partial is None or self.fold is not None:
                yield Run(number, (payload,), len(payload))
            else:
                yield Run(number, (payload,), len(payload), partial.index, partial.resume())

    @property
    def cancelled_and_carried(self) -> list[int]:
        """The cancelled inputs that no later attempt is to carry, ascending."""
        return sorted(self._cancelled - self.decided.keys() - self.quarantined)

    # ---------------------------------------------------------------- from place to place

    def note_sent(self, first: int, count: int) -> int:
        """Consecutive inputs go out; returns how many of them had gone out before."""
        replayed = min(count, max(0, self.sent_through - first + 1))
        self.sent_through = max(self.sent_through, first + count - 1)
        return replayed

    def cancel(self, number: int) -> bool:
        """Nobody wants the outputs of this input any more: its payload and item are let go at once.

        Returns:
            Whether it is carried, and so something has to be done about it.
        """
        if number not in self.replay or number in self._cancelled or number in self.decided:
            return False
        self._cancelled.add(number)
        self._dropped_sizes[number] = self.replay.drop_payload(number)
        return number not in self.quarantined  # the stream that tries that gives the answer

    def quarantine(self, numbers: Iterable[int], *, in_part: bool = False) -> list[int]:
        """Have inputs answered on another stream. No attempt that begins later carries them.

        Args:
            numbers: of those that it may concern.
            in_part: also such of which outputs came.

        Returns:
            Which of them it concerns: of these, those that lack an answer, and that no lane has as
            well, which would answer what is tried.
        """
        moved = [
            number
            for number in numbers
            if self.carries(number)
            and number not in self.lent
            and (in_part or number not in self.partials)
        ]
        self.quarantined.update(moved)
        return moved

    def decide(self, number: int, *, sent: bool) -> None:
        """There is an answer to this input, which waits for its turn.

        Args:
            number: of a carried input, or of one in quarantine.
            sent: a server may have got it.
        """
        self.quarantined.discard(number)
        self.decided[number] = sent

    def drop_decided(self) -> None:
        """The answers that wait for their turn are dropped: there will be no further attempt."""
        self.decided.clear()

    def settle(self, first: int, count: int = 1) -> int:
        """Forget inputs that are answered, and return the size of their payloads as sent."""
        size = self.replay.remove(first, count)
        if self._frees_places:
            self._places -= count
            self._taken.add_run(first, count)
        if self.lent:
            self.lent.difference_update(range(first, first + count))
        if self.partials or self.decided or self._cancelled:
            for number in range(first, first + count):
                size += self._dropped_sizes.pop(number, 0)
                self.partials.pop(number, None)
                self.decided.pop(number, None)
                self._cancelled.discard(number)
        return size

    def note_good(self, number: int) -> None:
        """A server has answered this input, which is not settled yet."""
        if number in self.replay and number not in self._dropped_sizes:
            self.known_good = number, self.replay.payload(number)

    def hand_back(self, number: int) -> tuple[object, int]:
        """Of an input that failed, and is not settled yet: what `append` was given with it, and
        the bytes that it counts for until it is `taken`.
        """
        size = self._charges.pop(number, None)
        if size is None:
            size = len(self.replay.payload(number))
            self._failed_bytes += size
        return self.replay.item(number), size

    def taken(self, first: int, count: int = 1, failed_bytes: int = 0) -> None:
        """The consumer has the last outputs of these inputs, which are settled.

        Args:
            first: the first one's number.
            count: how many they are.
            failed_bytes: what they counted for, if they failed.
        """
        if not self._frees_places:
            self._places -= count
        self._failed_bytes -= failed_bytes
        self._taken.add_run(first, count)

    def drop(self, number: int) -> Partial | None:
        """Forget an unanswered input, of which nothing more will be delivered here. Returns what it
        takes to go on with it, if anything came.
        """
        partial = self.partials.get(number)
        self.settle(number)
        self.taken(number)
        return partial

    def drop_payloads(self) -> None:
        """There will be no further attempt: of what lacks an answer, keep the numbers only."""
        self.replay.drop_payloads()
        self.known_good = None
        self.fold = None
        for partial in self.partials.values():
            partial.drop()
