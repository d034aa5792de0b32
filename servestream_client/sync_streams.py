"""What the blocking face gives: streams and generations, for plain loops."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Self, TypeVar

from servestream_client.cursor import Cursor
from servestream_client.errors import ClientClosedError
from servestream_client.events import StreamStatistics
from servestream_client.portal import PortalLease, may_not_wait, on_loop_thread
from servestream_client.session.batches import Batches
from servestream_client.session.cursor_track import CursorTrack
from servestream_client.session.driver import StreamDriver
from servestream_client.session.generation import GenerationBase
from servestream_client.session.request import Owner
from servestream_client.session.stream import StreamBase
from servestream_client.usercode import contained

__all__ = ["SyncGeneration", "SyncPredictionStream"]

T_co = TypeVar("T_co", covariant=True)


class SyncPredictionStream(StreamBase[T_co]):
    """Predictions, for a plain ``for`` loop; else as `PredictionStream` is.

    Leaving the loop early ends the stream when the object is dropped, and ``with`` or `close` end
    it at once.

    While being iterated it may raise what follows.

    Raises:
        ItemError: one input failed; the stream is closed. With ``return_exceptions=True`` it is
            yielded in the input's place instead, and the stream goes on.
        StreamError: the stream failed; says what was delivered. See `servestream_client.errors`.
        ClientClosedError: the client is closed, or was used before a fork.
        ConfigurationError: another thread iterates the stream at the same time.
        WrongEventLoopError: a hook or a finaliser iterates it in the thread of the clients' own
            event loop.
        Exception: whatever the inputs' own iterator raised, after the outputs of the inputs
            before it.
    """

    _longest_run = 1024  # outputs that cross from the event loop's thread at once

    def __init__(
        self,
        driver: StreamDriver,
        portal: PortalLease,
        *,
        start: Callable[[StreamDriver], None],
        decode: Callable[[bytes], T_co],
        return_exceptions: bool,
        numbered: bool = False,
        track: CursorTrack | None = None,
        length: int | None = None,
    ) -> None:
        super().__init__(
            driver,
            start=start,
            decode=decode,
            return_exceptions=return_exceptions,
            numbered=numbered,
            track=track,
            length=length,
        )
        self._portal = portal

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> T_co:
        while True:
            if self._as_is:
                for payload in self._rest:
                    return payload  # type: ignore[return-value]  # they are the outputs
            for payload in self._rest:
                try:
                    return self._decode(payload)
                except BaseException as error:
                    try:
                        return self._portal.call(self._undecoded, contained(error, "the codec"))
                    finally:
                        del self  # or else keeping the error would keep the stream open
            if self._single:
                return self._single.pop(0)
            if self._exhausted and self._failed is None:
                raise StopIteration
            if not self._portal.call(self._advance):
                raise StopIteration

    def close(self) -> None:
        """End the stream: the call, the input iterator and every task. Bounded in time.

        Harmless on a stream that has ended. Outputs not yet taken are dropped. It may be called
        anywhere; see `SyncStreamClient.close`.
        """
        if may_not_wait():
            self._exhausted = True
            if self._loop is not None:
                with suppress(RuntimeError):  # it is closed, and so is the stream
                    self._loop.call_soon_threadsafe(self._drop)
            return
        try:
            self._portal.call(self._aclose)
        except ClientClosedError:
            return  # and with the client its streams

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def statistics(self) -> StreamStatistics:
        """What happened so far; also after the end."""
        if on_loop_thread():
            return self._statistics()
        try:
            return self._portal.call(self._counted)
        except ClientClosedError:
            return self._statistics()

    async def _counted(self) -> StreamStatistics:
        return self._statistics()

    def cursor(self) -> Cursor:
        """As for `PredictionStream`."""
        if on_loop_thread():
            return self._cursor()
        try:
            return self._portal.call(self._placed)
        except ClientClosedError:
            return self._cursor()

    async def _placed(self) -> Cursor:
        return self._cursor()

    def batches(self, size: int) -> Batches[T_co]:
        """As for `PredictionStream`, for a plain ``for`` loop."""
        self._for_batches()
        return Batches(self, size)


class SyncGeneration(GenerationBase[T_co]):
    """The outputs of one input, for a plain ``for`` loop; else as `Generation` is.

    Leaving the loop early ends it when the object is dropped, and ``with`` or `close` end it at
    once.

    While being iterated it may raise what follows, after the outputs that came before.

    Raises:
        ItemError: the input failed, or was cut and cannot go on.
        StreamError: the stream that carried it failed.
        StreamTimeoutError: its timeout passed.
        ClientClosedError: the client is closed, or was used before a fork.
        ConfigurationError: another thread iterates it at the same time.
        WrongEventLoopError: a hook or a finaliser iterates it in the thread of the clients' own
            event loop.

    Attributes:
        seams: where it was cut and went on, so far.
        delivered: how many outputs the caller has taken.
    """

    def __init__(
        self,
        item: object,
        owner: Callable[[], Owner],
        portal: PortalLease,
        *,
        encode: Callable[[object], bytes],
        decode: Callable[[bytes], T_co],
        timeout: float | None,
        batch: int,
    ) -> None:
        super().__init__(item, owner, encode=encode, decode=decode, timeout=timeout, batch=batch)
        self._portal = portal

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> T_co:
        if self._loop is None and self._payload is None and not self._closed:
            self._encode_item()  # in the caller's thread, and not in that which all share
        rest = self._rest
        while True:
            while not rest:
                if not self._portal.call(self._advance):
                    raise StopIteration
            try:
                payload = rest.popleft()
            except IndexError:  # another thread has closed it meanwhile
                continue
            try:
                return self._decode(payload)
            except BaseException as error:
                failure = contained(error, "the codec")
                problem = self._undecoded(failure)
                self._end(problem)
                raise problem from failure

    def close(self) -> None:
        """End it: its handler is cancelled at the server. Harmless on one that has ended. It may be
        called anywhere; see `SyncStreamClient.close`.
        """
        self._end(None)

    def _end(self, error: BaseException | None) -> None:
        if self._loop is None or may_not_wait():
            self._close_later()
            return
        with suppress(ClientClosedError):  # and with the client its streams
            self._portal.call(self._aclose, error)

    async def _aclose(self, error: BaseException | None) -> None:
        self._close(error)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
