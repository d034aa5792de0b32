"""What the commands of this repository have in common: how they are asked, and how they end."""

from __future__ import annotations

import argparse
import signal
from collections.abc import Callable, Sequence
from types import FrameType
from typing import TypeVar

__all__ = ["interrupt_on_sigterm", "parser", "positive", "several"]

T = TypeVar("T", bound=str)


def parser(prog: str, description: str, epilog: str) -> argparse.ArgumentParser:
    """A parser of ``python -m``, whose epilog is shown as it is written."""
    return argparse.ArgumentParser(
        prog=f"python -m {prog}",
        description=description,
        epilog=epilog,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )


def positive(text: str) -> int:
    """
    Raises:
        argparse.ArgumentTypeError: it is no whole number, or less than 1.
    """
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"a whole number from 1 on, not {text!r}")
    return int(text)


def several(known: Sequence[T], *, or_none: bool = False) -> Callable[[str], list[T]]:
    """What reads names with commas between, in the order in which they are given.

    Args:
        known: the names there are.
        or_none: whether there may be no name at all.
    """

    def parse(text: str) -> list[T]:
        names = [name.strip() for name in text.split(",") if name.strip()]
        if not (names or or_none) or any(name not in known for name in names):
            raise argparse.ArgumentTypeError(
                f"of {', '.join(known)}, with commas between, not {text!r}"
            )
        return [known[known.index(name)] for name in names]

    return parse


def interrupt_on_sigterm() -> None:
    """SIGTERM ends the process in order, as Ctrl-C does."""

    def interrupt(_number: int, _frame: FrameType | None) -> None:
        # Not an exception of its own: where an event loop runs, Ctrl-C cancels its main task, while
        # one that is raised in the midst of a callback, of a weak reference say, is lost.
        signal.raise_signal(signal.SIGINT)

    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # as of what a shell runs beside itself
        signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, interrupt)
