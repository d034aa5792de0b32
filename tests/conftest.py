"""For all tests: what an event loop reports as an error is one; limits of Hypothesis's tests;
Ctrl-C is heard."""

import asyncio
import gc
import signal
from collections.abc import Iterator

import effort
import pytest

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # As a shell starts what it runs in the background; the commands under test would inherit it.
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Once Hypothesis has marked its own."""
    for item in items:
        if item.get_closest_marker("hypothesis") and not item.get_closest_marker("timeout"):
            item.add_marker(pytest.mark.timeout(effort.seconds()))


@pytest.fixture(autouse=True)
def no_loop_errors(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator:
    """Fails a test during which a callback failed on any event loop of the process, in whatever
    thread: in a test's own, in those of blocking clients, in those of servers beside the test.

    Its value is the list of what was reported. The marker `loop_errors` is for tests that make such
    errors on purpose: they look at the list themselves, or not at all.
    """
    reported: list[str] = []
    handle = asyncio.BaseEventLoop.call_exception_handler

    def note(loop: asyncio.AbstractEventLoop, context: dict) -> None:
        error, task = context.get("exception"), context.get("task")
        # A test's own task that is collected while it waits may be any earlier test's.
        if task is None or error is not None or task.get_name().startswith("servestream"):
            reported.append(f"{context.get('message')}: {error!r} ({context})")
        handle(loop, context)

    monkeypatch.setattr(asyncio.BaseEventLoop, "call_exception_handler", note)
    yield reported
    if request.node.get_closest_marker("loop_errors") is not None:
        gc.collect()  # what is left of it is no other test's
    else:
        errors = [text for text in reported if not _is_late_event(text)]
        assert not errors, "an event loop reported:\n" + "\n".join(errors)


def _is_late_event(text: str) -> bool:
    """Whether grpc.aio had an event for a loop that is closed. All loops of a process share its
    poller, so any of them may report it. Whoever closes a loop waits for such events, but not
    without end, and on a busy machine that is too short.
    test_event_loops_in_turn_leave_nothing_to_each_other is the test of that wait.
    """
    return "PollerCompletionQueue._handle_events" in text and "Event loop is closed" in text
