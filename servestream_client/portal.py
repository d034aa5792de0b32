"""The event loop that the blocking clients of a process share, in a thread of its own."""

from __future__ import annotations

import asyncio
import atexit
import importlib
import os
import threading
import weakref
from collections.abc import Awaitable, Callable
from concurrent.futures import Future, wait
from contextlib import suppress
from typing import Generic, ParamSpec, TypeVar

import anyio
from anyio.from_thread import BlockingPortal, BlockingPortalProvider

from servestream_client.errors import ClientClosedError, WrongEventLoopError
from servestream_client.greenlets import check_threads
from servestream_client.signals import being_cancelled

__all__ = ["PortalLease", "crossing", "may_not_wait", "on_loop_thread"]

EXIT_SECONDS = 0.5
"""How long an interpreter that ends waits for leases that nobody gave back."""

CANCEL_SECONDS = 0.3
"""How long an interrupted call waits until it has ended on the loop, before the caller goes on."""

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
    """Marks what waits for the loop, or holds a lock that the loop may wait for."""

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
        with crossing():
            return self._call(lambda: func(*args, **kwargs))

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
        portal, loop = hold.portal, hold.loop
        if portal is None or loop is None:
            raise ClientClosedError(f"the client of {self._name} is closed; make a new one")
        call = _Crossing(func)
        try:
            portal.call(call.run)
        except RuntimeError:
            if hold.released:
                raise ClientClosedError(f"the client of {self._name} was closed") from None
            raise
        except BaseException:
            with suppress(RuntimeError):  # the loop is gone
                loop.call_soon_threadsafe(call.cancel)
                call.ended.wait(CANCEL_SECONDS)
            raise
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
        else:
            with crossing():
                _aside(self._hold.release)


class _Hold:
    """What a lease holds; outlives it while it is given back."""

    def __init__(self, on_release: Callable[[], Awaitable[None]]) -> None:
        self.portal: BlockingPortal | None = None
        self.loop: asyncio.AbstractEventLoop | None = None
        self.released = False
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
            portal.call(self._on_release)
        finally:
            self._provider.__exit__(None, None, None)

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
        self.ended: threading.Event = threading.Event()
        self._func = func
        self._scope: anyio.CancelScope | None = None
        self._cancelled = False
        self._error: BaseException | None = None
        self._result: list[T] = []

    async def run(self) -> None:
        with anyio.CancelScope() as self._scope:
            if self._cancelled:
                self._scope.cancel()
            try:
                self._result.append(await self._func())
            except BaseException as error:
                if issubclass(type(error), asyncio.CancelledError) and being_cancelled():
                    raise
                self._error = error
            finally:
                self.ended.set()
        if _Shared.exiting:
            # Only daemon threads are left to hear of it, and they would print a traceback.
            await anyio.sleep_forever()

    def cancel(self) -> None:
        """Nobody waits for it any more. May come before `run`."""
        self._cancelled = True
        if self._scope is not None:
            self._scope.cancel()

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

    def run() -> None:
        try:
            with crossing():
                func()
        except BaseException as error:
            problem.append(error)

    thread = threading.Thread(target=run, name="servestream portal", daemon=True)
    try:
        thread.start()
    except RuntimeError:  # the interpreter is ending: as of 3.12, no thread can be started any more
        run()
    else:
        thread.join()
    if problem:
        raise problem[0]


@atexit.register
def _at_exit() -> None:
    _Shared.exiting = True
    endings = (hold.ending() for hold in list(_holds))
    wait([ending for ending in endings if ending is not None], timeout=EXIT_SECONDS)
