"""Over how many servers lanes are spread, and which of them move."""

import random
from dataclasses import dataclass

import pytest

from servestream_client.protocol.frames import Load
from servestream_client.session.spread import ENOUGH, Spread

SLOW, QUICK = 200_000, 10


@dataclass(eq=False)
class Lane:
    replica: str = ""
    carried: int = 1
    retiring: bool = False


def lanes(*replicas: str) -> list[Lane]:
    return [Lane(replica) for replica in replicas]


@pytest.mark.parametrize(
    ("least", "most", "servers", "limit"),
    [(4, 64, 0, 4), (4, 64, 1, 4), (4, 64, 9, 9), (4, 64, 500, 64), (2, 2, 9, 2), (1, 64, 3, 3)],
)
def test_how_many_there_may_be(least, most, servers, limit):
    spread = Spread(least, most)
    spread.learn(Load(servers=servers))
    assert spread.limit == limit


@pytest.mark.parametrize(
    ("servers", "item_us", "open_lanes", "enough"),
    [
        (0, SLOW, 0, ENOUGH),  # nobody knows how many there are
        (4, SLOW, 1, 1),
        (4, SLOW, 3, 1),
        (4, SLOW, 4, ENOUGH),
        (4, QUICK, 1, ENOUGH),
    ],
)
def test_slow_handlers_are_worth_a_lane_for_each_call(servers, item_us, open_lanes, enough):
    spread = Spread(4, 64)
    spread.learn(Load(servers=servers, item_us=item_us))
    assert spread.enough(open_lanes) == enough


def test_handlers_may_be_taken_for_slow_until_that_is_known():
    spread = Spread(1, 64, slow=True)
    spread.learn(Load(servers=4))
    assert spread.enough(1) == 1
    spread.learn(Load(servers=4, item_us=QUICK))
    assert spread.enough(1) == ENOUGH
    assert (spread.servers, Spread(1, 3).servers) == (4, 0)


def test_a_second_lane_at_a_server_moves_while_another_has_none():
    spread = Spread(4, 64)
    spread.learn(Load(servers=3))
    first, second, third = lanes("a", "b", "a")
    assert spread.misplaced([first, second, third], 0.0) == [third]


def test_lanes_that_are_on_their_way_or_end_count_for_nothing():
    spread = Spread(4, 64)
    spread.learn(Load(servers=3))
    ending = Lane("a", retiring=True)
    assert spread.misplaced([ending, *lanes("a", "", "")], 0.0) == []


@pytest.mark.parametrize("servers", [0, 1, 2])
def test_nothing_moves_once_each_server_has_one(servers):
    spread = Spread(4, 64)
    spread.learn(Load(servers=servers))
    assert spread.misplaced(lanes("a", "b", "a", "b"), 0.0) == []


def test_tries_grow_rare_until_the_number_of_servers_changes():
    spread, now, tries = Spread(4, 64), 0.0, 0
    spread.learn(Load(servers=3))
    placed = lanes("a", "b")
    while now < 600:
        if spread.may_open(now):
            tries += 1
            spread.misplaced([*placed, Lane("a")], now)
        now += 0.05
    assert tries < 30
    assert not spread.may_open(now)
    spread.learn(Load(servers=3))
    assert not spread.may_open(now)
    spread.learn(Load(servers=4))
    assert spread.may_open(now)


def test_servers_that_have_gone_leave_no_more_lanes_than_there_may_be():
    spread = Spread(2, 64)
    spread.learn(Load(servers=4))
    placed = lanes("a", "b", "a", "b")
    for carried, lane in enumerate(placed):
        lane.carried = 10 - carried
    spread.learn(Load(servers=2))
    assert spread.misplaced(placed, 0.0) == [placed[3], placed[2]]


@pytest.mark.parametrize("seed", range(20))
def test_every_server_gets_a_lane_and_then_nothing_moves(seed):
    """Where each lane comes to the less busy of two servers, as with Ray Serve's router."""
    rng, now = random.Random(seed), 0.0
    servers = [f"server {number}" for number in range(rng.randint(1, 12))]
    spread, placed, moves = Spread(1, 64), [Lane(servers[0])], 0
    spread.learn(Load(servers=len(servers), item_us=SLOW))

    def busy(server: str) -> int:
        return sum(lane.replica == server for lane in placed)

    while now < 10:
        while len(placed) < spread.limit and spread.may_open(now):
            two = rng.sample(servers, min(2, len(servers)))
            placed.append(Lane(min(two, key=busy)))
            for lane in spread.misplaced(placed, now):
                placed.remove(lane)
                moves += 1
        now += 0.01
    assert {lane.replica for lane in placed} == set(servers)
    before = list(placed)
    for second in range(10, 610):
        assert spread.misplaced(placed, second) == []
    assert placed == before
