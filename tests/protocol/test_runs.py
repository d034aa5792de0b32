"""Runs of payloads, and what waits for a frame in them."""

from random import Random

import pytest

from servestream_client.protocol.frames import Resume
from servestream_client.protocol.pacing import FRAME_MOST_BYTES, ITEM_OVERHEAD_BYTES
from servestream_client.protocol.runs import Run, RunQueue

Item = tuple[int, bytes, int]
"""A number, its payload, and the start index that goes with it."""


def run_of(first: int, *payloads: bytes, start: int = 0) -> Run:
    return Run(first, payloads, sum(map(len, payloads)), start)


def items_in(run: Run) -> list[Item]:
    """What a run consists of; its books must agree with that."""
    assert run.payloads
    assert run.size == sum(map(len, run.payloads))
    assert run.last == run.first + len(run.payloads) - 1
    assert run.frame_bytes == run.size + len(run.payloads) * ITEM_OVERHEAD_BYTES
    return [
        (number, payload, run.start_index if number == run.first else 0)
        for number, payload in enumerate(run.payloads, run.first)
    ]


def items_waiting(queue: RunQueue) -> list[Item]:
    assert queue.frame_bytes == sum(run.frame_bytes for run in queue)
    return [item for run in queue for item in items_in(run)]


def queue_of(*runs: Run) -> RunQueue:
    queue = RunQueue()
    for run in runs:
        queue.append(run)
    return queue


# ------------------------------------------------------------------ runs


def test_a_run_knows_its_last_number_and_what_it_takes_up():
    run = run_of(5, b"a", b"bcd", b"")
    assert (run.first, run.last, run.size) == (5, 7, 4)
    assert run.frame_bytes == 4 + 3 * ITEM_OVERHEAD_BYTES


def test_a_run_keeps_a_list_of_its_own():
    payloads = [b"a"]
    run = Run(1, payloads, 1)
    payloads.append(b"b")
    assert run.payloads == [b"a"]


def test_a_run_takes_in_the_one_that_follows():
    run = run_of(1, b"a", b"b", start=3)
    assert run.join(run_of(3, b"ccc"))
    assert items_in(run) == [(1, b"a", 3), (2, b"b", 0), (3, b"ccc", 0)]


@pytest.mark.parametrize("first", [1, 2, 4])
def test_a_run_does_not_take_in_one_that_does_not_follow(first):
    run = run_of(1, b"a", b"b")
    assert not run.join(run_of(first, b"c"))
    assert items_in(run) == [(1, b"a", 0), (2, b"b", 0)]


def test_a_run_does_not_take_in_one_that_begins_in_the_middle_of_an_input():
    run = run_of(1, b"a")
    assert not run.join(run_of(2, b"b", start=1))
    assert items_in(run) == [(1, b"a", 0)]


def test_runs_join_only_as_far_as_they_fit_into_one_frame():
    half = FRAME_MOST_BYTES // 2 - ITEM_OVERHEAD_BYTES
    assert run_of(1, bytes(half)).join(run_of(2, bytes(half)))
    assert not run_of(1, bytes(half)).join(run_of(2, bytes(half + 1)))
    assert not run_of(1, bytes(half - 1), b"").join(run_of(3, bytes(half)))


def test_the_head_of_a_run_is_cut_off_with_the_start_index():
    run = run_of(4, b"a", b"bb", b"ccc", start=2)
    head = run.cut(2)
    assert items_in(head) == [(4, b"a", 2), (5, b"bb", 0)]
    assert items_in(run) == [(6, b"ccc", 0)]


def test_the_rest_of_a_run_is_split_off_without_the_start_index():
    run = run_of(4, b"a", b"bb", b"ccc", start=2)
    rest = run.split(1)
    assert items_in(run) == [(4, b"a", 2)]
    assert items_in(rest) == [(5, b"bb", 0), (6, b"ccc", 0)]


# ------------------------------------------------------------------ what it takes to go on

