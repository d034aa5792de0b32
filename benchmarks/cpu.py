"""CPU seconds of whoever carries items: steadier than the wall clock, where cores are shared."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from enum import StrEnum

import psutil

__all__ = ["CpuMeter", "Role"]

MILLION = 1_000_000


class Role(StrEnum):
    """What a process does for an item."""

    CLIENT = "client"
    INGRESS = "ingress"
    REPLICA = "replica"


_INGRESS = ("ray::ProxyActor", "ray::HAProxyManager", "haproxy")


class CpuMeter:
    """CPU seconds for a million items, by contender, role and round.

    Args:
        carriers: finds the processes of the ingress and of the services.

    Attributes:
        taken: by contender and role; a value for each round.
    """

    def __init__(self, carriers: Callable[[], Sequence[psutil.Process]]) -> None:
        self.taken: dict[str, dict[Role, list[float]]] = {}
        self._carriers = carriers

    @contextmanager
    def over(self, name: str, items: int, clients: Sequence[psutil.Process] = ()) -> Iterator[None]:
        """What a contender does for so many items; what it costs is noted if it succeeds.

        Args:
            name: of the contender.
            items: how many.
            clients: the processes of its client; none: this one is.
        """
        mine = list(clients) or [psutil.Process()]
        processes = [*((Role.CLIENT, each) for each in mine), *self._servers()]
        before = _by_role(processes)
        yield
        after = _by_role(processes)
        for role, seconds in after.items():
            values = self.taken.setdefault(name, {}).setdefault(role, [])
            values.append((seconds - before[role]) * MILLION / items)

    def _servers(self) -> Iterator[tuple[Role, psutil.Process]]:
        for process in self._carriers():
            with contextlib.suppress(psutil.Error):  # gone
                ingress = process.name().startswith(_INGRESS) or (
                    process.cmdline()[:1] and process.cmdline()[0].startswith(_INGRESS)
                )
                yield Role.INGRESS if ingress else Role.REPLICA, process


def _by_role(processes: Iterable[tuple[Role, psutil.Process]]) -> Counter[Role]:
    seconds: Counter[Role] = Counter()
    for role, process in processes:
        with contextlib.suppress(psutil.Error):  # gone
            times = process.cpu_times()
            seconds[role] += times.user + times.system  # type: ignore[assignment]  # no count
    return seconds
