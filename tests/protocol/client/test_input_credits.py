"""The credit of single inputs: totals that never fall, and never more held than the budget."""

from random import Random

import pytest

from servestream_client.errors import RemoteProtocolError
from servestream_client.protocol.client.input_credits import MOST_GRANTS, InputCredits
from servestream_client.protocol.frames import Credit, InputCredit

BUDGET = Credit(4, 100)


class Held(dict[int, Credit]):
    """What consumers have not taken, as a delivery queue says it."""

    def of(self, number: int) -> Credit:
        return self.get(number, Credit())

    def put(self, number: int, outputs: int, size: int) -> None:
        before = self.of(number)
        self[number] = Credit(before.outputs + outputs, before.bytes + size)


def make(budget: Credit = BUDGET) -> tuple[InputCredits, Held]:
    held = Held()
    return InputCredits(budget, held.of), held


def grants(credits_: InputCredits) -> list[tuple[int, int, int]]:
    return [(each.number, each.outputs, each.bytes) for each in credits_.grant()]


class Model:
    """A server that sends what it may, a consumer of each input, and attempts that break."""

    def __init__(self, random: Random) -> None:
        self.random = random
        self.budget = Credit(random.randint(1, 6), random.randint(1, 60))
        self.largest = random.choice([1, 10, 100])
        self.held = Held()
        self.sizes: dict[int, list[int]] = {number: [] for number in range(1, 5)}  # not taken
        self.index = dict.fromkeys(self.sizes, 0)  # received, over all attempts
        self.begin()

    def begin(self) -> None:
        self.credits = InputCredits(self.budget, self.held.of)
        self.server: dict[int, Credit] = {}  # what it may send
        self.sent = dict.fromkeys(self.sizes, 0)  # bytes on this attempt
        for number in self.sizes:
            started = self.credits.begin(number, self.index[number])
            assert (started is not None) == bool(self.sizes[number])
            usual = Credit(self.index[number] + self.budget.outputs, self.budget.bytes)
            self.server[number] = started or usual

    def may_send(self, number: int) -> bool:
        credit = self.server[number]
        return self.index[number] < credit.outputs and self.sent[number] < credit.bytes

    def send(self) -> None:
        number, sizes, first = self.random.choice([*self.sizes]), [], 0
        first = self.index[number]
        while self.may_send(number) and len(sizes) < 3:
            size = self.random.randint(0, self.largest)
            sizes.append(size)
            self.index[number] += 1
            self.sent[number] += size
        if sizes:
            self.credits.receive(number, first, sizes)
            self.sizes[number] += sizes
            self.held.put(number, len(sizes), sum(sizes))
        assert self.credits.has_credit(number) or not self.may_send(number)

    def take(self) -> None:
        number = self.random.choice([*self.sizes])
        taken = self.sizes[number][: self.random.randint(1, 3)]
        if taken:
            del self.sizes[number][: len(taken)]
            self.held.put(number, -len(taken), -sum(taken))
            self.credits.taken(number)

    def grant(self) -> None:
        due = self.credits.due
        granted = self.credits.grant()
        assert bool(granted) == due
        assert not self.credits.due
        for each in granted:
            before = self.server[each.number]
            assert each.outputs >= before.outputs
            assert each.bytes >= before.bytes
            rise = each.outputs - before.outputs, each.bytes - before.bytes
            assert rise[0] * 2 >= self.budget.outputs or rise[1] * 2 >= self.budget.bytes
            self.server[each.number] = Credit(each.outputs, each.bytes)

    def check(self) -> None:
        for sizes in self.sizes.values():
            assert len(sizes) <= self.budget.outputs
            assert sum(sizes[:-1]) < self.budget.bytes

    def settle(self) -> None:
        """Whoever takes all there is gets more."""
        for number in self.sizes:
            for _ in range(20):
                self.grant()
                if self.may_send(number):
                    break
                while self.sizes[number]:
                    self.sizes[number].pop()
                self.held[number] = Credit()
                self.credits.taken(number)
            assert self.may_send(number)


@pytest.mark.parametrize("seed", range(60))
def test_no_more_is_held_than_the_budget_and_whoever_reads_gets_more(seed):
    random = Random(seed)
    model = Model(random)
    steps = [model.send, model.send, model.take, model.grant]
    for step in range(300):
        random.choice(steps)()
        if step % 60 == 59:
            model.begin()
        model.check()
    model.settle()


