"""What a stateful stream's client keeps and adopts, and what a server may not send."""

from dataclasses import replace

import pytest

from servestream_client.config import FlowControl, Watchdog
from servestream_client.cursor import CursorState
from servestream_client.errors import ItemErrorKind, LocalProtocolError, RemoteProtocolError
from servestream_client.protocol.client import ClientSession
from servestream_client.protocol.client.fold import Fold
from servestream_client.protocol.continuation import NO_OUTPUTS
from servestream_client.protocol.frames import (
    CodecId,
    Drain,
    HandlerKind,
    ItemFailure,
    Limits,
    OutputRun,
    Position,
    RefusalKind,
    Refused,
    ServerFrame,
    StateToken,
    StreamErrorKind,
    Welcome,
)
from servestream_client.protocol.state import FEATURE, KEPT_WINDOWS, chained, outputs_digest
from servestream_client.protocol.states import ClientState

WELCOME = Welcome(handler_kind=HandlerKind.STATEFUL, features=(FEATURE,))


def opened(client: ClientSession, welcome: Welcome = WELCOME) -> int:
    attempt = client.begin().number
    client.next_frame()
    client.receive(attempt, ServerFrame(welcome=welcome))
    return attempt


@pytest.fixture
def client() -> ClientSession:
    client = ClientSession(stream_id=bytes(16), codec=CodecId("bytes"), flow=FlowControl())
    attempt = opened(client)
    for payload in (b"a", b"bb", b"ccc", b"dddd"):
        client.push(payload)
    client.next_frame()
    client.receive(attempt, ServerFrame(outputs=[OutputRun(1, [b"A", b"B", b"C"])]))
    return client


def token(number: int, digest: bytes = b"") -> ServerFrame:
    return ServerFrame(tokens=[StateToken(number, b"state", digest)])


def kept(client: ClientSession) -> list[int]:
    return [n for run in client.ledger.fold.kept for n in range(run.first, run.last + 1)]


def test_what_no_state_covers_is_kept_and_counts(client):
    fold, attempt = client.ledger.fold, client.attempt.fold
    assert (kept(client), fold.size) == ([1, 2, 3], 6)
    assert (attempt.items, attempt.bytes) == (4, 10)
    client.receive(1, token(2))
    assert (kept(client), fold.size) == ([3], 3)
    assert (attempt.items, attempt.bytes) == (2, 7)
    assert client.attempt.progressed
    assert client.counters.tokens == 1
    client.receive(1, token(1))  # which is no news
    assert fold.token.number == 2


def test_the_next_attempt_begins_behind_the_state(client):
    client.receive(1, token(1))
    client.lost(1)
    client.begin()
    first = client.next_frame()
    assert first.open.token == StateToken(1, b"state")
    assert (first.open.first_number, first.open.emit_from) == (2, Position(4))
    digests = [outputs_digest((output,)) for output in (b"B", b"C")]
    assert first.open.emit_digest == chained(NO_OUTPUTS, digests)
    assert not first.inputs
    client.receive(2, ServerFrame(welcome=WELCOME))
    (run,) = client.next_frame().inputs
    assert (run.first_number, run.payloads) == (2, [b"bb", b"ccc", b"dddd"])


def test_what_is_sent_again_needs_no_place_among_the_unanswered(client):
    client.lost(1)
    opened(client, replace(WELCOME, limits=Limits(window_items=1)))
    (run,) = client.next_frame().inputs
    assert run.payloads == [b"a", b"bb", b"ccc", b"dddd"]  # of which the last one lacks its answer


def test_what_failed_is_not_sent_again(client):
    client.receive(1, ServerFrame(errors=[ItemFailure(4, ItemErrorKind.HANDLER)]))
    assert client.attempt.fold.items == 3
    client.lost(1)
    client.push(b"e")
    client.begin()
    client.next_frame()
    client.receive(2, ServerFrame(welcome=WELCOME))
    assert [run.first_number for run in client.next_frame().inputs] == [1, 5]


