"""Inputs with many outputs at a client's session, by frames (docs/protocol.md, section 18)."""

from collections.abc import Sequence
from dataclasses import replace

import pytest
from streaming import (
    CODEC,
    STREAM_ID,
    answers,
    error,
    expect_breach,
    frames_out,
    kinds,
    numbers_in,
    open_attempt,
    output,
    part,
    streaming,
    take_all,
)

from servestream_client.config import FlowControl, Watchdog
from servestream_client.errors import ItemErrorKind, LocalProtocolError
from servestream_client.protocol.client import ClientSession, Delivery, Part
from servestream_client.protocol.client.in_flight import InFlight
from servestream_client.protocol.client.partial import Seam
from servestream_client.protocol.continuation import FEATURE, NO_OUTPUTS, digest, terms_of
from servestream_client.protocol.frames import (
    ClientFrame,
    Credit,
    Drain,
    HandlerKind,
    InputCredit,
    InputRun,
    ItemFailure,
    Limits,
    OutputPart,
    Replay,
    Resume,
    ServerEnd,
    ServerFrame,
    Welcome,
)
from servestream_client.protocol.states import ClientState

MANY = {
    "handler_kind": HandlerKind.ONE_TO_MANY,
    "features": ("coming", FEATURE),
    "replay": Replay.SEEK,
    "fingerprint": "tiny-1",
}
RESUMABLE = [Replay.RESTART, Replay.SEEK, Replay.CONTINUE]
OWN = Credit(4, 100)
"""With which an input begins, where nothing else is said."""


def make(
    *,
    ordered: bool = False,
    frees_places: bool = False,
    watchdog: Watchdog | None = None,
    **flow: int,
) -> ClientSession:
    own = {"outputs_per_input": OWN.outputs, "bytes_per_input": OWN.bytes}
    return ClientSession(
        stream_id=STREAM_ID,
        codec=CODEC,
        flow=FlowControl(**(own | flow)),
        ordered=ordered,
        frees_places=frees_places,
        watchdog=watchdog,
    )


def begun(*payloads: bytes, **options) -> ClientSession:
    """A client on its first attempt (number 1) that has sent these inputs."""
    welcome = MANY | options.pop("welcome", {})
    session = make(**options)
    open_attempt(session, **welcome)
    for payload in payloads:
        session.push(payload)
    frames_out(session)
    return session


def again(session: ClientSession, *, known: Limits | None = None, **welcome) -> list[ClientFrame]:
    """The present attempt breaks; what goes out on the next one, the open left out."""
    if session.attempt is not None:
        session.lost(session.attempt.number)
    open_attempt(session, known=known, **(MANY | welcome))
    return frames_out(session)


def receive(session: ClientSession, *frames: ServerFrame) -> None:
    for frame in frames:
        session.receive(session.attempt.number, frame)


def runs_in(frames: Sequence[ClientFrame]) -> list[InputRun]:
    return [run for frame in frames for run in frame.inputs]


def resume_of(*outputs: bytes) -> Resume:
    return Resume(digest(NO_OUTPUTS, outputs))


def checkpointed(number: int, first_index: int, *payloads: bytes, checkpoint: bytes) -> ServerFrame:
    made = OutputPart(number, first_index, payloads, last=False, checkpoint=checkpoint)
    return ServerFrame(parts=[made])


def interrupted(session: ClientSession) -> list[tuple[int, int]]:
    """The number and index of what failed so; it is all that there is to take besides outputs."""
    failures = [each.failure for each in take_all(session) if each.failure is not None]
    assert {failure.kind for failure in failures} <= {ItemErrorKind.INTERRUPTED}
    return [(failure.number, failure.index) for failure in failures]


# ------------------------------------------------------------------ going on after a cut: M1.1


@pytest.mark.parametrize("replay", [Replay.RESTART, Replay.SEEK])
def test_a_server_gets_the_start_index_and_the_digest(replay):
    session = begun(b"x", welcome={"replay": replay})
    receive(session, part(1, 0, b"a"), part(1, 1, b"b"))
    take_all(session)
    frames = again(session, replay=replay)
    assert runs_in(frames) == [InputRun(1, [b"x"], 2, first_resume=resume_of(b"a", b"b"))]
    receive(session, part(1, 2, b"c", last=True))
    assert take_all(session) == [output(1, b"c", index=2)]


def test_a_server_that_continues_gets_the_outputs():
    session = begun(b"x", welcome={"replay": Replay.CONTINUE})
    receive(session, part(1, 0, b"a", b"b"))
    take_all(session)
    (run,) = runs_in(again(session, replay=Replay.CONTINUE))
    assert run.first_resume == replace(resume_of(b"a", b"b"), outputs=(b"a", b"b"))
    receive(session, part(1, 2, b"c"))
    take_all(session)
    (run,) = runs_in(again(session, replay=Replay.CONTINUE))
    assert run.first_start_index == 3
    assert run.first_resume == replace(resume_of(b"a", b"b", b"c"), outputs=(b"a", b"b", b"c"))


