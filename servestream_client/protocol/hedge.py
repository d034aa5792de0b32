"""Whether inputs may be at two servers at the same time: docs/protocol.md, section 19."""

from __future__ import annotations

__all__ = ["FEATURE"]

FEATURE = "hedge"
"""Its name in `Open.features` and `Welcome.features`."""
