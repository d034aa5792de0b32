"""Sealed states: bound to what they are of, and refused with any byte changed."""

import random

import pytest
from effort import effort
from hypothesis import given
from hypothesis import strategies as st

from servestream_client.errors import ConfigurationError
from servestream_client.server.sealing import (
    KEYS_VARIABLE,
    Opened,
    Sealer,
    UnsealError,
    new_key,
    sealer_of,
)

KEY, OTHER = new_key(), new_key()
BOUND = {"stream": b"stream", "number": 7}
NOW = 1_800_000_000.0


def sealer(*keys: str, encrypts: bool | None = None, **options) -> Sealer:
    options = {"fingerprint": "model", "version": 3, "lifetime": 100.0, **options}
    return Sealer(keys or (KEY,), encrypts=encrypts, **options)


both = pytest.mark.parametrize("encrypts", [True, False])


@both
def test_what_is_sealed_comes_out_and_can_be_read_only_if_it_is_signed_alone(encrypts):
    token = sealer(encrypts=encrypts).seal(b"the state", now=NOW, **BOUND)
    assert (b"the state" in token) is not encrypts
    assert sealer().open(token, now=NOW + 99, **BOUND) == Opened(3, b"the state")


@both
def test_any_byte_that_is_changed_is_refused(encrypts):
    token = sealer(encrypts=encrypts).seal(b"state", now=NOW, **BOUND)
    for at in range(len(token)):
        for flip in (1, 128):
            changed = token[:at] + bytes([token[at] ^ flip]) + token[at + 1 :]
            with pytest.raises(UnsealError):
                sealer().open(changed, now=NOW, **BOUND)
    for length in range(len(token)):
        with pytest.raises(UnsealError):
            sealer().open(token[:length], now=NOW, **BOUND)
    with pytest.raises(UnsealError):
        sealer().open(token + b"\0", now=NOW, **BOUND)


@both
@pytest.mark.parametrize(
    ("options", "bound", "now"),
    [
        ({}, {"stream": b"another"}, NOW),
        ({}, {"number": 8}, NOW),
        ({"fingerprint": "another"}, {}, NOW),
        ({"lifetime": 5.0}, {}, NOW + 6),
        ({}, {}, NOW - 301),
    ],
)
def test_it_is_of_one_stream_service_input_and_time(encrypts, options, bound, now):
    token = sealer(encrypts=encrypts).seal(b"state", now=NOW, **BOUND)
    with pytest.raises(UnsealError):
        sealer(**options).open(token, now=now, **{**BOUND, **bound})


def test_parts_that_it_is_bound_to_cannot_be_moved_from_one_to_another():
    token = sealer(fingerprint="ab").seal(b"state", stream=b"c", number=1, now=NOW)
    with pytest.raises(UnsealError):
        sealer(fingerprint="a").open(token, stream=b"bc", number=1, now=NOW)


def test_the_first_key_seals_and_all_open():
    token = sealer(KEY, OTHER).seal(b"state", now=NOW, **BOUND)
    assert sealer(OTHER, KEY).open(token, now=NOW, **BOUND).state == b"state"
    assert sealer(KEY).open(token, now=NOW, **BOUND).state == b"state"
    with pytest.raises(UnsealError, match="not in the ring"):
        sealer(OTHER).open(token, now=NOW, **BOUND)


def test_no_two_are_the_same():
    tokens = {sealer().seal(b"state", now=NOW, **BOUND) for _ in range(50)}
    assert len(tokens) == 50


@given(st.binary(max_size=200))
def test_whatever_comes_is_refused_in_one_way(token):
    for front in (b"", b"\x01", b"\x02"):
        with pytest.raises(UnsealError):
            sealer().open(front + token, now=NOW, **BOUND)


@given(st.data())
def test_what_is_spliced_of_two_is_refused(data):
    tokens = [
        sealer(encrypts=data.draw(st.booleans())).seal(state, now=NOW, stream=b"s", number=number)
        for number, state in enumerate((b"one", b"two"), 1)
    ]
    cut = data.draw(st.integers(1, min(map(len, tokens)) - 1))
    with pytest.raises(UnsealError):
        sealer().open(tokens[0][:cut] + tokens[1][cut:], now=NOW, stream=b"s", number=1)


WRONG = {
    "empty": "",
    "nothing behind the prefix": "ssk_",
    "no prefix": KEY[4:],
    "too short": KEY[:-1],
    "too long": KEY + "A",
    "another alphabet": KEY[:-1] + "!",
    "bits left over": "ssk_" + "A" * 42 + "B",
}


@pytest.mark.parametrize("key", WRONG.values(), ids=WRONG)
def test_what_is_no_key_is_said_at_once_and_not_repeated(key):
    with pytest.raises(ConfigurationError, match="servestream key") as caught:
        sealer(key)
    assert len(key) < 5 or key not in str(caught.value)


def test_keys_come_from_the_environment(monkeypatch):
    options = {"fingerprint": "", "version": 1, "lifetime": 1.0}
    monkeypatch.setenv(KEYS_VARIABLE, f"{OTHER},{KEY},")
    token = sealer_of(None, **options).seal(b"state", now=NOW, **BOUND)
    assert sealer_of([OTHER], **options).open(token, now=NOW, **BOUND).state == b"state"
    monkeypatch.setenv(KEYS_VARIABLE, " ,")
    with pytest.raises(ConfigurationError, match=f"set {KEYS_VARIABLE}"):
        sealer_of(None, **options)


ROUNDS = effort(3_000, 20_000_000)
"""The long ones take hours."""


def mangled(rng: random.Random, token: bytes, other: bytes) -> bytes:
    """Another token than either, made of parts of them."""
    data = bytearray(token)
    for _ in range(rng.choice((1, 1, 1, 2, 5))):
        kind, at = rng.randrange(6), rng.randrange(len(data) + 1)
        if kind == 0 and at < len(data):
            data[at] ^= 1 << rng.randrange(8)
        elif kind == 1:
            del data[at:]
        elif kind == 2:
            data[at:at] = rng.randbytes(rng.choice((1, 4, 16)))
        elif kind == 3:
            data[at:] = other[at:]
        elif kind == 4:
            data[:at] = other[:at]
        else:
            del data[at : at + rng.choice((1, 16))]
    return bytes(data)


@pytest.mark.timeout(effort(180, 6 * 3600))
def test_nothing_made_of_states_is_one():
    seed = random.SystemRandom().getrandbits(32)
    print(f"seed {seed}")
    rng = random.Random(seed)
    ring = sealer(KEY, OTHER)
    bounds = [{"stream": stream, "number": number} for stream in (b"a", b"b") for number in (1, 2)]
    sealed = {
        each.seal(state, **bound, now=NOW): index
        for each in (ring, sealer(OTHER), sealer(KEY, encrypts=False))
        for index, bound in enumerate(bounds)
        for state in (b"", b"state", bytes(300))
    }
    tokens = list(sealed)
    for _ in range(ROUNDS):
        token, other = rng.choice(tokens), rng.choice(tokens)
        made, index = mangled(rng, token, other), rng.randrange(len(bounds))
        if sealed.get(made) == index:
            continue
        with pytest.raises(UnsealError):
            ring.open(made, **bounds[index], now=NOW)
