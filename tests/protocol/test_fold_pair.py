"""Both roles of a stateful stream against each other, over a link that is cut anywhere.

What comes out must be what one undisturbed fold over the inputs gives, and so must the last state.
"""

import hashlib
from collections import deque
from random import Random

import pytest

from servestream_client.config import FlowControl
from servestream_client.cursor import Cursor
from servestream_client.errors import ItemErrorKind
from servestream_client.protocol.client import ClientSession
from servestream_client.protocol.frames import CodecId, HandlerKind, Limits, StreamErrorKind
from servestream_client.protocol.server import ServerOffer, ServerSession
from servestream_client.protocol.state import KEPT_WINDOWS
from servestream_client.protocol.states import ClientState, ServerState

CODEC = CodecId("bytes")
STEPS = 400
ROUNDS = 400


def shape_of(payload: bytes) -> tuple[str, int]:
    kind, count, _ = payload.split(b" ", 2)
    return kind.decode(), int(count)


def fold(state: bytes, payload: bytes) -> tuple[bytes, list[bytes] | None]:
    """The state behind an input, and its outputs; None: it fails."""
    kind, count = shape_of(payload)
    if kind == "error":
        return state, None
    state = hashlib.sha256(state + payload).digest()[:6]
    return state, [state + bytes([index]) for index in range(count)]


class World:
    """A client, and whichever server it has."""

    def __init__(self, rng: Random, *, drifts: bool = False, dies: bool = False) -> None:
        self.dies = dies
        self.lives = 1
        self.rng = rng
        self.drifts = drifts
        window = 50 if drifts else rng.choice([1, 2, 3, 8, 50])
        self.flow = FlowControl(
            window_items=window,
            window_bytes=4000 if drifts else rng.choice([30, 200, 4000]),
            output_items=rng.choice([1, 2, 5, 50]),
            max_unacknowledged_frames=rng.choice([2, 4]),
        )
        self.client = ClientSession(stream_id=bytes(16), codec=CODEC, flow=self.flow, tracked=dies)
        self.again: list[tuple[int, bytes]] = []  # passed over, and to be computed again
        self.inputs: list[bytes] = []
        self.want = rng.randint(1, 60)
        self.taken: list[tuple[int, bytes | None]] = []
        self.server: ServerSession | None = None
        self.up: deque = deque()
        self.down: deque = deque()
        self.attempt = 0
        self.greatest = self.most_kept = 0  # inputs in the windows of a server
        self.last_state = None

    # ------------------------------------------------------------ steps

    def push(self) -> None:
        rng, pushed = self.rng, self.client.ledger.accepted
        for number, payload in self.again:
            self.client.restore(number, payload)
        self.again = []
        if pushed < len(self.inputs):
            payload = self.inputs[pushed]
            if self.client.ledger.has_place and self.client.ledger.fits(len(payload)):
                self.client.push(payload)
            return
        if len(self.inputs) >= self.want:
            self.client.ledger.finish()
            return
        kind = rng.choice(["one"] * 6 + ["many", "error"])
        count = 1 if kind == "one" else rng.choice([0, 2, 3])
        payload = b"%s %d %s" % (kind.encode(), count, bytes(rng.choice([1, 10])).hex().encode())
        if self.client.ledger.has_place and self.client.ledger.fits(len(payload)):
            self.inputs.append(payload)
            self.client.push(payload)

    def begin(self) -> None:
        if self.server is not None or self.client.ledger.complete:
            return
        self.attempt = self.client.begin().number
        limits = Limits(
            window_items=self.rng.choice([1, 2, 5, 50]), window_bytes=self.rng.choice([40, 4000])
        )
        self.server = ServerSession(
            ServerOffer(codec=CODEC, handler_kind=HandlerKind.STATEFUL, limits=limits)
        )
        self.cadence = 1000 if self.drifts else self.rng.choice([1, 3, 10, 1000])
        self.made: tuple[int, bytes] = (0, b"")

    def client_speaks(self) -> None:
        if self.server is None:
            return
        frame = self.client.next_frame()
        if frame is not None:
            self.up.append(frame)

    def server_hears(self) -> None:
        server = self.server
        if server is None or not self.up or server.over:
            return
        server.receive(self.up.popleft())
        if server.state is ServerState.DECIDING:
            token = server.opened.token
            state = b"" if token is None else token.token
            server.fold.open_with(server.opened, state)
            server.welcome()
        self.greatest = max(self.greatest, server.fold.window_items)
        self.most_kept = max(self.most_kept, server.fold.kept_items)

    def work(self) -> None:
        server = self.server
        if server is None or server.opened is None or server.over:
            return
        outbox = server.fold
        run = server.intake.next_run(self.rng.randint(1, 3))
        if run is not None:
            state = outbox.state
            for number, payload in enumerate(run.payloads, run.first):
                state, outputs = fold(state, payload)
                if outputs is None:
                    outbox.fail(number, ItemErrorKind.HANDLER, "no")
                    continue
                if self.drifts and self.attempt > 1:
                    outputs = [output + b"!" for output in outputs]
                outbox.prepare(number, state, outputs)
                outbox.outputs(number, (b"",))
        if outbox.failure is not None:
            server.intake.close()
        elif outbox.owes(last=server.last_input) or outbox.fresh.outputs >= self.cadence:
            self.made = outbox.computed, outbox.state
            outbox.offer(outbox.state)

    def server_speaks(self) -> None:
        if self.server is not None and (frame := self.server.next_frame()) is not None:
            self.down.append(frame)

    def client_hears(self) -> None:
        if not self.down:
            return
        self.client.receive(self.attempt, self.down.popleft())
        self.look()

    def look(self) -> None:
        if self.server is not None and self.client.over:
            assert self.client.state in (ClientState.ENDED, ClientState.LEFT), (
                self.client.failure or self.client.refusal
            )
            self.cut()

    def take(self) -> None:
        ready = self.client.delivery.ready
        if not ready:
            return
        delivery = self.client.delivery
        if self.rng.random() < 0.3 and (run := delivery.take_run(2)) is not None:
            self.taken.extend(enumerate(run.payloads, run.first_number))
            delivery.ack_consumed(run)
        elif (found := delivery.take()) is not None:
            if found.failure is not None:
                self.taken.append((found.number, None))
            elif found.payload is not None:
                self.taken.append((found.number, found.payload))

    def cut(self) -> None:
        if self.server is not None:
            if self.client.ledger.fold is not None and self.client.ledger.fold.token is not None:
                self.last_state = self.client.ledger.fold.token
            self.client.lost(self.attempt)
            self.server = None
            self.up.clear()
            self.down.clear()

    def die(self) -> None:
        """The client's process dies, and another one begins at the cursor that was kept."""
        client, ledger = self.client, self.client.ledger
        position = ledger.taken_through
        client.carried.advance(self.rng.randint(0, position))
        state = client.state_at(position)
        if (state is None) is not (position == 0):
            pytest.fail(f"at {position}: {state}")
        if state is None:
            return
        cursor = Cursor.from_bytes(bytes(Cursor(position, state=state)))
        state = cursor.state
        self.cut()
        self.lives += 1
        self.taken = [each for each in self.taken if each[0] <= position]
        failed = {n for first, last in state.failed for n in range(first, last + 1)}
        self.again = [
            (number, payload)
            for number, payload in enumerate(self.inputs[:position], 1)
            if number > state.number and number not in failed
        ]
        self.client = ClientSession(
            stream_id=state.stream_id,
            codec=CODEC,
            flow=self.flow,
            tracked=True,
            position=position,
            begun=state,
        )
        assert self.attempt <= self.client.carried.attempts_before

    def drain(self) -> None:
        server = self.server
        if server is not None and server.state in (ServerState.SERVING, ServerState.DRAINING):
            server.drain(1000)

    def step(self, *, calm: bool = False) -> None:
        names = ["begin", "client_speaks", "server_hears", "work", "server_speaks", "client_hears"]
        names = names * 3 + ["push"] * 6 + ["take"] * 4
        if not calm:
            names += ["cut"] if self.rng.random() < 0.4 else ["drain", "move"]
        name = self.rng.choice(names)
        if self.dies and not calm and self.rng.random() < 0.02:
            self.die()
        elif name == "move":
            self.client.move()
            self.look()
        else:
            getattr(self, name)()

    # ------------------------------------------------------------ what must be

    def expected(self) -> tuple[bytes, list[tuple[int, bytes | None]]]:
        state, found = b"", []
        for number, payload in enumerate(self.inputs, 1):
            state, outputs = fold(state, payload)
            found += [(number, output) for output in ([None] if outputs is None else outputs)]
        return state, found

    def settle(self) -> None:
        for _ in range(ROUNDS * 20):
            done = self.client.ledger.complete and not self.client.delivery.ready
            if done and self.server is None:
                return
            self.step(calm=True)
        pytest.fail(f"a standstill in state {self.client.state.name}: {self.taken[-3:]}")


