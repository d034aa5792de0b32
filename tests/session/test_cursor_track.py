"""The way from inputs to a cursor and back, in any order of answers, over any number of deaths."""

import random

import pytest

from servestream_client.cursor import BLOCK, Cursor, CursorState, InputDigest, Job, marked
from servestream_client.errors import CursorMismatchError
from servestream_client.protocol.numbers import NumberSet
from servestream_client.session.cursor_track import CursorTrack, TrackedInlet

JOB = Job.of("app", "bytes", "", None)


def encode(item: bytes) -> bytes:
    if item.startswith(b"bad"):
        raise ValueError("no")
    return item.upper()


def payload_of(item: bytes) -> bytes | None:
    """None: it cannot be sent."""
    if item.startswith(b"bad"):
        return None
    payload = encode(item)
    return payload if len(payload) <= 1000 else None


def inputs(many: int) -> list[bytes]:
    return [
        b"%s %d" % (b"bad" if n % 5 == 0 else b"item" if n % 7 else b"x" * 1000, n)
        for n in range(1, many + 1)
    ]


def digest_of(items: list[bytes]) -> bytes:
    digest = InputDigest()
    digest.add([marked(payload_of(item)) for item in items])
    return digest.value


@pytest.mark.parametrize("ordered", [True, False])
@pytest.mark.parametrize("seed", range(20))
def test_each_input_is_taken_once_over_any_number_of_deaths(seed, ordered):
    rng = random.Random(f"{seed} {ordered}")
    items, taken, cursor = inputs(60), [], Cursor()
    deaths = 0
    while True:
        track = CursorTrack(Cursor.from_bytes(bytes(cursor)), JOB, encode, 1000)
        done, waiting = NumberSet(), []
        rest = track.rest(iter(items)) if track.left_to_pass else iter(items)
        for sent, item in enumerate(rest, 1):
            payload = payload_of(item)
            if payload is None or rng.randrange(2):
                track.note(payload)
            else:
                track.note_all([payload])
            assert items[track.number_of(sent) - 1] == item
            waiting.append((sent, item))
            while waiting and rng.randrange(2):
                number, item = waiting.pop(0 if ordered else rng.randrange(len(waiting)))
                taken.append(item)
                done.add(number)
                if rng.randrange(3) == 0:
                    track.trim(done)
                cursor = track.cursor(done, without=None)
                assert cursor.digest == digest_of(items[: cursor.position])
                if cursor.beyond:
                    assert cursor.digest_beyond == digest_of(items[: cursor.through])
                covered = {*range(1, cursor.position + 1)}
                for first, last in cursor.beyond:
                    covered |= {*range(first, last + 1)}
                assert {items[number - 1] for number in covered} == set(taken)
            if rng.randrange(15) == 0:
                deaths += 1
                break
        else:
            taken += [item for _, item in waiting]
            break
    assert deaths
    assert sorted(taken) == sorted(items)
    if ordered:
        assert taken == items


def cursor_after(items: list[bytes], taken: list[int]) -> Cursor:
    track, done = CursorTrack(Cursor(), JOB, bytes, 1000), NumberSet()
    track.note_all(items)
    for number in taken:
        done.add(number)
    return track.cursor(done, without=None)


ITEMS = [b"a", b"b", b"c", b"d", b"e"]


@pytest.mark.parametrize("taken", [[1, 2, 3], [1, 3, 4], [4]])
@pytest.mark.parametrize("changed", range(4))
def test_inputs_that_are_others_are_told_before_any_is_sent(taken, changed):
    track = CursorTrack(cursor_after(ITEMS, taken), JOB, bytes, 1000)
    other = list(ITEMS)
    other[changed] = b"x"
    rest = track.rest(iter(other))
    if changed >= max(taken):
        assert list(rest) == [item for n, item in enumerate(other, 1) if n not in taken]
        return
    with pytest.raises(CursorMismatchError, match="the inputs are not those"):
        next(rest)


