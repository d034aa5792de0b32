"""Places that do not come back: when all of them count as stuck."""

import pytest

from servestream_client.server import stuck
from servestream_client.server.calls import Call


class Noting:
    def __init__(self, places: int) -> None:
        self.told = 0
        self.places = stuck.StuckPlaces(places, self.tell)

    def tell(self) -> None:
        self.told += 1


@pytest.fixture(autouse=True)
def at_once(monkeypatch):
    monkeypatch.setattr(stuck, "STUCK_SECONDS", 0.0)


async def test_they_are_stuck_while_every_one_of_them_is_kept():
    noting = Noting(places=2)
    one, other = Call(None), Call(None)
    noting.places.add(one)
    assert not noting.places.stuck
    noting.places.add(other)
    assert noting.places.stuck
    assert noting.told == 1
    noting.places.remove(one)
    assert not noting.places.stuck
    noting.places.add(one)
    assert noting.places.stuck
    assert noting.told == 2


async def test_they_are_not_before_their_time(monkeypatch):
    monkeypatch.setattr(stuck, "STUCK_SECONDS", 3600.0)
    noting = Noting(places=1)
    noting.places.add(Call(None))
    assert not noting.places.stuck
    noting.places._alarm.cancel()