@pytest.mark.parametrize(
    "other",
    [
        {"fingerprint": "tiny-2"},
        {"fingerprint": ""},
        {"replay": Replay.RESTART},
        {"replay": Replay.CONTINUE},
        {"replay": Replay.NEVER},
        {"replay": Replay.UNSPECIFIED},
        {"features": ("coming",)},
        {"features": ("coming",), "restartable": True},
        {"handler_kind": HandlerKind.ONE_TO_ONE},
    ],
    ids=str,
)
def test_outputs_of_two_services_are_never_one_answer(other):
    session = begun(b"x", b"y")
    receive(session, part(1, 0, b"a", b"b"))
    assert numbers_in(again(session, **other)) == [2]
    taken = take_all(session)
    assert [each.payload for each in taken] == [b"a", b"b", None]
    failure = taken[-1].failure
    assert (failure.number, failure.kind, failure.index) == (1, ItemErrorKind.INTERRUPTED, 2)
    assert "cut after 2 outputs" in failure.text


@pytest.mark.parametrize("replay", [Replay.NEVER, Replay.UNSPECIFIED])
def test_a_handler_that_cannot_go_on_is_not_asked_to(replay):
    session = begun(b"x", welcome={"replay": replay})
    receive(session, part(1, 0, b"a"))
    assert numbers_in(again(session, replay=replay)) == []
    assert interrupted(session) == [(1, 1)]


def test_what_counts_is_the_welcome_of_the_first_output():
    """Not the last one: that came without an output, and would let the two services mix."""
    session = begun(b"x", b"y")
    receive(session, part(1, 0, b"a"))
    take_all(session)
    again(session, fingerprint="tiny-2")
    assert interrupted(session) == [(1, 1)]
    assert runs_in(again(session, fingerprint="tiny-3")) == [InputRun(2, [b"y"])]
    receive(session, part(2, 0, b"b"))
    take_all(session)
    session.lost(3)
    session.lost(session.begin().number)  # nobody answers
    expected = InputRun(2, [b"y"], 1, first_resume=resume_of(b"b"))
    assert runs_in(again(session, fingerprint="tiny-3")) == [expected]
    again(session, fingerprint="tiny-2")
    assert interrupted(session) == [(2, 1)]


def test_an_input_without_outputs_goes_to_whoever_answers():
    session = begun(b"x")
    assert numbers_in(again(session, fingerprint="tiny-2", replay=Replay.NEVER)) == [1]
    receive(session, part(1, 0, b"a"))
    again(session, fingerprint="tiny-2", replay=Replay.NEVER)
    assert interrupted(session) == [(1, 1)]


def test_an_older_server_is_believed_by_its_own_word_and_its_codes_version():
    old = {"features": ("coming",), "restartable": True, "code_version": "v1"}
    session = begun(b"x", welcome=old)
    receive(session, part(1, 0, b"a"))
    assert runs_in(again(session, **old)) == [InputRun(1, [b"x"], 1)]
    again(session, **(old | {"code_version": "v2"}))
    assert interrupted(session) == [(1, 1)]


def test_an_interrupted_input_fails_in_its_turn():
    session = begun(b"x", b"y", ordered=True)
    receive(session, part(1, 0, b"a"))
    again(session, fingerprint="tiny-2")
    receive(session, answers(2, b"Y"))
    assert kinds(take_all(session)) == [(1, None), (1, ItemErrorKind.INTERRUPTED), (2, None)]


def test_a_seam_is_told_with_the_first_output_behind_it():
    session = begun(b"x", welcome={"replica": "a"})
    receive(session, part(1, 0, b"a"))
    again(session, replica="b")
    receive(session, part(1, 1, b"b"), part(1, 2, b"c"))
    found = [session.delivery.take_part(9).seam for _ in range(3)]
    assert found == [None, Seam(1, Replay.SEEK, "a", "b"), None]


# ------------------------------------------------------------------ not with the open: M1.2, M1.18


def test_an_input_that_was_cut_does_not_ride_with_the_open_and_none_overtakes_it():
    session = begun(b"1", b"2", b"3")
    receive(session, part(2, 0, b"b"))
    take_all(session)
    session.lost(1)
    session.push(b"4")
    session.begin(known=Limits())
    opened = session.next_frame()
    assert runs_in([opened]) == [InputRun(1, [b"1"])]
    receive(session, ServerFrame(welcome=Welcome(**MANY)))
    assert runs_in(frames_out(session)) == [
        InputRun(2, [b"2"], 1, first_resume=resume_of(b"b")),
        InputRun(3, [b"3", b"4"]),
    ]


def test_what_it_takes_to_go_on_is_announced_with_its_input():
    session = begun(
        b"x",
        welcome={"replay": Replay.CONTINUE},
        watchdog=Watchdog(heartbeat_interval=1, item_timeout=None),
        bytes_per_input=1 << 20,
    )
    receive(session, part(1, 0, bytes(70_000)))
    take_all(session)
    first, second = again(session, replay=Replay.CONTINUE)
    assert runs_in([first]) == []
    assert first.coming.number == 1
    assert first.coming.frame_bytes >= 1 + 70_000
    assert numbers_in([second]) == [1]


