"""The web service on a real socket, in front of the real model in this process."""

from __future__ import annotations

import asyncio
import queue
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import cache

import pytest
import uvicorn

from chat_web.app import create_app
from servestream_client.demo.tokens.answers import answer_offline
from servestream_client.demo.tokens.codec import Prompt, Token
from servestream_client.demo.tokens.engine import Model
from servestream_client.demo.tokens.service import Answering
from servestream_client.server import Resume
from servestream_client.testing import StreamServer

Serve = Callable[..., AbstractAsyncContextManager[str]]


@cache
def offline(text: str, max_tokens: int) -> list[Token]:
    """What the model answers, undisturbed."""
    return answer_offline(Model(), Prompt(text=text, max_tokens=max_tokens))


class Observed(Answering):
    """Tells when the work at the replica ends, and after how many tokens."""

    ends: queue.Queue[int]

    async def generate(self, item: Prompt, resume: Resume[Token]) -> AsyncIterator[Token]:
        count = resume.index
        try:
            async for token in super().generate(item, resume):
                count += 1
                yield token
        finally:
            self.ends.put(count)


@pytest.fixture
def ends() -> queue.Queue[int]:
    """How many tokens there were, each time that the work at a replica ends."""
    return queue.Queue()


@pytest.fixture
def stream_service(ends: queue.Queue[int]) -> type[Answering]:
    """Made anew for each life of the replica."""
    return type("Observed", (Observed,), {"ends": ends})


@pytest.fixture
def serve(stream_server: StreamServer) -> Serve:
    """Starts the web service in front of the replica; the context is its URL, and its end cuts all
    connections, as when its process dies.
    """

    @asynccontextmanager
    async def serving(*, port: int = 0, patience: float = 100.0) -> AsyncIterator[str]:
        app = create_app(stream_server.target, patience=patience, retry=0.05)
        server = uvicorn.Server(
            uvicorn.Config(app, log_level="critical", timeout_graceful_shutdown=0)
        )
        with socket.create_server(("127.0.0.1", port)) as listening:
            task = asyncio.create_task(server.serve([listening]))
            try:
                yield f"http://127.0.0.1:{listening.getsockname()[1]}"
            finally:
                server.should_exit = True
                await task

    return serving
