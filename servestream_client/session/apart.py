"""Suspected inputs of a stream of which each may have many outputs.

What was under way twice in a row when a server broke, and had hardly come further in between,
leaves the stream. It goes on from where it was cut, on streams of its own, and its outputs come
back into the stream: docs/protocol.md, section 18. Which of them is to blame is `Generator`'s
finding.

Invariant: an input that left the stream waits here, or is tried, until its last word is in the
stream. Of no more of them than the stream's budget of outputs has room for are outputs held, beside
the one that the consumer waits for.
"""

from __future__ import annotations

from bisect import insort
from collections.abc import Callable

from servestream_client.config import FlowControl
from servestream_client.errors import ItemError
from servestream_client.protocol.client import Part
from servestream_client.session.driver import StreamDriver
from servestream_client.session.forwarded import Forwarded
from servestream_client.session.generator import FEW_OUTPUTS, Generator
from servestream_client.session.outcome import AttemptFailed, as_own

__all__ = ["Apart"]


class Apart:
    """Stands by one stream.

    Args:
        stream: whose inputs may be suspected.
        make_generator: makes what has them answered.
        flow: the stream's.
    """

    stalled = False
    """It hears itself of what the consumer takes."""

    def __init__(
        self, stream: StreamDriver, make_generator: Callable[[], Generator], flow: FlowControl
    ) -> None:
        self._stream = stream
        self._make_generator = make_generator
        self._generator: Generator | None = None
        self._most = max(
            1,
            min(
                flow.output_items // flow.outputs_per_input,
                flow.output_bytes // flow.bytes_per_input,
            ),
        )
        self._suspected: frozenset[int] = frozenset()  # by the last break
        self._received: dict[int, int] = {}  # of what was under way then, how many outputs had come
        self._waiting: list[int] = []  # ascending
        self._trying: dict[int, Forwarded] = {}  # until the consumer has all that came
        self._ended = False

    @property
    def attempts(self) -> int:
        """How many calls were made for suspects."""
        return self._generator.attempts if self._generator is not None else 0

    # ---------------------------------------------------------------- from the stream

    def on_attempt_failed(self, failed: AttemptFailed) -> None:
        """An attempt of the stream broke."""
        quarantine = self._stream.quarantine
        received = {number: quarantine.received(number) for number in failed.suspects}
        suspects = frozenset(
            number
            for number, count in received.items()
            if count - self._received.get(number, 0) < FEW_OUTPUTS
        )
        moved = quarantine.enter(sorted(suspects & self._suspected), in_part=True)
        self._received, self._suspected = received, suspects.difference(moved)
        for number in moved:
            insort(self._waiting, number)
        self._go_on()

    def capacity_changed(self) -> None:
        """See `stalled`."""

    def cancelled(self, number: int) -> None:
        """Nobody wants the outputs of this input any more."""
        suspect = self._trying.get(number)
        if suspect is not None:
            suspect.cancel()

    def end(self) -> None:
        """The stream's outcome is settled."""
        self._ended = True
        self._waiting.clear()
        for suspect in self._trying.values():
            suspect.drop()
        self._trying.clear()
        if self._generator is not None:
            self._generator.abandon()

    async def aclose(self) -> None:
        """Wait until nothing is left."""
        if self._generator is not None:
            await self._generator.aclose()

    # ---------------------------------------------------------------- what is tried

    def _go_on(self) -> None:
        """Have those tried whose outputs there is room for."""
        stream, begun = self._stream, list[Forwarded]()
        turn = stream.quarantine.turn
        while self._waiting and (len(self._trying) < self._most or self._waiting[0] == turn):
            suspect = Forwarded(self, stream, self._waiting.pop(0))
            self._trying[suspect.of] = suspect
            begun.append(suspect)
        if not begun:
            return
        if self._generator is None:
            self._generator = self._make_generator()
            stream.quarantine.tell(self._taken)
        known_good = stream.quarantine.known_good
        if known_good is not None:
            self._generator.known_good = known_good[1]
        self._generator.suspect(begun, stream.outage)

    def _taken(self, number: int, count: int, size: int) -> None:
        suspect = self._trying.get(number)
        if suspect is not None:
            suspect.acknowledge(count, size)
            self._forget(suspect)

    def _forget(self, suspect: Forwarded) -> None:
        if suspect.ended and not suspect.held.outputs and not self._ended:
            del self._trying[suspect.of]
            self._go_on()

    # ---------------------------------------------------------------- from the suspects

    def came(self, part: Part) -> None:
        """Outputs of a suspect came."""
        if not self._ended:
            self._stream.quarantine.resolve_part(part)

    def left(self, suspect: Forwarded, error: BaseException | None) -> None:
        """There are no further outputs of a suspect."""
        if self._ended:
            return
        quarantine, number = self._stream.quarantine, suspect.of
        if error is None:
            quarantine.resolve_end(number, suspect.received)
        elif isinstance(error, ItemError):
            quarantine.resolve(number, None, suspect.failure(error))
        else:
            self._stream.abandon(as_own(error, "the stream of a suspected input ended"))
            return
        self._forget(suspect)
