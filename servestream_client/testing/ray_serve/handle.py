"""A Ray Serve under test, with the same handle as a server in the test's own process."""

from __future__ import annotations

import random
from collections.abc import Callable

from servestream_client.testing.faults import Fault
from servestream_client.testing.handle import ProxiedServer
from servestream_client.testing.history import History
from servestream_client.testing.ray_serve.cluster import Ingress
from servestream_client.testing.ray_serve.fixture import FixtureError, ServeFixture

__all__ = ["RayStreamServer"]


class RayStreamServer(ProxiedServer):
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
        self._random = random.Random(seed)  # noqa: S311 — no secret
        self._plan = _RemotePlan(self.serve, self._note)
        super().__init__(self.serve.target, self._plan, History(), seed)

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

    def renew(self) -> None:
        """Be as new for another test: no fault, an empty history, every replica alive.

        Raises:
            FixtureError: the replicas do not come back.
        """
        self.clear_faults()
        self.serve.wait_for_replicas()
        self._plan.forget()
        self._begin_anew()

    # ---------------------------------------------------------------- for tests

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
            self.history.note(f"SIGKILL for replica {name} (process {pid})")
            return
        raise FixtureError("no replica is alive")

    def _any_order(self) -> list[str]:
        alive = [each.name for each in self.serve.replicas_alive(self.application)]
        return self._random.sample(alive, len(alive))


class _RemotePlan:
    """The faults of a Ray Serve's services. It forgets those that fired with the others; they are
    kept here, each once, from when they are first asked for.
    """

    def __init__(self, serve: ServeFixture, note: Callable[[str], None]) -> None:
        self._serve = serve
        self._note = note
        self._fired: list[Fault] = []
        self._cleared = 0  # of these, which the Ray Serve has forgotten

    @property
    def fired(self) -> list[Fault]:
        for fault in self._serve.fired()[len(self._fired) - self._cleared :]:
            self._note(f"fault fired (seen now): {fault}")
            self._fired.append(fault)
        return list(self._fired)

    def add(self, *faults: Fault) -> None:
        self._serve.add_faults(*faults)

    def drop_pending(self) -> None:
        _ = self.fired  # before the Ray Serve forgets them
        self._serve.clear_faults()
        self._cleared = len(self._fired)

    def forget(self) -> None:
        """Those that fired, too. The Ray Serve has none by now."""
        self._fired, self._cleared = [], 0
