"""What streams are made of: one set of options, and the parts put together."""

from __future__ import annotations

import os
from collections.abc import AsyncIterable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from servestream_client.codecs import Codec
from servestream_client.config import FlowControl, RetryPolicy, Watchdog, check_count, check_timeout
from servestream_client.cursor import Cursor, Job
from servestream_client.errors import ConfigurationError, CursorMismatchError, type_name
from servestream_client.events import Hooks, StreamKind
from servestream_client.protocol.client import ClientSession
from servestream_client.protocol.frames import STREAM_ID_BYTES, CodecId
from servestream_client.session.apart import Apart
from servestream_client.session.arguments import check_parameters
from servestream_client.session.calls import ToldPredictor
from servestream_client.session.connection import Connection
from servestream_client.session.cursor_track import CursorTrack, TrackedInlet
from servestream_client.session.driver import StreamDriver
from servestream_client.session.encoding import encoded
from servestream_client.session.feeder import InputFeeder
from servestream_client.session.generator import Generator
from servestream_client.session.isolation import Isolation
from servestream_client.session.many_lanes import ManyLanes
from servestream_client.session.outage import Outage
from servestream_client.session.outcome import AttemptFailed
from servestream_client.session.predictor import Predictor
from servestream_client.session.pump import InputPump, UnsendableInput
from servestream_client.session.spread import MOST_LANES, Spread
from servestream_client.session.stream_lanes import StreamLanes
from servestream_client.session.telling import CallTeller

__all__ = ["StreamFactory"]

_FEW_LANES = 4
"""So many lanes there may be at fewer servers, too: a proxy moves more messages on them."""

_SPREADING_SECONDS = 1.0
"""So long inputs of a stream wait for lanes at servers that have none."""

_CURSOR_WINDOWS = 4
"""So many windows of inputs a stream with a cursor may be ahead of the first one that it is not
done with: the cursor lists those in between."""

