from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from talking import prompt

from servestream_client.demo.tokens.sampling import choose

SCORES = np.array([0.0, 2.0, 1.0, -3.0], np.float32)


def test_without_temperature_it_is_the_likeliest_one():
    assert {choose(SCORES, prompt(), position) for position in range(100)} == {1}


def test_a_position_has_one_token_whatever_came_before():
    warm = prompt(temperature=1.0)
    drawn = [choose(SCORES, warm, position) for position in range(200)]
    assert [choose(SCORES, warm, position) for position in reversed(range(200))] == drawn[::-1]


def test_tokens_come_as_often_as_their_scores_say():
    drawn = Counter(choose(SCORES, prompt(temperature=2.0), position) for position in range(20_000))
    weights = np.exp(SCORES / 2.0)
    for token, share in enumerate(weights / weights.sum()):
        assert drawn[token] / 20_000 == pytest.approx(share, abs=0.02)


def test_only_the_likeliest_are_drawn_from():
    many = np.zeros(1000, np.float32)
    many[:40] = 1.0
    assert max(choose(many, prompt(temperature=50.0), position) for position in range(2000)) < 40
