"""What tests of the workers ask for by name."""

import pytest
from attempts import until, workers_running
from stand_ins import Clock

from servestream_client.server import workers as workers_module


@pytest.fixture
def clock(monkeypatch) -> Clock:
    """What the workers measure their runs by."""
    clock = Clock()
    monkeypatch.setattr(workers_module, "time", clock)
    return clock


@pytest.fixture
async def no_worker_stays():
    """Once there is nothing to do, every worker ends."""
    yield
    await until(lambda: not workers_running())