def test_what_it_takes_to_go_on_weighs_in_window_and_frame():
    session = begun(b"x", b"y", welcome={"replay": Replay.CONTINUE}, bytes_per_input=1 << 20)
    receive(session, part(1, 0, bytes(70_000)))
    take_all(session)
    first, second = again(session, replay=Replay.CONTINUE)
    assert [numbers_in([first]), numbers_in([second])] == [[1], [2]]
    assert session.attempt.in_flight.bytes == 2 + 32 + 70_000 + 8
    window = Limits(window_bytes=70_041)
    session.lost(2)
    session.begin(known=window)
    session.next_frame()
    receive(
        session, ServerFrame(welcome=Welcome(**(MANY | {"replay": Replay.CONTINUE}), limits=window))
    )
    assert numbers_in(frames_out(session)) == [1]  # alone, whatever it weighs


def test_an_input_that_a_server_cannot_take_with_what_came_is_interrupted():
    session = begun(b"x", welcome={"replay": Replay.CONTINUE})
    receive(session, part(1, 0, bytes(50)))
    again(session, replay=Replay.CONTINUE, limits=Limits(frame_bytes=1 + 32 + 50 + 8))
    assert kinds(take_all(session)) == [(1, None)]
    again(session, replay=Replay.CONTINUE, limits=Limits(frame_bytes=32 + 50 + 8))
    assert interrupted(session) == [(1, 1)]


# ------------------------------------------------------------------ checkpoints: M1.5


def test_a_checkpoint_is_adopted_with_the_output_before_it():
    session = begun(b"x", welcome={"replay": Replay.CONTINUE})
    receive(session, part(1, 0, b"a"), checkpointed(1, 1, b"b", checkpoint=b"s"), part(1, 2, b"c"))
    take_all(session)
    (run,) = runs_in(again(session, replay=Replay.CONTINUE))
    assert run.first_start_index == 3
    assert run.first_resume == Resume(resume_of(b"a", b"b", b"c").digest, b"s", 2, (b"c",))


def test_a_checkpoint_behind_outputs_of_which_some_came_before_is_adopted():
    session = begun(b"x", welcome={"replay": Replay.CONTINUE})
    receive(session, part(1, 0, b"a"), checkpointed(1, 0, b"a", b"b", checkpoint=b"s"))
    (run,) = runs_in(again(session, replay=Replay.CONTINUE))
    assert run.first_resume == Resume(resume_of(b"a", b"b").digest, b"s", 2)


def test_what_exceeds_the_clients_limit_counts_as_never_until_the_next_checkpoint():
    options = {"welcome": {"replay": Replay.CONTINUE}, "continuation_bytes": 20}
    for saved in (False, True):
        session = begun(b"x", **options)
        receive(session, part(1, 0, b"aaaa"), part(1, 1, b"bbbbb"))  # 4 + 5 + 2 * 8
        if saved:
            receive(session, checkpointed(1, 2, b"c", checkpoint=b"s"))
        frames = again(session, replay=Replay.CONTINUE)
        assert numbers_in(frames) == ([1] if saved else [])
        assert interrupted(session) == ([] if saved else [(1, 2)])


def test_a_checkpoint_above_the_limit_is_a_breach():
    session = begun(b"x", welcome={"replay": Replay.CONTINUE}, checkpoint_bytes=10)
    receive(session, checkpointed(1, 0, b"a", checkpoint=bytes(10)))
    expect_breach(
        session, checkpointed(1, 1, b"b", checkpoint=bytes(11)), "at most 10 were allowed"
    )
    session.lost(1)
    session.begin()
    assert session.next_frame().open.limits.token_bytes == 10


def test_a_checkpoint_that_the_next_server_does_not_accept_cannot_be_continued():
    session = begun(b"x", welcome={"replay": Replay.CONTINUE})
    receive(session, checkpointed(1, 0, b"a", checkpoint=bytes(10)))
    again(session, replay=Replay.CONTINUE, limits=Limits(token_bytes=9))
    assert interrupted(session) == [(1, 1)]


@pytest.mark.parametrize("replay", [Replay.RESTART, Replay.SEEK])
def test_a_checkpoint_says_nothing_to_who_does_not_continue(replay):
    session = begun(b"x", welcome={"replay": replay})
    receive(session, checkpointed(1, 0, b"a", checkpoint=b"s"))
    (run,) = runs_in(again(session, replay=replay))
    assert run.first_resume == resume_of(b"a")


# ------------------------------------------------------------------ the last word: M1.3, 4, 7, 8


def last_words(position: int) -> list[ServerFrame]:
    return [
        part(1, position, last=True),
        error(1, position),
        error(1, position, ItemErrorKind.INTERRUPTED),
    ]


