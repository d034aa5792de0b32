"""A plain generator, and how far the threads have come that run it, one after the other.

Invariant: at most one thread has the generator; it makes no more outputs than it was allowed, and
hands over each once, in their order, and the end behind them. What is said to it from the event
loop is heard before the next output.
"""

from __future__ import annotations

import asyncio
import contextvars
import logging
import threading
from collections.abc import Callable, Generator
from typing import Any, NamedTuple

from servestream_client.errors import ItemErrorKind
from servestream_client.server.handlers.answers import Failure, failure_of
from servestream_client.server.handlers.resuming import Beginning, Source
from servestream_client.server.outputs import Replay
from servestream_client.signals import Signal
from servestream_client.usercode import contained, report

__all__ = ["ENDED", "Made", "Maker"]

logger: logging.Logger = logging.getLogger(__name__)

_HANDLER = ItemErrorKind.HANDLER

ENDED = Failure(_HANDLER, "")
"""The end of a generator that did not fail."""


class Made(NamedTuple):
    """What threads have handed over.

    Attributes:
        outputs: in their order.
        end: behind them: `ENDED`, or why there are no more; None: it is not there yet.
        running: whether a thread goes on.
    """

    outputs: list[Any]
    end: Failure | None
    running: bool


class Maker:
    """See the module.

    Args:
        source: the service's code.
        signal: raised in the event loop when there is something to `take`.
        on_abandoned: called in the event loop, with the reason, when its time is over.

    Attributes:
        began: when it made its last output, or began to make one, in the event loop's time.
        begins: with what the generator is made.
        stopping: whether it is to make no more.
    """

    def __init__(self, source: Source, signal: Signal, on_abandoned: Callable[[str], None]) -> None:
        self._source = source
        self._signal = signal
        self._on_abandoned = on_abandoned
        self._loop = asyncio.get_running_loop()
        self._lock = threading.Lock()
        self._context: contextvars.Context | None = None  # the generator's own
        self._generator: Generator[Any, None, Any] | None = None
        self._outputs: list[Any] = []
        self._end: Failure | None = None
        self._allowed = 0
        self._running = False
        self._told = False  # that there is something to take
        self.began: float = self._loop.time()
        self.begins: Beginning | None = None
        self.stopping: bool = False

    # ---------------------------------------------------------------- from the event loop

    @property
    def done(self) -> int:
        """How many inputs are computed."""
        return 0

    @property
    def to_close(self) -> bool:
        """Whether it is left with a generator, and no thread that has it."""
        with self._lock:
            return self._generator is not None and not self._running

    @property
    def finished(self) -> bool:
        """Whether it has made its last output."""
        return self._end is not None

    def start(self, allowed: int) -> None:
        """A thread is about to `make` so many outputs, if it is not stopped before."""
        with self._lock:
            self._allowed = allowed
            self._running = True
            self.began = self._loop.time()

    def allow(self, count: int) -> None:
        """So many outputs more than were taken may be made."""
        with self._lock:
            self._allowed = count - len(self._outputs)

    def take(self) -> Made:
        """What was made since the last time."""
        with self._lock:
            outputs, self._outputs, self._told = self._outputs, [], False
            return Made(outputs, self._end, self._running)

    def stop(self) -> None:
        """Make no more: the thread that has the generator closes it."""
        self.stopping = True

    def unwanted(self) -> None:
        """Nobody waits for what it makes."""
        self.stop()
        self._signal.set()

    def abandon(self, text: str, since: float) -> bool:
        """See `NonCancellable`: what it makes from now on is dropped."""
        with self._lock:
            if self.began != since or not self._running or self._end is not None:
                return False
            self.stopping = True
        self._on_abandoned(text)
        return True

    def broke(self, error: BaseException) -> None:
        """No thread could be started."""
        with self._lock:
            self._running, self._end = False, failure_of(_HANDLER, error)
        self._signal.set()

    # ---------------------------------------------------------------- in a thread

    def make(self) -> None:
        """Make outputs, as many as may be made."""
        if self._context is None:
            self._context = contextvars.copy_context()
        self._context.run(self._make)
        with self._lock:
            self._running = False
        self._tell()

    def close(self) -> None:
        """Close the generator, which no other thread has."""
        if self._context is not None:
            self._context.run(self._close)

    def _make(self) -> None:
        if self._generator is None and not self.stopping:
            end = self._begin()
            if end is not None:
                self._hand_over(end=end)
                return
        generator = self._generator
        while generator is not None and self._may_go_on():
            try:
                output = next(generator)
            except StopIteration:
                self._generator = None
                self._hand_over(end=ENDED)
                return
            except BaseException as error:
                self._generator = None
                self._hand_over(end=failure_of(_HANDLER, error))
                return
            self._hand_over(output)
            del output  # it may be large, and the next one may take its time
        if self.stopping:
            self._close()

    def _begin(self) -> Failure | None:
        """Make the generator; the end, if there is none."""
        begins, source = self.begins, self._source
        try:
            if begins is None:
                return ENDED
            if begins.resume and source.replay is Replay.CONTINUE and source.is_finished(*begins):
                return ENDED
            self._generator = source.generate(*begins)
        except BaseException as error:
            return failure_of(_HANDLER, error)
        finally:
            self.begins = None
        return None

    def _may_go_on(self) -> bool:
        with self._lock:
            if self.stopping or self._allowed <= 0:
                return False
            self._allowed -= 1
            return True

    def _hand_over(self, output: object = None, *, end: Failure | None = None) -> None:
        with self._lock:
            self.began = self._loop.time()
            if end is None:
                self._outputs.append(output)
            self._end = end
        self._tell()

    def _tell(self) -> None:
        with self._lock:
            told, self._told = self._told, True
        if not told:
            try:
                self._loop.call_soon_threadsafe(self._signal.set)
            except RuntimeError:  # the event loop is closed, and nobody is there
                self.stopping = True

    def _close(self) -> None:
        generator, self._generator = self._generator, None
        try:
            if generator is not None:
                generator.close()
        except BaseException as error:
            failure = contained(error, "the handler")
            report(logger, logging.WARNING, "a generator failed while it was closed", failure)
