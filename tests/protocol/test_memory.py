"""What a client's session keeps: everything in it counts until it is let go.

Counted by walking the session's objects, whatever it calls them, rather than by its own books.
"""

import gc
from random import Random
from types import FunctionType, MethodType, ModuleType

import pytest

from servestream_client.config import FlowControl
from servestream_client.errors import ItemErrorKind
from servestream_client.protocol.client import UNKNOWN_BYTES, ClientSession
from servestream_client.protocol.frames import ClientFrame, CodecId, ItemFailure, Limits
from servestream_client.protocol.server import ServerOffer, ServerSession
from servestream_client.protocol.states import ClientState

CODEC = CodecId("bytes")
WINDOW = 1000
BUDGET = 700
LARGEST = 400
UNIT = 8  # bytes of the smallest payload that is counted


class Thing:
    """What a caller hands in; it weighs something."""

    def __init__(self, weight: int) -> None:
        self.weight = weight


def reachable(root: object) -> list[object]:
    """Everything that an object keeps alive, classes and code left out."""
    found: dict[int, object] = {}
    waiting = [root]
    while waiting:
        each = waiting.pop()
        if id(each) in found or isinstance(each, type | ModuleType | FunctionType | MethodType):
            continue
        found[id(each)] = each
        waiting += gc.get_referents(each)
    return list(found.values())


def kept(session: ClientSession) -> tuple[int, int]:
    """The bytes of all payloads in a session, and the weight of all things."""
    everything = reachable(session)
    payloads = sum(len(each) for each in everything if isinstance(each, bytes))
    return (
        payloads - len(session.stream_id),
        sum(each.weight for each in everything if isinstance(each, Thing)),
    )


