"""A service that fails by plan, and what is left of it."""

import asyncio

from servestream_client.testing.faults import LocalPlan
from servestream_client.testing.injector import FaultyService


class FaultyEcho(FaultyService[bytes, bytes]):
    """Gives back what it gets, unless the plan says otherwise."""

    def __init__(self, plan: LocalPlan) -> None:
        self.plan = plan

    async def predict(self, item: bytes) -> bytes:
        return item


def streams_running() -> set[asyncio.Task]:
    return {
        task
        for task in asyncio.all_tasks()
        if task.get_name().startswith("servestream") and not task.done()
    }
