"""Leases of the loop thread: shared, given back, and never waited for in vain."""

import asyncio
import gc
import itertools
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from types import FrameType

import pytest

from servestream_client.errors import ClientClosedError
from servestream_client.portal import PortalLease, may_not_wait


def loop_threads() -> list[threading.Thread]:
    return [t for t in threading.enumerate() if t.name.startswith("asyncio-portal")]


@pytest.fixture(autouse=True)
def none_left():
    before = set(loop_threads())
    yield
    for thread in set(loop_threads()) - before:
        thread.join(30)
        assert not thread.is_alive()


class Released:
    def __init__(self) -> None:
        self.times = 0

    async def __call__(self) -> None:
        self.times += 1


@pytest.fixture
def released():
    return Released()


@pytest.fixture
def lease(released):
    lease = PortalLease("somewhere", released)
    yield lease
    lease.release()


async def thread_of() -> threading.Thread:
    return threading.current_thread()


def test_a_call_runs_on_the_loop_and_returns(lease):
    async def add(one: int, two: int) -> int:
        return one + two

    assert lease.call(add, 1, two=2) == 3
    assert lease.call(thread_of) is not threading.current_thread()


@pytest.mark.parametrize(
    "error", [ValueError("x"), SystemExit(2), KeyboardInterrupt(), StopAsyncIteration()]
)
def test_whatever_it_raises_is_the_callers(lease, error):
    async def fail() -> None:
        raise error

    with pytest.raises(type(error)) as caught:
        lease.call(fail)
    assert caught.value is error
    assert lease.call(thread_of).is_alive(), "the loop goes on"


def test_a_cancelled_error_of_the_callees_own_is_no_cancellation(lease):
    async def fail() -> None:
        raise asyncio.CancelledError("mine")

    with pytest.raises(asyncio.CancelledError, match="mine"):
        lease.call(fail)


def test_leases_share_the_thread_until_the_last_is_released(released):
    one, two = PortalLease("one", released), PortalLease("two", released)
    thread = one.call(thread_of)
    assert two.call(thread_of) is thread
    one.release()
    assert two.call(thread_of) is thread
    two.release()
    assert not thread.is_alive()
    assert released.times == 2


def test_a_lease_that_was_never_used_starts_no_thread(lease):
    before = loop_threads()
    lease.release()
    assert loop_threads() == before


def test_after_the_release_calls_say_so(lease, released):
    lease.call(thread_of)
    lease.release()
    lease.release()
    assert released.times == 1
    with pytest.raises(ClientClosedError, match="the client of somewhere is closed"):
        lease.call(thread_of)


def test_a_release_waits_for_what_it_ends(released):
    order = []
    lease = PortalLease("somewhere", released)
    started = threading.Event()

    async def long() -> None:
        started.set()
        await asyncio.sleep(0)
        order.append("ended")

    caller = threading.Thread(target=lease.call, args=(long,))
    caller.start()
    assert started.wait(30)
    lease.release()
    order.append("released")
    caller.join(30)
    assert order == ["ended", "released"]


def test_a_call_that_the_loop_never_began_ends_with_the_lease(lease, monkeypatch):
    """It may have come when the loop had turned for the last time."""
    lease.call(thread_of)
    hold, waits, raised = lease._hold, threading.Event(), []

    def lost(call):
        hold.calls.add(call)
        waits.set()
        return True

    def calls():
        try:
            lease.call(thread_of)
        except ClientClosedError as error:
            raised.append(error)

    monkeypatch.setattr(hold, "begin", lost)
    caller = threading.Thread(target=calls, daemon=True)
    caller.start()
    assert waits.wait(30)
    lease.release()
    caller.join(30)
    assert len(raised) == 1


