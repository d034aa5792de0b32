"""The web service: a prompt in, Server-Sent Events out, a page that shows them.

Annotations are no text here: FastAPI reads them, and one of them names a function within another.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, nullcontext
from pathlib import Path
from typing import Annotated

from fastapi import Depends, FastAPI, Header, HTTPException
from fastapi.responses import FileResponse
from fastapi.sse import EventSourceResponse, ServerSentEvent
from pydantic import BaseModel, Field

from chat_web.answers import Answer, Answers
from servestream_client import FlowControl, StreamClient
from servestream_client.demo.tokens.codec import Prompt, Token, TokenCodec

__all__ = ["create_app"]

PAGE = Path(__file__).parent / "page.html"

GONE = (
    "The web service was restarted, or this answer was left alone for too long."
    " What you see is its beginning; ask again for a whole one."
)


class Question(BaseModel):
    """What the page sends."""

    text: str = Field(min_length=1, max_length=2000)
    max_tokens: int = Field(default=200, ge=1, le=400)
    temperature: float = Field(default=0.0, ge=0.0, le=2.0)
    seed: int = Field(default=0, ge=0, lt=2**64)


class Begun(BaseModel):
    """An answer has begun, under this key."""

    key: str


def create_app(
    target: str, *, application: str = "", patience: float = 10.0, retry: float = 0.5
) -> FastAPI:
    """The service.

    Args:
        target: ``host:port`` of the model's gRPC ingress.
        application: its name there.
        patience: seconds that an answer waits for a browser that has lost its connection. A page
            that is left says so and is not waited for.
        retry: seconds after which such a browser is asked to connect again.
    """

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        # So many tokens at most are made for nobody once a browser is gone.
        flow = FlowControl(outputs_per_input=16)
        # One client for the whole service: all answers share a few streams.
        async with StreamClient[Prompt, Token](
            target, application=application, codec=TokenCodec(), flow=flow
        ) as client:
            app.state.client = client
            app.state.answers = Answers(patience=patience)
            yield
            app.state.answers.close()

    app = FastAPI(title="chat", lifespan=lifespan)

    @app.get("/", include_in_schema=False)
    async def page() -> FileResponse:
        return FileResponse(PAGE)

    @app.post("/answers", status_code=201)
    async def ask(question: Question) -> Begun:
        client: StreamClient[Prompt, Token] = app.state.client
        answers: Answers = app.state.answers
        return Begun(key=answers.begin(client.generate(Prompt(**question.model_dump()))))

    async def attended(key: str) -> AsyncIterator[Answer | None]:
        """An answer that is read for as long as the request lasts.

        A `finally` in the endpoint may run much later (findings/fastapi-sse-finally.sh).
        """
        answers: Answers = app.state.answers
        answer = answers.get(key)
        with answer.attended() if answer is not None else nullcontext():
            yield answer

    @app.get("/answers/{key}/events", response_class=EventSourceResponse)
    async def events(
        answer: Annotated[Answer | None, Depends(attended)],
        last_event_id: Annotated[int, Header(ge=-1)] = -1,
    ) -> AsyncIterator[ServerSentEvent]:
        """An event's id is the index of the token that it brings: a browser that reconnects says
        which was its last, and goes on behind it.

        Errors are events, too: what is raised here would end the response as if it was complete
        (findings/fastapi-sse-errors.sh).
        """
        if answer is None:
            yield ServerSentEvent(event="gone", data={"reason": GONE})
            return
        yield ServerSentEvent(retry=round(retry * 1000))
        async for number, piece in answer.read(last_event_id + 1):
            yield ServerSentEvent(id=str(number), data={"text": piece.text, "cut": piece.cut})
        yield ServerSentEvent(event="end", data={"problem": answer.end})

    @app.post("/answers/{key}/stop", status_code=204)
    async def stop(key: str) -> None:
        """The reader wants no more of it; what a tab says as it closes."""
        answers: Answers = app.state.answers
        if (answer := answers.get(key)) is None:
            raise HTTPException(404, "no such answer")
        answer.stop()

    return app
