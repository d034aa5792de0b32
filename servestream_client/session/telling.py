"""Tells hooks of calls of `predict` and `generate`, beside the streams that carry them.

Where a client has no hooks there is no teller, and calls cost nothing more. What is told of a call
is told in its caller's context, by the caller's own task: nothing here keeps one.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from servestream_client.events import CallEnded, Event, Hooks, OutputsArrived, StreamKind
from servestream_client.session.announcer import tell

__all__ = ["CallTeller", "Telling", "Timing"]


class CallTeller:
    """Whom to tell of calls of one kind, and what is the same for all of them."""

    def __init__(
        self, hooks: Sequence[Hooks], target: str, application: str, kind: StreamKind
    ) -> None:
        self.hooks: Sequence[Hooks] = hooks
        self.target: str = target
        self.application: str = application
        self.kind: StreamKind = kind

    def tell(self, event: Event) -> None:
        tell(self.hooks, event)

    def ended(
        self,
        stream_id: str,
        seconds: float,
        outputs: int,
        error: BaseException | None,
        *,
        left: bool = False,
    ) -> None:
        self.tell(
            CallEnded(
                stream_id=stream_id,
                target=self.target,
                application=self.application,
                kind=self.kind,
                seconds=seconds,
                outputs=outputs,
                error=error,
                left=left,
            )
        )


class Timing:
    """When outputs of a request came, for those who tell of it; refers to nobody.

    Attributes:
        stream_id: of the lane that had it last; empty: none had.
    """

    __slots__ = ("_arrivals", "_began", "_ended", "_last", "stream_id")

    def __init__(self, began: float) -> None:
        self._began = self._last = began
        self._ended: float | None = None
        self._arrivals: list[tuple[int, float]] = []
        self.stream_id: str = ""

    def came(self, count: int) -> None:
        """So many outputs came."""
        if count:
            now = asyncio.get_running_loop().time()
            self._arrivals.append((count, now - self._last))
            self._last = now

    def ended(self) -> None:
        """Nothing further comes."""
        self._ended = asyncio.get_running_loop().time()

    @property
    def seconds(self) -> float:
        """From its beginning to its end, or until now."""
        ended = self._ended
        return (asyncio.get_running_loop().time() if ended is None else ended) - self._began

    def take(self) -> list[tuple[int, float]]:
        """How many outputs came together, and how long after those before; of the first, after the
        beginning. What was taken is forgotten.
        """
        taken, self._arrivals = self._arrivals, []
        return taken


class Telling:
    """Tells of one call of `generate`, when its reader comes.

    Invariant: its end is told once, after its outputs.
    """

    __slots__ = ("_ended", "_outputs", "_teller", "_timing")

    def __init__(self, teller: CallTeller, timing: Timing) -> None:
        self._teller = teller
        self._timing = timing
        self._outputs = 0
        self._ended = False

    def outputs(self) -> None:
        """Tell of what came since it was last told."""
        for count, seconds in self._timing.take():
            self._teller.tell(
                OutputsArrived(
                    stream_id=self._timing.stream_id,
                    target=self._teller.target,
                    application=self._teller.application,
                    first_index=self._outputs,
                    count=count,
                    seconds=seconds,
                )
            )
            self._outputs += count

    def ended(self, error: BaseException | None, *, left: bool = False) -> None:
        """Its reader has the end, or has left it."""
        if self._ended:
            return
        self._ended = True
        self.outputs()
        timing = self._timing
        self._teller.ended(timing.stream_id, timing.seconds, self._outputs, error, left=left)
