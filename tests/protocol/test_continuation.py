"""How inputs with many outputs go on: the digest, with its test vectors, and the terms."""

import ast
import re
from pathlib import Path
from random import Random

import pytest

from servestream_client.protocol.continuation import (
    DIGEST_BYTES,
    FEATURE,
    NO_OUTPUTS,
    ResumeTerms,
    digest,
    holds,
    terms_of,
)
from servestream_client.protocol.frames import HandlerKind, Replay, Resume, Welcome

PROTOCOL = (Path(__file__).resolve().parents[2] / "docs" / "protocol.md").read_text()

MANY = {"handler_kind": HandlerKind.ONE_TO_MANY, "features": ("coming", FEATURE)}


def vectors() -> list[tuple[bytes | None, bytes]]:
    """Of the page: payloads, and the digest up to each of them."""
    (block,) = re.findall(r"<!-- digests -->\n+```text\n(.*?)\n```", PROTOCOL, re.DOTALL)
    found = []
    for line in block.splitlines():
        said, _, value = line.rpartition(": ")
        payload = None if said == "none" else ast.literal_eval(said).encode()
        found.append((payload, bytes.fromhex(value)))
    return found


def test_the_test_vectors_of_the_page():
    (first, of_none), *rest = vectors()
    assert (first, of_none) == (None, NO_OUTPUTS)
    assert len(rest) >= 4
    value, payloads = NO_OUTPUTS, []
    for payload, expected in rest:
        value = digest(value, [payload])
        payloads.append(payload)
        assert value == expected
        assert digest(NO_OUTPUTS, payloads) == expected


def test_the_examples_of_the_page_have_the_digests_of_their_outputs():
    story = [b"Once", b" upon", b" a", b" time"]
    said = re.findall(r"first_resume \{digest ([0-9a-f]+)", PROTOCOL)
    two, four = digest(NO_OUTPUTS, story[:2]).hex(), digest(NO_OUTPUTS, story).hex()
    assert said == [two, two, four, two]


@pytest.mark.parametrize("seed", range(20))
def test_a_digest_is_one_of_all_outputs_however_they_came(seed):
    random = Random(seed)
    payloads = [random.randbytes(random.randint(0, 5)) for _ in range(30)]
    whole, value = digest(NO_OUTPUTS, payloads), NO_OUTPUTS
    while payloads:
        count = random.randint(0, 4)
        value = digest(value, payloads[:count])
        del payloads[:count]
    assert value == whole
    assert len(value) == DIGEST_BYTES


@pytest.mark.parametrize(
    "others",
    [[b"abc"], [b"c", b"ab"], [b"ab", b""], [b"ab"], [b"", b"ab"], [b"a", b"bc"]],
)
def test_other_outputs_have_another_digest(others):
    assert digest(NO_OUTPUTS, others) != digest(NO_OUTPUTS, [b"ab", b"c"])


@pytest.mark.parametrize("replay", list(Replay))
def test_who_says_nothing_or_never_cannot_go_on(replay):
    resumable = replay not in (Replay.UNSPECIFIED, Replay.NEVER)
    assert ResumeTerms(replay, "f").resumable is resumable


@pytest.mark.parametrize("replay", list(Replay))
def test_the_terms_are_the_welcomes(replay):
    welcome = Welcome(**MANY, replay=replay, fingerprint="f", code_version="c", restartable=True)
    assert holds(welcome)
    assert terms_of(welcome) == ResumeTerms(replay, "f")


@pytest.mark.parametrize(
    "welcome",
    [
        {"handler_kind": HandlerKind.ONE_TO_MANY, "features": ("coming",)},
        {"handler_kind": HandlerKind.ONE_TO_ONE, "features": (FEATURE,)},
        {"handler_kind": HandlerKind.BATCH, "features": (FEATURE,)},
    ],
    ids=["no feature", "single outputs", "batches"],
)
@pytest.mark.parametrize("restartable", [True, False])
def test_without_the_feature_and_its_kind_the_older_word_holds(welcome, restartable):
    welcomed = Welcome(
        **welcome,
        replay=Replay.CONTINUE,
        fingerprint="f",
        code_version="c",
        restartable=restartable,
    )
    assert not holds(welcomed)
    assert terms_of(welcomed) == ResumeTerms(Replay.SEEK if restartable else Replay.NEVER, "c")


def test_what_a_resume_weighs_is_what_the_page_says():
    assert Resume(bytes(8)).size == 32
    assert Resume(bytes(8), b"12345", 3, [b"a", b"bc", b""]).size == 32 + 5 + 3 + 3 * 8
