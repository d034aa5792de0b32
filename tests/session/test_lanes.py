"""The doors of a stream: what is done through them is told in the same call."""

import ast
from pathlib import Path

import pytest

import servestream_client.session
from servestream_client import FlowControl, ItemErrorKind
from servestream_client.protocol.client import ClientSession
from servestream_client.protocol.frames import (
    CodecId,
    ItemFailure,
    OutputPart,
    OutputRun,
    ServerFrame,
    Welcome,
)
from servestream_client.session.lanes import Inlet, Outlet, Quarantine

FIRST = b"1"


class Stream:
    """A session that was welcomed, its doors, and what these have told."""

    def __init__(self, *, ordered: bool = False) -> None:
        self.session = ClientSession(
            stream_id=bytes(16), codec=CodecId("bytes"), flow=FlowControl(), ordered=ordered
        )
        self.inlet = Inlet(self.session, self)
        self.outlet = Outlet(self.session, self)
        self.quarantine = Quarantine(self.session, self)
        self.finished = False
        self._told: list[str] = []
        self._attempt = self.begin()

    def begin(self) -> int:
        attempt = self.session.begin().number
        self.session.next_frame()
        self.session.receive(attempt, ServerFrame(welcome=Welcome()))
        return attempt

    def breaks(self) -> None:
        self.session.lost(self._attempt)

    def answer(self, *runs: OutputRun, parts: tuple[OutputPart, ...] = ()) -> None:
        while self.session.next_frame() is not None:
            pass
        self.session.receive(self._attempt, ServerFrame(outputs=list(runs), parts=list(parts)))

    def fail(self, number: int) -> None:
        failure = ItemFailure(number, ItemErrorKind.HANDLER, "no")
        self.session.receive(self._attempt, ServerFrame(errors=[failure]))

    @property
    def told(self) -> list[str]:
        """What was told since this was last looked at."""
        told, self._told = self._told, []
        return told

    def wake_writer(self) -> None:
        self._told.append("write")

    async def flush(self) -> None:
        self._told.append("flush")

    def notify(self) -> None:
        self._told.append("take")

    def capacity_changed(self) -> None:
        self._told.append("room")


# ---------------------------------------------------------------- in

PUSHES = {
    "push": lambda inlet: inlet.push(b"x"),
    "push_all": lambda inlet: inlet.push_all([b"x", b"y"], [None, None], 2),
    "push_at": lambda inlet: inlet.push_at(7, b"x"),
}


@pytest.mark.parametrize("push", PUSHES)
def test_what_is_pushed_wakes_the_writer(push):
    stream = Stream()
    PUSHES[push](stream.inlet)
    assert stream.session.ledger.unanswered
    assert stream.told == ["write"]
    assert not stream.inlet.may_push_at(1) or push != "push_at"


def test_what_ends_the_inputs_wakes_the_writer():
    stream = Stream()
    stream.inlet.finish()
    assert stream.session.ledger.complete
    assert stream.told == ["write"]


def test_an_input_that_cannot_be_sent_is_told_to_both():
    stream = Stream()
    stream.inlet.push_failure(ItemErrorKind.INPUT_ENCODE, "no", "item", None, size=4)
    assert stream.session.delivery.ready
    assert stream.told == ["take", "write"]


async def test_what_somebody_waits_for_is_sent_by_who_pushes_it():
    stream = Stream()
    sending = stream.inlet.push_eagerly([b"x"], [None], 1)
    assert stream.told == []
    await sending
    assert stream.told == ["flush"]


def test_what_is_pushed_beside_others_wakes_the_writer():
    stream = Stream()
    stream.inlet.push(FIRST)
    assert stream.told == ["write"]
    assert stream.inlet.push_eagerly([b"x"], [None], 1) is None
    assert stream.told == ["write"]


def test_a_cancel_wakes_the_writer():
    stream = pushed(1)
    stream.answer()
    stream.inlet.cancel(1)
    assert stream.session.ledger.is_cancelled(1)
    assert stream.told == ["write"]


def test_what_is_withdrawn_goes_on_no_attempt():
    stream = Stream()
    stream.inlet.push(FIRST)
    stream.breaks()
    stream.inlet.drop(1)
    assert stream.session.ledger.unanswered == 0
    assert stream.outlet.next(10) is None


# ---------------------------------------------------------------- out


def outputs(count: int, first: int = 1) -> OutputRun:
    return OutputRun(first, [b"%d" % number for number in range(first, first + count)])


def pushed(count: int, *, ordered: bool = False) -> Stream:
    stream = Stream(ordered=ordered)
    stream.inlet.push_all([b"x"] * count, [None] * count, count)
    assert stream.told == ["write"]
    return stream


