"""`StatefulService`: a handler that folds over its inputs, with a state that any replica can go on
from.
"""

from __future__ import annotations

from collections.abc import Awaitable, Iterable, Mapping, Sequence
from typing import Any, ClassVar, Generic, TypeVar

from servestream_client.codecs import BytesCodec, Codec
from servestream_client.errors import ConfigurationError
from servestream_client.server.handler_kinds import handler_name
from servestream_client.server.service import StreamService
from servestream_client.server.stream_fold import Folding
from servestream_client.server.tokens import Tokens

__all__ = ["StatefulService", "Tokens"]

In = TypeVar("In")
Out = TypeVar("Out")
State = TypeVar("State")


class StatefulService(StreamService[In, Out], Generic[In, Out, State]):
    """One deployment's stateful streams: override `begin`, and `step`, `step_many` or `step_batch`.

    The inputs of a stream are computed one after the other, each with the state that the one before
    has left. The state travels to the client, sealed, every now and then; when the replica is lost,
    another one goes on from there. What was computed since is computed again, in silence, and
    compared by a digest: so **the same state and input must give the same**, whatever the clock,
    random numbers, or other streams do. `servestream_client.testing.assert_resumable` tries it.

    With a plain `def`, codecs run in its threads, too, for several streams at a time.

    Clients use `client.stream`, with ordered outputs. An input that fails leaves the state as it
    was.

    Attributes:
        state_codec: how states are encoded, as inputs of that codec; what it decodes is a new
            object. Never pickle.
        state_version: of what it makes of them; raise it when that changes, and see `upgrade`.
        state_lifetime: seconds for which a state may be used.
        state_keys: with which states are sealed; the first one seals, all open. None: those of
            SERVESTREAM_STATE_KEYS, separated by commas.
        tokens: how often states travel.
        in_place: whether the handler changes the state that it is given, rather than to make
            another one: then an input that fails ends its stream.
        max_batch_size: streams of which `step_batch` gets an input at the most.
        fingerprint: what states depend on besides, in the service's own words: one sealed under
            another one is refused.
    """

    state_codec: Codec[Any, Any] = BytesCodec()
    state_version: ClassVar[int] = 1
    state_lifetime: ClassVar[float] = 7 * 86_400.0
    state_keys: ClassVar[Sequence[str] | None] = None
    tokens: ClassVar[Tokens] = Tokens()
    in_place: ClassVar[bool] = False

    def begin(self, parameters: Mapping[str, str]) -> State | Awaitable[State]:
        """The state with which a stream begins. It is called on the event loop.

        Args:
            parameters: as the client gave them.
        """
        raise NotImplementedError

    def step(self, state: State, item: In) -> tuple[State, Out] | Awaitable[tuple[State, Out]]:
        """The next state, and the input's output. A plain `def` runs in a thread, an `async def` on
        the event loop.
        """
        raise NotImplementedError

    def step_many(
        self, state: State, item: In
    ) -> tuple[State, Iterable[Out]] | Awaitable[tuple[State, Iterable[Out]]]:
        """The same, with any number of outputs."""
        raise NotImplementedError

    def step_batch(
        self, states: list[State], items: list[In]
    ) -> tuple[Sequence[State], Sequence[Out]] | Awaitable[tuple[Sequence[State], Sequence[Out]]]:
        """One input each of several streams, with their states, to as many states and outputs in
        the same order. `max_batch_size` and `batch_wait` are as for `predict_batch`. Whether a row
        comes out the same in batches of different sizes is the model's to say.
        """
        raise NotImplementedError

    def upgrade(self, version: int, raw: bytes) -> State:  # noqa: ARG002
        """A state of an earlier version, as one of this.

        Args:
            version: its `state_version`.
            raw: as its `state_codec` encoded it.
        """
        raise ValueError(f"there is no upgrade from version {version}")

    def _begin_serving(self) -> None:
        """
        Raises:
            ConfigurationError: there are no keys, or a batch would change states in place.
        """
        if self.in_place and handler_name(type(self)) == "step_batch":
            raise ConfigurationError(
                f"{type(self).__name__}.in_place does not go with step_batch: a batch that fails is"
                " tried again one by one, with the states that it was given"
            )
        Folding(self)