@pytest.mark.parametrize("last", [token(4), ServerFrame(no_token="it is being made")])
def test_it_leaves_once_it_has_the_last_state_or_there_is_none(client, last):
    client.receive(1, ServerFrame(drain=Drain(1000), outputs=[OutputRun(4, [b"D"])]))
    assert client.state is ClientState.DRAINING
    client.receive(1, last)
    assert client.state is ClientState.LEFT


@pytest.mark.parametrize(
    ("frame", "text"),
    [
        (token(4), "3 is the last that was answered"),
        (token(9), "was not sent on this attempt"),
    ],
)
def test_a_state_cannot_be_of_what_is_not_answered(client, frame, text):
    with pytest.raises(RemoteProtocolError, match=text):
        client.receive(1, frame)


class TestInSilence:
    """The second attempt: inputs 1 to 3 are computed again."""

    @pytest.fixture
    def again(self, client):
        client.lost(1)
        opened(client)
        client.next_frame()
        return client

    def test_nothing_of_it_may_come(self, again):
        with pytest.raises(RemoteProtocolError, match="from where on they are missing"):
            again.receive(2, ServerFrame(outputs=[OutputRun(2, [b"B"])]))

    def test_a_state_needs_its_digest(self, again):
        with pytest.raises(RemoteProtocolError, match="without a digest"):
            again.receive(2, token(2))

    def test_and_is_adopted_if_it_is_right(self, again):
        digests = [outputs_digest((output,)) for output in (b"A", b"B")]
        again.receive(2, token(2, chained(NO_OUTPUTS, digests)))
        again.receive(2, token(3, outputs_digest_of(b"C")))
        assert kept(again) == []

    def test_and_ends_the_stream_if_not(self, again):
        again.receive(2, token(2, outputs_digest_of(b"A")))
        assert again.state is ClientState.FAILED
        assert again.failure.kind is StreamErrorKind.STATE
        assert again.ledger.fold.token is None

    def test_what_is_sent_again_counts_once_in_the_end(self, again):
        again.ledger.finish()
        assert again.attempt.in_flight.sent == 4
        assert again.attempt.in_flight.items == 1


def outputs_digest_of(output: bytes) -> bytes:
    return chained(NO_OUTPUTS, [outputs_digest((output,))])


@pytest.mark.parametrize(
    "kinds", [(HandlerKind.STATEFUL, HandlerKind.BATCH), (HandlerKind.BATCH, HandlerKind.STATEFUL)]
)
def test_a_stream_does_not_go_on_without_its_state_or_get_one(kinds):
    client = ClientSession(stream_id=bytes(16), codec=CodecId("bytes"), flow=FlowControl())
    opened(client, Welcome(handler_kind=kinds[0], features=(FEATURE,)))
    client.lost(1)
    opened(client, Welcome(handler_kind=kinds[1], features=(FEATURE,)))
    assert client.state is ClientState.REFUSED
    assert client.refusal.kind is RefusalKind.TOKEN


def test_a_state_is_asked_for_once_where_it_frees_most_of_a_full_window():
    """Earlier it would free little, and be asked for again at once: each costs its bytes."""
    flow = FlowControl(window_bytes=4)
    client = ClientSession(stream_id=bytes(16), codec=CodecId("bytes"), flow=flow)
    attempt = opened(client)
    client.push_all([b"a", b"b", b"c", b"d"], [None] * 4, 4)
    assert not client.next_frame().want_token
    client.receive(attempt, ServerFrame(outputs=[OutputRun(1, [b"A", b"B"])]))
    assert client.next_frame() is None
    client.receive(attempt, ServerFrame(outputs=[OutputRun(3, [b"C"])]))
    assert client.next_frame().want_token
    assert client.next_frame() is None
    client.receive(
        attempt, ServerFrame(outputs=[OutputRun(4, [b"D"])], tokens=[StateToken(1, b"s")])
    )
    frame = client.next_frame()
    assert frame is None or not frame.want_token


def test_it_is_asked_for_once_so_many_windows_are_answered():
    client = ClientSession(
        stream_id=bytes(16), codec=CodecId("bytes"), flow=FlowControl(window_items=2)
    )
    attempt, asked = opened(client), []
    for number in range(1, 2 * KEPT_WINDOWS + 1):
        assert client.ledger.has_place
        client.push(b"a")
        if client.next_frame().want_token:
            asked.append(number)
        answer = OutputRun(number, [b"A"])
        client.receive(attempt, ServerFrame(outputs=[answer], frames_read=number))
        client.delivery.ack_consumed(client.delivery.take_run(1))
        assert client.next_frame() is None
    assert not client.ledger.has_place
    assert asked == [2 * KEPT_WINDOWS]


