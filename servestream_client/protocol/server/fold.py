"""The answers of a stateful handler, and the states that stand behind them: docs/protocol.md,
section 11, at the server.

Invariant: inputs are computed one after the other, in their order. What was delivered before is
computed in silence, and compared before anything else leaves. A state leaves behind the answers of
all inputs that it covers, and none is lost for a newer one that has to wait longer.

The state itself is the handler's, and is only kept here: that of the last input that was answered.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

from servestream_client.errors import ItemErrorKind, RemoteProtocolError
from servestream_client.protocol.continuation import NO_OUTPUTS
from servestream_client.protocol.frames import (
    Credit,
    Open,
    Position,
    StateToken,
    StreamErrorKind,
    StreamFailure,
)
from servestream_client.protocol.server.inputs import OpenInputs
from servestream_client.protocol.server.opening import Terms
from servestream_client.protocol.server.outbox import Outbox
from servestream_client.protocol.server.ready import FrameAnswers, Work
from servestream_client.protocol.server.turns import Turns
from servestream_client.protocol.state import chained, emit_from, outputs_digest

__all__ = ["FoldOutbox"]


class FoldOutbox(Outbox):
    """What is to be answered on one attempt of a stateful stream, and what is ready to leave.

    Attributes:
        state: the handler's, after the input `computed`.
        computed: the last input that is answered, by an output or an error, sent or not; or the one
            behind which the state stands with which the attempt began.
        covered: behind which input the last state stands that was sent, or with which it began.
        failure: why the attempt cannot go on, once that is so.
        token_bytes: the largest state that the client accepts.
        fresh: inputs and bytes of payloads, either way, since the last state was made.
        traffic: bytes of payloads, either way, and of states, since the attempt began.
    """

    __slots__ = (
        "_chain",
        "_checked",
        "_emit_digest",
        "_emit_from",
        "_held",
        "_last",
        "_leaving",
        "_pending",
        "_prepared",
        "_silent",
        "_since_token",
        "_wanted",
        "computed",
        "covered",
        "failure",
        "fresh",
        "in_place",
        "state",
        "token_bytes",
        "traffic",
    )

    def __init__(self) -> None:
        super().__init__()
        self.state: object = None
        self.computed: int = 0
        self.covered: int = 0
        self.failure: StreamFailure | None = None
        self.token_bytes: int = 0
        self.fresh: Credit = Credit()
        self.traffic: tuple[int, int] = (0, 0)
        self._emit_from = Position(1)
        self._emit_digest = b""
        self._checked = False
        self._chain = self._since_token = NO_OUTPUTS  # the digests of what is computed in silence
        self._prepared: dict[int, tuple[Sequence[bytes] | None, object]] = {}
        self._leaving = Turns()  # whose answers have not left
        self._held = OpenInputs()  # what came, and no state covers, see `kept_items`
        self._silent = 0  # what came, and is still to be computed in silence
        self._pending: deque[StateToken] = deque()  # one that waits for answers, and the newest
        self._wanted = 0
        self._last: StateToken | None = None  # that has left
        self.in_place: bool = False
        """Whether the handler changes the state that it is given."""

    def open_with(self, opened: Open, state: object) -> None:
        """The attempt begins, with a state of the handler's."""
        self.state = state
        self._emit_from, self._emit_digest = emit_from(opened), opened.emit_digest
        self.computed = self.covered = opened.first_number - 1
        self.token_bytes = opened.limits.token_bytes

    def begin(self, terms: Terms) -> None:
        super().begin(terms)
        self.token_bytes = min(self.token_bytes, terms.output_bytes + terms.limits.frame_bytes)

    @property
    def output_bytes(self) -> int:
        """The largest output that the client accepts."""
        return self._output_bytes

    # ---------------------------------------------------------------- inputs

    @property
    def window_items(self) -> int:
        """The inputs whose answers the client lacks."""
        return self.unanswered - self._silent

    @property
    def kept_items(self) -> int:
        """Those that no state covers which was sent, and that have not failed."""
        return len(self._held)

    @property
    def window_bytes(self) -> int:
        """These payloads together, in bytes."""
        return self._held.size

    def is_missing(self, number: int) -> bool:
        return number >= self._emit_from.number

    def expect(
        self, first: int, sizes: Sequence[int], start_index: int = 0, credit: Credit | None = None
    ) -> None:
        if start_index:
            raise RemoteProtocolError(
                f"input {first} starts at output {start_index}, and those of a stateful stream"
                " start at their beginning"
            )
        super().expect(first, sizes, 0, credit)
        self._leaving.append(first, len(sizes))
        self._silent += max(0, min(len(sizes), self._emit_from.number - first))
        self._held.append(first, sizes)

    # ---------------------------------------------------------------- answers

    def prepare(self, number: int, state: object, outputs: Sequence[bytes] | None = None) -> None:
        """The handler has computed an input, in whatever thread; it counts once `output` says so.

        Args:
            number: of the input.
            state: the one behind it.
            outputs: its outputs, none larger than `output_bytes`; None: the one that `output` is
                given.
        """
        self._prepared[number] = outputs, state

    def outputs(self, first: int, payloads: Sequence[bytes]) -> None:
        """These were prepared, and count."""
        if self._plain(first, payloads):
            size, last = self.open.size, first + len(payloads) - 1
            super().outputs(first, payloads)
            _, self.state = self._prepared[last]
            self.computed = last
            self._count(len(payloads), size - self.open.size + sum(map(len, payloads)))
            self._prepared.clear()
            return
        singles: list[bytes] = []
        for number in range(first, first + len(payloads)):
            outputs = self._computed(number, payloads[number - first])
            if outputs is not None and len(outputs) == 1 and number not in self._works:
                singles.append(outputs[0])
                continue
            self._add_singles(number - len(singles), singles)
            singles = []
            if outputs is not None:
                for output in outputs:
                    super().output(number, output, last=False)
                self.close(number)
        self._add_singles(first + len(payloads) - len(singles), singles)

    def _add_singles(self, first: int, outputs: Sequence[bytes]) -> None:
        if outputs and sum(map(len, outputs)) <= self._output_bytes and not self._works:
            super().outputs(first, outputs)
            return
        for number, output in enumerate(outputs, first):
            super().output(number, output, last=True)

    def _plain(self, first: int, payloads: Sequence[bytes]) -> bool:
        """Whether nothing is special about these: as nearly always."""
        prepared = self._prepared
        return (
            self._checked
            and self.failure is None
            and not self._works
            and len(prepared) == len(payloads)
            and first in self.open
            and first + len(payloads) - 1 in self.open
            and sum(map(len, payloads)) <= self._output_bytes
            and all(outputs is None for outputs, _ in prepared.values())
        )

    def _count(self, inputs: int, size: int) -> None:
        self.fresh = Credit(self.fresh.outputs + inputs, self.fresh.bytes + size)
        self.traffic = self.traffic[0] + size, self.traffic[1]

    def output(self, number: int, payload: bytes, *, last: bool) -> None:
        """The same for one of them."""
        del last
        self.outputs(number, (payload,))

    def _computed(self, number: int, payload: bytes) -> Sequence[bytes] | None:
        """An input is computed; returns those of its outputs that are to be sent, None: nothing of
        it, since nobody waits for it, or all were sent before.
        """
        outputs, state = self._prepared.pop(number, ((), None))
        if outputs is None:
            outputs = (payload,)
        if number not in self.open or self.failure is not None:
            return None
        self.state, self.computed = state, number
        self._count(1, self.open.size_of(number) + sum(map(len, outputs)))
        missing = self._emit_from
        if number < missing.number:
            self._in_silence(outputs)
            self._answer_in_silence(number)
            return None
        index = missing.index if number == missing.number else 0
        if index:
            self._in_silence(outputs[:index])
            self._works[number] = Work(number, index)
        if not self._checked:
            self._check(enough=len(outputs) >= index)
        return None if self.failure is not None else outputs[index:]

    def _in_silence(self, outputs: Sequence[bytes]) -> None:
        digests = (outputs_digest(outputs),)
        self._chain, self._since_token = (
            chained(self._chain, digests),
            chained(self._since_token, digests),
        )

    def _answer_in_silence(self, number: int) -> None:
        self._leaving.advance(1)
        self._silent -= 1
        self.skip(number)

    def _check(self, *, enough: bool = True) -> None:
        """Compare everything before the first missing output with what it was.

        Args:
            enough: whether its input still has as many outputs before it.
        """
        self._checked = True
        if self._emit_digest and not (enough and self._chain == self._emit_digest):
            self._break(
                StreamErrorKind.STATE,
                "the outputs before the cut came out otherwise when they were computed again, so"
                " that the state is not theirs: the handler must make the same of the same inputs",
            )

    def conclude(self) -> None:
        """Everything that came is answered, and nothing more will come."""
        if not self._checked:
            self._check()

    def fail(self, number: int, kind: ItemErrorKind, text: str, *, retryable: bool = False) -> None:
        """An input has failed, and the state is as before it."""
        self._prepared.pop(number, None)
        if number not in self.open:
            return
        if self.in_place and kind is not ItemErrorKind.DECODE:
            self.lose(f"input {number} failed while the state was changed in place: {text}")
            return
        missing = self._emit_from
        if number < missing.number or (number == missing.number and missing.index):
            self._break(
                StreamErrorKind.INTERNAL,
                f"input {number} was answered before the cut, and failed when it was computed again"
                f" ({kind.name.lower()}): {text}",
            )
            return
        if not self._checked:
            self._check()
        self.computed = number
        super().fail(number, kind, text, retryable=retryable)

    def lose(self, text: str) -> None:
        """The state is lost."""
        self._break(StreamErrorKind.STATE, text)

    def _break(self, kind: StreamErrorKind, text: str) -> None:
        if self.failure is None:
            self.failure = StreamFailure(kind, text)

    def gather(self, room: int | None = None) -> FrameAnswers:
        answers = super().gather(room)
        if answers.answered:
            self._leaving.advance(answers.answered)
        for failure in answers.errors:
            self._held.close(failure.number)
        return answers

    # ---------------------------------------------------------------- states

    def want(self, through: int) -> None:
        """The client asks for a state behind the last input that came, which is this one. Asked
        again for one that has left, it was lost on the way.
        """
        again = through == self._wanted <= self.covered
        if again and self._last is not None and not self._pending:
            self._pending.append(self._last)
        self._wanted = max(self._wanted, through)

    def owes(self, *, last: int = 0) -> bool:
        """Whether a state is to be made now, in any case.

        Args:
            last: the last input that came, if no other will come, or the server is leaving; else 0.
        """
        made = self._pending[-1].number if self._pending else self.covered
        if self.failure is not None or self.computed <= made:
            return False
        return (made < self._wanted <= self.computed) or (0 < last <= self.computed)

    def offer(self, token: bytes) -> None:
        """A state was made, the one behind `computed`."""
        number, silent = self.computed, self.computed < self._emit_from.number
        made = StateToken(number, token, self._since_token if silent else b"")
        self._since_token = NO_OUTPUTS
        if len(self._pending) > 1 and not silent:
            self._pending.pop()  # or the first would never have its turn
        self._pending.append(made)
        self.fresh = Credit()
        self.traffic = self.traffic[0], self.traffic[1] + len(token)

    @property
    def token_waits(self) -> bool:
        """Whether there is a state that has not left."""
        return bool(self._pending)

    @property
    def token_ready(self) -> bool:
        """Whether one may leave."""
        if not self._pending:
            return False
        leaves_next = self._leaving.next
        return not leaves_next or self._pending[0].number < leaves_next

    @property
    def next_token_bytes(self) -> int:
        """The size of the largest that `take_token` may give, in bytes."""
        return max((len(each.token) for each in self._pending), default=0)

    def take_token(self) -> StateToken:
        """One that is `token_ready`, the newest; the others are dropped that it covers, where their
        answers left on this attempt.
        """
        token = self._pending.popleft()
        while not token.digest and self.token_ready:
            token = self._pending.popleft()
        self._held.close_through(token.number)
        self.covered = token.number
        self._last = token
        return token

    def clear(self) -> None:
        super().clear()
        # Nothing is owed any more, least of all this.
        self.state = self._last = None
        self.covered, self._wanted, self.fresh = self.computed, 0, Credit()
        for kept in (self._prepared, self._held, self._pending):
            kept.clear()
