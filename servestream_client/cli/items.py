"""From files to payloads, and from payloads to lines: what the commands read and write."""

from __future__ import annotations

import base64
import enum
import io
import struct
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any, BinaryIO

import msgspec

from servestream_client.cli.problems import ExitCode, Problem
from servestream_client.errors import ItemError

__all__ = [
    "COMPRESSED",
    "LENGTH",
    "LONGEST_FRAME",
    "STANDARD",
    "Encoder",
    "InputFormat",
    "OutputFormat",
    "PayloadCodec",
    "Unreadable",
    "as_error",
    "as_json",
    "as_text",
    "encoder",
    "field_of",
    "input_format",
    "json_of",
    "output_format",
    "payload",
    "printer",
    "standard_input",
    "text_of",
]

STANDARD = "-"
"""Instead of a file's name: standard input, or output."""

COMPRESSED = (".gz", ".bz2", ".xz", ".zst")
"""Suffixes of files that are decompressed while they are read."""

LENGTH = struct.Struct(">I")
"""What stands before a frame."""

LONGEST_FRAME = 1 << 30
"""Bytes; a longer one means that the file is something else."""

Encoder = Callable[[Any], bytes]
"""Makes a payload of a line, or of a record's fields by their names."""


class InputFormat(enum.StrEnum):
    """How items stand in a file."""

    AUTO = "auto"
    JSON = "json"
    TEXT = "text"
    CSV = "csv"
    PARQUET = "parquet"
    FRAMES = "frames"


class OutputFormat(enum.StrEnum):
    """How results are written."""

    AUTO = "auto"
    JSON = "json"
    TEXT = "text"
    PARQUET = "parquet"
    FRAMES = "frames"


@dataclass(frozen=True, slots=True)
class Unreadable:
    """Stands for an item that cannot be encoded.

    Attributes:
        text: why, and where it stands.
    """

    text: str


class PayloadCodec:
    """Says that it is another codec, and leaves payloads as they are.

    Args:
        name: the codec's id. No fingerprint: the service's own types hold.
    """

    fingerprint = ""

    def __init__(self, name: str) -> None:
        self.id = name

    def encode_input(self, item: bytes | Unreadable, /) -> bytes:
        if isinstance(item, Unreadable):
            raise Problem(item.text)
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
    suffix = _suffix(path)
    if suffix in COMPRESSED:
        suffix = _suffix(path[: -len(suffix)])
        if suffix == ".parquet":
            raise Problem(f"{path}: Parquet files are compressed internally; decompress it first")
    if suffix:
        form = _INPUT_SUFFIXES.get(suffix)
        if form is None:
            known = ", ".join(sorted(_INPUT_SUFFIXES))
            raise Problem(
                f"{path}: unknown suffix {suffix}; say what is in the file with --input-format."
                f" Known are {known}, also with {', '.join(COMPRESSED)}"
            )
        return form
    return InputFormat.JSON if codec in ("json", "msgpack") else InputFormat.TEXT


_INPUT_SUFFIXES = {
    ".json": InputFormat.JSON,
    ".jsonl": InputFormat.JSON,
    ".ndjson": InputFormat.JSON,
    ".txt": InputFormat.TEXT,
    ".text": InputFormat.TEXT,
    ".log": InputFormat.TEXT,
    ".csv": InputFormat.CSV,
    ".parquet": InputFormat.PARQUET,
}


def output_format(wanted: OutputFormat, path: str) -> OutputFormat:
    """What `auto` means: by the file's name.

    Raises:
        Problem: the name says something else than what would be in the file.
    """
    suffix = _suffix(path)
    if suffix in COMPRESSED:
        raise Problem(f"{path}: compressed output is not supported; use .jsonl")
    if suffix == ".parquet" and wanted not in (OutputFormat.AUTO, OutputFormat.PARQUET):
        raise Problem(f"{path}: --output-format {wanted} does not make a Parquet file")
    if wanted is not OutputFormat.AUTO:
        return wanted
    form = _OUTPUT_SUFFIXES.get(suffix)
    if form is None:
        known = ", ".join(sorted(filter(None, _OUTPUT_SUFFIXES)))
        raise Problem(
            f"{path}: unknown suffix {suffix}; say what to write with --output-format. Known are"
            f" {known}"
        )
    return form


_OUTPUT_SUFFIXES = {
    "": OutputFormat.JSON,
    ".json": OutputFormat.JSON,
    ".jsonl": OutputFormat.JSON,
    ".ndjson": OutputFormat.JSON,
    ".txt": OutputFormat.TEXT,
    ".text": OutputFormat.TEXT,
    ".log": OutputFormat.TEXT,
    ".parquet": OutputFormat.PARQUET,
}


def _suffix(path: str) -> str:
    return "" if path == STANDARD else PurePath(path).suffix.lower()


def payload(text: bytes, form: InputFormat, codec: str) -> bytes:
    """One item as a payload, which may have line breaks.

    Raises:
        Problem: it cannot be read, or not be carried by that codec.
    """
    if form in (InputFormat.CSV, InputFormat.PARQUET):
        raise Problem(f"--input-format {form} needs a file")
    try:
        return encoder(form, codec)(text)
    except (msgspec.MsgspecError, UnicodeError, RecursionError, OverflowError) as error:
        raise Problem(f"the input cannot be read: {error}") from None


