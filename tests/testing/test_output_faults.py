"""Faults at an output of a generation: each strikes there, once, and what follows is as ever."""

import pytest

from servestream_client import ItemError, ItemErrorKind, SeamKind, SyncStreamClient, Watchdog
from servestream_client.server import Replay, StreamService
from servestream_client.testing import Fault, FaultKind, StreamServer
from servestream_client.testing.faults import FilePlan

COUNT = 200


def whole(name: str, count: int = COUNT) -> list[bytes]:
    return [f"{name} {index}".encode() for index in range(count)]


class OnLoop(StreamService[bytes, bytes]):
    replay = Replay.SEEK

    async def generate(self, item, resume):
        for index in range(resume.index, COUNT):
            yield b"%s %d" % (item, index)


class InThreads(StreamService[bytes, bytes]):
    replay = Replay.SEEK

    def generate(self, item, resume):
        for index in range(resume.index, COUNT):
            yield b"%s %d" % (item, index)


@pytest.fixture(params=[OnLoop, InThreads], ids=lambda service: service.__name__)
def service(request):
    return request.param


@pytest.fixture
def running(service):
    """A server of the service, and a client."""
    with StreamServer(service) as server, SyncStreamClient(server.target) as client:
        yield server, client


@pytest.mark.parametrize("output", [0, 1, 77, COUNT - 1, COUNT])
def test_a_server_dies_at_an_output(running, output):
    server, client = running
    fault = Fault(FaultKind.KILL, at=1, output=output)
    server.add_faults(fault)
    generation = client.generate(b"g")
    assert list(generation) == whole("g")
    assert server.fired == [fault]
    assert server.lives == 2
    for seam in generation.seams:
        assert seam.kind is SeamKind.EXACT
        assert 0 < seam.index <= output
        assert (seam.before, seam.after) == ("in-process-1", "in-process-2")


def test_each_of_two_faults_at_one_output_strikes(running):
    server, client = running
    faults = [
        Fault(FaultKind.SLOW, at=1, output=3, seconds=0.0),
        Fault(FaultKind.RAISE, at=1, output=3),
    ]
    server.add_faults(*faults)
    with pytest.raises(ItemError, match="by plan"):
        list(client.generate(b"g"))
    assert server.fired == faults


def test_it_dies_again_and_again(running):
    server, client = running
    server.add_faults(*(Fault(FaultKind.KILL, at=1, output=output) for output in (40, 90, 150)))
    assert list(client.generate(b"g")) == whole("g")
    assert [fault.output for fault in server.fired] == [40, 90, 150]
    assert server.lives == 4


@pytest.mark.parametrize("kind", [FaultKind.CLOSE, FaultKind.SKIP, FaultKind.GARBAGE])
@pytest.mark.parametrize("output", [0, 77, COUNT - 1])
def test_what_is_sent_of_an_output_is_spoiled(running, kind, output):
    server, client = running
    server.add_faults(Fault(kind, at=1, output=output))
    generation = client.generate(b"g")
    assert list(generation) == whole("g")
    assert [fault.kind for fault in server.fired] == [kind]
    assert server.lives == 1


@pytest.mark.parametrize("output", [0, 77, COUNT - 1])
def test_outputs_that_come_twice_are_given_once(running, output):
    server, client = running
    server.add_faults(Fault(FaultKind.DUPLICATE, at=1, output=output))
    generation = client.generate(b"g")
    assert list(generation) == whole("g")
    assert generation.seams == ()
    assert len(server.fired) == 1


@pytest.mark.parametrize("output", [0, 5, COUNT])
def test_a_handler_raises_at_an_output_behind_those_before_it(running, output):
    server, client = running
    server.add_faults(Fault(FaultKind.RAISE, at=1, output=output))
    generation = client.generate(b"g")
    with pytest.raises(ItemError, match="InjectedError: by plan") as caught:
        list(generation)
    assert generation.delivered == output
    assert list(client.generate(b"other")) == whole("other")
    assert (caught.value.kind, caught.value.index) == (ItemErrorKind.HANDLER, output)


def test_a_slow_output_is_late_and_nothing_else(running):
    server, client = running
    server.add_faults(Fault(FaultKind.SLOW, at=1, output=5, seconds=0.05))
    assert list(client.generate(b"g")) == whole("g")
    assert len(server.fired) == 1


def test_one_that_hangs_is_told_by_the_watchdog(running):
    server, client = running
    server.add_faults(Fault(FaultKind.HANG, at=1, output=5))
    impatient = client.with_options(watchdog=Watchdog(item_timeout=0.2))
    with pytest.raises(ItemError) as caught:
        list(impatient.generate(b"g"))
    assert (caught.value.kind, caught.value.index) == (ItemErrorKind.TIMEOUT, 5)
    assert list(impatient.generate(b"h")) == whole("h")


def test_it_strikes_the_input_that_it_names(running):
    server, client = running
    server.add_faults(Fault(FaultKind.RAISE, at=2, output=3))
    results = list(client.stream([b"a", b"b", b"c"], return_exceptions=True))
    problem = results.pop(COUNT + 3)
    assert (problem.number, problem.index) == (2, 3)
    assert results == [*whole("a"), *whole("b", 3), *whole("c")]


def test_one_without_an_output_strikes_at_the_input(running):
    server, client = running
    server.add_faults(Fault(FaultKind.RAISE, at=1))
    with pytest.raises(ItemError) as caught:
        list(client.generate(b"g"))
    assert caught.value.index == 0
    assert list(client.generate(b"g")) == whole("g")


def test_what_is_made_again_is_counted_from_the_beginning():
    class Again(StreamService[bytes, bytes]):
        replay = Replay.RESTART

        async def generate(self, item, resume):
            for index in range(COUNT):
                yield b"%s %d" % (item, index)

    with StreamServer(Again) as server, SyncStreamClient(server.target) as client:
        server.add_faults(
            Fault(FaultKind.KILL, at=1, output=50), Fault(FaultKind.RAISE, at=1, output=60)
        )
        seen = []
        with pytest.raises(ItemError, match="by plan") as caught:
            for output in client.generate(b"g"):
                seen.append(output)
        assert (caught.value.index, seen) == (60, whole("g", 60))


@pytest.mark.stream_faults(Fault(FaultKind.KILL, at=1, output=10))
class TestMarked:
    @pytest.fixture
    def stream_service(self):
        return OnLoop()

    def test_the_plugin_takes_them(self, sync_stream_client, stream_server):
        assert list(sync_stream_client.generate(b"g")) == whole("g")
        assert str(stream_server.fired[0]) == "kill at 1, output 10"


async def test_a_fault_at_an_output_is_another_than_one_at_its_input(tmp_path):
    faults = [
        Fault(FaultKind.KILL, at=1),
        Fault(FaultKind.KILL, at=1, output=0),
        Fault(FaultKind.KILL, at=1, output=1),
    ]
    plan = FilePlan(tmp_path, faults)
    assert await plan.claim(faults[1])
    assert await plan.pending() == [faults[0], faults[2]]
    assert [Fault.from_json(fault.to_json()) for fault in faults] == faults
