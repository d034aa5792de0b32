"""When a state is due."""

import pytest

from servestream_client.errors import ConfigurationError
from servestream_client.server import Tokens

USUAL = {"traffic": 10_000, "sent": 100, "last": 100}


@pytest.mark.parametrize(
    ("inputs", "size", "seconds", "due"),
    [
        (9, 99, 0.9, False),
        (10, 0, 0.0, True),
        (1, 100, 0.0, True),
        (1, 0, 1.0, True),
        (0, 0, 99.0, False),
    ],
)
def test_by_inputs_bytes_or_time_and_never_without_an_input(inputs, size, seconds, due):
    tokens = Tokens(inputs=10, payload_bytes=100, seconds=1.0)
    assert tokens.due(inputs, size, seconds, **USUAL) is due


def test_never_more_than_their_share():
    tokens = Tokens(inputs=1, share=0.02)
    assert tokens.due(5, 0, 0.0, **USUAL)
    assert not tokens.due(5, 0, 0.0, traffic=9_999, sent=100, last=100)


@pytest.mark.parametrize(
    "options",
    [
        {"inputs": 0},
        {"payload_bytes": -1},
        {"seconds": 0.0},
        {"share": 0.0},
        {"share": 1.5},
        {"inputs": 1.5},
    ],
)
def test_what_cannot_be_is_said(options):
    with pytest.raises(ConfigurationError, match=f"Tokens.{next(iter(options))}"):
        Tokens(**options)
