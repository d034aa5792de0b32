"""Runs with inputs that have many outputs: what breaks their promises is found."""

from collections import Counter

import pytest
from broken_code import broken, first_violation
from effort import effort

from servestream_client.protocol.client import Partial
from servestream_client.protocol.client.allowance import Allowance
from servestream_client.protocol.client.delivery import DeliveryQueue
from servestream_client.protocol.client.input_credits import InputCredits
from servestream_client.protocol.frames import Credit, InputCredit
from servestream_client.protocol.server.parts import PartsOutbox
from servestream_client.server.generator_workers import GeneratorWorkers
from servestream_client.server.handlers.emission import Emission
from servestream_client.server.outputs import Replay
from servestream_client.session import generator
from servestream_client.session.blame import poison
from servestream_client.session.generator import Generator
from simulation.counting import COUNTED, DEATHS, STATES
from simulation.generators import Continuation, GeneratorShape, Maker, read_output
from simulation.items import Items
from simulation.run import simulate

SEEDS = range(effort(40, 1000))

pytestmark = pytest.mark.timeout(effort(400, 3600))


def test_the_promises_hold_and_everything_happens():
    counted = Counter[str]()
    for seed in SEEDS:
        outcome = simulate(seed, many=True)
        assert not outcome.violations, (seed, outcome.violations)
        counted.update(outcome.many)
    assert all(counted[name] for name in COUNTED if name not in (DEATHS, STATES)), counted


# ---------------------------------------------------------------- what outputs say


def shape(replay: Replay, varies_from: int | None) -> GeneratorShape:
    return GeneratorShape(
        replay=replay,
        varies_from=varies_from,
        checkpoint_every=0,
        checkpoint_size=0,
        tells_end=True,
        own_fingerprints=True,
    )


ITEMS = Items(key=1, count=9, size=10, answer_size=10, most_bytes=100, specials={}, most_outputs=20)
ITEM = b"1:7:"


def outputs(maker: Maker) -> list[bytes]:
    return [payload for _, payload in maker.from_beginning()]


def test_outputs_that_repeat_are_the_same_whoever_makes_them():
    repeats = shape(Replay.RESTART, None)
    first, second = (Maker(repeats, ITEMS, ITEM, author, 0) for author in (1, 2))
    assert outputs(first) == outputs(second)
    assert len(outputs(first)) == ITEMS.outputs_of(7)


def test_outputs_that_vary_name_who_made_them_from_their_index_on():
    made = [
        read_output(payload)
        for payload in outputs(Maker(shape(Replay.RESTART, 2), ITEMS, ITEM, 5, 0))
    ]
    assert [each.author for each in made[:4]] == [0, 0, 5, 5]


def test_each_output_says_what_came_before_it():
    made = list(map(read_output, outputs(Maker(shape(Replay.SEEK, None), ITEMS, ITEM, 1, 3))))
    assert [before.next_chain for before in made[:-1]] == [each.chain for each in made[1:]]
    assert {each.version for each in made} == {3}


def test_a_continuation_is_read_as_it_was_written():
    at = Continuation().after(b"one").after(b"two")
    assert Continuation.read(at.checkpoint(20)) == at
    assert Maker(shape(Replay.SEEK, None), ITEMS, ITEM, 1, 0).seek(3).index == 3


# ---------------------------------------------------------------- planted bugs


@broken
def test_outputs_of_two_versions_are_found(monkeypatch):
    monkeypatch.setattr(Partial, "why_not", lambda *_: "")
    assert first_violation("outputs of versions", many=True)


@broken
def test_a_digest_that_is_ignored_is_found(monkeypatch):
    honest = Emission._skip

    def careless(self):
        self._delivered = self._digest
        return honest(self)

    monkeypatch.setattr(Emission, "_skip", careless)
    assert first_violation("a splice at output", many=True)


@broken
def test_an_end_that_is_lost_is_found(monkeypatch):
    monkeypatch.setattr(DeliveryQueue, "add_end", lambda *_: None)
    assert first_violation("", many=True)


@broken
def test_an_end_that_comes_too_early_is_found(monkeypatch):
    honest = PartsOutbox.output

    def hasty(self, number, payload, **said):
        more = honest(self, number, payload, **said)
        if len(payload) % 7 == 0:
            self.close(number)
        return more

    monkeypatch.setattr(PartsOutbox, "output", hasty)
    assert first_violation("it ended after", many=True)


@broken
def test_credit_of_one_input_that_another_uses_is_found(monkeypatch):
    honest = PartsOutbox.grant

    def leaking(self, granted):
        granted = list(granted)
        for each in granted:
            everybody = [InputCredit(n, each.outputs, each.bytes) for n in self._works]
            honest(self, everybody)

    monkeypatch.setattr(PartsOutbox, "grant", leaking)
    assert first_violation("none of them broken", many=True)


@broken
def test_credit_afresh_after_a_cut_is_found(monkeypatch):
    honest = InputCredits.begin

    def afresh(self, number, start_index):
        held, self._held = self._held, lambda _: Credit()
        try:
            return honest(self, number, start_index)
        finally:
            self._held = held

    monkeypatch.setattr(InputCredits, "begin", afresh)
    assert first_violation("is held of input", first=150, many=True)


@broken
def test_a_reader_who_stops_the_others_of_its_lane_is_found(monkeypatch):
    def due(self):
        each = self._inputs is not None and self._inputs.due
        return each or self._together.due(self._delivery.held)

    monkeypatch.setattr(Allowance, "due", property(due))
    monkeypatch.setattr(Allowance, "grant", lambda self: self._together.grant(self._delivery.held))
    assert first_violation("behind readers who stopped", many=True)


@broken
def test_a_place_that_a_paused_generator_keeps_is_found(monkeypatch):
    honest = GeneratorWorkers.pause

    async def greedy(self, attempt, number):
        self._free -= 1
        try:
            return await honest(self, attempt, number)
        finally:
            self._free += 1

    monkeypatch.setattr(GeneratorWorkers, "pause", greedy)
    assert first_violation("has not ended", many=True)


@broken
def test_what_is_parked_for_ever_is_found(monkeypatch):
    monkeypatch.setattr(Generator, "reads_on", lambda *_: None)
    assert first_violation("are parked for ever", many=True)


@broken
def test_blame_for_a_single_break_is_found(monkeypatch):
    def hasty(_, lane, request, failed):
        lane.take_back(request)
        request.end(poison(request, failed))

    monkeypatch.setattr(generator, "_SUSPECT_BREAKS", 1)
    monkeypatch.setattr(Generator, "_judge", hasty)
    assert first_violation("it was blamed after", first=190, many=True)
