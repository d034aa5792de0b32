"""The caller's inputs, whatever kind of iterable they are."""

from __future__ import annotations

import logging
from collections.abc import (
    AsyncGenerator,
    AsyncIterable,
    AsyncIterator,
    Callable,
    Generator,
    Iterable,
    Iterator,
)
from typing import Any, Generic, TypeVar

from servestream_client.errors import InputsError
from servestream_client.usercode import contained, report, type_name

__all__ = ["INPUTS", "InputSource", "InputsFailed", "begun", "check_inputs", "length_of"]

INPUTS = "the stream's inputs"
"""Whose code it is, in messages."""

logger: logging.Logger = logging.getLogger(__name__)

In = TypeVar("In")
Iterated = TypeVar("Iterated")


class InputsFailed(Exception):  # noqa: N818 — an event between two functions
    """The caller's inputs raised, and nothing else did.

    Attributes:
        error: what they raised, as a value (`usercode.contained`).
    """

    def __init__(self, error: BaseException) -> None:
        super().__init__()
        self.error = error


def check_inputs(inputs: object) -> None:
    """
    Raises:
        InputsError: they are what would be iterated otherwise than anybody means: a single string
            or bytes object letter by letter, a dictionary by its keys, a table by its columns.
    """
    if isinstance(inputs, str | bytes | bytearray | memoryview):
        raise InputsError(
            f"the inputs are a single {type_name(inputs)}; to stream it as one item, put"
            " it into a list"
        )
    if isinstance(inputs, dict):
        raise InputsError(
            "the inputs are a single dict, which would be iterated by its keys; to stream it as one"
            " item, put it into a list, else pass its keys(), values() or items()"
        )
    kind = type(inputs)
    rows = _ROWS.get((kind.__module__.partition(".")[0], kind.__name__))
    if rows is not None:
        raise InputsError(
            f"the inputs are a {kind.__module__.partition('.')[0]} {kind.__name__}, which does not"
            f" iterate its rows; pass {rows}"
        )


_ROWS = {
    ("pandas", "DataFrame"): "frame.itertuples(index=False), or frame.to_dict('records')",
    ("polars", "DataFrame"): "frame.iter_rows(named=True), or frame.iter_rows()",
    ("polars", "LazyFrame"): "frame.collect().iter_rows(named=True)",
    ("pyarrow", "Table"): "(row for batch in table.to_batches() for row in batch.to_pylist())",
    ("pyarrow", "RecordBatch"): "batch.to_pylist()",
}
"""Tables, and what gives their rows."""


def length_of(inputs: object) -> int | None:
    """How many inputs there are, if they know it."""
    if not hasattr(type(inputs), "__len__"):
        return None
    try:
        return len(inputs)  # type: ignore[arg-type]  # it has one
    except Exception:
        return None


def begun(begin: Callable[[Any], Iterated], inputs: object) -> Iterated:
    """The iterator of inputs.

    Raises:
        BaseException: what they raise, if anything.
    """
    try:
        return begin(inputs)
    except BaseException as error:
        failure = contained(error, INPUTS)
        if failure is error:
            raise
        raise failure from error


class InputSource(Generic[In]):
    """The inputs' iterator, of one of two kinds, to be closed if it is a generator.

    Attributes:
        plain: the iterator of a plain iterable; None: they are asynchronous.

    Raises:
        InputsError: the inputs are no iterable, or a single string or bytes object, which would
            be streamed letter by letter.
    """

    def __init__(self, inputs: Iterable[In] | AsyncIterable[In]) -> None:
        self._async: AsyncIterator[In] | None = None
        self.plain: Iterator[In] | None = None
        check_inputs(inputs)
        if isinstance(inputs, AsyncIterable):
            self._async = begun(aiter, inputs)
        elif hasattr(type(inputs), "__iter__") or hasattr(type(inputs), "__getitem__"):
            self.plain = begun(iter, inputs)
        else:
            raise InputsError(
                f"the inputs must be an iterable or an async iterable, not a {type_name(inputs)}"
            )

    async def pull(self) -> In:
        """The next item of asynchronous inputs.

        Raises:
            StopAsyncIteration: there is none.
        """
        if self._async is None:
            raise StopAsyncIteration
        return await anext(self._async)

    async def aclose(self) -> None:
        """Let a generator run its `finally` blocks. Errors in there are logged."""
        later, self._async = self._async, None
        plain, self.plain = self.plain, None
        try:
            if isinstance(later, AsyncGenerator):
                await later.aclose()
            if isinstance(plain, Generator):
                plain.close()
        except BaseException as error:
            failure = contained(error, INPUTS, awaited=later is not None)
            report(logger, logging.WARNING, "closing the inputs failed", failure)
