"""What goes in, a prompt, and what comes out, tokens; and how both travel."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import NamedTuple

__all__ = ["Prompt", "Token", "TokenCodec"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Prompt:
    """What to answer, and how.

    Attributes:
        text: of a user.
        max_tokens: an answer ends there at the latest.
        temperature: 0: always the likeliest token. The higher, the likelier are others.
        seed: decides which, with temperatures above 0: the same prompt gives the same answer.
    """

    text: str
    max_tokens: int = 200
    temperature: float = 0.0
    seed: int = 0


class Token(NamedTuple):
    """One token of an answer.

    Attributes:
        id: in the model's vocabulary; what an answer is continued by.
        text: UTF-8, though its first or last character may be torn: join tokens, then decode.
        finished: it is the answer's last one.
    """

    id: int
    text: bytes
    finished: bool


_PROMPT = struct.Struct("<IdQ")
_TOKEN = struct.Struct("<I?")


class TokenCodec:
    """A prompt's figures and its text in UTF-8; a token's id, whether it is the last, and its
    text.
    """

    id = "tokens"
    fingerprint = "(uint32, float64, uint64, utf-8) -> (uint32, bool, bytes)"

    def encode_input(self, item: Prompt, /) -> bytes:
        return _PROMPT.pack(item.max_tokens, item.temperature, item.seed) + item.text.encode()

    def decode_input(self, payload: bytes, /) -> Prompt:
        max_tokens, temperature, seed = _PROMPT.unpack_from(payload)
        text = payload[_PROMPT.size :].decode()
        return Prompt(text=text, max_tokens=max_tokens, temperature=temperature, seed=seed)

    def encode_output(self, output: Token, /) -> bytes:
        return _TOKEN.pack(output.id, output.finished) + output.text

    def decode_output(self, payload: bytes, /) -> Token:
        token, finished = _TOKEN.unpack_from(payload)
        return Token(token, payload[_TOKEN.size :], finished)
