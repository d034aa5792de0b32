"""`assert_resumable` finds what a state does not hold."""

import random
import struct

import pytest

from servestream_client import JsonCodec
from servestream_client.errors import ConfigurationError
from servestream_client.server import StatefulService, StreamService
from servestream_client.testing import assert_resumable

INPUTS = [b"%d" % number for number in range(30)]


class Sum(StatefulService[bytes, bytes, bytes]):
    """Good: everything is in the state."""

    def begin(self, parameters):
        return parameters.get("start", "0").encode()

    def step(self, state, item):
        if item == b"13":
            raise ValueError("not this one")
        state = b"%d" % (int(state) + int(item))
        return state, state


class AsyncMany(Sum):
    step = StatefulService.step

    async def step_many(self, state, item):
        state = b"%d" % (int(state) + int(item))
        return state, [state] * (int(item) % 3)


class Batch(Sum):
    step = StatefulService.step

    def step_batch(self, states, items):
        states = [b"%d" % (int(s) + int(i)) for s, i in zip(states, items, strict=True)]
        return states, states


@pytest.mark.parametrize("service", [Sum, AsyncMany, Batch, Sum()])
def test_what_holds_everything_passes(service):
    assert_resumable(service, INPUTS, parameters={"start": "5"})


async def test_it_may_be_called_in_an_event_loop():
    assert_resumable(AsyncMany, INPUTS)


class Hidden(Sum):
    """Bad: counts in itself."""

    def __init__(self):
        self.count = 0

    def step(self, state, item):
        self.count += 1
        return state, b"%d" % self.count


class Chance(Sum):
    def step(self, state, item):
        return state, b"%d" % random.randrange(1 << 30)


class Forgets(StatefulService[bytes, bytes, float]):
    """Bad: its codec keeps less than it has."""

    class Half:
        id, fingerprint = "half", ""

        def encode_input(self, item, /):
            return struct.pack("<e", item)

        def decode_input(self, payload, /):
            return struct.unpack("<e", payload)[0]

        encode_output = decode_output = encode_input

    state_codec = Half()

    def begin(self, parameters):
        return 0.0

    def step(self, state, item):
        state = state + int(item) / 3
        return state, struct.pack("<d", state)


class Changes(StatefulService[bytes, bytes, list]):
    """Bad: changes what it was given."""

    state_codec = JsonCodec(list[int], list[int])

    def begin(self, parameters):
        return []

    def step(self, state, item):
        state.append(int(item))
        return state, b"%d" % len(state)


class Uneven(Batch):
    def step_batch(self, states, items):
        states, outputs = super().step_batch(states, items)
        return states, [output + b"!" * (len(items) > 1) for output in outputs]


@pytest.mark.parametrize(
    ("service", "text"),
    [
        (Hidden, r"input 2, b'1': .*What is it that the state does not hold"),
        (Chance, r"input 1, b'0': .*What is it that the state does not hold"),
        (Forgets, r"input 3, b'2': .*What is it that the state does not hold"),
        (Changes, r"b'0': the step changed the state .*in_place = True"),
        (Uneven, r"input 1, b'0': it came out otherwise in a batch of 3"),
    ],
)
def test_what_does_not_is_found(service, text):
    with pytest.raises(AssertionError, match=text):
        assert_resumable(service, INPUTS)


def test_what_says_that_it_changes_its_state_may():
    assert_resumable(type("InPlace", (Changes,), {"in_place": True}), INPUTS)


def test_it_needs_a_stateful_service():
    class Other(StreamService):
        def predict(self, item):
            return item

    with pytest.raises(ConfigurationError, match="not Other"):
        assert_resumable(Other, INPUTS)
