"""Scripts with the blocking client: however they end, they end at once and as they should."""

import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

import pytest

from servestream_client import RetryPolicy, SyncStreamClient, WrongApplicationError

BOUND = 150
"""Seconds after which a script hangs. How fast it ends is no test's matter."""

HEAD = """
import itertools, os, signal, sys, threading, time
# What runs in the background of a script may have inherited that Ctrl-C is ignored.
signal.signal(signal.SIGINT, signal.default_int_handler)
from servestream_client import ClientClosedError, ConfigurationError, RetryPolicy, SyncStreamClient
target = sys.argv[1]

def endless():
    try:
        while True:
            yield b"x"
    finally:
        print("inputs closed", flush=True)

def sleep_long():
    # A signal that comes just before a sleep begins is seen when that one ends (CPython 3.11).
    while True:
        time.sleep(0.1)
"""


@pytest.fixture(scope="module")
def target() -> Iterator[str]:
    """An echo in another process."""
    server = subprocess.Popen(
        [sys.executable, Path(__file__).with_name("echo_server.py")],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert server.stdout is not None
    yield f"127.0.0.1:{server.stdout.readline().strip()}"
    server.kill()
    server.communicate()


@pytest.fixture
def script(target: str) -> Iterator[Callable]:
    """Starts a script."""
    running: list[subprocess.Popen] = []

    def start(body: str) -> subprocess.Popen:
        process = subprocess.Popen(
            [sys.executable, "-c", HEAD + body, target],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        running.append(process)
        return process

    yield start
    for process in running:
        process.kill()
        process.communicate()


def until(output: IO[str] | None, word: str) -> None:
    assert output is not None
    for line in output:
        if line.strip() == word:
            return
    pytest.fail(f"the script ended before {word!r}")


# ------------------------------------------------------------------ Ctrl-C

INTERRUPTED = {
    "a busy stream": """
with SyncStreamClient(target) as client:
    for number, _ in enumerate(client.stream(endless())):
        if number == 1000:
            print("go", flush=True)
""",
    "a stream that waits for its output": """
with SyncStreamClient(target) as client:
    print("go", flush=True)
    list(client.stream([b"slow"]))
""",
    "inputs that block": """
def inputs():
    yield b"x"
    print("go", flush=True)
    time.sleep(1000)
with SyncStreamClient(target) as client:
    list(client.stream(inputs()))
""",
    "a consumer that is busy itself": """
with SyncStreamClient(target) as client:
    for _ in client.stream(endless()):
        print("go", flush=True)
        sleep_long()
""",
    "predict": """
with SyncStreamClient(target) as client:
    for number in itertools.count():
        client.predict(b"x")
        if number == 10:
            print("go", flush=True)
""",
    "a call of predict that waits": """
with SyncStreamClient(target) as client:
    print("go", flush=True)
    client.predict(b"slow")
""",
    "opening and closing": """
print("go", flush=True)
while True:
    with SyncStreamClient(target) as client:
        client.predict(b"x")
""",
    "a server that is not there": """
print("go", flush=True)
with SyncStreamClient("127.0.0.1:1", retry=RetryPolicy(connect_attempts=10_000)) as client:
    client.predict(b"x")
""",
    "a client that nobody closes": """
client = SyncStreamClient(target)
stream = client.stream(endless())
for number, _ in enumerate(stream):
    if number == 1000:
        print("go", flush=True)
""",
}


@pytest.mark.parametrize("body", INTERRUPTED.values(), ids=INTERRUPTED)
def test_ctrl_c_ends_a_script_as_shells_expect(script, body):
    process = script(body)
    until(process.stdout, "go")
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=BOUND)
    # Killed by the signal: a shell makes 130 of it, and stops its loops.
    assert process.returncode == -signal.SIGINT, errors
    assert errors.strip().splitlines()[-1] == "KeyboardInterrupt"
    for noise in ("Exception ignored", "Exception in", "Task exception"):
        assert noise not in errors, errors


def test_ctrl_c_is_caught_and_the_stream_goes_on_without_a_loss(script):
    process = script("""
with SyncStreamClient(target) as client:
    stream = client.stream(b"%d" % number for number in range(200_000))
    seen, interrupted = [], 0
    while True:
        try:
            for output in stream:
                seen.append(output)
                if len(seen) == 1:
                    print("go", flush=True)
            break
        except KeyboardInterrupt:
            interrupted += 1
    # An output that was in the caller's hand when it was interrupted is all that may miss.
    missing = set(range(200_000)) - set(map(int, seen))
    assert len(missing) <= interrupted, missing
    assert len(seen) == len(set(seen)), "doubled"
    assert list(map(int, seen)) == sorted(map(int, seen)), "out of order"
    assert interrupted, "nothing was interrupted"
    print("whole")
""")
    until(process.stdout, "go")
    process.send_signal(signal.SIGINT)
    output, errors = process.communicate(timeout=BOUND)
    assert (process.returncode, output.strip(), errors) == (0, "whole", "")


# ------------------------------------------------------------------ the end of the interpreter

ENDINGS = {
    "an open stream": ("stream = client.stream(endless()); next(stream)", 0, "inputs closed"),
    "sys.exit": (
        "stream = client.stream(endless()); next(stream); sys.exit(3)",
        3,
        "inputs closed",
    ),
    "a stream in a thread": (
        """
def use():
    for _ in client.stream(endless()):
        started.set()
started = threading.Event()
threading.Thread(target=use, daemon=True).start()
started.wait()
""",
        0,
        "inputs closed",
    ),
    "a client that was never used": ("", 0, ""),
    "inputs that block": (
        """
def inputs():
    yield b"x"
    time.sleep(1000)
stream = client.stream(inputs()); next(stream)
""",
        0,
        "",
    ),
}


@pytest.mark.parametrize(("body", "code", "words"), ENDINGS.values(), ids=ENDINGS)
def test_an_interpreter_ends_although_nothing_was_closed(script, body, code, words):
    process = script("client = SyncStreamClient(target)\n" + body)
    output, errors = process.communicate(timeout=BOUND)
    assert (process.returncode, output.strip(), errors) == (code, words, "")


def test_a_client_works_in_exit_handlers(script):
    process = script("""
import atexit
client = SyncStreamClient(target)
stream = client.stream(endless())
next(stream)
atexit.register(lambda: print(next(stream), client.predict(b"late")))
""")
    output, errors = process.communicate(timeout=BOUND)
    assert (process.returncode, errors) == (0, "")
    assert output.split("\n")[0] == "b'x' b'late'"


# ------------------------------------------------------------------ forks


def test_a_forked_child_is_told_and_the_parent_goes_on(script):
    process = script("""
import warnings
warnings.simplefilter("ignore", DeprecationWarning)
client = SyncStreamClient(target)
stream = client.stream(b"%d" % number for number in range(10_000))
assert next(stream) == b"0"
child = os.fork()
if child == 0:
    for use in (lambda: client.predict(b"x"), lambda: list(stream)):
        try:
            use()
        except ClientClosedError as error:
            assert "forked" in str(error), error
        else:
            sys.exit(1)
    stream.close()
    client.close()
    try:
        SyncStreamClient(target).predict(b"x")
    except ConfigurationError as error:
        assert "spawn" in str(error), error
        sys.exit(7)
    sys.exit(2)
_, status = os.waitpid(child, 0)
assert os.waitstatus_to_exitcode(status) == 7, status
assert [int(output) for output in stream] == list(range(1, 10_000))
client.close()
""")
    _, errors = process.communicate(timeout=BOUND)
    assert process.returncode == 0, errors


def test_a_fork_before_the_first_use_is_no_matter(script):
    process = script("""
import warnings
warnings.simplefilter("ignore", DeprecationWarning)
child = os.fork()
with SyncStreamClient(target) as client:
    assert list(client.stream([b"1", b"2"])) == [b"1", b"2"]
if child:
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 0, status
""")
    _, errors = process.communicate(timeout=BOUND)
    assert process.returncode == 0, errors


@pytest.mark.parametrize("way", ["os.fork", "multiprocessing"])
def test_clients_made_and_not_used_before_a_fork_work_on_both_sides(script, way):
    process = script(f"""
import asyncio, multiprocessing, warnings
from servestream_client import StreamClient
warnings.simplefilter("ignore", DeprecationWarning)
client, asynchronous = SyncStreamClient(target), StreamClient(target)
untouched = SyncStreamClient(target)
early = client.stream([b"1"])

async def use():
    async with asynchronous:
        assert [x async for x in asynchronous.stream([b"1", b"2"])] == [b"1", b"2"]
        assert await asynchronous.predict(b"x") == b"x"

def both():
    with client:
        assert list(client.stream([b"1", b"2"])) == [b"1", b"2"]
        assert client.predict(b"x") == b"x"
    asyncio.run(use())

def child():
    try:  # one stream in two processes would have one id
        list(early)
    except ClientClosedError as error:
        assert "made before this process was forked" in str(error), error
    else:
        os._exit(3)
    both()
    untouched.close()

if {way!r} == "os.fork":
    pid = os.fork()
    if pid == 0:
        child()
        sys.exit(7)
    _, status = os.waitpid(pid, 0)
    assert os.waitstatus_to_exitcode(status) == 7, status
else:
    process = multiprocessing.get_context("fork").Process(target=child)
    process.start()
    process.join()
    assert process.exitcode == 0, process.exitcode
assert list(early) == [b"1"]
both()
""")
    _, errors = process.communicate(timeout=BOUND)
    assert process.returncode == 0, errors


def test_a_fork_while_another_thread_takes_the_client_is_no_matter(script):
    """The child has no such thread, and so whatever that thread held is nobody's."""
    process = script("""
import warnings
warnings.simplefilter("ignore", DeprecationWarning)
client, other = SyncStreamClient(target), SyncStreamClient(target)
client._portal._hold._lock.acquire()  # as a thread does that is using it first
child = os.fork()
if child == 0:
    assert list(client.stream([b"1", b"2"])) == [b"1", b"2"]
    client.close()
    sys.exit(7)
_, status = os.waitpid(child, 0)
assert os.waitstatus_to_exitcode(status) == 7, status
client._portal._hold._lock.release()
client.close()
""")
    _, errors = process.communicate(timeout=BOUND)
    assert process.returncode == 0, errors


# ------------------------------------------------------------------ event loops in turn


def test_event_loops_in_turn_leave_nothing_to_each_other(script):
    """gRPC's late events would be reported as errors by the loop that comes next."""
    process = script("""
import asyncio
from servestream_client import StreamClient

async def use():
    async with StreamClient(target) as client:
        assert await client.predict(b"x") == b"x"

for _ in range(60):
    asyncio.run(use())
    # This one cancels nothing that is left when it closes, as `asyncio.run` does.
    loop = asyncio.new_event_loop()
    loop.run_until_complete(use())
    loop.close()
    with SyncStreamClient(target) as client:
        assert client.predict(b"x") == b"x"
""")
    output, errors = process.communicate(timeout=BOUND)
    assert (process.returncode, output, errors) == (0, "", "")


REFUSING = """
import asyncio, grpc, grpc.aio

async def refuse(requests, context):
    await context.abort(grpc.StatusCode.NOT_FOUND, "Application 'x' not found")
    yield

async def main():
    server = grpc.aio.server()
    handler = grpc.stream_stream_rpc_method_handler(refuse)
    name, methods = "servestream.v1.StreamService", {"Stream": handler}
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(name, methods),))
    print(server.add_insecure_port("127.0.0.1:0"), flush=True)
    await server.start()
    await server.wait_for_termination()

asyncio.run(main())
"""


def test_a_refusal_at_once_keeps_its_reason():
    """As HAProxy refuses an unknown application: while the client's first frame is on its way."""
    server = subprocess.Popen([sys.executable, "-c", REFUSING], stdout=subprocess.PIPE, text=True)
    try:
        assert server.stdout is not None
        target = f"127.0.0.1:{server.stdout.readline().strip()}"
        retry = RetryPolicy(connect_attempts=1, connect_timeout=0)
        with SyncStreamClient(target, retry=retry, application="x") as client:
            for _ in range(300):
                with pytest.raises(WrongApplicationError, match="Application 'x' not found"):
                    list(client.stream([b"x"]))
    finally:
        server.kill()
        server.communicate()
