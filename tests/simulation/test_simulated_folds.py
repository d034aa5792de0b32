"""Runs of stateful streams: what breaks their promises is found."""

from collections import Counter

import pytest
from broken_code import broken, first_violation
from effort import effort

from servestream_client.protocol.client.fold_history import FoldHistory
from servestream_client.protocol.server.fold import FoldOutbox
from servestream_client.server.stream_fold import StreamFold
from simulation.counting import DEATHS, STATES
from simulation.folds import State
from simulation.run import simulate

SEEDS = range(effort(40, 1000))

pytestmark = pytest.mark.timeout(effort(400, 3600))


def test_the_fold_is_undisturbed_whatever_happens():
    counted = Counter[str]()
    for seed in SEEDS:
        outcome = simulate(seed, folding=True)
        assert not outcome.violations, (seed, outcome.violations)
        counted.update(outcome.many)
    assert counted[DEATHS]
    assert counted[STATES]


def test_a_run_of_folds_is_a_function_of_its_seed():
    assert simulate(5, folding=True).digest == simulate(5, folding=True).digest


def test_an_output_shows_the_inputs_before_it():
    state = State.of_stream(3).behind(b"a").behind(b"b")
    assert state.hidden(state.shown(b"output")) == b"output"
    other = State.of_stream(3).behind(b"b")
    assert other.hidden(state.shown(b"output")) is None
    assert State.from_bytes(state.to_bytes(10)) == state


@broken
def test_a_state_that_leaves_before_its_answers_is_found(monkeypatch):
    monkeypatch.setattr(FoldOutbox, "token_ready", lambda *_: True)
    first_violation("failed, although it could go on", folding=True)


@broken
def test_a_state_that_is_lost_on_the_way_is_found(monkeypatch):
    begin = StreamFold.begin

    async def forgets(self, opened):
        await begin(self, opened)
        self._attempt.session.fold.state = self._folding.service.begin(opened.parameters)

    monkeypatch.setattr(StreamFold, "begin", forgets)
    monkeypatch.setattr(FoldOutbox, "_check", lambda *_, **__: None)
    first_violation("shows another state", folding=True)


@broken
def test_a_cursor_that_forgets_what_failed_is_found(monkeypatch):
    monkeypatch.setattr(FoldHistory, "_gaps", lambda *_: iter(()))
    first_violation("failed, although it could go on", folding=True)
