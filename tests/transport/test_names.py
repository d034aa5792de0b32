"""What is looked up by this client, and what is left to gRPC."""

import asyncio
import socket

import pytest

from servestream_client.transport.names import Place, read_seed
from servestream_client.transport.targets import Address


@pytest.mark.parametrize(
    "target",
    [
        "10.0.0.1:9000",
        "[fd00::1]:9000",
        "localhost:9000",
        "replicas.localhost:9000",
        "dns://10.0.0.53/replicas.example:9000",
        "unix:/run/serve.sock",
        "ipv4:10.0.0.1:9000",
    ],
)
def test_it_is_left_to_grpc(target):
    seed = read_seed(target)
    assert (seed.places, seed.address) == ((Place(target, target),), None)


@pytest.mark.parametrize("target", ["replicas.example:9000", "dns:///replicas.example:9000"])
def test_a_name_is_looked_up_here(target):
    seed = read_seed(target)
    assert (seed.places, seed.address) == ((), Address("replicas.example", 9000))


def test_a_name_behind_a_proxy_is_left_to_grpc(monkeypatch):
    monkeypatch.setenv("https_proxy", "http://proxy.example:3128")
    assert read_seed("replicas.example:9000").address is None
    monkeypatch.setenv("no_proxy", "example")
    assert read_seed("replicas.example:9000").address is not None


def test_a_list_of_addresses_is_as_many_places():
    seed = read_seed("ipv4:10.0.0.1:9000,10.0.0.2:9001,10.0.0.1:9000")
    assert seed.places == (
        Place("ipv4:10.0.0.1:9000", "10.0.0.1:9000"),
        Place("ipv4:10.0.0.2:9001", "10.0.0.2:9001"),
    )
    assert read_seed("ipv6:[fd00::1]:9000,[fd00::2]:9000").places[1] == Place(
        "ipv6:[fd00::2]:9000", "[fd00::2]:9000"
    )


async def test_addresses_of_the_version_that_the_system_likes_less_are_spare(monkeypatch):
    async def addresses(self, host, port, **_):
        assert (host, port) == ("replicas.example", 9000)
        return [
            (socket.AF_INET6, socket.SOCK_STREAM, 6, "", ("fd00::1", 9000, 0, 0)),
            (socket.AF_INET6, socket.SOCK_STREAM, 6, "", ("fd00::1", 9000, 0, 0)),
            (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("10.0.0.1", 9000)),
        ]

    monkeypatch.setattr(asyncio.BaseEventLoop, "getaddrinfo", addresses)
    name = "replicas.example:9000"
    assert await read_seed(name).look_up() == [
        Place("ipv6:[fd00::1]:9000", f"{name} ([fd00::1]:9000)", authority=name),
        Place("ipv4:10.0.0.1:9000", f"{name} (10.0.0.1:9000)", authority=name, spare=True),
    ]


async def test_what_names_no_host_leads_where_it_says():
    assert read_seed("unix:/run/serve.sock").address is None
    assert await read_seed("10.0.0.1:9000").look_up() == (Place("10.0.0.1:9000", "10.0.0.1:9000"),)
