"""The application under fire. It knows nothing of faults.

Imported in Ray's processes only.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from ray import serve
from ray.serve import Application

from chaos.items import BEGINNING, ITEM_SECONDS, answer, follow, same_answer
from servestream_client.server import StatefulService, StreamService

__all__ = ["Checked", "Folded", "build", "chaos"]


class Checked(StreamService[bytes, bytes]):
    """Says of each input which it was, what was in it, and who answers.

    Args:
        version: of the code: another one makes Serve replace the replicas.
        seconds: that an item takes; where that is some time, streams have lanes.
    """

    def __init__(self, version: int, seconds: float) -> None:
        self._version = version
        self._seconds = seconds
        self.code_version = str(version)  # type: ignore[misc]  # it is this replica's for good

    async def predict(self, item: bytes) -> bytes:
        if self._seconds:
            await asyncio.sleep(self._seconds)
        return answer(item, self._version)


class Folded(StatefulService[bytes, bytes, bytes]):
    """Says of each input which it was and what was in it, and the state of the stream behind it.

    Args:
        version, seconds: as for `Checked`.
        state_key: that the states are sealed with.
    """

    def __init__(self, version: int, seconds: float, state_key: str) -> None:
        self.state_keys = (state_key,)  # type: ignore[misc]
        self._seconds = seconds
        self.code_version = str(version)  # type: ignore[misc]

    def begin(self, parameters: Mapping[str, str]) -> bytes:
        del parameters
        return BEGINNING

    async def step(self, state: bytes, item: bytes) -> tuple[bytes, bytes]:
        if self._seconds:
            await asyncio.sleep(self._seconds)
        state = follow(state, item)
        return state, same_answer(item) + state


def build(
    version: int,
    replicas: int,
    *,
    per_node: int | None = None,
    resources: Mapping[str, float] | None = None,
    ongoing: int = 1000,
    queued: int = -1,
    seconds: float = 0.0,
    grace: float = 6.0,
    state_key: str = "",
) -> Application:
    """The application.

    Args:
        version: of its code.
        replicas: how many.
        per_node: at most so many on a node.
        resources: that a replica needs of its node, which is how it is put there.
        ongoing: streams that a replica serves at once.
        queued: streams that may wait for that; -1: any number.
        seconds: that an item takes.
        grace: seconds that streams get to move before a replica is stopped.
        state_key: where streams have a state, that it is sealed with.
    """
    deployment = serve.deployment(
        num_replicas=replicas,
        max_replicas_per_node=per_node,  # type: ignore[arg-type]  # None is the default
        # Each stream counts; Serve's default of 5 would leave the others waiting.
        max_ongoing_requests=ongoing,
        max_queued_requests=queued,
        # Time for streams to move, and checks that tell them soon.
        graceful_shutdown_timeout_s=grace,
        graceful_shutdown_wait_loop_s=0.2,
        health_check_period_s=0.5,
        ray_actor_options={"num_cpus": 0.1, "resources": dict(resources or {})},
    )
    if state_key:
        return deployment(Folded).bind(version, seconds, state_key)
    return deployment(Checked).bind(version, seconds)


def chaos(*, replicas: int) -> Application:
    """Its first version, as `ServeFixture` deploys it."""
    return build(1, replicas, seconds=ITEM_SECONDS)
