"""gRPC metadata: what it is, and what of it gRPC would refuse.

An end of this package takes `METADATA_LIMIT` bytes of it. Other ends, Ray Serve's among them, keep
gRPC's own limits: above `COMMON_SOFT_LIMIT` a call is refused at random, the likelier the larger,
and above `COMMON_HARD_LIMIT` always. So what exceeds those is told when it is given, and what
exceeds ours is an error (docs/decisions/0023).
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Mapping, Sequence
from typing import TypeAlias

from servestream_client.errors import ConfigurationError

__all__ = [
    "COMMON_HARD_LIMIT",
    "COMMON_SOFT_LIMIT",
    "METADATA_LIMIT",
    "METADATA_OPTIONS",
    "Metadata",
    "check_metadata",
    "check_metadata_size",
    "exact",
    "excess",
    "is_printable_ascii",
    "metadata_size",
]

Metadata: TypeAlias = Sequence[tuple[str, str | bytes]]
"""Keys in lower case, with text, or with bytes if the key ends in ``-bin``."""

COMMON_SOFT_LIMIT = 8 * 1024
COMMON_HARD_LIMIT = 16 * 1024
METADATA_LIMIT = 64 * 1024

METADATA_OPTIONS: list[tuple[str, int]] = [
    ("grpc.max_metadata_size", METADATA_LIMIT),
    ("grpc.absolute_max_metadata_size", METADATA_LIMIT),
]
"""Of a channel or server that takes so much."""

_PAIR_BYTES = 32
"""What a pair counts besides its text (RFC 9113, section 10.5.1)."""

_OWN_BYTES = 600
"""gRPC's own: the path, the authority, its name and version, and their like; measured: 490."""


def exact(metadata: Metadata) -> Metadata:
    """The same without subclasses of text and bytes, whose methods gRPC would call: later, and in
    tasks of its own, where what they raise ends the event loop.
    """
    return [(str.__str__(key), _exact(value)) for key, value in metadata]


def _exact(value: str | bytes) -> str | bytes:
    return str.__str__(value) if isinstance(value, str) else b"".join((value, b""))


def check_metadata(metadata: Metadata) -> None:
    """
    Raises:
        ConfigurationError: gRPC would not send it. The rules are those of
            https://grpc.io/docs/guides/metadata.
    """
    if isinstance(metadata, Mapping):
        raise ConfigurationError("metadata is a sequence of pairs: pass list(metadata.items())")
    if not isinstance(metadata, Sequence):  # an iterator could be read once only
        raise ConfigurationError(f"metadata is a sequence of pairs, not {metadata!r}")
    for pair in metadata:
        if not isinstance(pair, tuple | list) or len(pair) != 2 or not isinstance(pair[0], str):
            raise ConfigurationError(
                f"metadata is a sequence of pairs with a key each, not {pair!r}"
            )
        key, value = pair
        if not re.fullmatch(r"[0-9a-z_.-]+", key) or key.startswith("grpc-"):
            raise ConfigurationError(f"metadata keys are in lower case, and not {key!r}")
        if not isinstance(value, bytes if key.endswith("-bin") else str):
            raise ConfigurationError(f"metadata {key!r} takes text, or bytes if it ends in -bin")
        if isinstance(value, str) and not is_printable_ascii(value):
            raise ConfigurationError(
                f"metadata {key!r} is not ASCII text in one line: {value!r}; a key that ends in"
                " -bin takes bytes"
            )


def is_printable_ascii(text: str) -> bool:
    """What a header of HTTP/2 may carry."""
    return re.fullmatch(r"[\x20-\x7e]*", text) is not None


def metadata_size(metadata: Metadata) -> int:
    """What a call's metadata take in bytes, as gRPC counts them, its own included."""
    return _OWN_BYTES + sum(
        len(key) + _PAIR_BYTES + (len(value) if isinstance(value, str) else _in_base64(value))
        for key, value in metadata
    )


def _in_base64(value: bytes) -> int:
    return -(-len(value) * 4 // 3)


def excess(size: int) -> str | None:
    """What is to be said of a call whose metadata take so much; None: nothing."""
    if size <= COMMON_SOFT_LIMIT:
        return None
    refused = (
        "which gRPC servers refuse unless they were told otherwise (grpc.absolute_max_metadata_size"
        f" is {COMMON_HARD_LIMIT}), and Ray Serve always"
        if size > COMMON_HARD_LIMIT
        else "of which gRPC servers refuse calls at random unless they were told otherwise"
        f" (grpc.max_metadata_size is {COMMON_SOFT_LIMIT}), as Ray Serve does"
    )
    return f"the metadata take {size} bytes, {refused}: send less, or put it into the items"


def check_metadata_size(metadata: Metadata, *, stacklevel: int) -> None:
    """
    Args:
        metadata: of every call.
        stacklevel: as for `warnings.warn`, from the caller.

    Raises:
        ConfigurationError: no server accepts it.
    """
    size = metadata_size(metadata)
    if size > METADATA_LIMIT:
        raise ConfigurationError(
            f"the metadata take {size} bytes, and no server accepts more than {METADATA_LIMIT}; Ray"
            f" Serve accepts {COMMON_SOFT_LIMIT}: send less, or put it into the items"
        )
    said = excess(size)
    if said is not None:
        warnings.warn(said, stacklevel=stacklevel + 1)
