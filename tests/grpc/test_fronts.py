"""Through nginx and Envoy with TLS, as docs/how-to/behind-a-reverse-proxy.md configures them."""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import grpc
import pytest
from fronts import Certificates, Front, replaced
from helpers import collect, numbered, until
from ports import stopped

from servestream_client import (
    AccessDeniedError,
    RetryPolicy,
    StreamClient,
    UnreachableError,
)
from servestream_client.testing import Echo, Fault, FaultKind, StreamServer

ONCE = RetryPolicy(connect_attempts=1, connect_timeout=0)
RIGHT = [("authorization", "Bearer right")]


@pytest.fixture
def servers() -> Iterator[list[StreamServer]]:
    """Two servers of the same service."""
    with ExitStack() as stack:
        yield [stack.enter_context(StreamServer(Echo)) for _ in range(2)]


@pytest.fixture(params=["nginx", "envoy"])
def kind(request) -> str:
    return request.param


@pytest.fixture
def start(kind, servers, tmp_path) -> Callable:
    """Start a reverse proxy before the two servers."""

    @contextmanager
    def started(
        change: Callable[[str], str] = str, certificates: Certificates | None = None
    ) -> Iterator[tuple[Front, Certificates]]:
        certificates = certificates or Certificates(tmp_path)
        running = Front(kind, [server.target for server in servers], certificates, change)
        with running:
            yield running, certificates

    return started


def only_with_a_token(kind: str) -> Callable[[str], str]:
    """Changes the page so that the reverse proxy answers 401 to calls without `RIGHT`."""
    if kind == "nginx":
        denied = 'if ($http_authorization != "Bearer right") { return 401; }'
        return lambda page: replaced(page, "grpc_pass", f"{denied}\n grpc_pass")
    match = """- match:
                            prefix: /
                            headers: [{name: authorization, invert_match: true,
                                       treat_missing_header_as_empty: true,
                                       string_match: {exact: Bearer right}}]
                          direct_response: { status: 401 }
                        - match: { prefix: /serve"""
    return lambda page: replaced(page, "- match: { prefix: /serve", match)


def only_with_a_certificate(kind: str, folder: Path) -> Callable[[str], str]:
    """Changes the page so that clients show a certificate of the same authority."""
    if kind == "nginx":
        asked = f"ssl_verify_client on; ssl_client_certificate {folder}/ca.pem;"
        return lambda page: replaced(page, "http2 on;", f"http2 on; {asked}")
    asked = f"""require_client_certificate: true
              common_tls_context:
                validation_context: {{ trusted_ca: {{ filename: {folder}/ca.pem }} }}"""
    return lambda page: replaced(page, "common_tls_context:", asked)


async def test_streams_and_calls_pass_whole(start, connect):
    with start() as (running, certificates):
        async with connect(running.target, credentials=certificates.credentials()) as client:
            streams = [client.stream(numbered(2000)) for _ in range(8)]
            assert await asyncio.gather(*map(collect, streams)) == [numbered(2000)] * 8
            assert await client.predict(b"one") == b"one"
            large = [bytes([number]) * 3_000_000 for number in range(8)]
            assert await collect(client.stream(large)) == large


async def test_a_server_behind_it_dies(start, servers, connect):
    for server in servers:
        server.add_faults(Fault(FaultKind.KILL, 500))
    with start() as (running, certificates):
        async with connect(running.target, credentials=certificates.credentials()) as client:
            stream = client.stream(numbered(1500))
            assert await collect(stream) == numbered(1500)
            assert stream.statistics().resumes >= 1


async def test_it_is_killed_and_comes_back(start):
    with start() as (running, certificates):
        credentials = certificates.credentials()
        async with StreamClient(running.target, credentials=credentials) as client:
            stream = client.stream(numbered(5000))
            taken = []
            async for output in stream:
                taken.append(output)
                if len(taken) in (1000, 3000):
                    running.kill()
                    running.start()
            assert taken == numbered(5000)
            assert stream.statistics().resumes >= 1


async def test_a_limit_on_the_length_of_calls_costs_resumes_and_nothing_else(start, kind):
    """Envoy's is a second; nginx has none, but cuts where it is told to stop."""

    def limited(page: str) -> str:
        limit = "max_stream_duration: { max_stream_duration: 0.5s }"
        return page if kind == "nginx" else replaced(page, "timeout: 0s", limit)

    with start(limited) as (running, certificates):
        credentials = certificates.credentials()
        async with StreamClient(running.target, credentials=credentials) as client:
            cut = asyncio.Event()

            async def inputs():
                yield b"first"
                await cut.wait()
                yield b"last"

            stream = client.stream(inputs())
            assert await anext(stream) == b"first"
            if kind == "nginx":
                running.kill()
                running.start()
            await until(lambda: stream.statistics().resumes >= 1)
            cut.set()
            assert await collect(stream) == [b"last"]


@pytest.mark.row("unauthenticated")
async def test_a_client_without_a_token_is_told_at_once(start, kind, connect):
    with start(only_with_a_token(kind)) as (running, certificates):
        options = {"credentials": certificates.credentials()}
        async with connect(running.target, metadata=RIGHT, **options) as client:
            assert await client.predict(b"one") == b"one"
        async with connect(running.target, **options) as client:
            with pytest.raises(AccessDeniedError, match="asks for credentials"):
                await client.predict(b"one")


async def test_a_client_without_a_certificate_does_not_pass(start, kind, connect, tmp_path):
    with start(only_with_a_certificate(kind, tmp_path)) as (running, certificates):
        shown = certificates.credentials(shown=True)
        async with connect(running.target, credentials=shown) as client:
            assert await client.predict(b"one") == b"one"
        hidden = certificates.credentials()
        refusal = AccessDeniedError if kind == "nginx" else UnreachableError
        async with connect(running.target, credentials=hidden, retry=ONCE) as client:
            with pytest.raises(refusal, match="client certificate"):
                await client.predict(b"one")


async def test_one_that_is_not_trusted_is_unreachable_and_the_text_says_why(
    start, connect, tmp_path_factory
):
    other = Certificates(tmp_path_factory.mktemp("other"))
    with start() as (running, _):
        async with connect(running.target, credentials=other.credentials(), retry=ONCE) as client:
            with pytest.raises(
                UnreachableError, match="not signed by an authority that credentials= trust"
            ):
                await client.predict(b"one")


async def test_one_of_another_name_is_told_from_others(start, connect, tmp_path):
    with start(certificates=Certificates(tmp_path, "models.example.com")) as (running, own):
        async with connect(running.target, credentials=own.credentials(), retry=ONCE) as client:
            with pytest.raises(UnreachableError, match="another name"):
                await client.predict(b"one")


async def test_a_client_without_tls_is_told_that_it_is_asked_for(start, connect):
    with start() as (running, _):
        async with connect(running.target, retry=ONCE) as client:
            with pytest.raises(UnreachableError, match="reverse proxy with TLS, for which"):
                await client.predict(b"one")


async def test_a_client_with_tls_is_told_that_the_server_has_none(servers, connect):
    trusted = grpc.ssl_channel_credentials()
    async with connect(servers[0].target, credentials=trusted, retry=ONCE) as client:
        with pytest.raises(UnreachableError, match="what listens there has none"):
            await client.predict(b"one")


async def test_no_server_behind_it_is_a_target_that_nobody_answers(start, servers, connect):
    with start() as (running, certificates):
        options = {"credentials": certificates.credentials(), "retry": ONCE}
        with stopped(servers):
            async with connect(running.target, **options) as client:
                with pytest.raises(UnreachableError):
                    await client.predict(b"one")
