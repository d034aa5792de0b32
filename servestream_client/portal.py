"""The event loop that the blocking clients of a process share, in a thread of its own.

Ctrl-C strikes the main thread wherever Python looks for signals, in the midst of `threading`'s own
classes, too: one that strikes in `threading.Condition` leaves its lock held, or turns into "cannot
release un-acquired lock" (CPython 3.11). `Future`, `Event` and `Thread.start` are built on it. So
the caller's thread waits for bare locks only, whose `acquire` a signal ends whole; and the main
thread never without a limit, since one that comes between Python's last look and the wait, or that
another thread receives, does not end it.
"""

from __future__ import annotations

import _thread
import asyncio
import atexit
import importlib
import os
import threading
import weakref
from collections.abc import Awaitable, Callable
from concurrent.futures import Future, wait
from contextlib import suppress
from typing import Any, Generic, ParamSpec, TypeVar

from anyio.from_thread import BlockingPortal, BlockingPortalProvider

from servestream_client.errors import ClientClosedError, WrongEventLoopError
from servestream_client.greenlets import check_threads
from servestream_client.signals import being_cancelled, start_task

__all__ = ["LOOK_SECONDS", "PortalLease", "crossing", "may_not_wait", "on_loop_thread"]

EXIT_SECONDS = 0.5
"""How long an interpreter that ends waits for leases that nobody gave back."""

CANCEL_SECONDS = 0.3
"""How long an interrupted call waits until it has ended on the loop, before the caller goes on; and
how long a lease that is given back waits for its calls."""

LOOK_SECONDS = 0.3
"""How often the main thread looks for signals while it waits."""

P = ParamSpec("P")
T = TypeVar("T")


class _Shared:
    """The process's provider. A forked child has no such thread, and gets another one."""

    provider = BlockingPortalProvider()
    exiting = False

    @classmethod
    def forget(cls) -> None:
        cls.provider = BlockingPortalProvider()
        _here.is_loop, _here.crossings = False, 0
        for hold in list(_holds):
            hold.unlock()


os.register_at_fork(after_in_child=_Shared.forget)


class _Here(threading.local):
    """What the current thread is to the loop.

    A finaliser runs in whichever thread the garbage collector was called: in the loop's own, which
    must not wait for itself; or in one that is in the midst of waiting for the loop, and may hold
    a lock that the loop needs for its answer. So neither waits.
    """

    is_loop = False
    crossings = 0


_here = _Here()


class crossing:  # noqa: N801 — used like a function
    """Marks what waits for the loop, or holds a lock that the loop may wait for; for threads other
    than the main one, since Ctrl-C may strike at the door of a method like these.
    """

    # Not by contextlib, which sets the traceback of whatever passes: a frozen exception has none.

    def __enter__(self) -> None:
        _here.crossings += 1

    def __exit__(self, *_: object) -> None:
        _here.crossings -= 1


def on_loop_thread() -> bool:
    """Whether this is the thread of the loop that the blocking clients share: a hook, a codec or a
    finaliser that runs there.
    """
    return _here.is_loop


def may_not_wait() -> bool:
    """Whether to wait for the loop here could last for ever."""
    return _here.is_loop or _here.crossings > 0


