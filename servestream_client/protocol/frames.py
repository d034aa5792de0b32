"""Frames: what the two ends say to each other, as values. The vocabulary of docs/protocol.md.

Every class here mirrors a message of ``protos/servestream/v1/stream.proto``, which is why there are
so many in one file, and is a value: nobody changes one. Those that every frame needs are not
frozen, which would make them three times as slow. What the wire leaves out is None or the field's
default.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from servestream_client.errors import ItemErrorKind

PROTOCOL_VERSION = 1

STREAM_ID_BYTES = 16

RESUME_BYTES = 32
"""What a `Resume` weighs beside its checkpoint and its outputs."""

RESUMED_OUTPUT_BYTES = 8
"""What an output in it weighs beside its payload."""


class Order(enum.IntEnum):
    """Whether outputs keep the order of their inputs."""

    UNSPECIFIED = 0
    INPUT = 1
    ANY = 2


class HandlerKind(enum.IntEnum):
    """What the service's handler makes of its inputs."""

    UNSPECIFIED = 0
    ONE_TO_ONE = 1
    BATCH = 2
    ONE_TO_MANY = 3
    STATEFUL = 4


SINGLE_OUTPUT: frozenset[HandlerKind] = frozenset({HandlerKind.ONE_TO_ONE, HandlerKind.BATCH})
"""The handlers of which every input has one output, with index 0, or an item error."""


class Replay(enum.IntEnum):
    """How a handler of many outputs goes on with an input of which outputs were received."""

    UNSPECIFIED = 0
    NEVER = 1
    RESTART = 2
    SEEK = 3
    CONTINUE = 4


class RefusalKind(enum.IntEnum):
    """Why a stream is not served."""

    UNSPECIFIED = 0
    OVERLOADED = 1
    DRAINING = 2
    VERSION = 3
    APPLICATION = 4
    CODEC = 5
    TOKEN = 6
    BAD_OPEN = 7
    UNAUTHENTICATED = 8
    PERMISSION_DENIED = 9


class StreamErrorKind(enum.IntEnum):
    """Why a stream failed on its server."""

    UNSPECIFIED = 0
    INTERNAL = 1
    PROTOCOL = 2
    SUPERSEDED = 3
    STATE = 4
    OVERLOADED = 5
    SILENCE = 6


class BlockedOn(enum.IntEnum):
    """What a server waits for."""

    UNSPECIFIED = 0
    NOTHING = 1
    INPUT = 2
    CREDIT = 3
    HANDLER = 4


@dataclass(frozen=True, slots=True)
class CodecId:
    """What both ends must agree on to understand the payloads."""

    id: str
    fingerprint: str = ""

    def fits(self, other: CodecId) -> bool:
        """Whether the ends can understand each other. One without a fingerprint takes anything of
        the codec's.
        """
        alike = self.fingerprint == other.fingerprint
        return self.id == other.id and (alike or not self.fingerprint or not other.fingerprint)


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Docs section 5. The defaults are the protocol's: they hold where the wire says zero."""

    window_items: int = 4096
    window_bytes: int = 4 * 1024 * 1024
    unacknowledged_frames: int = 4
    frame_bytes: int = 4 * 1024 * 1024
    item_bytes: int = 3 * 1024 * 1024
    input_outputs: int = 256
    input_bytes: int = 256 * 1024
    token_bytes: int = 64 * 1024
    chunked_bytes: int = 0

    @property
    def largest(self) -> int:
        """The largest payload that is accepted, in whatever way."""
        return max(self.item_bytes, self.chunked_bytes)

    def within(self, offer: Limits) -> Limits:
        """The limits that hold for the inputs of a client that offered `offer` to these.

        Windows and K are what both allow; sizes are what the receiver of the inputs accepts. The
        credit of single inputs is the client's alone.
        """
        return Limits(
            window_items=min(self.window_items, offer.window_items),
            window_bytes=min(self.window_bytes, offer.window_bytes),
            unacknowledged_frames=min(self.unacknowledged_frames, offer.unacknowledged_frames),
            frame_bytes=self.frame_bytes,
            item_bytes=self.item_bytes,
            input_outputs=offer.input_outputs,
            input_bytes=offer.input_bytes,
            token_bytes=self.token_bytes,
            chunked_bytes=self.chunked_bytes,
        )


@dataclass(frozen=True, slots=True, order=True)
class Position:
    """An output: its input's number and its index."""

    number: int
    index: int = 0


