"""Tests of services that stream: faults by plan, a server in this process, a proxy that fails.

With pytest the fixtures `stream_server`, `make_stream_server`, `stream_client`,
`sync_stream_client` and `ray_stream_server` are there once the package is installed, and the
marker `stream_faults` (docs/pytest.md).
"""

from servestream_client.testing.faults import Fault, FaultKind, InjectedError
from servestream_client.testing.handle import AnyFault, FaultHandle
from servestream_client.testing.history import Event, History
from servestream_client.testing.network import (
    Cut,
    CutKind,
    Deaf,
    Delay,
    Direction,
    NetworkFault,
    Slice,
    Throttle,
)
from servestream_client.testing.proxy import FaultProxy
from servestream_client.testing.resumable import assert_resumable
from servestream_client.testing.server import Echo, StreamServer

__all__ = [
    "AnyFault",
    "Cut",
    "CutKind",
    "Deaf",
    "Delay",
    "Direction",
    "Echo",
    "Event",
    "Fault",
    "FaultHandle",
    "FaultKind",
    "FaultProxy",
    "History",
    "InjectedError",
    "NetworkFault",
    "Slice",
    "StreamServer",
    "Throttle",
    "assert_resumable",
]
