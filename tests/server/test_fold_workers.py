"""When the answers of batches leave that have one input each of several stateful streams."""

import asyncio

from servestream_client.protocol.runs import Run
from servestream_client.server.calls import Part
from servestream_client.server.fold_workers import FoldBatchWorkers
from servestream_client.server.handlers.fold_rounds import Pace


class Stream:
    """An attempt with inputs that wait, or without."""

    def __init__(self, *, startable: bool) -> None:
        self.session = self.intake = self
        self.startable = startable
        self.told = asyncio.Event()

    def wake_writer(self) -> None:
        self.told.set()


def workers() -> FoldBatchWorkers:
    return FoldBatchWorkers(None, places=1, max_batch=8, batch_wait=0.0, pace=Pace())


async def test_the_last_answers_leave_at_once():
    stream = Stream(startable=False)
    workers()._tell(stream)
    assert stream.told.is_set()


async def test_others_wait_for_more_but_not_for_ever():
    first, second = Stream(startable=True), Stream(startable=True)
    these = workers()
    these._tell(first)
    these._tell(second)
    assert not first.told.is_set()
    await asyncio.gather(first.told.wait(), second.told.wait())


async def test_who_has_no_more_takes_along_what_waited():
    stream, these = Stream(startable=True), workers()
    these._tell(stream)
    stream.startable = False
    these._tell(stream)
    assert stream.told.is_set()
    stream.told.clear()
    await asyncio.sleep(0)  # its turn is over: nobody tells it again
    these._tell_all()
    assert not stream.told.is_set()


def test_the_time_of_an_input_is_that_of_its_batch():
    """Of several batches that were computed in one go, each has its part."""
    parts = [Part(None, Run(1, [b"x"] * count, count)) for count in (4, 3)]
    assert workers()._seconds_an_item(parts, 1.0) == 0.25
