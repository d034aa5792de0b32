"""The web service with the real classifier behind it, while things go wrong.

Nothing of Ray runs here: `stream_server` serves the classifier in this process, over real gRPC.
"""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import cache

import httpx
import pytest
from sklearn.datasets import load_digits

from digits_web.app import create_app
from digits_web.model import Answer, Classifier, Image
from servestream_client.testing import Cut, Fault, FaultKind, StreamServer

IMAGES: list[Image] = load_digits().data.astype(int).tolist()[:300]


@cache
def model() -> Classifier:
    return Classifier()


def offline(images: list[Image]) -> list[Answer]:
    return model().predict_batch(images)


@pytest.fixture
def stream_service() -> Classifier:
    return model()


@asynccontextmanager
async def running(target: str, *, timeout: float = 20.0) -> AsyncIterator[httpx.AsyncClient]:
    """The web service, asked without a web server between."""
    app = create_app(target, timeout=timeout)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://web") as client,
    ):
        yield client


@pytest.fixture
async def web(stream_server: StreamServer) -> AsyncIterator[httpx.AsyncClient]:
    async with running(stream_server.target) as client:
        yield client


async def classify_many(web: httpx.AsyncClient, images: list[object]) -> list[Answer]:
    body = "\n".join(map(json.dumps, images))
    response = await web.post("/classify-many", content=body)
    assert response.status_code == 200
    return [json.loads(line) for line in response.text.splitlines()]


async def test_an_image_is_classified(web: httpx.AsyncClient) -> None:
    response = await web.post("/classify", json={"image": IMAGES[0]})
    assert response.status_code == 200
    assert response.json() == offline(IMAGES[:1])[0]


async def test_many_callers_at_once(web: httpx.AsyncClient) -> None:
    responses = await asyncio.gather(
        *(web.post("/classify", json={"image": image}) for image in IMAGES)
    )
    assert [response.json()["digit"] for response in responses] == [
        answer["digit"] for answer in offline(IMAGES)
    ]


@pytest.mark.stream_faults(Fault(FaultKind.KILL, at=150))
async def test_a_replica_dies_in_the_middle_of_a_request(
    web: httpx.AsyncClient, stream_server: StreamServer
) -> None:
    answers = await classify_many(web, [*IMAGES])
    assert [answer["digit"] for answer in answers] == [a["digit"] for a in offline(IMAGES)]
    assert stream_server.lives == 2


@pytest.mark.stream_faults(Fault(FaultKind.KILL, at=1))
async def test_a_replica_dies_under_many_callers(web: httpx.AsyncClient) -> None:
    responses = await asyncio.gather(
        *(web.post("/classify", json={"image": image}) for image in IMAGES[:50])
    )
    assert {response.status_code for response in responses} == {200}


@pytest.mark.stream_faults(Cut(after_bytes=20_000))
async def test_the_connection_breaks_in_the_middle_of_a_request(web: httpx.AsyncClient) -> None:
    assert len(await classify_many(web, [*IMAGES])) == len(IMAGES)


async def test_a_bad_image_spoils_no_other(web: httpx.AsyncClient) -> None:
    first, bad, third = await classify_many(web, [IMAGES[0], [1, 2, 3], IMAGES[2]])
    assert [first["digit"], third["digit"]] == [
        offline(IMAGES)[0]["digit"],
        offline(IMAGES)[2]["digit"],
    ]
    assert bad == {"error": "ValueError: an image has 64 values from 0 to 16"}


async def test_blank_lines_are_passed_over(web: httpx.AsyncClient) -> None:
    body = json.dumps(IMAGES[0]) + "\n\n" + json.dumps(IMAGES[1]) + "\n\n"
    response = await web.post("/classify-many", content=body)
    assert [json.loads(each)["digit"] for each in response.text.splitlines()] == [
        answer["digit"] for answer in offline(IMAGES[:2])
    ]


@pytest.mark.parametrize("path", ["/classify-many", "/classify-events"])
async def test_a_line_that_is_no_json_is_told_at_the_end(web: httpx.AsyncClient, path: str) -> None:
    response = await web.post(path, content=json.dumps(IMAGES[0]) + "\n{no json\n")
    assert response.status_code == 200
    *_, last = [line for line in response.text.splitlines() if line]
    told = json.loads(last[last.index("{") :])
    assert told["complete"] is False
    assert told["error"].startswith("no JSON")


async def test_a_bad_image_alone_is_the_callers_mistake(web: httpx.AsyncClient) -> None:
    response = await web.post("/classify", json={"image": [1, 2, 3]})
    assert response.status_code == 422
    assert "64 values" in response.json()["error"]


@pytest.mark.stream_faults(*(Fault(FaultKind.REFUSE, at=n, seconds=0.01) for n in (1, 2, 3)))
async def test_an_overload_that_passes_is_waited_for(web: httpx.AsyncClient) -> None:
    response = await web.post("/classify", json={"image": IMAGES[0]})
    assert response.status_code == 200


@pytest.mark.stream_faults(Fault(FaultKind.REFUSE, at=1, seconds=3600))
async def test_an_overload_that_lasts_is_told(web: httpx.AsyncClient) -> None:
    response = await web.post("/classify", json={"image": IMAGES[0]})
    assert response.status_code == 503
    assert response.headers["Retry-After"]


@pytest.mark.stream_faults(Fault(FaultKind.SLOW, at=1, seconds=3600))
async def test_a_slow_model_costs_its_own_caller_only(stream_server: StreamServer) -> None:
    async with running(stream_server.target, timeout=1.0) as web:
        slow = await web.post("/classify", json={"image": IMAGES[0]})
        assert slow.status_code == 504
        assert slow.json() == {"error": "no answer in time; the image was sent"}
        other = await web.post("/classify", json={"image": IMAGES[1]})
        assert other.status_code == 200
