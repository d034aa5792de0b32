"""A model of a few lines, whose answers are a function of the tokens so far."""

from __future__ import annotations

import threading
import zlib

import numpy as np

from servestream_client.demo.tokens.codec import Prompt, Token
from servestream_client.demo.tokens.engine import MICRO_BATCH

VOCABULARY = 50
END = 0


class Talking:
    """Speaks like `Model`."""

    def tokens(self, text: str, /) -> list[int]:
        return list(text.encode())

    def piece(self, token: int, /) -> bytes:
        return b"" if token == END else b"<%d>" % token

    def is_end(self, token: int, /) -> bool:
        return token == END


class Contexts:
    """Opens contexts, and knows what happened in them.

    Attributes:
        fed: which context was fed how many tokens, in order.
        closed: which were closed.
        threads: that fed them.
        endless: no answer ends by itself.
    """

    def __init__(self) -> None:
        self.opened = 0
        self.fed: list[tuple[int, int]] = []
        self.closed: list[int] = []
        self.threads: set[int] = set()
        self.endless = False
        self.go = threading.Event()
        self.go.set()

    def open(self) -> OneContext:
        self.opened += 1
        return OneContext(self, self.opened)


class OneContext:
    def __init__(self, contexts: Contexts, number: int) -> None:
        self._contexts = contexts
        self._number = number
        self._crc = 0

    def feed(self, tokens, /):
        assert 0 < len(tokens) <= MICRO_BATCH
        assert self._number not in self._contexts.closed
        self._contexts.go.wait(10)
        self._contexts.threads.add(threading.get_ident())
        self._contexts.fed.append((self._number, len(tokens)))
        self._crc = zlib.crc32(np.asarray(tokens, np.int32).tobytes(), self._crc)
        scores = np.random.default_rng(self._crc).normal(size=VOCABULARY).astype(np.float32)
        if self._contexts.endless:
            scores[END] = -100.0
        return scores

    def close(self) -> None:
        self._contexts.closed.append(self._number)


def prompt(text: str = "a", *, max_tokens: int = 30, temperature: float = 0.0) -> Prompt:
    return Prompt(text=text, max_tokens=max_tokens, temperature=temperature, seed=7)


def tokens(*ids: int, finished: bool = True) -> list[Token]:
    """An answer of these tokens."""
    return [
        Token(each, b"<%d>" % each, finished and place == len(ids) - 1)
        for place, each in enumerate(ids)
    ]