def test_it_is_asked_for_where_nothing_else_makes_room():
    """However little is answered: the next input is too large for what is left."""
    flow = FlowControl(window_bytes=100)
    client = ClientSession(stream_id=bytes(16), codec=CodecId("bytes"), flow=flow)
    attempt = opened(client)
    client.push(bytes(20))
    client.next_frame()
    assert not client.ledger.fits(90)
    client.receive(attempt, ServerFrame(outputs=[OutputRun(1, [b"A"])]))
    assert client.next_frame().want_token


def test_it_asks_for_the_last_state_before_it_moves_also_while_one_is_on_its_way(client):
    client.attempt.fold._asked = True  # for input 3
    client.move()
    client.receive(1, ServerFrame(outputs=[OutputRun(4, [b"D"])]))
    client.receive(1, token(3))
    assert client.state is ClientState.DRAINING
    assert client.next_frame().want_token
    client.receive(1, token(4))
    assert client.state is ClientState.LEFT


def test_what_was_asked_for_is_asked_for_again_with_a_heartbeat():
    """The question may be lost on the way, or what came of it."""
    client = ClientSession(
        stream_id=bytes(16),
        codec=CodecId("bytes"),
        flow=FlowControl(window_bytes=1),
        watchdog=Watchdog(heartbeat_interval=1.0),
    )
    opened(client, replace(WELCOME, heartbeat_interval_ms=1000))
    client.push(b"a")
    client.next_frame()
    client.receive(1, ServerFrame(outputs=[OutputRun(1, [b"A"])]))
    assert client.next_frame().want_token
    client.attempt.tick()
    client.attempt.tick()
    assert client.next_frame().want_token


def test_refusals_count_in_a_row():
    client = ClientSession(stream_id=bytes(16), codec=CodecId("bytes"), flow=FlowControl())
    for wanted in (1, 2, 0, 1):
        attempt = client.begin().number
        client.next_frame()
        refused = ServerFrame(refused=Refused(RefusalKind.TOKEN))
        client.receive(attempt, refused if wanted else ServerFrame(welcome=WELCOME))
        assert client.counters.token_refusals == wanted
        client.lost(attempt)


def test_a_fold_of_nothing_is_at_its_beginning():
    fold = Fold()
    assert (fold.first_number, len(fold), fold.digest(None)) == (1, 0, NO_OUTPUTS)


# ------------------------------------------------------------------ cursors


def tracked(position: int = 0, begun: CursorState | None = None) -> ClientSession:
    return ClientSession(
        stream_id=bytes(16),
        codec=CodecId("bytes"),
        flow=FlowControl(),
        tracked=True,
        position=position,
        begun=begun,
    )


def test_a_cursor_has_the_newest_state_behind_what_its_consumer_is_done_with():
    client = tracked()
    attempt = opened(client)
    client.push_all([b"a", b"b", b"c", b"d"], [None] * 4, 4)
    client.next_frame()
    client.receive(attempt, ServerFrame(outputs=[OutputRun(1, [b"A", b"B"])]))
    client.receive(
        attempt,
        ServerFrame(tokens=[StateToken(1, b"s1"), StateToken(2, b"s2")]),
    )
    failure = ItemFailure(3, ItemErrorKind.HANDLER)
    client.receive(attempt, ServerFrame(errors=[failure], outputs=[OutputRun(4, [b"D"])]))
    client.receive(attempt, ServerFrame(tokens=[StateToken(4, b"s4")]))
    assert client.state_at(0) is None
    assert client.state_at(1) == CursorState(bytes(16), 1, 1, b"s1")
    assert client.state_at(2) == CursorState(bytes(16), 1, 2, b"s2")
    assert client.state_at(3) == CursorState(bytes(16), 1, 2, b"s2", failed=((3, 3),))
    assert client.state_at(4) == CursorState(bytes(16), 1, 4, b"s4")


