"""What hooks are told of a call of `generate`, by a clock that stands."""

import asyncio

from noting import Noting

from servestream_client.events import CallEnded, OutputsArrived, StreamKind
from servestream_client.session.calls import CallTeller, Watch
from servestream_client.session.request import Request


async def test_a_later_output_is_told_by_its_gap(monkeypatch):
    loop, noting = asyncio.get_running_loop(), Noting()
    times = [100.0, 103.0, 105.0, 106.5]
    monkeypatch.setattr(loop, "time", lambda: times[0])
    request = Request(b"item", b"payload")
    watch = Watch(CallTeller([noting], "here:1", "app", StreamKind.GENERATE), request)
    for count in (2, 1):
        times.pop(0)
        watch.came(0)
        watch.came(count)
    times.pop(0)
    watch.ended(None)
    arrived = [(each.first_index, each.count, each.seconds) for each in noting.of(OutputsArrived)]
    assert arrived == [(0, 2, 3.0), (2, 1, 2.0)]
    (ended,) = noting.of(CallEnded)
    assert (ended.seconds, ended.outputs, ended.stream_id) == (6.5, 3, "")
