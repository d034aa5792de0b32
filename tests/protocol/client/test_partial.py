"""What is kept of an input that was answered in part, and to whom it may be given."""

from random import Random

import pytest

from servestream_client.protocol.client.partial import Partial, Seam
from servestream_client.protocol.continuation import NO_OUTPUTS, ResumeTerms, digest
from servestream_client.protocol.frames import Limits, Replay, Resume

RESUMABLE = [Replay.RESTART, Replay.SEEK, Replay.CONTINUE]
LIMITS = Limits()
ENOUGH = 1000


def partial_of(*payloads: bytes, replay: Replay = Replay.CONTINUE, limit: int = ENOUGH) -> Partial:
    partial = Partial(ResumeTerms(replay, "f"), limit)
    partial.receive(payloads)
    return partial


@pytest.mark.parametrize("replay", list(Replay))
@pytest.mark.parametrize("seed", range(10))
def test_a_resume_is_of_exactly_what_was_received(replay, seed):
    random = Random(seed)
    partial = Partial(ResumeTerms(replay, "f"), ENOUGH)
    received, checkpoint, since = [], None, 0
    for step in range(20):
        payloads = [random.randbytes(random.randint(0, 9)) for _ in range(random.randint(1, 3))]
        received += payloads
        attached = b"at %d" % step if random.random() < 0.3 else None
        if attached is not None:
            checkpoint, since = attached, len(received)
        partial.receive(payloads, attached)
        assert partial.index == len(received)
        if replay is Replay.CONTINUE:
            kept = received[since:]
            expected = Resume(digest(NO_OUTPUTS, received), checkpoint, since, tuple(kept))
        elif partial.terms.resumable:
            expected = Resume(digest(NO_OUTPUTS, received))
        else:
            continue
        assert partial.resume() == expected
        assert partial.resume_bytes == expected.size
        assert partial.why_not(partial.terms, LIMITS, 0) == ""


@pytest.mark.parametrize("replay", list(Replay))
def test_nothing_is_kept_that_nobody_is_given(replay):
    partial = partial_of(b"a", b"b", replay=replay)
    kept = partial.outputs, partial.kept_bytes > 0, partial.digest != NO_OUTPUTS
    continued, resumable = replay is Replay.CONTINUE, replay in RESUMABLE
    assert kept == ([b"a", b"b"] if continued else [], continued, resumable)


@pytest.mark.parametrize("first", list(Replay))
@pytest.mark.parametrize("now", list(Replay))
def test_it_goes_on_only_with_the_same_replay(first, now):
    partial = partial_of(b"a", replay=first)
    fits = first is now and first in RESUMABLE
    assert (partial.why_not(ResumeTerms(now, "f"), LIMITS, 1) == "") is fits


@pytest.mark.parametrize("replay", RESUMABLE)
def test_it_goes_on_only_under_the_same_fingerprint(replay):
    partial = partial_of(b"a", replay=replay)
    for other in ("", "F", "f2"):
        why = partial.why_not(ResumeTerms(replay, other), LIMITS, 1)
        assert f"{other!r}, not 'f'" in why
    assert partial.why_not(ResumeTerms(replay, "f"), LIMITS, 1) == ""


def test_the_terms_are_those_of_the_first_output_for_good():
    partial = partial_of(b"a", replay=Replay.SEEK)
    partial.seam("first", "a")
    partial.seam("second", "b")
    partial.receive([b"b"])
    assert partial.terms == ResumeTerms(Replay.SEEK, "f")


def test_a_fingerprint_is_escaped_and_cut_where_people_read_it():
    partial = partial_of(b"a", replay=Replay.SEEK)
    why = partial.why_not(ResumeTerms(Replay.SEEK, "\x1b[2J" + "x" * 10_000), LIMITS, 1)
    assert "\x1b" not in why
    assert len(why) < 300


# ------------------------------------------------------------------ what it may weigh


def test_what_weighs_too_much_cannot_go_on_until_the_next_checkpoint():
    # Each output weighs 8 bytes besides its own.
    partial = partial_of(b"12", b"34", limit=20)
    assert partial.kept_bytes == 20
    partial.receive([b""])
    assert "continuation_bytes, 20" in partial.why_not(partial.terms, LIMITS, 0)
    assert (partial.outputs, partial.kept_bytes) == ([], 0)
    partial.receive([b"5", b"6"])  # a gap lies before these
    assert partial.outputs == []
    assert partial.why_not(partial.terms, LIMITS, 0)
    partial.receive([b"7"], b"checkpoint")
    assert partial.why_not(partial.terms, LIMITS, 0) == ""
    partial.receive([b"8"])
    received = [b"12", b"34", b"", b"5", b"6", b"7", b"8"]
    expected = Resume(digest(NO_OUTPUTS, received), b"checkpoint", 6, (b"8",))
    assert partial.resume() == expected


def test_a_checkpoint_that_weighs_too_much_by_itself_is_not_kept():
    partial = partial_of(b"a", limit=20)
    partial.receive([b"b"], bytes(21))
    assert partial.checkpoint is None
    assert partial.why_not(partial.terms, LIMITS, 0)
    partial.receive([b"c"], bytes(20))
    assert partial.why_not(partial.terms, LIMITS, 0) == ""


@pytest.mark.parametrize("replay", [Replay.RESTART, Replay.SEEK])
def test_where_no_outputs_are_given_none_weigh_anything(replay):
    partial = partial_of(*[bytes(100)] * 100, replay=replay, limit=20)
    assert partial.resume_bytes == 32
    assert partial.why_not(partial.terms, LIMITS, 0) == ""


def test_it_goes_with_its_input_into_a_frame_of_the_server_or_not_at_all():
    partial = partial_of(b"123", replay=Replay.CONTINUE)
    assert partial.resume_bytes == 32 + 3 + 8
    assert partial.why_not(partial.terms, Limits(frame_bytes=50), 7) == ""
    why = partial.why_not(partial.terms, Limits(frame_bytes=50), 8)
    assert "51 bytes, where the server accepts 50" in why


def test_a_checkpoint_goes_to_a_server_that_accepts_one_of_its_size():
    partial = partial_of(b"a")
    partial.receive([b"b"], b"12345")
    assert partial.why_not(partial.terms, Limits(token_bytes=5), 0) == ""
    why = partial.why_not(partial.terms, Limits(token_bytes=4), 0)
    assert "5 bytes, where the server accepts 4" in why


def test_what_was_given_does_not_change_afterwards():
    partial = partial_of(b"a")
    resume = partial.resume()
    partial.receive([b"b"])
    partial.receive([b"c"], b"checkpoint")
    assert resume.outputs == (b"a",)


# ------------------------------------------------------------------ seams


def test_a_seam_is_where_another_attempts_outputs_begin():
    partial = Partial(ResumeTerms(Replay.SEEK, "f"), ENOUGH)
    assert partial.seam(("stream", 1), "a") is None
    partial.receive([b"0", b"1"])
    assert partial.seam(("stream", 1), "a") is None
    partial.receive([b"2"])
    assert partial.seam(("stream", 3), "b") == Seam(3, Replay.SEEK, "a", "b")
    partial.receive([b"3"])
    assert partial.seam(("stream", 3), "b") is None
    # The same replica, but another attempt: it knows nothing of the one before.
    assert partial.seam(("other", 3), "b") == Seam(4, Replay.SEEK, "b", "b")