@pytest.mark.parametrize("cut", [False, True], ids=["one attempt", "cut"])
@pytest.mark.parametrize("which", range(3))
def test_the_last_word_answers_at_its_position_alone(cut, which):
    for position in range(5):
        session = begun(b"x", b"y")
        receive(session, part(1, 0, b"a", b"b"))
        if cut:
            again(session)
        attempt = session.attempt.number
        frame = last_words(position)[which]
        if position < 2:
            expect_breach(session, frame, f"counts {position} outputs, and 2 came", attempt)
            assert session.ledger.unanswered == 2
        elif position > 2:
            expect_breach(session, frame, "a gap", attempt)
            assert session.ledger.unanswered == 2
        else:
            receive(session, frame)
            assert session.ledger.unanswered == 1
            assert take_all(session)[-1].last


@pytest.mark.parametrize("payloads", [(b"a", b"b"), (b"b",)], ids=["from the first", "the last"])
def test_a_last_behind_nothing_but_duplicates_answers(payloads):
    session = begun(b"x", b"y")
    receive(session, part(1, 0, b"a", b"b"))
    receive(session, part(1, 2 - len(payloads), *payloads, last=True))
    assert take_all(session) == [
        output(1, b"a", last=False),
        output(1, b"b", index=1, last=False),
        Delivery(1, 2, None, None, last=True),
    ]
    assert session.counters.duplicates == len(payloads)
    assert session.ledger.unanswered == 1


def test_a_last_that_stands_before_what_came_is_a_breach():
    session = begun(b"x")
    receive(session, part(1, 0, b"a", b"b"))
    expect_breach(session, part(1, 0, b"a", last=True), "counts 1 outputs, and 2 came")


def test_a_last_behind_duplicates_and_something_new_answers_once():
    session = begun(b"x")
    receive(session, part(1, 0, b"a", b"b"))
    receive(session, part(1, 1, b"b", b"c", last=True))
    assert [each.payload for each in take_all(session)] == [b"a", b"b", b"c"]
    assert session.counters.duplicates == 1
    assert session.ledger.unanswered == 0


@pytest.mark.parametrize("which", range(3))
def test_what_comes_for_an_answered_input_is_a_duplicate_wherever_it_stands(which):
    session = begun(b"x", b"y")
    receive(session, part(1, 0, b"a", b"b", last=True))
    take_all(session)
    for position in range(5):
        receive(session, last_words(position)[which])
    receive(session, part(1, 0, b"a", b"b", last=True), part(1, 7, b"h"))
    assert take_all(session) == []
    assert session.counters.duplicates == 5 + 3


def test_several_parts_of_an_input_may_stand_in_a_frame_with_others_between():
    session = begun(b"x", b"y")
    parts = [
        OutputPart(1, 0, [b"a"], last=False),
        OutputPart(2, 0, [b"A"], last=False),
        OutputPart(1, 0, [b"a", b"b"], last=False),
        OutputPart(1, 2, [], last=True),
    ]
    errors = [ItemFailure(2, ItemErrorKind.HANDLER, "bad", 1)]
    receive(session, ServerFrame(parts=parts, errors=errors))
    assert kinds(take_all(session)) == [
        (1, None),
        (2, None),
        (1, None),
        (1, None),
        (2, ItemErrorKind.HANDLER),
    ]


# ------------------------------------------------------------------ credit for each input: M1.9, 12


def test_an_open_says_with_what_credit_inputs_begin():
    session = make(outputs_per_input=7, bytes_per_input=77)
    session.begin()
    opened = session.next_frame().open
    assert FEATURE in opened.features
    assert (opened.limits.input_outputs, opened.limits.input_bytes) == (7, 77)


def test_outputs_beyond_an_inputs_credit_are_a_breach_though_there_is_some_for_all():
    session = begun(b"x", b"y")
    receive(session, part(1, 0, *[b"a"] * 4))
    expect_breach(session, part(1, 4, b"a"), "credit of input 1")
    session = begun(b"x", b"y")
    receive(session, part(1, 0, bytes(99)), part(1, 1, bytes(500)))
    expect_breach(session, part(1, 2, b""), "credit of input 1")


def test_inputs_that_went_with_the_open_begin_with_credit_too():
    session = make()
    session.push(b"x")
    session.begin(known=Limits())
    assert numbers_in([session.next_frame()]) == [1]
    receive(session, ServerFrame(welcome=Welcome(**MANY)), part(1, 0, *[b"a"] * 4))
    expect_breach(session, part(1, 4, b"a"), "credit of input 1")


def test_a_grant_goes_alone_and_unpaced_once_half_was_taken():
    session = begun(b"x", b"y")
    receive(session, part(1, 0, *[b"a"] * 4))
    frames_out(session)
    session.delivery.ack_outputs(1, 1, 1)
    assert not session.has_output
    session.delivery.ack_outputs(1, 1, 1)
    assert session.has_output
    (frame,) = frames_out(session)
    assert frame.input_credit == [InputCredit(1, 4 + 2, 4 + 98)]
    assert not frame.paced
    receive(session, part(1, 4, b"a", b"a"))
    expect_breach(session, part(1, 6, b"a"), "credit of input 1")


