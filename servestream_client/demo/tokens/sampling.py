"""Which token comes next: a function of the scores, the prompt's seed and the position."""

from __future__ import annotations

import hashlib
import math
import struct

import numpy as np

from servestream_client.demo.tokens.codec import Prompt
from servestream_client.demo.tokens.engine import Logits

__all__ = ["choose"]

_CANDIDATES = 40
"""Only so many of the likeliest tokens are drawn from."""


def choose(scores: Logits, prompt: Prompt, position: int) -> int:
    """The next token.

    There is no generator of random numbers whose state an answer would have to carry to the next
    replica: each position has a number of its own, made of seed and position.

    Args:
        scores: of all tokens.
        prompt: whose answer it is.
        position: of the token in the answer, from 0.
    """
    if prompt.temperature <= 0:
        return int(scores.argmax())
    count = min(_CANDIDATES, len(scores))
    likeliest = np.argpartition(scores, -count)[-count:]
    ranked = sorted(((float(scores[token]), -int(token)) for token in likeliest), reverse=True)
    best = ranked[0][0]
    weights = [math.exp((score - best) / prompt.temperature) for score, _ in ranked]
    left = _uniform(prompt.seed, position) * math.fsum(weights)
    for weight, (_, token) in zip(weights, ranked, strict=True):
        left -= weight
        if left < 0:
            return -token
    return -ranked[-1][1]


def _uniform(seed: int, position: int) -> float:
    """From 0 up to 1."""
    digest = hashlib.blake2b(struct.pack("<QQ", seed, position), digest_size=8).digest()
    return int.from_bytes(digest, "little") / 2**64
