"""What `generate` is given, and what it gives."""

import pytest

from servestream_client.protocol import frames
from servestream_client.server import Output, Replay, Resume


def test_a_resume_is_true_where_something_was_delivered():
    assert not Resume()
    assert Resume(1)


@pytest.mark.parametrize("checkpoint", ["text", 7, bytearray(b"x")])
def test_a_checkpoint_is_bytes(checkpoint):
    with pytest.raises(TypeError, match="a checkpoint must be bytes, not"):
        Output(b"x", checkpoint)


def test_every_way_to_go_on_has_a_name_on_the_wire():
    assert {each.name for each in Replay} == {
        each.name for each in frames.Replay if each is not frames.Replay.UNSPECIFIED
    }
