"""Services for the command to call."""

import msgspec

from servestream_client import JsonCodec, MsgpackCodec
from servestream_client.server import StreamService


class Words(StreamService[bytes, bytes]):
    """Upper case, but for one word."""

    async def predict(self, item: bytes) -> bytes:
        if item == b"bad":
            raise ValueError("no such word")
        return item.upper()


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
