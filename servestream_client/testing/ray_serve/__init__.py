"""A real Ray Serve for tests, in processes of its own; needs the extra ``ray-testing``.

Nothing here imports Ray, but for `ledger`, which runs in Ray's processes.
"""

from servestream_client.testing.ray_serve.cluster import Ingress
from servestream_client.testing.ray_serve.fixture import FixtureError, Replica, ServeFixture
from servestream_client.testing.ray_serve.handle import RayStreamServer

__all__ = ["FixtureError", "Ingress", "RayStreamServer", "Replica", "ServeFixture"]
