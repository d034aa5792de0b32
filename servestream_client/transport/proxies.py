"""The HTTP proxy that the environment puts before a target, as gRPC's core reads it.

Invariant: what is said here of a target is what the core does with it. Read in its source and
measured on 1.85: the first of ``grpc_proxy``, ``https_proxy`` and ``http_proxy`` that is set holds,
in lower case only, and empty means none; ``all_proxy`` is not looked at. Of ``no_grpc_proxy`` and
``no_proxy`` the first that is set holds: a list of networks, and of hosts, which stand for their
subdomains, too.
"""

from __future__ import annotations

import ipaddress
import os
import socket
from dataclasses import dataclass
from typing import TypeAlias
from urllib.parse import urlsplit

from servestream_client.transport.targets import LOCAL_SCHEMES, parse_target

__all__ = ["Proxy", "is_local_target", "proxy_of"]

_VARIABLES = ("grpc_proxy", "https_proxy", "http_proxy")
_EXCEPTIONS = ("no_grpc_proxy", "no_proxy")

_Address: TypeAlias = ipaddress.IPv4Address | ipaddress.IPv6Address


@dataclass(frozen=True, slots=True)
class Proxy:
    """What stands between.

    Attributes:
        variable: whose word it is.
        address: ``host:port``, without the credentials that may stand there.
    """

    variable: str
    address: str

    def __str__(self) -> str:
        return (
            f"the connection goes by the HTTP proxy {self.address}, since the environment's"
            f" {self.variable} says so; list the host in no_proxy if it should not"
        )


def is_local_target(target: str) -> bool:
    """Whether a target is on this machine, where a proxy elsewhere could never reach it."""
    parsed = parse_target(target)
    hosts = [address.host for address in parsed.addresses]
    return parsed.scheme in LOCAL_SCHEMES or (bool(hosts) and all(map(_is_local, hosts)))


def proxy_of(target: str) -> Proxy | None:
    """The proxy that calls to a target go by; None: they go straight there."""
    variable = next((name for name in _VARIABLES if name in os.environ), None)
    if variable is None:
        return None
    if is_local_target(target):
        return None
    hosts = [address.host for address in parse_target(target).addresses]
    address = _address_of(os.environ[variable])
    exceptions = next((os.environ[name] for name in _EXCEPTIONS if name in os.environ), "")
    if not address:
        return None
    # Of several addresses in one target the core makes one odd name, which no exception fits.
    if len(hosts) == 1 and any(_excepted(hosts[0], entry) for entry in exceptions.split(",")):
        return None
    return Proxy(variable, address)


def _is_local(host: str) -> bool:
    address = _ip(host)
    if address is not None:
        mapped = getattr(address, "ipv4_mapped", None) or address
        # To connect to the unspecified address is to connect to this machine.
        return bool(mapped.is_loopback or mapped.is_unspecified)
    name = host.lower().rstrip(".")
    return name == "localhost" or name.endswith(".localhost")


def _ip(host: str) -> _Address | None:
    try:
        return ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        pass
    try:  # "127.1", which resolvers take, too
        return ipaddress.IPv4Address(socket.inet_aton(host)) if host[:1].isdigit() else None
    except OSError:
        return None


def _address_of(value: str) -> str:
    """Where a proxy is; empty: the core does without it."""
    try:
        parts = urlsplit(value)
    except ValueError:
        return ""
    return parts.netloc.rpartition("@")[2] if parts.scheme == "http" else ""


def _excepted(host: str, entry: str) -> bool:
    entry = entry.strip().removeprefix(".")
    if not entry:
        return False
    name, domain = host.lower(), entry.lower()
    if name == domain or name.endswith(f".{domain}"):
        return True
    address = _ip(host)
    if address is None or "/" not in entry:
        return False
    try:
        network = ipaddress.ip_network(entry, strict=False)
    except ValueError:
        return False
    return network.version == address.version and address in network
