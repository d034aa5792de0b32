"""Codecs: what turns inputs and outputs into payloads. Both ends of a stream use the same one."""

from __future__ import annotations

from typing import Generic, Protocol, TypeVar, runtime_checkable

from google.protobuf.message import DecodeError, Message

from servestream_client.errors import ConfigurationError

__all__ = ["BytesCodec", "Codec", "ProtobufCodec"]

In = TypeVar("In")
Out = TypeVar("Out")
_InMessage = TypeVar("_InMessage", bound=Message)
_OutMessage = TypeVar("_OutMessage", bound=Message)


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
        """What the id leaves open, e.g. the types; both ends must agree on it. May be empty."""
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


def _as_bytes(value: object) -> bytes:
    if isinstance(value, bytes):
        return value
    if isinstance(value, bytearray | memoryview):
        return bytes(value)
    raise TypeError(f"BytesCodec takes bytes, not {type(value).__name__}; set another codec")


class ProtobufCodec(Generic[_InMessage, _OutMessage]):
    """Protobuf messages of one type in, of another out.

    The fingerprint is the two full type names: fields may be added on either side without the
    other, as protobuf allows, but a stream of another type is refused when it opens.

    Args:
        input_type: a generated message class.
        output_type: likewise.
    """

    id = "protobuf"

    def __init__(self, input_type: type[_InMessage], output_type: type[_OutMessage]) -> None:
        for given in (input_type, output_type):
            if not (isinstance(given, type) and issubclass(given, Message)):
                raise ConfigurationError(
                    f"ProtobufCodec takes two generated message classes, not {given!r}"
                )
        self._input_type = input_type
        self._output_type = output_type

    @property
    def fingerprint(self) -> str:
        return (
            f"{self._input_type.DESCRIPTOR.full_name} -> {self._output_type.DESCRIPTOR.full_name}"
        )

    def encode_input(self, item: _InMessage, /) -> bytes:
        return _serialize(item, self._input_type)

    def decode_input(self, payload: bytes, /) -> _InMessage:
        return _parse(payload, self._input_type)

    def encode_output(self, output: _OutMessage, /) -> bytes:
        return _serialize(output, self._output_type)

    def decode_output(self, payload: bytes, /) -> _OutMessage:
        return _parse(payload, self._output_type)

    def __repr__(self) -> str:
        return f"ProtobufCodec({self._input_type.__name__}, {self._output_type.__name__})"


def _serialize(message: Message, expected: type[Message]) -> bytes:
    if not isinstance(message, expected):
        raise TypeError(f"expected {expected.__name__}, got {type(message).__name__}")
    return message.SerializeToString()


_M = TypeVar("_M", bound=Message)


def _parse(payload: bytes, expected: type[_M]) -> _M:
    message = expected()
    try:
        message.ParseFromString(payload)
    except DecodeError as error:
        raise ValueError(f"not a {expected.__name__}: {error}") from None
    return message
