"""What readers of inputs with many outputs were promised, and whether a run kept it. Each function
returns what was broken, for people.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence, Sized
from collections.abc import Set as AbstractSet

from servestream_client import (
    ClientClosedError,
    ItemError,
    ItemErrorKind,
    OutputDecodeError,
    StreamError,
    StreamTimeoutError,
)
from servestream_client.outputs import Numbered, SeamKind
from servestream_client.server.generator_workers import GeneratorWorkers
from servestream_client.server.outputs import Replay
from servestream_client.session.request import Request
from simulation.check import (
    LEAST_BREAKS_TO_BLAME,
    stream_error,
    struck_by_faults,
    wrong_last_word,
)
from simulation.generators import Continuation, GeneratorShape, Made, Maker, read_output
from simulation.items import PLANNED_ERRORS, Items, Special
from simulation.many import STOP_SECONDS
from simulation.network import SimulatedNetwork
from simulation.readers import GenerationRecord, Manner
from simulation.schedule import RAISING, Scenario
from simulation.workload import InputsFailed, StreamRecord

__all__ = ["check_generations", "check_many", "check_parked", "check_workers"]

_BEFORE = {
    Special.UNENCODABLE,
    Special.TOO_LARGE,
    Special.UNKNOWN_TO_SERVER,
}
"""Because of which an input has no outputs at all."""

_CHECKPOINT_BYTES = 40
"""Of one at the most, beyond what is drawn for it."""

_CONTINUATION_BYTES = 5000
"""What one weighs at the most, about, of an input whose reader has stopped."""

_OUTPUT_BYTES = 8
"""What each output weighs in a continuation, beyond itself."""


class _Outputs:
    """The outputs of one input, as they are looked at one by one."""

    def __init__(
        self,
        items: Items,
        number: int,
        scenario: Scenario,
        network: SimulatedNetwork,
        struck: AbstractSet[tuple[int, ItemErrorKind]],
    ) -> None:
        self.problems: list[str] = []
        self.next: int = 0
        """The index of the next one."""
        self.authors: list[tuple[int, int]] = []
        """Who made them, each from which index on."""
        self.over: bool = False
        self._items = items
        self._number = number
        self._scenario = scenario
        self._network = network
        self._struck = struck
        self._shape: GeneratorShape = scenario.service.generator
        self._last: Made | None = None  # None: that is not known
        self._count: int | None = None  # by their makers' word
        self._version: int | None = None
        self._bytes = 0
        self._undecoded = False  # one of them was not

    def _problem(self, text: str) -> None:
        self.problems.append(f"input {self._number}: {text}")

    def take(self, payload: bytes) -> None:
        """The next output: the right one, once, in its place, and of one piece with the others."""
        made = read_output(payload)
        if self.over:
            self._problem(f"output {made.index} came after its end")
        if made.index != self.next:
            self._problem(f"output {made.index} came in the place of {self.next}")
        if self._version not in (None, made.version):
            self._problem(f"outputs of versions {self._version} and {made.version}")
        if self._last is not None and self._last.next_chain != made.chain:
            self._problem(f"output {made.index} does not follow upon the one before it")
        if self._items.specials.get(self._number) in _BEFORE:
            self._problem("an output, although it has none")
        self._look_at_author(made)
        if payload != self._right(made):
            self._problem(f"a wrong output: {payload!r:.100}")
        self._version, self._last = made.version, made
        self._count = made.count if made.count is not None else self._count
        self._bytes += len(payload) + _OUTPUT_BYTES
        self.next = made.index + 1

    def _look_at_author(self, made: Made) -> None:
        if not made.author or (self.authors and self.authors[-1][0] == made.author):
            return
        if self.authors and self._shape.replay is not Replay.CONTINUE:
            self._problem(f"a splice at output {made.index}: of different calls of the handler")
        self.authors.append((made.author, made.index))

    def _right(self, made: Made) -> bytes:
        item = self._items.item(self._number)
        if not isinstance(item, bytes):
            return b""
        maker = Maker(self._shape, self._items, item, made.author, made.version)
        at = Continuation(made.index, made.chain if made.index else 0)
        return maker.output(at)

    def end(self) -> None:
        """There are no further ones."""
        if self.over:
            self._problem("it ended twice")
        self.over = True
        usual = self._items.outputs_of(self._number)
        special = self._items.specials.get(self._number)
        if special is not None and not (special is Special.UNDECODABLE and self._undecoded):
            self._problem(f"it came to its end, although {special.value}")
        elif self.next != (usual if self._count is None else self._count) and not (
            self._count is None and self._shape.varies_from and self.next == usual - 1
        ):
            self._problem(f"it ended after {self.next} of {self._count or usual} outputs")

    def fail(self, error: ItemError) -> None:
        """It failed."""
        if self.over:
            self._problem(f"after its end came {error}")
        undecodable = isinstance(error, OutputDecodeError)
        if error.index != self.next and error.kind is not ItemErrorKind.INPUT_ENCODE:
            self._problem(f"failed at output {error.index}, not {self.next}: {error}")
        if undecodable:  # which says nothing of the others
            self.next += 1
            self._last, self._undecoded = None, True
        else:
            self.over = True
            if error.input != self._items.item(self._number):
                self._problem(f"an item error with another input: {error}")
        self.problems += [f"input {self._number}: {text}" for text in self._wrong_error(error)]

    def _wrong_error(self, error: ItemError) -> Iterator[str]:
        special, kind = self._items.specials.get(self._number), error.kind
        if kind is ItemErrorKind.INTERRUPTED:
            yield from self._wrong_interruption(special, error)
        elif (self._number, kind) in self._struck:
            return
        elif kind is ItemErrorKind.POISON:
            breaks = sum(call.broken for call in self._network.calls)
            if special is not Special.POISON and breaks < LEAST_BREAKS_TO_BLAME:
                yield f"it was blamed after {breaks} breaks in all: {error}"
        elif self._has_large_checkpoint(error):
            return
        elif special is None:
            yield f"an item error that nobody planned: {error}"
        elif kind is not PLANNED_ERRORS[special]:
            yield f"another item error than planned: {error}"
        elif special not in _BEFORE:
            planned = self._items.special_index(self._number)
            if error.index != planned:
                yield f"it failed at output {error.index}, and should have at {planned}: {error}"

    def _has_large_checkpoint(self, error: ItemError) -> bool:
        """Whether it failed for a checkpoint that is larger than the client accepts."""
        shape, every = self._shape, self._shape.checkpoint_every
        if error.kind is not ItemErrorKind.TOO_LARGE or not every or (error.index + 1) % every:
            return False
        size = len(Continuation(error.index + 1).checkpoint(shape.checkpoint_size))
        return size + _CHECKPOINT_BYTES > self._scenario.flow.checkpoint_bytes

    def _wrong_interruption(self, special: Special | None, error: ItemError) -> Iterator[str]:
        if not self.next:
            yield f"interrupted before its first output: {error}"
        elif not any(call.broken for call in self._network.calls) and (
            self._scenario.retry.max_attempt_age is None
        ):
            yield f"interrupted, and nothing was cut: {error}"
        elif self._goes_on(special):
            yield f"interrupted, although it could go on: {error}"

    def _goes_on(self, special: Special | None) -> bool:
        """Whether it can go on for certain, as far as it has come."""
        shape = self._shape
        if shape.replay is Replay.NEVER or (self._network.version and shape.own_fingerprints):
            return False
        if self._scenario.weather.hides:
            return shape.replay is Replay.SEEK
        if shape.replay is Replay.RESTART:
            return shape.varies_from is None or self.next <= shape.varies_from
        return shape.replay is Replay.SEEK or self._continues(special)

    def _continues(self, special: Special | None) -> bool:
        """Whether what a handler needs to go on fits, and can be read."""
        shape, flow = self._shape, self._scenario.flow
        checkpoint = shape.checkpoint_size + _CHECKPOINT_BYTES
        unreadable = special is Special.UNDECODABLE and self.next > self._items.special_index(
            self._number
        )
        return (
            not unreadable
            and self._bytes + checkpoint <= flow.continuation_bytes
            and (not shape.checkpoint_every or checkpoint <= flow.checkpoint_bytes)
        )


class _Account:
    """The answers of one stream whose inputs have many outputs."""

    def __init__(self, record: StreamRecord, scenario: Scenario, network: SimulatedNetwork) -> None:
        self._record = record
        items = record.plan.items
        struck = struck_by_faults(record, network)
        self._inputs = {
            number: _Outputs(items, number, scenario, network, struck)
            for number in range(1, items.count + 1)
        }
        self._own: list[str] = []
        self._turn = 0

    def take(self, answer: object) -> None:
        """One output, end or error."""
        if isinstance(answer, ItemError):
            number = answer.number
        elif isinstance(answer, Numbered):
            number = answer.number
            if answer.output is not None and read_output(answer.output).number != number:
                self._own.append(f"an output of another input than {number}")
        else:
            assert isinstance(answer, bytes)  # noqa: S101 — there is nothing else
            made = read_output(answer)
            number = made.number
            if made.key != self._record.plan.items.key:
                self._own.append(f"an output of another stream: {answer!r:.100}")
        if number not in self._inputs:
            self._own.append(f"an answer to input {number}")
            return
        if self._record.plan.ordered and number < self._turn:
            self._own.append(f"an answer to input {number} came after one to {self._turn}")
        self._turn = max(self._turn, number)
        self._hand_on(self._inputs[number], answer)

    def _hand_on(self, outputs: _Outputs, answer: object) -> None:
        if isinstance(answer, ItemError):
            outputs.fail(answer)
        elif isinstance(answer, bytes):
            outputs.take(answer)
        elif isinstance(answer, Numbered):
            if answer.index != outputs.next:
                self._own.append(f"number {answer.index} for output {outputs.next}")
            if answer.output is not None:
                outputs.take(answer.output)
            elif not answer.last:
                self._own.append(f"an output that is none, of input {answer.number}")
            if answer.last:
                outputs.end()

    def end_all(self) -> None:
        """All have had all their outputs, where none says which is the last one."""
        if not self._record.plan.numbered:
            for outputs in self._inputs.values():
                if not outputs.over:
                    outputs.end()

    @property
    def problems(self) -> Sequence[str]:
        return [*self._own, *(text for each in self._inputs.values() for text in each.problems)]

    @property
    def answered(self) -> int:
        """How many inputs have had their end."""
        return sum(each.over for each in self._inputs.values())

    @property
    def through(self) -> int:
        """Every input up to this one has had its end."""
        number = 0
        while number + 1 in self._inputs and self._inputs[number + 1].over:
            number += 1
        return number


def check_many(record: StreamRecord, scenario: Scenario, network: SimulatedNetwork) -> list[str]:
    """What the user of one stream was promised whose inputs have many outputs."""
    account = _Account(record, scenario, network)
    for answer in record.got:
        account.take(answer)
    if isinstance(record.error, ItemError):
        account.take(record.error)
    problems = [*record.violations, *_wrong_end(record, account, scenario, network)]
    problems += account.problems
    if record.open_inputs:
        problems.append("its inputs were not closed")
    return [f"stream {record.plan.items.key}: {problem}" for problem in problems]


def _wrong_end(
    record: StreamRecord, account: _Account, scenario: Scenario, network: SimulatedNetwork
) -> Iterator[str]:
    error, plan = record.error, record.plan
    yield from wrong_last_word(record)
    if isinstance(error, InputsFailed) or (record.complete and error is None):
        account.end_all()
        if account.answered < plan.items.count:
            yield f"it ended, and {account.answered} of {plan.items.count} inputs were answered"
        if record.complete and plan.inputs in RAISING:
            yield "its inputs' error was lost"
    elif isinstance(error, StreamError | ClientClosedError):
        yield from stream_error(
            error,
            record,
            scenario,
            network,
            through=account.through,
            answered=account.answered if plan.numbered else None,
        )
    elif error is None and not record.left:
        yield "it has not ended"


# ---------------------------------------------------------------- generations


def check_generations(
    records: Sequence[GenerationRecord],
    scenario: Scenario,
    network: SimulatedNetwork,
    replica_of: Callable[[int], str],
) -> list[str]:
    """What the readers of single generations were promised.

    Args:
        records: of all of them.
        scenario: what was to happen.
        network: what did.
        replica_of: where a call of the handler ran.
    """
    problems: list[str] = []
    for record in records:
        found = _wrong_generation(record, scenario, network, replica_of)
        problems += [f"generation {record.plan.number}: {problem}" for problem in found]
    return problems + list(_delayed(records, scenario))


def _wrong_generation(
    record: GenerationRecord,
    scenario: Scenario,
    network: SimulatedNetwork,
    replica_of: Callable[[int], str],
) -> Iterator[str]:
    items, plan = scenario.generations.items, record.plan
    outputs = _Outputs(items, plan.number, scenario, network, frozenset())
    for payload in record.got:
        outputs.take(payload)
    received = outputs.next
    if isinstance(record.error, ItemError):
        outputs.fail(record.error)
    elif record.complete:
        outputs.end()
    else:
        yield from _wrong_failure(record, scenario)
    yield from outputs.problems
    if record.delivered != received and not record.left:
        yield f"says that {record.delivered} outputs were delivered, not {received}"
    yield from _wrong_seams(record, outputs, scenario, replica_of)


def _wrong_failure(record: GenerationRecord, scenario: Scenario) -> Iterator[str]:
    """Whether it may fail like this, which is not its input's doing."""
    error = record.error
    if isinstance(error, StreamTimeoutError):
        if record.plan.manner is not Manner.IMPATIENT:
            yield f"there was no timeout: {error}"
    elif isinstance(error, ClientClosedError):
        if scenario.closes is None:
            yield f"the client was not closed: {error}"
    elif error is not None:
        poisoned = Special.POISON in scenario.generations.items.specials.values()
        if not (scenario.stingy or poisoned):
            yield f"failed, although it could go on: {error!r}"
    elif not record.left:
        yield "it has not ended"


