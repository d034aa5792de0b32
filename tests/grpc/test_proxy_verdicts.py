"""What a client is told where a reverse proxy refuses: nginx, Envoy and HAProxy make the causes."""

import asyncio
import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager

import pytest
from fronts import Certificates, Front, replaced
from helpers import collect, until
from ports import stopped
from verdicts import HASTY, ONCE, Reasons, echo_server, failure

from servestream_client import (
    AccessDeniedError,
    ItemError,
    MessageTooLargeError,
    NotAServerError,
    RejectedError,
    RetriesExhaustedError,
    RetryPolicy,
    StreamClient,
    UnreachableError,
)
from servestream_client.testing import Echo, StreamServer

FEW = RetryPolicy(attempts=8, connect_attempts=8, connect_timeout=0, initial=0.01, maximum=0.01)


@pytest.fixture
def servers() -> Iterator[list[StreamServer]]:
    with ExitStack() as stack:
        yield [stack.enter_context(StreamServer(Echo)) for _ in range(2)]


@pytest.fixture
def certificates(tmp_path) -> Certificates:
    return Certificates(tmp_path)


@pytest.fixture
def start(servers, certificates) -> Callable:
    """Start a reverse proxy before the two servers."""

    @contextmanager
    def started(kind: str, change: Callable[[str], str] = str) -> Iterator[dict]:
        """What a client needs to reach it."""
        with Front(kind, [server.target for server in servers], certificates, change) as running:
            credentials = None if kind == "haproxy" else certificates.credentials()
            yield {"target": running.target, "credentials": credentials}

    return started


def changed(old: str, new: str) -> Callable[[str], str]:
    return lambda page: replaced(page, old, new)


def in_html(page: str) -> str:
    """As nginx is without the page's error pages."""
    return re.sub(r"\n *error_page [^;]*;", "", page)


def answering(answer: str) -> Callable[[str], str]:
    """Changes the page so that nginx answers by itself, in HTML."""
    return lambda page: replaced(in_html(page), "grpc_pass grpc://serve;", f"return {answer};")


class Held:
    """A stream under way, whose last input waits."""

    def __init__(self, **options: object) -> None:
        self.reasons = Reasons()
        self.client = StreamClient(hooks=[self.reasons], **options)
        self._go_on = asyncio.Event()
        self.stream = self.client.stream(self._inputs())

    async def _inputs(self):
        yield b"first"
        await self._go_on.wait()
        yield b"last"

    async def __aenter__(self):
        await self.client.__aenter__()
        assert await anext(self.stream) == b"first"
        return self

    async def __aexit__(self, *_):
        await self.client.aclose()

    async def rest(self) -> list[bytes]:
        self._go_on.set()
        return await collect(self.stream)


# ---------------------------------------------------------------- servers that are gone


@pytest.mark.row("nobody-behind-never-welcomed")
@pytest.mark.parametrize("kind", ["nginx", "envoy", "haproxy"])
async def test_nobody_is_behind_it(start, servers, kind):
    with start(kind) as reach, stopped(servers):
        raised = await failure(**reach)
    assert type(raised) is UnreachableError
    assert "a reverse proxy answers there, and reaches no server behind it" in str(raised)


@pytest.mark.row("nobody-behind")
@pytest.mark.parametrize("kind", ["nginx", "envoy", "haproxy"])
async def test_every_server_behind_it_goes_away_under_a_stream(start, servers, kind):
    with start(kind) as reach:
        async with Held(retry=FEW, **reach) as held:
            with stopped(servers), pytest.raises(RetriesExhaustedError) as caught:
                await held.rest()
    assert "RetryPolicy.attempts): a reverse proxy reaches no server" in str(caught.value)
    assert "delivered: every output of inputs 1 to 1" in str(caught.value)


@pytest.mark.row("reset-by-proxy")
@pytest.mark.parametrize("kind", ["envoy", "nginx"])
async def test_a_server_behind_it_dies_under_a_stream(start, servers, kind):
    with start(kind) as reach:
        async with Held(**reach) as held:
            for server in servers:
                server.kill()
            assert await held.rest() == [b"last"]
    assert "a reverse proxy reset the call: its server has gone" in held.reasons


@pytest.mark.row("replica-died-haproxy")
async def test_a_server_behind_haproxy_dies_under_a_stream(start, servers):
    with start("haproxy") as reach:
        async with Held(**reach) as held:
            for server in servers:
                server.kill()
            assert await held.rest() == [b"last"]
    assert "the replica died (CANCELLED" in held.reasons


# ---------------------------------------------------------------- limits