@dataclass(frozen=True, slots=True)
class StateToken:
    """Where a stateful stream can go on from: after which input, and how. Docs section 11.

    Attributes:
        digest: of the outputs between the state before and this one, where none of them was sent on
            the attempt; else empty.
    """

    number: int
    token: bytes
    digest: bytes = b""


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """Proof of life, with positions."""

    inputs_through: int = 0
    outputs: int = 0
    chunk_bytes: int = 0


@dataclass(slots=True)
class Chunk:
    """Some bytes of a payload, the others of which follow. Docs section 22.

    Attributes:
        number: of the input, or of the one that the output answers.
        index: of the output.
        offset: how many bytes of the payload came before.
        data: at least one; a part of the payload itself, where that is at hand.
        size: how many bytes `data` stands for, once it is compressed; else 0.
    """

    number: int
    index: int
    offset: int
    data: bytes | memoryview
    size: int = 0


@dataclass(frozen=True, slots=True)
class Coming:
    """Bytes that come before the sender's next frame, or as that frame. Docs section 12.

    Attributes:
        bytes: how many.
        frame_bytes: of these, the frame's own, where it is a large one.
        number: of the first input in a large frame, or the first answered by it.
        acknowledge: the large frame is to be acknowledged as soon as it is read.
    """

    bytes: int
    frame_bytes: int = 0
    number: int = 0
    acknowledge: bool = False


# ------------------------------------------------------------------ client to server


@dataclass(frozen=True, slots=True, kw_only=True)
class Open:
    """The first frame of an attempt. Docs section 4."""

    stream_id: bytes
    attempt: int
    codec: CodecId
    protocol_version: int = PROTOCOL_VERSION
    features: Sequence[str] = ()
    application: str = ""
    order: Order = Order.INPUT
    first_number: int = 1
    limits: Limits = field(default_factory=Limits)
    isolated: bool = False
    token: StateToken | None = None
    emit_from: Position | None = None
    heartbeat_interval_ms: int = 0
    deadline_ms: int = 0
    parameters: Mapping[str, str] = field(default_factory=dict)
    item_timeout_ms: int = 0
    emit_digest: bytes = b""


@dataclass(frozen=True, slots=True)
class ItemMetadata:
    """What travels beside one input."""

    deadline_ms: int = 0
    priority: int = 0
    traceparent: str = ""
    tracestate: str = ""
    key: bytes = b""


@dataclass(slots=True)
class Credit:
    """Totals over one attempt."""

    outputs: int = 0
    bytes: int = 0


@dataclass(frozen=True, slots=True)
class Resume:
    """What was received of an input whose last output was not. Docs section 18.

    Attributes:
        digest: of all outputs below the start index; 8 bytes.
        checkpoint: the last one; None: there was none.
        outputs_from: the index of the first of `outputs`.
        outputs: from there up to the start index, where the handler is given them.
    """

    digest: bytes
    checkpoint: bytes | None = None
    outputs_from: int = 0
    outputs: Sequence[bytes] = ()

    @property
    def size(self) -> int:
        """What it weighs, in bytes: against the window, and in a frame."""
        outputs = sum(map(len, self.outputs)) + RESUMED_OUTPUT_BYTES * len(self.outputs)
        return RESUME_BYTES + len(self.checkpoint or b"") + outputs


@dataclass(slots=True)
class InputRun:
    """Inputs first_number, first_number + 1 and so on. Docs section 6.

    Once they are compressed, `payloads` is all of them as one, and `sizes` are theirs. Docs section
    23.
    """

    first_number: int
    payloads: Sequence[bytes]
    first_start_index: int = 0
    metadata: Sequence[ItemMetadata] = ()
    first_credit: Credit | None = None
    first_resume: Resume | None = None
    first_offset: int = 0
    sizes: Sequence[int] = ()


@dataclass(slots=True)
class NumberRange:
    """Everything from first through last."""

    first: int
    last: int


@dataclass(slots=True)
class InputCredit:
    """What may be sent of one input on this attempt. Docs section 18.

    Attributes:
        number: the input's.
        outputs: those below this index.
        bytes: a total over what is sent of it.
    """

    number: int
    outputs: int
    bytes: int


@dataclass(frozen=True, slots=True)
class ClientEnd:
    """No further inputs will come. Docs section 9."""

    last_number: int


