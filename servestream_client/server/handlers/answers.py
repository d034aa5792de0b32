"""The answers to a run of inputs.

Invariant: each input of a run gets exactly one answer, in the order of the run, or goes back to its
session, whatever the code of others does that made it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, cast

from servestream_client.codecs import BytesCodec, Codec, is_bytes_codec
from servestream_client.errors import ItemErrorKind
from servestream_client.protocol.runs import Run
from servestream_client.protocol.server.intake import Intake
from servestream_client.server.calls import Attempt
from servestream_client.signals import running_task
from servestream_client.turns import turn_of_loop
from servestream_client.usercode import contained, describe, is_a, type_name

__all__ = [
    "Answers",
    "Failure",
    "all_of",
    "decoded",
    "exact_bytes",
    "failure_of",
    "give_back",
    "merge",
    "without_failures",
]

_BYTES_CODEC = BytesCodec()

_DECODE, _HANDLER, _ENCODE = ItemErrorKind.DECODE, ItemErrorKind.HANDLER, ItemErrorKind.ENCODE

_SOURCES = {_DECODE: "the codec", _HANDLER: "the handler", _ENCODE: "the codec"}


@dataclass(frozen=True, slots=True)
class Failure:
    """Why an input has no output."""

    kind: ItemErrorKind
    text: str


def failure_of(
    kind: ItemErrorKind, error: BaseException, task: asyncio.Task[Any] | None = None
) -> Failure:
    """What user code raised, as an item's failure. Lets those pass that end the process or the
    task.

    Args:
        kind: which of the service's code raised it.
        error: that.
        task: in which it was awaited. A coroutine that is closed is not closed from within.
    """
    awaited = task is not None
    if is_a(error, GeneratorExit):
        awaited = awaited and running_task() is not task
    failure = contained(error, _SOURCES[kind], awaited=awaited)
    if is_a(failure, SystemExit):
        return Failure(kind, f"{_SOURCES[kind]} called sys.exit(): {describe(failure)}")
    return Failure(kind, describe(failure))


def _encoded(codec: Codec[Any, Any], result: object) -> bytes | Failure:
    """What a handler made of an input, encoded; or why it cannot be."""
    if type(result) is Failure:
        return result
    try:
        payload: object = codec.encode_output(result)
        return payload if type(payload) is bytes else exact_bytes(payload)
    except BaseException as error:
        return failure_of(_ENCODE, error)


def exact_bytes(payload: object) -> bytes:
    """The bytes of a subclass, whatever its methods would say."""
    if not issubclass(type(payload), bytes):
        raise TypeError(f"the codec made a {type_name(payload)}, not bytes")
    return b"".join((cast("bytes", payload), b""))


_BYTES = frozenset({bytes})


def all_of(kinds: Iterable[type], values: Sequence[object]) -> bool:
    """Whether each is of one of these classes. One of the user's may refuse even to be hashed."""
    try:
        return set(map(type, values)).issubset(kinds)
    except BaseException as error:
        contained(error, "the handler")
        return False


class Answers:
    """The answers to a run of inputs, in their order.

    Attributes:
        next: the input whose answer is next.
    """

    __slots__ = ("_attempt", "_codec", "_outbox", "next")

    def __init__(self, attempt: Attempt, first: int, codec: Codec[Any, Any]) -> None:
        self._attempt = attempt
        self._outbox = attempt.session.outbox
        self.next: int = first
        self._codec = codec

    async def encode(self, results: Sequence[object]) -> None:
        """What the handler made of the next inputs, or failures of theirs; in as many turns of the
        event loop as it takes.
        """
        codec = self._codec
        if is_bytes_codec(codec):
            self.add(results)
            return
        turn = turn_of_loop()
        payloads: list[bytes | Failure] = []
        until = turn.enter() or await turn.wait()
        for result in results:
            if turn.clock() >= until:
                turn.leave()
                self.add(payloads)
                self._attempt.wake_writer()
                payloads.clear()
                until = turn.enter() or await turn.wait()
                if not self._outbox.awaits(self.next):  # or the next ones, most probably
                    payloads.append(_UNWANTED)
                    continue
            payloads.append(_encoded(codec, result))
        turn.leave()
        self.add(payloads)

    def add(self, payloads: Sequence[object]) -> None:
        """The payloads of the next inputs, or failures of theirs. Of `BytesCodec`, whose code is
        not others', it takes results as they are.
        """
        if payloads and all_of(_BYTES, payloads):
            self._outbox.outputs(self.next, cast("Sequence[bytes]", payloads))
            self.next += len(payloads)
            return
        for result in payloads:
            payload = result if type(result) is bytes else _encoded(_BYTES_CODEC, result)
            if isinstance(payload, Failure):
                self.fail(payload)
            else:
                self._outbox.output(self.next, payload, last=True)
                self.next += 1

    def fail(self, failure: Failure) -> None:
        """The next input has failed."""
        self._outbox.fail(self.next, failure.kind, failure.text)
        self.next += 1


_UNWANTED = Failure(ItemErrorKind.CANCELLED, "cancelled")


def decoded(codec: Codec[Any, Any], payload: bytes) -> object:
    try:
        value: object = codec.decode_input(payload)
    except BaseException as error:
        return failure_of(_DECODE, error)
    return value


def give_back(intake: Intake, run: Run, done: int) -> None:
    """Put back the inputs of a run that were not started, which are all but the first `done`."""
    if done < len(run.payloads):
        intake.put_back(run.split(done))


def without_failures(values: Sequence[object]) -> Sequence[object]:
    """Those that are no failures."""
    return [value for value in values if type(value) is not Failure]


def merge(values: Sequence[object], results: Sequence[object]) -> Sequence[object]:
    """Results in the places of the values that are no failures already."""
    if len(results) == len(values):
        return results
    rest = iter(results)
    return [value if type(value) is Failure else next(rest) for value in values]
