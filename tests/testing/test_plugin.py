"""The pytest plugin, as projects that install the package meet it."""

import textwrap

import pytest
from inner_pytest import OPTIONS

pytest_plugins = ["pytester"]

HEAD = """
import asyncio
import threading

import pytest

from servestream_client import ItemError, StreamClient, SyncStreamClient
from servestream_client.server import StreamService
from servestream_client.testing import Cut, Deaf, Delay, Fault, FaultKind, Slice, Throttle

ITEMS = [b"%d" % number for number in range(1, 401)]
"""


@pytest.fixture
def project(pytester: pytest.Pytester):
    """Runs tests as another project would, in a process of their own."""

    def run(tests: str, *options: str, ini: str = "asyncio_mode = strict") -> pytest.RunResult:
        pytester.makefile(
            ".ini",
            pytest=f"""
            [pytest]
            addopts = {" ".join(OPTIONS)} --timeout 60
            asyncio_default_fixture_loop_scope = function
            {ini}
            """,
        )
        pytester.makepyfile(HEAD + textwrap.dedent(tests))
        return pytester.runpytest_subprocess(*options)

    return run


# ------------------------------------------------------------------ the kinds of tests

ASYNC_TEST = """
    {mark}
    @pytest.mark.stream_faults(Fault(FaultKind.CLOSE, at=200))
    async def test_stream(stream_client, stream_server):
        stream = stream_client.stream(ITEMS)
        assert [output async for output in stream] == ITEMS
        assert stream.statistics().resumes == 1
        assert await stream_client.predict(b"x") == b"x"

    {mark}
    async def test_left_open(stream_client):
        stream = stream_client.stream(ITEMS)
        await anext(stream)
"""


@pytest.mark.parametrize(
    ("mark", "ini"),
    [
        ("@pytest.mark.asyncio", "asyncio_mode = strict"),
        ("", "asyncio_mode = auto"),
        ("@pytest.mark.anyio", "asyncio_mode = strict"),
        ("", "anyio_mode = auto"),
    ],
    ids=["strict", "auto", "anyio", "anyio-auto"],
)
def test_async_tests_of_every_kind(project, mark, ini):
    backend = "@pytest.fixture\ndef anyio_backend():\n    return 'asyncio'\n"
    result = project(backend + textwrap.dedent(ASYNC_TEST.format(mark=mark)), "-Werror", ini=ini)
    result.assert_outcomes(passed=2)


def test_plain_tests(project):
    result = project(
        """
        @pytest.mark.stream_faults(Fault(FaultKind.CLOSE, at=200))
        def test_stream(sync_stream_client, stream_server):
            stream = sync_stream_client.stream(ITEMS)
            assert list(stream) == ITEMS
            assert stream.statistics().resumes == 1
            assert sync_stream_client.predict(b"x") == b"x"

        def test_own_loop(stream_server):
            async def run():
                async with StreamClient(stream_server.target) as client:
                    return [output async for output in client.stream(ITEMS)]

            assert asyncio.run(run()) == ITEMS

        def test_unused(stream_client, sync_stream_client):
            pass
        """,
        "-Werror",
    )
    result.assert_outcomes(passed=3)


def test_services_and_clients_of_ones_own(project):
    result = project("""
        class Upper(StreamService[bytes, bytes]):
            made = 0

            def __init__(self):
                Upper.made += 1

            def predict(self, item):
                return item.upper()

        @pytest.fixture
        def stream_service():
            return Upper()

        @pytest.fixture
        def stream_client_options():
            return {"close_timeout": 1.0}

        def test_service(sync_stream_client):
            assert list(sync_stream_client.stream([b"a"])) == [b"A"]
            assert sync_stream_client._streams.close_timeout == 1.0

        def test_more_than_one(make_stream_server):
            servers = [make_stream_server(Upper), make_stream_server(Upper)]
            assert servers[0].target != servers[1].target
            for server in servers:
                with SyncStreamClient(server.target) as client:
                    assert client.predict(b"a") == b"A"

        def test_a_new_one_for_each_life(make_stream_server):
            server = make_stream_server(Upper)
            before, first = Upper.made, server.service
            server.kill()
            assert Upper.made == before + 1
            assert server.service is not first
            with SyncStreamClient(server.target) as client:
                assert client.predict(b"a") == b"A"

        def test_no_service(make_stream_server):
            with pytest.raises(ValueError, match="a server needs a StreamService"):
                make_stream_server(5)
        """)
    result.assert_outcomes(passed=4)


# ------------------------------------------------------------------ faults