RESUME = Resume(bytes(8), b"checkpoint", 1, (b"output",))


def resumed(first: int, *payloads: bytes) -> Run:
    return Run(first, payloads, sum(map(len, payloads)), 2, RESUME)


def test_what_it_takes_to_go_on_weighs_in_frames_and_in_the_window():
    run = resumed(1, b"abc")
    assert run.resume_bytes == RESUME.size == 32 + 10 + 6 + 8
    assert run.frame_bytes == 3 + ITEM_OVERHEAD_BYTES + RESUME.size
    assert run.window_bytes == 3 + RESUME.size


@pytest.mark.parametrize("count", [1, 2, 3])
@pytest.mark.parametrize("size", [0, 3, 100])
def test_so_many_fit_into_a_frame_as_there_is_room_for_beside_it(count, size):
    run = resumed(1, *[bytes(size)] * 3)
    needed = RESUME.size + count * (size + ITEM_OVERHEAD_BYTES)
    assert run.within_frame(needed) == count
    assert run.within_frame(needed - 1) == count - 1


def test_it_goes_with_the_first_input():
    run = resumed(1, b"a", b"bb", b"c")
    rest = run.split(2)
    assert (run.resume, rest.resume) == (RESUME, None)
    head = run.cut(1)
    assert (head.start_index, head.resume, head.frame_bytes - 1) == (
        2,
        RESUME,
        ITEM_OVERHEAD_BYTES + RESUME.size,
    )
    assert (run.start_index, run.resume, run.frame_bytes) == (0, None, 2 + ITEM_OVERHEAD_BYTES)


def test_nothing_joins_a_run_with_it():
    run = resumed(1, b"a")
    assert not run.join(run_of(2, b"b"))
    assert not run_of(0, b"z").join(run)


@pytest.mark.parametrize("number", [1, 2])
def test_it_leaves_a_queue_with_its_input(number):
    queue = queue_of(resumed(1, b"a", b"b"))
    queue.remove(number)
    (left,) = queue
    assert left.resume == (None if number == 1 else RESUME)
    assert queue.frame_bytes == left.frame_bytes
    assert left.resume_bytes == (0 if number == 1 else RESUME.size)
    queue.take(1)
    assert queue.frame_bytes == 0


# ------------------------------------------------------------------ the queue


def test_an_empty_queue_is_false():
    assert not RunQueue()
    queue = queue_of(run_of(1, b"a"))
    assert queue
    queue.clear()
    assert not queue
    assert queue.frame_bytes == 0


def test_what_follows_joins_what_waits():
    queue = queue_of(run_of(1, b"a"), run_of(2, b"b"), run_of(4, b"d"), run_of(5, b"e", start=1))
    assert [items_in(run) for run in queue] == [
        [(1, b"a", 0), (2, b"b", 0)],
        [(4, b"d", 0)],
        [(5, b"e", 1)],
    ]
    assert queue.head.first == 1


def test_a_take_ends_with_the_head():
    queue = queue_of(run_of(1, b"a", b"b"), run_of(9, b"z"))
    assert items_in(queue.take(10)) == [(1, b"a", 0), (2, b"b", 0)]
    assert items_in(queue.take(1)) == [(9, b"z", 0)]
    assert not queue


def test_what_is_put_back_is_taken_first():
    queue = queue_of(run_of(1, b"a", b"b", b"c", start=2))
    taken = queue.take(2)
    queue.put_back(taken)
    assert items_waiting(queue) == [(1, b"a", 2), (2, b"b", 0), (3, b"c", 0)]
    assert queue.take(1).first == 1


def test_what_was_taken_does_not_grow_when_more_comes():
    queue = queue_of(run_of(1, b"a"))
    taken = queue.take(1)
    queue.append(run_of(2, b"b"))
    assert items_in(taken) == [(1, b"a", 0)]
    assert items_waiting(queue) == [(2, b"b", 0)]


