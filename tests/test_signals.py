"""The flag that one task waits for, and who is being cancelled."""

import asyncio

import pytest

from servestream_client.signals import Signal, being_cancelled


async def test_a_flag_that_is_up_is_seen_at_once_and_once():
    signal = Signal()
    signal.set()
    signal.set()
    await signal.wait()
    waiting = asyncio.ensure_future(signal.wait())
    await asyncio.sleep(0)
    assert not waiting.done()
    signal.set()
    await waiting


async def test_a_flag_that_was_lowered_may_be_raised_before_its_waiter_runs():
    signal = Signal()
    waiting = asyncio.ensure_future(signal.wait())
    await asyncio.sleep(0)
    signal.set()
    signal.set()
    await waiting
    waiting = asyncio.ensure_future(signal.wait())
    await asyncio.sleep(0)
    assert not waiting.done()
    waiting.cancel()


async def test_a_waiter_that_is_cancelled_takes_nothing_with_it():
    signal = Signal()
    waiting = asyncio.ensure_future(signal.wait())
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    signal.set()
    await signal.wait()


async def test_a_flag_that_came_with_the_cancellation_is_not_lost():
    signal = Signal()
    waiting = asyncio.ensure_future(signal.wait())
    await asyncio.sleep(0)
    signal.set()
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    await signal.wait()


async def test_only_a_task_that_is_being_cancelled_itself_is():
    seen = []

    async def run(awaited):
        try:
            await awaited
        except asyncio.CancelledError:
            seen.append(being_cancelled())

    loop = asyncio.get_running_loop()
    future = loop.create_future()
    task = asyncio.ensure_future(run(future))
    await asyncio.sleep(0)
    future.cancel()
    await task
    task = asyncio.ensure_future(run(loop.create_future()))
    await asyncio.sleep(0)
    task.cancel()
    await task
    assert seen == [False, True]


def test_a_flag_can_be_raised_after_the_event_loop_was_closed():
    signal = Signal()

    async def wait():
        await signal.wait()

    loop = asyncio.new_event_loop()
    waiting = loop.create_task(wait())
    loop.run_until_complete(asyncio.sleep(0))
    loop.close()
    signal.set()
    waiting._log_destroy_pending = False
    waiting.get_coro().close()
