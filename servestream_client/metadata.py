"""gRPC metadata: what it is, and what of it gRPC would refuse."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TypeAlias

from servestream_client.errors import ConfigurationError

__all__ = ["Metadata", "check_metadata"]

Metadata: TypeAlias = Sequence[tuple[str, str | bytes]]
"""Keys in lower case, with text, or with bytes if the key ends in ``-bin``."""


def check_metadata(metadata: Metadata) -> None:
    """
    Raises:
        ConfigurationError: gRPC would not send it. The rules are those of
            https://grpc.io/docs/guides/metadata.
    """
    for key, value in metadata:
        if not re.fullmatch(r"[0-9a-z_.-]+", key) or key.startswith("grpc-"):
            raise ConfigurationError(f"metadata keys are in lower case, and not {key!r}")
        if not isinstance(value, bytes if key.endswith("-bin") else str):
            raise ConfigurationError(f"metadata {key!r} takes text, or bytes if it ends in -bin")
