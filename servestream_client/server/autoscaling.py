"""Ray Serve's autoscaling by items: how many replicas a deployment needs for the items it has.

Serve counts requests, and to it a stream is one, whatever it carries. So a replica says how many
items there are on its streams (`StreamService.record_autoscaling_stats`), and this policy, which
runs in Serve's controller, makes of `target_ongoing_requests` the number of items on a replica:

.. code-block:: yaml

    autoscaling_config:
      min_replicas: 1
      max_replicas: 8
      target_ongoing_requests: 4
      policy:
        policy_function: servestream_client.server.autoscaling:policy

Delays, smoothing and bounds are Serve's own, and apply to what the policy says.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from servestream_client.server.active_attempts import Totals

__all__ = ["policy"]

_ITEMS = "servestream_items"
_STREAMS = "servestream_streams"


class _Configuration(Protocol):
    def get_target_ongoing_requests(self) -> float: ...


class _Context(Protocol):
    """What is needed of Serve's `AutoscalingContext`."""

    @property
    def total_num_requests(self) -> float: ...
    @property
    def aggregated_metrics(self) -> Mapping[str, Mapping[Any, float]] | None: ...
    @property
    def config(self) -> _Configuration | None: ...


def as_stats(totals: Totals) -> dict[str, float]:
    """What a replica tells Serve."""
    return {_ITEMS: float(totals.items), _STREAMS: float(totals.streams)}


def policy(ctx: _Context) -> tuple[float, dict[str, Any]]:
    """How many replicas hold `target_ongoing_requests` items each.

    Requests that are no stream, or wait for a place at a replica, count as one item each, as they
    do without this policy; so does every request where replicas report no items.

    Returns:
        The number, before Serve's smoothing and bounds, and no state.
    """
    assert ctx.config is not None  # noqa: S101 — Serve has one wherever it has a policy
    metrics = ctx.aggregated_metrics or {}
    items = sum(metrics.get(_ITEMS, {}).values())
    streams = sum(metrics.get(_STREAMS, {}).values())
    others = max(0.0, ctx.total_num_requests - streams)
    return (items + others) / ctx.config.get_target_ongoing_requests(), {}
