"""The caller's inputs, whatever kind of iterable they are."""

from __future__ import annotations

import logging
from collections.abc import (
    AsyncGenerator,
    AsyncIterable,
    AsyncIterator,
    Generator,
    Iterable,
    Iterator,
)
from typing import Generic, TypeVar

from servestream_client.errors import InputsError

__all__ = ["InputSource", "check_inputs"]

logger: logging.Logger = logging.getLogger(__name__)

In = TypeVar("In")


def check_inputs(inputs: object) -> None:
    """
    Raises:
        InputsError: they are a single string or bytes object, which would be streamed letter by
            letter.
    """
    if isinstance(inputs, str | bytes | bytearray | memoryview):
        raise InputsError(
            f"the inputs are a single {type(inputs).__name__}; to stream it as one item, put"
            " it into a list"
        )


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
            self._async = aiter(inputs)
        elif hasattr(type(inputs), "__iter__") or hasattr(type(inputs), "__getitem__"):
            self.plain = iter(inputs)
        else:
            raise InputsError(
                f"the inputs must be an iterable or an async iterable, not a"
                f" {type(inputs).__name__}"
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
        try:
            if isinstance(self._async, AsyncGenerator):
                await self._async.aclose()
            if isinstance(self.plain, Generator):
                self.plain.close()
        except Exception:
            logger.warning("closing the inputs failed", exc_info=True)
