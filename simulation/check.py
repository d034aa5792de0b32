"""The promises, and whether a run kept them. Each function returns what was broken, for people."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet

from servestream_client import (
    ClientClosedError,
    ItemError,
    ItemErrorKind,
    OutputDecodeError,
    StreamError,
    StreamTimeoutError,
)
from servestream_client.testing.faults import FaultKind
from simulation.items import PLANNED_ERRORS, Items, Special
from simulation.loop import VirtualLoop
from simulation.network import SimulatedNetwork
from simulation.schedule import RAISING, Scenario
from simulation.workload import InputsFailed, PredictRecord, StreamRecord

__all__ = [
    "LEAST_BREAKS_TO_BLAME",
    "check_calls",
    "check_predicts",
    "check_services",
    "check_stream",
    "final_leftovers",
    "leftovers",
    "stream_error",
    "struck_by_faults",
    "wrong_last_word",
]

LEAST_BREAKS_TO_BLAME = 5
"""Two of a lane until its calls are suspected, and three of a suspect alone."""


_RAISES = {FaultKind.RAISE: ItemErrorKind.HANDLER, FaultKind.HANG: ItemErrorKind.TIMEOUT}
"""Faults of the service that may become an item's error, unless the answer is lost."""


class _Account:
    """The answers of one stream, as they are looked at one by one."""

    def __init__(self, record: StreamRecord, network: SimulatedNetwork) -> None:
        self.problems: list[str] = []
        self.numbers: set[int] = set()
        self._record = record
        self._raised = struck_by_faults(record, network)
        self._last = 0

    def take(self, answer: object) -> None:
        """One answer: right, new, and in its turn."""
        if isinstance(answer, ItemError):
            number: int | None = answer.number
            self.problems += wrong_item_error(
                self._record.plan.items, answer.number, answer, self._raised
            )
        else:
            number = self._record.plan.items.number_of(answer)
            self.problems += wrong_output(self._record.plan.items, number, answer)
        if number is None:
            return
        if number in self.numbers:
            self.problems.append(f"input {number} was answered twice")
        if self._record.plan.ordered and number <= self._last:
            self.problems.append(f"input {number} was answered after input {self._last}")
        self._last = max(self._last, number)
        self.numbers.add(number)

    @property
    def through(self) -> int:
        """Every input up to this one was answered."""
        number = 0
        while number + 1 in self.numbers:
            number += 1
        return number


def struck_by_faults(
    record: StreamRecord, network: SimulatedNetwork
) -> set[tuple[int, ItemErrorKind]]:
    """The inputs of a stream that a fault struck, and with what error that may have failed them."""
    items = record.plan.items
    struck = {
        (fault.at, _RAISES[fault.kind])
        for fault in network.plan.fired
        if fault.kind in _RAISES and fault.stream == str(items.key)
    }
    # Lanes have numbers of their own, which are those of what a fault strikes; of a stream whose
    # user was to die, and that failed before, it is not known whether there were any.
    if record.on_lanes or record.dies_at:
        return {(number, kind) for _, kind in struck for number in range(1, items.count + 1)}
    return struck


def wrong_output(items: Items, number: int | None, output: object) -> Iterator[str]:
    """Why an output is not what it should be."""
    if number is None:
        yield f"an output that answers nothing: {output!r:.80}"
    elif number in items.specials:
        yield f"input {number} got an output, although {items.specials[number].value}"


def wrong_item_error(
    items: Items, number: int, error: ItemError, struck: AbstractSet[tuple[int, ItemErrorKind]]
) -> Iterator[str]:
    """Why an item error is not what it should be.

    Args:
        items: of the stream.
        number: of the input.
        error: what came.
        struck: the inputs that a fault struck, and with what error that may have failed them.
    """
    special = items.specials.get(number)
    if error.kind is ItemErrorKind.POISON and special is not Special.POISON:
        return  # it was there each time, and could not know better: see `check_blame`
    if (number, error.kind) not in struck:
        if special is None:
            yield f"an item error that nobody planned: {error}"
        elif error.kind is not PLANNED_ERRORS[special]:
            yield f"another item error than planned: {error}"
    if not isinstance(error, OutputDecodeError) and error.input != items.item(number):
        yield f"an item error with another input: {error}"


