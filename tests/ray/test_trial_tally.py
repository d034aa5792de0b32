"""The count that the other tests rely on sees what it is there to see. Needs no Ray."""

from __future__ import annotations

import random

import pytest

from servestream_client.demo.model import Image, Prediction
from servestream_client.demo.trial import Tally, kill_places, tally


def check(
    images: list[Image], offline: list[Prediction], answers: list[Prediction], expected: Tally
) -> None:
    found = tally(images, offline, answers)
    assert found == expected
    assert bool(found) == (expected != Tally())


@pytest.fixture(scope="module")
def some(images: list[Image]) -> list[Image]:
    return images[:50]


@pytest.fixture(scope="module")
def good(offline: list[Prediction]) -> list[Prediction]:
    return offline[:50]


def test_nothing_wrong(some: list[Image], good: list[Prediction]) -> None:
    check(some, good, list(good), Tally())


def test_repeated_images(some: list[Image], good: list[Prediction]) -> None:
    check(some + some[:10], good + good[:10], good + good[:10], Tally())
    check(some + some[:10], good + good[:10], list(good), Tally(lost=10))


def test_lost(some: list[Image], good: list[Prediction]) -> None:
    check(some, good, good[:20] + good[22:], Tally(lost=2))


def test_duplicated(some: list[Image], good: list[Prediction]) -> None:
    check(some, good, [*good[:20], good[19], *good[20:]], Tally(duplicated=1))


def test_out_of_order(some: list[Image], good: list[Prediction]) -> None:
    swapped = [*good[:20], good[21], good[20], *good[22:]]
    check(some, good, swapped, Tally(out_of_order=1))


def test_an_answer_to_another_image(
    some: list[Image], good: list[Prediction], offline: list[Prediction]
) -> None:
    check(some, good, [*good[:20], offline[60], *good[21:]], Tally(lost=1, foreign=1))


def test_differing(some: list[Image], good: list[Prediction]) -> None:
    wrong = good[20]._replace(votes=good[20].votes / 2)
    check(some, good, [*good[:20], wrong, *good[21:]], Tally(differing=1))


def test_kills_are_spread_over_the_way() -> None:
    for seed in range(200):
        places = kill_places(random.Random(seed), inputs=1797, kills=3)
        assert places == sorted(set(places))
        assert [(place - 1) // 479 for place in places] == [0, 1, 2]
    with pytest.raises(ValueError, match="do not fit"):
        kill_places(random.Random(1), inputs=3, kills=4)
