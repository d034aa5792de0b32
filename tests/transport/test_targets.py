"""Targets are read before anything is dialled."""

import pytest

from servestream_client import ConfigurationError, StreamClient
from servestream_client.transport.targets import Address, parse_target

SEVERAL = (Address("10.0.0.1", 1), Address("10.0.0.2", 2))


@pytest.mark.parametrize(
    ("text", "scheme", "addresses"),
    [
        ("localhost:9000", "dns", (Address("localhost", 9000),)),
        ("a.b-c.example:1", "dns", (Address("a.b-c.example", 1),)),
        ("10.0.0.1:65535", "dns", (Address("10.0.0.1", 65535),)),
        ("[::1]:9000", "dns", (Address("::1", 9000),)),
        ("[fe80::1%eth0]:9000", "dns", (Address("fe80::1%eth0", 9000),)),
        ("dns:host:9000", "dns", (Address("host", 9000),)),
        ("DNS:///host:9000", "dns", (Address("host", 9000),)),
        ("dns://8.8.8.8/host:9000", "dns", (Address("host", 9000),)),
        ("ipv4:10.0.0.1:1", "ipv4", (Address("10.0.0.1", 1),)),
        ("ipv4:10.0.0.1:1,10.0.0.2:2", "ipv4", SEVERAL),
        ("ipv4:///10.0.0.1:1,10.0.0.2:2", "ipv4", SEVERAL),
        ("ipv6:[::1]:9000", "ipv6", (Address("::1", 9000),)),
        ("ipv6:%5B::1%5D:9000", "ipv6", (Address("::1", 9000),)),
        ("unix:/tmp/socket", "unix", ()),
        ("unix:///tmp/socket", "unix", ()),
        ("unix-abstract:name", "unix-abstract", ()),
        ("vsock:2:9000", "vsock", ()),
        ("xds:///service", "xds", ()),
        ("passthrough:///whatever", "passthrough", ()),
    ],
)
def test_what_a_target_names(text, scheme, addresses):
    target = parse_target(text)
    assert (target.text, target.scheme, target.addresses) == (text, scheme, addresses)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "blank"),
        (" ", "blank"),
        (" host:9000", "blank"),
        ("host:9000\n", "blank"),
        ("host :9000", "blank"),
        ("host: 9000", "blank"),
        ("host\u00a0:9000", "blank"),
        ("host\x00:9000", "control character"),
        ("host", "no port"),
        ("host:", "no port"),
        ("[::1]", "no port"),
        ("dns:///host", "no port"),
        ("dns:9000", "no port"),
        ("ipv4:10.0.0.1", "no port"),
        (":9000", "no host"),
        ("host:https", "no number"),
        ("host:90x0", "no number"),
        ("host:-1", "no number"),
        ("host:\uff19\uff10\uff10\uff10", "no number"),
        ("host:0", "no port 0"),
        ("host:65536", "65535"),
        ("host:99999", "65535"),
        ("host:" + "9" * 5000, "65535"),
        ("[::1]:99999", "65535"),
        ("ipv4:10.0.0.1:99999", "65535"),
        ("::1:9000", "brackets"),
        ("fe80::1:2:3", "brackets"),
        ("[localhost]:9000", "no IPv6 address in the brackets"),
        ("[::1:9000", "brackets"),
        ("a:1,b:2", "list of targets"),
        ("dns:///a:1,b:2", "list of targets"),
        ("ipv4:10.0.0.1:1,", "no host"),
        ("ipv4:localhost:1", "IPv4 only"),
        ("ipv6:10.0.0.1:1", "IPv6 only"),
        ("grpc://host:9000", "grpc://"),
        ("grpcs://host:9000", "grpcs://"),
        ("http://host:9000", "http://"),
        ("https://host", "https://"),
        ("host:9000/path", "no number"),
        ("user@host:9000", "'@'"),
        ("host/path:9000", "'/'"),
        ("dns://host:9000", "three slashes"),
    ],
)
def test_what_is_wrong_with_a_target_is_said(text, why):
    with pytest.raises(ConfigurationError) as caught:
        parse_target(text)
    assert why in str(caught.value)
    assert repr(text) in str(caught.value)


@pytest.mark.parametrize("text", ["host", "host:99999", "grpc://host:1", "::1:9000", "a:1,b:2"])
def test_a_client_refuses_it_at_once(text):
    with pytest.raises(ConfigurationError, match="target"):
        StreamClient(text)


@pytest.mark.parametrize("text", ["localhost:1", "10.0.0.1:1", "[::1]:1"])
def test_an_address_is_written_as_a_target(text):
    (address,) = parse_target(text).addresses
    assert str(address) == text
