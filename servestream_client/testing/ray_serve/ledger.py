"""What must survive the replicas of a Ray Serve under test, in a named actor.

Imported in Ray's processes only.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import ray
from ray import serve

from servestream_client.server import StreamService
from servestream_client.server.kit import Interceptor
from servestream_client.testing.faults import Fault, LocalPlan
from servestream_client.testing.injector import FaultInjector

__all__ = ["Ledger", "LedgerPlan", "enrol", "inject", "ledger"]

LEDGER_NAME = "servestream-fixture-ledger"
NAMESPACE = "servestream-fixture"


class Ledger:
    """What must survive the replicas: the fault plan, and which process each of them is."""

    def __init__(self) -> None:
        self._plan = LocalPlan()
        self._pids: dict[str, int] = {}
        self._applications: dict[str, str] = {}

    def enrol(self, replica: str, pid: int, application: str) -> None:
        self._pids[replica] = pid
        self._applications[replica] = application

    def pids(self) -> dict[str, int]:
        """Every replica that ever served here, and its process."""
        return dict(self._pids)

    def applications(self) -> dict[str, str]:
        """Every replica that ever served here, and its application."""
        return dict(self._applications)

    def add(self, faults: Sequence[Fault]) -> None:
        self._plan.add(*faults)

    def clear(self) -> None:
        self._plan.clear()

    def pending(self) -> list[Fault]:
        return self._plan.pending_now()

    def fired(self) -> list[Fault]:
        return list(self._plan.fired)

    def claim(self, fault: Fault) -> bool:
        return self._plan.claim_now(fault)


def ledger() -> Any:  # noqa: ANN401 — Ray types no actor handle
    """The cluster's ledger, made for the first that asks."""
    return (
        ray.remote(num_cpus=0, max_restarts=0)(Ledger)
        .options(name=LEDGER_NAME, namespace=NAMESPACE, get_if_exists=True, lifetime="detached")
        .remote()
    )


class LedgerPlan:
    """The ledger's fault plan, as replicas see it."""

    def __init__(self) -> None:
        self._ledger = ledger()

    async def pending(self) -> Sequence[Fault]:
        faults: list[Fault] = await self._ledger.pending.remote()
        return faults

    async def claim(self, fault: Fault) -> bool:
        claimed: bool = await self._ledger.claim.remote(fault)
        return claimed


def enrol() -> LedgerPlan:
    """Called last by a constructor, and only in a replica: one that is enrolled can serve.

    Returns:
        The plan by which it shall fail.
    """
    plan = LedgerPlan()
    context = serve.get_replica_context()
    ray.get(ledger().enrol.remote(context.replica_tag, os.getpid(), context.app_name))
    return plan


def _faulty(self: StreamService[Any, Any]) -> Interceptor:  # noqa: ARG001 — it is a method
    return FaultInjector(LedgerPlan())


def inject() -> None:
    """Called first in every process of Ray's: whatever `StreamService` is deployed there enrols,
    and fails by plan.
    """

    def made(cls: type[StreamService[Any, Any]], *_: object, **__: object) -> object:
        context = serve.get_replica_context()
        # Not waited for: this may be an event loop.
        ledger().enrol.remote(context.replica_tag, os.getpid(), context.app_name)
        return object.__new__(cls)

    StreamService.__new__ = made  # type: ignore[assignment]
    StreamService._interceptor = _faulty  # type: ignore[method-assign]  # noqa: SLF001
