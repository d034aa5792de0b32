"""What tests of the workers ask for by name."""

import pytest
from attempts import until, workers_running
from stand_ins import Clock

from servestream_client import turns as turns_module
from servestream_client.server import workers as workers_module


@pytest.fixture
def clock(monkeypatch) -> Clock:
    """What the workers measure their runs by."""
    clock = Clock()
    monkeypatch.setattr(workers_module, "time", clock)
    return clock


@pytest.fixture
def quick_code(monkeypatch) -> None:
    """No code takes any of the event loop's time, however busy the machine is: so no run is cut
    short, and nobody has to wait for a turn.
    """
    clock = Clock()
    clock.step = 0.0
    monkeypatch.setattr(turns_module, "time", clock)


@pytest.fixture
async def no_worker_stays():
    """Once there is nothing to do, every worker ends."""
    yield
    await until(lambda: not workers_running())
