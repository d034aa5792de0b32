"""The inputs that came, and which of them may be started.

Invariant: never more inputs are taken in than the window allows (one alone may exceed its bytes),
their numbers ascend, and each is handed out at most once, unless it is put back, and not at all
once it is cancelled.

Inputs are kept in runs, as at the client. What becomes of an answer is the outbox's: an input that
is cancelled before it was started leaves here, and is answered there.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import replace

from servestream_client.errors import FrameLostError, RemoteProtocolError
from servestream_client.protocol import chunks, continuation
from servestream_client.protocol.chunks import Assembly
from servestream_client.protocol.frames import (
    SINGLE_OUTPUT,
    Chunk,
    ClientFrame,
    Heartbeat,
    InputRun,
    NumberRange,
)
from servestream_client.protocol.runs import Run, RunQueue
from servestream_client.protocol.server.opening import ServerOffer, Terms
from servestream_client.protocol.server.outbox import Outbox
from servestream_client.protocol.server.parts import PartsOutbox
from servestream_client.protocol.server.resumes import check_resume
from servestream_client.protocol.state import KEPT_WINDOWS

__all__ = ["Intake"]


class Intake:
    """What came on one attempt.

    Attributes:
        received: how many inputs came.
        started_through: the highest number that was handed out and not put back.
        waiting: what was not handed out yet.
    """

    __slots__ = (
        "_ahead_bytes",
        "_assembly",
        "_chunks",
        "_closed",
        "_last_seen",
        "_limits",
        "_many",
        "_newly_cancelled",
        "_outbox",
        "_replay",
        "_single_output",
        "received",
        "started_through",
        "waiting",
    )

    def __init__(self, offer: ServerOffer, outbox: Outbox | PartsOutbox) -> None:
        self.received: int = 0
        self.started_through: int = 0
        self.waiting: RunQueue = RunQueue()
        self._outbox = outbox
        self._ahead_bytes = offer.ahead_bytes
        self._single_output = offer.handler_kind in SINGLE_OUTPUT
        self._replay = offer.replay
        self._limits = offer.limits
        self._many = False  # inputs that were cut come with what it takes to go on
        self._chunks = False  # large ones come in chunks
        self._assembly = Assembly()
        self._last_seen = 0
        self._closed = False
        self._newly_cancelled: list[int] = []

    def begin(self, terms: Terms) -> None:
        """The stream is served on these terms."""
        self._limits = terms.limits
        self._many = continuation.FEATURE in terms.features
        self._chunks = chunks.FEATURE in terms.features
        self._last_seen = terms.first_number - 1

    @property
    def through(self) -> int:
        """The last number that came; 0: none."""
        return self._last_seen if self.received else 0

    # ---------------------------------------------------------------- what comes

    def receive(self, frame: ClientFrame) -> None:
        """Inputs came.

        Raises:
            RemoteProtocolError: they cannot be so; what came before them is taken in.
        """
        if frame.chunk is not None:
            self.receive_chunk(frame.chunk)
        for run in frame.inputs:
            self.receive_run(run)

    def receive_chunk(self, chunk: Chunk) -> None:
        """Some bytes of an input came, which is not there yet.

        Raises:
            RemoteProtocolError: it cannot come, or is too large.
            FrameLostError: a chunk before it is missing.
        """
        if not self._chunks:
            raise RemoteProtocolError("a chunk came, and the two ends have not agreed on chunks")
        if chunk.number <= self._last_seen or chunk.index:
            raise RemoteProtocolError(f"a chunk of input {chunk.number} came, {self._bound()}")
        self._assembly.receive(chunk, self._limits.largest)

    @property
    def late_chunks(self) -> str:
        """What is to be said of a link on which the rest of an input did not come in time; empty:
        none was to come.
        """
        return self._assembly.said("input")

    def _joined(self, run: InputRun) -> InputRun:
        """A run with all of its first input, of which the rest came, if it has come in chunks."""
        if not run.first_offset:
            self._assembly.drop_before(run.first_number + len(run.payloads) - 1)
            return run
        if not self._chunks:
            raise RemoteProtocolError("the rest of what came in chunks, which were not agreed on")
        first, *others = run.payloads
        joined = self._assembly.join(run.first_number, 0, run.first_offset, first)
        return replace(run, payloads=[joined, *others], first_offset=0)

    def receive_run(self, run: InputRun) -> None:
        """Consecutive inputs came.

        Raises:
            RemoteProtocolError: their numbers do not ascend, or they exceed the limits.
        """
        if run.first_number <= self._last_seen:
            raise RemoteProtocolError(f"input {run.first_number} came, {self._bound()}")
        if run.metadata and len(run.metadata) != len(run.payloads):
            raise RemoteProtocolError(
                f"metadata for {len(run.metadata)} of {len(run.payloads)} inputs"
            )
        run = self._joined(run)
        outbox, limits = self._outbox, self._limits
        sizes = list(map(len, run.payloads))
        count, size = len(sizes), sum(sizes)
        extra = self._check_resume(run) if self._many else 0
        if (
            outbox.window_items + count > limits.window_items
            or outbox.kept_items + count > limits.window_items * KEPT_WINDOWS
            or outbox.window_bytes + size + extra > limits.window_bytes
            or max(sizes) > limits.largest
        ):
            self._check_each(run.first_number, sizes, extra)
        resume = credit = None
        if self._many:
            sizes[0] += extra
            resume, credit = run.first_resume, run.first_credit
        accepted = Run(run.first_number, run.payloads, size, run.first_start_index, resume)
        self.received += count
        self._last_seen = accepted.last
        outbox.expect(accepted.first, sizes, accepted.start_index, credit)
        if accepted.start_index and self._single_output:
            # Its only output, which has index 0, is there already: nothing is to be computed.
            outbox.close(accepted.first)
            if count == 1:
                return
            accepted.cut(1)
        self.waiting.append(accepted)

    def _bound(self) -> str:
        """Below which number nothing may come any more, and why, for messages."""
        if self.received:
            return f"but input {self._last_seen} came before: numbers must ascend"
        return f"but the open frame names input {self._last_seen + 1} as the first"

    def _check_resume(self, run: InputRun) -> int:
        """What it takes to go on with a run's first input, in bytes.

        Raises:
            RemoteProtocolError: it cannot be so.
        """
        check_resume(run, self._replay, self._limits.token_bytes)
        return run.first_resume.size if run.first_resume is not None else 0

    def _check_each(self, first: int, sizes: Sequence[int], extra: int) -> None:
        """
        Args:
            first: the number of the first.
            sizes: of the payloads.
            extra: what the first one takes besides, in bytes.

        Raises:
            RemoteProtocolError: an input is too large, or beyond the window.
        """
        limits, outbox = self._limits, self._outbox
        items, kept, size = outbox.window_items, outbox.kept_items, outbox.window_bytes
        most = limits.window_items * KEPT_WINDOWS
        for number, length in enumerate(sizes, first):
            if length > limits.largest:
                raise RemoteProtocolError(
                    f"input {number} has {length} bytes, and at most {limits.largest} were allowed"
                )
            length += extra  # noqa: PLW2901 — what counts from here on
            extra = 0
            items += outbox.is_missing(number)
            full = kept >= most or size + length > limits.window_bytes
            if items > limits.window_items or (kept and full):
                raise RemoteProtocolError(
                    f"input {number} exceeds the window of {limits.window_items} inputs and"
                    f" {limits.window_bytes} bytes"
                )
            kept, size = kept + 1, size + length

    def receive_cancelled(self, ranges: Sequence[NumberRange]) -> None:
        """The client does not want these any more: what was not started never is.

        A range is the client's word and may be huge; the open inputs in it are bounded.

        Raises:
            RemoteProtocolError: more ranges than the window has inputs.
        """
        if len(ranges) > self._limits.window_items:
            raise RemoteProtocolError(
                f"{len(ranges)} ranges cancelled, in a window of {self._limits.window_items} inputs"
            )
        outbox, disjoint = self._outbox, _disjoint(ranges)
        for first, last in disjoint:
            self._assembly.drop_within(first, last)
        numbers = outbox.open.within(disjoint)
        started = bisect_right(numbers, self.started_through)
        fresh = outbox.open.cancel(numbers[:started])
        self._newly_cancelled += fresh
        if started < len(numbers):
            self._drop(numbers[started:])
        if isinstance(outbox, PartsOutbox):
            outbox.cancel(fresh, disjoint)

    def _drop(self, numbers: Sequence[int]) -> None:
        """Never start these inputs, which are open and ascend."""
        self.waiting.remove_each(numbers)
        self._outbox.drop(numbers)

    def check_sent(self, beat: Heartbeat) -> None:
        """The client says what it has sent last (docs section 12).

        Raises:
            FrameLostError: it has not come.
        """
        self._assembly.check_sent(beat.chunk_bytes)
        if (through := beat.inputs_through) > self.through:
            raise FrameLostError(
                f"a gap: the client has sent input {through}, and {self.through} was the last that"
                " came"
            )

    def check_end(self, last_number: int) -> None:
        """The client says that no input above this one will come.

        Raises:
            RemoteProtocolError: one has come already.
        """
        if last_number < self._last_seen:
            raise RemoteProtocolError(f"the end names input {last_number}, {self._bound()}")

    # ---------------------------------------------------------------- what is started

    @property
    def startable(self) -> bool:
        """Whether there is an input to start, and not too much output waits already (docs
        section 7).
        """
        waiting, outbox = self.waiting, self._outbox
        return (
            waiting.count > 0
            and (not self._full or outbox.may_start(waiting.head.first))
            and not self._closed
        )

    @property
    def _full(self) -> bool:
        """Whether too much output waits for its turn or for credit to start any input."""
        return self._outbox.ahead_bytes >= self._ahead_bytes

    @property
    def startable_inputs(self) -> int:
        """How many inputs are `startable`."""
        return self.waiting.count if self.startable else 0

    def next_run(self, limit: int) -> Run | None:
        """The next inputs to hand to the handler, consecutive ones and at most `limit`; None if
        nothing is `startable`.
        """
        if not self.startable:
            return None
        # What waits may wait for this input's turn, which is then the only one to start.
        run = self.waiting.take(1 if self._full else limit)
        self.started_through = run.last
        return run

    def put_back(self, run: Run) -> None:
        """Inputs of the last `next_run` were not started after all."""
        inputs = self._outbox.open
        gone: Sequence[int] = ()
        if isinstance(self._outbox, PartsOutbox):  # where the cancelled ones are answered already
            gone = [number for number in range(run.first, run.last + 1) if number not in inputs]
        if run.first not in inputs and len(gone) in (0, len(run.payloads)):
            return  # everything was dropped meanwhile
        self.started_through = run.first - 1
        self.waiting.put_back(run)
        self.waiting.remove_each(gone)
        if inputs.cancelled:
            self._drop(sorted(inputs.cancelled.intersection(range(run.first, run.last + 1))))

    def close(self) -> None:
        """Nothing more is started, whatever comes."""
        self._closed = True
        self.waiting.clear()

    def take_cancelled(self) -> Sequence[int]:
        """Started inputs that the client has cancelled since the last call; each is still to be
        answered.
        """
        numbers, self._newly_cancelled = self._newly_cancelled, []
        return numbers


def _disjoint(ranges: Sequence[NumberRange]) -> list[tuple[int, int]]:
    """The ranges, ascending; those that overlap as one, and the empty ones left out."""
    found: list[tuple[int, int]] = []
    through = 0
    for first, last in sorted([(each.first, each.last) for each in ranges]):
        if last <= through or last < first:
            continue
        if found and first <= through:
            found[-1] = found[-1][0], last
        else:
            found.append((first, last))
        through = last
    return found
