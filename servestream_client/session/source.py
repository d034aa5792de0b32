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
        self._iterator: AsyncIterator[In] | Iterator[In]
        self._pulls = 0
        if isinstance(inputs, str | bytes | bytearray | memoryview):
            raise InputsError(
                f"the inputs are a single {type(inputs).__name__}; to stream it as one item, put"
                " it into a list"
            )
        if isinstance(inputs, AsyncIterable):
            self._iterator = aiter(inputs)
            return
        try:
            self._iterator = iter(inputs)
        except TypeError:
            raise InputsError(
                f"the inputs must be an iterable or an async iterable, not a"
                f" {type(inputs).__name__}"
            ) from None

    async def pull(self) -> In:
        """The next item.

        Raises:
            StopAsyncIteration: there is none.
        """
        iterator = self._iterator
        if isinstance(iterator, AsyncIterator):
            return await anext(iterator)
        self._pulls += 1
        if self._pulls % _PULLS_PER_TURN == 0:
            await anyio.lowlevel.checkpoint()
        try:
            return next(iterator)
        except StopIteration:
            raise StopAsyncIteration from None

    async def aclose(self) -> None:
        """Let a generator run its `finally` blocks. Errors in there are logged."""
        try:
            if isinstance(self._iterator, AsyncGenerator):
                await self._iterator.aclose()
            elif isinstance(self._iterator, Generator):
                self._iterator.close()
        except Exception:
            logger.warning("closing the inputs failed", exc_info=True)
