"""The web service: requests in, predictions out, and errors that say what to do.

Annotations are no text here, since FastAPI reads them.
"""

import json
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from tempfile import SpooledTemporaryFile
from typing import Annotated

from fastapi import APIRouter, Depends, FastAPI, HTTPException, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import JSONResponse, StreamingResponse
from fastapi.sse import EventSourceResponse, ServerSentEvent
from pydantic import BaseModel
from starlette.requests import ClientDisconnect

from digits_web.model import Answer, Image, JsonCodec
from servestream_client import (
    ItemError,
    PredictionStream,
    StreamClient,
    StreamError,
    StreamTimeoutError,
)

__all__ = ["create_app"]

Client = StreamClient[Image, Answer]
Answers = PredictionStream[Answer | ItemError]
Lifespan = Callable[[FastAPI], AbstractAsyncContextManager[None]]

MEMORY = 1 << 20
"""Bytes of an upload that are kept in memory; more go to a file."""


class Question(BaseModel):
    """One image."""

    image: Image


def lifespan_of(target: str, application: str) -> Lifespan:
    """One client for the whole process: all its requests share a few streams."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with StreamClient(target, application=application, codec=JsonCodec()) as client:
            app.state.client = client
            yield

    return lifespan


router = APIRouter()


@router.post("/classify")
async def classify(question: Question, request: Request) -> Answer:
    client: Client = request.app.state.client
    return await client.predict(question.image, timeout=request.app.state.timeout)


async def answers(request: Request) -> AsyncIterator[Answers]:
    """A stream over the lines of the request's body, for as long as the request lasts."""
    client: Client = request.app.state.client
    with SpooledTemporaryFile(max_size=MEMORY) as upload:
        try:
            async for chunk in request.stream():
                await run_in_threadpool(upload.write, chunk)
        except ClientDisconnect:
            raise HTTPException(400, "the upload was broken off") from None
        upload.seek(0)
        images = (json.loads(line) for line in upload if line.strip())
        async with client.stream(images, return_exceptions=True) as stream:
            yield stream


@router.post("/classify-many")
async def classify_many(stream: Annotated[Answers, Depends(answers)]) -> StreamingResponse:
    """One image a line in, one answer or error a line out, in the same order."""

    async def lines() -> AsyncIterator[str]:
        try:
            async for result in stream:
                yield json.dumps(_told(result)) + "\n"
        except (StreamError, ValueError) as error:
            # The status has gone out with the first line, so this is one, too.
            yield json.dumps(_incomplete(error)) + "\n"

    return StreamingResponse(lines(), media_type="application/x-ndjson")


@router.post("/classify-events", response_class=EventSourceResponse)
async def classify_events(
    stream: Annotated[Answers, Depends(answers)],
) -> AsyncIterator[ServerSentEvent]:
    """The same as Server-Sent Events, each with its line's number; the last is `end`."""
    number = 0
    try:
        async for result in stream:
            number += 1
            yield ServerSentEvent(id=str(number), data=_told(result))
    except (StreamError, ValueError) as error:
        # What is raised here would end the response as if it was complete.
        yield ServerSentEvent(event="end", data=_incomplete(error))
    else:
        yield ServerSentEvent(event="end", data={"complete": True})


def _incomplete(error: StreamError | ValueError) -> Answer:
    """Why there are no further answers: the stream failed, or a line is no JSON."""
    reason = error.reason if isinstance(error, StreamError) else f"no JSON: {error}"
    return {"error": reason, "complete": False}


def _told(result: Answer | ItemError) -> Answer:
    return {"error": result.text} if isinstance(result, ItemError) else result


async def bad_image(_: Request, error: ItemError) -> JSONResponse:
    return JSONResponse(_told(error), status_code=422)


async def too_slow(_: Request, error: StreamTimeoutError) -> JSONResponse:
    sent = "sent" if not error.delivered.unsent else "not even sent"
    return JSONResponse({"error": f"no answer in time; the image was {sent}"}, 504)


async def not_available(_: Request, error: StreamError) -> JSONResponse:
    return JSONResponse({"error": error.reason}, 503, headers={"Retry-After": "5"})


def create_app(target: str, *, application: str = "", timeout: float = 2.0) -> FastAPI:
    """The service.

    Args:
        target: ``host:port`` of the classifier's gRPC ingress.
        application: its name there.
        timeout: seconds that a caller waits for one image.
    """
    app = FastAPI(title="digits", lifespan=lifespan_of(target, application))
    app.state.timeout = timeout
    app.include_router(router)
    app.exception_handler(ItemError)(bad_image)
    app.exception_handler(StreamTimeoutError)(too_slow)
    app.exception_handler(StreamError)(not_available)
    return app
