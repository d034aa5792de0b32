"""Workers that take the inputs of one stream, several at once while they go fast.

Invariant: a worker that is not suspended comes back to its stream, which therefore does not wait.
"""

from __future__ import annotations

from collections.abc import Sequence

from servestream_client.server.calls import Attempt, Call, Handler, Part
from servestream_client.server.workers import Workers

__all__ = ["ItemWorkers"]

_LONGEST_RUN = 1024
_RUN_SECONDS = 0.001
"""How long a worker may keep the event loop, or the first results of a run wait for its last. In a
thread, as long as the way there and back takes: on a busy machine that is much longer, and a run of
one would pay it for each item.
"""


_LONGEST_WAY = 0.02
"""Where that takes longer, the event loop stands still for another reason."""


class ItemWorkers(Workers):
    """Each takes inputs of one stream, several at once while they go fast."""

    def __init__(self, handler: Handler, *, places: int) -> None:
        super().__init__(handler, places=places)
        # By a worker that is not suspended, and so comes back to them. None of these waits.
        self._served: dict[Attempt, Call] = {}
        self._serves: dict[Call, Attempt] = {}
        self._run_length = 1

    def _queue(self, attempt: Attempt) -> None:
        if attempt not in self._served:
            self._waiting.add(attempt)

    def _want(self, attempt: Attempt) -> None:
        if attempt in self._served:
            return
        if self._free and not self._waiting:
            self._start_worker_for(attempt)
        else:
            super()._want(attempt)

    def _start_workers(self) -> None:
        while self._free and (attempt := self._waiting.first()) is not None:
            self._waiting.discard(attempt)
            self._start_worker_for(attempt)

    def _start_worker_for(self, attempt: Attempt) -> None:
        call = self._new_call()
        self._serve(call, attempt)
        self._start_worker(call, attempt)

    def _serve(self, call: Call, attempt: Attempt) -> None:
        self._served[attempt] = call
        self._serves[call] = attempt

    def _turn_over(self, call: Call) -> None:
        attempt = self._serves.pop(call, None)
        if attempt is not None:
            del self._served[attempt]
            if self._has_work(attempt):
                self._waiting.add(attempt)

    def _leave(self, call: Call, attempt: Attempt) -> None:
        if call in self._serves:
            self._turn_over(call)
        else:
            super()._leave(call, attempt)

    async def _next(self, attempt: Attempt) -> Sequence[Part]:
        part = self._take(attempt, self._run_length)
        return [part] if part is not None else []

    def _goes_on(self, call: Call, attempt: Attempt) -> bool:
        if not self._has_work(attempt):
            return False
        if not self._free and len(self._waiting) > (attempt in self._waiting):
            return False
        if attempt not in self._served:  # by now, since it was suspended in between
            self._waiting.discard(attempt)
            self._serve(call, attempt)
        return True

    def _adapt_run_length(self, parts: Sequence[Part], seconds: float, way: float) -> None:
        longest = max(_RUN_SECONDS, min(way, _LONGEST_WAY))
        if seconds > longest:
            self._run_length = max(1, self._run_length // 2)
        elif seconds < longest / 2:
            (part,) = parts
            if len(part.run.payloads) >= self._run_length:
                self._run_length = min(_LONGEST_RUN, self._run_length * 2)
