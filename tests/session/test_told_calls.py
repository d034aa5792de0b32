"""What hooks are told of a call of `generate`, by a clock that stands."""

import asyncio

from noting import Noting

from servestream_client.events import CallEnded, OutputsArrived, StreamKind
from servestream_client.session.telling import CallTeller, Telling, Timing


async def test_a_later_output_is_told_by_its_gap(monkeypatch):
    loop, noting = asyncio.get_running_loop(), Noting()
    times = [100.0, 103.0, 105.0, 106.5, 200.0]
    monkeypatch.setattr(loop, "time", lambda: times[0])
    timing = Timing(loop.time())
    telling = Telling(CallTeller([noting], "here:1", "app", StreamKind.GENERATE), timing)
    for count in (2, 1):
        times.pop(0)
        timing.came(0)
        timing.came(count)
    times.pop(0)
    timing.ended()
    times.pop(0)  # its reader comes late
    telling.outputs()
    telling.ended(None)
    telling.ended(None, left=True)
    arrived = [(each.first_index, each.count, each.seconds) for each in noting.of(OutputsArrived)]
    assert arrived == [(0, 2, 3.0), (2, 1, 2.0)]
    (ended,) = noting.of(CallEnded)
    assert (ended.seconds, ended.outputs, ended.stream_id) == (6.5, 3, "")
    assert not ended.left
