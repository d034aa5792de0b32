"""The count that the report relies on sees what it is there to see."""

from __future__ import annotations

import pytest
from talking import tokens

from servestream_client.demo.tokens.tally import Tally, tally

OFFLINE = tokens(1, 2, 3, 4, 3, 4, 3, 4, 5, 6, 7)


@pytest.mark.parametrize(
    ("came", "expected"),
    [
        (OFFLINE, Tally()),
        (OFFLINE[:4] + OFFLINE[6:], Tally(lost=2)),
        (OFFLINE[:1] + OFFLINE[2:], Tally(lost=1)),
        (OFFLINE[1:], Tally(lost=1)),
        (OFFLINE[:5] + OFFLINE[4:], Tally(duplicated=1)),
        (OFFLINE[:9] + OFFLINE[6:], Tally(duplicated=3)),
        (OFFLINE[:8] + tokens(9, finished=False) + OFFLINE[9:], Tally(differing=1)),
        (OFFLINE[:-1], Tally(lost=1, unended=1)),
        (OFFLINE[:6], Tally(lost=5, unended=1)),
        ([], Tally(lost=11, unended=1)),
        (OFFLINE + tokens(8), Tally(duplicated=1, unended=1)),
    ],
    ids=[
        "nothing wrong",
        "a repetition lost",
        "one lost",
        "the first lost",
        "one again",
        "a stretch again",
        "another token",
        "the end lost",
        "half lost",
        "nothing came",
        "more than the end",
    ],
)
def test_what_is_wrong_is_counted(came, expected):
    found = tally(OFFLINE, came)
    assert found == expected
    assert bool(found) == (expected != Tally())


def test_a_token_with_another_text_is_another():
    assert tally(OFFLINE, [*OFFLINE[:2], OFFLINE[2]._replace(text=b"?"), *OFFLINE[3:]]) == Tally(
        differing=1
    )