def test_who_takes_nothing_is_granted_nothing_more_over_any_number_of_cuts():
    session = begun(b"x")
    receive(session, part(1, 0, b"a", b"b"))
    for attempt in range(2, 6):
        (run,) = runs_in(again(session))
        assert run.first_credit == Credit(2 + 2, 98)
        if attempt == 3:
            receive(session, part(1, 2, b"c", b"d"))
            break
    (run,) = runs_in(again(session))
    assert run.first_credit == Credit(4 + 0, 96)
    expect_breach(session, part(1, 4, b"e"), "credit of input 1", session.attempt.number)
    assert session.delivery.held_outputs == OWN.outputs


def test_an_input_of_which_nothing_is_held_begins_as_usual():
    session = begun(b"x")
    receive(session, part(1, 0, b"a", b"b"))
    take_all(session)
    (run,) = runs_in(again(session))
    assert run.first_credit is None
    receive(session, part(1, 2, *[b"c"] * 4))
    expect_breach(session, part(1, 6, b"c"), "credit of input 1", session.attempt.number)


def test_the_last_word_needs_no_credit():
    session = begun(b"1", b"2", output_items=4)
    receive(session, part(1, 0, *[b"a"] * 4))
    receive(session, error(2), part(1, 4, last=True))
    assert session.ledger.unanswered == 0


# ------------------------------------------------------------------ credit of all: M1.10, M1.11


@pytest.mark.parametrize("ordered", [True, False])
def test_readers_who_stopped_use_up_nothing_of_what_others_need(ordered):
    session = begun(*[b"x"] * 5, ordered=ordered, output_items=8, output_bytes=80)
    for number in range(1, 6):
        receive(session, part(number, 0, *[b"a"] * 3), part(number, 3, last=True))
        (frame,) = frames_out(session) or [None]
        if frame is not None:
            assert frame.credit == Credit(number * 3 + 8, number * 3 + 80)
    assert session.delivery.held_outputs == 15


def test_what_is_held_counts_until_the_welcome_and_without_the_feature_for_the_whole_attempt():
    old = {"features": ("coming",), "restartable": True, "code_version": "tiny-1"}
    session = begun(b"x", b"y", output_items=8, outputs_per_input=6)
    receive(session, part(1, 0, *[b"a"] * 6))
    session.lost(1)
    session.begin()
    assert session.next_frame().credit.outputs == 8 - 6
    receive(session, ServerFrame(welcome=Welcome(**MANY)))
    (frame,) = frames_out(session)
    assert frame.credit.outputs == 8
    session.lost(2)
    session.begin()
    assert session.next_frame().credit.outputs == 8 - 6
    receive(session, ServerFrame(welcome=Welcome(**(MANY | old))))
    (frame,) = frames_out(session)
    assert frame.credit.outputs == 8 - 6
    assert frame.input_credit == ()
    assert frame.inputs[0].first_credit is None
    receive(session, part(2, 0, b"A", b"B"))
    assert {frame.credit.outputs for frame in frames_out(session)} <= {8 - 6}


# ------------------------------------------------------------------ cancelling: M1.13


def test_a_cancelled_input_is_granted_nothing_more_and_answered_where_its_server_stopped():
    session = begun(b"x", b"y")
    receive(session, part(1, 0, *[b"a"] * 4))
    frames_out(session)
    session.cancel(1)
    take_all(session)
    (frame,) = frames_out(session)
    assert [(each.first, each.last) for each in frame.cancelled] == [(1, 1)]
    assert frame.input_credit == []
    receive(session, error(1, 4, ItemErrorKind.CANCELLED))
    assert kinds(take_all(session)) == [(1, ItemErrorKind.CANCELLED)]
    assert session.ledger.unanswered == 1


def test_an_input_that_was_cancelled_as_it_rode_with_the_open_is_granted_nothing():
    session = make()
    session.push(b"x")
    session.begin(known=Limits())
    session.next_frame()
    session.cancel(1)
    receive(session, ServerFrame(welcome=Welcome(**MANY)), part(1, 0, *[b"a"] * 4))
    take_all(session)
    assert not any(frame.input_credit for frame in frames_out(session))


def test_a_cancelled_input_whose_attempt_breaks_fails_there_and_is_not_sent_again():
    session = begun(b"x", b"y")
    receive(session, part(1, 0, b"a"))
    session.cancel(1)
    frames_out(session)
    assert numbers_in(again(session)) == [2]
    assert kinds(take_all(session)) == [(1, None), (1, ItemErrorKind.CANCELLED)]


# ------------------------------------------------------------------ shared lanes: M1.14 to M1.16


@pytest.mark.parametrize("frees_places", [True, False])
def test_on_a_shared_lane_a_place_counts_until_the_input_is_answered(frees_places):
    session = begun(b"x", b"y", window_items=2, frees_places=frees_places)
    receive(session, part(1, 0, b"a", last=False), part(1, 1, last=True))
    assert session.ledger.has_place is frees_places


