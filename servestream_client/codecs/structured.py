"""JSON and MessagePack through msgspec: structs, dataclasses, named tuples, typed dictionaries."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import cached_property, partial
from itertools import chain
from types import UnionType
from typing import Annotated, Any, Generic, TypeVar, Union, get_args, get_origin, is_typeddict

from servestream_client.errors import ConfigurationError

__all__ = ["JsonCodec", "MsgpackCodec"]

In = TypeVar("In")
Out = TypeVar("Out")


class _StructuredCodec(Generic[In, Out]):
    """One of msgspec's formats, with a type in and a type out."""

    id: str

    def __init__(self, input_type: type[In], output_type: type[Out]) -> None:
        try:
            import msgspec  # noqa: PLC0415 — an extra

            from servestream_client.codecs import fidelity  # noqa: PLC0415
            from servestream_client.codecs.signature import (  # noqa: PLC0415
                described,
                records,
                signature,
            )
        except ImportError:
            raise ConfigurationError(
                f"{type(self).__name__} needs msgspec: pip install 'servestream-client[msgspec]'"
            ) from None
        self._fidelity = fidelity
        self._types = (_anything(input_type), _anything(output_type))
        self._accepted = tuple(map(_classes, self._types))
        self._form = msgspec.json if self.id == "json" else msgspec.msgpack
        self._encode: Callable[[object], bytes] = self._form.Encoder(
            enc_hook=fidelity.scalar
        ).encode
        signatures = []
        for each in self._types:
            try:
                signatures.append(signature(_known(each)))
            except TypeError as error:
                raise ConfigurationError(
                    f"{type(self).__name__} of {_name(each)}: {error}"
                ) from None
        self._quick_input, self._quick_output = (
            fidelity.quick_check(described(_known(each)), json=self.id == "json")
            for each in self._types
        )
        self._records = set().union(*(records(_known(each)) for each in self._types))
        free = all(each is object for each in self._types)
        self._fingerprint = "" if free else " -> ".join(signatures)

    @property
    def fingerprint(self) -> str:
        """The structure of both types, of their required fields; empty where both are `object`."""
        return self._fingerprint

    @cached_property
    def _decoders(self) -> Sequence[Callable[[bytes], Any]]:
        """Of inputs and of outputs. Not made before they are needed: see `signature`."""
        from servestream_client.codecs.signature import described  # noqa: PLC0415 — needs msgspec

        decoders = [self._form.Decoder(_known(each)).decode for each in self._types]
        for each in self._types:
            described(_known(each))  # which removes what msgspec has noted in the classes
        return decoders

    @cached_property
    def _encoders(self) -> Sequence[Callable[[Any], bytes]]:
        """Of inputs and of outputs."""
        return [self._encoder(side) for side in (0, 1)]

    def _encoder(self, side: int) -> Callable[[Any], bytes]:
        """What encodes values of which it is plain that they come back, and asks `_checked` about
        all others. Each item passes it: what it needs is found once.
        """
        encode, checked = self._encode, partial(self._checked, side)
        quick = (self._quick_input, self._quick_output)[side]
        plain, no_null = quick.plain, quick.no_null

        def if_plain(value: object) -> bytes:
            if plain(value):
                payload = encode(value)
                if not (no_null and b"n" in payload and b"null" in payload):
                    return payload  # a single byte is found sooner
            return checked(value)

        if quick.possible:
            return if_plain
        decode, accepted = self._decoders[side], self._accepted[side]

        def if_equal(value: Any) -> bytes:  # noqa: ANN401 — anything
            if isinstance(value, accepted):
                payload = encode(value)
                try:
                    if value == decode(payload):
                        return payload
                except Exception:  # noqa: S110 — told by what follows
                    pass
            return checked(value)

        return if_equal

    def _direct(self, name: str) -> Callable[[Any], Any] | None:
        """What does the work of a method, unless a subclass does it by itself."""
        if getattr(type(self), name) is not getattr(_StructuredCodec, name):
            return None
        if name.startswith("decode"):
            return self._decoders[name == "decode_output"]
        return self._encoders[name == "encode_output"]

    def encode_input(self, item: In, /) -> bytes:
        return self._encoders[0](item)

    def decode_input(self, payload: bytes, /) -> In:
        decoded: In = self._decoders[0](payload)
        return decoded

    def encode_output(self, output: Out, /) -> bytes:
        return self._encoders[1](output)

    def decode_output(self, payload: bytes, /) -> Out:
        decoded: Out = self._decoders[1](payload)
        return decoded

    def _checked(self, side: int, value: object) -> bytes:
        """Encode a value of which it is not plain that it comes back, and see.

        Raises:
            TypeError: it is of another type, or contains what has no encoding.
            ValueError: another value would come back.
        """
        if not isinstance(value, self._accepted[side]):
            value = self._as_accepted(side, value)
        payload = self._encode(value)
        cause: Exception | None = None
        try:
            decoded = self._decoders[side](payload)
            found = None if value == decoded else self._fidelity.difference(value, decoded)
        except Exception as error:
            cause, found = error, str(error)
        if found is not None:
            raise ValueError(self._explained(side, value, found, cause)) from cause
        return payload

    def _as_accepted(self, side: int, value: object) -> object:
        """A NumPy scalar as the built-in value that the codec's type stands for."""
        with suppress(TypeError):
            plain = self._fidelity.scalar(value)
            if isinstance(plain, self._accepted[side]):
                return plain
        raise _wrong(value, self._types[side])

    def _explained(self, side: int, value: object, found: str, cause: Exception | None) -> str:
        """Why a value cannot be sent."""
        kind = self._types[side]
        number = self._fidelity.no_number(value) if self.id == "json" else None
        if number is not None:
            return f"{number}: {_NO_NUMBER}"
        if cause is not None:
            return f"it would not come back as {_name(kind)}: {found}"
        return f"{found}{_UNTYPED if kind is object else ''}"

    def __reduce__(self) -> tuple[type, tuple[type, type]]:
        # Serve pickles a deployment's class, and decoders cannot be. What stands in the script that
        # is run is pickled by value, and a dataclass or a struct loses its fields on that way.
        for record in self._records:
            if record.__module__ == "__main__":
                raise ConfigurationError(
                    f"{_name(record)} is defined in the script that is run, from where its fields"
                    " do not reach a replica; define it in a module, and import it"
                )
        return type(self), self._types

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(_name(each) for each in self._types)})"


