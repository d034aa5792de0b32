"""Two machines on one: network namespaces on a bridge, and cables between that can be cut."""

from __future__ import annotations

import ipaddress
import os
import secrets
import shutil
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Self

__all__ = ["Machine", "Network", "NetworkError", "why_not"]

_NAMESPACES = Path("/run/netns")
_TRIES = 50


class NetworkError(Exception):
    """A command of `ip` failed."""


def why_not() -> str:
    """What is missing for a network of one's own; empty: nothing."""
    if sys.platform != "linux":
        return f"network namespaces are Linux's, and this is {sys.platform}"
    if shutil.which("ip") is None:
        return "there is no `ip` command (Debian's package iproute2)"
    if os.geteuid() != 0:
        return "network namespaces need root"
    # Root in a container may be allowed nothing of it.
    name = f"sc{secrets.token_hex(3)}t"
    try:
        _ip("netns", "add", name)
    except NetworkError as error:
        return f"network namespaces are not allowed here: {error}"
    _ip("netns", "del", name)
    return ""


@dataclass(frozen=True, slots=True)
class Machine:
    """One of the machines.

    Attributes:
        number: from 1 on.
        address: its own.
        namespace: its network namespace's name.
        cable: the end of its cable in the bridge.
    """

    number: int
    address: str
    namespace: str
    cable: str

    @property
    def inside(self) -> list[str]:
        """What to put before a command that shall run there."""
        return ["ip", "netns", "exec", self.namespace]

    def has(self, pid: int) -> bool:
        """Whether a process runs there; not if it is gone."""
        try:
            its = Path(f"/proc/{pid}/ns/net").stat().st_ino
            return its == (_NAMESPACES / self.namespace).stat().st_ino
        except OSError:
            return False


class Network:
    """A bridge with an address of this machine's, and machines on it.

    Names and addresses are this run's own, so that several may go on side by side.

    Args:
        machines: how many.
    """

    def __init__(self, machines: int = 2) -> None:
        self.machines: list[Machine] = []
        # Names of links have 15 characters at the most.
        self._tag = f"sc{secrets.token_hex(3)}"
        self._count = machines

    def up(self) -> None:
        """Make it.

        Raises:
            NetworkError: it cannot be made; what there was of it is gone.
        """
        try:
            self._up()
        except BaseException:  # Ctrl-C as well
            self.down()
            raise

    def _up(self) -> None:
        hosts = _unused_network().hosts()
        bridge = f"{self._tag}b"
        _ip("link", "add", "name", bridge, "type", "bridge")
        _ip("addr", "add", f"{next(hosts)}/24", "dev", bridge)
        _ip("link", "set", bridge, "up")
        for number in range(1, self._count + 1):
            machine = Machine(
                number, str(next(hosts)), f"{self._tag}n{number}", f"{self._tag}v{number}"
            )
            self.machines.append(machine)
            self._connect(machine, bridge)

    def _connect(self, machine: Machine, bridge: str) -> None:
        inner = f"{self._tag}w{machine.number}"
        _ip("netns", "add", machine.namespace)
        _ip("link", "add", machine.cable, "type", "veth", "peer", "name", inner)
        _ip("link", "set", machine.cable, "master", bridge, "up")
        _ip("link", "set", inner, "netns", machine.namespace)
        for command in (
            ("link", "set", inner, "name", "eth0"),
            ("addr", "add", f"{machine.address}/24", "dev", "eth0"),
            ("link", "set", "eth0", "up"),
            ("link", "set", "lo", "up"),
        ):
            _ip("-n", machine.namespace, *command)

    def down(self) -> None:
        """Take it away. Harmless twice, and with half of it there."""
        for machine in self.machines:
            with suppress(NetworkError):
                _ip("link", "del", machine.cable)
            with suppress(NetworkError):
                _ip("netns", "del", machine.namespace)
        with suppress(NetworkError):
            _ip("link", "del", f"{self._tag}b")
        self.machines.clear()

    def __enter__(self) -> Self:
        self.up()
        return self

    def __exit__(self, *_: object) -> None:
        self.down()

    def partition(self, machine: Machine) -> None:
        """Nothing gets to a machine or from it, and nobody is told."""
        _ip("link", "set", machine.cable, "down")

    def heal(self, machine: Machine) -> None:
        """It is there again."""
        _ip("link", "set", machine.cable, "up")

    def left(self) -> list[str]:
        """Links and namespaces that are still there."""
        links = [each.name for each in Path("/sys/class/net").iterdir()]
        spaces = [each.name for each in _NAMESPACES.iterdir()] if _NAMESPACES.exists() else []
        return [f"network {name}" for name in (*links, *spaces) if name.startswith(self._tag)]


def _unused_network() -> ipaddress.IPv4Network:
    """A private range to which there is no route yet, but for the default one."""
    taken = _ip("-4", "route", "show").split()
    used = [each for each in map(_network, taken) if each is not None and each.prefixlen]
    for _ in range(_TRIES):
        third = secrets.randbelow(256)
        found = ipaddress.IPv4Network(f"10.{200 + secrets.randbelow(50)}.{third}.0/24")
        if not any(found.overlaps(each) for each in used):
            return found
    raise NetworkError("no private range of addresses is free")


def _network(text: str) -> ipaddress.IPv4Network | None:
    try:
        return ipaddress.IPv4Network(text, strict=False)
    except ValueError:
        return None


def _ip(*arguments: str) -> str:
    command: Sequence[str] = ("ip", *arguments)
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603
    if done.returncode:
        raise NetworkError(f"`{' '.join(command)}`: {done.stderr.strip()}")
    return done.stdout