def _wrong_seams(
    record: GenerationRecord,
    outputs: _Outputs,
    scenario: Scenario,
    replica_of: Callable[[int], str],
) -> Iterator[str]:
    """Whether it says where it was cut, and how good the seams are."""
    shape = scenario.service.generator
    continued = shape.replay is Replay.CONTINUE
    kind = SeamKind.CONTINUED if continued else SeamKind.EXACT
    before = 0
    for seam in record.seams:
        if seam.kind is not kind:
            yield f"a seam of another kind, with {shape.replay}: {seam}"
        if seam.index <= before:
            yield f"a seam at output {seam.index}, behind one at {before}"
        before = seam.index
    if not continued:
        return
    said = [
        (seam.index, seam.before, seam.after) for seam in record.seams if seam.index < outputs.next
    ]
    seen = [
        (index, replica_of(first), replica_of(second))
        for (first, _), (second, index) in zip(outputs.authors, outputs.authors[1:], strict=False)
    ]
    if said != seen and scenario.generations.items.specials.get(record.plan.number) is None:
        yield f"says that its seams are {said}, and they are {seen}"


def _delayed(records: Sequence[GenerationRecord], scenario: Scenario) -> Iterator[str]:
    """A reader who stops delays nobody else, where there are places for all that stop."""
    stopped = any(each.plan.manner is Manner.STOPS for each in records)
    items, own, theirs = scenario.generations.items, scenario.flow, scenario.service.flow
    if (
        not stopped
        or scenario.weather.hides
        or len(records) >= min(own.window_items, theirs.window_items)
        or len(records) * (items.size + _CONTINUATION_BYTES)
        >= min(own.window_bytes, theirs.window_bytes)
        or Special.POISON in items.specials.values()
    ):
        return
    goes_on = scenario.weather.until + STOP_SECONDS
    for record in records:
        if record.plan.manner is Manner.STOPS or record.ended is None:
            continue
        if record.ended >= goes_on:
            yield (
                f"generation {record.plan.number} ended at {record.ended:.1f} s, behind readers"
                f" who stopped until {goes_on:.1f} s"
            )


# ---------------------------------------------------------------- what is left


def check_parked(parked: AbstractSet[Request]) -> list[str]:
    """Nothing is parked once every reader has gone."""
    return [f"{len(parked)} inputs are parked for ever"] if parked else []


def check_workers(network: SimulatedNetwork) -> list[str]:
    """Every place comes back once nobody is served."""
    problems: list[str] = []
    for kit in network.kits:
        workers = kit.workers
        if not isinstance(workers, GeneratorWorkers):
            continue
        if workers._free != workers._places:
            problems.append(f"{workers._free} places of {workers._places} are free")
        kept: dict[str, Sized] = {
            "paused": workers._paused,
            "resumable": workers._resumable,
            "coming": workers._coming,
            "workers that come": workers._comes,
            "waiting": workers._waiting,
            "in flight": workers._in_flight,
            "given back": workers._given_back,
        }
        problems += [
            f"{len(each)} are left of what is {name}" for name, each in kept.items() if each
        ]
    return problems
