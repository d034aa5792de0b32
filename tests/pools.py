"""Endpoints of functions, for tests."""

from __future__ import annotations

from collections.abc import Callable

from servestream_client.session.endpoint_pool import EndpointPool
from servestream_client.transport.base import Transport
from servestream_client.transport.names import Place, Seed

__all__ = ["pool_of"]


def pool_of(make_transport: Callable[[], Transport], name: str = "memory") -> EndpointPool:
    """A pool with one endpoint."""
    return EndpointPool([Seed(name, (Place(name, name),))], lambda _: make_transport())
