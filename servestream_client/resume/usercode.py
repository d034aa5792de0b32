"""The caller's code within a call: what it raises ends the call with that, whatever it is."""

from __future__ import annotations

from collections.abc import Callable
from typing import ParamSpec, TypeVar

from servestream_client.errors import NotResumableError
from servestream_client.usercode import contained

__all__ = ["CallersError", "of_the_caller"]

P = ParamSpec("P")
T = TypeVar("T")


class CallersError(Exception):
    """An event between functions: the caller's code has raised, and nothing else.

    Attributes:
        error: what it was, as a value.
    """

    def __init__(self, error: BaseException) -> None:
        super().__init__()
        self.error = error


def of_the_caller(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Call it.

    Raises:
        CallersError: it has raised.
        NotResumableError: likewise, which is this package's own word.
    """
    try:
        return function(*args, **kwargs)
    except NotResumableError:
        raise
    except BaseException as error:
        raise CallersError(contained(error, "the resumption")) from None
