"""What hooks hear: each event in the stream's context, whoever caused it and whoever fails."""

import contextvars
import logging

import pytest
from noting import Noting

from servestream_client import Hooks, ItemErrorKind
from servestream_client.errors import ClientClosedError, StreamError
from servestream_client.events import (
    AttemptEnded,
    AttemptOutcome,
    AttemptStarted,
    AttemptWelcomed,
    ItemFailed,
    ServerDraining,
    StreamStatistics,
)
from servestream_client.protocol.frames import ItemFailure, Welcome
from servestream_client.session.announcer import Announcer

STREAM = "ab" * 16
NOTHING = StreamStatistics(**dict.fromkeys(StreamStatistics.__annotations__, 0))
WHOSE = contextvars.ContextVar("WHOSE", default="nobody's")


class Asking(Noting):
    """Notes in whose context it is told, and adds metadata of its own."""

    def __init__(self, *metadata: tuple[str, str]) -> None:
        super().__init__()
        self.whose: list[str] = []
        self._metadata = metadata

    def on_event(self, event, /) -> None:
        super().on_event(event)
        self.whose.append(WHOSE.get())
        WHOSE.set("a hook's")  # which is nobody else's

    def metadata(self, attempt, /):
        self.whose.append(WHOSE.get())
        return self._metadata


class Failing(Hooks):
    def on_event(self, event, /) -> None:
        raise ValueError("no")

    def metadata(self, attempt, /):
        raise ValueError("no")


def of(whose: str) -> contextvars.Context:
    context = contextvars.copy_context()
    context.run(WHOSE.set, whose)
    return context


def test_a_drain_is_told_once_an_attempt_however_often_it_is_said():
    noting = Noting()
    announcer = Announcer(STREAM, [noting])
    for attempt in (1, 2):
        announcer.attempt_started(attempt, "here:1")
        announcer.attempt_drains(1500)
        announcer.attempt_drains(1000)
    drains = noting.of(ServerDraining)
    assert [(event.attempt, event.grace) for event in drains] == [(1, 1.5), (2, 1.5)]


def test_what_is_told_belongs_to_the_attempt_at_hand():
    noting = Noting()
    announcer = Announcer(STREAM, [noting])
    for attempt in (1, 2):
        announcer.attempt_started(attempt, "here:1")
        announcer.attempt_welcomed(Welcome(replica="r"))
        announcer.attempt_ended(AttemptOutcome.BROKEN, "it died", "UNAVAILABLE")
    announcer.item_failed(ItemFailure(7, ItemErrorKind.HANDLER, "no"))
    assert [event.attempt for event in noting.of(AttemptStarted)] == [1, 2]
    welcomes = noting.of(AttemptWelcomed)
    assert [(event.attempt, event.resumed) for event in welcomes] == [(1, False), (2, True)]
    assert [event.attempt for event in noting.of(AttemptEnded)] == [1, 2]
    assert [event.number for event in noting.of(ItemFailed)] == [7]
    assert {event.stream_id for event in noting.events} == {STREAM}


def test_hooks_run_in_the_streams_context_whoever_caused_the_event():
    asking = Asking()
    announcer = Announcer(STREAM, [asking])
    stream, consumer = of("the stream's"), of("a consumer's")
    announcer.belongs_to(stream)
    consumer.run(announcer.attempt_started, 1, "here:1")
    consumer.run(announcer.attempt_drains, 1000)
    assert set(asking.whose) == {"the stream's"}
    assert consumer[WHOSE] == "a consumer's"
    assert stream[WHOSE] == "the stream's"


def test_they_may_be_caused_from_within_that_context():
    """By the stream's own task: one context cannot be entered twice."""
    asking = Asking()
    announcer = Announcer(STREAM, [asking])
    stream = of("the stream's")
    announcer.belongs_to(stream)
    stream.run(announcer.attempt_drains, 1000)
    stream.run(announcer.attempt_started, 1, "here:1")
    assert len(asking.whose) == 2


def test_a_hook_that_fails_costs_the_others_neither_events_nor_metadata(caplog):
    first, last = Asking(("x-first", "1")), Asking(("x-last", "2"))
    announcer = Announcer(STREAM, [first, Failing(), last])
    assert announcer.attempt_started(1, "here:1") == [("x-first", "1"), ("x-last", "2")]
    assert len(first.events) == len(last.events) == 1
    assert [record.levelname for record in caplog.records] == ["ERROR", "ERROR"]


@pytest.mark.parametrize(
    ("tell", "level"),
    [
        (lambda told: told.attempt_started(1, "here:1"), logging.DEBUG),
        (lambda told: told.attempt_drains(1), logging.INFO),
        (lambda told: told.item_failed(ItemFailure(1, ItemErrorKind.POISON, "")), logging.WARNING),
        (lambda told: told.item_failed(ItemFailure(1, ItemErrorKind.HANDLER, "")), logging.DEBUG),
        (lambda told: told.stream_ended(None, NOTHING), logging.DEBUG),
        (lambda told: told.stream_ended(StreamError("no"), NOTHING), logging.INFO),
        (
            lambda told: told.stream_ended(ClientClosedError("no"), NOTHING),
            logging.DEBUG,
        ),
    ],
)
def test_the_log_hears_it_at_its_level(tell, level, caplog):
    announcer = Announcer(STREAM)
    announcer._attempt = 1
    with caplog.at_level(logging.DEBUG, "servestream_client"):
        tell(announcer)
    assert [record.levelno for record in caplog.records] == [level]
