"""How many replicas a deployment needs for the items it has."""

from dataclasses import dataclass, field

import pytest

from servestream_client.server import StreamService
from servestream_client.server.active_attempts import Totals
from servestream_client.server.autoscaling import as_stats, policy


@dataclass
class Configuration:
    target: float = 4.0

    def get_target_ongoing_requests(self) -> float:
        return self.target


@dataclass
class Context:
    """As much of Serve's as the policy looks at."""

    total_num_requests: float = 0.0
    replicas: list[Totals] = field(default_factory=list)
    config: Configuration = field(default_factory=Configuration)

    @property
    def aggregated_metrics(self) -> dict[str, dict[str, float]]:
        metrics: dict[str, dict[str, float]] = {}
        for number, totals in enumerate(self.replicas):
            for name, value in as_stats(totals).items():
                metrics.setdefault(name, {})[f"replica {number}"] = value
        return metrics


@pytest.mark.parametrize(
    ("requests", "replicas", "wanted"),
    [
        (0, [], 0),
        (1, [Totals(1, 32)], 8),  # one stream, and what is on it
        (4, [Totals(4, 32)], 8),
        (4, [Totals(1, 8)] * 4, 8),
        (3, [Totals(3, 0)], 0),  # streams that wait for inputs
        (20, [Totals(4, 8)], 6),  # 16 requests are no streams, or wait for a place
        (32, [], 8),  # of a service that reports nothing
        (2, [Totals(3, 4)], 1),  # what is counted at different times
    ],
)
def test_a_replica_for_so_many_items(requests, replicas, wanted):
    assert policy(Context(requests, replicas)) == (wanted, {})


async def test_a_service_that_nobody_uses_says_so():
    class Echo(StreamService[bytes, bytes]):
        async def predict(self, item: bytes) -> bytes:
            return item

    stats = await Echo().record_autoscaling_stats()
    assert stats == as_stats(Totals(streams=0, items=0))
    assert all(isinstance(value, float) for value in stats.values())