@pytest.mark.row("body-too-large")
@pytest.mark.parametrize("speaks", ["grpc", "html"])
@pytest.mark.parametrize("limit", ["1k", "10"])
async def test_a_limit_on_the_size_of_requests_is_named(start, speaks, limit):
    """The smaller one does not even let the opening through."""

    def limited(page: str) -> str:
        page = page if speaks == "grpc" else in_html(page)
        return replaced(page, "client_max_body_size 0", f"client_max_body_size {limit}")

    with start("nginx", limited) as reach:
        # Of what nginx says in HTML gRPC now and then hears a reset only.
        raised = await failure(item=bytes(20_000), retry=HASTY, **reach)
    assert type(raised) is MessageTooLargeError
    assert "nginx: client_max_body_size 0" in str(raised)


@pytest.mark.row("reset-by-proxy")
async def test_the_limit_is_the_whole_streams(start):
    """Each input is far below it: the stream is cut when it has carried so much, and resumes."""
    reasons = Reasons()
    items = [bytes([n % 256]) * 1000 for n in range(2000)]
    with start("nginx", changed("client_max_body_size 0", "client_max_body_size 200k")) as reach:
        async with StreamClient(hooks=[reasons], **reach) as client:
            assert await collect(client.stream(items)) == items
    assert "carried more than it allows (nginx: client_max_body_size)" in reasons


@pytest.mark.parametrize("speaks", ["grpc", "html"])
async def test_one_input_above_the_limit_is_told_why(start, speaks):
    """Behind others that are far below it. Where nginx says so before it has answered anything,
    the stream ends; where it only resets the call, that input is found to be the cause, and fails.
    """

    def limited(page: str) -> str:
        page = page if speaks == "grpc" else in_html(page)
        return replaced(page, "client_max_body_size 0", "client_max_body_size 200k")

    items = [b"small"] * 10 + [bytes(300_000)] + [b"small"] * 10
    with start("nginx", limited) as reach:
        async with StreamClient(retry=HASTY, **reach) as client:
            stream, taken = client.stream(items), []
            with pytest.raises((MessageTooLargeError, ItemError)) as caught:
                async for output in stream:
                    taken.append(output)
    assert taken == [b"small"] * 10
    assert "nginx: client_max_body_size" in str(caught.value)
    assert "input 11" in str(caught.value) or "inputs 1 to 10" in str(caught.value)


@pytest.mark.row("overloaded")
async def test_a_limit_on_the_rate_of_calls_is_overload(start):
    zone = "limit_req_zone $binary_remote_addr zone=z:1m rate=1r/m; limit_req_status 429;"
    limited = changed("server {\n", f"{zone}\nserver {{\n limit_req zone=z;\n")
    with start("nginx", limited) as reach:
        async with StreamClient(**reach) as client:
            assert await client.predict(b"one") == b"one"
        raised = await failure(retry=FEW, **reach)
    assert type(raised) is RetriesExhaustedError
    assert "the server is overloaded (RESOURCE_EXHAUSTED: rate limited)" in str(raised)
    assert "never answered" not in str(raised)


@pytest.mark.row("envoy-overflow")
async def test_a_circuit_breaker_that_overflows_is_overload(start):
    """Also to a client that has never been served: it waits for its turn, and gets it."""
    reasons = Reasons()
    with start("envoy", changed("max_requests: 10000", "max_requests: 1")) as reach:
        async with Held(**reach) as held:
            raised = await failure(retry=RetryPolicy(attempts=5, initial=0.001), **reach)
            patient = RetryPolicy(attempts=10_000, initial=0.001, maximum=0.05)
            async with StreamClient(hooks=[reasons], retry=patient, **reach) as client:
                waiting = asyncio.ensure_future(client.predict(b"one"))
                await until(lambda: "circuit_breakers" in reasons)
                assert await held.rest() == [b"last"]
                assert await waiting == b"one"
    assert type(raised) is RetriesExhaustedError
    assert raised.attempts == 5
    assert "as many calls under way as it allows (Envoy: circuit_breakers" in str(raised)


def filtered(kind: str, config: str) -> Callable[[str], str]:
    """Changes the page so that Envoy has one more filter."""
    name = kind.rpartition(".v3.")[0].removeprefix("envoy.extensions.")
    return changed(
        "http_filters:\n",
        f"""http_filters:
                  - name: envoy.{name}
                    typed_config: {{"@type": type.googleapis.com/{kind}, {config}}}
""",
    )


@pytest.mark.row("rate-limited")
async def test_a_rate_limit_of_envoy(start):
    always = "{ default_value: { numerator: 100 } }"
    limit = filtered(
        "envoy.extensions.filters.http.local_ratelimit.v3.LocalRateLimit",
        "stat_prefix: limit, token_bucket: { max_tokens: 1, fill_interval: 3600s },"
        f" filter_enabled: {always}, filter_enforced: {always}",
    )
    with start("envoy", limit) as reach:
        async with StreamClient(**reach) as client:
            assert await client.predict(b"one") == b"one"
        raised = await failure(**reach)
    assert type(raised) is RetriesExhaustedError
    assert "limits the rate of calls" in str(raised)