def standard_input() -> BinaryIO:
    """Standard input, with a buffer of its own: Python would die of the one of `sys.stdin` if a
    thread still waits in it when the interpreter ends.

    Raises:
        Problem: it is closed.
    """
    if sys.stdin is None:
        raise Problem("standard input is closed")
    try:
        return open(sys.stdin.fileno(), "rb", closefd=False)
    except io.UnsupportedOperation:  # somebody has put another object in its place
        return sys.stdin.buffer


def encoder(form: InputFormat, codec: str) -> Encoder:
    """What makes payloads for that codec of what stands in that form.

    Raises:
        Problem: nothing does.
    """
    encode = _ENCODERS.get((form, codec))
    if encode is None:
        raise Problem(
            f"items of the codec {codec!r} are read with --input-format frames only: each one's"
            " length in 4 bytes, big-endian, and its payload"
        )
    return encode


def _compact(line: bytes) -> bytes:
    return msgspec.json.format(_checked(line), indent=-1)


def _checked(line: bytes) -> bytes:
    msgspec.json.decode(line)
    return line


_ENCODERS: dict[tuple[InputFormat, str], Encoder] = {
    (InputFormat.CSV, "bytes"): msgspec.json.encode,
    (InputFormat.CSV, "json"): msgspec.json.encode,
    (InputFormat.CSV, "msgpack"): msgspec.msgpack.encode,
    (InputFormat.PARQUET, "bytes"): msgspec.json.encode,
    (InputFormat.PARQUET, "json"): msgspec.json.encode,
    (InputFormat.PARQUET, "msgpack"): msgspec.msgpack.encode,
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
        OutputFormat.PARQUET: _SHOWN_AS_JSON.get(codec, _as_string),  # from which it is made
        OutputFormat.FRAMES: bytes,
    }[form]
    end: Callable[[bytes], bytes] = (
        (lambda payload: LENGTH.pack(len(payload)) + payload)
        if form is OutputFormat.FRAMES
        else (lambda line: line + b"\n")
    )

    def shown(result: bytes | ItemError) -> bytes:
        if isinstance(result, ItemError):
            return end(as_error(result))
        try:
            return end(show(result))
        except Exception as error:  # whatever a service calls JSON or MessagePack
            raise Problem(
                f"a result cannot be shown as JSON: {error}; --output-format frames takes it as it"
                " is",
                ExitCode.STREAM_FAILED,
            ) from None

    return shown


def as_json(payload: bytes, codec: str) -> bytes:
    """An output as JSON, on one line; bytes that are no text as an object with their base64.

    Raises:
        Problem: the service calls something JSON, or MessagePack, that is none.
    """
    try:
        return _SHOWN_AS_JSON.get(codec, _as_string)(payload)
    except Exception as error:  # whatever a service calls JSON or MessagePack
        raise Problem(f"an output cannot be shown: {error}", ExitCode.STREAM_FAILED) from None


def as_text(payload: bytes, codec: str) -> bytes:
    """An output as it is read: what is a string, or bytes, as it is and without an end of line;
    else a line of JSON.

    Raises:
        Problem: as for `as_json`.
    """
    if codec not in ("json", "msgpack"):
        return payload
    return text_of(_decoded(payload, codec))


def field_of(payload: bytes, name: str, codec: str) -> object:
    """One field of an output that is an object, in JSON or MessagePack.

    Raises:
        Problem: it is none, or has no such field.
    """
    value = _decoded(payload, codec)
    if not isinstance(value, dict):
        text = f"--field {name}: an output is no object, but of type {type(value).__name__}"
        raise Problem(text, ExitCode.STREAM_FAILED)
    if name not in value:
        has = ", ".join(map(str, value)) or "none"
        text = f"--field {name}: an output has no such field; it has: {has}"
        raise Problem(text, ExitCode.STREAM_FAILED)
    return value[name]


def text_of(value: object) -> bytes:
    """The same as `as_text`, of a value."""
    if isinstance(value, str):
        return value.encode(errors="surrogatepass")
    return value if isinstance(value, bytes) else json_of(value) + b"\n"


def json_of(value: object) -> bytes:
    """A value that came in JSON or MessagePack, as JSON on one line.

    Raises:
        Problem: there is no JSON for it.
    """
    try:
        return msgspec.json.encode(value)
    except (TypeError, ValueError, RecursionError) as error:
        raise Problem(f"an output cannot be shown: {error}", ExitCode.STREAM_FAILED) from None


def _decoded(payload: bytes, codec: str) -> object:
    decode = msgspec.msgpack.decode if codec == "msgpack" else msgspec.json.decode
    try:
        value: object = decode(payload)
    except (msgspec.MsgspecError, UnicodeError, RecursionError) as error:
        raise Problem(f"an output cannot be shown: {error}", ExitCode.STREAM_FAILED) from None
    return value


def as_error(error: ItemError) -> bytes:
    """An item's failure as JSON."""
    return msgspec.json.encode(
        {
            "error": {
                "number": error.number,
                "kind": error.kind.name.lower(),
                "message": _message(error),
                "retryable": error.retryable,
            }
        }
    )


def _message(error: ItemError) -> str:
    cause = error.__cause__
    return str(cause) if isinstance(cause, Problem) else error.text


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
