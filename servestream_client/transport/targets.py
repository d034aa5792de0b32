"""Targets: what stands in them, and what is wrong with them, before anything is dialled.

gRPC's core takes nearly any text for a target. A port of 99999 becomes 34463, a missing one 443, an
IPv6 address without brackets loses its end, and a list of hosts is looked up as one name; what
comes of that is a connection to somewhere else, or an outage. Seen with grpcio 1.85.
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from typing import NoReturn
from urllib.parse import unquote

from servestream_client.errors import ConfigurationError

__all__ = ["LOCAL_SCHEMES", "Address", "Target", "parse_target", "split_targets"]

LOCAL_SCHEMES = ("unix", "unix-abstract", "vsock")
"""They name something on this machine."""
_HOST_SCHEMES = ("dns", "ipv4", "ipv6")
_SCHEMES = (*LOCAL_SCHEMES, *_HOST_SCHEMES, "xds", "passthrough")

_LAST_PORT = 65535
_EXAMPLE = "write host:port, such as 'localhost:9000'"


@dataclass(frozen=True, slots=True)
class Address:
    """One place to connect to.

    Attributes:
        host: a name, or an IP address without brackets.
        port: 1 to 65535.
    """

    host: str
    port: int

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"


@dataclass(frozen=True, slots=True)
class Target:
    """A gRPC target, read.

    Attributes:
        text: as it was given, which is what gRPC gets.
        scheme: in lower case; ``dns`` where none is said.
        authority: of ``dns://authority/host:port``, the DNS server to ask; else empty.
        addresses: what it names; several of an ``ipv4:`` or ``ipv6:`` list, none where the scheme
            is not about hosts and ports.
    """

    text: str
    scheme: str
    authority: str
    addresses: tuple[Address, ...]


def parse_target(text: str) -> Target:
    """Read a target.

    Raises:
        ConfigurationError: it is none, or gRPC would take it for another.
    """
    if not text or not text.isprintable() or any(each.isspace() for each in text):
        _refuse(text, f"there is a blank or a control character in it: {_EXAMPLE}")
    scheme, colon, rest = text.partition(":")
    if colon and rest.startswith("//") and scheme.lower() not in _SCHEMES:
        _refuse(text, f"gRPC knows no {scheme}://: {_EXAMPLE}, without a scheme")
    if not colon or scheme.lower() not in _SCHEMES:
        scheme, rest = "dns", text
    scheme = scheme.lower()
    if scheme not in _HOST_SCHEMES:
        return Target(text, scheme, "", ())
    authority = ""
    if rest.startswith("//"):
        authority, slash, rest = rest[2:].partition("/")
        if not slash:
            _refuse(text, f"write {scheme}:///host:port, with three slashes")
    hosts = unquote(rest.removeprefix("/"))
    if scheme == "dns":
        if "," in hosts:
            _refuse(text, "it names several: give a list of targets, one string for each")
        return Target(text, scheme, authority, (_address(text, hosts),))
    addresses = tuple(_address(text, each) for each in hosts.split(","))
    for address in addresses:
        _check_ip(text, address.host, scheme)
    return Target(text, scheme, authority, addresses)


def split_targets(text: str) -> str | list[str]:
    """One target, or several with commas between them, as they stand where only text can stand."""
    if "," not in text or text.partition(":")[0].lower() in ("ipv4", "ipv6"):  # lists by themselves
        return text
    return [each.strip() for each in text.split(",")]


def _address(text: str, place: str) -> Address:
    bracketed = re.fullmatch(r"\[([^\]]*)\](?::(.*))?", place)
    if bracketed:
        host, port = bracketed[1], bracketed[2]
        if not _is_ip(host, 6):
            _refuse(text, f"there is no IPv6 address in the brackets: {host!r}")
    elif place.count(":") > 1:
        _refuse(text, "an IPv6 address stands in brackets: write '[::1]:9000'")
    else:
        host, _, port = place.partition(":")
        if found := re.search(r"[/@?#\[\]\\]", host):
            _refuse(text, f"there is a {found[0]!r} in its host: {_EXAMPLE}")
    if not host:
        _refuse(text, f"it has no host: {_EXAMPLE}")
    if not port:
        _refuse(text, f"it has no port, and gRPC would take 443: {_EXAMPLE}")
    if not (port.isascii() and port.isdecimal()):
        _refuse(text, f"its port is no number: {port!r}")
    if not 1 <= int(port[:10]) <= _LAST_PORT:
        _refuse(text, f"there is no port {port}: the last one is {_LAST_PORT}")
    return Address(host, int(port))


def _check_ip(text: str, host: str, scheme: str) -> None:
    if not _is_ip(host, int(scheme[-1])):
        _refuse(text, f"{scheme}: takes addresses of IPv{scheme[-1]} only, and not {host!r}")


def _is_ip(host: str, version: int) -> bool:
    try:
        return ipaddress.ip_address(host).version == version
    except ValueError:
        return False


def _refuse(text: str, why: str) -> NoReturn:
    raise ConfigurationError(f"target {text!r} cannot be reached: {why}")