def test_before_the_first_state_it_has_the_digests_of_all():
    client = tracked()
    attempt = opened(client)
    client.push_all([b"a", b"b"], [None] * 2, 2)
    client.next_frame()
    client.receive(attempt, ServerFrame(outputs=[OutputRun(1, [b"A", b"B"])]))
    digests = [outputs_digest([each]) for each in (b"A", b"B")]
    assert client.state_at(1) == CursorState(bytes(16), 1, 0, b"", digests=digests[0])
    assert client.state_at(2) == CursorState(bytes(16), 1, 0, b"", digests=b"".join(digests))


def test_with_a_cursor_it_opens_as_if_it_had_been_there_all_the_time():
    """As in docs/protocol.md, section 17."""
    six = outputs_digest([b"6"])
    assert six.hex() == "51ff01032f0e4436"
    client = tracked(3, CursorState(bytes(16), 1, 2, b"t2", digests=six))
    client.begin()
    opening = client.next_frame().open
    assert (opening.attempt, opening.first_number) == (65_537, 3)
    assert (opening.token, opening.emit_from) == (StateToken(2, b"t2"), Position(4))
    assert opening.emit_digest.hex() == "ded5713610cc573d"
    client.receive(65_537, ServerFrame(welcome=WELCOME))
    client.restore(3, b"3")
    assert client.push(b"4") == 4
    client.ledger.finish()
    frame = client.next_frame()
    assert [(run.first_number, list(run.payloads)) for run in frame.inputs] == [(3, [b"3", b"4"])]
    assert frame.end.last_number == 4
    with pytest.raises(RemoteProtocolError, match="an output before output 0 of input 4"):
        client.receive(65_537, ServerFrame(outputs=[OutputRun(3, [b"6"])]))


def test_only_what_it_lacks_is_restored_and_in_its_order():
    client = tracked(3, CursorState(bytes(16), 1, 1, b"t", failed=((2, 2),), digests=bytes(8)))
    with pytest.raises(LocalProtocolError, match="input 2 is restored, and 3 is the next one"):
        client.restore(2, b"x")


def test_the_highest_attempt_has_room_for_others():
    client = tracked(1, CursorState(bytes(16), 2**32 - 3, 1, b"t"))
    assert client.begin().number < 2**32 - 2**15


def test_inputs_that_failed_before_the_first_welcome_are_no_gap():
    client = tracked()
    for _ in range(2):
        client.push_failure(ItemErrorKind.INPUT_ENCODE, "no")
        client.delivery.take()
    client.push(b"c")
    assert opened(client) == 1
    client.next_frame()
    state = client.state_at(2)
    assert state == CursorState(bytes(16), 1, 0, b"", failed=((1, 2),))
    assert not state.begun
    client.lost(1)
    client.begin()
    assert client.next_frame().open.first_number == 1  # by the state, of which there is none


@pytest.mark.parametrize("kind", [HandlerKind.STATEFUL, HandlerKind.ONE_TO_ONE])
def test_a_cursor_of_nothing_but_failures_goes_on_anywhere(kind):
    client = tracked(2, CursorState(bytes(16), 0, 0, b"", failed=((1, 2),)))
    client.push(b"c")
    attempt = client.begin().number
    opening = client.next_frame().open
    assert (opening.first_number, opening.token, opening.emit_from) == (3, None, None)
    client.receive(attempt, ServerFrame(welcome=replace(WELCOME, handler_kind=kind)))
    assert client.carried.stateful is (kind is HandlerKind.STATEFUL)
    (run,) = client.next_frame().inputs
    assert (run.first_number, list(run.payloads)) == (3, [b"c"])


def test_what_is_to_be_restored_has_its_place_in_the_window():
    flow = FlowControl(window_items=2)
    answered = 2 * KEPT_WINDOWS - 1
    state = CursorState(bytes(16), 1, 1, b"t", digests=bytes(8 * answered))
    client = ClientSession(
        stream_id=bytes(16),
        codec=CodecId("bytes"),
        flow=flow,
        tracked=True,
        position=1 + answered,
        begun=state,
    )
    client.push(b"c")
    assert not client.ledger.has_place
    assert client.ledger.room[0] == 0
