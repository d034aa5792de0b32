"""What a cursor of a stateful stream has to hold, wherever its consumer is.

Invariant: `_state` is the newest state behind an input with which the consumer is done, and of the
inputs behind it those that are answered are here, each with the digest of its outputs. States that
the consumer has not come to yet wait. Rule: docs/protocol.md, section 11.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence

from servestream_client.cursor import CursorState
from servestream_client.protocol.continuation import DIGEST_BYTES
from servestream_client.protocol.frames import StateToken

__all__ = ["FoldHistory", "answers"]

_NOTHING = StateToken(0, b"")


def answers(state: CursorState | None, position: int) -> Iterator[tuple[int, bytes]]:
    """The inputs behind a cursor's state that did not fail, with the digests of their outputs."""
    if state is None:
        return
    failed = {number for first, last in state.failed for number in range(first, last + 1)}
    behind = (n for n in range(state.number + 1, position + 1) if n not in failed)
    for place, number in enumerate(behind):
        yield number, state.digests[place * DIGEST_BYTES : (place + 1) * DIGEST_BYTES]


class FoldHistory:
    """See the module.

    Args:
        position: the inputs that are done with before the stream begins.
        begun: what the cursor held with which it begins; None: it begins with the first input.
    """

    __slots__ = ("_ahead", "_behind", "_coming", "_state")

    def __init__(self, position: int = 0, begun: CursorState | None = None) -> None:
        self._state = _NOTHING if begun is None else StateToken(begun.number, begun.token)
        # The consumer has come so far, and has not.
        self._behind: deque[tuple[int, bytes]] = deque(answers(begun, position))
        self._ahead: deque[tuple[int, bytes]] = deque()
        self._coming: deque[StateToken] = deque()

    def answered(self, first: int, digests: Sequence[bytes]) -> None:
        """Consecutive inputs have their last outputs, of which these are the digests."""
        self._ahead.extend(enumerate(digests, first))

    def adopted(self, token: StateToken) -> None:
        """A state came, behind answered inputs, and behind those of the one before."""
        self._coming.append(token)

    def advance(self, position: int) -> None:
        """The consumer is done with the inputs up to there."""
        while self._ahead and self._ahead[0][0] <= position:
            self._behind.append(self._ahead.popleft())
        while self._coming and self._coming[0].number <= position:
            self._state = self._coming.popleft()
        while self._behind and self._behind[0][0] <= self._state.number:
            self._behind.popleft()

    def at(self, position: int, stream_id: bytes, attempts: int) -> CursorState:
        """What a cursor there has to hold.

        Args:
            position: the consumer is done with the inputs up to there; never less than before.
            stream_id: the stream's.
            attempts: the number of its last one.
        """
        self.advance(position)
        return CursorState(
            stream_id=stream_id,
            attempts=attempts,
            number=self._state.number,
            token=self._state.token,
            failed=tuple(self._gaps(position)),
            digests=b"".join(digest for _, digest in self._behind),
        )

    def _gaps(self, position: int) -> Iterator[tuple[int, int]]:
        """The inputs without outputs: they failed."""
        last = self._state.number
        if len(self._behind) == position - last:
            return  # which is nearly always so
        for number, _ in self._behind:
            if number > last + 1:
                yield last + 1, number - 1
            last = number
        if last < position:
            yield last + 1, position
