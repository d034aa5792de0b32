"""Frames that are spoiled by plan: the output that is meant, and no other."""

import pytest

from servestream_client.testing import Fault, FaultKind
from servestream_client.testing.injector import _carries, _spoil
from servestream_client.wire import stream_pb2 as pb


def frame() -> pb.ServerFrame:
    """Single outputs of the inputs 3 to 6, and outputs 70 to 79 of input 9, which are its last."""
    runs = [pb.OutputRun(first_number=3, payloads=[b"%d" % n for n in range(3, 7)])]
    part = pb.OutputPart(
        number=9, first_index=70, payloads=[b"9.%d" % n for n in range(70, 80)], last=True
    )
    return pb.ServerFrame(outputs=runs, parts=[part])


def outputs(frame: pb.ServerFrame) -> list[bytes]:
    """All payloads, each where its run or part says that it is."""
    found = []
    for run in frame.outputs:
        for number, payload in enumerate(run.payloads, run.first_number):
            assert payload == b"%d" % number
            found.append(payload)
    for part in frame.parts:
        for index, payload in enumerate(part.payloads, part.first_index):
            assert payload == b"%d.%d" % (part.number, index)
            found.append(payload)
    return found


@pytest.mark.parametrize(
    ("at", "output", "carried"),
    [
        (2, None, False),
        (3, None, True),
        (6, None, True),
        (7, None, False),
        (3, 0, False),
        (9, None, False),
        (9, 0, False),
        (9, 69, False),
        (9, 70, True),
        (9, 79, True),
        (9, 80, False),
        (8, 75, False),
    ],
)
def test_which_frame_has_an_output(at, output, carried):
    assert _carries(frame(), Fault(FaultKind.CLOSE, at, output=output)) is carried


@pytest.mark.parametrize(("at", "output"), [(3, None), (5, None), (6, None), (9, 70), (9, 77)])
def test_one_output_is_left_out(at, output):
    meant = b"%d" % at if output is None else b"%d.%d" % (at, output)
    spoiled = _spoil(frame(), Fault(FaultKind.SKIP, at, output=output))
    assert outputs(spoiled) == [each for each in outputs(frame()) if each != meant]
    assert [part.last for part in spoiled.parts][-1]


def test_the_last_output_is_left_out_and_the_end_stays():
    spoiled = _spoil(frame(), Fault(FaultKind.SKIP, 9, output=79))
    assert outputs(spoiled) == outputs(frame())[:-1]
    assert (spoiled.parts[-1].last, list(spoiled.parts[-1].payloads)) == (True, [])


@pytest.mark.parametrize(("at", "output"), [(4, None), (9, 77)])
def test_what_has_an_output_comes_twice(at, output):
    spoiled = _spoil(frame(), Fault(FaultKind.DUPLICATE, at, output=output))
    twice = spoiled.outputs if output is None else spoiled.parts
    once = spoiled.parts if output is None else spoiled.outputs
    assert (len(twice), len(once)) == (2, 1)
    assert twice[0] == twice[1]


def test_of_an_input_with_many_outputs_the_first_is_meant_unless_one_is_named():
    part = pb.OutputPart(number=2, first_index=0, payloads=[b"2.0", b"2.1"])
    spoiled = _spoil(pb.ServerFrame(parts=[part]), Fault(FaultKind.SKIP, 2))
    assert outputs(spoiled) == [b"2.1"]


@pytest.mark.parametrize(("at", "left"), [(7, [(8, 0)]), (8, [(7, 5)])])
def test_what_is_left_of_a_run_says_what_came_of_its_first_output_in_chunks(at, left):
    run = pb.OutputRun(first_number=7, payloads=[b"a", b"b"], first_offset=5)
    spoiled = _spoil(pb.ServerFrame(outputs=[run]), Fault(FaultKind.SKIP, at))
    assert [(each.first_number, each.first_offset) for each in spoiled.outputs] == left


@pytest.mark.parametrize(("output", "left"), [(3, [(4, 0)]), (4, [(3, 5)])])
def test_so_does_what_is_left_of_a_part(output, left):
    part = pb.OutputPart(number=7, first_index=3, payloads=[b"a", b"b"], first_offset=5)
    spoiled = _spoil(pb.ServerFrame(parts=[part]), Fault(FaultKind.SKIP, 7, output=output))
    assert [(each.first_index, each.first_offset) for each in spoiled.parts] == left
