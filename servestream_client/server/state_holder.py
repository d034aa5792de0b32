"""What handlers and workers know of the one who has a stateful stream's state."""

from __future__ import annotations

from typing import Protocol

__all__ = ["StateHolder"]


class StateHolder(Protocol):
    """See `StreamFold`."""

    busy: int
    """How many calls of the handler work on it."""
    handler: object
    """What calls the service's step for this stream, once that is needed."""

    def settle(self) -> None:
        """Give the client the state, if it is time to."""
        ...

    def abandoned(self) -> None:
        """Nobody waits any more for what the handler makes at the moment."""
        ...
