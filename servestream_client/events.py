"""What a client tells of its streams while they run: to hooks, and to the log.

A stream's events come in this order, all in its client's event loop: `StreamStarted`; for each
attempt `AttemptStarted`, perhaps `AttemptWelcomed`, perhaps `ServerDraining`, and `AttemptEnded`;
`StreamEnded`. Items that fail come in between, as `ItemFailed`; only an output that cannot be
decoded is told when its caller takes it, which may be after the end. `OutputsArrived` and
`CallEnded` are about calls, each of which shares a stream with others, and come in between as well.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from servestream_client.errors import ClientClosedError, ItemErrorKind, type_name
from servestream_client.metadata import Metadata

__all__ = [
    "AttemptEnded",
    "AttemptOutcome",
    "AttemptStarted",
    "AttemptWelcomed",
    "CallEnded",
    "Event",
    "Hooks",
    "ItemFailed",
    "LaneStatistics",
    "OutputsArrived",
    "ServerDraining",
    "StreamEnded",
    "StreamKind",
    "StreamStarted",
    "StreamStatistics",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class LaneStatistics:
    """What one way of a stream's inputs carried so far: the stream's own attempts, or a lane.

    Attributes:
        replica: the last that served it; empty before the first welcome.
        endpoint: where its last attempt went.
        received: outputs and item errors that came by it.
        under_way: inputs that it carries at present.
        attempts: calls made for it.
        ended: whether it is over, as a lane is that had nothing to do.
    """

    replica: str
    endpoint: str
    received: int
    under_way: int
    attempts: int
    ended: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamStatistics:
    """What happened to a stream so far.

    Attributes:
        accepted: inputs pulled from the caller's iterable.
        sent: inputs sent, each counted once.
        replayed: inputs sent again after a failure.
        received: outputs and item errors received, duplicates left out.
        taken_through: every input up to this one is answered, and its outputs were taken.
        duplicates: outputs dropped because they had been received before.
        isolated: inputs that were answered on a stream of their own, since servers had broken
            while they had them.
        attempts: calls made, for these inputs as well.
        resumes: attempts that a server took after an earlier one had broken.
        replica: the last replica that served the stream; empty before the first welcome.
        code_version: of the server's code, as it names itself.
        stream_id: in hex, as it stands in the server's logs.
        endpoint: where its last attempt went, of those that the target has; empty before the first.
        lanes: the ways that its inputs took, its own attempts first, then the lanes that there are,
            then the last 64 that have ended; empty if there may be none.
        hedged: inputs that went to a second replica, since the first was late by far.
        tokens: of a stateful service: states that came, to go on from.
        token_bytes: theirs together.
        stateful: whether the service keeps a state, which the stream carries; False before the
            first welcome.
    """

    accepted: int
    sent: int
    replayed: int
    received: int
    taken_through: int
    duplicates: int
    isolated: int
    attempts: int
    resumes: int
    replica: str
    code_version: str
    stream_id: str
    endpoint: str = ""
    lanes: Sequence[LaneStatistics] = ()
    hedged: int = 0
    tokens: int = 0
    token_bytes: int = 0
    stateful: bool = False


class StreamKind(enum.Enum):
    """What a stream is for."""

    STREAM = "stream"
    """A call of `stream`."""
    PREDICT = "predict"
    """Carries many calls of `predict`, and outlives each."""
    GENERATE = "generate"
    """Carries many calls of `generate`, and outlives each."""
    LANE = "lane"
    """Carries inputs of a call of `stream` that others of its inputs do not wait for."""
    STUB = "stub"
    """A call of a stub of one's own (`servestream_client.resume`)."""
    ISOLATED = "isolated"
    """Tries inputs apart from the others, because servers broke while they had them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """Something happened to a stream.

    Attributes:
        stream_id: in hex, as it stands in the server's logs.
    """

    stream_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamStarted(Event):
    """The first in a stream's life.

    Attributes:
        target: as the client was given it.
        application: the wanted one; empty: any.
        kind: what the stream is for.
        ordered: whether outputs come in the order of the inputs.
        statistics: what happened so far, at any time; may be called from any thread.
    """

    target: str
    application: str
    kind: StreamKind
    ordered: bool
    statistics: Callable[[], StreamStatistics]

    def __str__(self) -> str:
        application = f", application {self.application!r}" if self.application else ""
        return f"started: {self.kind.value} to {self.target}{application}"


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptStarted(Event):
    """A call is about to be made.

    Attributes:
        attempt: its number within the stream, from 1.
        endpoint: where it goes, of those that the target has.
    """

    attempt: int
    endpoint: str = ""

    def __str__(self) -> str:
        where = f" at {self.endpoint}" if self.endpoint else ""
        return f"attempt {self.attempt} begins{where}"


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptWelcomed(Event):
    """A replica took the stream.

    Attributes:
        attempt: the call's number.
        replica: which, as it names itself.
        code_version: of its code, likewise.
        resumed: whether another attempt had been welcomed before.
    """

    attempt: int
    replica: str
    code_version: str
    resumed: bool

    def __str__(self) -> str:
        how = "resumed" if self.resumed else "served"
        return f"attempt {self.attempt}: {how} by {self.replica or 'an unnamed replica'}"


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerDraining(Event):
    """The replica asks the stream to go elsewhere.

    Attributes:
        attempt: the call's number.
        grace: seconds in which it still answers what it has.
    """

    attempt: int
    grace: float

    def __str__(self) -> str:
        return f"attempt {self.attempt}: the server is leaving, within {self.grace:g} s"


@dataclass(frozen=True, slots=True, kw_only=True)
class ItemFailed(Event):
    """An input failed. What `predict` itself cannot encode or decode is its caller's alone.

    Attributes:
        number: which of the stream, from 1.
        index: after how many of its outputs.
        kind: why.
        text: in words, from the server's handler for example.
    """

    number: int
    index: int
    kind: ItemErrorKind
    text: str

    def __str__(self) -> str:
        return f"input {self.number} failed: {self.kind.name}: {self.text}"


class AttemptOutcome(enum.Enum):
    """How a call came to its end."""

    COMPLETE = "complete"
    """Nothing of the stream is left to do."""
    LEFT = "left"
    """In good order, because the server is leaving or the attempt was old; another one follows."""
    BROKEN = "broken"
    """By a failure; another one follows if the retry policy allows it."""
    CLOSED = "closed"
    """By the caller."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptEnded(Event):
    """A call is over.

    Attributes:
        attempt: its number.
        outcome: how.
        reason: why, in words; empty if it is complete or was closed.
        status: gRPC's word for its end, such as ``UNAVAILABLE``; empty where none came.
    """

    attempt: int
    outcome: AttemptOutcome
    reason: str
    status: str = ""

    def __str__(self) -> str:
        reason = f": {self.reason}" if self.reason else ""
        return f"attempt {self.attempt} is over, {self.outcome.value}{reason}"


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamEnded(Event):
    """The last in a stream's life.

    Attributes:
        error: what the caller gets in the end; None if all went well. A `ClientClosedError` if
            the caller closed it, or left its loop early.
        statistics: what happened; the caller may still have outputs to take.
    """

    error: BaseException | None
    statistics: StreamStatistics

    def __str__(self) -> str:
        counts = self.statistics
        outcome = "ended" if self.error is None else f"failed with {type_name(self.error)}"
        if isinstance(self.error, ClientClosedError):
            outcome = "closed by its user"
        return (
            f"{outcome}: {counts.sent} inputs sent, {counts.received} answered,"
            f" {counts.attempts} attempts, {counts.resumes} resumes"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class OutputsArrived(Event):
    """Outputs of a call of `generate` came to the client; told when its reader takes them.

    Attributes:
        target: as the client was given it.
        application: the wanted one; empty: any.
        first_index: how many of its outputs came before.
        count: how many came, together.
        seconds: since the ones before; of the first, since the call began. A reader that rests for
            long stops its handler: that is in it, too.
    """

    target: str
    application: str
    first_index: int
    count: int
    seconds: float

    def __str__(self) -> str:
        return f"{self.count} outputs from {self.first_index} on"


@dataclass(frozen=True, slots=True, kw_only=True)
class CallEnded(Event):
    """A call of `predict` or `generate` is over; told in the call's context.

    Its `stream_id` is that of the stream that carried it last, which carries others; empty: none
    did.

    Attributes:
        target: as the client was given it.
        application: the wanted one; empty: any.
        kind: `StreamKind.PREDICT` or `StreamKind.GENERATE`.
        seconds: since it began, retries and waiting included, codecs not; of a generation, until
            its last output came or its reader left it.
        outputs: how many came.
        error: what its caller gets in the end; None if all went well. A `CancelledError` if the
            caller of `predict` was cancelled. What a codec refuses of `predict` is its caller's
            alone.
        left: whether the reader of a generation has left it before its end, by whatever way.
    """

    target: str
    application: str
    kind: StreamKind
    seconds: float
    outputs: int
    error: BaseException | None
    left: bool = False

    def __str__(self) -> str:
        outcome = "ended" if self.error is None else f"failed with {type_name(self.error)}"
        if self.left:
            outcome = "was left"
        return f"a call of {self.kind.value} {outcome} after {self.seconds:.3g} s"


class Hooks:
    """Is told what happens to a client's streams. Derive from it, and override what you need.

    Its methods are called in the client's event loop and must not block. What they raise is
    logged, and harms no stream.
    """

    def on_event(self, event: Event, /) -> None:
        """Something happened: one of the classes of `servestream_client.events`."""

    def metadata(self, attempt: AttemptStarted, /) -> Metadata:
        """GRPC metadata to send with the call, besides the client's own."""
        del attempt
        return ()
