"""What a codec is, and the one that does nothing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol, TypeVar, runtime_checkable

from servestream_client.errors import ConfigurationError

__all__ = ["BytesCodec", "Codec", "check_codec", "direct", "encodes_bytes", "is_bytes_codec"]

In = TypeVar("In")
Out = TypeVar("Out")
T = TypeVar("T")


@runtime_checkable
class Codec(Protocol[In, Out]):
    """How one kind of stream encodes its items.

    The client calls `encode_input` and `decode_output`, the server the other two. Each may raise
    anything; the item at hand then fails, and no other.
    """

    @property
    def id(self) -> str:
        """Names the codec; both ends must agree on it."""
        ...

    @property
    def fingerprint(self) -> str:
        """What the id leaves open, e.g. the types. Both ends must agree on it, unless one of them
        leaves it empty.
        """
        ...

    def encode_input(self, item: In, /) -> bytes: ...

    def decode_input(self, payload: bytes, /) -> In: ...

    def encode_output(self, output: Out, /) -> bytes: ...

    def decode_output(self, payload: bytes, /) -> Out: ...


class BytesCodec:
    """Bytes in, bytes out, as they are. The default."""

    id = "bytes"
    fingerprint = ""

    def encode_input(self, item: bytes, /) -> bytes:
        return item if item.__class__ is bytes else _as_bytes(item)

    def decode_input(self, payload: bytes, /) -> bytes:
        return payload

    def encode_output(self, output: bytes, /) -> bytes:
        return output if output.__class__ is bytes else _as_bytes(output)

    def decode_output(self, payload: bytes, /) -> bytes:
        return payload

    def __repr__(self) -> str:
        return "BytesCodec()"


def is_bytes_codec(codec: object) -> bool:
    """Whether payloads and bytes are the same to a codec, so that nobody need ask it."""
    return codec.__class__ is BytesCodec


def encodes_bytes(convert: Callable[..., object]) -> bool:
    """The same of one of a codec's methods."""
    return is_bytes_codec(getattr(convert, "__self__", None))


def direct(convert: Callable[[Any], T]) -> Callable[[Any], T]:
    """What does the work of one of a codec's methods, if there is something that does all of it."""
    find: Callable[[str], Callable[[Any], T] | None] | None
    find = getattr(getattr(convert, "__self__", None), "_direct", None)
    found = find(convert.__name__) if find is not None else None
    return convert if found is None else found


def _as_bytes(value: object) -> bytes:
    if isinstance(value, bytes):
        return bytes(value)
    if isinstance(value, memoryview) and value.format not in ("B", "b", "c"):
        raise TypeError(
            f"BytesCodec takes bytes, and this is a memoryview of format {value.format!r}, which"
            ' differs between machines; .cast("B") takes the bytes as they are here'
        )
    if isinstance(value, bytearray | memoryview):
        return bytes(value)
    raise TypeError(f"BytesCodec takes bytes, not {type(value).__name__}; set another codec")


def check_codec(name: str, codec: object) -> None:
    """
    Raises:
        ConfigurationError: it is no codec, or what both ends compare of it is no text.
    """
    if isinstance(codec, type):
        raise ConfigurationError(f"{name} is a class, {codec.__name__}: make an instance of it")
    if not isinstance(codec, Codec):
        raise ConfigurationError(f"{name} lacks the methods of Codec: {codec!r}")
    if not isinstance(codec.id, str) or not codec.id:
        raise ConfigurationError(f"{name}: its id must be a string, not {codec.id!r}")
    if not isinstance(codec.fingerprint, str):
        raise ConfigurationError(
            f"{name}: its fingerprint must be a string, not {codec.fingerprint!r}; is it a method"
            " without @property?"
        )
