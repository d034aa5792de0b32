"""What a failed call is taken for: servers, sockets and TLS that make each true cause themselves.

Reverse proxies are in test_fronts.py, Ray Serve in tests/ray.
"""

import asyncio
import logging
import socket
from contextlib import closing

import grpc
import grpc.aio
import pytest
from fronts import Certificates
from helpers import collect, numbered
from tcp import saying, tcp_server
from test_hostile_servers import WELCOME
from verdicts import HASTY, ONCE, Reasons, echo_server, failure, grpc_server

from servestream_client import (
    AccessDeniedError,
    ConfigurationError,
    FlowControl,
    Hooks,
    MessageTooLargeError,
    NotAServerError,
    RejectedError,
    RetriesExhaustedError,
    RetryPolicy,
    StreamClient,
    StreamError,
    SyncStreamClient,
    UnreachableError,
)
from servestream_client.testing import CutKind, Delay, Echo, FaultProxy, StreamServer
from servestream_client.transport import grpc_link
from servestream_client.wire import stream_pb2 as pb


def padding(size: int) -> list[tuple[str, str]]:
    return [("x-padding", "a" * size)]


# ---------------------------------------------------------------- what the service itself says


@pytest.mark.parametrize(
    ("code", "error", "text"),
    [
        pytest.param(
            grpc.StatusCode.UNAUTHENTICATED,
            AccessDeniedError,
            "asks for credentials: a token in metadata=, or a client certificate",
            marks=pytest.mark.row("unauthenticated"),
        ),
        pytest.param(
            grpc.StatusCode.PERMISSION_DENIED,
            AccessDeniedError,
            "does not allow this",
            marks=pytest.mark.row("permission-denied"),
        ),
        pytest.param(
            grpc.StatusCode.INVALID_ARGUMENT,
            RejectedError,
            "calls the call invalid",
            marks=pytest.mark.row("invalid-argument"),
        ),
        pytest.param(
            grpc.StatusCode.OUT_OF_RANGE,
            RejectedError,
            "out of range",
            marks=pytest.mark.row("out-of-range"),
        ),
        pytest.param(
            grpc.StatusCode.FAILED_PRECONDITION,
            RetriesExhaustedError,
            "the call failed (FAILED_PRECONDITION: because)",
            marks=pytest.mark.row("any"),
        ),
        pytest.param(
            grpc.StatusCode.INTERNAL,
            RetriesExhaustedError,
            "the call broke (INTERNAL: because)",
            marks=pytest.mark.row("internal"),
        ),
    ],
)
async def test_a_service_that_says_no(listen, code, error, text):
    async def refuse(requests, context):
        await context.abort(code, "because")
        yield

    raised = await failure(await listen(refuse))
    assert type(raised) is error
    assert text in str(raised)


@pytest.mark.row("truncated")
async def test_a_call_that_ends_in_good_order_and_too_early(listen):
    async def welcome_and_leave(requests, context):
        await anext(aiter(requests))
        yield WELCOME

    raised = await failure(await listen(welcome_and_leave))
    assert type(raised) is RetriesExhaustedError
    assert "in good order, but with inputs unanswered (OK)" in str(raised)


@pytest.mark.row("ok-at-once")
async def test_a_method_of_another_kind(listen):
    async def other(requests, context):
        return
        yield

    raised = await failure(await listen(other))
    assert type(raised) is NotAServerError
    assert "its method is not a StreamService's" in str(raised)


@pytest.mark.row("unimplemented")
async def test_a_server_without_the_service():
    async with grpc_server() as target:
        raised = await failure(target)
    assert type(raised) is NotAServerError
    assert "GRPC_SERVICER_FUNCTIONS" in str(raised)


# ---------------------------------------------------------------- too large


@pytest.mark.row("message-too-large")
async def test_an_input_larger_than_the_server_takes():
    options = [("grpc.max_receive_message_length", 10_000)]
    async with echo_server(options=options) as target:
        raised = await failure(target, item=bytes(50_000))
    assert type(raised) is MessageTooLargeError
    assert "lower FlowControl.max_item_bytes, or raise the peer's" in str(raised)