def check_stream(record: StreamRecord, scenario: Scenario, network: SimulatedNetwork) -> list[str]:
    """What one stream's user was promised."""
    account = _Account(record, network)
    for answer in record.got:
        account.take(answer)
    problems = [*record.violations, *account.problems]
    if isinstance(record.error, ItemError):
        account.problems.clear()
        account.take(record.error)
        problems += account.problems
    problems += _wrong_end(record, account, scenario, network)
    if record.open_inputs:
        problems.append("its inputs were not closed")
    return [f"stream {record.plan.items.key}: {problem}" for problem in problems]


def _wrong_end(
    record: StreamRecord, account: _Account, scenario: Scenario, network: SimulatedNetwork
) -> Iterator[str]:
    """Whether a stream ended as it may."""
    error, plan = record.error, record.plan
    yield from wrong_last_word(record)
    if isinstance(error, InputsFailed):
        yield from _not_all(account, "its inputs' error came")
    elif isinstance(error, StreamError | ClientClosedError):
        yield from stream_error(
            error,
            record,
            scenario,
            network,
            through=account.through,
            # What a stream says that went on is of it alone.
            answered=None if record.deaths else len(account.numbers),
        )
    elif record.complete:
        yield from _not_all(account, "it ended in good order")
        if plan.inputs in RAISING:
            yield "its inputs' error was lost"
    elif error is None and not record.left:
        yield "it has not ended"


def wrong_last_word(record: StreamRecord) -> Iterator[str]:
    """Whether item errors are raised or returned, as was asked for."""
    error, plan = record.error, record.plan
    if plan.return_exceptions and isinstance(error, ItemError):
        yield f"raised what it should have returned: {error}"
    if not plan.return_exceptions and any(isinstance(answer, ItemError) for answer in record.got):
        yield "returned an item error that it should have raised"


def _not_all(account: _Account, when: str) -> Iterator[str]:
    missing = account._record.plan.items.count - account.through
    if missing:
        yield f"{when}, although input {account.through + 1} was not answered ({missing} missing)"


def stream_error(
    error: BaseException,
    record: StreamRecord,
    scenario: Scenario,
    network: SimulatedNetwork,
    *,
    through: int,
    answered: int | None,
) -> Iterator[str]:
    """Whether a stream may fail like this, and whether it says what is true.

    Args:
        error: that of the stream.
        record: what its user saw.
        scenario: what was to happen.
        network: what did.
        through: every input up to this one was answered.
        answered: how many were; None: that was not to be seen.
    """
    if isinstance(error, ClientClosedError):
        if scenario.closes is None and not record.left:
            yield f"the client was not closed: {error}"
        return
    if isinstance(error, StreamTimeoutError):
        if record.plan.timeout is None:
            yield f"there was no timeout: {error}"
    elif not (scenario.stingy or _poisoned(record.plan.items)):
        yield f"failed, although it could go on: {error!r}"
    if isinstance(error, StreamError) and answered is not None:
        yield from _delivered(error, record, network, through=through, answered=answered)


def _poisoned(items: Items) -> bool:
    """Where nothing else is answered, it is the server that is to blame, and the stream fails."""
    return Special.POISON in items.specials.values()


def _delivered(
    error: StreamError,
    record: StreamRecord,
    network: SimulatedNetwork,
    *,
    through: int,
    answered: int,
) -> Iterator[str]:
    said = error.delivered
    if said.taken_through != through:
        yield f"says that {said.taken_through} were delivered in a row, not {through}"
    if said.answered != answered:
        yield f"says that {said.answered} were answered, not {answered}"
    if record.pulled and said.accepted != record.pulled:
        yield f"says that {said.accepted} were pulled, not {record.pulled}"
    sent = network.books.sent[record.stream_id]
    if not 0 <= said.unsent <= said.accepted - sent:
        yield f"says that {said.unsent} of {said.accepted} were never sent, and {sent} were"
    calls = sum(call.stream_id == record.stream_id for call in network.calls)
    if said.attempts < calls:
        yield f"says that it took {said.attempts} attempts, not {calls}"


