"""Other people's code: what it raises, and what becomes of that. One rule for each kind.

Handlers, `admit`, hooks, codecs, the callers' iterators and an exception's own `str()` may raise
anything at all, also what Python uses for its own control flow. Whoever calls them catches
BaseException and asks `contained`, so that the rule stands once:

========================================================  =========================================
raised                                                    becomes
========================================================  =========================================
KeyboardInterrupt, in the main thread                     passes: Ctrl-C is the process's
CancelledError, while the calling task is cancelled       passes: it is that task's
GeneratorExit, out of an await                            passes: the calling coroutine is closed
CancelledError and GeneratorExit otherwise,               a RuntimeError that names it, with it as
StopIteration, StopAsyncIteration                         the cause (as PEP 479 has it)
anything else, SystemExit included                        itself: the failure of what was called
========================================================  =========================================

A value that is raised again in an iterator, a future or a task must be none of Python's control
flow: a StopAsyncIteration would end a loop as if everything had been delivered.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import traceback

from servestream_client.errors import printable
from servestream_client.signals import being_cancelled

__all__ = ["contained", "describe", "log_failure", "type_name"]

_CONTROL_FLOW = (StopIteration, StopAsyncIteration, GeneratorExit, asyncio.CancelledError)


def contained(error: BaseException, source: str, *, awaited: bool = False) -> BaseException:
    """What `error`, raised by other people's code, is as a value; see the table above.

    Call it where the error is caught, in the task or thread that ran that code.

    Args:
        error: what was raised.
        source: whose code it was, for messages: ``"the codec"``.
        awaited: whether that code was awaited, and not just called.

    Returns:
        An exception that may be kept, described, and raised anywhere.

    Raises:
        BaseException: `error` itself, if it concerns the caller.
    """
    if _is_ctrl_c(error):
        raise error
    if isinstance(error, asyncio.CancelledError) and being_cancelled():
        raise error
    if isinstance(error, GeneratorExit) and awaited:
        raise error
    if isinstance(error, _CONTROL_FLOW):
        failure = RuntimeError(f"{source} raised {describe(error)}")
        failure.__cause__ = error
        return failure
    return error


def describe(error: BaseException) -> str:
    """An exception in one line of text. User code may have made one that cannot even say itself."""
    name = type_name(error)
    try:
        text = str(error)
        return printable(f"{name}: {text}" if text else name)
    except BaseException as problem:
        if _is_ctrl_c(problem):
            raise
        return f"{printable(name)} (its text cannot be read)"


def log_failure(
    logger: logging.Logger, text: str, error: BaseException, level: int = logging.ERROR
) -> None:
    """Log an exception of other people's code. Its traceback asks it for its text and its class
    for its name; where that raises, the log has what `describe` makes of it.
    """
    try:
        told = "".join(traceback.format_exception(error)).rstrip()
    except BaseException as problem:
        if _is_ctrl_c(problem):
            raise
        told = describe(error)
    logger.log(level, "%s\n%s", text, told)


def type_name(value: object) -> str:
    """The name of a value's class, whatever its metaclass says of it."""
    name: str = type.__dict__["__name__"].__get__(type(value))
    return name


def _is_ctrl_c(error: BaseException) -> bool:
    """Signals are handled in the main thread only; elsewhere somebody raised it by hand."""
    in_main_thread = threading.current_thread() is threading.main_thread()
    return isinstance(error, KeyboardInterrupt) and in_main_thread
