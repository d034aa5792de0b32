"""What a client says of an input that was cut: whether it can be so."""

from dataclasses import replace

import pytest

from servestream_client.errors import RemoteProtocolError
from servestream_client.protocol.frames import InputRun, Replay, Resume
from servestream_client.protocol.server.resumes import check_resume

DIGEST = bytes(8)
KEPT = Resume(DIGEST, b"12345", 3, [b"d", b"e"])
"""What goes on at index 5."""
ALL = frozenset(Replay) - {Replay.CONTINUE}


def checked(start: int, resume: Resume | None, replay: Replay = Replay.CONTINUE) -> None:
    run = InputRun(7, [b"x"], start, first_resume=resume)
    check_resume(run, replay, checkpoint_bytes=5)


@pytest.mark.parametrize("replay", Replay)
def test_what_begins_has_no_resume(replay):
    checked(0, None, replay)
    with pytest.raises(RemoteProtocolError, match="input 7 has a resume, and starts at index 0"):
        checked(0, Resume(DIGEST), replay)


@pytest.mark.parametrize("replay", Replay)
def test_what_goes_on_has_one(replay):
    checked(5, KEPT, replay)
    with pytest.raises(RemoteProtocolError, match="input 7 starts at index 5, and lacks"):
        checked(5, None, replay)


@pytest.mark.parametrize("replay", Replay)
@pytest.mark.parametrize("size", [0, 7, 9])
def test_a_digest_has_eight_bytes(replay, size):
    with pytest.raises(RemoteProtocolError, match=f"digest of {size} bytes"):
        checked(5, replace(KEPT, digest=bytes(size)), replay)


WRONG = [
    (replace(KEPT, outputs_from=2), "2 outputs from index 2 on, and it starts at index 5"),
    (replace(KEPT, outputs=[b"d"]), "1 outputs from index 3 on, and it starts at index 5"),
    (replace(KEPT, outputs=[b"d"] * 3), "3 outputs"),
    (replace(KEPT, outputs_from=6, outputs=[]), "0 outputs from index 6"),
    (replace(KEPT, checkpoint=None), "begins at index 3, without a checkpoint"),
    (replace(KEPT, checkpoint=b"123456"), "a checkpoint of 6 bytes, and at most 5"),
]


@pytest.mark.parametrize(("resume", "expected"), WRONG)
def test_a_handler_that_is_given_outputs_gets_those_up_to_the_start(resume, expected):
    with pytest.raises(RemoteProtocolError, match=expected):
        checked(5, resume)


@pytest.mark.parametrize("replay", sorted(ALL))
@pytest.mark.parametrize("resume", [resume for resume, _ in WRONG])
def test_others_are_given_none(replay, resume):
    checked(5, resume, replay)


def test_without_a_checkpoint_they_are_all_of_them():
    checked(2, Resume(DIGEST, outputs=[b"a", b"b"]))
    checked(5, replace(KEPT, outputs_from=5, outputs=()))
