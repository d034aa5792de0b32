"""The services of the stateful suite, each once with a state and once without.

An application is called ``folds:HANDLER:WORK:STATE``: the method that is overridden (``aX``: as an
`async def`); ``nothing``, or Silero VAD's probability of ``speech``; and the bytes of a state that
is nothing but bytes.
"""

from __future__ import annotations

from typing import Any

from servestream_client.server import StatefulService, StreamService
from servestream_client.server.tokens import Tokens

__all__ = ["KEY", "service"]

KEY = "ssk_" + "A" * 43
EVERY = 50
"""Inputs behind which a state travels."""

Batch = tuple[list[bytes], list[bytes]]


class _Nothing:
    """Work that is none."""

    def __init__(self, size: int) -> None:
        self.beginning = bytes(size)

    def one(self, state: bytes, item: bytes) -> tuple[bytes, bytes]:
        return state, item

    def batch(self, states: list[bytes], items: list[bytes]) -> Batch:
        return states, items


class _Speech:
    """Silero VAD."""

    def __init__(self) -> None:
        from servestream_client.demo.state.vad import BEGINNING, Vad  # noqa: PLC0415 — an extra

        self.beginning = BEGINNING
        self.batch = Vad().step

    def one(self, state: bytes, item: bytes) -> tuple[bytes, bytes]:
        (state,), (output,) = self.batch([state], [item])
        return state, output


class _Folding(StatefulService[bytes, bytes, bytes]):
    state_keys = (KEY,)
    tokens = Tokens(inputs=EVERY, share=1.0)
    max_batch_size = 100
    work: Any

    def begin(self, parameters: object) -> bytes:
        del parameters
        return bytes(self.work.beginning)


class _Steps(_Folding):
    def step(self, state: bytes, item: bytes) -> tuple[bytes, bytes]:
        return self.work.one(state, item)  # type: ignore[no-any-return]


class _AsyncSteps(_Folding):
    async def step(self, state: bytes, item: bytes) -> tuple[bytes, bytes]:
        return self.work.one(state, item)  # type: ignore[no-any-return]


class _Batches(_Folding):
    def step_batch(self, states: list[bytes], items: list[bytes]) -> Batch:
        return self.work.batch(states, items)  # type: ignore[no-any-return]


class _Predicts(StreamService[bytes, bytes]):
    work: Any

    def predict(self, item: bytes) -> bytes:
        return self.work.one(self.work.beginning, item)[1]  # type: ignore[no-any-return]


class _AsyncPredicts(StreamService[bytes, bytes]):
    work: Any

    async def predict(self, item: bytes) -> bytes:
        return self.work.one(self.work.beginning, item)[1]  # type: ignore[no-any-return]


_HANDLERS: dict[str, type[Any]] = {
    "step": _Steps,
    "astep": _AsyncSteps,
    "step_batch": _Batches,
    "predict": _Predicts,
    "apredict": _AsyncPredicts,
}


def service(handler: str, work: str, size: str, tag: str = "") -> StreamService[bytes, bytes]:
    """The service of an application that is called so. With the tag ``alone`` it computes one input
    at a time.
    """
    made: StreamService[bytes, bytes] = _HANDLERS[handler]()
    made.work = _Speech() if work == "speech" else _Nothing(int(size))  # type: ignore[attr-defined]
    if tag == "alone":
        made.max_concurrency = 1  # type: ignore[misc]  # of this one
    return made