MONITOR = "resource_monitors.injected_resource.v3.InjectedResourceConfig"
OVERLOAD = """overload_manager:
  refresh_interval: 0.01s
  resource_monitors:
    - name: envoy.resource_monitors.injected_resource
      typed_config:
        "@type": type.googleapis.com/envoy.extensions.%s
        filename: %s
  actions:
    - name: envoy.overload_actions.stop_accepting_requests
      triggers:
        - name: envoy.resource_monitors.injected_resource
          threshold: { value: 0.9 }
static_resources:
"""


@pytest.mark.row("envoy-overloaded")
async def test_an_envoy_that_is_overloaded(start, tmp_path):
    pressure = tmp_path / "pressure"
    pressure.write_text("1.0")
    reasons = Reasons()
    with start("envoy", changed("static_resources:\n", OVERLOAD % (MONITOR, pressure))) as reach:
        while "the reverse proxy is overloaded" not in reasons:  # it looks now and then
            async with StreamClient(hooks=[reasons], retry=ONCE, **reach) as client:
                await asyncio.gather(client.predict(b"one"), return_exceptions=True)


class Undecided(Echo):
    """Takes its time to admit a stream, for ever."""

    async def admit(self, request):
        await asyncio.Event().wait()


@pytest.mark.row("proxy-timeout")
@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("timeout: 0s", "max_stream_duration: { max_stream_duration: 0.3s }"),
        ("stream_idle_timeout: 120s", "stream_idle_timeout: 0.3s"),
    ],
)
async def test_a_limit_on_the_length_of_a_call_that_was_not_answered(certificates, old, new):
    with (
        StreamServer(Undecided) as server,
        Front("envoy", [server.target] * 2, certificates, changed(old, new)) as running,
    ):
        # Now and then Envoy says the one limit as the server would, the last time, too.
        reasons, retry = Reasons(), RetryPolicy(attempts=4, connect_attempts=4, connect_timeout=0)
        reach = {"credentials": certificates.credentials(), "hooks": [reasons]}
        raised = await failure(running.target, retry=retry, **reach)
    assert type(raised) is RetriesExhaustedError
    assert "a reverse proxy cut the call for its length or its silence" in reasons


# ---------------------------------------------------------------- who refuses, and what listens


@pytest.mark.parametrize(
    ("answer", "error", "text"),
    [
        pytest.param("404", NotAServerError, "route that path", marks=pytest.mark.row("http-404")),
        pytest.param(
            "301 https://example.com/",
            NotAServerError,
            "redirects elsewhere",
            marks=pytest.mark.row("http-redirect"),
        ),
        pytest.param(
            "400", RejectedError, "calls the request bad", marks=pytest.mark.row("http-400")
        ),
        pytest.param(
            "413", MessageTooLargeError, "limits the size", marks=pytest.mark.row("body-too-large")
        ),
        pytest.param(
            "403", AccessDeniedError, "does not allow", marks=pytest.mark.row("permission-denied")
        ),
        pytest.param(
            "401",
            AccessDeniedError,
            "asks for credentials",
            marks=pytest.mark.row("unauthenticated"),
        ),
        pytest.param(
            "429",
            RetriesExhaustedError,
            "limits the rate of calls",
            marks=pytest.mark.row("rate-limited"),
        ),
        pytest.param(
            "503",
            UnreachableError,
            "reaches no server behind it",
            marks=pytest.mark.row("nobody-behind-never-welcomed"),
        ),
    ],
)
async def test_what_nginx_says_in_html(start, answer, error, text):
    """gRPC loses half of it, and hears that a stream was reset: that is not the last word."""
    with start("nginx", answering(answer)) as reach:
        raised = await failure(retry=HASTY, **reach)
    assert type(raised) is error
    assert text in str(raised)


@pytest.mark.row("broken-off")
async def test_a_reset_that_hides_what_nginx_said(start):
    reasons = Reasons()
    with start("nginx", answering("503")) as reach:
        while "a reverse proxy broke the call off before the first response" not in reasons:
            async with StreamClient(hooks=[reasons], retry=FEW, **reach) as client:
                await asyncio.gather(client.predict(b"one"), return_exceptions=True)


