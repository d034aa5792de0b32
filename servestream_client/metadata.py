"""gRPC metadata: what it is, and what of it gRPC would refuse."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TypeAlias

from servestream_client.errors import ConfigurationError

__all__ = ["Metadata", "check_metadata", "is_printable_ascii"]

Metadata: TypeAlias = Sequence[tuple[str, str | bytes]]
"""Keys in lower case, with text, or with bytes if the key ends in ``-bin``."""


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
