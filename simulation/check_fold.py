"""The promise of stateful streams: every output is that of one undisturbed fold."""

from __future__ import annotations

from dataclasses import replace

from servestream_client import ItemError, ItemErrorKind
from simulation.check import check_stream
from simulation.folds import State
from simulation.network import SimulatedNetwork
from simulation.schedule import Scenario
from simulation.workload import StreamRecord

__all__ = ["check_fold"]


def check_fold(record: StreamRecord, scenario: Scenario, network: SimulatedNetwork) -> list[str]:
    """What one stream's user was promised: the same as of other streams, and the state in each
    output. Inputs that failed have left it as it was.
    """
    items = record.plan.items
    state, shown, problems = State.of_stream(items.key), list[object](), list[str]()
    for number, answer in enumerate(record.got, 1):
        item = items.item(number) if number <= items.count else None
        fails = isinstance(answer, ItemError) and answer.kind is not ItemErrorKind.OUTPUT_DECODE
        if isinstance(item, bytes) and not fails:
            state = state.behind(item)
        if isinstance(answer, bytes):
            hidden = state.hidden(answer)
            if hidden is None:
                problems.append(
                    f"stream {items.key}: output {number} shows another state: {answer!r:.80}"
                )
            shown.append(answer[9:] if hidden is None else hidden)
        else:
            shown.append(answer)
    return problems + check_stream(replace(record, got=shown), scenario, network)