def test_every_fault_is_survived_and_seen_to_fire(project):
    result = project("""
        FAULTS = {
            "kill": [Fault(FaultKind.KILL, at=200)],
            "close": [Fault(FaultKind.CLOSE, at=200)],
            "duplicate": [Fault(FaultKind.DUPLICATE, at=200)],
            "skip": [Fault(FaultKind.SKIP, at=200)],
            "garbage": [Fault(FaultKind.GARBAGE, at=200)],
            "slow": [Fault(FaultKind.SLOW, at=200, seconds=0.01)],
            "refuse": [Fault(FaultKind.REFUSE, at=1, seconds=0.01)],
            "reset": [Cut(after_bytes=1000)],
            "end": [Cut(after_bytes=1000, how="close")],
            "delay": [Delay(0.001, jitter=0.001)],
            "throttle": [Throttle(20_000)],
            "slice": [Slice(100)],
            "several": [Fault(FaultKind.KILL, at=200), Delay(0.001), Cut(after_bytes=1000)],
        }
        cases = pytest.mark.parametrize(
            "_",
            [pytest.param(0, marks=pytest.mark.stream_faults(*f), id=n) for n, f in FAULTS.items()],
        )

        @cases
        def test_blocking(sync_stream_client, stream_server, _):
            assert list(sync_stream_client.stream(ITEMS)) == ITEMS

        @cases
        @pytest.mark.asyncio
        async def test_async(stream_client, stream_server, _):
            assert [output async for output in stream_client.stream(ITEMS)] == ITEMS
        """)
    result.assert_outcomes(passed=26)


def test_faults_that_end_an_item(project):
    result = project("""
        @pytest.mark.stream_faults(Fault(FaultKind.RAISE, at=3))
        def test_raise(sync_stream_client):
            results = list(sync_stream_client.stream(ITEMS, return_exceptions=True))
            assert [r.number for r in results if isinstance(r, ItemError)] == [3]

        @pytest.mark.stream_faults(Fault(FaultKind.HANG, at=3))
        def test_hang(sync_stream_client):
            with sync_stream_client.stream(ITEMS) as stream:
                assert [next(stream), next(stream)] == ITEMS[:2]
        """)
    result.assert_outcomes(passed=2)


def test_faults_in_the_middle_of_a_test(project):
    result = project("""
        def test_added_and_cleared(sync_stream_client, stream_server):
            stream = sync_stream_client.stream(ITEMS)
            assert next(stream) == b"1"
            stream_server.kill()
            assert list(stream) == ITEMS[1:]
            assert stream_server.lives == 2
            stream_server.add_faults(Fault(FaultKind.CLOSE, at=100), Fault(FaultKind.CLOSE, at=999))
            stream = sync_stream_client.stream(ITEMS)
            assert list(stream) == ITEMS
            assert stream.statistics().resumes == 1
            assert stream_server.fired == [Fault(FaultKind.CLOSE, at=100)]
            stream_server.clear_faults()
            assert stream_server.fired == [Fault(FaultKind.CLOSE, at=100)]
            stream = sync_stream_client.stream(ITEMS)
            assert list(stream) == ITEMS
            assert stream.statistics().attempts == 1

        def test_a_link_that_goes_deaf_and_comes_back(sync_stream_client, stream_server):
            stream = sync_stream_client.stream(b"%d" % n for n in range(100_000))
            assert next(stream) == b"0"
            deaf = Deaf()
            stream_server.add_faults(deaf)
            stream_server.proxy.remove(deaf)
            assert sum(1 for _ in stream) == 99_999
            assert stream.statistics().attempts == 1

        @pytest.mark.asyncio
        async def test_from_async_code(stream_client, stream_server):
            stream = stream_client.stream(ITEMS)
            assert await anext(stream) == b"1"
            stream_server.kill()
            stream_server.add_faults(Cut(after_bytes=100))
            assert [output async for output in stream] == ITEMS[1:]
        """)
    result.assert_outcomes(passed=3)


def test_a_fault_that_never_fires_fails_the_test_and_is_named(project):
    result = project("""
        @pytest.mark.stream_faults(Fault(FaultKind.CLOSE, at=10), Fault(FaultKind.KILL, at=5000))
        def test_kill(sync_stream_client):
            assert list(sync_stream_client.stream(ITEMS)) == ITEMS

        @pytest.mark.asyncio
        @pytest.mark.stream_faults(Cut(after_bytes=10_000_000))
        async def test_cut(stream_client):
            assert [output async for output in stream_client.stream(ITEMS)] == ITEMS

        @pytest.mark.stream_faults(Fault(FaultKind.KILL, at=1))
        def test_without_a_server():
            pass

        @pytest.mark.stream_faults(Fault(FaultKind.KILL, at=1))
        def test_that_fails_anyhow(stream_server):
            assert 1 == 2
        """)
    result.assert_outcomes(failed=4)
    result.stdout.fnmatch_lines(
        [
            "never fired: kill at 5000",
            "never fired: Cut(after_bytes=10000000)",
            "marked stream_faults, but uses no server of servestream_client",
            "*assert 1 == 2",
        ]
    )
    result.stdout.no_fnmatch_line("*close at 10*never*")


