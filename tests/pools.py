"""Endpoints of functions, for tests."""

from __future__ import annotations

from collections.abc import Callable

from servestream_client.session.endpoint_pool import EndpointPool
from servestream_client.transport.base import Transport
from servestream_client.transport.names import Place, Seed

__all__ = ["pool_of"]


def pool_of(make_transport: Callable[[], Transport], *names: str) -> EndpointPool:
    """A pool with an endpoint of each name, or with one."""
    seeds = [Seed(name, (Place(name, name),)) for name in names or ("memory",)]
    return EndpointPool(seeds, lambda _: make_transport())
