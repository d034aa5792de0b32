"""Whether a stateful service can be gone on with at any input: tried, without a server."""

from __future__ import annotations

import asyncio
import inspect
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from servestream_client.errors import ConfigurationError
from servestream_client.server.handler_kinds import handler_name
from servestream_client.server.handlers.folds import pair
from servestream_client.server.stateful import StatefulService

__all__ = ["assert_resumable"]

_COPIES = 3
"""Streams in a batch beside one alone."""


class _Step(NamedTuple):
    """What came of one input.

    Attributes:
        outputs: encoded; of an input that failed, why.
        state: behind it, encoded.
    """

    outputs: tuple[bytes, ...] | str
    state: bytes


def assert_resumable(
    service: StatefulService[Any, Any, Any] | Callable[[], StatefulService[Any, Any, Any]],
    inputs: Iterable[object],
    *,
    parameters: Mapping[str, str] | None = None,
) -> None:
    """See that a stateful service makes the same of these inputs, whichever replica goes on at
    whichever of them.

    The inputs are computed undisturbed, and again with a hand-over behind each: the state is
    encoded, decoded, and given to a fresh service. Outputs and states must be the same bytes. That
    finds state in attributes, clocks, random numbers, and codecs that lose something. Of
    `step_batch` also batches are compared with single rows. The state given to a step must be as
    before it behind it, unless the service says `in_place`.

    Args:
        service: its class, or what makes one; of an instance, the same object is used throughout,
            so that what it hides in itself is found in part only.
        inputs: some of each kind; as few as a hundred find most.
        parameters: of the stream.

    Raises:
        AssertionError: it is not so; says at which input, and what differs.
        ConfigurationError: it is no stateful service.
    """
    make = service if callable(service) else lambda: service
    items = list(inputs)
    first = make()
    if not isinstance(first, StatefulService):
        raise ConfigurationError(
            f"assert_resumable needs a StatefulService, not {type(first).__name__}"
        )
    undisturbed = _Run(first, parameters or {})
    handed = _Run(make(), parameters or {})
    _same(undisturbed.state_bytes, handed.state_bytes, "begin() gave another state to each of two")
    for number, item in enumerate(items, 1):
        expected = undisturbed.step(item)
        handed = handed.to(make())
        found = handed.step(item)
        if found.outputs != expected.outputs:
            raise AssertionError(
                f"input {number}, {item!r}: a service that was given the state made"
                f" {_shown(found.outputs)} of it, and one that had all inputs before"
                f" {_shown(expected.outputs)}. What is it that the state does not hold?"
            )
        _same(
            expected.state,
            found.state,
            f"input {number}, {item!r}: the outputs are the same, and the states behind it are not",
        )
        undisturbed.compare_batch(number, item)


class _Run:
    """One stream at one service."""

    def __init__(
        self,
        service: StatefulService[Any, Any, Any],
        parameters: Mapping[str, str],
        state: bytes | None = None,
    ) -> None:
        self._service = service
        self._parameters = parameters
        self._codec = service.state_codec
        self._name = handler_name(type(service))
        self._before: Any = None  # the state that the last step was given, encoded
        self._state: Any = (
            _awaited(service.begin, dict(parameters))
            if state is None
            else self._codec.decode_input(state)
        )

    @property
    def state_bytes(self) -> bytes:
        """The state, encoded."""
        raw: bytes = self._codec.encode_input(self._state)
        return raw

    def to(self, service: StatefulService[Any, Any, Any]) -> _Run:
        """The stream goes on at another service."""
        return _Run(service, self._parameters, self.state_bytes)

    def step(self, item: object) -> _Step:
        """The next input."""
        codec, given = self._service.codec, self._state
        # As it comes over the wire.
        item = codec.decode_input(codec.encode_input(item))
        self._before = None if self._service.in_place else self._codec.encode_input(given)
        try:
            self._state, outputs = self._call([given], [item])
            made: tuple[bytes, ...] | str = tuple(map(codec.encode_output, outputs))
        except Exception as error:
            self._state, made = given, f"{type(error).__name__}: {error}"
        if self._before is not None:
            _same(
                self._before,
                self._codec.encode_input(given),
                f"{item!r}: the step changed the state that it was given, which must stay as it is:"
                " make another one, or set in_place = True",
            )
        return _Step(made, self.state_bytes)

    def _call(self, states: list[Any], items: list[Any]) -> tuple[Any, Sequence[Any]]:
        step = getattr(self._service, self._name)
        if self._name == "step_batch":
            following, outputs = pair(_awaited(step, states, items))
            return following[0], [outputs[0]]
        state, found = pair(_awaited(step, states[0], items[0]))
        return state, list(found) if self._name == "step_many" else [found]

    def compare_batch(self, number: int, item: object) -> None:
        """Whether the last step comes out the same among others."""
        if self._name != "step_batch" or self._before is None:
            return
        codec, step = self._service.codec, self._service.step_batch
        states = [self._codec.decode_input(self._before) for _ in range(_COPIES)]
        items = [codec.decode_input(codec.encode_input(item)) for _ in range(_COPIES)]
        try:
            following, outputs = _awaited(step, states, items)
        except Exception:
            return  # which is told one by one
        for state, output in zip(following, outputs, strict=True):
            alone = _awaited(step, [self._codec.decode_input(self._before)], items[:1])
            _same(
                codec.encode_output(alone[1][0]) + self._codec.encode_input(alone[0][0]),
                codec.encode_output(output) + self._codec.encode_input(state),
                f"input {number}, {item!r}: it came out otherwise in a batch of {_COPIES} than"
                " alone. After a cut batches are others, and so would outputs be: use `step`, or"
                " round what the model gives",
            )


def _awaited(function: Callable[..., Any], *arguments: object) -> Any:  # noqa: ANN401
    """What it returns, also if that is to be awaited; in a loop of its own."""
    found = function(*arguments)
    if not inspect.isawaitable(found):
        return found
    results: list[Any] = []
    failures: list[BaseException] = []

    async def wait() -> Any:  # noqa: ANN401
        return await found

    def run() -> None:
        try:
            results.append(asyncio.run(wait()))
        except BaseException as error:
            failures.append(error)

    thread = threading.Thread(target=run)  # a test may run in a loop already
    thread.start()
    thread.join()
    if failures:
        raise failures[0]
    return results[0]


def _same(one: bytes, other: bytes, otherwise: str) -> None:
    if one != other:
        at = next(
            (n for n, (a, b) in enumerate(zip(one, other, strict=False)) if a != b),
            min(len(one), len(other)),
        )
        raise AssertionError(
            f"{otherwise}. They have {len(one)} and {len(other)} bytes, and differ from byte {at}:"
            f" {one[at : at + 8].hex()} and {other[at : at + 8].hex()}"
        )


def _shown(outputs: tuple[bytes, ...] | str) -> str:
    if isinstance(outputs, str):
        return f"the failure {outputs!r}"
    shown = ", ".join(output[:16].hex() or "an empty one" for output in outputs[:3])
    return f"the outputs {shown}" if outputs else "no output"