def walked(world: World) -> World:
    """The same, at its end; each step and the end as they must be."""
    for _ in range(STEPS):
        world.step()
        _, outputs = world.expected()
        assert world.taken == outputs[: len(world.taken)]
        retained = world.client.ledger.fold
        if retained is not None:
            unanswered, window = world.client.ledger.unanswered, world.flow.window_items
            assert unanswered <= window
            assert len(retained) + unanswered <= window * KEPT_WINDOWS
    world.settle()
    _, outputs = world.expected()
    assert world.taken == outputs
    assert world.greatest <= world.flow.window_items
    assert world.most_kept <= world.flow.window_items * KEPT_WINDOWS
    return world


@pytest.mark.parametrize("seed", range(60))
def test_cut_anywhere_it_is_one_undisturbed_fold(seed):
    world = walked(World(Random(seed)))
    state, _ = world.expected()
    last = world.last_state
    if (
        world.client.state is ClientState.IDLE
        and last is not None
        and last.number == len(world.inputs)
    ):
        assert last.token == state


@pytest.mark.parametrize("seed", range(60))
def test_over_many_lives_of_the_client_it_is_one_undisturbed_fold(seed):
    walked(World(Random(seed), dies=True))


def test_it_did_die_in_between():
    lives = 0
    for seed in range(60):
        world = World(Random(seed), dies=True)
        for _ in range(STEPS):
            world.step()
        lives += world.lives
    assert lives > 200


def test_a_handler_that_makes_something_else_ends_the_stream():
    ends = set()
    for seed in range(60):
        world = World(Random(seed), drifts=True)
        try:
            for _ in range(STEPS):
                world.step()
        except AssertionError:
            ends.add(world.client.failure.kind)
        _, outputs = world.expected()
        taken = [(number, one and one.removesuffix(b"!")) for number, one in world.taken]
        assert taken == outputs[: len(taken)]
    assert ends == {StreamErrorKind.STATE}