LANE_IDLE_SECONDS = 5.0
"""How long a stream of `predict` or `generate` is kept with nothing to carry. It occupies a place
at its replica."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamFactory:
    """Makes the streams of one client.

    Streams open others while they live, and so refer to this rather than to the client: a client
    that is dropped goes at once, and does not wait for the garbage collector to find a circle.
    """

    connection: Connection
    codec: Codec[Any, Any]
    application: str
    retry: RetryPolicy
    flow: FlowControl
    watchdog: Watchdog
    close_timeout: float
    hooks: Sequence[Hooks]

    def stream(
        self,
        inputs: Iterable[object] | AsyncIterable[object] | InputFeeder[bytes | UnsendableInput],
        *,
        ordered: bool,
        timeout: float | None,
        parameters: Mapping[str, str] | None,
        lanes: int | None = None,
        track: CursorTrack | None = None,
    ) -> StreamDriver:
        """A stream that has not started.

        Args:
            inputs: the caller's; from a feeder those that are done with are passed over already.
            ordered: whether outputs come in their order.
            timeout: seconds for the whole stream.
            parameters: for the service.
            lanes: over how many servers they may be spread.
            track: of a stream with a cursor; see `track`.

        Raises:
            InputsError: the inputs are no iterable.
            ConfigurationError: another argument cannot work.
            ClientClosedError: the client is closed.
        """
        self.connection.check_open()
        check_timeout(timeout)
        check_parameters(parameters)
        if lanes is not None:
            check_count("lanes", lanes)
        session = self._session(ordered=ordered, parameters=parameters, track=track)
        driver = StreamDriver(
            session=session,
            endpoints=self.connection.endpoints,
            retry=self.retry,
            timeout=timeout,
            close_timeout=self.close_timeout,
            hooks=self.hooks,
        )
        if track is not None:
            driver.inlet = TrackedInlet(session, driver, track)
            driver.inlet.keep_within(_CURSOR_WINDOWS * self.flow.window_items)
        driver.pump = InputPump(
            inlet=driver.inlet,
            inputs=inputs,
            encode=self.codec.encode_input,
            max_item_bytes=self.flow.max_item_bytes,
            notify=driver.notify,
            track=track,
        )
        driver.observer = Isolation(
            driver,
            partial(self._open_suspects, parameters),
            Apart(driver, partial(self._generator_apart, parameters), self.flow),
        )
        if lanes != 1:
            open_lane = partial(self._open_lane, StreamKind.LANE, parameters)
            make_generator = partial(self._generator_beside, parameters, lanes)
            for_many = partial(ManyLanes, driver, make_generator, lanes)
            if self.connection.endpoints.many:
                driver.lanes = for_many()
            else:
                driver.lanes = StreamLanes(driver, open_lane, lanes, self.retry.hedge, for_many)
        return driver

    def track(
        self, cursor: Cursor | None, parameters: Mapping[str, str] | None, *, ordered: bool
    ) -> CursorTrack | None:
        """What makes the cursors of a stream that begins at that one, if it is to have any.

        Raises:
            ConfigurationError: it cannot begin there.
        """
        if cursor is None:
            return None
        if not isinstance(cursor, Cursor):
            raise ConfigurationError(
                f"cursor must be a Cursor, not a {type_name(cursor)}; Cursor.from_bytes makes one"
            )
        if ordered and cursor.beyond:
            raise CursorMismatchError(
                "the cursor comes from an unordered stream, and has gaps: resume it with"
                " ordered=False"
            )
        if cursor.state is not None and not ordered and cursor.state.begun:
            raise CursorMismatchError(
                "the cursor comes from a stateful service, whose inputs are answered in their"
                " order: leave out ordered=False"
            )
        if not ordered:
            cursor = replace(cursor, state=None)
        check_parameters(parameters)
        codec = self.codec
        job = Job.of(self.application, codec.id, codec.fingerprint, parameters)
        return CursorTrack(cursor, job, codec.encode_input, self.flow.max_item_bytes)

    def predictor(self, lanes: int | None) -> Predictor:
        """What carries the calls of `predict`, on so many streams at the most; None: on as many as
        there are servers.
        """
        make = ToldPredictor if self.hooks else Predictor
        predictor = make(
            partial(self._open_lane, StreamKind.PREDICT, apart=True),
            partial(self._open_lane, StreamKind.PREDICT),
            encode=self.codec.encode_input,
            decode=self.codec.decode_output,
            max_item_bytes=self.flow.max_item_bytes,
            spread=_spread(lanes),
            idle_seconds=LANE_IDLE_SECONDS,
        )
        if isinstance(predictor, ToldPredictor):
            predictor.teller = self._teller(StreamKind.PREDICT)
        return predictor

    def generator(self, lanes: int | None) -> Generator:
        """The same for the calls of `generate`."""
        generator = Generator(
            self._open_generate_lane,
            partial(self._open_generate_lane, isolated=True),
            lambda: self.connection.endpoints.answered,
            flow=self.flow,
            spread=_spread(lanes, slow=True),
            idle_seconds=LANE_IDLE_SECONDS,
        )
        if self.hooks:
            generator.teller = self._teller(StreamKind.GENERATE)
        return generator

    def _teller(self, kind: StreamKind) -> CallTeller:
        return CallTeller(self.hooks, self.connection.endpoints.name, self.application, kind)

    def _generator_beside(
        self, parameters: Mapping[str, str] | None, lanes: int | None
    ) -> Generator:
        """The same for the inputs of a stream."""
        return Generator(
            partial(self._open_generate_lane, parameters=parameters, kind=StreamKind.LANE),
            partial(self._open_generate_lane, parameters=parameters, isolated=True),
            lambda: self.connection.endpoints.answered,
            flow=self.flow,
            spread=Spread(lanes or 1, lanes or MOST_LANES, slow=True),
            idle_seconds=LANE_IDLE_SECONDS,
            patience=_SPREADING_SECONDS,
        )

    def _generator_apart(self, parameters: Mapping[str, str] | None) -> Generator:
        """The same for suspected inputs of a stream."""
        open_lane = partial(self._open_generate_lane, parameters=parameters, isolated=True)
        return Generator(
            open_lane,
            open_lane,
            lambda: self.connection.endpoints.answered,
            flow=self.flow,
            spread=_spread(None),
            idle_seconds=0.0,
        )

    def encode(self, item: object) -> bytes:
        """The payload of an input of `generate`.

        Raises:
            ItemError: the codec cannot encode it, or it is too large.
        """
        return encoded(self.codec.encode_input, item, self.flow.max_item_bytes)

    def _open_generate_lane(
        self,
        *,
        on_arrival: Callable[[], None],
        on_break: Callable[[AttemptFailed], None],
        outage: Outage | None,
        parameters: Mapping[str, str] | None = None,
        isolated: bool = False,
        kind: StreamKind = StreamKind.GENERATE,
    ) -> StreamDriver:
        """A stream that carries the calls of `generate`, or inputs of another one, started."""
        session = self._session(
            ordered=False, parameters=parameters, isolated=isolated, frees_places=True
        )
        kind = StreamKind.ISOLATED if isolated else kind
        driver = self._hand_fed(session, on_arrival, on_break, outage, kind=kind)
        self.connection.start(driver)
        return driver

    def _open_lane(
        self,
        kind: StreamKind,
        parameters: Mapping[str, str] | None = None,
        *,
        on_arrival: Callable[[], None],
        on_break: Callable[[AttemptFailed], None],
        outage: Outage | None,
        apart: bool = False,
    ) -> StreamDriver:
        """A stream that carries calls of `predict`, or inputs of another one, started."""
        session = self._session(ordered=False, parameters=parameters)
        driver = self._hand_fed(session, on_arrival, on_break, outage, kind=kind, apart=apart)
        driver.observer = Isolation(driver, partial(self._open_suspects, parameters))
        self.connection.start(driver)
        return driver

    def _open_suspects(
        self,
        parameters: Mapping[str, str] | None,
        *,
        on_arrival: Callable[[], None],
        on_break: Callable[[AttemptFailed], None],
        outage: Outage | None,
    ) -> StreamDriver:
        """A stream for inputs that may break their servers, started."""
        session = self._session(ordered=False, parameters=parameters, isolated=True)
        driver = self._hand_fed(session, on_arrival, on_break, outage, kind=StreamKind.ISOLATED)
        self.connection.start(driver)
        return driver

    def _hand_fed(
        self,
        session: ClientSession,
        on_arrival: Callable[[], None],
        on_break: Callable[[AttemptFailed], None],
        outage: Outage | None,
        *,
        kind: StreamKind,
        apart: bool = False,
    ) -> StreamDriver:
        return StreamDriver(
            session=session,
            endpoints=self.connection.endpoints,
            apart=apart,
            retry=self.retry,
            timeout=None,
            close_timeout=self.close_timeout,
            eager=kind is not StreamKind.ISOLATED,
            on_arrival=on_arrival,
            on_break=on_break,
            hooks=self.hooks,
            kind=kind,
            outage=outage,
        )

    def _session(
        self,
        *,
        ordered: bool,
        parameters: Mapping[str, str] | None = None,
        isolated: bool = False,
        frees_places: bool = False,
        track: CursorTrack | None = None,
    ) -> ClientSession:
        start = Cursor() if track is None else track.start
        return ClientSession(
            stream_id=os.urandom(STREAM_ID_BYTES) if start.state is None else start.state.stream_id,
            codec=CodecId(self.codec.id, self.codec.fingerprint),
            flow=self.flow,
            application=self.application,
            ordered=ordered,
            parameters=parameters,
            isolated=isolated,
            frees_places=frees_places,
            tracked=track is not None,
            position=start.through,
            begun=start.state,
            watchdog=self.watchdog,
        )


def _spread(lanes: int | None, *, slow: bool = False) -> Spread:
    least, most = (_FEW_LANES, MOST_LANES) if lanes is None else (lanes, lanes)
    return Spread(least, most, slow=slow)