class PortalLease:
    """A share in the loop thread, taken at the first call.

    It may be used from any thread; in the loop's own, nothing is waited for: a call is refused, and
    a release happens by itself. An exception in the calling thread, such as KeyboardInterrupt,
    cancels the call that it waits for.

    Args:
        name: whose, for messages.
        on_release: awaited on the loop when the lease is given back, by whatever way.
    """

    def __init__(self, name: str, on_release: Callable[[], Awaitable[None]]) -> None:
        self._name = name
        self._hold = _Hold(on_release)
        # For a client that is dropped without a word; `_at_exit` is for those that are left.
        weakref.finalize(self, self._hold.drop).atexit = False
        _holds.add(self._hold)

    def call(self, func: Callable[P, Awaitable[T]], *args: P.args, **kwargs: P.kwargs) -> T:
        """Await something on the loop, and return or raise what comes of it.

        Raises:
            ClientClosedError: the lease was given back, or belongs to the process that this one
                was forked from.
            WrongEventLoopError: this is the loop's own thread, which would wait for itself.
        """
        if _here.is_loop:
            raise WrongEventLoopError(
                f"the client of {self._name} was called in the thread of the event loop that the"
                " blocking clients share (by a hook, a codec or a finaliser), which would then wait"
                " for itself for ever: make such calls in another thread"
            )
        _here.crossings += 1
        try:
            return self._call(lambda: func(*args, **kwargs))
        finally:
            _here.crossings -= 1

    def _call(self, func: Callable[[], Awaitable[T]]) -> T:
        hold = self._hold
        if hold.inherited:
            raise ClientClosedError(
                f"the client of {self._name} was used before this process was forked, and its"
                " connections and its thread are the parent's; make a new one here"
            )
        if hold.portal is None and not hold.released:
            check_threads()
            _import_backend()
            _aside(hold.take)
        if hold.loop is None:
            raise ClientClosedError(f"the client of {self._name} is closed; make a new one")
        call = _Crossing(func)
        try:
            if not hold.begin(call):
                raise ClientClosedError(f"the client of {self._name} is closed; make a new one")
            call.wait()
        except BaseException:
            hold.cancel(call)
            raise
        finally:
            hold.calls.discard(call)
        return call.outcome()

    def release(self) -> None:
        """Give it back; the last one to do so ends the thread. Harmless twice.

        Returns once what runs there has ended. In a finaliser that interrupts the loop's thread, or
        one that waits for the loop, it returns at once, and that happens by itself.
        """
        if self._hold.inherited or self._hold.released:
            return
        if may_not_wait():
            self._hold.release_later()
            return
        _here.crossings += 1
        try:
            _aside(self._hold.release)
        finally:
            _here.crossings -= 1


class _Hold:
    """What a lease holds; outlives it while it is given back."""

    def __init__(self, on_release: Callable[[], Awaitable[None]]) -> None:
        self.portal: BlockingPortal | None = None
        self.loop: asyncio.AbstractEventLoop | None = None
        self.released = False
        self.calls: set[_Crossing[Any]] = set()
        self._on_release = on_release
        self._provider: BlockingPortalProvider | None = None  # once it is used
        self._pid: int | None = None
        self._lock = threading.Lock()

    @property
    def inherited(self) -> bool:
        """Whether it was used in the process that this one was forked from."""
        return self._pid not in (None, os.getpid())

    def unlock(self) -> None:
        """In a forked child: the thread that held the lock does not exist here."""
        self._lock = threading.Lock()

    def take(self) -> None:
        """Enter the provider, unless somebody was faster."""
        with self._lock:
            if self.portal is None and not self.released:
                self._pid = os.getpid()
                self._provider = _Shared.provider
                portal = self._provider.__enter__()
                self.loop = portal.call(_running_loop)
                self.portal = portal

    def release(self) -> None:
        """End what runs there, and leave the provider. Must not be called on the loop."""
        with self._lock:
            portal, self.portal = self.portal, None
            self.released = True
        if portal is None or self._provider is None:
            return
        try:
            portal.call(self._end)
        finally:
            self._provider.__exit__(None, None, None)
            for call in list(self.calls):  # what had not begun when the loop was closed
                call.ended()

    def begin(self, call: _Crossing[Any]) -> bool:
        """Let it run on the loop.

        Returns:
            Whether it does: the lease may have been given back.
        """
        # In this order: what `release` does not find here finds that it came.
        self.calls.add(call)
        if self.released or self.loop is None:
            return False
        try:
            self.loop.call_soon_threadsafe(call.start)
        except RuntimeError:  # the loop is closed
            return False
        return True

    def cancel(self, call: _Crossing[Any]) -> None:
        """Nobody waits for it any more; return once it has ended, or after `CANCEL_SECONDS`."""
        if self.loop is None or self.released:
            return
        with suppress(RuntimeError):  # the loop is closed
            self.loop.call_soon_threadsafe(call.cancel)
            call.wait(CANCEL_SECONDS)

    async def _end(self) -> None:
        """Calls end with what they wait for, and what does not is cancelled."""
        await self._on_release()
        for cancels in (False, True):
            tasks = [call.task for call in list(self.calls) if call.task is not None]
            running = [task for task in tasks if not task.done()]
            if cancels:
                for task in running:
                    task.cancel()
            if running:
                await asyncio.wait(running, timeout=CANCEL_SECONDS)

    def drop(self) -> None:
        """The owner is gone: `release_later`, if there is anything to release."""
        if self.portal is not None:
            self.release_later()

    def release_later(self) -> None:
        """`release` without waiting: this may run in any thread, the loop's included."""
        if self.inherited:
            return
        with suppress(RuntimeError):  # no thread can be started any more
            threading.Thread(target=self._release_apart, daemon=True).start()

    def _release_apart(self) -> None:
        with crossing():
            self.release()

    def ending(self) -> Future[None] | None:
        """End what runs there, and nothing else: the process ends, and its threads with it."""
        loop = self.loop
        if loop is None or self.released or self.inherited:
            return None
        return asyncio.run_coroutine_threadsafe(self._ended(), loop)

    async def _ended(self) -> None:
        await self._on_release()


