"""The state of one stateful stream at its server: from a token, through the handler, to a token.

Invariant: what is sealed is the state behind the last input that was answered, and never one that a
handler is still changing.
"""

from __future__ import annotations

import hashlib
import inspect
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from servestream_client.codecs import Codec
from servestream_client.protocol.frames import Open, RefusalKind, StateToken
from servestream_client.protocol.states import ServerState
from servestream_client.server.admission import Refuse
from servestream_client.server.handlers.folds import Stepping
from servestream_client.server.sealing import Sealer, UnsealError, sealer_of
from servestream_client.server.tokens import Tokens
from servestream_client.usercode import contained, describe, report

__all__ = ["Folding", "Stateful", "StreamFold"]

logger: logging.Logger = logging.getLogger(__name__)

_SERVING = frozenset({ServerState.SERVING, ServerState.FINISHING, ServerState.DRAINING})

NOT_ACCEPTED = "the state cannot be used here"
"""What clients are told, whatever the reason."""


class Stateful(Protocol):
    """What is needed of a service; see `StatefulService`."""

    @property
    def fingerprint(self) -> str: ...
    @property
    def state_codec(self) -> Codec[Any, Any]: ...
    @property
    def state_version(self) -> int: ...
    @property
    def state_lifetime(self) -> float: ...
    @property
    def state_keys(self) -> Sequence[str] | None: ...
    @property
    def tokens(self) -> Tokens: ...
    @property
    def in_place(self) -> bool: ...

    def begin(self, parameters: Mapping[str, str], /) -> object: ...
    def upgrade(self, version: int, raw: bytes, /) -> object: ...


class Folding:
    """What the streams of one service have in common.

    Args:
        service: whose.
        now: seconds since 1970.
    """

    def __init__(self, service: Any, *, now: Callable[[], float] = time.time) -> None:  # noqa: ANN401
        self.service: Stateful = service
        self.now = now
        self.sealer: Sealer = sealer_of(
            service.state_keys,
            fingerprint=service.fingerprint,
            version=service.state_version,
            lifetime=service.state_lifetime,
        )

    def seal(self, state: object, stream: bytes, number: int) -> bytes:
        """A state, to travel."""
        raw: object = self.service.state_codec.encode_input(state)
        if not isinstance(raw, bytes):
            raise TypeError(f"state_codec made a {type(raw).__name__} of the state, not bytes")
        return self.sealer.seal(raw, stream=stream, number=number, now=self.now())

    def opened(self, token: StateToken, stream: bytes) -> object:
        """The state in a token.

        Raises:
            UnsealError: it cannot be used.
            Exception: the service's code cannot read it.
        """
        version, raw = self.sealer.open(
            token.token, stream=stream, number=token.number, now=self.now()
        )
        service = self.service
        if version == service.state_version:
            return service.state_codec.decode_input(raw)
        if version > service.state_version:
            raise UnsealError(
                f"it has version {version}, and this service's states have version"
                f" {service.state_version}"
            )
        return service.upgrade(version, raw)


class _Attempt(Protocol):
    session: Any

    def wake_writer(self) -> None: ...
    def stop(self) -> None: ...


class StreamFold:
    """See the module.

    Args:
        folding: the service's.
    """

    def __init__(self, folding: Folding) -> None:
        self.in_place: bool = folding.service.in_place
        """Whether the handler changes the state that it is given."""
        self.busy: int = 0
        """How many calls of the handler work on it, those included that nobody waits for."""
        self.handler: object = None
        """What calls the service's step for this stream, once that is needed."""
        self._folding = folding
        self._attempt: _Attempt | None = None
        self._stream = b""
        self._size = 0  # of the last state, sealed
        self._made = time.monotonic()

    def belongs_to(self, attempt: _Attempt) -> None:
        """Whose it is."""
        self._attempt = attempt

    async def begin(self, opened: Open) -> None:
        """The state with which an attempt begins.

        Raises:
            Refuse: it cannot be had from the client's token.
        """
        attempt, token = self._attempt, opened.token
        assert attempt is not None  # noqa: S101 — it was made for one
        self._stream = _stream_of(opened)
        if token is None:
            state = self._folding.service.begin(opened.parameters)
            if inspect.isawaitable(state):
                state = await state
        else:
            try:
                state = self._folding.opened(token, self._stream)
            except BaseException as error:
                failure = contained(error, "the state's codec, or upgrade()", awaited=True)
                logger.warning(
                    "stream %s: its state, behind input %d, is refused: %s",
                    opened.stream_id.hex(),
                    token.number,
                    failure if isinstance(failure, UnsealError) else describe(failure),
                )
                raise Refuse(NOT_ACCEPTED, kind=RefusalKind.TOKEN) from None
            self._size = len(token.token)
        outbox = attempt.session.fold
        outbox.in_place = self.in_place
        outbox.open_with(opened, state)

    def abandoned(self) -> None:
        """Nobody waits any more for what the handler makes at the moment."""
        if isinstance(self.handler, Stepping):
            self.handler.stretch.dead = True
        self.settle()

    def settle(self) -> None:
        """Give the client the state, if it is time to; or end the attempt, if there is none."""
        attempt = self._attempt
        if attempt is None or attempt.session.state not in _SERVING:
            return
        session, outbox = attempt.session, attempt.session.fold
        whole = outbox.failure is None and not (self.in_place and self.busy)
        if whole and (outbox.owes(last=session.last_input) or self._due(outbox)):
            self._give(attempt, outbox)
        if outbox.failure is not None:
            attempt.stop()

    def _due(self, outbox: Any) -> bool:  # noqa: ANN401
        traffic, sent = outbox.traffic
        return self._folding.service.tokens.due(
            outbox.fresh.outputs,
            outbox.fresh.bytes,
            time.monotonic() - self._made,
            traffic=traffic,
            sent=sent,
            last=self._size,
        )

    def _give(self, attempt: _Attempt, outbox: Any) -> None:  # noqa: ANN401
        self._made = time.monotonic()
        try:
            token = self._folding.seal(outbox.state, self._stream, outbox.computed)
        except BaseException as error:
            failure = contained(error, "the state's codec")
            report(logger, logging.ERROR, "a state cannot be saved", failure)
            outbox.lose(f"the state cannot be saved: {describe(failure)}")
            return
        if len(token) > outbox.token_bytes:
            outbox.lose(
                f"the state has {len(token)} bytes, sealed, and the client accepts"
                f" {outbox.token_bytes}: raise FlowControl.checkpoint_bytes there"
            )
            return
        self._size = len(token)
        outbox.offer(token)
        attempt.wake_writer()


def _stream_of(opened: Open) -> bytes:
    """What a state is bound to: the stream, and its parameters."""
    digest = hashlib.blake2b(digest_size=16)
    for name, value in sorted(opened.parameters.items()):
        for part in (name.encode(), value.encode()):
            digest.update(len(part).to_bytes(8, "little") + part)
    return opened.stream_id + digest.digest()