class Life:
    """A client's session under random operations, and a server for each of its attempts."""

    def __init__(self, random: Random, *, ordered: bool) -> None:
        self.random = random
        self.client = ClientSession(
            stream_id=bytes(16),
            codec=CODEC,
            flow=FlowControl(
                window_items=30,
                window_bytes=WINDOW,
                output_items=20,
                output_bytes=BUDGET,
                max_item_bytes=LARGEST,
            ),
            ordered=ordered,
        )
        self.ordered = ordered
        self.server: ServerSession | None = None
        self.attempt = 0
        self.aside: list[int] = []
        self.runs: list[tuple[int, int]] = []  # with the handler

    def size(self) -> int:
        return self.random.choice([UNIT, 50, 50, 100, 100, LARGEST])

    # ------------------------------------------------------------------ what may happen

    def push(self) -> None:
        size = self.size()
        if self.client.ledger.fits(size):
            self.client.push(b"i" * size, Thing(size))

    def push_run(self) -> None:
        places, room = self.client.ledger.room
        count = min(places, room // 50, 5)
        if count > 0:
            payloads = [b"%050d" % n for n in range(count)]
            self.client.push_all(payloads, [Thing(50) for _ in payloads], 50 * count)

    def push_failure(self) -> None:
        size = self.size() * self.random.choice([1, 10])
        if self.client.ledger.fits(size):
            kind = ItemErrorKind.INPUT_TOO_LARGE
            self.client.push_failure(kind, "no", Thing(size), size=size)

    def cancel(self) -> None:
        if self.client.ledger.accepted:
            self.client.cancel(self.random.randint(1, self.client.ledger.accepted))

    def begin(self) -> None:
        if self.server is None and self.client.state is ClientState.IDLE:
            self.server = ServerSession(ServerOffer(codec=CODEC, limits=Limits(item_bytes=100)))
            self.attempt = self.client.begin().number
            self.runs.clear()

    def lose(self) -> None:
        if self.server is None:
            return
        suspects = self.client.suspects
        self.client.lost(self.attempt)
        self.server = None
        if self.client.may_quarantine:
            some = [number for number in suspects if self.random.random() < 0.3]
            self.aside += self.client.quarantine(some)

    def settle(self) -> None:
        number = next(
            (each for each in self.aside if self.client.delivery.can_buffer_isolated(each, 0)), None
        )
        if number is None:
            return
        self.aside.remove(number)
        if self.random.random() < 0.5:
            self.client.resolve_quarantined(number, b"o" * self.size(), None)
        else:
            failure = ItemFailure(number, ItemErrorKind.POISON)
            self.client.resolve_quarantined(number, None, failure)

    def client_speaks(self) -> None:
        if self.server is not None and (frame := self.client.next_frame()) is not None:
            self.hear(self.server, frame)

    def hear(self, server: ServerSession, frame: ClientFrame) -> None:
        server.receive(frame)
        if frame.open is not None:
            server.welcome()

    def server_speaks(self) -> None:
        if self.server is not None and (frame := self.server.next_frame()) is not None:
            self.client.receive(self.attempt, frame)

    def handler_starts(self) -> None:
        if self.server is not None and (run := self.server.intake.next_run(3)) is not None:
            self.runs += [(run.first + k, len(p)) for k, p in enumerate(run.payloads)]

    def handler_answers(self) -> None:
        if self.server is None or not self.runs:
            return
        number, size = self.runs.pop(self.random.randrange(len(self.runs)))
        outcome = self.random.random()
        if outcome < 0.4:
            self.server.outbox.fail(number, ItemErrorKind.HANDLER, "no")
        elif outcome < 0.6 and not self.aside:
            self.server.outbox.output(number, b"p" * size, last=False)
            self.server.outbox.output(number, b"q" * self.size(), last=True)
        else:
            self.server.outbox.output(number, b"o" * self.size(), last=True)

    def take(self) -> None:
        self.client.delivery.take()

    def take_run(self) -> None:
        run = self.client.delivery.take_run(self.random.randint(1, 4))
        if run is not None:
            self.client.delivery.ack_consumed(run)

    def step(self) -> None:
        often = [self.push, self.push_run, self.push_failure, self.client_speaks]
        often += [self.server_speaks, self.handler_starts, self.handler_answers] * 2
        seldom = [self.cancel, self.settle, self.take, self.take_run, self.begin]
        self.random.choice(often * 4 + seldom * 3 + [self.lose])()


@pytest.mark.parametrize("ordered", [True, False], ids=["ordered", "unordered"])
@pytest.mark.parametrize("seed", range(12))
def test_what_is_kept_never_exceeds_the_window_the_budget_and_single_items(seed, ordered):
    life = Life(Random(seed), ordered=ordered)
    heaviest = LARGEST * 10
    for _ in range(600):
        life.step()
        payloads, things = kept(life.client)
        # Beyond the window, an input that is alone in it; beyond the budget, the output that
        # exceeds it; and the first input that was ever answered, kept to try servers with.
        assert payloads <= WINDOW + BUDGET + 2 * LARGEST, f"seed {seed}"
        assert things <= WINDOW + heaviest, f"seed {seed}"
    # Nothing waits for ever: once everything is answered and taken, there is room for anything.
    life.client.ledger.finish()
    for _ in range(4000):
        if life.client.ledger.complete and not life.client.delivery.ready:
            break
        for act in (life.begin, life.client_speaks, life.handler_starts, life.handler_answers):
            act()
        for act in (life.server_speaks, life.settle, life.take_run, life.take):
            act()
    assert life.client.ledger.complete, f"seed {seed}"
    assert life.client.ledger.fits(WINDOW)
    assert kept(life.client)[1] == 0
    assert kept(life.client)[0] <= LARGEST  # the one that was answered first


def client_of(**flow: int) -> ClientSession:
    defaults = {"window_bytes": WINDOW, "max_item_bytes": LARGEST}
    return ClientSession(
        stream_id=bytes(16), codec=CODEC, flow=FlowControl(**defaults | flow), ordered=False
    )


def connected(client: ClientSession) -> ServerSession:
    server = ServerSession(ServerOffer(codec=CODEC))
    attempt = client.begin().number
    server.receive(client.next_frame())
    server.welcome()
    client.receive(attempt, server.next_frame())
    return server


def test_failed_inputs_fill_the_window_until_the_consumer_takes_them():
    client = client_of()
    server = connected(client)
    pushed = 0
    for _ in range(50):
        while client.ledger.fits(100):
            client.push(bytes(100), Thing(100))
            pushed += 1
        while (frame := client.next_frame()) is not None:
            server.receive(frame)
        while (run := server.intake.next_run(1)) is not None:
            server.outbox.fail(run.first, ItemErrorKind.HANDLER, "no")
        while (frame := server.next_frame()) is not None:
            client.receive(1, frame)
    assert pushed == 10
    assert kept(client)[1] == 1000
    assert client.ledger.room[1] == 0
    assert not client.ledger.has_place
    assert client.delivery.take().size == 100
    assert client.ledger.fits(100)
    assert not client.ledger.fits(101)


def test_what_never_had_a_size_counts_for_a_fixed_one():
    client = client_of(window_bytes=3 * UNKNOWN_BYTES, max_item_bytes=LARGEST)
    for _ in range(3):
        assert client.ledger.fits(UNKNOWN_BYTES)
        client.push_failure(ItemErrorKind.INPUT_ENCODE, "no", object())
    assert not client.ledger.has_place
    assert not client.ledger.fits(1)
    client.delivery.take()
    assert client.ledger.fits(UNKNOWN_BYTES)


def test_one_input_is_always_allowed_when_nothing_is_kept():
    client = client_of()
    assert client.ledger.fits(10**9)
    client.push_failure(ItemErrorKind.INPUT_TOO_LARGE, "no", Thing(10**9), size=10**9)
    assert not client.ledger.fits(1)
    client.delivery.take()
    assert client.ledger.fits(10**9)


@pytest.mark.parametrize("sent", [False, True])
@pytest.mark.parametrize("ordered", [True, False], ids=["ordered", "unordered"])
def test_a_cancelled_input_leaves_at_once_and_the_servers_window_does_not(sent, ordered):
    client = ClientSession(
        stream_id=bytes(16), codec=CODEC, flow=FlowControl(window_bytes=WINDOW), ordered=ordered
    )
    server = connected(client)
    client.push(b"first")
    server.receive(client.next_frame())
    for _ in range(3):
        client.push(b"x" * 300, Thing(300))
    if sent:
        server.receive(client.next_frame())
    for number in (2, 3, 4):
        client.cancel(number)
    assert kept(client) == (len(b"first"), 0)
    assert client.ledger.fits(WINDOW - len(b"first"))
    # What the server holds still counts there: it has not said yet that it dropped it.
    client.push(b"y" * 500)
    client.push(b"z" * 400)
    frame = client.next_frame()
    assert bool(frame.inputs) is not sent
    server.receive(frame)
    while (frame := server.next_frame()) is not None:
        client.receive(1, frame)
    server.outbox.outputs(1, [b"one"])
    while (frame := server.next_frame()) is not None:
        client.receive(1, frame)
    while (frame := client.next_frame()) is not None:
        server.receive(frame)
    assert list(server.outbox.open) == [5, 6]


def test_outputs_are_kept_until_they_are_taken_and_no_longer():
    client = client_of()
    server = connected(client)
    outputs = [b"%060d" % number for number in range(6)]  # one run, as they are small
    client.push_all([b"."] * 6, [None] * 6, 6)
    server.receive(client.next_frame())
    server.intake.next_run(6)
    server.outbox.outputs(1, outputs)
    del outputs
    client.receive(1, server.next_frame())
    for left in range(5, -1, -1):
        client.delivery.ack_consumed(client.delivery.take_run(1))
        assert kept(client)[0] == 60 * left + len(b".")  # the first input is the control
