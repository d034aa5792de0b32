"""Codecs: what turns inputs and outputs into payloads. Both ends of a stream use the same one.

`JsonCodec` and `MsgpackCodec` need msgspec, `NumpyCodec` needs NumPy: the extras of their names.
"""

from __future__ import annotations

from servestream_client.codecs.arrays import ArraySpec, NumpyCodec
from servestream_client.codecs.base import (
    BytesCodec,
    Codec,
    check_codec,
    direct,
    encodes_bytes,
    is_bytes_codec,
)
from servestream_client.codecs.protobuf import ProtobufCodec
from servestream_client.codecs.structured import JsonCodec, MsgpackCodec

__all__ = [
    "ArraySpec",
    "BytesCodec",
    "Codec",
    "JsonCodec",
    "MsgpackCodec",
    "NumpyCodec",
    "ProtobufCodec",
    "check_codec",
    "direct",
    "encodes_bytes",
    "is_bytes_codec",
]
