"""What servers say of their load, and when it is worth saying: docs/protocol.md, section 19.

Pure functions of what was said last, and of what could be said now.
"""

from __future__ import annotations

from servestream_client.protocol.frames import Load

__all__ = ["FEATURE", "worth_saying"]

FEATURE = "load"
"""The name of what stands in that section."""

_FEW = 4
"""A difference of so many items tells nobody anything."""


def worth_saying(now: Load, said: Load | None) -> bool:
    """Whether a client would balance in another way if it knew."""
    if said is None or now.servers != said.servers:
        return True
    if _differ(now.item_us, said.item_us):
        return True
    return abs(now.items - said.items) > _FEW and _differ(now.items, said.items)


def _differ(one: int, other: int) -> bool:
    """Whether one is twice the other, or more."""
    return max(one, other) >= 2 * min(one, other) and one != other
