"""Protobuf messages."""

from __future__ import annotations

from typing import Generic, TypeVar

from google.protobuf.message import DecodeError, Message

from servestream_client.errors import ConfigurationError

__all__ = ["ProtobufCodec"]

_M = TypeVar("_M", bound=Message)
_InMessage = TypeVar("_InMessage", bound=Message)
_OutMessage = TypeVar("_OutMessage", bound=Message)


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


def _parse(payload: bytes, expected: type[_M]) -> _M:
    message = expected()
    try:
        message.ParseFromString(payload)
    except DecodeError as error:
        raise ValueError(f"not a {expected.__name__}: {error}") from None
    return message
