"""SIGINT, SIGTERM and SIGHUP: each ends a command as Ctrl-C does, in order and in words."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Self

__all__ = ["Terminated", "Uninterrupted", "heeded"]


class Terminated(KeyboardInterrupt):
    """SIGTERM or SIGHUP.

    Attributes:
        number: of the signal.
    """

    def __init__(self, number: int) -> None:
        super().__init__()
        self.number = number


def _strike(number: int, frame: FrameType | None) -> None:
    if number == signal.SIGINT:
        signal.default_int_handler(number, frame)
    raise Terminated(number)


@contextmanager
def heeded() -> Iterator[None]:
    """Have SIGTERM and SIGHUP raise `Terminated`, where nobody has said otherwise: under nohup, for
    instance, SIGHUP is left alone.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    taken = [
        number
        for number in (signal.SIGTERM, signal.SIGHUP)
        if signal.getsignal(number) is signal.SIG_DFL
    ]
    for number in taken:
        signal.signal(number, _strike)
    try:
        yield
    finally:
        for number in taken:
            signal.signal(number, signal.SIG_DFL)


class Uninterrupted:
    """Lets signals strike between results, and not between writing one and counting it.

    Attributes:
        torn: whether one struck in between all the same: the second does not wait.
    """

    def __init__(self) -> None:
        self.torn: bool = False
        self._busy = False
        self._struck: int | None = None
        self._before: dict[int, object] = {}

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
                handler = signal.getsignal(number)
                # One that was told not to heed it, as by nohup, goes on.
                if handler is signal.default_int_handler or handler is _strike:
                    self._before[number] = handler
                    signal.signal(number, self._signalled)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)  # type: ignore[arg-type]  # what getsignal gave

    def _signalled(self, number: int, frame: FrameType | None) -> None:
        if self._busy and self._struck is None:
            self._struck = number
            return
        self.torn = self._busy
        _strike(number, frame)

    def begin(self) -> None:
        """What follows is done as a whole."""
        self._busy = True

    def end(self) -> None:
        """It is done."""
        self._busy = False
        if self._struck is not None:
            number, self._struck = self._struck, None
            _strike(number, None)
