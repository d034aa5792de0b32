"""Where the next attempt goes, and when it may be made.

Invariant: nobody is let in who has not passed the circuit breaker of an endpoint, and no wait lasts
beyond the outage's deadline.
"""

from __future__ import annotations

import asyncio
import math
import random

from servestream_client.config import RetryPolicy
from servestream_client.session.breaker import Admission
from servestream_client.session.endpoint_pool import EndpointPool
from servestream_client.session.endpoints import Endpoint
from servestream_client.session.outage import Outage
from servestream_client.session.outcome import out_of_patience
from servestream_client.session.retry import last_look
from servestream_client.signals import start_task
from servestream_client.transport.classify import Verdict

__all__ = ["Admissions"]


class Admissions:
    """Those of one stream.

    Args:
        pool: the endpoints.
        retry: the stream's policy.
        outage: how long it has been without a server.
    """

    def __init__(self, pool: EndpointPool, retry: RetryPolicy, outage: Outage) -> None:
        self.endpoint: Endpoint | None = None
        """Where the last attempt went; None: there was none yet."""
        self._pool = pool
        self._retry = retry
        self._outage = outage
        self._held_until = -math.inf

    def stand_back(self, delays: int) -> None:
        """Begin the next one later, by about so many of the policy's longest delays: who broke
        together is not to come back together.
        """
        spread = random.uniform(0.5, 1.5)  # noqa: S311 — hides nothing
        self._held_until = _now() + delays * self._retry.maximum * spread

    async def wait(self, *, no_progress: bool) -> tuple[Endpoint, Admission | Verdict]:
        """Wait until an attempt may be made.

        Args:
            no_progress: the last one has brought nothing new.

        Returns:
            Where, and by what it is made; or what another stream has found there, which made it for
            this one, in vain.

        Raises:
            AttemptFailed: it is too late for it.
        """
        outage = self._outage
        if (pause := min(self._held_until, outage.deadline) - _now()) > 0:
            await asyncio.sleep(pause)
        admission: Admission | Verdict | None = None
        broke_at = self.endpoint  # or it left: then any is as good
        while admission is None:
            endpoint = self.endpoint = await self._pool.choose(broke_at)
            open_because = endpoint.breaker.open_because
            if outage.passed(_now()):
                raise out_of_patience(outage)
            if open_because is not None and outage.began == math.inf:
                # To wait for others who try is to be without a server.
                outage.failed(_now(), open_because)
            try:
                admission = await self._admitted(endpoint, no_progress=no_progress)
            except TimeoutError:
                raise out_of_patience(outage) from None
        return endpoint, admission

    async def _admitted(
        self, endpoint: Endpoint, *, no_progress: bool
    ) -> Admission | Verdict | None:
        """As `CircuitBreaker.admit`; None: there is an endpoint by now that needs no waiting."""
        pool = self._pool
        admitting = endpoint.breaker.admit(
            self._retry,
            no_progress=no_progress,
            deadline=self._outage.deadline,
            last_look=self._last_look(),
        )
        if pool.single or pool.good:
            return await admitting
        task = start_task(admitting, "servestream admission")
        good = start_task(pool.until_good(), "servestream endpoints")
        try:
            await asyncio.wait({task, good}, return_when=asyncio.FIRST_COMPLETED)
            good.cancel()
            task.cancel()
            await asyncio.wait({task, good})
        except BaseException:
            good.cancel()
            task.cancel()
            task.add_done_callback(_give_back)
            raise
        return None if task.cancelled() else task.result()

    def _last_look(self) -> float:
        """When somebody is to see whether the target is there, since this stream's patience is
        shorter than the pauses between probes may be.
        """
        outage = self._outage
        if not self._pool.known:
            return last_look(self._retry, outage)
        half = outage.began + outage.patience / 2
        return half if half > _now() else math.inf


def _give_back(task: asyncio.Task[Admission | Verdict]) -> None:
    """Nobody is there any more to make the attempt."""
    if not task.cancelled() and task.exception() is None:
        admission = task.result()
        if isinstance(admission, Admission):
            admission.left()


def _now() -> float:
    return asyncio.get_running_loop().time()