def test_an_interrupted_call_is_cancelled_on_the_loop(lease, monkeypatch):
    """As by Ctrl-C, which can strike wherever the main thread waits."""
    cancelled = threading.Event()
    running = threading.Event()

    async def wait() -> None:
        running.set()
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()

    begin = lease._hold.begin

    def interrupted(call):
        begin(call)
        assert running.wait(30)
        raise KeyboardInterrupt

    lease.call(thread_of)
    monkeypatch.setattr(lease._hold, "begin", interrupted)
    with pytest.raises(KeyboardInterrupt):
        lease.call(wait)
    monkeypatch.undo()
    assert cancelled.wait(30)


class Interrupted:
    """A KeyboardInterrupt at the n-th place where Python looks for signals: where a function begins
    and where one in C has returned. Not in a weak reference's callback: what is raised there,
    Python drops.
    """

    def __init__(self, number: int) -> None:
        self.where: str | None = None
        self._left = number

    def __call__(self, frame: FrameType, event: str, arg: object) -> None:
        if event in ("call", "c_return") and "_remove" not in frame.f_code.co_name:
            self._left -= 1
            if not self._left:
                self.where = f"{frame.f_code.co_qualname}:{frame.f_lineno} {event} {arg}"
                raise KeyboardInterrupt


def interruptions(act: Callable[[], object]) -> Iterator[tuple[str, BaseException | None]]:
    """Do that with an interrupt at each place in turn: where it struck, and what was raised."""
    for number in itertools.count(1):
        interrupted, raised = Interrupted(number), None
        sys.setprofile(interrupted)
        try:
            act()
        except BaseException as error:
            raised = error
        finally:
            sys.setprofile(None)
        if interrupted.where is None:
            return
        yield interrupted.where, raised


def test_a_signal_that_does_not_end_the_wait_is_heard_all_the_same(lease):
    """One that another thread receives stands for one that came just before the wait."""
    main, ended = threading.main_thread().ident, threading.Event()

    def waits() -> bool:
        frame = sys._current_frames().get(main)
        return frame is not None and frame.f_code.co_name == "_acquire"

    def strike() -> None:
        while not waits() and not ended.is_set():
            pass
        ended.wait(0.1)  # lets go of the interpreter, so that the main thread comes to its wait
        signal.pthread_kill(threading.get_ident(), signal.SIGINT)

    thread = threading.Thread(target=strike)
    thread.start()
    try:
        with pytest.raises(KeyboardInterrupt):
            lease.call(asyncio.Event().wait)
    finally:
        ended.set()
        thread.join()


def test_an_interrupt_at_any_place_of_a_call_is_just_that(lease):
    """None turns into another error, holds what the loop needs, or takes the next call's answer."""
    lease.call(thread_of)
    places = 0
    for number, (where, raised) in enumerate(interruptions(lambda: lease.call(thread_of))):

        async def next_one(number: int = number) -> int:
            return number

        assert type(raised) is KeyboardInterrupt, (where, raised)
        assert not may_not_wait(), where
        assert lease.call(next_one) == number, where
        places += 1
    assert places > 20


def test_an_interrupt_at_any_place_of_a_first_call_and_of_a_release(released):
    leases = []  # what drops one runs as a finaliser, whose exceptions Python drops

    def once() -> None:
        lease = PortalLease("somewhere", released)
        leases.append(lease)
        try:
            lease.call(thread_of)
        finally:
            lease.release()

    for where, raised in interruptions(once):
        assert type(raised) is KeyboardInterrupt, (where, raised)
        assert not may_not_wait(), where


def test_a_lease_that_is_dropped_is_released(released):
    lease = PortalLease("somewhere", released)
    thread = lease.call(thread_of)
    del lease
    gc.collect()
    thread.join(30)
    assert not thread.is_alive()
    assert released.times == 1


def test_many_threads_take_a_lease_at_once(released):
    lease = PortalLease("somewhere", released)
    threads: list[threading.Thread] = []
    callers = [
        threading.Thread(target=lambda: threads.append(lease.call(thread_of))) for _ in range(20)
    ]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join(30)
    assert len(threads) == 20
    assert len(set(threads)) == 1
    lease.release()
    assert not threads[0].is_alive()
