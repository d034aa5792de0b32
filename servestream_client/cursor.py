"""Cursors: what outlives the process of a stream's consumer.

A cursor says which inputs are done with, carries a digest of these, and of which job they are. As
bytes it is a line of JSON, and may be kept anywhere; docs/how-to/batch-jobs.md shows where.

The digest of some inputs is BLAKE2b of 16 bytes, of those behind the last whole block of 1,024,
keyed with the digest of all before these; without a key in the first block. Of each input it has
the length of its payload in 8 bytes, little-endian, and the payload, or of one with more than 256
bytes its BLAKE2b of 16 bytes. An input that could not be encoded is 8 bytes of 255.
"""

from __future__ import annotations

import hashlib
import json
import operator
import struct
from abc import ABC, abstractmethod
from base64 import b64decode, b64encode
from collections.abc import AsyncIterable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, Self, TypeVar

from servestream_client.errors import ConfigurationError, CursorMismatchError

__all__ = [
    "BLOCK",
    "NO_INPUTS",
    "Cursor",
    "CursorState",
    "InputDigest",
    "Job",
    "SeekableInputs",
    "marked",
    "marks",
]

In = TypeVar("In")

NO_INPUTS = b""
"""The digest of no inputs."""

BLOCK = 1024
"""Inputs after which a digest begins anew, keyed with that of all before."""

_VERSION = 1
_DIGEST_BYTES = 16
_LONGEST = 256
_FAILED = b"\xff" * 8

_length = struct.Struct("<Q").pack


def marked(payload: bytes | None) -> bytes:
    """What a digest has of an input; never more than 264 bytes.

    Args:
        payload: None: it could not be encoded.
    """
    if payload is None:
        return _FAILED
    if len(payload) > _LONGEST:
        return _length(len(payload)) + _digest(payload, NO_INPUTS).digest()
    return _length(len(payload)) + payload


def marks(payloads: Sequence[bytes]) -> list[bytes]:
    """`marked` of each."""
    sizes = list(map(len, payloads))
    if max(sizes, default=0) > _LONGEST:
        return list(map(marked, payloads))
    return list(map(operator.add, map(_length, sizes), payloads))


def _digest(data: bytes, key: bytes) -> hashlib.blake2b:
    return hashlib.blake2b(data, key=key, digest_size=_DIGEST_BYTES)


class InputDigest:
    """The digest of inputs, as they come.

    Args:
        count: whole blocks of inputs that it begins behind.
        block: their digest.
    """

    __slots__ = ("_hash", "block", "count")

    def __init__(self, count: int = 0, block: bytes = NO_INPUTS) -> None:
        self.count: int = count
        """How many inputs it is of."""
        self.block: bytes = block
        """Of the whole blocks among them."""
        self._hash = _digest(b"", block)

    @property
    def value(self) -> bytes:
        """That of all of them."""
        return self._hash.digest() if self.count % BLOCK else self.block

    def add(self, inputs: Sequence[bytes]) -> None:
        """Further inputs, as `marked`."""
        first = 0
        while first < len(inputs):
            some = inputs[first : first + BLOCK - self.count % BLOCK]
            self._hash.update(b"".join(some))
            self.count += len(some)
            first += len(some)
            if not self.count % BLOCK:
                self.block = self._hash.digest()
                self._hash = _digest(b"", self.block)

    def copy(self) -> InputDigest:
        """One that goes on by itself."""
        other = InputDigest(self.count, self.block)
        other._hash = self._hash.copy()
        return other


class SeekableInputs(ABC, Generic[In]):
    """Inputs that can begin behind some of them, such as the rows of a table: those before need not
    be read again to go on, and nobody looks whether they are the same.
    """

    @abstractmethod
    def after(self, count: int) -> Iterable[In] | AsyncIterable[In]:
        """The inputs behind the first `count`. Up to 1,023 of what it gives are done with: these
        are compared, and not sent.
        """

    def __iter__(self) -> Iterator[In]:
        inputs = self.after(0)
        if not isinstance(inputs, Iterable):
            raise TypeError("these inputs are asynchronous")
        return iter(inputs)


@dataclass(frozen=True, slots=True)
class Job:
    """What decides about the outputs of a stream, besides its inputs.

    Attributes:
        application: the Serve application.
        codec: the id of the codec.
        fingerprint: of the codec; empty: not known.
        parameters: by name, a digest of the value.
    """

    application: str
    codec: str
    fingerprint: str
    parameters: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of(
        cls, application: str, codec: str, fingerprint: str, parameters: Mapping[str, str] | None
    ) -> Self:
        """The job of a stream with these options."""
        digests = {name: _short(value) for name, value in sorted((parameters or {}).items())}
        return cls(application, codec, fingerprint, digests)

    def check(self, other: Job) -> None:
        """See that a stream of another job goes on with this one.

        Raises:
            CursorMismatchError: it cannot; says what is another.
        """
        others = [
            f"the {what} was {was!r}, and is {now!r}"
            for what, was, now in (
                ("application", self.application, other.application),
                ("codec", self.codec, other.codec),
            )
            if was != now
        ]
        if self.fingerprint and other.fingerprint and self.fingerprint != other.fingerprint:
            others.append("the codec has other types")
        others += [
            f"the parameter {name!r} {_change(was, now)}"
            for name in sorted({*self.parameters, *other.parameters})
            if (was := self.parameters.get(name)) != (now := other.parameters.get(name))
        ]
        if others:
            raise CursorMismatchError(f"the cursor belongs to another job: {'; '.join(others)}")


