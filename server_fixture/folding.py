"""A stateful service in two releases, of which the second one encodes states otherwise.

Without Ray, so that tests may import what they expect.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Iterable, Iterator, Mapping

from servestream_client.server import StatefulService

__all__ = ["Folding", "FoldingAnew", "folded"]

SECONDS_EACH = 0.002
_KEYS = ("ssk_" + "A" * 43,)  # of tests; nothing is secret


def _following(state: bytes, item: bytes) -> bytes:
    return hashlib.sha256(state + item).digest()


def folded(inputs: Iterable[bytes], start: bytes = b"") -> Iterator[bytes]:
    """The outputs of one undisturbed stream."""
    state = start
    for item in inputs:
        state = _following(state, item)
        yield state[:8]


class Folding(StatefulService[bytes, bytes, bytes]):
    """A chain of digests; it begins with the parameter `start`."""

    code_version = "1"
    state_keys = _KEYS

    def begin(self, parameters: Mapping[str, str]) -> bytes:
        return parameters.get("start", "").encode()

    async def step(self, state: bytes, item: bytes) -> tuple[bytes, bytes]:
        await asyncio.sleep(SECONDS_EACH)
        state = _following(state, item)
        return state, state[:8]


class FoldingAnew(StatefulService[bytes, bytes, str]):
    """The same, whose states are text."""

    code_version = "2"
    state_keys = _KEYS
    state_version = 2

    class _Hexadecimal:
        id, fingerprint = "hex", ""

        def encode_input(self, item: str, /) -> bytes:
            return item.encode()

        def decode_input(self, payload: bytes, /) -> str:
            return payload.decode()

        def encode_output(self, item: str, /) -> bytes:
            return item.encode()

        def decode_output(self, payload: bytes, /) -> str:
            return payload.decode()

    state_codec = _Hexadecimal()

    def begin(self, parameters: Mapping[str, str]) -> str:
        return parameters.get("start", "").encode().hex()

    async def step(self, state: str, item: bytes) -> tuple[str, bytes]:
        await asyncio.sleep(SECONDS_EACH)
        following = _following(bytes.fromhex(state), item)
        return following.hex(), following[:8]

    def upgrade(self, version: int, raw: bytes) -> str:
        if version != 1:
            raise ValueError(f"there was no version {version}")
        return raw.hex()
