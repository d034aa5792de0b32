"""The applications with as many replicas as are wanted."""

from __future__ import annotations

from ray.serve import Application

from server_fixture.app import DEPLOYMENTS

__all__ = ["digits", "echo", "fragile", "not_a_stream"]


def digits(*, replicas: int) -> Application:
    """The classifier."""
    return _build("digits", replicas)


def echo(*, replicas: int) -> Application:
    """The echo."""
    return _build("echo", replicas)


def fragile(*, replicas: int) -> Application:
    """What some inputs destroy."""
    return _build("fragile", replicas)


def not_a_stream(*, replicas: int) -> Application:
    """What does not speak the protocol."""
    return _build("not_a_stream", replicas)


def _build(name: str, replicas: int) -> Application:
    return DEPLOYMENTS[name].options(num_replicas=replicas).bind()
