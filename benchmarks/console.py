"""What long work says of itself: a line that changes on a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.markup import escape

__all__ = ["Lines", "Say"]

LINE_SECONDS = 10.0
"""At the least, between lines that only say what is being done."""

Say = Callable[[str], None]


class Lines:
    """The part that benchmarks and chaos runs have in common.

    Args:
        console: None: standard output's.
        width: of a table that goes into a file.
    """

    def __init__(self, console: Console | None = None, *, width: int) -> None:
        self._console = console or Console(highlight=False)
        if console is None and not self._console.is_terminal:
            self._console.width = width

    def line(self, text: str) -> None:
        self._console.print(escape(text))

    def problem(self, text: str) -> None:
        self._console.print(f"[red]failed:[/] {escape(text)}")

    @contextmanager
    def waiting(self, what: str) -> Iterator[Say]:
        """Yields what says what is being done: in a line that changes, or in one now and then."""
        if self._console.is_terminal:
            with self._console.status(f"{escape(what)} ...") as status:
                yield lambda phase: status.update(f"{escape(phase)} ...")
            return
        self.line(f"{what} ...")
        said = time.monotonic()

        def say(phase: str) -> None:
            nonlocal said
            if time.monotonic() - said > LINE_SECONDS:
                said = time.monotonic()
                self.line(f"  {phase} ...")

        yield say
