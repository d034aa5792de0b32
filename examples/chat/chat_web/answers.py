"""Answers under way: each is read from its replica once, and by browsers as often as they
reconnect.
"""

from __future__ import annotations

import asyncio
import codecs
import logging
import secrets
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from servestream_client import Generation, ItemError, ServeStreamError
from servestream_client.demo.tokens.codec import Token

__all__ = ["Answer", "Answers", "Piece"]

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Piece:
    """What one token adds to the text.

    Attributes:
        text: empty where the token ends within a character.
        cut: the answer was cut in front of it, and went on at another replica.
    """

    text: str
    cut: bool


class Answer:
    """One answer: its pieces so far, numbered from 0 as its tokens are, and how it ended.

    Pieces are only ever appended, and kept until the answer is forgotten: so whoever comes back
    reads on at the piece behind the last one that arrived. While nobody reads, no token is taken,
    and so the replica soon stops making them.

    Args:
        generation: its tokens.
        patience: seconds that it waits for a reader, who may be on the way back.
        forget: called when none has come.
    """

    def __init__(
        self, generation: Generation[Token], *, patience: float, forget: Callable[[], None]
    ) -> None:
        self.pieces: list[Piece] = []
        self.end: str | None = None
        """Why nothing further comes; the empty string: the answer is complete."""
        self._patience = patience
        self._forget = forget
        self._readers = 0
        self._attended = asyncio.Event()  # somebody reads, or has not come yet
        self._attended.set()
        self._changed = asyncio.Event()
        self._task = asyncio.create_task(self._generate(generation))
        self._task.add_done_callback(self._ended)
        self._timer = self._wait_for_a_reader()

    @contextmanager
    def attended(self) -> Iterator[None]:
        """Somebody reads."""
        self._readers += 1
        self._attended.set()
        self._timer.cancel()
        try:
            yield
        finally:
            self._readers -= 1
            if not self._readers:
                self._attended.clear()
                self._timer = self._wait_for_a_reader()

    async def read(self, first: int) -> AsyncIterator[tuple[int, Piece]]:
        """The pieces from number `first` on, as they come."""
        while True:
            changed = self._changed
            for number, piece in enumerate(self.pieces[first:], first):
                yield number, piece
                first = number + 1
            if first >= len(self.pieces) and self.end is not None:
                return
            if changed is self._changed:
                await changed.wait()

    def stop(self) -> None:
        """End it at once, and with it the work at the replica."""
        self._task.cancel()

    def _wait_for_a_reader(self) -> asyncio.TimerHandle:
        return asyncio.get_running_loop().call_later(self._patience, self._leave)

    def _leave(self) -> None:
        self.stop()
        self._forget()

    async def _generate(self, generation: Generation[Token]) -> str:
        decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        try:
            async with generation:  # leaving it, in whatever way, ends the work at the replica
                async for token in generation:
                    cut = any(seam.index == len(self.pieces) for seam in generation.seams)
                    text = decoder.decode(token.text, final=token.finished)
                    self.pieces.append(Piece(text, cut))
                    self._wake_readers()
                    await self._attended.wait()
        except ItemError as error:
            return error.text
        except ServeStreamError as error:
            return str(error)
        return ""

    def _ended(self, task: asyncio.Task[str]) -> None:
        if task.cancelled():
            self.end = "the answer was stopped"
        elif (error := task.exception()) is not None:
            self.end = "the web service failed"
            logger.error("an answer ended with an error of its own", exc_info=error)
        else:
            self.end = task.result()
        self._wake_readers()

    def _wake_readers(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()


class Answers:
    """All answers of this process, each under a key that cannot be guessed.

    Args:
        patience: seconds that an answer waits for a reader.
    """

    def __init__(self, *, patience: float) -> None:
        self._patience = patience
        self._answers: dict[str, Answer] = {}

    def begin(self, generation: Generation[Token]) -> str:
        """Begin an answer; its key."""
        key = secrets.token_urlsafe(16)
        self._answers[key] = Answer(
            generation,
            patience=self._patience,
            forget=lambda: self._forget(key),
        )
        return key

    def get(self, key: str) -> Answer | None:
        """None: it is forgotten, or was another process's."""
        return self._answers.get(key)

    def _forget(self, key: str) -> None:
        self._answers.pop(key, None)  # a last reader may leave after it was forgotten

    def close(self) -> None:
        """Stop all of them."""
        for answer in self._answers.values():
            answer.stop()
