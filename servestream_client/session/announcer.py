"""Tells hooks and the log what happens to one stream."""

from __future__ import annotations

import contextvars
import logging
from collections.abc import Callable, Sequence
from typing import TypeVar

from servestream_client.errors import ClientClosedError, ItemError, ItemErrorKind
from servestream_client.events import (
    AttemptEnded,
    AttemptOutcome,
    AttemptStarted,
    AttemptWelcomed,
    Event,
    Hooks,
    ItemFailed,
    ServerDraining,
    StreamEnded,
    StreamStarted,
    StreamStatistics,
)
from servestream_client.metadata import Metadata, check_metadata, exact
from servestream_client.protocol.frames import ItemFailure, Welcome
from servestream_client.usercode import contained, is_a, report, type_name

__all__ = ["Announcer", "tell"]

logger: logging.Logger = logging.getLogger(__name__)


T = TypeVar("T")

_entered: contextvars.ContextVar[str] = contextvars.ContextVar("servestream_entered", default="")
"""Whose context it is, by stream id, of those that belong to a stream."""


class Announcer:
    """The one place from which a stream's events go out.

    Args:
        stream_id: whose, in hex.
        hooks: who is told.
    """

    def __init__(self, stream_id: str, hooks: Sequence[Hooks] = ()) -> None:
        self._context = contextvars.Context()
        self._stream_id = stream_id
        self._hooks = hooks
        self._attempt = 0
        self._drained = 0  # the last attempt whose server was leaving
        self._welcomed = False

    def belongs_to(self, context: contextvars.Context) -> None:
        """Hooks run in this context, or a copy of it, whatever caused the event."""
        self._context = context
        context.run(_entered.set, self._stream_id)

    def stream_started(self, event: StreamStarted) -> None:
        self._tell(event)

    def stream_ended(self, error: BaseException | None, statistics: StreamStatistics) -> None:
        self._tell(StreamEnded(stream_id=self._stream_id, error=error, statistics=statistics))

    def attempt_started(self, attempt: int, endpoint: str) -> Metadata:
        """Returns what the hooks want to send with the call."""
        self._attempt = attempt
        event = AttemptStarted(stream_id=self._stream_id, attempt=attempt, endpoint=endpoint)
        self._tell(event)
        return self._metadata(event)

    def attempt_welcomed(self, welcome: Welcome) -> None:
        self._tell(
            AttemptWelcomed(
                stream_id=self._stream_id,
                attempt=self._attempt,
                replica=welcome.replica,
                code_version=welcome.code_version,
                resumed=self._welcomed,
            )
        )
        self._welcomed = True

    def attempt_drains(self, grace_ms: int) -> None:
        """Told once an attempt, however often it is said."""
        if self._drained < self._attempt:
            self._drained = self._attempt
            self._tell(
                ServerDraining(
                    stream_id=self._stream_id, attempt=self._attempt, grace=grace_ms / 1000
                )
            )

    def attempt_ended(self, outcome: AttemptOutcome, reason: str, status: str) -> None:
        self._tell(
            AttemptEnded(
                stream_id=self._stream_id,
                attempt=self._attempt,
                outcome=outcome,
                reason=reason,
                status=status,
            )
        )

    def item_failed(self, problem: ItemFailure | ItemError) -> None:
        self._tell(
            ItemFailed(
                stream_id=self._stream_id,
                number=problem.number,
                index=problem.index,
                kind=problem.kind,
                text=problem.text,
            )
        )

    # ---------------------------------------------------------------- to whom

    def _tell(self, event: Event) -> None:
        self._within(lambda: self._tell_here(event))

    def _metadata(self, attempt: AttemptStarted) -> Metadata:
        return self._within(lambda: self._metadata_here(attempt))

    def _within(self, call: Callable[[], T]) -> T:
        if _entered.get() == self._stream_id:
            return call()
        # A copy: it may be entered already, further down the stack.
        return self._context.copy().run(call)

    def _tell_here(self, event: Event) -> None:
        level = _level(event)
        if logger.isEnabledFor(level):
            logger.log(level, "stream %s: %s", event.stream_id, event)
        tell(self._hooks, event)

    def _metadata_here(self, attempt: AttemptStarted) -> Metadata:
        found: list[tuple[str, str | bytes]] = []
        for hook in self._hooks:
            try:
                pairs: Metadata = list(hook.metadata(attempt))
                check_metadata(pairs)
                pairs = exact(pairs)
            except BaseException as error:
                failure = contained(error, "the hook")
                text = f"the hook {type_name(hook)} failed, and its metadata is not sent"
                report(logger, logging.ERROR, text, failure)
            else:
                found += pairs
        return found


def tell(hooks: Sequence[Hooks], event: Event) -> None:
    """What they raise is logged."""
    for hook in hooks:
        try:
            hook.on_event(event)
        except BaseException as error:
            failure = contained(error, "the hook")
            report(logger, logging.ERROR, f"the hook {type_name(hook)} failed", failure)


def _level(event: Event) -> int:
    """What goes well is for those who look for trouble; what people may want to know is INFO; an
    input that kills replicas is a WARNING.
    """
    match event:
        case ItemFailed(kind=ItemErrorKind.POISON):
            return logging.WARNING
        case AttemptWelcomed(resumed=True) | ServerDraining():
            return logging.INFO
        case StreamEnded(error=error) if error is not None and not is_a(error, ClientClosedError):
            return logging.INFO
    return logging.DEBUG
