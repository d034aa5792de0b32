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

import anyio
import anyio.lowlevel

from servestream_client.errors import InputsError

__all__ = ["InputSource"]

logger = logging.getLogger(__name__)

In = TypeVar("In")

_PULLS_PER_TURN = 64
"""How often a plain iterator is pulled before others on the event loop get their turn."""


class InputSource(Generic[In]):
    """Pulls one item at a time, and closes the iterator if it is a generator.

    Raises:
        InputsError: the inputs are no iterable, or a single string or bytes object, which would
            be streamed letter by letter.
    """

    def __init__(self, inputs: Iterable[In] | AsyncIterable[In]) -> None:
        self._async: AsyncIterator[In] | None = None
        self._plain: Iterator[In] = iter(())
        self._pulls = 0
        if isinstance(inputs, str | bytes | bytearray | memoryview):
            raise InputsError(
                f"the inputs are a single {type(inputs).__name__}; to stream it as one item, put"
                " it into a list"
            )
        if isinstance(inputs, AsyncIterable):
            self._async = aiter(inputs)
        elif hasattr(type(inputs), "__iter__") or hasattr(type(inputs), "__getitem__"):
            self._plain = iter(inputs)
        else:
            raise InputsError(
                f"the inputs must be an iterable or an async iterable, not a"
                f" {type(inputs).__name__}"
            )

    async def pull(self) -> In:
        """The next item.

        Raises:
            StopAsyncIteration: there is none.
        """
        if self._async is not None:
            return await anext(self._async)
        self._pulls += 1
        if self._pulls % _PULLS_PER_TURN == 0:
            await anyio.lowlevel.checkpoint()
        try:
            return next(self._plain)
        except StopIteration:
            raise StopAsyncIteration from None

    async def aclose(self) -> None:
        """Let a generator run its `finally` blocks. Errors in there are logged."""
        try:
            if isinstance(self._async, AsyncGenerator):
                await self._async.aclose()
            if isinstance(self._plain, Generator):
                self._plain.close()
        except Exception:
            logger.warning("closing the inputs failed", exc_info=True)
