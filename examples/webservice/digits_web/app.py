"""The web service: requests in, predictions out, and errors that say what to do."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, StreamingResponse
from pydantic import BaseModel

from digits_web.model import Answer, Image, JsonCodec
from servestream_client import ItemError, StreamClient, StreamError, StreamTimeoutError

Client = StreamClient[Image, Answer]


class Question(BaseModel):
    """One image."""

    image: Image


def create_app(target: str, *, application: str = "", timeout: float = 2.0) -> FastAPI:
    """The service.

    Args:
        target: ``host:port`` of the classifier's gRPC ingress.
        application: its name there.
        timeout: seconds that a caller waits for one image.
    """

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        # One client for the whole service: all its requests share a few streams.
        async with StreamClient(target, application=application, codec=JsonCodec()) as client:
            app.state.client = client
            yield

    app = FastAPI(title="digits", lifespan=lifespan)

    @app.post("/classify")
    async def classify(question: Question) -> Answer:
        client: Client = app.state.client
        return await client.predict(question.image, timeout=timeout)

    @app.post("/classify-many")
    async def classify_many(request: Request) -> StreamingResponse:
        """One image a line in, one answer or error a line out, in the same order."""
        client: Client = app.state.client
        # All of it at once: a response that is sent while the request is still being read would
        # compete with Starlette for the request's messages.
        images = map(json.loads, (await request.body()).splitlines())
        stream = client.stream(images, return_exceptions=True)

        async def lines() -> AsyncIterator[str]:
            async with stream:
                async for result in stream:
                    yield json.dumps(_problem(result) if isinstance(result, ItemError) else result)
                    yield "\n"

        return StreamingResponse(lines(), media_type="application/x-ndjson")

    @app.exception_handler(ItemError)
    async def bad_image(_: Request, error: ItemError) -> JSONResponse:
        return JSONResponse(_problem(error), status_code=422)

    @app.exception_handler(StreamTimeoutError)
    async def too_slow(_: Request, error: StreamTimeoutError) -> JSONResponse:
        sent = "sent" if not error.delivered.unsent else "not even sent"
        return JSONResponse({"error": f"no answer in time; the image was {sent}"}, 504)

    @app.exception_handler(StreamError)
    async def not_available(_: Request, error: StreamError) -> JSONResponse:
        return JSONResponse({"error": error.reason}, 503, headers={"Retry-After": "5"})

    return app


def _problem(error: ItemError) -> Answer:
    return {"error": error.text}