class JsonCodec(_StructuredCodec[In, Out]):
    """JSON, checked against a type in and a type out.

    The fingerprint is the structure of both, names of classes and fields with defaults left out: a
    service may have optional fields that its clients do not know, and the other way round. With
    `object` for both types anything goes that JSON has a type for, and a typed peer checks its own
    side.

    What is decoded equals what was encoded, or `encode_input` and `encode_output` raise: a
    TypeError for what has no encoding, a ValueError for what would come back as another value.

    Args:
        input_type: anything that msgspec supports: a `msgspec.Struct`, a dataclass, a named tuple,
            a `TypedDict`, `dict[str, float]`, `object`; inside of others `Any`.
        output_type: likewise.

    Raises:
        ConfigurationError: msgspec is not installed, or does not support a type.
    """

    id: str = "json"


class MsgpackCodec(_StructuredCodec[In, Out]):
    """MessagePack, which carries bytes and is smaller; otherwise as `JsonCodec`."""

    id: str = "msgpack"


_NO_NUMBER = (
    "JSON has neither NaN nor infinity, and would say null; MsgpackCodec carries them, or send None"
)
_UNTYPED = "; name the type in the codec, at both ends, in the place of object"


def _anything(kind: type) -> type:
    return object if kind is Any else kind


def _known(kind: type) -> Any:  # noqa: ANN401 — what msgspec calls it
    return Any if kind is object else kind


def _classes(kind: type) -> tuple[type, ...]:
    """Of which a value of this type may be, as far as can be told at once."""
    if get_origin(kind) is Annotated:
        return _classes(get_args(kind)[0])
    found = get_origin(kind) or kind
    if is_typeddict(found) or hasattr(found, "__total__"):  # typing's, or typing_extensions'
        return (dict,)
    if found in (Union, UnionType):
        return tuple(chain.from_iterable(map(_classes, get_args(kind))))
    if found is float:
        return (float, int)
    # What is no class, a literal for example, is for the other end to check.
    return (found,) if isinstance(found, type) else (object,)


def _name(kind: type) -> str:
    return kind.__name__ if get_origin(kind) is None and isinstance(kind, type) else repr(kind)


def _wrong(value: object, expected: type) -> TypeError:
    return TypeError(f"expected {_name(expected)}, got {type(value).__name__}")
