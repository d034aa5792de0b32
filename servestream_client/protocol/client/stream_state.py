"""The state that a stream carries, if its service keeps one.

Invariant: a stream that has gone on with a state never goes on without, nor the other way round.
Rule: docs/protocol.md, section 11.
"""

from __future__ import annotations

from servestream_client.cursor import CursorState
from servestream_client.protocol.client.attempt import Attempt
from servestream_client.protocol.client.counters import ClientCounters
from servestream_client.protocol.client.fold import Fold
from servestream_client.protocol.client.fold_history import FoldHistory
from servestream_client.protocol.client.ledger import Ledger
from servestream_client.protocol.frames import (
    HandlerKind,
    Refused,
    ServerFrame,
    StreamErrorKind,
    StreamFailure,
    Welcome,
)
from servestream_client.protocol.runs import Run
from servestream_client.protocol.state import unfit

__all__ = ["ATTEMPTS_APART", "StreamState"]

ATTEMPTS_APART = 1 << 16
"""How much higher the attempts of a stream begin that goes on with a cursor: the process before it
may have made others since, and the highest one is served."""

_HIGHEST_ATTEMPT = (1 << 32) - ATTEMPTS_APART


class StreamState:
    """See the module.

    Args:
        ledger: the stream's inputs.
        tracked: whether cursors are wanted.
        position: the inputs that are done with before it begins.
        begun: what the cursor held with which it begins; None: no state.
    """

    __slots__ = (
        "_begun",
        "_history",
        "_ledger",
        "_position",
        "_stateful",
        "_welcomed",
        "attempts_before",
    )

    def __init__(
        self, ledger: Ledger, *, tracked: bool, position: int, begun: CursorState | None
    ) -> None:
        self._ledger = ledger
        self._history = FoldHistory(position, begun) if tracked else None
        self._position = position
        self._stateful: bool | None = None
        self._welcomed = False
        self.attempts_before: int = 0
        """The attempts that earlier processes may have made."""
        self._begun = begun
        if begun is not None:
            self.attempts_before = min(begun.attempts + ATTEMPTS_APART - 1, _HIGHEST_ATTEMPT)
            ledger.begin_behind(position)
            if begun.begun:
                self._stateful = True
                ledger.fold = Fold(self._history, position, begun)

    @property
    def of_cursor(self) -> bool:
        """Whether it came from a cursor, and no server has accepted it yet."""
        return self._begun is not None and self._begun.begun and not self._welcomed

    @property
    def stateful(self) -> bool:
        """Whether there is one."""
        return bool(self._stateful)

    def welcomed(self, welcome: Welcome) -> Welcome | Refused:
        """A server takes the stream. Returns that, or why it is the wrong one."""
        stateless = self._position > 0 and self._begun is None
        refused = unfit(self._stateful, welcome, stateless=stateless)
        if refused is not None:
            return refused
        self._welcomed = True
        self._stateful = welcome.handler_kind is HandlerKind.STATEFUL
        if self._stateful and self._ledger.fold is None:
            self._ledger.fold = Fold(self._history)
        return welcome

    def receive(
        self, attempt: Attempt, frame: ServerFrame, counters: ClientCounters
    ) -> StreamFailure | None:
        """The states of a frame. Returns why the stream has failed, if it has: one is of other
        outputs than those that came.
        """
        fold = attempt.fold
        if fold is None:
            return None
        for token in frame.tokens:
            news = fold.receive(token, attempt.in_flight.sent_through)
            if news is None:
                text = f"input {token.number} and those before it have other outputs than before"
                return StreamFailure(StreamErrorKind.STATE, text)
            attempt.progressed |= news
            counters.tokens += 1
            counters.token_bytes += len(token.token)
        if frame.no_token:
            fold.decline()
        return None

    # ---------------------------------------------------------------- cursors

    def restore(self, number: int, payload: bytes, attempt: Attempt | None) -> None:
        """An input behind the state is to be computed again, before any that are pushed; its
        outputs were delivered by an earlier process.
        """
        fold = self._ledger.fold
        assert fold is not None  # noqa: S101 — there is a state, or nothing would be behind it
        fold.restore(number, payload)
        if attempt is not None:
            attempt.unsent.append(Run(number, (payload,), len(payload)))

    def advance(self, position: int) -> None:
        """The consumer is done with the inputs up to there."""
        if self._history is not None:
            self._history.advance(position)

    def at(self, position: int, stream_id: bytes, attempts: int) -> CursorState | None:
        """What a cursor there holds, of so many attempts; None: no state. See `FoldHistory.at`."""
        if self._stateful is False or not position or self._history is None:
            return None
        if not self._ledger.ordered:
            return None  # which no stateful service serves
        return self._history.at(position, stream_id, self.attempts_before + attempts)
