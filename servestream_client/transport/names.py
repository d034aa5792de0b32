"""Where a target's servers are: names are looked up by this client, and each address is a place.

gRPC's core looks a name up by itself, takes one address and keeps to it, and does not ask again for
up to half a minute after a failure (seen with grpcio 1.85): a client of a name with several
addresses uses one of them, and one whose server moves is without it for so long. What goes by an
HTTP proxy, names its own DNS server, or is on this machine is left to the core.
"""

from __future__ import annotations

import asyncio
import ipaddress
import re
import socket
from collections.abc import Sequence
from dataclasses import dataclass

from servestream_client.transport.proxies import is_local_target, proxy_of
from servestream_client.transport.targets import Address, Target, parse_target

__all__ = ["Place", "Seed", "read_seed"]


@dataclass(frozen=True, slots=True)
class Place:
    """One place that can be dialled.

    Attributes:
        target: for gRPC.
        name: for people.
        authority: ``host:port`` that a call is for, and whose certificate a server shows; empty:
            as gRPC makes it from the target.
        spare: to use where there is no other: of a name with addresses of both IP versions, those
            of the one that the system likes less are most likely the same servers again.
    """

    target: str
    name: str
    authority: str = ""
    spare: bool = False

    @property
    def key(self) -> str:
        """The same for one address, however it is written."""
        return re.sub(r"^(ipv4|ipv6|dns):/*", "", self.target)


@dataclass(frozen=True, slots=True)
class Seed:
    """What stands in one given target.

    Attributes:
        text: the target.
        places: that it names by itself.
        address: a name to look up; None: there is none.
    """

    text: str
    places: tuple[Place, ...]
    address: Address | None = None

    async def look_up(self) -> Sequence[Place]:
        """The places at present.

        Raises:
            OSError: the name is not known, or nobody answers who would know it.
        """
        if self.address is None:
            return self.places
        host, port = self.address.host, self.address.port
        found = await asyncio.get_running_loop().getaddrinfo(
            host, port, type=socket.SOCK_STREAM, proto=socket.IPPROTO_TCP
        )
        places: dict[Place, None] = {}
        for family, _, _, _, address in found:
            scheme = "ipv6" if family == socket.AF_INET6 else "ipv4"
            place = str(Address(str(address[0]), port))
            places[
                Place(
                    f"{scheme}:{place}",
                    f"{self.address} ({place})",
                    authority=str(self.address),
                    spare=family != found[0][0],
                )
            ] = None
        return list(places)


def read_seed(text: str) -> Seed:
    """Read a target.

    Raises:
        ConfigurationError: as `parse_target`.
    """
    target = parse_target(text)
    addresses = target.addresses
    if len(addresses) > 1:
        places = [Place(f"{target.scheme}:{each}", str(each)) for each in addresses]
        return Seed(text, tuple(dict.fromkeys(places)))
    if _is_for_us(target):
        return Seed(text, (), addresses[0])
    return Seed(text, (Place(text, text),))


def _is_for_us(target: Target) -> bool:
    if target.scheme != "dns" or target.authority or _is_ip(target.addresses[0].host):
        return False
    return not is_local_target(target.text) and proxy_of(target.text) is None


def _is_ip(host: str) -> bool:
    try:
        ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return False
    return True
