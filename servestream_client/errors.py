"""Everything that can go wrong, as people meet it.

::

    ServeStreamError
    ├── ConfigurationError            an option or argument that cannot work (also a ValueError)
    │   └── InputsError               inputs that are no iterable (also a TypeError)
    ├── ClientClosedError             the client was used after its end
    ├── WrongEventLoopError           the client was used in a second event loop
    ├── StreamError                   one stream failed; says what is known to be delivered
    │   ├── UnreachableError          nobody answers at the target
    │   ├── NotAServerError           somebody answers, but does not speak this protocol
    │   ├── WrongApplicationError     the application is unknown there, or another one answered
    │   ├── VersionMismatchError      the server speaks another protocol version
    │   ├── CodecMismatchError        the two ends disagree on how payloads are encoded
    │   ├── AccessDeniedError         the server does not let this client in
    │   ├── RejectedError             the server calls the request itself invalid
    │   ├── MessageTooLargeError      a message, or metadata, exceeded what a peer accepts
    │   ├── ServerFailedError         the server gave the stream up for good
    │   ├── PeerProtocolError         the server broke the protocol again and again
    │   ├── RetriesExhaustedError     the retry policy has no attempts left
    │   └── StreamTimeoutError        the stream's own timeout passed (also a TimeoutError)
    └── ItemError                     one input failed; the others did not
        ├── InputEncodeError          the codec could not encode the input
        ├── InputTooLargeError        the encoded input exceeds the limit
        └── OutputDecodeError         the codec could not decode the output

The others are internal: `RemoteProtocolError` (the peer broke a rule: the attempt is abandoned), of
which `FrameLostError` is the one kind that may not be its doing, and `LocalProtocolError` (our side
did: a bug).
"""

from __future__ import annotations

import enum
from dataclasses import dataclass

__all__ = [
    "AccessDeniedError",
    "ClientClosedError",
    "CodecMismatchError",
    "ConfigurationError",
    "Delivered",
    "FrameLostError",
    "InputEncodeError",
    "InputTooLargeError",
    "InputsError",
    "ItemError",
    "ItemErrorKind",
    "LocalProtocolError",
    "MessageTooLargeError",
    "NotAServerError",
    "OutputDecodeError",
    "PeerProtocolError",
    "RejectedError",
    "RemoteProtocolError",
    "RetriesExhaustedError",
    "ServeStreamError",
    "ServerFailedError",
    "StreamError",
    "StreamTimeoutError",
    "UnreachableError",
    "VersionMismatchError",
    "WrongApplicationError",
    "WrongEventLoopError",
    "printable",
    "type_name",
]

_MAX_TEXT = 2000


def printable(text: str, limit: int = _MAX_TEXT) -> str:
    """Cut and escape text from a peer, so that it can stand in a message or a log line."""
    cut = text if len(text) <= limit else text[: limit - 1] + "…"
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in cut)


def type_name(value: object) -> str:
    """The name of a value's class, whatever its metaclass says of it."""
    name: str = type.__dict__["__name__"].__get__(type(value))
    return name


class ItemErrorKind(enum.IntEnum):
    """Why one input failed. Values below 100 are the wire's (`ItemErrorKind` in the .proto)."""

    UNKNOWN = 0
    HANDLER = 1
    """The server's handler raised."""
    DECODE = 2
    """The server's codec could not decode the input."""
    ENCODE = 3
    """The server's codec could not encode the output."""
    TOO_LARGE = 4
    """The output is larger than this client accepts."""
    TIMEOUT = 5
    """The item took longer than its limit."""
    CANCELLED = 6
    """The client cancelled it."""
    POISON = 7
    """It broke the server whenever it was tried."""
    INTERRUPTED = 8
    """It was cut in its middle, and the handler cannot go on from there."""

    INPUT_ENCODE = 100
    """This client's codec could not encode the input; it was never sent."""
    INPUT_TOO_LARGE = 101
    """The encoded input exceeds the limit; it was never sent."""
    OUTPUT_DECODE = 102
    """This client's codec could not decode the output."""


@dataclass(frozen=True, slots=True)
class Delivered:
    """What is known of a stream when it fails. Numbers count the inputs from 1.

    Attributes:
        taken_through: every input up to this one is answered, and the caller has its outputs.
        answered: how many inputs are answered in all.
        accepted: how many inputs were pulled from the caller's iterable.
        unsent: how many of those were never sent.
        stream_id: the stream's id, in hex, as it stands in the server's logs.
        attempts: how many calls were made for the stream.
    """

    taken_through: int = 0
    answered: int = 0
    accepted: int = 0
    unsent: int = 0
    stream_id: str = ""
    attempts: int = 0

    def __str__(self) -> str:
        account = [
            f"delivered: every output of inputs 1 to {self.taken_through}"
            if self.taken_through
            else "delivered: no output"
        ]
        unknown = self.accepted - self.answered - self.unsent
        if unknown:
            account.append(f"{unknown} inputs were sent and may have been computed")
        if self.unsent:
            account.append(f"{self.unsent} inputs were pulled and never sent")
        return "; ".join(account)