def _short(value: str) -> str:
    return hashlib.blake2b(value.encode("utf-8", "surrogatepass"), digest_size=8).hexdigest()


def _change(was: str | None, now: str | None) -> str:
    if was is None:
        return "is new"
    return "is missing" if now is None else "has another value"


@dataclass(frozen=True, slots=True)
class CursorState:
    """What a cursor of a stateful stream holds besides; docs/protocol.md, section 11.

    Attributes:
        stream_id: 16 bytes; the state belongs to that stream.
        attempts: the number of the stream's last one.
        number: the input behind which the state is; 0: there is none, and all are computed again.
        token: the state, as its service has sealed it.
        failed: the inputs behind that, to the cursor's position, that have failed, as ranges with
            both ends, ascending.
        digests: of the outputs of each of the others, 8 bytes each.
    """

    stream_id: bytes
    attempts: int
    number: int
    token: bytes
    failed: tuple[tuple[int, int], ...] = ()
    digests: bytes = b""

    @property
    def begun(self) -> bool:
        """Whether any input was computed; else no server is known, and none may be stateful."""
        return self.number > 0 or bool(self.digests)


@dataclass(frozen=True, slots=True)
class Cursor:
    """How far a stream's consumer is. ``Cursor()`` is the beginning of any stream.

    Keep it together with the outputs, in one transaction: `PredictionStream.batches` gives both.

    Attributes:
        position: the first inputs that are done with: each is answered, and its outputs, or its
            failure, were taken.
        beyond: further ones, of an unordered stream, as ranges with both ends, ascending.
        digest: of the first inputs.
        digest_beyond: of the inputs to the last one of `beyond`.
        job: what they belong to; None: nothing is done yet.
        block: the digest of the whole blocks among the first inputs.
        state: of a stateful stream: what it goes on with. None: the service keeps no state, or
            nothing is done yet.
    """

    position: int = 0
    beyond: tuple[tuple[int, int], ...] = ()
    digest: bytes = NO_INPUTS
    digest_beyond: bytes = NO_INPUTS
    job: Job | None = None
    block: bytes = NO_INPUTS
    state: CursorState | None = None

    @property
    def through(self) -> int:
        """The last input that is done with."""
        return self.beyond[-1][1] if self.beyond else self.position

    def __bytes__(self) -> bytes:
        """As JSON, for `from_bytes`, and for eyes."""
        value: dict[str, Any] = {"servestream_cursor": _VERSION, "position": self.position}
        if self.beyond:
            value["beyond"] = self.beyond
            value["digest_beyond"] = self.digest_beyond.hex()
        if self.digest:
            value["digest"] = self.digest.hex()
        if self.block:
            value["block"] = self.block.hex()
        if self.job is not None:
            value["job"] = {
                "application": self.job.application,
                "codec": self.job.codec,
                "fingerprint": self.job.fingerprint,
                "parameters": dict(self.job.parameters),
            }
        if self.state is not None:
            value["state"] = {
                "stream_id": self.state.stream_id.hex(),
                "attempts": self.state.attempts,
                "number": self.state.number,
                "token": b64encode(self.state.token).decode(),
                "failed": self.state.failed,
                "digests": b64encode(self.state.digests).decode(),
            }
        value["check"] = _check(value)
        return json.dumps(value, separators=(",", ":")).encode()

    @classmethod
    def from_bytes(cls, data: bytes | bytearray | memoryview) -> Cursor:
        """The cursor that these bytes were made of.

        Raises:
            ConfigurationError: they are none, or not whole, or of a newer version of the package.
        """
        try:
            value = json.loads(bytes(data))
            version = value.pop("servestream_cursor")
        except (ValueError, KeyError, TypeError, AttributeError):
            raise ConfigurationError("these bytes are no cursor") from None
        if version != _VERSION:
            raise ConfigurationError(
                f"the cursor has version {version!r}, and this package reads {_VERSION}: it was"
                " made by a newer one"
            )
        check = value.pop("check", None)
        if check != _check({"servestream_cursor": version, **value}):
            raise ConfigurationError("the cursor is damaged")
        job = value.get("job")
        return cls(
            position=value["position"],
            beyond=tuple((first, last) for first, last in value.get("beyond", ())),
            digest=bytes.fromhex(value.get("digest", "")),
            digest_beyond=bytes.fromhex(value.get("digest_beyond", "")),
            job=None if job is None else Job(**job),
            block=bytes.fromhex(value.get("block", "")),
            state=_state(value.get("state")),
        )


def _state(value: dict[str, Any] | None) -> CursorState | None:
    if value is None:
        return None
    return CursorState(
        stream_id=bytes.fromhex(value["stream_id"]),
        attempts=value["attempts"],
        number=value["number"],
        token=b64decode(value["token"]),
        failed=tuple((first, last) for first, last in value["failed"]),
        digests=b64decode(value["digests"]),
    )


def _check(value: dict[str, Any]) -> str:
    text = json.dumps(value, separators=(",", ":"), sort_keys=True)
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()