def test_a_marker_of_a_class_holds_for_its_tests(project):
    result = project("""
        @pytest.mark.stream_faults(Fault(FaultKind.CLOSE, at=100))
        class TestAll:
            @pytest.mark.stream_faults(Fault(FaultKind.CLOSE, at=200))
            def test_one(self, sync_stream_client):
                stream = sync_stream_client.stream(ITEMS)
                assert list(stream) == ITEMS
                assert stream.statistics().resumes == 2

            def test_two(self, sync_stream_client):
                stream = sync_stream_client.stream(ITEMS)
                assert list(stream) == ITEMS
                assert stream.statistics().resumes == 1
        """)
    result.assert_outcomes(passed=2)


# ------------------------------------------------------------------ failures


def test_a_failure_shows_what_happened(project):
    result = project("""
        @pytest.mark.stream_faults(Fault(FaultKind.KILL, at=200))
        def test_wrong(sync_stream_client):
            assert list(sync_stream_client.stream(ITEMS)) == []
        """)
    result.assert_outcomes(failed=1)
    result.stdout.re_match_lines(
        [
            r".*servestream: what happened.*",
            r"stream [0-9a-f]{6}: attempts \d, resumes 1, served by in-process-1, in-process-2",
            r".* s  connection 1 opened",
            r".* s  stream [0-9a-f]{6}, attempt 1: open, from input 1",
            r".* s  stream [0-9a-f]{6}, attempt 1: welcome from in-process-1",
            r".* s  fault fired: kill at 200",
            r".* s  in-process-1 was killed",
            r".* welcome from in-process-2",
            r".* complete: \d+ inputs received, \d+ outputs sent",
        ],
        consecutive=False,
    )


def test_a_test_that_passes_shows_nothing(project):
    result = project("""
        def test_right(sync_stream_client):
            assert list(sync_stream_client.stream(ITEMS)) == ITEMS
        """)
    result.stdout.no_fnmatch_line("*what happened*")


# ------------------------------------------------------------------ what it costs, what it leaves


def test_the_plugin_alone_imports_nothing_of_the_package(pytester):
    pytester.makepyfile("""
        import sys

        def test_light(pytestconfig):
            assert pytestconfig.pluginmanager.has_plugin("servestream")
            heavy = {"servestream_client", "grpc", "google.protobuf", "tenacity", "ray", "psutil"}
            assert not heavy & set(sys.modules)
        """)
    pytester.runpytest_subprocess(*OPTIONS).assert_outcomes(passed=1)


def test_nothing_is_left(project):
    result = project(
        """
        import gc
        import socket

        left = []

        def threads():
            return {
                thread.name
                for thread in threading.enumerate()
                if thread.name.startswith(("servestream", "asyncio-portal", "AnyIO"))
            }

        def use(server, client):
            stream = client.stream(ITEMS)
            next(stream)
            left.append(server.target)
            server.kill()
            next(stream)

        def test_uses(stream_server, sync_stream_client):
            use(stream_server, sync_stream_client)

        @pytest.mark.asyncio
        async def test_uses_async(stream_server, stream_client):
            left.append(stream_server.target)
            await anext(stream_client.stream(ITEMS))

        @pytest.mark.asyncio
        async def test_no_task_is_left():
            assert asyncio.all_tasks() == {asyncio.current_task()}

        def test_no_thread_is_left():
            assert threads() == set()

        def test_no_port_is_left():
            assert len(left) == 2
            for target in left:
                with socket.socket() as probe:
                    probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                    probe.bind(("127.0.0.1", int(target.rpartition(":")[2])))
        """,
        "-Werror",
    )
    result.assert_outcomes(passed=5)


def test_side_by_side_in_processes(project):
    result = project(
        """
        @pytest.mark.parametrize("number", range(12))
        @pytest.mark.stream_faults(Fault(FaultKind.KILL, at=100))
        def test_many(sync_stream_client, number):
            assert list(sync_stream_client.stream(ITEMS)) == ITEMS
        """,
        "-n",
        "4",
    )
    result.assert_outcomes(passed=12)


def test_the_marker_is_known_and_described(project):
    result = project("", "--markers", "--strict-markers")
    result.stdout.fnmatch_lines(["@pytest.mark.stream_faults(*faults): *"])
    result = project("", "--fixtures")
    for name in ("stream_server", "make_stream_server", "stream_client", "sync_stream_client"):
        result.stdout.fnmatch_lines([f"{name}*"])


@pytest.mark.parametrize("backend", ["'trio'", "('trio', {})"])
def test_trio_is_refused_at_once(project, backend):
    result = project(
        f"""
        @pytest.fixture
        def anyio_backend():
            return {backend}

        @pytest.mark.anyio
        async def test_stream(stream_client):
            raise AssertionError("it ran")
        """
    )
    assert "it ran" not in result.stdout.str()
    result.stdout.fnmatch_lines(["*a StreamClient needs asyncio*anyio_backend is 'trio'*"])
    result.assert_outcomes(errors=1)