@pytest.mark.row("tls-no-http2")
@pytest.mark.parametrize(
    ("kind", "old", "new", "text"),
    [
        ("nginx", "http2 on;", "", "nginx: http2 on"),
        ("envoy", "[h2]", "[http/1.1]", "Envoy: alpn_protocols: [h2]"),
    ],
)
async def test_tls_without_http2(start, kind, old, new, text):
    with start(kind, changed(old, new)) as reach:
        raised = await failure(**reach)
    assert type(raised) is UnreachableError
    assert text in str(raised)


@pytest.mark.row("not-grpc-without-tls")
async def test_nginx_with_tls_and_a_client_without(start):
    with start("nginx") as reach:
        raised = await failure(reach["target"])
    assert type(raised) is UnreachableError
    assert "lacks credentials=" in str(raised)


@pytest.mark.row("tls-certificate-wanted")
async def test_envoy_asks_for_a_certificate_and_closes(start, tmp_path):
    asked = f"""require_client_certificate: true
              common_tls_context:
                validation_context: {{ trusted_ca: {{ filename: {tmp_path}/ca.pem }} }}"""
    with start("envoy", changed("common_tls_context:", asked)) as reach:
        raised = await failure(**reach)
    assert type(raised) is UnreachableError
    assert "may ask for a client certificate that it trusts" in str(raised)
    assert "lacks credentials=" not in str(raised)


@pytest.mark.row("http1-behind")
async def test_envoy_that_speaks_another_http_to_the_server(start):
    with start("envoy", changed("http2_protocol_options", "http_protocol_options")) as reach:
        raised = await failure(**reach)
    assert type(raised) is UnreachableError
    assert "does not speak HTTP/2, or is not asked to" in str(raised)


async def test_nginx_that_passes_calls_on_as_http1(start):
    """It gathers the request, which has no end."""
    retry = RetryPolicy(connect_attempts=1, connect_timeout=0, open_timeout=1.0)
    with start("nginx", changed("grpc_pass grpc:", "proxy_pass http:")) as reach:
        raised = await failure(retry=retry, **reach)
    assert type(raised) is UnreachableError
    assert "proxy_pass where it should be grpc_pass" in str(raised)


@pytest.mark.row("permission-denied")
async def test_envoy_denies(start):
    rbac = filtered("envoy.extensions.filters.http.rbac.v3.RBAC", "rules: { action: ALLOW }")
    with start("envoy", rbac) as reach:
        raised = await failure(**reach)
    assert type(raised) is AccessDeniedError
    assert "RBAC: access denied" in str(raised)


@pytest.mark.row("unimplemented")
async def test_envoy_without_the_route(start):
    with start("envoy", changed("prefix: /servestream.v1", "prefix: /other.v1")) as reach:
        raised = await failure(**reach)
    assert type(raised) is NotAServerError
    assert "route that service in a reverse proxy" in str(raised)


# ---------------------------------------------------------------- metadata


def padded(size: int, pairs: int = 1) -> list[tuple[str, str]]:
    return [(f"x-{number}", "a" * (size // pairs)) for number in range(pairs)]


@asynccontextmanager
async def haproxy(certificates: Certificates):
    """Before a server with gRPC's own limits, as Serve has it; its target."""
    async with echo_server() as server:
        with Front("haproxy", [server], certificates) as running:
            yield running.target


@pytest.mark.row("metadata-stream-reset")
async def test_metadata_that_haproxy_resets(certificates):
    async with haproxy(certificates) as target:
        with pytest.warns(UserWarning, match="at random"):
            raised = await failure(target, metadata=padded(15_000))
    assert type(raised) is MessageTooLargeError
    assert "156" in str(raised)
    assert "exceed what it accepts: send less in metadata=" in str(raised)


@pytest.mark.row("metadata-connection-closed")
@pytest.mark.parametrize("pairs", [1, 400])
async def test_metadata_for_which_haproxy_closes_the_connection(certificates, pairs):
    async with haproxy(certificates) as target:
        with pytest.warns(UserWarning, match="Ray Serve always"):
            raised = await failure(target, metadata=padded(18_000, pairs))
    assert type(raised) is MessageTooLargeError
    assert "the connection was closed over this call, whose metadata" in str(raised)


@pytest.mark.row("metadata-connection-closed")
async def test_metadata_for_which_nginx_closes_the_connection(start):
    with start("nginx") as reach, pytest.warns(UserWarning, match="at random"):
        raised = await failure(metadata=padded(9_000), **reach)
    assert type(raised) is MessageTooLargeError


@pytest.mark.row("metadata-huge-reset")
async def test_metadata_that_envoy_resets(start):
    with start("envoy") as reach, pytest.warns(UserWarning, match="Ray Serve always"):
        raised = await failure(metadata=padded(62_500), **reach)
    assert type(raised) is MessageTooLargeError
    assert "perhaps because of its metadata: 631" in str(raised)