@pytest.mark.parametrize("number", [1, 2, 3])
def test_one_input_is_removed_from_wherever_it_stands(number):
    queue = queue_of(run_of(1, b"a", b"b", b"c", start=5), run_of(7, b"x"))
    expected = [item for item in items_waiting(queue) if item[0] != number]
    queue.remove(number)
    assert items_waiting(queue) == expected


def test_the_only_input_of_a_run_is_removed_with_it():
    queue = queue_of(run_of(1, b"a"), run_of(3, b"c"), run_of(5, b"e"))
    queue.remove(3)
    assert [run.first for run in queue] == [1, 5]


@pytest.mark.parametrize("number", [0, 2, 4])
def test_removing_what_does_not_wait_changes_nothing(number):
    queue = queue_of(run_of(1, b"a"), run_of(3, b"c"))
    queue.remove(number)
    assert items_waiting(queue) == [(1, b"a", 0), (3, b"c", 0)]


class Model:
    """A queue, and a plain list that says what must be in it."""

    def __init__(self, random: Random) -> None:
        self.random = random
        self.queue = RunQueue()
        self.items: list[Item] = []
        self.number = 0
        self.out: list[Item] = []  # taken, and not gone yet
        self.taken: Run | None = None
        self.largest = FRAME_MOST_BYTES  # or what was appended as one run

    def append(self) -> None:
        random = self.random
        self.number += 1 + random.choice([0, 0, 0, 1, 5])
        first = self.number
        sizes = random.choice([[0, 1, 9], [0, 1, 9], [20_000, 30_000], [70_000]])
        payloads = [bytes(random.choice(sizes)) for _ in range(random.randint(1, 6))]
        start = random.choice([0, 0, 0, 2])
        self.number += len(payloads) - 1
        run = run_of(first, *payloads, start=start)
        self.items += items_in(run)
        self.largest = max(self.largest, run.frame_bytes)
        self.queue.append(run)

    def take(self) -> None:
        if not self.items:
            return
        count = self.random.randint(1, 8)
        head = len(self.queue.head.payloads)
        self.taken = self.queue.take(count)
        self.out = items_in(self.taken)
        assert len(self.out) == min(count, head)
        assert self.out == self.items[: len(self.out)]
        del self.items[: len(self.out)]

    def put_back(self) -> None:
        """All of the last take, or its rest."""
        if self.taken is None:
            return
        kept = self.random.randrange(len(self.out))
        self.queue.put_back(self.taken.split(kept) if kept else self.taken)
        self.items[:0] = self.out[kept:]
        self.taken = None

    def remove(self) -> None:
        if not self.items:
            return
        item = self.random.choice(self.items)
        self.items.remove(item)
        self.queue.remove(item[0])


@pytest.mark.parametrize("seed", range(30))
def test_a_queue_holds_what_a_list_would(seed):
    model = Model(Random(seed))
    for _ in range(200):
        step = model.random.choice(["append", "append", "take", "put_back", "remove"])
        getattr(model, step)()
        if step == "append":
            model.taken = None  # too late to undo the take: the queue may have joined
        assert items_waiting(model.queue) == model.items
        assert bool(model.queue) == bool(model.items)
        assert all(run.frame_bytes <= model.largest for run in model.queue)


@pytest.mark.parametrize("seed", range(10))
def test_how_many_payloads_fit_is_what_counting_says(seed):
    pick = Random(seed)
    run = Run(1, [bytes(pick.choice([0, 1, 7, 100])) for _ in range(50)], 0)
    run.size = sum(map(len, run.payloads))
    for room in [-1, 0, *(pick.randrange(run.frame_bytes + 2) for _ in range(60))]:
        sums = [sum(map(len, run.payloads[:n])) for n in range(len(run.payloads) + 1)]
        assert run.within(room) == max(
            (n for n, size in enumerate(sums) if size <= room), default=0
        )
        assert run.within_frame(room) == max(
            (n for n, size in enumerate(sums) if size + n * ITEM_OVERHEAD_BYTES <= room), default=0
        )
