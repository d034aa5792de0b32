"""The report says of answers with planted faults what is wrong, and *exact* only of what is."""

from __future__ import annotations

import random

import pytest
from talking import prompt, tokens

from servestream_client.demo.phases import DemoError
from servestream_client.demo.tokens.show import kill_places
from servestream_client.demo.tokens.trial import Answer, Kill, Report, kinds
from servestream_client.outputs import Seam, SeamKind

OFFLINE = tokens(*range(1, 21))


def seam(index, before="a", after="b", kind=SeamKind.CONTINUED):
    return Seam(index, kind, before, after)


def answered(came, *seams):
    times = [100.0 + place for place in range(len(came))]
    return Answer(prompt(), tokens=list(came), times=times, seams=seams)


def report(*answers, kills=("a",), wanted=None):
    return Report(
        answers=answers,
        offline=[OFFLINE] * len(answers),
        kills=[Kill(replica=name, pid=1, after=5, at=104.5) for name in kills],
        wanted_kills=len(kills) if wanted is None else wanted,
        seconds=1.0,
    )


def test_nothing_wrong():
    found = report(answered(OFFLINE, seam(8)), answered(OFFLINE))
    assert found.problems() == []
    assert found.equal() == 2
    assert kinds(found.joints()) == {"continued, and exact by comparison": 1}
    assert found.pauses() == [108.0 - 104.5]


def test_a_continuation_with_other_tokens_is_not_called_exact():
    other = OFFLINE[:8] + tokens(*range(30, 42))
    found = report(answered(other, seam(4), seam(8, "b", "c")), answered(OFFLINE, seam(8)))
    assert kinds(found.joints()) == {
        "continued, and exact by comparison": 2,
        "continued, and not the same": 1,
    }
    assert [joint.equal for joint in found.joints()] == [True, False, True]
    assert found.equal() == 1
    assert found.problems() == [
        "12 tokens differing from offline",
        "1 answers that are not the offline ones",
    ]


def test_a_seam_that_the_client_calls_exact_is_compared_too():
    kind = SeamKind.EXACT
    other = OFFLINE[:8] + tokens(*range(30, 42))
    found = report(answered(other, seam(8, kind=kind)), answered(OFFLINE, seam(8, kind=kind)))
    assert kinds(found.joints()) == {
        "called exact, and not the same": 1,
        "exact, also by comparison": 1,
    }


@pytest.mark.parametrize(
    ("came", "words"),
    [
        (OFFLINE[:8] + OFFLINE[9:], "1 tokens lost"),
        (OFFLINE[:8] + OFFLINE[7:], "1 tokens duplicated"),
        (OFFLINE[:-1], "1 answers without their end"),
    ],
)
def test_what_was_planted_is_found(came, words):
    found = report(answered(came, seam(8)))
    assert words in found.problems()
    assert not any(joint.equal for joint in found.joints())


def test_kills_must_have_happened_and_cut_something():
    assert report(answered(OFFLINE, seam(8)), wanted=3).problems() == ["only 1 of 3 kills"]
    assert report(answered(OFFLINE), kills=("a",)).problems() == [
        "the death of replica a cut no generation"
    ]


def test_a_seam_without_a_kill_has_no_pause():
    assert report(answered(OFFLINE, seam(8), seam(9, "x"))).pauses() == [108.0 - 104.5]


def test_a_cut_before_the_end_alone_has_no_next_token():
    assert report(answered(OFFLINE, seam(20))).pauses() == []


def test_kills_are_spread_over_the_way():
    for number in range(200):
        places = kill_places(random.Random(number), total=1600, kills=3)
        assert [(place - 1) // 373 for place in places] == [0, 1, 2]
    with pytest.raises(DemoError, match="too many"):
        kill_places(random.Random(1), total=20, kills=4)
