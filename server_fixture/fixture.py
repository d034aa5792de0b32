"""The fixture's applications on a real Ray Serve, by their short names."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from servestream_client.testing.ray_serve import FixtureError, Ingress, Replica
from servestream_client.testing.ray_serve import ServeFixture as RayServeFixture

__all__ = ["APPLICATIONS", "FixtureError", "Replica", "ServeFixture", "import_path"]

APPLICATIONS = ("digits", "echo", "fragile", "not_a_stream", "counting")


def import_path(application: str) -> str:
    """Of one of the fixture's applications; others are import paths already."""
    return f"server_fixture.builders:{application}" if ":" not in application else application


class ServeFixture(RayServeFixture):
    """A Ray Serve whose applications may be some of `APPLICATIONS`."""

    def __init__(
        self,
        applications: Sequence[str] = ("digits",),
        ingress: Ingress = Ingress.PROXY,
        *,
        replicas: int = 2,
        servicers: Sequence[str] = (),
        port: int | None = None,
        on_phase: Callable[[str], None] = lambda _: None,
    ) -> None:
        super().__init__(
            [import_path(application) for application in applications],
            ingress,
            replicas=replicas,
            servicers=servicers,
            port=port,
            on_phase=on_phase,
        )

    def deploy(self, application: str) -> None:
        super().deploy(import_path(application))