@dataclass(slots=True, kw_only=True)
class ClientFrame:
    """One message from client to server; its parts are independent."""

    open: Open | None = None
    inputs: Sequence[InputRun] = ()
    frames_read: int = 0
    credit: Credit | None = None
    cancelled: Sequence[NumberRange] = ()
    want_token: bool = False
    taken_through: int = 0
    end: ClientEnd | None = None
    heartbeat: Heartbeat | None = None
    coming: Coming | None = None
    input_credit: Sequence[InputCredit] = ()
    chunk: Chunk | None = None
    compression: int = 0
    """The level at which its payloads are to be compressed; 0: they are not, or are already."""

    @property
    def paced(self) -> bool:
        """Whether the frame counts for pacing. Docs section 8."""
        return bool(self.inputs or self.chunk)


# ------------------------------------------------------------------ server to client


@dataclass(frozen=True, slots=True, kw_only=True)
class Welcome:
    """The server takes the stream. Docs section 4."""

    protocol_version: int = PROTOCOL_VERSION
    application: str = ""
    code_version: str = ""
    replica: str = ""
    handler_kind: HandlerKind = HandlerKind.ONE_TO_ONE
    features: Sequence[str] = ()
    limits: Limits = field(default_factory=Limits)
    endpoints: Sequence[str] = ()
    heartbeat_interval_ms: int = 0
    restartable: bool = False
    replay: Replay = Replay.UNSPECIFIED
    fingerprint: str = ""


@dataclass(frozen=True, slots=True)
class Refused:
    """The server does not take the stream. Docs section 4."""

    kind: RefusalKind
    text: str = ""
    retry_after_ms: int | None = None


@dataclass(slots=True)
class OutputRun:
    """The single outputs of inputs first_number, first_number + 1 and so on; see `InputRun`."""

    first_number: int
    payloads: Sequence[bytes]
    first_offset: int = 0
    sizes: Sequence[int] = ()

    @property
    def place(self) -> tuple[int, int]:
        """The number and the index of the first output."""
        return self.first_number, 0


@dataclass(slots=True)  # not frozen, which takes four times as long: one for each token, maybe
class OutputPart:
    """Outputs first_index, first_index + 1 and so on of one input; see `InputRun`."""

    number: int
    first_index: int
    payloads: Sequence[bytes]
    last: bool
    checkpoint: bytes | None = None
    first_offset: int = 0
    sizes: Sequence[int] = ()

    @property
    def place(self) -> tuple[int, int]:
        """The number and the index of the first output."""
        return self.number, self.first_index


@dataclass(frozen=True, slots=True)
class ItemFailure:
    """An item error, as it travels: the input's number and what became of it."""

    number: int
    kind: ItemErrorKind
    text: str = ""
    index: int = 0
    retryable: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Running:
    """What is being computed, and what it waits for. Docs section 12."""

    oldest_number: int = 0
    oldest_age_ms: int = 0
    started_through: int = 0
    count: int = 0
    blocked_on: BlockedOn = BlockedOn.UNSPECIFIED


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """How busy a server is, and how many there are. Docs section 19.

    Attributes:
        servers: those of its deployment that take streams; 0: it is not known.
        items: what it has to compute, over all its streams.
        item_us: microseconds that its handler has taken for an item of late; 0: it is not known.
        places: how many items it computes at a time at the most; 0: it is not known.
    """

    servers: int = 0
    items: int = 0
    item_us: int = 0
    places: int = 0


@dataclass(frozen=True, slots=True)
class Drain:
    """The server is leaving. Docs section 13."""

    grace_ms: int = 0
    endpoints: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class StreamFailure:
    """The stream error frame: the whole stream failed on this server. Docs section 10."""

    kind: StreamErrorKind
    text: str = ""
    retry_after_ms: int | None = None


@dataclass(frozen=True, slots=True)
class ServerEnd:
    """Every input of this attempt is answered. Docs section 9."""

    last_number: int
    inputs_received: int
    inputs_answered: int


@dataclass(slots=True, kw_only=True)
class ServerFrame:
    """One message from server to client; its parts are independent."""

    welcome: Welcome | None = None
    refused: Refused | None = None
    outputs: Sequence[OutputRun] = ()
    parts: Sequence[OutputPart] = ()
    errors: Sequence[ItemFailure] = ()
    tokens: Sequence[StateToken] = ()
    frames_read: int = 0
    running: Running | None = None
    drain: Drain | None = None
    error: StreamFailure | None = None
    end: ServerEnd | None = None
    heartbeat: Heartbeat | None = None
    coming: Coming | None = None
    load: Load | None = None
    no_token: str = ""
    chunk: Chunk | None = None
    compression: int = 0
    """As a client's."""

    @property
    def paced(self) -> bool:
        """Whether the frame counts for pacing. Docs section 8."""
        return bool(self.outputs or self.parts or self.errors or self.tokens or self.chunk)
