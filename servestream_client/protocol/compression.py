"""Whether payloads travel compressed: docs/protocol.md, section 23."""

from __future__ import annotations

__all__ = ["FEATURE", "LEAST_BYTES", "MOST_BYTES"]

FEATURE = "zstd"
"""Its name in `Open.features` and `Welcome.features`."""

LEAST_BYTES = 512
"""Of payload in a run, a part or a chunk; less is sent as it is."""

MOST_BYTES = 4 * 1024 * 1024
"""What one of them may stand for, so that nobody is made to unpack more than a frame may hold."""
