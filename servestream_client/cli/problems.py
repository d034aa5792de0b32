"""Exit codes, and errors in words instead of tracebacks."""

from __future__ import annotations

import enum
import os
import signal
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager

import typer
from rich.console import Console
from rich.markup import escape

from servestream_client.cli.interrupts import Terminated, heeded
from servestream_client.errors import (
    ConfigurationError,
    ItemError,
    ServeStreamError,
    StreamError,
)

__all__ = ["ExitCode", "Problem", "errors", "for_people"]


class ExitCode(enum.IntEnum):
    """What the command's exit code says."""

    ITEMS_FAILED = 1
    USAGE = 2
    STREAM_FAILED = 3
    BUG = 70
    INTERRUPTED = 130
    BROKEN_PIPE = 141


class Problem(Exception):  # noqa: N818 — it ends in words, not in a traceback
    """Something that the command cannot do, in words."""

    def __init__(self, message: str, code: ExitCode = ExitCode.USAGE) -> None:
        super().__init__(message)
        self.code = code


def errors() -> Console:
    """Where everything but results goes."""
    return Console(stderr=True, highlight=False, emoji=False, soft_wrap=True)


@contextmanager
def for_people() -> Iterator[None]:
    """Say in one line what went wrong, and leave with the exit code for it."""
    try:
        with heeded(), _expected():
            yield
    except Terminated as end:
        _leave(f"ended by {signal.Signals(end.number).name}", 128 + end.number)
    except KeyboardInterrupt:
        _leave("interrupted", ExitCode.INTERRUPTED)
    except (typer.Exit, typer.Abort, typer.BadParameter):
        raise
    except Exception:
        # Not Python's own exit code for that, which says here that items failed.
        traceback.print_exc()
        _leave("this is a fault of servestream itself; please report it", ExitCode.BUG)


@contextmanager
def _expected() -> Iterator[None]:
    try:
        yield
    except BrokenPipeError:
        # The reader of the results has enough. Python would complain once more when it ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise typer.Exit(ExitCode.BROKEN_PIPE) from None
    except Problem as problem:
        _leave(str(problem), problem.code)
    except ConfigurationError as error:
        _leave(str(error), ExitCode.USAGE)
    except ItemError as error:
        _leave(str(error), ExitCode.ITEMS_FAILED)
    except StreamError as error:
        _leave(f"{error.reason}\n{error.delivered}", ExitCode.STREAM_FAILED)
    except ServeStreamError as error:
        _leave(str(error), ExitCode.STREAM_FAILED)
    except OSError as error:  # a full disk; after the timeouts, which are of this kind, too
        _leave(str(error), ExitCode.USAGE)


def _leave(message: str, code: int) -> None:
    errors().print(f"[bold red]error:[/] {escape(message)}")
    raise typer.Exit(code)
