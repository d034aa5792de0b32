"""A stateful stream at its client: what it takes to go on with its state at another server.

Invariant: `token` is the newest state that was adopted. Of the inputs behind it those that are
answered are kept, in their order and each with the digest of its outputs, but for the ones that
failed, which left the state as it was. Rule: docs/protocol.md, section 11.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence

from servestream_client.cursor import CursorState
from servestream_client.errors import LocalProtocolError, RemoteProtocolError
from servestream_client.protocol.client.fold_history import FoldHistory, answers
from servestream_client.protocol.continuation import NO_OUTPUTS
from servestream_client.protocol.frames import StateToken
from servestream_client.protocol.runs import Run
from servestream_client.protocol.state import chained, outputs_digests

__all__ = ["Fold"]

_HELD_BYTES = 1 << 20
"""Of outputs that are kept until their digests are wanted."""


class _Stretch:
    """Consecutive inputs that are answered.

    Attributes:
        first: the first one's number.
        payloads: theirs.
        size: of the payloads together, in bytes.
    """

    __slots__ = ("_digests", "_outputs", "first", "payloads", "size")

    def __init__(
        self, first: int, payloads: Sequence[bytes], outputs: Sequence[bytes], digests: list[bytes]
    ) -> None:
        self.first = first
        self.payloads = payloads
        self.size = sum(map(len, payloads))
        self._outputs = outputs  # of which there are no digests yet
        self._digests = digests

    @property
    def last(self) -> int:
        return self.first + len(self.payloads) - 1

    @property
    def digests(self) -> list[bytes]:
        """Of the outputs of each; made when they are first asked for, which is seldom."""
        if self._outputs:
            self._digests, self._outputs = outputs_digests(self._outputs), ()
        return self._digests

    def behind(self, number: int) -> _Stretch:
        """The rest of it behind an input."""
        count = number - self.first + 1
        return _Stretch(
            number + 1, self.payloads[count:], self._outputs[count:], self._digests[count:]
        )


class Fold:
    """See the module.

    Args:
        history: for cursors; None: there are to be none.
        position: the inputs that are done with before the stream begins.
        begun: what the cursor held with which it begins.

    Attributes:
        token: the state to go on from; None: the beginning.
        answered_through: every input up to this one is answered, or was never sent.
        short: whether an input waits for which there is no room.
        size: of the payloads that are kept, in bytes.
    """

    __slots__ = (
        "_count",
        "_history",
        "_kept",
        "_missing",
        "_outputs_held",
        "answered_through",
        "short",
        "size",
        "token",
    )

    def __init__(
        self,
        history: FoldHistory | None = None,
        position: int = 0,
        begun: CursorState | None = None,
    ) -> None:
        self._history = history
        self.token: StateToken | None = None
        if begun is not None and begun.number:
            self.token = StateToken(begun.number, begun.token)
        self._missing = deque(answers(begun, position))  # answered, and not restored yet
        self.answered_through: int = position
        self.short: bool = False
        self.size: int = 0
        self._count = 0
        self._kept: deque[_Stretch] = deque()
        self._outputs_held = 0

    def __len__(self) -> int:
        """How many answered inputs are kept, or are to be restored."""
        return self._count + len(self._missing)

    @property
    def first_number(self) -> int:
        """The input behind the state."""
        return 1 if self.token is None else self.token.number + 1

    @property
    def kept(self) -> Iterator[Run]:
        """The inputs that are kept, ascending."""
        return (Run(each.first, each.payloads, each.size) for each in self._kept)

    def answered(self, first: int, payloads: Sequence[bytes], outputs: Sequence[bytes]) -> None:
        """Consecutive inputs have their outputs, one each."""
        self._answered(_Stretch(first, payloads, outputs, []))
        self._hold(sum(map(len, outputs)))

    def answered_in_parts(self, number: int, payload: bytes, digest: bytes) -> None:
        """An input has its last output; all together have this digest."""
        self._answered(_Stretch(number, (payload,), (), [digest]))

    def _answered(self, stretch: _Stretch) -> None:
        self._keep(stretch)
        self.answered_through = stretch.last
        if self._history is not None:
            self._history.answered(stretch.first, stretch.digests)

    def _hold(self, size: int) -> None:
        # Mostly a state comes at once, so that nobody will ask for the digests of what it covers.
        self._outputs_held += size
        if self._outputs_held > _HELD_BYTES:
            self._outputs_held = 0
            self.digest(None)  # which lets the outputs go

    def _keep(self, stretch: _Stretch) -> None:
        self._kept.append(stretch)
        self._count += len(stretch.payloads)
        self.size += stretch.size

    def restore(self, number: int, payload: bytes) -> None:
        """The next input behind the state that was answered before the stream began."""
        expected, digest = self._missing.popleft()
        if number != expected:
            raise LocalProtocolError(f"input {number} is restored, and {expected} is the next one")
        self._keep(_Stretch(number, (payload,), (), [digest]))

    def failed(self, number: int) -> None:
        """An input has failed, and left the state as it was."""
        self.answered_through = number

    def digest(self, head: bytes | None) -> bytes:
        """That of all outputs after the state.

        Args:
            head: of the outputs of the first unanswered input; None: there are none.
        """
        digests = [each for stretch in self._kept for each in stretch.digests]
        digests += [each for _, each in self._missing]
        return chained(NO_OUTPUTS, digests if head is None else [*digests, head])

    def adopt(self, token: StateToken) -> tuple[int, int] | None:
        """Go on from this state from now on.

        Returns:
            How many inputs, and of how many bytes, need not be kept any more; None: it is no news.

        Raises:
            RemoteProtocolError: it is a state behind an input that is not answered.
        """
        if token.number < self.first_number:
            return None
        if token.number > self.answered_through:
            raise RemoteProtocolError(
                f"a state after input {token.number}, and {self.answered_through} is the last that"
                " was answered"
            )
        self.token, self.short = token, False
        if self._history is not None:
            self._history.adopted(token)
        kept, count, size = self._kept, self._count, self.size
        while kept and kept[0].first <= token.number:
            stretch = kept.popleft()
            self._count -= len(stretch.payloads)
            self.size -= stretch.size
            if stretch.last > token.number:
                rest = stretch.behind(token.number)
                kept.appendleft(rest)
                self._count += len(rest.payloads)
                self.size += rest.size
        if not kept:
            self._outputs_held = 0
        return count - self._count, size - self.size

    def differs(self, token: StateToken) -> bool:
        """Whether a state is not that of the outputs that came, by the word of its digest."""
        covered = [
            digest
            for stretch in self._kept
            for number, digest in enumerate(stretch.digests, stretch.first)
            if number <= token.number
        ]
        return chained(NO_OUTPUTS, covered) != token.digest
