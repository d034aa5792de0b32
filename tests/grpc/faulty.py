"""A service that fails by plan."""

from servestream_client.testing.faults import FaultyService, LocalPlan


class FaultyEcho(FaultyService[bytes, bytes]):
    """Gives back what it gets, unless the plan says otherwise."""

    def __init__(self, plan: LocalPlan) -> None:
        self.plan = plan

    async def predict(self, item: bytes) -> bytes:
        return item
