"""What other people's code raises, and what becomes of it."""

import asyncio
import gc
import threading
import weakref
from contextlib import suppress

import pytest

from servestream_client.usercode import contained, describe, type_name


class Nameless(type):
    @property
    def __name__(cls):
        raise RuntimeError("no name")


class UnsayableError(Exception, metaclass=Nameless):
    def __str__(self):
        raise SystemExit("no text")


@pytest.mark.parametrize(
    "raised",
    [StopIteration(1), StopAsyncIteration(), GeneratorExit(), asyncio.CancelledError("x")],
    ids=lambda error: type(error).__name__,
)
def test_pythons_control_flow_becomes_an_error_that_names_it(raised):
    failure = contained(raised, "the codec")
    assert type(failure) is RuntimeError
    assert failure.__cause__ is raised
    assert str(failure).startswith(f"the codec raised {type(raised).__name__}")


@pytest.mark.parametrize(
    "raised", [ValueError("x"), SystemExit(3), BaseException(), UnsayableError()]
)
def test_anything_else_is_itself(raised):
    assert contained(raised, "the hook") is raised


def test_ctrl_c_passes_in_the_main_thread_and_nowhere_else():
    with pytest.raises(KeyboardInterrupt):
        contained(KeyboardInterrupt(), "the hook")
    raised, found = KeyboardInterrupt(), []
    thread = threading.Thread(target=lambda: found.append(contained(raised, "the hook")))
    thread.start()
    thread.join()
    assert found == [raised]


def test_a_coroutine_that_is_closed_may_close():
    with pytest.raises(GeneratorExit):
        contained(GeneratorExit(), "the handler", awaited=True)


@pytest.mark.parametrize("error", [GeneratorExit, KeyboardInterrupt])
def test_what_passes_keeps_nothing_of_where_it_came_from(error):
    class Held:
        pass

    def calls():
        held = Held()
        try:
            refs.append(weakref.ref(held))
            raise error
        except BaseException as raised:
            contained(raised, "the hook", awaited=True)

    refs: list[weakref.ref] = []
    gc.disable()
    try:
        with suppress(error):
            calls()
        assert refs[0]() is None
    finally:
        gc.enable()


async def test_a_task_that_is_cancelled_is_cancelled():
    waiting = asyncio.get_running_loop().create_future()

    async def calls():
        try:
            await waiting
        except BaseException as error:
            return contained(error, "the handler", awaited=True)

    task = asyncio.ensure_future(calls())
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_what_a_task_waits_for_may_be_cancelled_without_it():
    waiting = asyncio.get_running_loop().create_future()
    waiting.cancel()
    try:
        await waiting
    except BaseException as error:
        failure = contained(error, "the handler", awaited=True)
    assert type(failure) is RuntimeError


def test_whatever_is_raised_can_be_described():
    assert describe(ValueError("x\n")) == r"ValueError: x\n"
    assert describe(ValueError()) == "ValueError"
    assert describe(UnsayableError()) == "UnsayableError (its text cannot be read)"
    assert type_name(UnsayableError()) == "UnsayableError"
