"""What is said of the environment's proxies is what gRPC's core does with them; and this machine is
reached without any.
"""

import os

import grpc
import grpc.aio
import pytest
from tcp import saying, tcp_server

from servestream_client import (
    RetryPolicy,
    StreamClient,
    SyncStreamClient,
    UnreachableError,
)
from servestream_client.testing import StreamServer
from servestream_client.transport import proxies
from servestream_client.transport.proxies import is_local_target, proxy_of

NAMES = [
    f"{kind}_proxy" if lower else f"{kind}_proxy".upper()
    for kind in ("http", "https", "grpc", "all", "no", "no_grpc")
    for lower in (True, False)
]


@pytest.fixture(autouse=True)
def environment(monkeypatch):
    for name in NAMES:
        monkeypatch.delenv(name, raising=False)
    return monkeypatch


@pytest.fixture
def proxy():
    """An HTTP proxy that refuses everything; its port, and the requests that it got."""
    requests: list[str] = []

    def refuse(connection):
        with connection.makefile("rb") as lines:
            requests.append(lines.readline().decode())
        saying(b"HTTP/1.1 403 Forbidden\r\n\r\n")(connection)

    with tcp_server(refuse) as target:
        yield int(target.partition(":")[2]), requests


URL = "http://user:secret@127.0.0.1:{port}"


@pytest.mark.parametrize("target", ["127.0.0.1:9", "localhost:9", "ipv4:127.0.0.1:9", "[::1]:9"])
@pytest.mark.parametrize(
    "variables",
    [
        *({name: URL} for name in NAMES if not name.lower().startswith("no")),
        {},
        {"http_proxy": URL, "https_proxy": ""},
        {"http_proxy": URL, "grpc_proxy": "socks5://127.0.0.1:1"},
        {"http_proxy": "127.0.0.1:{port}"},
        {"http_proxy": "http://"},
        *(
            {"http_proxy": URL, "no_proxy": text}
            for text in (
                *("localhost", ".localhost", "ocalhost", "LOCALHOST", "*", ".", " , ,", "x, ::1"),
                *("127.0.0.1", "127.0.0.0/8", "10.0.0.0/8,::/64", "127.0.0.1:9", "0.1"),
            )
        ),
        {"http_proxy": URL, "NO_PROXY": "localhost,127.0.0.1,::1"},
        {"http_proxy": URL, "no_proxy": "localhost,127.0.0.1,::1", "no_grpc_proxy": ""},
        {"http_proxy": URL, "no_grpc_proxy": "localhost,127.0.0.1,::1"},
    ],
    ids=lambda given: ",".join(f"{name}={text}" for name, text in given.items()) or "none",
)
async def test_gRPC_does_what_is_said(environment, proxy, variables, target):
    port, requests = proxy
    for name, text in variables.items():
        environment.setenv(name, text.format(port=port))
    environment.setattr(proxies, "is_local_target", lambda _: False)  # or none would be said
    said = proxy_of(target)
    async with grpc.aio.insecure_channel(target) as channel:
        with pytest.raises(grpc.aio.AioRpcError):
            await channel.unary_unary("/a/b")(b"", timeout=10)
    assert (said is not None) == bool(requests)
    if said is not None:
        assert said.variable in variables
        assert said.address == f"127.0.0.1:{port}", "without a password"


@pytest.mark.parametrize(
    ("target", "local"),
    [
        ("127.0.0.1:9", True),
        ("127.8.9.10:9", True),
        ("127.1:9", True),
        ("localhost:9", True),
        ("LocalHost.:9", True),
        ("replica.localhost:9", True),
        ("0.0.0.0:9", True),
        ("[::1]:9", True),
        ("[::]:9", True),
        ("[::ffff:127.0.0.1]:9", True),
        ("ipv4:127.0.0.1:9", True),
        ("ipv4:127.0.0.1:9,127.0.0.2:9", True),
        ("ipv6:[::1]:9", True),
        ("ipv6:%5B::1%5D:9", True),
        ("dns:localhost:9", True),
        ("dns:///localhost:9", True),
        ("dns://8.8.8.8/localhost:9", True),
        ("unix:/tmp/socket", True),
        ("unix:///tmp/socket", True),
        ("unix-abstract:socket", True),
        ("10.0.0.7:9", False),
        ("128.0.0.1:9", False),
        ("127.example.com:9", False),
        ("localhost.example.com:9", False),
        ("notlocalhost:9", False),
        ("[fe80::1%eth0]:9", False),
        ("[::ffff:10.0.0.7]:9", False),
        ("ipv4:127.0.0.1:9,10.0.0.7:9", False),
        ("dns://127.0.0.1/example.com:9", False),
        ("xds:///somewhere", False),
    ],
)
def test_what_is_on_this_machine(environment, target, local):
    environment.setenv("http_proxy", "http://proxy:3128")
    assert is_local_target(target) is local
    assert (proxy_of(target) is None) is local


@pytest.mark.parametrize("name", NAMES)
async def test_this_machine_is_reached_without_any(environment, proxy, name):
    port, requests = proxy
    environment.setenv(name, f"http://127.0.0.1:{port}")
    with StreamServer() as server:
        async with StreamClient(server.target) as client:
            assert await client.predict(b"x") == b"x"
    assert not requests


async def test_who_is_unreachable_by_a_proxy_is_told_of_it(environment, proxy):
    port, requests = proxy
    environment.setenv("https_proxy", f"http://user:secret@127.0.0.1:{port}")
    retry = RetryPolicy(connect_attempts=2, connect_timeout=0, initial=0.001, maximum=0.001)
    async with StreamClient("far.away.invalid:9000", retry=retry) as client:
        with pytest.raises(UnreachableError) as caught:
            await client.predict(b"x")
    assert requests[0].startswith("CONNECT far.away.invalid:9000")
    said = str(caught.value)
    assert f"the HTTP proxy 127.0.0.1:{port}, since the environment's https_proxy says so" in said
    assert "no_proxy" in said
    assert "secret" not in said


def test_who_is_unreachable_without_one_hears_of_none(environment):
    environment.setenv("http_proxy", "http://127.0.0.1:1")
    retry = RetryPolicy(connect_attempts=1, connect_timeout=0)
    client = SyncStreamClient("127.0.0.1:1", retry=retry)
    with client, pytest.raises(UnreachableError) as caught:
        client.predict(b"x")
    assert "proxy" not in str(caught.value)
    assert "http_proxy" in os.environ
