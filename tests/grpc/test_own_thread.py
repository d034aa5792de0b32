"""Blocking clients in the thread of the event loop that they share, where nothing may wait: a hook
runs there, and a finaliser may, as it may in the midst of any call.
"""

import gc
import threading

import pytest
from noting import Noting

from servestream_client import ClientClosedError, SyncStreamClient, WrongEventLoopError
from servestream_client.portal import crossing
from servestream_client.testing import Echo, Fault, FaultKind, StreamServer

BOUND = 30


@pytest.fixture
def target():
    with StreamServer(Echo) as server:
        yield server.target


class Calling(Noting):
    """Makes a call from within the first event, and keeps what comes of it."""

    def __init__(self, call) -> None:
        super().__init__()
        self.call = call
        self.outcome = None
        self.thread = ""

    def on_event(self, event, /) -> None:
        super().on_event(event)
        if self.outcome is None:
            self.thread = threading.current_thread().name
            try:
                self.outcome = self.call()
            except Exception as error:
                self.outcome = error


def bounded(func):
    """Call it in a thread that nobody waits for, should it hang."""
    outcome = []
    thread = threading.Thread(target=lambda: outcome.append(func()), daemon=True)
    thread.start()
    thread.join(BOUND)
    assert not thread.is_alive(), "it hangs"
    return outcome[0]


@pytest.mark.parametrize("whose", ["own", "another's", "another's, unused"])
@pytest.mark.parametrize("call", ["predict", "iterate"])
def test_what_would_wait_there_is_refused(target, call, whose):
    other = SyncStreamClient(target)
    if whose == "another's":
        other.predict(b"x")

    def use():
        used = client if whose == "own" else other
        return used.predict(b"x") if call == "predict" else list(used.stream([b"x"]))

    hook = Calling(use)
    client = SyncStreamClient(target, hooks=[hook])
    assert bounded(lambda: list(client.stream([b"1", b"2"]))) == [b"1", b"2"]
    assert isinstance(hook.outcome, WrongEventLoopError), hook.outcome
    assert "make such calls in another thread" in str(hook.outcome)
    assert bounded(lambda: client.predict(b"x")) == b"x", "all go on"
    assert bounded(lambda: other.predict(b"x")) == b"x"
    client.close()
    other.close()


@pytest.mark.parametrize("whose", ["own", "another's", "another's, unused"])
def test_a_client_closed_there_is_given_back(target, whose):
    other = SyncStreamClient(target)
    if whose == "another's":
        other.predict(b"x")
    with SyncStreamClient(target) as third:
        third.predict(b"x")
        clients = [other]
        hook = Calling(lambda: [each.close() for each in clients[-1:]])
        client = SyncStreamClient(target, hooks=[hook])
        if whose == "own":
            clients.append(client)
            with pytest.raises(ClientClosedError):
                bounded_raising(lambda: list(client.stream([b"1", b"2"])))
        else:
            assert bounded(lambda: list(client.stream([b"1", b"2"]))) == [b"1", b"2"]
            with pytest.raises(ClientClosedError):
                other.predict(b"x")
        assert hook.thread.startswith("asyncio-portal")
        assert bounded(lambda: third.predict(b"x")) == b"x", "nobody else hears of it"
        client.close()


def bounded_raising(func):
    def kept():
        try:
            return func()
        except Exception as error:
            return error

    outcome = bounded(kept)
    if isinstance(outcome, Exception):
        raise outcome
    return outcome


def test_the_last_client_may_be_closed_there(target):
    clients = []
    hook = Calling(lambda: [each.close() for each in clients])
    client = SyncStreamClient(target, hooks=[hook])
    clients.append(client)
    with pytest.raises(ClientClosedError):
        bounded_raising(lambda: list(client.stream([b"1", b"2"])))
    for thread in threading.enumerate():
        if thread.name == hook.thread:
            thread.join(BOUND)
            assert not thread.is_alive(), "the loop's thread ends"


def test_a_stream_can_be_closed_and_counted_there(target):
    with SyncStreamClient(target) as other:
        stream = other.stream(b"%d" % number for number in range(100_000))
        assert next(stream) == b"0"

        def count_and_close():
            counted = stream.statistics()
            stream.close()
            return counted

        hook = Calling(count_and_close)
        with SyncStreamClient(target, hooks=[hook]) as client:
            assert bounded(lambda: list(client.stream([b"1"]))) == [b"1"]
        assert hook.outcome.taken_through == 1
        assert bounded(lambda: list(stream)) == [], "closed, and what was not taken is dropped"
        assert stream.statistics().accepted < 100_000


def test_a_finaliser_that_closes_a_client_may_run_there(target):
    class Owner:
        def __init__(self):
            self.client = SyncStreamClient(target)
            self.client.predict(b"x")
            self.itself = self

        def __del__(self):
            self.client.close()
            closed.append(threading.current_thread().name)

    closed = []
    gc.disable()
    try:
        Owner()
        hook = Calling(gc.collect)
        with SyncStreamClient(target, hooks=[hook]) as client:
            assert bounded(lambda: list(client.stream([b"1"]))) == [b"1"]
            assert closed[0].startswith("asyncio-portal")
            assert bounded(lambda: client.predict(b"x")) == b"x"
    finally:
        gc.enable()


def test_a_close_in_the_midst_of_a_call_waits_for_nothing(target):
    """As by a finaliser, in a thread that holds a lock which the loop needs."""
    with SyncStreamClient(target) as client, SyncStreamClient(target) as other:
        other.predict(b"x")
        stream = other.stream(b"%d" % number for number in range(100_000))
        next(stream)
        lock = threading.Lock()

        async def needs_the_lock():
            with lock:
                return

        client.predict(b"x")
        with lock:
            portal = client._portal._hold.portal
            waiting = portal.start_task_soon(needs_the_lock)

            def finalise():
                with crossing():
                    stream.close()
                    other.close()

            bounded(finalise)
        waiting.result(BOUND)
        assert bounded(lambda: client.predict(b"x")) == b"x"
        with pytest.raises(ClientClosedError):
            other.predict(b"x")


def test_after_a_resume_a_hook_may_still_count(target):
    seen = []
    with StreamServer(Echo) as server:
        server.add_faults(Fault(FaultKind.CLOSE, at=5))
        hook = Calling(lambda: None)
        with SyncStreamClient(server.target, hooks=[hook]) as client:
            stream = client.stream([b"%d" % number for number in range(10)])
            hook.call = lambda: seen.append(stream.statistics().attempts)
            assert len(bounded(lambda: list(stream))) == 10
    assert seen