class ServeStreamError(Exception):
    """Base of every error that this package raises on purpose."""


class ConfigurationError(ServeStreamError, ValueError):
    """An option or argument that cannot work."""


class InputsError(ConfigurationError, TypeError):
    """The inputs are neither an iterable nor an async iterable."""


class CursorMismatchError(ConfigurationError):
    """A cursor is one of another job, or was made with other inputs."""


class ClientClosedError(ServeStreamError):
    """The client was used after its end, or ended while the stream was open."""


class WrongEventLoopError(ServeStreamError):
    """The client belongs to the event loop that first used it, and this is another one."""


class StreamError(ServeStreamError):
    """One stream failed. Every output received before has been delivered.

    Attributes:
        reason: what happened, without the account of what was delivered.
        delivered: what the caller has, and what is unknown.
    """

    def __init__(self, reason: str, delivered: Delivered | None = None) -> None:
        self.reason = reason
        self.delivered: Delivered = delivered if delivered is not None else Delivered()
        super().__init__(reason)

    @property
    def attempts(self) -> int:
        """How many calls were made for the stream."""
        return self.delivered.attempts

    @property
    def last_number(self) -> int:
        """Every input up to this number is answered and its outputs were taken."""
        return self.delivered.taken_through

    @property
    def stream_id(self) -> str:
        """The stream's id in hex."""
        return self.delivered.stream_id

    def __str__(self) -> str:
        account = (
            f"{self.delivered}; attempts: {self.delivered.attempts};"
            f" stream {self.delivered.stream_id or '(none)'}"
        )
        return f"{self.reason}\n  {account}"


class UnreachableError(StreamError):
    """Nobody answers at the target."""


class NotAServerError(StreamError):
    """Somebody answers at the target, but does not speak this protocol."""


class WrongApplicationError(StreamError):
    """The wanted application is unknown at the target, or another one answered."""


class VersionMismatchError(StreamError):
    """The server speaks another version of the protocol."""


class CodecMismatchError(StreamError):
    """Client and server disagree on how payloads are encoded."""


class AccessDeniedError(StreamError):
    """The server does not let this client in."""


class RejectedError(StreamError):
    """The server calls the request itself invalid; trying again would not help."""


class MessageTooLargeError(StreamError):
    """A whole gRPC message, a call's metadata, or a request's whole body exceeded what one of the
    peers on the way accepts.
    """


class ServerFailedError(StreamError):
    """The server gave the stream up for good."""


class PeerProtocolError(StreamError):
    """The server broke the protocol again and again."""


class NotResumableError(StreamError):
    """A call of a stub of one's own was cut, and its server does not go on where it was."""


class RetriesExhaustedError(StreamError):
    """The retry policy has no attempts left; the last failure is the `__cause__`."""


class StreamTimeoutError(StreamError, TimeoutError):
    """The timeout given to the stream passed before it was complete."""


class ItemError(ServeStreamError):
    """One input failed; the others did not.

    Raised in the input's place, or yielded there with ``return_exceptions=True``.

    Attributes:
        number: the input's place in the stream, counted from 1.
        kind: why.
        text: what the failing side says of it.
        index: how many outputs of this input came before the error.
        retryable: whether the same input may succeed as a new one.
        input: the input itself; None for an output that could not be decoded.
    """

    def __init__(
        self,
        number: int,
        kind: ItemErrorKind,
        text: str,
        *,
        index: int = 0,
        retryable: bool = False,
        input: object = None,  # noqa: A002 — the attribute's name
    ) -> None:
        self.number = number
        self.kind = kind
        self.text = text
        self.index = index
        self.retryable = retryable
        self.input = input
        super().__init__(number, kind, text)

    def __str__(self) -> str:
        again = "; it may succeed when sent again" if self.retryable else ""
        return f"input {self.number} failed ({self.kind.name.lower()}): {self.text}{again}"


class InputEncodeError(ItemError):
    """The codec could not encode the input; it was never sent. The `__cause__` is the reason."""


class InputTooLargeError(ItemError):
    """The encoded input exceeds the limit; it was never sent."""


class OutputDecodeError(ItemError):
    """The codec could not decode the output. The `__cause__` is the reason."""


class RemoteProtocolError(Exception):
    """The peer broke a rule of the protocol; what arrives from it can no longer be trusted."""


class FrameLostError(RemoteProtocolError):
    """Something is missing that a frame lost on the way would explain: no breach by the peer."""


class LocalProtocolError(Exception):
    """Our side broke a rule of the protocol: a bug in this package."""