@pytest.mark.row("message-too-large")
async def test_an_output_larger_than_this_client_takes(listen):
    async def shout(requests, context):
        yield WELCOME
        yield pb.ServerFrame(outputs=[pb.OutputRun(first_number=1, payloads=[bytes(2_000_000)])])
        async for _ in requests:
            pass

    raised = await failure(await listen(shout), flow=FlowControl(max_item_bytes=1000))
    assert type(raised) is MessageTooLargeError


@pytest.mark.row("metadata-hard-limit")
async def test_metadata_above_the_hard_limit_of_others_are_final():
    async with echo_server() as target:
        with pytest.warns(UserWarning, match=r"take 17641 bytes, .* Ray Serve always"):
            raised = await failure(target, retry=HASTY, metadata=padding(17_000))
    assert type(raised) is MessageTooLargeError
    assert raised.attempts == 1
    assert "the metadata of the call, 17641 bytes, exceed the hard limit" in str(raised)
    assert "send less in metadata= and Hooks.metadata" in str(raised)


async def soft_limit_met(target: str, metadata) -> StreamError:
    """Calls are refused by chance: until one is."""
    for _ in range(100):
        async with StreamClient(target, retry=ONCE, metadata=metadata) as client:
            try:
                await client.predict(b"one")
            except StreamError as error:
                return error
    raise AssertionError("never refused")


@pytest.mark.row("metadata-soft-limit-never-welcomed")
async def test_metadata_above_the_soft_limit_of_others_are_told_from_overload():
    async with echo_server() as target:
        with pytest.warns(UserWarning, match=r"take 12641 bytes, .* at random"):
            raised = await soft_limit_met(target, padding(12_000))
    assert type(raised) is MessageTooLargeError
    assert "12641 bytes, exceed the soft limit" in str(raised)


@pytest.mark.row("metadata-huge-unsaid")
async def test_a_server_whose_own_words_are_too_long_to_send():
    """It lists every pair, and gRPC drops a status text of more than 2 KiB."""
    async with echo_server() as target:
        with pytest.warns(UserWarning, match="Ray Serve always"):
            raised = await failure(target, metadata=[(f"x-{n}", "a" * 20) for n in range(400)])
    assert type(raised) is MessageTooLargeError
    assert "does not say what it lacks" in str(raised)


@pytest.mark.row("metadata-large-unsaid")
async def test_a_server_whose_words_on_the_soft_limit_are_too_long():
    async with echo_server() as target:
        with pytest.warns(UserWarning, match="at random"):
            raised = await soft_limit_met(target, [(f"x-{n}", "a" * 20) for n in range(260)])
    assert type(raised) is MessageTooLargeError
    assert "overloaded, or the metadata of the call" in str(raised)


class Padding(Hooks):
    """Adds to every call's metadata once it is told to."""

    size = 0

    def metadata(self, attempt, /):
        return padding(self.size) if self.size else ()


@pytest.mark.row("metadata-soft-limit")
async def test_what_hooks_add_counts_and_a_known_server_is_tried_again(caplog):
    hook, reasons = Padding(), Reasons()
    async with (
        echo_server() as target,
        StreamClient(target, retry=HASTY, hooks=[hook, reasons]) as client,
    ):
        assert await client.predict(b"one") == b"one"
        hook.size = 13_000
        while "exceed the soft limit" not in reasons:
            with pytest.MonkeyPatch.context() as patched:
                patched.setattr(client, "_predictor", None)  # another stream, another call
                assert await collect(client.stream([b"one"])) == [b"one"]
    warned = [r for r in caplog.records if r.levelno == logging.WARNING]
    assert len(warned) == 1
    assert "with what hooks add, the metadata take 13641 bytes" in warned[0].getMessage()


@pytest.mark.parametrize("face", [StreamClient, SyncStreamClient])
def test_metadata_that_no_server_takes_are_refused_at_once(face):
    with pytest.raises(ConfigurationError, match=r"no server accepts more than 65536; Ray Serve"):
        face("127.0.0.1:1", metadata=padding(65_000))


@pytest.mark.parametrize("face", [StreamClient, SyncStreamClient])
def test_the_warning_names_the_line_that_makes_the_client(face):
    with pytest.warns(UserWarning, match="8192") as caught:
        face("127.0.0.1:1", metadata=padding(9_000))
    assert caught[0].filename == __file__