def test_one_inputs_outputs_use_up_nothing_of_anothers():
    own, held = make()
    own.begin(1, 0)
    own.begin(2, 0)
    own.receive(1, 0, [10] * 4)
    held.put(1, 4, 40)
    assert not own.has_credit(1)
    assert own.has_credit(2)
    own.receive(2, 0, [10] * 4)
    own.taken(2)
    assert grants(own) == [(2, 8, 140)]


def test_it_begins_less_what_is_held():
    own, held = make()
    assert own.begin(1, 7) is None
    held.put(2, 3, 60)
    assert own.begin(2, 7) == Credit(7 + 1, 40)
    held.put(3, 9, 160)
    assert own.begin(3, 9) == Credit(9, 0)


@pytest.mark.parametrize(
    ("sizes", "allowed"),
    [
        ([1, 1, 1, 1], True),
        ([1, 1, 1, 1, 1], False),
        ([99, 500], True),
        ([100], True),
        ([100, 0], False),
        ([99, 1, 0], False),
    ],
)
def test_only_the_last_output_may_exceed_the_bytes_and_none_the_outputs(sizes, allowed):
    own, _ = make()
    own.begin(1, 5)
    if allowed:
        own.receive(1, 5, sizes)
    else:
        with pytest.raises(RemoteProtocolError, match="credit of input 1: 9 outputs and 100 bytes"):
            own.receive(1, 5, sizes)


def test_duplicates_count_in_bytes_and_not_as_further_outputs():
    own, held = make()
    own.begin(1, 0)
    own.receive(1, 0, [10, 10, 10])
    own.receive(1, 1, [10, 10])
    own.receive(1, 3, [10])
    assert not own.has_credit(1)
    held.put(1, 1, 10)
    own.taken(1)
    assert grants(own) == [(1, 4 + 3, 60 + 90)]


def test_a_grant_goes_out_once_either_total_could_rise_by_half():
    own, held = make()
    own.begin(1, 0)
    own.receive(1, 0, [10, 10, 10, 10])
    held.put(1, 4, 40)
    assert not own.due
    held.put(1, -1, -10)
    own.taken(1)
    assert not own.due
    held.put(1, -1, -10)
    assert not own.due  # nobody has said so
    own.taken(1)
    assert own.due
    assert grants(own) == [(1, 6, 120)]
    assert grants(own) == []


def test_half_of_the_bytes_is_as_good():
    own, held = make()
    own.begin(1, 0)
    own.receive(1, 0, [50])
    held.put(1, 1, 50)
    assert not own.due
    held.put(1, -1, -50)
    own.taken(1)
    assert grants(own) == [(1, 5, 150)]


def test_neither_total_falls_where_only_the_other_may_rise():
    own, held = make()
    own.begin(1, 0)
    own.receive(1, 0, [10] * 4)
    held.put(1, 2, 900)  # most of it came elsewhere
    own.taken(1)
    assert grants(own) == [(1, 6, 100)]
    held.put(1, 2, -850)
    own.taken(1)
    assert grants(own) == []


def test_what_is_answered_or_unwanted_is_granted_nothing():
    own, _ = make()
    own.begin(1, 0)
    own.receive(1, 0, [10] * 4)
    assert own.due
    own.forget(1)
    assert not own.due
    own.taken(1)
    own.receive(1, 4, [10])  # what was under way
    assert grants(own) == []
    own.forget(1)


def test_a_frame_grants_so_many_inputs_and_the_next_one_the_others():
    own, _ = make()
    for number in range(1, MOST_GRANTS + 10):
        own.begin(number, 0)
        own.receive(number, 0, [1] * 4)
    first = own.grant()
    assert len(first) == MOST_GRANTS
    assert own.due
    second = own.grant()
    assert {each.number for each in (*first, *second)} == set(range(1, MOST_GRANTS + 10))
    assert all(isinstance(each, InputCredit) for each in second)
    assert not own.due


def test_what_does_not_change_costs_nothing_to_look_at():
    asked = []

    def held(number: int) -> Credit:
        asked.append(number)
        return Credit()

    own = InputCredits(BUDGET, held)
    for number in range(1, 1000):
        own.begin(number, 0)
    asked.clear()
    own.receive(5, 0, [1])
    for _ in range(10):
        assert not own.due
    assert asked == [5]
