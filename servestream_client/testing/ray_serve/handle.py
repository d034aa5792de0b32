"""A Ray Serve under test, with the same handle as a server in the test's own process."""

from __future__ import annotations

import random
from typing import Self

from servestream_client.testing.faults import Fault
from servestream_client.testing.history import History
from servestream_client.testing.proxy import FaultProxy
from servestream_client.testing.ray_serve.cluster import Ingress
from servestream_client.testing.ray_serve.fixture import FixtureError, ServeFixture
from servestream_client.testing.server import AnyFault

__all__ = ["RayStreamServer"]


class RayStreamServer:
    """One application on a Ray Serve of its own, behind a `FaultProxy`.

    Every `StreamService` in it fails by plan, as it is: it needs to know nothing of it.

    Args:
        application: ``module:name`` of an application, as for `serve run`.
        ingress: how requests reach the replicas.
        seed: of the network's jitter and of the choice of what to kill; None: a random one.
    """

    def __init__(
        self, application: str, ingress: Ingress = Ingress.PROXY, *, seed: int | None = None
    ) -> None:
        self.serve: ServeFixture = ServeFixture((application,), ingress, faulty=True)
        """The Ray Serve itself: its replicas, and further applications."""
        self.application: str = application.rpartition(":")[2]
        """The name that clients ask for."""
        self._history = History()
        self._random = random.Random(seed)  # noqa: S311 — no secret
        self._proxy = FaultProxy(self.serve.target, seed=seed, on_event=self._heard)
        self._fired: list[Fault] = []
        self._cleared = 0  # of these, which the Ray Serve has forgotten
        self._passed = 0  # of the proxy's, in earlier tests

    # ---------------------------------------------------------------- life

    def start(self) -> None:
        """Start Ray and Serve (about 30 s).

        Raises:
            FixtureError: it died, or was not ready in time; with the end of its log.
        """
        self.serve.start()
        self._proxy.start()

    def stop(self) -> None:
        """End everything that was started. Harmless twice."""
        self._proxy.stop()
        self.serve.stop()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def renew(self) -> None:
        """Be as new for another test: no fault, an empty history, every replica alive.

        Raises:
            FixtureError: the replicas do not come back.
        """
        self.clear_faults()
        self.serve.wait_for_replicas()
        self._history = History()
        self._fired, self._cleared = [], 0
        self._passed = len(self._proxy.fired)

    # ---------------------------------------------------------------- for tests

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
        for fault in self.serve.fired()[len(self._fired) - self._cleared :]:
            self._history.note(f"fault fired (seen now): {fault}")
            self._fired.append(fault)
        return [*self._fired, *self._proxy.fired[self._passed :]]

    @property
    def history(self) -> History:
        """What happened, as far as it is seen from outside."""
        return self._history

    def add_faults(self, *faults: AnyFault) -> None:
        """Plan faults of the service, for streams that open from now on, and put faults of the
        network in force.
        """
        self.serve.add_faults(*(fault for fault in faults if isinstance(fault, Fault)))
        self._proxy.add(*(fault for fault in faults if not isinstance(fault, Fault)))

    def clear_faults(self) -> None:
        """Forget the faults that have not fired, and let the network be whole again."""
        _ = self.fired  # before the Ray Serve forgets them
        self.serve.clear_faults()
        self._cleared = len(self._fired)
        self._proxy.clear()

    def kill(self, replica: str | None = None) -> None:
        """SIGKILL a replica.

        Args:
            replica: as `StreamStatistics.replica` has it; None: any that lives.

        Raises:
            FixtureError: none lives.
        """
        names = [replica] if replica is not None else self._any_order()
        for name in names:
            try:
                pid = self.serve.kill_replica(name)
            except FixtureError:
                if replica is not None:
                    raise
                continue  # it died meanwhile, as by a planned fault
            self._history.note(f"SIGKILL for replica {name} (process {pid})")
            return
        raise FixtureError("no replica is alive")

    def _any_order(self) -> list[str]:
        alive = [each.name for each in self.serve.replicas_alive(self.application)]
        return self._random.sample(alive, len(alive))

    def _heard(self, text: str) -> None:
        self._history.note(text)