def check_predicts(
    record: PredictRecord, scenario: Scenario, network: SimulatedNetwork
) -> list[str]:
    """What the callers of `predict` were promised."""
    problems: list[str] = []
    items = record.plan.items
    for number in range(1, items.count + 1):
        if number not in record.results:
            problems.append(f"call {number} has not returned")
            continue
        result = record.results[number]
        problems += [
            f"call {number}: {problem}"
            for problem in _wrong_call(number, result, record, scenario, network)
        ]
    return problems


def _wrong_call(
    number: int,
    result: object,
    record: PredictRecord,
    scenario: Scenario,
    network: SimulatedNetwork,
) -> Iterator[str]:
    items = record.plan.items
    if isinstance(result, ItemError):
        breaks = sum(call.broken for call in network.calls)
        if result.kind is ItemErrorKind.POISON and breaks >= LEAST_BREAKS_TO_BLAME:
            return  # it was there each time, and could not know better
        yield from wrong_item_error(items, number, result, set())
    elif isinstance(result, TimeoutError):
        if number not in record.gave_up:
            yield f"there was no timeout: {result!r}"
    elif isinstance(result, ClientClosedError):
        if scenario.closes is None:
            yield f"the client was not closed: {result}"
    elif isinstance(result, StreamError):
        if not (scenario.stingy or _poisoned(items)):
            yield f"failed, although it could go on: {result!r}"
    elif items.number_of(result) != number:
        yield f"got another's output: {result!r:.80}"
    else:
        yield from wrong_output(items, number, result)


def check_calls(
    network: SimulatedNetwork, scenario: Scenario, deaths: Mapping[bytes, int]
) -> list[str]:
    """Bounded retry: an attempt follows upon one that a fault has struck, and upon no other, unless
    attempts leave for their age, or the stream's user has died, as often as `deaths` says.
    """
    if scenario.retry.max_attempt_age is not None:
        return network.books.violations
    sound: Counter[bytes] = Counter(
        call.stream_id for call in network.calls if call.stream_id and not call.broken
    )
    names = {stream_id: index for index, stream_id in enumerate(sound)}
    problems = [
        f"{count} attempts of stream {names[stream_id]}, none of them broken: "
        f"{[call.name for call in network.calls if call.stream_id == stream_id]}"
        for stream_id, count in sound.items()
        if count > 1 + deaths.get(stream_id, 0)
    ]
    return problems + network.books.violations


def check_services(network: SimulatedNetwork, concurrency: int) -> list[str]:
    """Handlers are bounded while they run, and none runs for ever."""
    problems: list[str] = []
    for service in network.services:
        problems += service.problems
        if service.running:
            problems.append(f"{service.running} handlers have not ended")
        if service.most_running > concurrency:
            problems.append(f"{service.most_running} handlers at once, of {concurrency}")
    return problems


_SERVERS = ("servestream reader", "servestream worker", "sim ")


def leftovers(loop: VirtualLoop, network: SimulatedNetwork) -> list[str]:
    """What a client that was closed has left behind: calls, tasks and timers."""
    problems = [f"{call} is still open" for call in network.open_links]
    this = asyncio.current_task()
    for task in asyncio.all_tasks(loop):
        name = task.get_name()
        if task is not this and not name.startswith(_SERVERS) and _is_clients(task):
            problems.append(f"a task is left: {name}")
    problems += [f"a timer is left: {timer}" for timer in _timers(loop) if ".session." in timer]
    return sorted(problems)


def _is_clients(task: asyncio.Task[object]) -> bool:
    code = getattr(task.get_coro(), "cr_code", None)
    return code is not None and "/server/" not in code.co_filename


def final_leftovers(loop: VirtualLoop) -> list[str]:
    """What is left of a run, once everything in it has ended."""
    this = asyncio.current_task()
    tasks = [task.get_name() for task in asyncio.all_tasks(loop) if task is not this]
    problems = [f"a task is left: {name}" for name in sorted(tasks)]
    return problems + [f"a timer is left: {timer}" for timer in sorted(_timers(loop))]


def _timers(loop: VirtualLoop) -> Sequence[str]:
    return [
        f"{getattr(handle._callback, '__module__', '')}.{handle._callback.__qualname__}"
        for handle in loop.timers
    ]
