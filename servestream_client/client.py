"""The asynchronous face."""

from __future__ import annotations

from collections.abc import AsyncIterable, Iterable, Mapping
from typing import Any, Literal, TypeVar, Unpack, cast, overload

from servestream_client.codecs import Codec
from servestream_client.cursor import Cursor
from servestream_client.errors import ItemError
from servestream_client.outputs import Numbered
from servestream_client.session.base import ClientBase, ClientOptions, Target
from servestream_client.session.generation import Generation, batch_of
from servestream_client.session.source import length_of
from servestream_client.session.stream import PredictionStream

__all__ = ["StreamClient"]

In = TypeVar("In")
Out = TypeVar("Out")


class StreamClient(ClientBase[In, Out]):
    """Streams predictions from a Ray Serve application, through the death of its replicas.

    Within one client, every input's outputs reach the caller exactly once, in order, or the
    caller gets an exception that says what is known and what is not. Handlers may compute an
    input more than once.

    Use it as ``async with StreamClient(...) as client``, or close it with `aclose`. It belongs to
    the event loop that first used it.

    Args:
        target: ``host:port`` of Serve's gRPC ingress, or any gRPC target name; several of them as a
            list, or as `Endpoints`. A name stands for all its addresses. None: what
            ``SERVESTREAM_TARGET`` in the environment says.
        application: the Serve application to reach; empty: what ``SERVESTREAM_APPLICATION`` says,
            or else whichever answers.
        codec: how items are encoded; the service must use the same.
        retry: when to try again, and when to stop. None, here and in the next two: the defaults,
            and what ``SERVESTREAM_RETRY_ATTEMPTS`` and its like say (docs/how-to/settings.md).
        flow: how much may be under way.
        watchdog: how long silence, and a single input, may last.
        metadata: gRPC metadata for every call, e.g. ``authorization``. On an insecure channel it
            travels in clear text. Above 8 KiB in all there is a warning, since Ray Serve refuses
            such calls at random, and above 16 KiB always.
        hooks: are told what happens to every stream; see `servestream_client.Hooks`.
        credentials: for a TLS channel; None: an insecure one, which is all that Serve's own
            ingress offers.
        close_timeout: seconds that each step of any leave-taking may last: the call's, the
            inputs', and an end that does not come.
        predict_streams: how many streams `predict` may spread its calls over, and how many others
            `generate`. Serve routes each to one replica. None: as many as there are replicas (at
            most 64), and at least 4.
        streams_per_connection: how many streams share a connection before another is opened.
            HAProxy allows 100, and queues further ones silently.

    Raises:
        ConfigurationError: an argument cannot work.
    """

    @overload
    def __init__(
        self: StreamClient[bytes, bytes],
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

    # ---------------------------------------------------------------- streams

    @overload
    def stream(
        self,
        inputs: Iterable[In] | AsyncIterable[In],
        *,
        ordered: bool = ...,
        return_exceptions: Literal[False] = ...,
        timeout: float | None = ...,
        parameters: Mapping[str, str] | None = ...,
        numbered: Literal[False] = ...,
        lanes: int | None = ...,
        cursor: Cursor | None = ...,
    ) -> PredictionStream[Out]: ...

    @overload
    def stream(
        self,
        inputs: Iterable[In] | AsyncIterable[In],
        *,
        ordered: bool = ...,
        return_exceptions: bool,
        timeout: float | None = ...,
        parameters: Mapping[str, str] | None = ...,
        numbered: Literal[False] = ...,
        lanes: int | None = ...,
        cursor: Cursor | None = ...,
    ) -> PredictionStream[Out | ItemError]: ...

    @overload
    def stream(
        self,
        inputs: Iterable[In] | AsyncIterable[In],
        *,
        ordered: bool = ...,
        return_exceptions: Literal[False] = ...,
        timeout: float | None = ...,
        parameters: Mapping[str, str] | None = ...,
        numbered: Literal[True],
        lanes: int | None = ...,
        cursor: Cursor | None = ...,
    ) -> PredictionStream[Numbered[Out]]: ...

    @overload
    def stream(
        self,
        inputs: Iterable[In] | AsyncIterable[In],
        *,
        ordered: bool = ...,
        return_exceptions: bool,
        timeout: float | None = ...,
        parameters: Mapping[str, str] | None = ...,
        numbered: Literal[True],
        lanes: int | None = ...,
        cursor: Cursor | None = ...,
    ) -> PredictionStream[Numbered[Out] | ItemError]: ...

    @overload
    def stream(
        self,
        inputs: Iterable[In] | AsyncIterable[In],
        *,
        ordered: bool = ...,
        return_exceptions: bool = ...,
        timeout: float | None = ...,
        parameters: Mapping[str, str] | None = ...,
        numbered: bool,
        lanes: int | None = ...,
        cursor: Cursor | None = ...,
    ) -> PredictionStream[Out | Numbered[Out] | ItemError]: ...

    def stream(
        self,
        inputs: Iterable[In] | AsyncIterable[In],
        *,
        ordered: bool = True,
        return_exceptions: bool = False,
        timeout: float | None = None,
        parameters: Mapping[str, str] | None = None,
        numbered: bool = False,
        lanes: int | None = None,
        cursor: Cursor | None = None,
    ) -> PredictionStream[Any]:
        """Stream inputs, and iterate the predictions.

        The stream begins when it is first iterated. Inputs are pulled ahead of the consumer, but
        never further than `FlowControl` allows; a plain iterator is pulled on the event loop, which
        has its turn after each item that takes long. An iterator that is a generator is closed with
        the stream.

        Args:
            inputs: an iterable or an async iterable.
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
            cast("Iterable[object] | AsyncIterable[object]", inputs),
            ordered=ordered,
            timeout=timeout,
            parameters=parameters,
            lanes=lanes,
            track=track,
        )
        return PredictionStream(
            driver,
            start=self._connection.start,
            decode=self._streams.codec.decode_output,
            return_exceptions=return_exceptions,
            numbered=numbered,
            track=track,
            length=length_of(inputs),
        )

    async def predict(self, item: In, *, timeout: float | None = None) -> Out:
        """The prediction for one input.

        Meant for many calls at a time, from as many tasks: they share a few long-lived streams,
        and with them the cost of a message. A call survives its replica like any stream's input;
        a cancelled one is cancelled at the server, too.

        Args:
            item: the input. Its handler must give one output.
            timeout: seconds, across failures; None: no limit.

        Raises:
            ItemError: this input failed. Its `number` is 1: a call is a stream of one input.
            StreamError: the stream that carried the call failed; `delivered` speaks of the call.
            StreamTimeoutError: the timeout passed.
            ConfigurationError: the timeout cannot work.
            ClientClosedError, WrongEventLoopError: the client is closed, or belongs elsewhere.
        """
        self._connection.check()
        return cast("Out", await self._lanes().predict(item, timeout=timeout))

    def generate(self, item: In, *, timeout: float | None = None) -> Generation[Out]:
        """The outputs of one input, as they come.

        Meant for many at a time: they share a few long-lived streams, and with them the cost of a
        message. A reader who stops stops nobody else. It begins when it is first iterated, and
        survives its replica as its handler allows (`Replay`); `Generation.seams` says where.

        Args:
            item: the input.
            timeout: seconds for all of it, across failures; None: no limit.

        Raises:
            ConfigurationError: the timeout cannot work.
            ClientClosedError: the client is closed.
        """
        self._connection.check_open()
        return Generation(
            item,
            self._generate_lanes,
            encode=self._streams.encode,
            decode=self._streams.codec.decode_output,
            timeout=timeout,
            batch=batch_of(self._streams.flow),
        )

    # ---------------------------------------------------------------- life

    async def aclose(self) -> None:
        """End every stream and give back the connection. Bounded in time; harmless twice."""
        await self._connection.aclose()

    async def __aenter__(self) -> StreamClient[In, Out]:
        self._connection.check()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()