def test_a_run_is_held_until_it_is_released():
    stream = pushed(5)
    stream.answer(outputs(5))
    run = stream.outlet.next(3)
    assert list(run.payloads) == [b"1", b"2", b"3"]
    assert stream.told == []
    stream.outlet.ack_consumed(run)
    assert stream.told == ["room"]
    assert stream.session.ledger.taken_through == 3


def test_what_is_only_counted_is_told_with_the_next_release():
    stream = pushed(2)
    stream.answer(outputs(2))
    stream.outlet.count(stream.outlet.next(10))
    assert stream.session.ledger.taken_through == 2
    assert stream.told == []
    stream.outlet.ack_consumed(OutputRun(3, []))
    assert stream.told == ["room"]


def test_what_comes_by_itself_is_taken_at_once():
    stream = pushed(1)
    stream.answer()
    stream.fail(1)
    assert stream.outlet.next(10).failure.text == "no"
    assert stream.told == ["room"]
    assert stream.outlet.next(10) is None
    assert stream.told == []


def mixed() -> Stream:
    """Five answers, of which the third is a failure."""
    stream = pushed(5, ordered=True)
    stream.answer(outputs(2))
    stream.fail(3)
    stream.answer(outputs(2, first=4))
    return stream


def test_all_there_is_is_delivered_in_order_and_told_once():
    stream, seen = mixed(), []

    def run(run: OutputRun) -> None:
        seen.extend(enumerate(run.payloads, run.first_number))

    assert stream.outlet.deliver(lambda other: seen.append((other.number, None)), run)
    assert seen == [(1, b"1"), (2, b"2"), (3, None), (4, b"4"), (5, b"5")]
    assert stream.told == ["room"]
    assert stream.session.ledger.taken_through == 5


def test_who_wants_no_runs_gets_each_by_itself():
    stream, seen = mixed(), []
    assert stream.outlet.deliver(seen.append)
    assert [delivery.number for delivery in seen] == [1, 2, 3, 4, 5]
    assert stream.told == ["room"]


def test_where_there_is_nothing_nothing_is_told():
    stream = pushed(1)
    assert not stream.outlet.deliver(pytest.fail, pytest.fail)
    assert stream.told == []


def test_a_stream_that_has_ended_wants_no_room():
    stream = mixed()
    stream.finished = True
    assert stream.outlet.deliver(lambda _: None)
    assert stream.told == []


# ---------------------------------------------------------------- aside


def test_what_is_answered_elsewhere_is_told_to_both():
    stream = pushed(3)
    assert stream.quarantine.allowed
    stream.answer()
    stream.breaks()
    assert stream.quarantine.enter([2, 9]) == [2]
    assert stream.quarantine.payload(2) == b"x"
    assert stream.quarantine.can_buffer(2, 0)
    stream.quarantine.resolve(2, b"two", None)
    assert stream.told == ["write", "take"]
    assert list(stream.outlet.next(10).payloads) == [b"two"]


def test_who_leaves_quarantine_as_a_failure_keeps_its_number():
    stream = pushed(2)
    stream.answer()
    stream.breaks()
    stream.quarantine.enter([1])
    stream.quarantine.resolve(1, None, ItemFailure(77, ItemErrorKind.POISON, "it kills"))
    assert stream.outlet.next(10).failure.number == 1


# ---------------------------------------------------------------- nowhere else

DOORS = {"lanes.py", "driver.py", "attempt.py", "exchange.py"}
"""Where a session is changed: the doors, and what carries its frames."""

LOOKED_AT = {
    *("ledger", "counters", "welcome", "stream_id", "state", "refusal", "failure", "watchdog"),
    *(
        "awaited",
        "idle",
        "carried",
        "before",
        "progressed",
        "superseded",
        "blamed",
        "late_chunks",
        "suspects",
        "waits_for_state",
        "ordered",
    ),
    *("application", "flow", "finished", "load", "done"),
    *("accepted", "unanswered", "unsent", "sent_through", "taken_through", "complete", "fits"),
}
"""What everybody may look at, of a session and its ledger."""


def used_of_sessions(path: Path) -> set[str]:
    """The attributes of anything called a session, or its ledger, of a module."""
    used = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Attribute):
            owner = node.value
            name = owner.attr if isinstance(owner, ast.Attribute) else getattr(owner, "id", "")
            if name in {"session", "_session", "ledger", "_ledger"}:
                used.add(node.attr)
    return used


def test_nobody_changes_a_session_beside_its_doors():
    rooms = Path(servestream_client.session.__file__).parent
    changed = {
        path.name: used_of_sessions(path) - LOOKED_AT
        for path in rooms.glob("*.py")
        if path.name not in DOORS
    }
    assert {name: used for name, used in changed.items() if used} == {}
    assert "push" in used_of_sessions(rooms / "lanes.py")  # that it finds what there is
