"""The blocking face, for scripts and notebooks."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Literal, Self, TypeVar, Unpack, cast, overload

from servestream_client.codecs import Codec
from servestream_client.config import check_timeout
from servestream_client.cursor import Cursor
from servestream_client.errors import ItemError
from servestream_client.outputs import Numbered
from servestream_client.portal import PortalLease
from servestream_client.session.base import ClientBase, ClientOptions, Target
from servestream_client.session.feeder import InputFeeder
from servestream_client.session.generation import batch_of
from servestream_client.session.predictor import Predictor
from servestream_client.session.source import length_of
from servestream_client.sync_streams import SyncGeneration, SyncPredictionStream

__all__ = ["SyncGeneration", "SyncPredictionStream", "SyncStreamClient"]

In = TypeVar("In")
Out = TypeVar("Out")


class SyncStreamClient(ClientBase[In, Out]):
    """`StreamClient` for code without an event loop: the same methods, options and errors.

    Use it as ``with SyncStreamClient(...) as client``, or close it with `close`. It may be used
    from several threads at once, and inside of a running event loop (a notebook), which stands
    still meanwhile. All such clients of a process share one thread with an event loop; it starts
    with the first call and ends with the last client. Each stream pulls its inputs in a further
    thread.

    Args:
        target: ``host:port`` of Serve's gRPC ingress, or any gRPC target name; None: what
            ``SERVESTREAM_TARGET`` in the environment says.
        codec: how items are encoded; the service must use the same.
        options: as for `StreamClient`.

    Raises:
        ConfigurationError: an argument cannot work.
    """

    @overload
    def __init__(
        self: SyncStreamClient[bytes, bytes],
        target: Target = ...,
        *,
        codec: None = ...,
        **options: Unpack[ClientOptions],
    ) -> None: ...

    @overload
    def __init__(
        self,
        target: Target = ...,
        *,
        codec: Codec[In, Out],
        **options: Unpack[ClientOptions],
    ) -> None: ...

    def __init__(
        self,
        target: Target = None,
        *,
        codec: Codec[Any, Any] | None = None,
        **options: Unpack[ClientOptions],
    ) -> None:
        super().__init__(target, codec, **options)
        self._portal = PortalLease(self._connection.endpoints.name, self._connection.aclose)

    # ---------------------------------------------------------------- streams

    @overload
    def stream(
        self,
        inputs: Iterable[In],
        *,
        ordered: bool = ...,
        return_exceptions: Literal[False] = ...,
        timeout: float | None = ...,
        parameters: Mapping[str, str] | None = ...,
        numbered: Literal[False] = ...,
        lanes: int | None = ...,
        cursor: Cursor | None = ...,
    ) -> SyncPredictionStream[Out]: ...

    @overload
    def stream(
        self,
        inputs: Iterable[In],
        *,
        ordered: bool = ...,
        return_exceptions: bool,
        timeout: float | None = ...,
        parameters: Mapping[str, str] | None = ...,
        numbered: Literal[False] = ...,
        lanes: int | None = ...,
        cursor: Cursor | None = ...,
    ) -> SyncPredictionStream[Out | ItemError]: ...

    @overload
    def stream(
        self,
        inputs: Iterable[In],
        *,
        ordered: bool = ...,
        return_exceptions: Literal[False] = ...,
        timeout: float | None = ...,
        parameters: Mapping[str, str] | None = ...,
        numbered: Literal[True],
        lanes: int | None = ...,
        cursor: Cursor | None = ...,
    ) -> SyncPredictionStream[Numbered[Out]]: ...

    @overload
    def stream(
        self,
        inputs: Iterable[In],
        *,
        ordered: bool = ...,
        return_exceptions: bool,
        timeout: float | None = ...,
        parameters: Mapping[str, str] | None = ...,
        numbered: Literal[True],
        lanes: int | None = ...,
        cursor: Cursor | None = ...,
    ) -> SyncPredictionStream[Numbered[Out] | ItemError]: ...

    @overload
    def stream(
        self,
        inputs: Iterable[In],
        *,
        ordered: bool = ...,
        return_exceptions: bool = ...,
        timeout: float | None = ...,
        parameters: Mapping[str, str] | None = ...,
        numbered: bool,
        lanes: int | None = ...,
        cursor: Cursor | None = ...,
    ) -> SyncPredictionStream[Out | Numbered[Out] | ItemError]: ...

    def stream(
        self,
        inputs: Iterable[In],
        *,
        ordered: bool = True,
        return_exceptions: bool = False,
        timeout: float | None = None,
        parameters: Mapping[str, str] | None = None,
        numbered: bool = False,
        lanes: int | None = None,
        cursor: Cursor | None = None,
    ) -> SyncPredictionStream[Any]:
        """Stream inputs, and iterate the predictions with a plain ``for``.

        The stream begins when it is first iterated. Inputs are pulled and encoded ahead of the
        consumer, in a thread of their own and in a copy of the caller's context; they may block.
        They are never pulled further than `FlowControl` allows. An iterator that is a generator is
        closed with the stream.

        Args:
            inputs: an iterable.
            ordered: outputs in the order of the inputs; False: as they are ready.
            return_exceptions: yield an `ItemError` in the place of an input that failed, and go
                on; False: raise it there, and close.
            timeout: seconds for the whole stream, across failures; None: no limit.
            parameters: for the service, as they are.
            numbered: yield `Numbered`, which says to what an output belongs. Where an input's
                outputs end without a further one, that is yielded as well, with `last` and no
                output.
            lanes: over how many servers its inputs may be spread; 1: they go to one, as long as
                that is there. None: as many as there are, where their handlers are what it waits
                for.
            cursor: where to begin, and that the stream shall have cursors; `Cursor()` is the
                beginning. The inputs are to be the same as before: those that are done with are
                read, compared and not sent. None: from the beginning, and without cursors.

        Raises:
            InputsError: the inputs are no iterable.
            CursorMismatchError: the cursor is one of another job. That the inputs are others is
                raised while iterating.
            ConfigurationError: another argument cannot work.
            ClientClosedError: the client is closed.
        """
        track = self._streams.track(cursor, parameters, ordered=ordered)
        driver = self._streams.stream(
            InputFeeder(inputs, track),
            ordered=ordered,
            timeout=timeout,
            parameters=parameters,
            lanes=lanes,
            track=track,
        )
        return SyncPredictionStream(
            driver,
            self._portal,
            start=self._connection.start,
            decode=self._streams.codec.decode_output,
            return_exceptions=return_exceptions,
            numbered=numbered,
            track=track,
            length=length_of(inputs),
        )

    def predict(self, item: In, *, timeout: float | None = None) -> Out:
        """The prediction for one input.

        Meant for many calls at a time, from as many threads: they share a few long-lived streams,
        and with them the cost of a message. A call survives its replica like any stream's input;
        an interrupted one is cancelled at the server, too.

        Args:
            item: the input. Its handler must give one output.
            timeout: seconds, across failures; None: no limit.

        Raises:
            ItemError: this input failed. Its `number` is 1: a call is a stream of one input.
            StreamError: the stream that carried the call failed; `delivered` speaks of the call.
            StreamTimeoutError: the timeout passed.
            ConfigurationError: the timeout cannot work.
            ClientClosedError: the client is closed, or was used before a fork.
            WrongEventLoopError: called in the thread of the clients' own event loop, by a hook or
                a finaliser.
        """
        check_timeout(timeout)
        # Only the loop makes it: two threads would make two.
        lanes = self._predictor or self._portal.call(self._on_loop)
        payload = lanes.encode(item)
        answer = self._portal.call(lanes.answer, item, payload, timeout)
        return cast("Out", lanes.decode(answer, item))

    def generate(self, item: In, *, timeout: float | None = None) -> SyncGeneration[Out]:
        """The outputs of one input, as they come; see `StreamClient.generate`.

        Args:
            item: the input.
            timeout: seconds for all of it, across failures; None: no limit.

        Raises:
            ConfigurationError: the timeout cannot work.
            ClientClosedError: the client is closed.
        """
        self._connection.check_open()
        return SyncGeneration(
            item,
            self._generate_lanes,
            self._portal,
            encode=self._streams.encode,
            decode=self._streams.codec.decode_output,
            timeout=timeout,
            batch=batch_of(self._streams.flow),
        )

    async def _on_loop(self) -> Predictor:
        self._connection.check()
        return self._lanes()

    # ---------------------------------------------------------------- life

    def close(self) -> None:
        """End every stream and give back the connection. Bounded in time; harmless twice.

        It may be called anywhere. In a hook or a finaliser it may return before that is done: it
        waits for nothing in the thread of the clients' own event loop, nor in the midst of another
        call of a blocking client.
        """
        self._connection.closed = True
        self._portal.release()

    def __enter__(self) -> Self:
        self._connection.check_open()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
