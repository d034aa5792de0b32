"""Services for the command to call."""

import asyncio
import queue
from typing import Any

import msgspec

from servestream_client import JsonCodec, MsgpackCodec
from servestream_client.server import Replay, StatefulService, StreamService
from servestream_client.server.sealing import new_key


class Words(StreamService[bytes, bytes]):
    """Upper case, but for one word."""

    async def predict(self, item: bytes) -> bytes:
        if item == b"bad":
            raise ValueError("no such word")
        return item.upper()


class Counting(StatefulService[bytes, bytes, bytes]):
    """How many inputs came so far. One that is bad breaks the stream."""

    state_keys = (new_key(),)

    def begin(self, parameters):
        return b""

    def step(self, state, item):
        if item == b"bad":
            raise ValueError("no such word")
        return state + b"|", b"%d" % len(state + b"|")


class Text(msgspec.Struct):
    text: str


class Length(msgspec.Struct):
    length: int


class Lengths(StreamService[Text, Length]):
    codec = JsonCodec(Text, Length)

    async def predict(self, item: Text) -> Length:
        return Length(len(item.text))


class Packed(StreamService[dict, dict]):
    codec = MsgpackCodec(dict[str, int], dict[str, bytes])

    async def predict(self, item: dict) -> dict:
        return {key: bytes(value) for key, value in item.items()}


class Tokens(StreamService[bytes, bytes]):
    """As many tokens as the input says, ``name:count``. One that is bad fails behind the second,
    and one that is endless has no end, and waits behind the first.
    """

    replay = Replay.SEEK
    closed: queue.SimpleQueue[str] = queue.SimpleQueue()  # their names

    async def generate(self, item, resume):
        name, _, count = item.decode().partition(":")
        try:
            for index in range(resume.index, int(count or 3)):
                if name == "bad" and index == 2:
                    raise ValueError("no such word")
                if name == "endless" and index == 1:
                    await asyncio.Event().wait()
                await asyncio.sleep(0)
                yield f"{name}{index} ".encode()
        finally:
            self.closed.put(name)


class Deltas(StreamService[Text, dict]):
    codec = JsonCodec(Text, dict[str, Any])

    async def generate(self, item, resume):
        for index, word in enumerate(item.text.split()):
            yield {"word": word, "index": index}


class Strings(StreamService[str, object]):
    codec = JsonCodec(str, Any)

    async def generate(self, item, resume):
        yield item
        yield " \u00fc\n"
        yield 5
        yield [item]


class PackedDeltas(StreamService[dict, dict]):
    codec = MsgpackCodec(dict[str, int], dict[str, Any])

    async def generate(self, item, resume):
        for key, value in item.items():
            yield {"key": key, "bytes": bytes(value)}
