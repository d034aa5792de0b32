"""Tells hooks and the log what happens to one stream."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from servestream_client.errors import ClientClosedError, ItemErrorKind
from servestream_client.events import (
    AttemptStarted,
    AttemptWelcomed,
    Event,
    Hooks,
    ItemFailed,
    ServerDraining,
    StreamEnded,
)
from servestream_client.metadata import Metadata, check_metadata

__all__ = ["Announcer"]

logger: logging.Logger = logging.getLogger(__name__)


class Announcer:
    """The one place from which a stream's events go out.

    Args:
        hooks: who is told.
    """

    def __init__(self, hooks: Sequence[Hooks] = ()) -> None:
        self._hooks = hooks

    def tell(self, event: Event) -> None:
        """Something happened."""
        level = _level(event)
        if logger.isEnabledFor(level):
            logger.log(level, "stream %s: %s", event.stream_id, event)
        for hook in self._hooks:
            try:
                hook.on_event(event)
            except Exception:
                logger.exception("the hook %r failed", hook)

    def metadata(self, attempt: AttemptStarted) -> Metadata:
        """What the hooks want to send with a call."""
        found: list[tuple[str, str | bytes]] = []
        for hook in self._hooks:
            try:
                pairs = list(hook.metadata(attempt))
                check_metadata(pairs)
            except Exception:
                logger.exception("the hook %r failed, and its metadata is not sent", hook)
            else:
                found += pairs
        return found


def _level(event: Event) -> int:
    """What goes well is for those who look for trouble; what people may want to know is INFO; an
    input that kills replicas is a WARNING.
    """
    match event:
        case ItemFailed(kind=ItemErrorKind.POISON):
            return logging.WARNING
        case AttemptWelcomed(resumed=True) | ServerDraining():
            return logging.INFO
        case StreamEnded(error=error) if error and not isinstance(error, ClientClosedError):
            return logging.INFO
    return logging.DEBUG
