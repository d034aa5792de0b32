"""The stateful services under simulation."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from servestream_client.codecs import BytesCodec
from servestream_client.server.stateful import StatefulService
from simulation.folds import State
from simulation.service import Living

__all__ = ["fold_service"]

_KEY = "ssk_" + "A" * 43


class _StateCodec(BytesCodec):
    """States as bytes, of a size."""

    def __init__(self, padding: int) -> None:
        self._padding = padding

    def encode_input(self, item: Any, /) -> bytes:  # noqa: ANN401
        return State.to_bytes(item, self._padding)

    def decode_input(self, payload: bytes, /) -> Any:  # noqa: ANN401
        return State.from_bytes(payload)


class _Folding(Living):
    def __init__(self, *arguments: Any) -> None:  # noqa: ANN401
        super().__init__(*arguments)
        shape = self._shape.fold
        self.tokens: Any = shape.tokens
        self.state_codec: Any = _StateCodec(shape.padding)
        self.state_keys: Any = (_KEY,)
        self.fingerprint = ""

    def begin(self, parameters: Mapping[str, str], /) -> State:
        return State.of_stream(int(parameters["fault-key"]))

    def _step(self, state: State, item: bytes) -> tuple[State, bytes]:
        output = self._answer(item)
        behind = state.behind(item)
        return behind, behind.shown(output)


class _Steps(_Folding, StatefulService[bytes, bytes, State]):
    async def step(self, state: State, item: bytes, /) -> tuple[State, bytes]:
        self._begin()
        try:
            await self._live_through(item)
            await self._take_time()
            return self._step(state, item)
        finally:
            self.running -= 1


class _Batches(_Folding, StatefulService[bytes, bytes, State]):
    async def step_batch(
        self, states: list[State], items: list[bytes], /
    ) -> tuple[list[State], list[bytes]]:
        self._begin()
        try:
            await self._live_through(*items)
            await self._take_time()
            found = [self._step(*each) for each in zip(states, items, strict=True)]
            return [state for state, _ in found], [output for _, output in found]
        finally:
            self.running -= 1


def fold_service(*, batches: bool) -> Callable[..., Living]:
    """What makes one."""
    return _Batches if batches else _Steps