def parked(session: ClientSession, number: int) -> tuple[object, Credit]:
    """Take an input off a lane whose attempt is over, as what hands requests to lanes does."""
    held = session.delivery.held_of(number)
    held = Credit(held.outputs, held.bytes)
    partial = session.drop(number)
    session.delivery.ack_outputs(number, held.outputs, held.bytes)
    return partial, held


@pytest.mark.parametrize("elsewhere", [True, False], ids=["another lane", "the same lane"])
def test_what_was_parked_goes_on_under_a_new_number_with_the_credit_that_is_left(elsewhere):
    session = begun(b"x", b"y")
    receive(session, part(1, 0, *[b"a"] * 4))
    while session.delivery.take_part(9) is not None:
        pass  # its reader has them, and has stopped
    session.lost(1)
    partial, held = parked(session, 1)
    assert held == Credit(4, 4)
    assert session.delivery.held_outputs == 0
    assert numbers_in(again(session)) == [2]
    other = begun(b"z") if elsewhere else session
    number = other.push_partial(b"x", None, partial, Credit(1, 1))
    assert number == (2 if elsewhere else 3)
    expected = InputRun(number, [b"x"], 4, (), Credit(4 + 3, 99), resume_of(*[b"a"] * 4))
    assert runs_in(frames_out(other)) == [expected]
    other.delivery.ack_outputs(number, 1, 1)
    receive(other, part(number, 4, b"b", last=True))
    assert take_all(other) == [output(number, b"b", index=4)]
    assert other.delivery.held_outputs == 0


def test_the_old_number_of_what_was_parked_is_an_answered_one():
    session = begun(b"x", b"y")
    receive(session, part(1, 0, b"a"))
    take_all(session)
    session.lost(1)
    parked(session, 1)
    again(session)
    receive(session, part(1, 1, b"b"), error(1, 5))
    assert take_all(session) == []
    assert session.counters.duplicates == 2


@pytest.mark.parametrize("known", [True, False], ids=["before the welcome", "behind the open"])
def test_what_comes_from_another_lane_waits_for_the_welcome(known):
    source = begun(b"x")
    receive(source, part(1, 0, b"a"))
    take_all(source)
    source.lost(1)
    partial, held = parked(source, 1)
    session = make()
    session.push(b"1")
    session.begin(known=Limits() if known else None)
    if known:
        assert numbers_in([session.next_frame()]) == [1]
    session.push_partial(b"x", None, partial, held)
    if not known:
        assert numbers_in([session.next_frame()]) == []
    receive(session, ServerFrame(welcome=Welcome(**(MANY | {"fingerprint": "tiny-2"}))))
    assert numbers_in(frames_out(session)) == ([] if known else [1])
    assert interrupted(session) == [(2, 1)]


def test_what_comes_from_another_lane_is_never_spliced_here():
    source = begun(b"x")
    receive(source, part(1, 0, b"a"))
    take_all(source)
    source.lost(1)
    partial, held = parked(source, 1)
    session = begun(b"1", welcome={"fingerprint": "tiny-2"})
    number = session.push_partial(b"x", None, partial, held)
    assert frames_out(session) == []
    assert interrupted(session) == [(number, 1)]


def test_an_input_is_taken_off_a_lane_between_two_attempts_only():
    session = begun(b"x")
    with pytest.raises(LocalProtocolError, match="between attempts"):
        session.drop(1)


# ------------------------------------------------------------------ drains: M1.20

DRAIN = ServerFrame(drain=Drain(1000))


def leaving(how: str, session: ClientSession) -> None:
    if how == "drain":
        receive(session, DRAIN)
    else:
        assert session.move()


BOTH_WAYS = pytest.mark.parametrize("how", ["drain", "move"])


@BOTH_WAYS
@pytest.mark.parametrize("replay", RESUMABLE)
def test_inputs_that_lack_credit_and_can_go_on_elsewhere_are_not_waited_for(how, replay):
    session = begun(b"x", b"y", welcome={"replay": replay})
    receive(session, part(1, 0, *[b"a"] * 4), part(2, 0, bytes(100)))
    leaving(how, session)
    assert session.state is ClientState.LEFT
    assert numbers_in(again(session, replay=replay)) == [1, 2]


@BOTH_WAYS
def test_an_input_that_may_still_be_answered_is_waited_for(how):
    session = begun(b"x", b"y")
    receive(session, part(1, 0, *[b"a"] * 4), part(2, 0, b"b"))
    leaving(how, session)
    assert session.state is ClientState.DRAINING
    receive(session, part(2, 1, b"c", last=True))
    assert session.state is ClientState.LEFT


@pytest.mark.parametrize(
    ("how", "welcome"),
    [
        ("drain", {"replay": Replay.NEVER}),
        ("drain", {"features": ("coming",)}),
        ("move", {"features": ("coming",)}),
    ],
    ids=str,
)
def test_an_input_that_can_go_on_nowhere_else_is_waited_for(how, welcome):
    session = begun(b"x", welcome=welcome)
    receive(session, part(1, 0, *[b"a"] * 4))
    leaving(how, session)
    assert session.state is ClientState.DRAINING
    receive(session, part(1, 4, last=True))
    assert session.state is ClientState.LEFT


