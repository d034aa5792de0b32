"""Outputs in batches, each with the cursor behind it.

Invariant: a batch has all outputs of the inputs that its cursor is behind and the one before it is
not, and no others: no input's outputs are split.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Generic, Protocol, Self, TypeVar

from servestream_client.config import check_count
from servestream_client.cursor import Cursor
from servestream_client.outputs import NoOutput
from servestream_client.portal import PortalLease

__all__ = ["AsyncBatches", "Batch", "Batches"]

_WITHOUT = 8
"""After so many inputs without an output for each output of a batch there is one all the same, so
that its cursor is kept."""

T_co = TypeVar("T_co", covariant=True)


@dataclass(frozen=True, slots=True)
class Batch(Generic[T_co]):
    """Outputs, and where the stream is behind them.

    Attributes:
        outputs: as the stream would have yielded them; none, where inputs have none. With
            ``return_exceptions=True`` also the `ItemError` of inputs that failed.
        cursor: to go on from, once these are kept.
    """

    outputs: list[T_co]
    cursor: Cursor


class _Stream(Protocol):
    """What a stream of either face is, here."""

    _numbered: bool

    def cursor(self) -> Cursor: ...

    def _drain(self, outputs: list[Any], most: int, /) -> BaseException | None: ...

    async def _undecoded(self, error: BaseException, /) -> object: ...

    def _ends_input(self, found: object, /) -> tuple[int, bool] | None: ...


class _AsyncStream(_Stream, Protocol):
    async def __anext__(self) -> object: ...


class _SyncStream(_Stream, Protocol):
    _portal: PortalLease

    def __next__(self) -> object: ...


class _Builder:
    """A batch that is being filled.

    Args:
        stream: whose it is.
        size: outputs that it shall have.
    """

    def __init__(self, stream: _Stream, size: int) -> None:
        check_count("size", size)
        self.error: Exception | None = None
        """What is to be raised behind the last batch."""
        self.ended: bool = False
        self._stream = stream
        self._size = size
        self._whole: list[Any] = []
        self._held: dict[int, list[Any]] = {}  # of inputs that have more
        self._without = 0  # inputs without any output since the last batch

    @property
    def full(self) -> bool:
        return len(self._whole) >= self._size or self._without >= _WITHOUT * self._size

    def add(self, found: object) -> BaseException | None:
        """A result that the stream has yielded, and those that are there with it.

        Returns:
            Why the last of these cannot be decoded, if so.
        """
        stream = self._stream
        place = stream._ends_input(found)  # noqa: SLF001 — the stream's own
        if place is None:
            self._whole.append(found)
            return stream._drain(self._whole, self._size - len(self._whole))  # noqa: SLF001
        number, last = place
        wanted = not isinstance(found, NoOutput) or stream._numbered  # noqa: SLF001
        outputs = (found,) if wanted else ()
        if last:
            before = len(self._whole)
            self._whole += self._held.pop(number, ())
            self._whole += outputs
            self._without += len(self._whole) == before
        else:
            self._held.setdefault(number, []).extend(outputs)
        return None

    def raise_error(self) -> None:
        """Raise what ended the stream, once."""
        error, self.error = self.error, None
        if error is not None:
            raise error

    def take(self) -> Batch[Any] | None:
        """What there is; None: nothing.

        Raises:
            Exception: what ended the stream, once everything before is taken.
        """
        cursor = self._stream.cursor() if self._whole or self._without else None
        if cursor is None:
            self.raise_error()
            return None
        whole, self._whole, self._without = self._whole, [], 0
        return Batch(whole, cursor)


class AsyncBatches(Generic[T_co]):
    """The batches of a `PredictionStream`, for ``async for``."""

    def __init__(self, stream: _AsyncStream, size: int) -> None:
        self._stream = stream
        self._batch = _Builder(stream, size)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Batch[T_co]:
        batch, stream = self._batch, self._stream
        while not (batch.full or batch.ended):
            try:
                failure = batch.add(await stream.__anext__())
                if failure is not None:
                    batch.add(await stream._undecoded(failure))  # noqa: SLF001
            except StopAsyncIteration:
                batch.ended = True
            except Exception as error:
                batch.error, batch.ended = error, True
        found = batch.take()
        if found is None:
            raise StopAsyncIteration
        return found


class Batches(Generic[T_co]):
    """The batches of a `SyncPredictionStream`, for a plain ``for``."""

    def __init__(self, stream: _SyncStream, size: int) -> None:
        self._stream = stream
        self._batch = _Builder(stream, size)

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Batch[T_co]:
        batch, stream = self._batch, self._stream
        while not (batch.full or batch.ended):
            try:
                failure = batch.add(stream.__next__())
                if failure is not None:
                    batch.add(stream._portal.call(stream._undecoded, failure))  # noqa: SLF001
            except StopIteration:
                batch.ended = True
            except Exception as error:
                batch.error, batch.ended = error, True
        found = batch.take()
        if found is None:
            raise StopIteration
        return found
