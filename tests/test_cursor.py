import hashlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from servestream_client import ConfigurationError, Cursor, CursorMismatchError
from servestream_client.cursor import BLOCK, NO_INPUTS, CursorState, InputDigest, Job, marked, marks

digests = st.binary(min_size=16, max_size=16)


@st.composite
def cursors(draw):
    position = draw(st.integers(0, 2**40))
    edges = sorted(draw(st.sets(st.integers(2, 10_000), max_size=6)))
    beyond = tuple(
        (position + edges[at], position + edges[at + 1]) for at in range(0, len(edges) - 1, 2)
    )
    names = st.text(max_size=5)
    job = Job.of(draw(names), draw(names), draw(names), draw(st.dictionaries(names, names)))
    beyond_digest = draw(digests) if beyond else NO_INPUTS
    state = CursorState(
        draw(digests),
        draw(st.integers(1, 2**32)),
        draw(st.integers(0, 2**40)),
        draw(st.binary(max_size=20)),
        draw(st.sampled_from([(), ((3, 4), (9, 9))])),
        draw(st.binary(max_size=20)),
    )
    state = draw(st.sampled_from([None, state]))
    return Cursor(position, beyond, draw(digests), beyond_digest, job, draw(digests), state)


@given(cursors())
def test_a_cursor_is_found_again_in_its_bytes(cursor):
    assert Cursor.from_bytes(bytes(cursor)) == cursor
    assert Cursor.from_bytes(bytearray(bytes(cursor))) == cursor


def test_the_beginning_has_bytes_too():
    assert Cursor.from_bytes(bytes(Cursor())) == Cursor()
    assert Cursor().through == 0


def test_a_cursor_is_short_and_a_line():
    data = bytes(
        Cursor(
            10**6, (), bytes(16), NO_INPUTS, Job.of("app", "json", "x" * 16, {"a": "b"}), bytes(16)
        )
    )
    assert len(data) < 300
    assert b"\n" not in data


@given(cursors(), st.data())
def test_damage_is_seen(cursor, data):
    whole = bytearray(bytes(cursor))
    at = data.draw(st.integers(0, len(whole) - 1))
    whole[at] ^= data.draw(st.integers(1, 127))
    with pytest.raises(ConfigurationError):
        assert Cursor.from_bytes(whole) == cursor, "it means the same"
        raise ConfigurationError
    with pytest.raises(ConfigurationError, match="no cursor"):
        Cursor.from_bytes(bytes(cursor)[:-1])


@pytest.mark.parametrize("data", [b"", b"1", b"[]", b"{}", b"\xff", b'"servestream_cursor"'])
def test_what_is_no_cursor_is_told(data):
    with pytest.raises(ConfigurationError, match="no cursor"):
        Cursor.from_bytes(data)


def test_one_of_a_newer_package_is_told():
    value = json.loads(bytes(Cursor(3)))
    with pytest.raises(ConfigurationError, match="version 2, and this package reads 1"):
        Cursor.from_bytes(json.dumps(value | {"servestream_cursor": 2}).encode())


@pytest.mark.parametrize(
    ("other", "text"),
    [
        (("other", "json", "f", {"a": "1"}), "the application was 'app', and is 'other'"),
        (("app", "bytes", "", {"a": "1"}), "the codec was 'json', and is 'bytes'"),
        (("app", "json", "g", {"a": "1"}), "the codec has other types"),
        (("app", "json", "f", {"a": "2"}), "the parameter 'a' has another value"),
        (("app", "json", "f", {}), "the parameter 'a' is missing"),
        (("app", "json", "f", {"a": "1", "b": ""}), "the parameter 'b' is new"),
    ],
)
def test_another_job_is_told_by_what_differs(other, text):
    job = Job.of("app", "json", "f", {"a": "1"})
    job.check(Job.of("app", "json", "f", {"a": "1"}))
    job.check(Job.of("app", "json", "", {"a": "1"}))  # nobody knows its types
    with pytest.raises(CursorMismatchError, match=text):
        job.check(Job.of(*other))


def test_values_of_parameters_do_not_stand_in_it():
    assert b"secret" not in bytes(Cursor(job=Job.of("", "", "", {"token": "secret"})))


payloads = st.one_of(st.none(), st.binary(max_size=4), st.sampled_from([b"x" * 256, b"x" * 257]))


def digest(inputs) -> bytes:
    found = InputDigest()
    found.add(list(map(marked, inputs)))
    return found.value


@given(st.lists(payloads, max_size=6), st.lists(payloads, max_size=6))
def test_no_other_inputs_have_the_digest(inputs, other):
    assert (digest(inputs) == digest(other)) == (inputs == other)
    assert digest([b"a", b"b"]) != digest([b"ab"]) != digest([b"b", b"a"])
    sent = [each for each in inputs if each is not None]
    assert marks(sent) == list(map(marked, sent))
    assert all(len(each) <= 264 for each in marks(sent))


@given(st.integers(0, 3 * BLOCK), st.integers(1, 500), st.integers(0, 3 * BLOCK))
def test_a_digest_goes_on_from_a_block(count, step, at):
    """However it got there."""
    inputs = marks([b"%d" % number for number in range(count)])
    whole, by_steps = InputDigest(), InputDigest()
    whole.add(inputs)
    for first in range(0, count, step):
        by_steps.add(inputs[first : first + step])
    before = InputDigest()
    before.add(inputs[:at])
    begun = before.count - before.count % BLOCK
    later = InputDigest(begun, before.block)
    later.add(inputs[begun:])
    copied = before.copy()
    copied.add(inputs[before.count :])
    assert before.value == digest_of(inputs[:at])
    for each in (by_steps, later, copied):
        assert (each.count, each.block, each.value) == (count, whole.block, whole.value)
    assert len({whole.value, *(digest_of(inputs[:n]) for n in range(0, count, BLOCK // 2))}) == len(
        {count, *range(0, count, BLOCK // 2)}
    )


def digest_of(inputs) -> bytes:
    found = InputDigest()
    found.add(inputs)
    return found.value


def test_the_digest_is_what_its_description_says():
    """As another implementation would make it."""
    inputs = [b"%d" % number for number in range(1_500)] + [b"y" * 300, None]

    def blake(data: bytes, key: bytes = b"") -> bytes:
        return hashlib.blake2b(data, key=key, digest_size=16).digest()

    def mark(each) -> bytes:
        if each is None:
            return b"\xff" * 8
        return len(each).to_bytes(8, "little") + (each if len(each) <= 256 else blake(each))

    block = blake(b"".join(map(mark, inputs[:1024])))
    assert digest(inputs) == blake(b"".join(map(mark, inputs[1024:])), key=block)
