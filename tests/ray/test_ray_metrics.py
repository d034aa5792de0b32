"""What Prometheus finds on a node of the streams of its replicas, in both ingress modes."""

from __future__ import annotations

import asyncio
import re
from collections import Counter
from collections.abc import Mapping

import pytest

from server_fixture.fixture import ServeFixture
from servestream_client import ItemError, StreamClient
from servestream_client.testing.faults import Fault, FaultKind

pytestmark = [pytest.mark.ray, pytest.mark.timeout(600), pytest.mark.application("echo")]

LINE = re.compile(r"^ray_servestream_(\w+)\{(.*)\} (\S+)$", re.MULTILINE)
TAG = re.compile(r'(\w+)="([^"]*)"')
ITEMS = [b"%d" % number for number in range(20)]


def found(page: str) -> dict[str, list[tuple[Mapping[str, str], float]]]:
    """The application's metrics: their tags and values."""
    metrics: dict[str, list[tuple[Mapping[str, str], float]]] = {}
    for name, text, value in LINE.findall(page):
        tags = dict(TAG.findall(text))
        if tags["application"] == "echo":
            metrics.setdefault(name, []).append((tags, float(value)))
    return metrics


async def test_prometheus_finds_the_streams_of_replicas(serve: ServeFixture) -> None:
    serve.add_faults(Fault(FaultKind.RAISE, at=3))
    async with StreamClient(serve.target, application="echo") as client:
        results = [out async for out in client.stream(ITEMS, return_exceptions=True)]
        assert isinstance(results[2], ItemError)
        wanted = {"streams", "running_items", "waiting_items"}
        wanted |= {"items_total", "item_seconds_count", "item_seconds_bucket"}
        outcomes: Counter[str] = Counter()
        metrics = found("")
        # Replicas report every ten seconds; a gauge that was not set for two of these is gone.
        while not (
            wanted <= metrics.keys()
            and outcomes["ok"] >= len(ITEMS) - 1
            and outcomes["handler"] >= 1
            and any(streams for _, streams in metrics["streams"])
        ):
            assert await client.predict(b"again") == b"again"  # and so a stream stays open
            await asyncio.sleep(0.5)
            metrics = found(await asyncio.to_thread(serve.metrics))
            outcomes.clear()
            for tags, count in metrics.get("items_total", ()):  # of each replica
                outcomes[tags["outcome"]] += int(count)
        replicas = set(serve.pids())
        for tags, _ in (each for name in wanted for each in metrics[name]):
            assert tags["deployment"] == "Echo"
            assert tags["replica"] in replicas