def test_inputs_that_end_too_soon_are_others():
    track = CursorTrack(cursor_after(ITEMS, [1, 2, 3]), JOB, bytes, 1000)
    with pytest.raises(CursorMismatchError, match="ended after 2, but the cursor has passed 3"):
        next(track.rest(iter(ITEMS[:2])))


def test_who_can_seek_passes_over_those_behind_only():
    many = [b"%d" % number for number in range(1, 2001)]
    track = CursorTrack(cursor_after(many, [*range(1, 1501), 1502]), JOB, bytes, 1000)
    assert track.seek() == BLOCK
    assert track.left_to_pass == 1502 - BLOCK
    rest = list(track.rest(iter(many[BLOCK:])))
    assert rest == [b"1501", *many[1502:]]
    done = NumberSet()
    track.note_all(rest)
    done.add_run(1, len(rest))
    cursor = track.cursor(done, without=None)
    assert cursor == cursor_after(many, [*range(1, 2001)])
    track = CursorTrack(cursor, JOB, bytes, 1000)
    assert track.seek() == BLOCK
    with pytest.raises(CursorMismatchError, match="among the first 2,000"):
        list(track.rest(iter([*many[BLOCK:1999], b"other"])))


def test_one_that_was_raised_is_not_done_with():
    track, done = CursorTrack(Cursor(), JOB, bytes, 1000), NumberSet()
    track.note_all(ITEMS)
    done.add_run(1, 4)
    assert track.cursor(done, without=4).position == 3
    track = CursorTrack(Cursor(), JOB, bytes, 1000)
    track.note_all(ITEMS)
    cursor = track.cursor(done, without=2)
    assert (cursor.position, cursor.beyond) == (1, ((3, 4),))


def test_what_no_cursor_tells_any_more_is_forgotten():
    track, done = CursorTrack(Cursor(), JOB, bytes, 1000), NumberSet()
    for number in range(1, 1001):
        track.note(b"x")
        done.add(number)
        track.trim(done)
    assert len(track._marks) == 0


def test_a_generator_is_closed_with_the_rest():
    closed = []

    def generator():
        try:
            yield from ITEMS
        finally:
            closed.append(True)

    track = CursorTrack(cursor_after(ITEMS, [1]), JOB, bytes, 1000)
    rest = track.rest(generator())
    assert next(rest) == b"b"
    rest.close()
    assert closed == [True]


STATE = CursorState(bytes(16), 1, 2, b"t", failed=((4, 4),), digests=bytes(16))


class Restoring:
    """What a session is told, in its order."""

    def __init__(self) -> None:
        self.told: list[object] = []
        self.ledger = self

    def restore(self, number: int, payload: bytes) -> None:
        self.told.append((number, payload))

    def push(self, payload: bytes, item: object = None) -> int:
        self.told.append(payload)
        return 6

    def finish(self) -> None:
        self.told.append("end")

    def wake_writer(self) -> None:
        pass


def begun_at_five() -> tuple[CursorTrack, Restoring, TrackedInlet]:
    items = [b"1", b"2", b"3", b"4", b"5"]
    track = CursorTrack(Cursor(5, (), digest_of(items), state=STATE), JOB, encode, 1000)
    for item in items:
        track.pass_over(item)
    track.passed()
    session = Restoring()
    return track, session, TrackedInlet(session, session, track)


def test_what_is_between_the_state_and_the_cursor_goes_first():
    track, session, inlet = begun_at_five()
    inlet.push(b"6")
    inlet.finish()
    assert session.told == [(3, b"3"), (5, b"5"), b"6", "end"]
    assert (track.number_of(6), track.left_out) == (6, 0)


def test_what_is_restored_goes_before_the_end():
    _, session, inlet = begun_at_five()
    inlet.finish()
    assert session.told == [(3, b"3"), (5, b"5"), "end"]