_holds: weakref.WeakSet[_Hold] = weakref.WeakSet()


class _Crossing(Generic[T]):
    """One call from a thread to the loop. Whatever it raises is the caller's, not the loop's."""

    def __init__(self, func: Callable[[], Awaitable[T]]) -> None:
        self.task: asyncio.Task[None] | None = None  # while it runs
        self._func = func
        self._running = _thread.allocate_lock()
        self._running.acquire()
        self._error: BaseException | None = None
        self._result: list[T] = []

    def start(self) -> None:
        """On the loop."""
        self.task = start_task(self._run(), "call of a blocking client")
        self.task.add_done_callback(self.ended)

    async def _run(self) -> None:
        try:
            self._result.append(await self._func())
        except BaseException as error:
            if issubclass(type(error), asyncio.CancelledError) and being_cancelled():
                raise
            self._error = error

    def ended(self, _: object = None) -> None:
        """Wake who waits for it. Harmless twice."""
        # Not by the caller's thread: what is raised in the finalisers of a task is lost.
        self.task = None
        # While the process exits only daemon threads wait, and they would print a traceback.
        if not _Shared.exiting:
            with suppress(RuntimeError):  # it was said before
                self._running.release()

    def wait(self, timeout: float = -1) -> None:
        """In the caller's thread: return once it has ended, or after so many seconds."""
        if timeout >= 0:
            self._running.acquire(timeout=timeout)
        else:
            _acquire(self._running)

    def cancel(self) -> None:
        """On the loop: nobody waits for it any more."""
        if self.task is None:  # it has ended, or was never asked to start
            self.ended()
        else:
            self.task.cancel()

    def outcome(self) -> T:
        error, self._error = self._error, None
        try:
            if error is not None:
                raise error
            if not self._result:
                raise ClientClosedError("the client was closed during the call")
            return self._result.pop()
        finally:
            del error  # its traceback refers to this frame


def _acquire(lock: _thread.LockType) -> None:
    if _thread.get_ident() != threading.main_thread().ident:
        lock.acquire()
    else:
        while not lock.acquire(timeout=LOOK_SECONDS):
            pass


def _import_backend() -> None:
    """Import here what anyio would import in the loop's thread.

    Modules that call `exec` while a KeyboardInterrupt ends the main thread make Python forget it:
    the process then ends with code 1, and not as shells expect after Ctrl-C.
    """
    with suppress(ImportError):  # as of anyio 4
        importlib.import_module("anyio._backends._asyncio")


async def _running_loop() -> asyncio.AbstractEventLoop:
    _here.is_loop = True
    return asyncio.get_running_loop()


def _aside(func: Callable[[], None]) -> None:
    """Do something to its end, although a signal may end the waiting for it.

    A KeyboardInterrupt in the midst of it would leave locks held, or threads that nobody ends.
    """
    problem: list[BaseException] = []
    running = _thread.allocate_lock()
    running.acquire()

    def run() -> None:
        try:
            with crossing():
                func()
        except BaseException as error:
            problem.append(error)
        finally:
            running.release()

    try:
        _thread.start_new_thread(run, ())
    except RuntimeError:  # the interpreter is ending: as of 3.12, no thread can be started any more
        run()
    _acquire(running)
    if problem:
        raise problem[0]


@atexit.register
def _at_exit() -> None:
    _Shared.exiting = True
    endings = (hold.ending() for hold in list(_holds))
    wait([ending for ending in endings if ending is not None], timeout=EXIT_SECONDS)
