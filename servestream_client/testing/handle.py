"""What a server under test lets a test do, be it in this process or a Ray Serve."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Protocol, Self, TypeAlias

from servestream_client.testing.faults import Fault
from servestream_client.testing.history import History
from servestream_client.testing.network import NetworkFault
from servestream_client.testing.proxy import FaultProxy

__all__ = ["AnyFault", "FaultHandle", "ProxiedServer", "ServicePlan"]

AnyFault: TypeAlias = Fault | NetworkFault


class FaultHandle(Protocol):
    """What a server under test lets a test do, be it in this process or a Ray Serve."""

    @property
    def target(self) -> str:
        """``host:port`` for clients."""
        ...

    @property
    def fired(self) -> list[AnyFault]:
        """The faults that have fired, in order."""
        ...

    @property
    def history(self) -> History:
        """What happened."""
        ...

    def add_faults(self, *faults: AnyFault) -> None:
        """Plan faults of the service, and put faults of the network in force."""
        ...

    def clear_faults(self) -> None:
        """Forget those that have not fired, and let the network be whole again."""
        ...

    def kill(self) -> None:
        """End a replica that serves, now, without a farewell."""
        ...


class ServicePlan(Protocol):
    """The faults of a service: those that have fired are kept when the others are dropped."""

    @property
    def fired(self) -> list[Fault]:
        """In order."""
        ...

    def add(self, *faults: Fault) -> None:
        """Plan faults, for streams that open from now on."""
        ...

    def drop_pending(self) -> None:
        """Forget what has not fired yet."""
        ...


class ProxiedServer(ABC):
    """A server behind a `FaultProxy`: a fault is either in the service's plan or in the proxy, and
    each that has fired stands in `fired` once.

    Args:
        upstream: where the proxy's connections go at first.
        plan: of the service's faults.
        history: where to note what happens to connections.
        seed: of the network's jitter; None: a random one.
    """

    def __init__(
        self, upstream: str, plan: ServicePlan, history: History, seed: int | None
    ) -> None:
        self.history: History = history
        """What happened, as far as it is seen."""
        self._service_faults = plan
        self._proxy = FaultProxy(upstream, seed=seed, on_event=self._note)
        self._earlier = 0  # of the faults that the proxy has seen fire: those before this test

    @abstractmethod
    def start(self) -> None:
        """Serve."""

    @abstractmethod
    def stop(self) -> None:
        """End everything that was started. Harmless twice."""

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def target(self) -> str:
        """``host:port`` for clients, through the proxy."""
        return self._proxy.target

    @property
    def proxy(self) -> FaultProxy:
        """What its clients' connections go through."""
        return self._proxy

    @property
    def fired(self) -> list[AnyFault]:
        """The faults that have fired: the service's, and then the network's."""
        return [*self._service_faults.fired, *self._proxy.fired[self._earlier :]]

    def add_faults(self, *faults: AnyFault) -> None:
        """Plan faults of the service, for streams that open from now on, and put faults of the
        network in force.
        """
        self._service_faults.add(*(fault for fault in faults if isinstance(fault, Fault)))
        self._proxy.add(*(fault for fault in faults if not isinstance(fault, Fault)))

    def clear_faults(self) -> None:
        """Forget the faults that have not fired, and let the network be whole again."""
        self._service_faults.drop_pending()
        self._proxy.clear()

    def _begin_anew(self) -> None:
        """For another test: an empty history, and no fault of the network has fired."""
        self.history = History()
        self._earlier = len(self._proxy.fired)

    def _note(self, text: str) -> None:
        self.history.note(text)