@pytest.mark.parametrize("outputs", [0, 1, 4])
def test_a_server_that_stays_is_not_left_before_what_can_go_on_nowhere_else(outputs):
    """Its reader may stop, and nothing that waits to be sent would be."""
    session = begun(b"x", welcome={"replay": Replay.NEVER})
    if outputs:
        receive(session, part(1, 0, *[b"a"] * outputs))
    assert not session.move()
    session.push(b"y")
    assert numbers_in(frames_out(session)) == [2]
    receive(session, part(1, outputs, last=True), part(2, 0, last=True))
    assert session.move()


@BOTH_WAYS
def test_an_input_without_any_output_is_waited_for(how):
    session = begun(b"x", b"y")
    receive(session, part(1, 0, *[b"a"] * 4))
    leaving(how, session)
    assert session.state is ClientState.DRAINING


def test_a_server_owes_nothing_to_readers_who_stopped():
    session = begun(b"x", b"y", output_items=4)
    receive(session, part(1, 0, *[b"a"] * 4))
    assert session.delivery.full  # which says nothing here
    assert not session.idle
    frames_out(session)
    receive(session, part(2, 0, *[b"a"] * 4))
    assert session.idle
    session.delivery.ack_outputs(2, 4, 4)
    frames_out(session)
    assert not session.idle


def test_a_server_that_answers_in_order_owes_nothing_to_a_reader_who_stopped_at_the_head():
    session = begun(b"x", b"y", ordered=True)
    receive(session, part(1, 0, *[b"a"] * 3))
    assert not session.idle
    receive(session, part(1, 3, b"a"))
    assert session.idle
    receive(session, part(1, 4, last=True))
    assert not session.idle


# ------------------------------------------------------------------ the end: M1.21


def test_the_end_counts_what_was_sent_on_this_attempt_alone():
    session = begun(b"1", b"2", b"3", b"4")
    session.ledger.finish()
    receive(session, part(1, 0, b"a"), part(2, 0, b"b", last=True), part(3, 0, b"c"))
    take_all(session)
    frames = again(session, fingerprint="tiny-2")
    assert numbers_in(frames) == [4]
    assert frames[-1].end.last_number == 4
    assert interrupted(session) == [(1, 1), (3, 1)]
    receive(session, part(4, 0, b"d", b"e", last=True))
    expect_breach(session, ServerFrame(end=ServerEnd(4, 3, 3)), "do not match", 2)
    receive(session, ServerFrame(end=ServerEnd(4, 1, 1)))
    assert session.state is ClientState.ENDED


def test_no_end_goes_before_an_input_that_goes_on():
    session = begun(b"1")
    receive(session, part(1, 0, b"a"))
    take_all(session)
    session.ledger.finish()
    frames = again(session)
    assert [bool(frame.inputs) for frame in frames if frame.inputs or frame.end] == [True]
    receive(session, part(1, 1, b"b", last=True))
    receive(session, ServerFrame(end=ServerEnd(1, 1, 1)))
    assert session.state is ClientState.ENDED


# ------------------------------------------------------------------ the page


def test_the_examples_of_the_page():
    """Section 17: a token stream, and its resume."""
    flow = FlowControl()
    session = ClientSession(stream_id=STREAM_ID, codec=CODEC, flow=flow, ordered=False)
    session.push(b"a story")
    session.begin(known=Limits())
    opened = session.next_frame()
    assert opened.open.features == ("coming", "many", "load", "hedge", "state", "chunks")
    assert opened.open.limits.input_outputs == 256
    assert opened.open.limits.input_bytes == 262144
    assert opened.open.limits.token_bytes == 65536
    assert opened.inputs == (InputRun(1, [b"a story"]),)
    assert opened.credit == Credit(16384, 4194304)
    receive(session, ServerFrame(welcome=Welcome(**MANY, replica="a"), frames_read=1))
    receive(session, part(1, 0, b"Once", b" upon"))
    assert frames_out(session) == []
    two, held = session.ledger.partials[1].resume(), session.delivery.held_of(1)
    assert held == Credit(2, 9)
    receive(session, part(1, 2, b" a"))
    assert frames_out(session) == [
        ClientFrame(frames_read=2, credit=Credit(16387, 4194315), input_credit=[])
    ]
    assert two.digest.hex() == "115d9e8cf9e59edf"

    session = ClientSession(stream_id=STREAM_ID, codec=CODEC, flow=flow, ordered=False)
    open_attempt(session, **MANY)
    session.push(b"a story")
    frames_out(session)
    receive(session, part(1, 0, b"Once", b" upon"))
    session.lost(1)
    session.begin(known=Limits())
    opened = session.next_frame()
    assert (opened.open.first_number, opened.inputs) == (1, ())
    assert opened.credit == Credit(16382, 4194295)
    receive(session, ServerFrame(welcome=Welcome(**MANY, replica="b")))
    (frame,) = frames_out(session)
    run = InputRun(1, [b"a story"], 2, (), Credit(256, 262135), two)
    assert (list(frame.inputs), frame.credit) == ([run], Credit(16384, 4194304))
    receive(session, part(1, 2, b" a", b" time", last=True))
    assert b"".join(each.payload for each in take_all(session)) == b"Once upon a time"


