"""A service of a language model, which goes on where another replica died."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import ClassVar

from servestream_client.codecs import Codec
from servestream_client.demo.tokens.answers import Answers
from servestream_client.demo.tokens.codec import Prompt, Token, TokenCodec
from servestream_client.demo.tokens.engine import Context, Model
from servestream_client.server import Replay, Resume, StreamService

__all__ = ["Answering"]


class Answering(StreamService[Prompt, Token]):
    """Answers prompts, token by token.

    What the next replica gets is the ids of the tokens that were delivered: no text, which may be
    torn within a character, and no state, since computing prompt and tokens in small batches gives
    the same bits as the first time.
    """

    codec: Codec[Prompt, Token] = TokenCodec()
    code_version: ClassVar[str] = "1"
    max_concurrency: ClassVar[int | None] = 8
    replay: ClassVar[Replay] = Replay.CONTINUE

    def __init__(self) -> None:
        model = Model()
        self._answers = Answers(model, lambda: Context(model))
        type(self).fingerprint = model.fingerprint

    async def generate(self, item: Prompt, resume: Resume[Token]) -> AsyncIterator[Token]:
        async for token in self._answers.answer(item, resume.outputs):
            yield token

    def is_finished(self, item: Prompt, resume: Resume[Token]) -> bool:  # noqa: ARG002
        return bool(resume) and resume.outputs[-1].finished
