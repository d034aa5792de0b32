"""The attempts of an event loop: which of a stream's is there."""

from servestream_client.protocol.frames import CodecId, Open
from servestream_client.server.active_attempts import ActiveAttempts

ONE, OTHER = bytes(16), bytes([1] * 16)


class Here:
    def __init__(self, attempt: int) -> None:
        self.attempt = attempt
        self.told: list[object] = []

    def supersede(self) -> None:
        self.told.append("superseded")

    def drain(self, grace: float) -> None:
        self.told.append(grace)


def come(active: ActiveAttempts, number: int, stream: bytes = ONE) -> Here | None:
    """An attempt that comes; None: it was not let in."""
    attempt = Here(number)
    active.arrive(attempt)
    opened = Open(stream_id=stream, attempt=number, codec=CodecId("bytes"))
    return attempt if active.register(attempt, opened) else None


def test_the_highest_that_came_is_the_one_of_its_stream():
    active = ActiveAttempts()
    first, neighbour = come(active, 1), come(active, 1, OTHER)
    third = come(active, 3)
    assert first.told == ["superseded"]
    assert come(active, 2) is None
    assert third.told == neighbour.told == []


def test_one_that_was_superseded_takes_nobody_along():
    active = ActiveAttempts()
    first, second = come(active, 1), come(active, 2)
    active.unregister(first, ONE)
    assert come(active, 1) is None
    active.unregister(second, ONE)
    assert come(active, 1) is not None


def test_all_are_asked_to_leave_whether_they_were_let_in_or_not():
    active = ActiveAttempts()
    let_in, new = come(active, 2), Here(1)
    active.arrive(new)
    active.drain(3.0)
    assert let_in.told == new.told == [3.0]
    active.unregister(new, None)
    active.drain(2.0)
    assert new.told == [3.0]
