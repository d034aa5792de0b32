"""What one attempt knows of a stateful stream: what it sends again, what counts, what it asks for.

Invariant: an input that was sent counts until its answer has come, and its payload until the state
covers it or its failure has come. A state is asked for once while the window is full, and again
after what comes of that.
"""

from __future__ import annotations

from servestream_client.errors import RemoteProtocolError
from servestream_client.protocol.client.fold import Fold
from servestream_client.protocol.client.in_flight import InFlight
from servestream_client.protocol.client.ledger import Ledger
from servestream_client.protocol.continuation import DIGEST_BYTES
from servestream_client.protocol.frames import Limits, Position, ServerFrame, StateToken
from servestream_client.protocol.runs import Run, RunQueue
from servestream_client.protocol.state import KEPT_WINDOWS

__all__ = ["AttemptFold"]


class AttemptFold:
    """The stateful side of one attempt.

    Args:
        ledger: the stream's inputs; it has a fold.
        in_flight: what the attempt has sent.

    Attributes:
        emit_from: the first output that was missing when the attempt began.
        items: inputs that it has sent, and that no state covers.
        bytes: of their payloads.
        declined: whether the server has said that there is no state to be had now.
    """

    __slots__ = (
        "_asked",
        "_in_flight",
        "_leaves",
        "_ledger",
        "_want",
        "bytes",
        "declined",
        "emit_from",
        "fold",
        "items",
    )

    def __init__(self, ledger: Ledger, in_flight: InFlight) -> None:
        fold = ledger.fold
        assert fold is not None  # noqa: S101 — or there would be no need of this
        self._ledger = ledger
        self._in_flight = in_flight
        self.fold: Fold = fold
        number = fold.answered_through + 1
        head = next(iter(ledger.partials), number)
        self.emit_from: Position = Position(head, ledger.next_index(head))
        self.items: int = in_flight.items
        self.bytes: int = in_flight.bytes
        self.declined: bool = False
        self._asked = False  # since the last state came
        self._leaves = False
        self._want = False  # it is to be said with the next frame

    # ---------------------------------------------------------------- out

    def opening(self) -> tuple[StateToken | None, Position | None, bytes]:
        """What the open frame says: the state, the first missing output, and the digest of those
        between.
        """
        fold, missing = self.fold, self.emit_from
        if missing == Position(1) and fold.token is None:
            return None, None, b""
        partial = self._ledger.partials.get(missing.number)
        token = fold.token and StateToken(fold.token.number, fold.token.token)
        return token, missing, fold.digest(None if partial is None else partial.digest)

    def fitting(self, run: Run, limits: Limits) -> int:
        """How many of a run's inputs, from the first on, the window has room for: one if it is
        empty.
        """
        unanswered = limits.window_items - self._in_flight.items + self._answered(run)
        kept = limits.window_items * KEPT_WINDOWS - self.items
        count = min(unanswered, kept, run.within(limits.window_bytes - self.bytes))
        return max(count, self.items == 0)

    def sent(self, run: Run) -> int:
        """These go out; returns how many of them are answered already."""
        self.items += len(run.payloads)
        self.bytes += run.size
        return self._answered(run)

    def _answered(self, run: Run) -> int:
        """How many of a run's inputs are sent again, with their answers there."""
        return max(0, min(run.last + 1, self.emit_from.number) - run.first)

    def look(self, unsent: RunQueue, limits: Limits | None, *, leaves: bool) -> bool:
        """Whether a state is to be asked for with the next frame.

        Args:
            unsent: what waits.
            limits: the server's.
            leaves: the attempt is to take leave of a server that stays.
        """
        self._leaves |= leaves
        if self._asked or limits is None or not self.items:
            return self._want
        full = (unsent and not self.fitting(unsent.head, limits)) or self._ledger.crowded
        if self._leaves or (full and (not self._in_flight.items or self._frees_much(limits))):
            self._asked = self._want = True
        return self._want

    def _frees_much(self, limits: Limits) -> bool:
        """Whether a state would make room for most of a window. Where inputs wait all the time, it
        is always full, and a state that makes little room would be asked for again at once.
        """
        items = min(limits.window_items, self._ledger.most_items) * KEPT_WINDOWS
        size = min(limits.window_bytes, self._ledger.window_bytes)
        return 4 * len(self.fold) >= 3 * items or 4 * self.fold.size >= 3 * size

    def ask_again(self) -> None:
        """What was asked for may be lost on the way, or the question."""
        self._want |= self._asked

    def take_want(self) -> bool:
        """Whether the frame now made asks for a state."""
        want, self._want = self._want, False
        return want

    # ---------------------------------------------------------------- in

    def failed(self, size: int) -> None:
        """The failure of an input has come that was sent."""
        self.items -= 1
        self.bytes -= size

    def check(self, frame: ServerFrame) -> None:
        """
        Raises:
            RemoteProtocolError: an output or an error is among these that came before.
        """
        first = [run.first_number for run in frame.outputs]
        first += [failure.number for failure in frame.errors]
        if any(number < self.emit_from.number for number in first) or any(
            Position(part.number, part.first_index) < self.emit_from for part in frame.parts
        ):
            raise RemoteProtocolError(
                f"an output before output {self.emit_from.index} of input"
                f" {self.emit_from.number}, from where on they are missing"
            )

    def receive(self, token: StateToken, sent_through: int) -> bool | None:
        """A state came, behind the answers that it covers.

        Args:
            token: that.
            sent_through: the last input of this attempt.

        Returns:
            Whether it is news; None: it is a state of other outputs than those that came.

        Raises:
            RemoteProtocolError: it cannot be had here.
        """
        if token.number > sent_through and token.number >= self.fold.first_number:
            raise RemoteProtocolError(
                f"a state after input {token.number}, which was not sent on this attempt"
            )
        if token.number >= self.fold.first_number and token.number < self.emit_from.number:
            if len(token.digest) != DIGEST_BYTES:
                raise RemoteProtocolError(
                    f"a state after input {token.number} without a digest, and its output is not"
                    " from this attempt"
                )
            if self.fold.differs(token):
                return None
        self._asked = False
        covered = self.fold.adopt(token)
        if covered is None:
            return False
        self.items -= covered[0]
        self.bytes -= covered[1]
        return True

    def decline(self) -> None:
        """There is no state to be had now."""
        self.declined, self._asked = True, False