@pytest.mark.parametrize("came", [2, 4])
def test_the_examples_of_the_page_that_continue(came):
    session = ClientSession(stream_id=STREAM_ID, codec=CODEC, flow=FlowControl(), ordered=False)
    welcome = MANY | {"replay": Replay.CONTINUE}
    open_attempt(session, **welcome)
    session.push(b"a story")
    frames_out(session)
    outputs = [b"Once", b" upon", b" a", b" time"]
    receive(session, checkpointed(1, 0, b"Once", checkpoint=b"s1"))
    receive(session, part(1, 1, *outputs[1:came]))
    (run,) = runs_in(again(session, **welcome))
    said = "115d9e8cf9e59edf" if came == 2 else "4af1fd8900f8e07b"
    resume = Resume(bytes.fromhex(said), b"s1", 1, tuple(outputs[1:came]))
    credit = Credit(256, 262135 if came == 2 else 262128)
    assert run == InputRun(1, [b"a story"], came, (), credit, resume)
    receive(session, part(1, came, last=True))
    found = [session.delivery.take() for _ in range(came + 1)]
    assert (found[-1].last, found[-1].payload) == (True, None)


def test_a_digest_that_does_not_match_is_told_at_the_start_index():
    session = begun(b"a story", welcome={"replay": Replay.RESTART})
    receive(session, part(1, 0, b"Once", b" upon"))
    again(session, replay=Replay.RESTART)
    receive(session, error(1, 2, ItemErrorKind.INTERRUPTED))
    assert interrupted(session) == [(1, 2)]
    assert session.ledger.unanswered == 0


def test_parts_are_delivered_as_they_came():
    session = begun(b"x")
    receive(session, part(1, 0, b"a", b"b"), part(1, 2, b"c", last=True))
    assert session.delivery.take_part(9) == Part(1, 0, (b"a", b"b"), last=False)
    assert session.delivery.take_part(9) == Part(1, 2, (b"c",), last=True)


def test_a_checkpoint_that_is_ignored_may_have_any_size_and_another_may_not():
    large = bytes(100)
    for last in (False, True):
        session = begun(b"x", checkpoint_bytes=99, welcome={"replay": Replay.SEEK})
        receive(session, ServerFrame(parts=[OutputPart(1, 0, (b"a",), last, large)]))
        assert session.delivery.held_outputs == 1
        session = begun(b"x", checkpoint_bytes=99, welcome={"replay": Replay.CONTINUE})
        frame = ServerFrame(parts=[OutputPart(1, 0, (b"a",), last, large)])
        expect_breach(session, frame, "a checkpoint of input 1 has 100 bytes, and at most 99")


@pytest.mark.parametrize("again", [part(2, 1, b"b"), part(2, 3, b"b"), part(2, 2, last=True)])
def test_what_comes_for_an_input_that_has_failed_here_before_its_turn_is_a_duplicate(again):
    session = begun(b"x", b"y", ordered=True)
    session.ledger.partial(2, terms_of(session.welcome), 1000).receive([b"a", b"b"])
    session.delivery.fail_here(2, ItemErrorKind.CANCELLED, "cancelled")
    session.receive(1, again)
    assert session.ledger.next_index(2) == 2
    assert session.counters.received == 0


def test_at_the_end_nothing_is_kept_that_would_continue_an_input():
    session = begun(b"x", welcome={"replay": Replay.CONTINUE})
    receive(session, part(1, 0, b"a", b"b"))
    session.ledger.drop_payloads()
    partial = session.ledger.partials[1]
    assert (partial.index, partial.outputs, partial.kept_bytes) == (2, [], 0)


def test_where_inputs_have_no_credit_of_their_own_a_drain_looks_at_none_of_them(monkeypatch):
    session = begun(b"x", b"y", welcome={"features": ("coming",)})
    session.receive(1, ServerFrame(drain=Drain(1000)))
    monkeypatch.setattr(InFlight, "__iter__", None)
    assert not session.attempt.may_leave


def test_an_input_that_came_in_part_before_its_turn_goes_on_after_a_cut():
    session = streaming(b"1", b"2", welcome=MANY)
    session.lost(1)
    session.quarantine([1], in_part=True)
    open_attempt(session, **MANY)
    frames_out(session)
    session.receive(2, part(2, 0, b"A", b"B"))
    session.lost(2)
    open_attempt(session, **MANY)
    frames = frames_out(session)
    assert [run.first_start_index for run in frames[-1].inputs] == [2]
    session.receive(3, part(2, 2, b"C", last=True))
    session.delivery.resolve_part(Part(1, 0, [b"X"], last=True))
    assert [(d.number, d.payload) for d in take_all(session)] == [
        (1, b"X"),
        (2, b"A"),
        (2, b"B"),
        (2, b"C"),
    ]
