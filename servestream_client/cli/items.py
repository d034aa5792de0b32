"""From files to payloads, and from payloads to lines: what `servestream call` reads and writes."""

from __future__ import annotations

import base64
import enum
import struct
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import PurePath
from typing import BinaryIO

import msgspec

from servestream_client.cli.problems import ExitCode, Problem
from servestream_client.errors import ItemError

__all__ = ["InputFormat", "OutputFormat", "PayloadCodec", "input_format", "payloads", "printer"]

_LENGTH = struct.Struct(">I")
LONGEST_FRAME = 1 << 30
"""Bytes; a longer one means that the file is something else."""


class InputFormat(enum.StrEnum):
    """How items stand in a file."""

    AUTO = "auto"
    JSON = "json"
    TEXT = "text"
    FRAMES = "frames"


class OutputFormat(enum.StrEnum):
    """How results are written."""

    JSON = "json"
    TEXT = "text"
    FRAMES = "frames"


class PayloadCodec:
    """Says that it is another codec, and leaves payloads as they are.

    Args:
        name: the codec's id. No fingerprint: the service's own types hold.
    """

    fingerprint = ""

    def __init__(self, name: str) -> None:
        self.id = name

    def encode_input(self, item: bytes, /) -> bytes:
        return item

    def decode_input(self, payload: bytes, /) -> bytes:
        return payload

    def encode_output(self, output: bytes, /) -> bytes:
        return output

    def decode_output(self, payload: bytes, /) -> bytes:
        return payload


# ---------------------------------------------------------------- in


def input_format(wanted: InputFormat, path: str, codec: str) -> InputFormat:
    """What `auto` means: by the file's name, or by what the codec carries."""
    if wanted is not InputFormat.AUTO:
        return wanted
    suffix = PurePath(path).suffix.lower()
    if suffix in (".json", ".jsonl", ".ndjson"):
        return InputFormat.JSON
    if suffix in (".txt", ".text", ".csv", ".log"):
        return InputFormat.TEXT
    return InputFormat.JSON if codec in ("json", "msgpack") else InputFormat.TEXT


def payloads(source: BinaryIO, form: InputFormat, codec: str, skip: int = 0) -> Iterator[bytes]:
    """The items of a file as payloads, one at a time; the first ones, of which nothing need be
    right, are left out.

    Raises:
        Problem: an item cannot be read, or not be carried by that codec.
    """
    if form is InputFormat.FRAMES:
        return islice(_frames(source), skip, None)
    encode = _ENCODERS.get((form, codec))
    if encode is None:
        raise Problem(
            f"items of the codec {codec!r} are read with --input-format frames only: each one's"
            " length in 4 bytes, big-endian, and its payload"
        )
    return _lines(source, encode, skip)


def _lines(source: BinaryIO, encode: Callable[[bytes], bytes], skip: int) -> Iterator[bytes]:
    for number, line in islice(enumerate(source, 1), skip, None):
        try:
            payload = encode(line.rstrip(b"\r\n"))
        except (msgspec.MsgspecError, UnicodeError, RecursionError, OverflowError) as error:
            raise Problem(f"line {number} of the input cannot be read: {error}") from None
        yield payload


def _frames(source: BinaryIO) -> Iterator[bytes]:
    number = 0
    while head := source.read(_LENGTH.size):
        number += 1
        length = _LENGTH.unpack(head)[0] if len(head) == _LENGTH.size else LONGEST_FRAME + 1
        if length > LONGEST_FRAME:
            raise Problem(f"frame {number} of the input has no sensible length: {head.hex()}")
        payload = source.read(length)
        if len(payload) < length:
            raise Problem(f"frame {number} of the input ends after {len(payload)} of {length} B")
        yield payload


def _compact(line: bytes) -> bytes:
    return msgspec.json.format(_checked(line), indent=-1)


def _checked(line: bytes) -> bytes:
    msgspec.json.decode(line)
    return line


_ENCODERS: dict[tuple[InputFormat, str], Callable[[bytes], bytes]] = {
    (InputFormat.TEXT, "bytes"): bytes,
    (InputFormat.TEXT, "json"): lambda line: msgspec.json.encode(line.decode()),
    (InputFormat.TEXT, "msgpack"): lambda line: msgspec.msgpack.encode(line.decode()),
    (InputFormat.JSON, "bytes"): _checked,
    (InputFormat.JSON, "json"): _compact,
    (InputFormat.JSON, "msgpack"): lambda line: msgspec.msgpack.encode(msgspec.json.decode(line)),
}


# ---------------------------------------------------------------- out


def printer(form: OutputFormat, codec: str) -> Callable[[bytes | ItemError], bytes]:
    """What makes the bytes of one result, its line's end included.

    An item that failed stands as an object ``{"error": {...}}`` in its place, among frames as the
    JSON of that.
    """
    show = {
        OutputFormat.JSON: _SHOWN_AS_JSON.get(codec, _as_string),
        OutputFormat.TEXT: _as_text if codec == "bytes" else _SHOWN_AS_JSON.get(codec, _as_text),
        OutputFormat.FRAMES: bytes,
    }[form]
    end: Callable[[bytes], bytes] = (
        (lambda payload: _LENGTH.pack(len(payload)) + payload)
        if form is OutputFormat.FRAMES
        else (lambda line: line + b"\n")
    )

    def shown(result: bytes | ItemError) -> bytes:
        if isinstance(result, ItemError):
            return end(_as_error(result))
        try:
            return end(show(result))
        except Exception as error:  # whatever a service calls JSON or MessagePack
            raise Problem(
                f"a result cannot be shown as JSON: {error}; --output-format frames takes it as it"
                " is",
                ExitCode.STREAM_FAILED,
            ) from None

    return shown


def _as_error(error: ItemError) -> bytes:
    return msgspec.json.encode(
        {
            "error": {
                "number": error.number,
                "kind": error.kind.name.lower(),
                "message": error.text,
                "retryable": error.retryable,
            }
        }
    )


def _as_string(payload: bytes) -> bytes:
    """Bytes as a JSON string; what is no UTF-8 as an object."""
    try:
        return msgspec.json.encode(payload.decode())
    except UnicodeDecodeError:
        return msgspec.json.encode({"base64": base64.b64encode(payload).decode()})


def _as_text(payload: bytes) -> bytes:
    return payload


def _from_msgpack(payload: bytes) -> bytes:
    return msgspec.json.encode(msgspec.msgpack.decode(payload))


_SHOWN_AS_JSON: dict[str, Callable[[bytes], bytes]] = {
    "bytes": _as_string,
    "json": _compact,
    "msgpack": _from_msgpack,
}
