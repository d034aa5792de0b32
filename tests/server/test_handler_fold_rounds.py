"""Several batches in one go: what counts of them where one goes wrong."""

import pytest

from servestream_client.protocol.runs import Run
from servestream_client.protocol.server.fold import FoldOutbox
from servestream_client.server.calls import Part
from servestream_client.server.handlers.fold_rounds import Pace, _Work


def outbox(state: bytes) -> FoldOutbox:
    made = FoldOutbox()
    made.state = state
    made._output_bytes = 3
    return made


def work(step, *streams: list[bytes], clock=lambda: 0.0) -> _Work:
    parts = [Part(None, Run(1, payloads, 0)) for payloads in streams]
    return _Work(step, parts, [outbox(b"%d" % n) for n in range(len(streams))], clock)


def adding(states, items):
    if b"bad" in items:
        raise ValueError("bad")
    return [state + item for state, item in zip(states, items, strict=True)], items


def test_each_batch_has_the_states_of_the_one_before():
    made = work(adding, [b"a", b"b", b"c"], [b"x", b"y"])
    made.batch(0)
    made.batch(1)
    assert made.made == [[(b"0a", b"a"), (b"0ab", b"b")], [(b"1x", b"x"), (b"1xy", b"y")]]
    assert not made.failed


def test_a_batch_that_raises_counts_for_nobody_and_those_before_it_do():
    made = work(adding, [b"a", b"b", b"c"], [b"x", b"bad", b"z"])
    made.batch(0)
    with pytest.raises(ValueError, match="bad"):
        made.batch(1)
    made.batch(2)  # it would have another state
    assert made.made == [[(b"0a", b"a")], [(b"1x", b"x")]]
    assert made.failed


@pytest.mark.parametrize("output", [b"long", "text", None])
def test_nor_does_one_with_an_output_that_cannot_be_sent(output):
    def step(states, items):
        return states, [output if item == b"bad" else item for item in items]

    made = work(step, [b"a", b"b"], [b"x", b"bad"])
    made.batch(0)
    made.batch(1)
    assert list(map(len, made.made)) == [1, 1]
    assert made.failed


def test_none_is_begun_when_the_time_is_over():
    now = [0.0]
    made = work(adding, [b"a", b"b"], clock=lambda: now[0])
    now[0] = 1.0
    made.batch(0)  # the first one has all its time
    made.batch(1)
    assert list(map(len, made.made)) == [1]
    assert not made.failed


def test_runs_are_as_long_as_they_are_fast():
    pace = Pace()
    for _ in range(10):
        pace.took(pace.run_length, 0.001)
    assert pace.run_length == 32
    pace.took(32, 1.0)
    assert pace.run_length == 16
    pace.took(3, 0.001)  # one of the streams had no more
    assert pace.run_length == 3
    pace.failed()
    assert pace.run_length == 1
    single = Pace(most=1)
    single.took(1, 0.0)
    assert single.run_length == 1
