"""Runs of the simulation: they keep the promises, they replay, and the checker can fail."""

import dataclasses
import gc
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from broken_code import broken, first_violation
from effort import effort

from servestream_client import StreamClient
from servestream_client.protocol.client import ClientSession, answers
from servestream_client.protocol.client.ledger import Ledger
from servestream_client.protocol.credit import CreditGrant
from servestream_client.session import driver, exchange, pump, retry
from servestream_client.session.cursor_track import CursorTrack
from servestream_client.session.stream import StreamBase
from simulation.__main__ import main
from simulation.counting import DEATHS
from simulation.run import simulate

ROOT = Path(__file__).parents[2]

SEEDS = range(effort(60, 2000))

pytestmark = pytest.mark.timeout(effort(300, 3600))


def test_the_promises_hold():
    outcomes = [simulate(seed) for seed in SEEDS]
    wrong = {outcome.seed: outcome.violations for outcome in outcomes if outcome.violations}
    assert wrong == {}
    assert sum(outcome.many[DEATHS] for outcome in outcomes) > 10


def digests(hash_seed: str) -> list[str]:
    """Of some runs, in a process of their own."""
    code = (
        "import json; from simulation.run import simulate;"
        "print(json.dumps([simulate(seed).digest for seed in range(100, 110)]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env={**os.environ, "PYTHONHASHSEED": hash_seed, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
    )
    return json.loads(done.stdout)


def test_a_seed_replays_in_another_process():
    assert digests("1") == digests("4711")


def clients() -> dict[int, StreamClient]:
    for _ in range(2):  # generators that were never closed live through the first one
        gc.collect()
    return {id(each): each for each in gc.get_objects() if isinstance(each, StreamClient)}


def test_a_run_leaves_nothing_behind():
    """Ten thousand of them would be slower with each."""
    others = clients()
    for seed in range(100, 105):
        simulate(seed)
        assert clients().keys() == others.keys()


def test_a_seed_replays_in_this_process():
    assert simulate(17).digest == simulate(17).digest
    assert simulate(17).digest != simulate(18).digest


# ---------------------------------------------------------------- planted bugs


@broken
def test_duplicates_that_are_not_dropped_are_found(monkeypatch):
    monkeypatch.setattr(answers.AnswerReceiver, "_all_new", lambda *_: True)
    monkeypatch.setattr(answers, "is_new", lambda *_: True)
    assert first_violation()


@broken
def test_gaps_that_are_ignored_are_found(monkeypatch):
    honest = ClientSession.begin

    def forgetful(self, **known):
        attempt = honest(self, **known)
        if attempt.number > 1 and attempt.unsent:
            attempt.unsent.take(1)
        return attempt

    monkeypatch.setattr(ClientSession, "begin", forgetful)
    assert first_violation()


@broken
def test_an_end_that_is_believed_too_early_is_found(monkeypatch):
    monkeypatch.setattr(Ledger, "complete", property(lambda self: self.finished))
    assert first_violation()


@broken
def test_an_iterator_that_hides_its_failure_is_found(monkeypatch):
    def silent(_self, _error):
        raise StopAsyncIteration

    monkeypatch.setattr(StreamBase, "_conclude", silent)
    assert first_violation()


@broken
def test_pulling_beyond_the_window_is_found(monkeypatch):
    monkeypatch.setattr(Ledger, "has_place", property(lambda _: True))
    monkeypatch.setattr(Ledger, "room", property(lambda _: (100, 10**9)))
    monkeypatch.setattr(Ledger, "fits", lambda *_: True)
    assert any("window" in text for text in first_violation().violations)


@broken
def test_credit_beyond_the_budget_is_found(monkeypatch):
    honest = CreditGrant.__init__

    def generous(self, budget):
        honest(self, type(budget)(budget.outputs + 1000, budget.bytes + 10**6))

    monkeypatch.setattr(CreditGrant, "__init__", generous)
    assert any("held" in text for text in first_violation().violations)


@broken
def test_attempts_without_a_reason_are_found(monkeypatch):
    honest = exchange.Exchange._limit_the_rest

    def hasty(self):
        honest(self)
        if self._session.counters.attempts == 1 and self._session.counters.received > 3:
            self._end_reading()

    monkeypatch.setattr(exchange.Exchange, "_limit_the_rest", hasty)
    assert any("none of them broken" in text for text in first_violation().violations)


@broken
def test_giving_up_too_early_is_found(monkeypatch):
    monkeypatch.setattr(retry._Rules, "stop", lambda _, state: state.attempt_number >= 2)
    assert any("could go on" in text for text in first_violation().violations)


@broken
def test_inputs_that_are_not_closed_are_found(monkeypatch):
    async def nothing(_self):
        pass

    monkeypatch.setattr(pump.InputPump, "aclose", nothing)
    assert first_violation()


@broken
def test_a_lost_wakeup_is_found(monkeypatch):
    monkeypatch.setattr(driver.StreamDriver, "capacity_changed", lambda _: None)
    # Where servers still look what to report, time goes on.
    stuck = ("Deadlock", "Overdue")
    assert any(text.startswith(stuck) for text in first_violation().violations)


# ---------------------------------------------------------------- the command


def test_the_command_sums_up(tmp_path, capsys):
    path = tmp_path / "sums.json"
    assert main(["--seeds", "5", "--jobs", "1", "--json", str(path)]) == 0
    assert "5 seeds, none failed" in capsys.readouterr().out
    sums = json.loads(path.read_text())
    assert sums["seeds"] == 5
    assert sums["violations"] == {}


def test_the_command_uses_several_processes(capsys):
    assert main(["--seeds", "20", "--jobs", "2"]) == 0
    assert "20 seeds, none failed" in capsys.readouterr().out


def test_the_command_replays_a_seed(capsys):
    assert main(["--seed", "3", "--trace"]) == 0
    shown = capsys.readouterr().out
    assert simulate(3).digest in shown
    assert "client sends" in shown


@broken
def test_the_command_says_how_to_replay_what_failed(monkeypatch, capsys):
    monkeypatch.setattr(driver.StreamDriver, "capacity_changed", lambda _: None)
    assert main(["--seeds", "6", "--jobs", "1"]) == 1
    shown = capsys.readouterr().out
    assert "Deadlock" in shown or "Overdue" in shown
    assert "replay: python -m simulation --seed" in shown


@broken
def test_a_cursor_that_forgets_what_is_done_behind_others_is_found(monkeypatch):
    honest = CursorTrack.cursor

    def forgetful(self, taken, **options):
        cursor = honest(self, taken, **options)
        return dataclasses.replace(cursor, beyond=(), digest_beyond=b"")

    monkeypatch.setattr(CursorTrack, "cursor", forgetful)
    outcome = first_violation(first=60)
    assert any("was answered twice" in violation for violation in outcome.violations)
