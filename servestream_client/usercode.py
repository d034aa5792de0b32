"""Other people's code: what it raises, and what becomes of that. One rule for each kind.

Handlers, `admit`, hooks, codecs, the callers' iterators and an exception's own `str()` may raise
anything at all, also what Python uses for its own control flow. What calls them catches
BaseException and asks `contained`, so that the rule stands once:

========================================================  =========================================
raised                                                    becomes
========================================================  =========================================
KeyboardInterrupt, in the main thread                     passes: Ctrl-C is the process's
CancelledError, out of an await, while the calling        passes: it is that task's
task is cancelled
GeneratorExit, out of an await                            passes: the calling coroutine is closed
CancelledError and GeneratorExit otherwise,               a RuntimeError that names it, with it as
StopIteration, StopAsyncIteration                         the cause (as PEP 479 has it)
anything else, SystemExit included                        itself: the failure of what was called
========================================================  =========================================

A value that is raised again in an iterator, a future or a task must be none of Python's control
flow: a StopAsyncIteration would end a loop as if everything had been delivered. Where such values
are kept or raised, `as_value` makes sure once more.

Nothing that is not foreseen reaches users bare: `unforeseen` makes a ServeStreamError of it.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import traceback
from typing import cast

from servestream_client.errors import ServeStreamError, StreamError, printable, type_name
from servestream_client.signals import being_cancelled

__all__ = [
    "annotate",
    "as_value",
    "contained",
    "describe",
    "is_a",
    "report",
    "type_name",
    "unforeseen",
]

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
    # What is only called cannot hear of a cancellation: it made its CancelledError itself.
    cancelled = awaited and is_a(error, asyncio.CancelledError) and being_cancelled()
    if cancelled or _is_ctrl_c(error) or (awaited and is_a(error, GeneratorExit)):
        try:
            raise error
        finally:
            del error  # its traceback refers to this frame, and to those that the error came from
    return as_value(error, source)


def as_value(error: BaseException, source: str) -> BaseException:
    """What `error` is where it is kept, to be raised elsewhere: never Python's control flow."""
    if not is_a(error, _CONTROL_FLOW):
        return error
    failure = RuntimeError(f"{source} raised {describe(error)}")
    failure.__cause__ = error
    return failure


def unforeseen(error: BaseException) -> ServeStreamError:
    """What users get for a failure inside of this package: itself, if it is made for them."""
    if is_a(error, ServeStreamError):
        return cast("ServeStreamError", error)
    failure = StreamError(
        f"a failure inside of servestream_client that it did not foresee, most likely a bug in it:"
        f" {describe(error)}"
    )
    failure.__cause__ = error
    return failure


def annotate(error: BaseException, note: str) -> None:
    """Add a note to somebody's exception, if that takes one: a frozen one does not."""
    try:
        BaseException.add_note(error, note)
    except BaseException as problem:
        if _is_ctrl_c(problem):
            raise


def report(logger: logging.Logger, level: int, text: str, error: BaseException) -> None:
    """Log somebody's exception with its traceback. That asks it for its text and its class for its
    name; where these raise, the log has what `describe` makes of it.
    """
    try:
        told = "".join(traceback.format_exception(error)).rstrip()
    except BaseException as problem:
        if _is_ctrl_c(problem):
            raise
        told = describe(error)
    logger.log(level, "%s\n%s", text, told)


def is_a(error: BaseException, kind: type | tuple[type, ...]) -> bool:
    """`isinstance` that asks nothing of the exception itself, which may lie about its class."""
    return issubclass(type(error), kind)


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


def _is_ctrl_c(error: BaseException) -> bool:
    """Signals are handled in the main thread only; elsewhere somebody raised it by hand."""
    in_main_thread = threading.current_thread() is threading.main_thread()
    return is_a(error, KeyboardInterrupt) and in_main_thread
