"""The applications with as many replicas as are wanted."""

from __future__ import annotations

from typing import Protocol

from ray.serve import Application, Deployment

from server_fixture.app import DEPLOYMENTS

__all__ = ["Builder", "builder", "digits", "echo", "fragile", "not_a_stream"]


class Builder(Protocol):
    """What a fixture calls, found by its name in a module."""

    def __call__(self, *, replicas: int) -> Application:
        """Build the application."""
        ...


def builder(deployment: Deployment) -> Builder:
    """What makes an application of a single deployment."""

    def build(*, replicas: int) -> Application:
        return deployment.options(num_replicas=replicas).bind()

    return build


digits = builder(DEPLOYMENTS["digits"])
echo = builder(DEPLOYMENTS["echo"])
fragile = builder(DEPLOYMENTS["fragile"])
not_a_stream = builder(DEPLOYMENTS["not_a_stream"])
