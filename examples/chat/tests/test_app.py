"""Answers over HTTP, while connections, replicas and the web service itself are lost."""

from __future__ import annotations

import asyncio
import json
import queue
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import httpx
import pytest
from conftest import Serve, offline

from servestream_client.testing import Fault, FaultKind

QUESTION = "What is a prime number?"
TOKENS = 32
ENDLESS = 400


@dataclass
class Event:
    """One Server-Sent Event."""

    kind: str
    id: int | None
    data: dict[str, Any]


async def events_of(response: httpx.Response) -> AsyncIterator[Event]:
    fields: dict[str, str] = {}
    async for line in response.aiter_lines():
        if line:
            name, _, value = line.partition(": ")
            fields[name] = value
            continue
        if "data" in fields:
            number = int(fields["id"]) if "id" in fields else None
            yield Event(fields.get("event", "message"), number, json.loads(fields["data"]))
        fields = {}


class Browser:
    """As much of one as an answer needs."""

    def __init__(self, client: httpx.AsyncClient) -> None:
        self._client = client

    async def ask(self, text: str = QUESTION, max_tokens: int = TOKENS) -> str:
        question = {"text": text, "max_tokens": max_tokens}
        response = await self._client.post("/answers", json=question)
        assert response.status_code == 201
        return response.json()["key"]

    async def read(self, key: str, *, last: int | None = None, count: int = 10**6) -> list[Event]:
        """Up to so many events, of a new connection."""
        headers = {} if last is None else {"Last-Event-ID": str(last)}
        came: list[Event] = []
        path = f"/answers/{key}/events"
        async with self._client.stream("GET", path, headers=headers) as response:
            assert response.status_code == 200
            async for event in events_of(response):
                came.append(event)
                if len(came) == count:
                    break
        return came

    async def stop(self, key: str) -> None:
        response = await self._client.post(f"/answers/{key}/stop")
        assert response.status_code == 204


@pytest.fixture
async def browser(serve: Serve) -> AsyncIterator[Browser]:
    async with serve() as url, httpx.AsyncClient(base_url=url, timeout=30) as client:
        yield Browser(client)


def text_of(events: list[Event]) -> str:
    return "".join(event.data["text"] for event in events if event.kind == "message")


def expected(text: str = QUESTION, max_tokens: int = TOKENS) -> str:
    tokens = offline(text, max_tokens)
    return b"".join(token.text for token in tokens).decode(errors="replace")


def next_end(ends: queue.Queue[int]) -> int:
    return ends.get(timeout=60)


async def test_an_answer_comes_token_by_token(browser: Browser) -> None:
    *pieces, end = await browser.read(await browser.ask())
    assert [piece.id for piece in pieces] == list(range(len(offline(QUESTION, TOKENS))))
    assert text_of(pieces) == expected()
    assert end == Event("end", None, {"problem": ""})


async def test_torn_characters_are_shown_whole(browser: Browser) -> None:
    text = "Write a line of emoji, and say what they mean: 🚀🌍🎉🐱"
    *pieces, _ = await browser.read(await browser.ask(text, 24))
    assert text_of(pieces) == expected(text, 24)
    assert any(piece.data["text"] == "" for piece in pieces), "of some, the rest comes later"


async def test_who_reconnects_goes_on_at_the_next_token(browser: Browser) -> None:
    key = await browser.ask()
    first = await browser.read(key, count=5)
    second = await browser.read(key, last=first[-1].id, count=7)
    *rest, end = await browser.read(key, last=second[-1].id)
    assert [each.id for each in first + second + rest] == list(range(5 + 7 + len(rest)))
    assert text_of(first + second + rest) == expected()
    assert end.data["problem"] == ""


async def test_an_answer_that_ended_meanwhile_is_there_for_who_reconnects(browser: Browser) -> None:
    key = await browser.ask()
    whole = await browser.read(key)
    assert await browser.read(key, last=3) == whole[4:]


async def test_two_tabs_read_the_same(browser: Browser) -> None:
    key = await browser.ask()
    one, other = await asyncio.gather(browser.read(key), browser.read(key))
    assert one == other


@pytest.mark.stream_faults(Fault(FaultKind.KILL, at=1, output=10))
async def test_a_replica_dies_and_the_place_is_marked(browser: Browser) -> None:
    *pieces, end = await browser.read(await browser.ask())
    assert text_of(pieces) == expected(), "the model goes on exactly"
    assert [piece.id for piece in pieces if piece.data["cut"]] == [10]
    assert end.data["problem"] == ""


async def test_to_stop_ends_the_work_at_the_replica(
    browser: Browser, ends: queue.Queue[int]
) -> None:
    key = await browser.ask(max_tokens=ENDLESS)
    await browser.read(key, count=5)
    await browser.stop(key)
    assert await asyncio.to_thread(next_end, ends) < len(offline(QUESTION, ENDLESS))
    *_, end = await browser.read(key)
    assert end == Event("end", None, {"problem": "the answer was stopped"})


async def test_a_stop_at_once_is_heard(browser: Browser) -> None:
    key = await browser.ask(max_tokens=ENDLESS)
    await browser.stop(key)
    *_, end = await browser.read(key)
    assert end.data["problem"] == "the answer was stopped"


async def test_who_vanishes_is_waited_for_but_not_without_end(
    serve: Serve, ends: queue.Queue[int]
) -> None:
    async with serve(patience=0.1) as url, httpx.AsyncClient(base_url=url, timeout=30) as client:
        browser, came = Browser(client), []
        while len(came) < 3:  # a busy machine may be too late, and the answer gone
            key = await browser.ask(max_tokens=ENDLESS)
            came = await browser.read(key, count=3)
        assert await asyncio.to_thread(next_end, ends) < len(offline(QUESTION, ENDLESS))
        (gone,) = await browser.read(key, last=2)
    assert gone.kind == "gone"


async def test_for_nobody_the_replica_makes_few_tokens_and_goes_on_for_who_comes_back(
    serve: Serve, ends: queue.Queue[int]
) -> None:
    text, tokens = "What is rain?", 80
    async with serve(patience=3600) as url, httpx.AsyncClient(base_url=url, timeout=30) as client:
        browser = Browser(client)
        key = await browser.ask(max_tokens=tokens - 20)
        first = await browser.read(key, count=3)
        # The replica takes a step of each in turn, so the first one would end before the other.
        await browser.read(await browser.ask(text, tokens))
        assert await asyncio.to_thread(next_end, ends) == len(offline(text, tokens))
        *rest, end = await browser.read(key, last=2)
    assert text_of(first + rest) == expected(max_tokens=tokens - 20)
    assert end.data["problem"] == ""


async def test_after_a_restart_of_the_web_service_it_says_so(serve: Serve) -> None:
    async with serve() as url, httpx.AsyncClient(base_url=url, timeout=30) as client:
        key = await Browser(client).ask()
        await Browser(client).read(key, count=5)
    async with serve() as url, httpx.AsyncClient(base_url=url, timeout=30) as client:
        (gone,) = await Browser(client).read(key, last=4)
    assert gone.kind == "gone"
    assert "ask again" in gone.data["reason"]


async def test_what_the_model_refuses_is_said(browser: Browser) -> None:
    (end,) = await browser.read(await browser.ask("word " * 300, ENDLESS))
    assert end.kind == "end"
    assert "do not fit" in end.data["problem"]
