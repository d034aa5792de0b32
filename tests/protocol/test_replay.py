"""The replay set, of both kinds."""

from random import Random

import pytest

from servestream_client.protocol.replay import OrderedReplay, ReplaySet, UnorderedReplay

KINDS = pytest.mark.parametrize(
    "kind", [OrderedReplay, UnorderedReplay], ids=["ordered", "unordered"]
)


def filled(kind: type[ReplaySet], *payloads: bytes) -> ReplaySet:
    """Inputs from 1 up; the caller gave their text for them."""
    replay = kind()
    if payloads:
        replay.append(1, payloads, [p.decode() for p in payloads], sum(map(len, payloads)))
    return replay


@KINDS
def test_an_empty_set_holds_nothing(kind):
    replay = kind()
    assert (len(replay), replay.size, list(replay)) == (0, 0, [])
    assert 1 not in replay
    assert not replay.may_answer(1)
    assert replay.next_of(()) is None


@KINDS
def test_what_was_appended_is_there_in_ascending_order(kind):
    replay = filled(kind, b"a", b"bb")
    replay.append(3, (b"ccc",), ("ccc",), 3)
    assert list(replay) == [(1, b"a"), (2, b"bb"), (3, b"ccc")]
    assert [replay.item(number) for number in (1, 2, 3)] == ["a", "bb", "ccc"]
    assert (len(replay), replay.size) == (3, 6)
    assert [number in replay for number in (-1, 0, 1, 3, 4)] == [False, False, True, True, False]


@KINDS
def test_removing_says_how_large_it_was(kind):
    replay = filled(kind, b"a", b"bb", b"ccc")
    assert replay.remove(1, 2) == 3
    assert list(replay) == [(3, b"ccc")]
    assert replay.item(3) == "ccc"
    assert replay.size == 3
    assert 2 not in replay


def test_in_order_only_the_first_may_be_answered():
    replay = filled(OrderedReplay, b"a", b"b", b"c")
    assert replay.may_answer(1)
    assert replay.may_answer(1, 3)
    assert not replay.may_answer(1, 4)
    assert not replay.may_answer(2)
    replay.remove(1, 1)
    assert replay.may_answer(2)
    assert not replay.may_answer(1)


def test_in_any_order_each_may_be_answered_that_is_there():
    replay = filled(UnorderedReplay, b"a", b"b", b"c", b"d")
    replay.remove(2, 1)
    assert replay.may_answer(4)
    assert replay.may_answer(3, 2)
    assert not replay.may_answer(1, 2)
    assert not replay.may_answer(3, 3)


def test_in_order_of_some_inputs_the_one_whose_turn_it_is_comes_next():
    replay = filled(OrderedReplay, b"a", b"b", b"c")
    assert replay.next_of({2, 3}) is None
    assert replay.next_of({3, 1}) == 1
    replay.remove(1, 1)
    assert replay.next_of({2, 3}) == 2


def test_in_any_order_any_of_some_inputs_comes_next():
    replay = filled(UnorderedReplay, b"a", b"b", b"c")
    assert replay.next_of({3}) == 3
    assert replay.next_of({2, 3}) in {2, 3}


class Model:
    """A replay set, and a plain dictionary that says what must be in it."""

    def __init__(self, kind: type[ReplaySet], random: Random) -> None:
        self.random = random
        self.ordered = kind is OrderedReplay
        self.replay = kind()
        self.entries: dict[int, tuple[bytes, object]] = {}
        self.number = 0

    def append(self) -> None:
        count = self.random.randint(1, 5)
        payloads = [bytes(self.random.choice([0, 1, 7])) for _ in range(count)]
        items = [object() for _ in payloads]
        self.replay.append(self.number + 1, payloads, items, sum(map(len, payloads)))
        for payload, item in zip(payloads, items, strict=True):
            self.number += 1
            self.entries[self.number] = (payload, item)

    def remove(self) -> None:
        """A run that may be answered."""
        if not self.entries:
            return
        first = min(self.entries) if self.ordered else self.random.choice(list(self.entries))
        count = 1
        while first + count in self.entries and self.random.random() < 0.6:
            count += 1
        assert self.replay.may_answer(first, count)
        removed = [self.entries.pop(number)[0] for number in range(first, first + count)]
        assert self.replay.remove(first, count) == sum(map(len, removed))

    def check(self) -> None:
        replay, entries = self.replay, self.entries
        assert list(replay) == [(number, payload) for number, (payload, _) in entries.items()]
        assert (len(replay), bool(replay)) == (len(entries), bool(entries))
        assert replay.size == sum(len(payload) for payload, _ in entries.values())
        for number in range(-1, self.number + 3):
            assert (number in replay) == (number in entries)
        assert all(replay.item(number) is item for number, (_, item) in entries.items())
        for _ in range(5):
            first, count = self.random.randint(0, self.number + 2), self.random.randint(1, 4)
            known = all(number in entries for number in range(first, first + count))
            turn = not self.ordered or first == min(entries, default=0)
            assert replay.may_answer(first, count) == (known and turn)
        self.check_next()

    def check_next(self) -> None:
        some = {number for number in self.entries if self.random.random() < 0.4}
        found = self.replay.next_of(some)
        if self.ordered:
            first = min(self.entries, default=0)
            assert found == (first if first in some else None)
        else:
            assert found in some or (found is None and not some)


@pytest.mark.parametrize("seed", range(20))
@KINDS
def test_a_replay_set_holds_what_a_dictionary_would(kind, seed):
    model = Model(kind, Random(seed))
    for _ in range(80):
        getattr(model, model.random.choice(["append", "remove", "remove"]))()
        model.check()