async def test_our_own_ends_take_metadata_that_others_refuse():
    """In many pairs, in one, and in bytes."""
    many = [(f"x-{number}", "a") for number in range(99)]
    large = [("x-padding", "a" * 30_000), ("x-bytes-bin", bytes(10_000)), *many]
    with StreamServer(Echo) as server:
        for _ in range(5):
            with pytest.warns(UserWarning, match="Ray Serve always"):
                client = StreamClient(server.target, retry=ONCE, metadata=large)
            async with client:
                assert await client.predict(b"one") == b"one"


# ---------------------------------------------------------------- nobody, or somebody else


@pytest.mark.row("refused")
async def test_nobody_listens():
    with closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        target = f"127.0.0.1:{probe.getsockname()[1]}"
        raised = await failure(target)
    assert type(raised) is UnreachableError
    assert "nobody answers there" in str(raised)
    assert "Connection refused" in str(raised)


@pytest.mark.row("unknown-name")
async def test_a_name_that_does_not_resolve():
    raised = await failure("no-such-name.invalid:9000")
    assert type(raised) is UnreachableError
    assert "the name of the target cannot be resolved" in str(raised)


@pytest.mark.row("not-grpc-without-tls")
@pytest.mark.parametrize(
    "reply", [b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n", b"SSH-2.0-OpenSSH_9.6\r\n"]
)
async def test_a_server_of_another_kind(reply):
    with tcp_server(saying(reply)) as target:
        raised = await failure(target)
    assert type(raised) is UnreachableError
    assert "does not speak gRPC: Serve's HTTP port, or a reverse proxy with TLS" in str(raised)


@pytest.mark.row("not-grpc-with-tls")
async def test_a_server_of_another_kind_with_tls(tmp_path):
    own = Certificates(tmp_path)
    with tcp_server(saying(b"HTTP/1.1 200 OK\r\n\r\n"), own.context()) as target:
        raised = await failure(target, credentials=own.credentials())
    assert type(raised) is UnreachableError
    assert "has TLS, but does not speak gRPC behind it" in str(raised)
    assert "lacks credentials=" not in str(raised)


@pytest.mark.row("closed-without-tls")
async def test_a_server_that_closes_before_a_word():
    with tcp_server(saying(b"")) as target:
        raised = await failure(target)
    assert type(raised) is UnreachableError
    assert "for which this client lacks credentials=" in str(raised)


@pytest.mark.row("silent")
async def test_a_server_that_says_nothing(monkeypatch):
    monkeypatch.setattr(grpc_link, "CONNECT_MS", 200)
    with tcp_server(saying(None)) as target:
        raised = await failure(target)
    assert type(raised) is UnreachableError
    assert "accepted, and nothing was received on it" in str(raised)


@pytest.mark.row("silent-with-tls")
async def test_a_server_that_says_nothing_to_a_handshake(monkeypatch):
    monkeypatch.setattr(grpc_link, "CONNECT_MS", 200)
    with tcp_server(saying(None)) as target:
        raised = await failure(target, credentials=grpc.ssl_channel_credentials())
    assert type(raised) is UnreachableError
    assert "ended in the TLS handshake" in str(raised)


async def test_a_far_away_server_with_tls_has_time_to_connect(tmp_path):
    """Four round trips of 300 ms."""
    own = Certificates(tmp_path)
    async with echo_server(credentials=own.server()) as target, FaultProxy(target) as proxy:
        proxy.add(Delay(0.15))
        credentials = own.credentials()
        async with StreamClient(proxy.target, credentials=credentials, retry=ONCE) as client:
            assert await client.predict(b"one") == b"one"
        assert proxy.accepted == 1


async def test_a_server_that_lets_one_stream_share_a_connection():
    """The next one waits without a word, is told what that may be, and takes another connection.

    (Calls of `predict` have a connection of their own.)
    """
    reasons, gate = Reasons(), asyncio.Event()
    retry = RetryPolicy(open_timeout=0.5)

    async def inputs():
        yield b"first"
        await gate.wait()

    async with (
        echo_server(options=[("grpc.max_concurrent_streams", 1)]) as target,
        StreamClient(target, hooks=[reasons], retry=retry) as client,
    ):
        stream = client.stream(inputs())
        assert await anext(stream) == b"first"
        assert await collect(client.stream([b"one"])) == [b"one"]
        gate.set()
        assert await collect(stream) == []
    assert "beyond what a connection may carry (streams_per_connection)" in reasons


@pytest.mark.row("connection-broke")
async def test_a_connection_that_breaks_under_a_stream():
    reasons, gate = Reasons(), asyncio.Event()

    async def inputs():
        yield b"first"
        await gate.wait()
        yield b"last"

    with StreamServer(Echo) as server:
        async with StreamClient(server.target, hooks=[reasons]) as client:
            stream = client.stream(inputs())
            assert await anext(stream) == b"first"
            server.proxy.cut(CutKind.RESET)
            gate.set()
            assert await collect(stream) == [b"last"]
    assert "the connection broke, or is refused (UNAVAILABLE" in reasons


# ---------------------------------------------------------------- TLS


@pytest.mark.row("tls-expired")
async def test_an_expired_certificate(tmp_path):
    own = Certificates(tmp_path, expired=True)
    async with echo_server(credentials=own.server()) as target:
        raised = await failure(target, credentials=own.credentials())
    assert type(raised) is UnreachableError
    assert "the certificate there has expired" in str(raised)


@pytest.mark.row("tls-untrusted")
async def test_an_authority_that_is_not_trusted(tmp_path):
    own = Certificates(tmp_path)
    async with echo_server(credentials=own.server()) as target:
        raised = await failure(target, credentials=grpc.ssl_channel_credentials())
    assert type(raised) is UnreachableError
    assert "not signed by an authority that credentials= trust" in str(raised)


@pytest.mark.row("tls-other-name")
async def test_a_certificate_for_another_name(tmp_path):
    own = Certificates(tmp_path, "models.example.com")
    async with echo_server(credentials=own.server()) as target:
        raised = await failure(target, credentials=own.credentials())
    assert type(raised) is UnreachableError
    assert "the certificate there is for another name" in str(raised)


@pytest.mark.row("tls-no-tls-there")
async def test_tls_to_a_server_without():
    async with echo_server() as target:
        raised = await failure(target, credentials=grpc.ssl_channel_credentials())
    assert type(raised) is UnreachableError
    assert "credentials= ask for TLS, and what listens there has none" in str(raised)


@pytest.mark.row("closed-without-tls")
async def test_no_tls_to_a_server_with(tmp_path):
    async with echo_server(credentials=Certificates(tmp_path).server()) as target:
        raised = await failure(target)
    assert type(raised) is UnreachableError
    assert "a reverse proxy with TLS, for which this client lacks credentials=" in str(raised)


@pytest.mark.row("closed-with-tls")
@pytest.mark.parametrize("shown", ["none", "another authority's"])
async def test_a_server_that_asks_for_a_client_certificate(tmp_path, tmp_path_factory, shown):
    own = Certificates(tmp_path)
    credentials = own.credentials()
    if shown != "none":
        other = Certificates(tmp_path_factory.mktemp("other"))
        certificate, key = other.of_a_client()
        credentials = grpc.ssl_channel_credentials(
            own.authority.read_bytes(), key.read_bytes(), certificate.read_bytes()
        )
    async with echo_server(credentials=own.server(asks=True)) as target:
        raised = await failure(target, credentials=credentials)
        async with StreamClient(target, credentials=own.credentials(shown=True)) as client:
            assert await client.predict(b"one") == b"one"
    assert type(raised) is UnreachableError
    assert "lacks credentials=" not in str(raised)
    assert "asks for a client certificate that it trusts" in str(raised)
    assert "private_key=" in str(raised)


async def test_a_certificate_that_expires_while_a_client_lives_is_named(tmp_path, tmp_path_factory):
    """To a target that has served it, too."""
    own = Certificates(tmp_path)
    reasons = Reasons()
    async with echo_server(credentials=own.server()) as first:
        with FaultProxy(first) as proxy:
            credentials = own.credentials()
            async with StreamClient(
                proxy.target, credentials=credentials, retry=HASTY, hooks=[reasons]
            ) as client:
                assert await collect(client.stream(numbered(10))) == numbered(10)
                other = Certificates(tmp_path_factory.mktemp("other"))
                async with echo_server(credentials=other.server()) as second:
                    proxy.upstream = second
                    proxy.cut()
                    with pytest.raises(UnreachableError) as caught:
                        await collect(client.stream(numbered(10)))
    assert "not signed by an authority" in str(caught.value)
    assert "gave up after attempt" in str(caught.value)
