"""Handlers of all shapes, and what they make of inputs."""

import asyncio
from collections.abc import Iterable

from attempts import FakeAttempt, until

from servestream_client import BytesCodec
from servestream_client.errors import ItemErrorKind
from servestream_client.server.calls import Call, Handler, Part
from servestream_client.server.handlers import batch_handler, item_handler
from servestream_client.server.item_workers import ItemWorkers

DECODE, ENCODE, HANDLER = ItemErrorKind.DECODE, ItemErrorKind.ENCODE, ItemErrorKind.HANDLER
PLACES = 4


class Picky(BytesCodec):
    """Takes no input that says undecodable, and no output that says unencodable or wrong type."""

    def decode_input(self, payload, /):
        if payload.startswith(b"undecodable"):
            raise ValueError(payload.decode())
        return payload

    def encode_output(self, output, /):
        if output.startswith(b"UNENCODABLE"):
            raise ValueError(output.decode())
        return output.decode() if output.startswith(b"WRONG TYPE") else output


def upper(item: bytes) -> bytes:
    """What every handler here does."""
    if item.startswith(b"raises"):
        raise ValueError(item.decode())
    return item.upper()


async def at_once(item):
    return upper(item)


async def after_a_while(item):
    await asyncio.sleep(0)
    return upper(item)


async def after_a_while_now_and_then(item):
    if item.endswith((b"2", b"5")):
        await asyncio.sleep(0)
    return upper(item)


async def batch_at_once(items):
    return [upper(item) for item in items]


async def batch_after_a_while(items):
    await asyncio.sleep(0)
    return [upper(item) for item in items]


def batch_in_thread(items):
    return tuple(upper(item) for item in items)


def coroutine_from_thread(item):
    return after_a_while(item)


ITEM_HANDLERS = {
    "async": at_once,
    "async, waits": after_a_while,
    "async, waits now and then": after_a_while_now_and_then,
    "plain": upper,
    "plain, returns a coroutine": coroutine_from_thread,
}
BATCH_HANDLERS = {
    "batch": batch_at_once,
    "batch, waits": batch_after_a_while,
    "batch, plain": batch_in_thread,
}


def handler_of(name: str) -> Handler:
    if name in ITEM_HANDLERS:
        return item_handler(ITEM_HANDLERS[name], Picky(), PLACES)
    return batch_handler(BATCH_HANDLERS[name], Picky(), PLACES)


class Bystander(ItemWorkers):
    """Workers without a place, for calls that a test makes by hand."""

    def __init__(self) -> None:
        super().__init__(None, places=0)
        self.suspensions = 0

    def suspended(self, call: Call, parts: Iterable[Part]) -> None:
        self.suspensions += 1
        super().suspended(call, parts)


async def answers_of(handler: Handler, *payloads: bytes, longest: int = 99) -> FakeAttempt:
    """What a handler makes of inputs that it gets in a run, and again of what it puts back."""
    bystander = Bystander()
    attempt = FakeAttempt(bystander)
    attempt.send(*payloads)
    call = Call(bystander)
    while (part := bystander._take(attempt, longest)) is not None:
        await handler.handle(call, [part])
    attempt.wake_writer()
    await until(lambda: attempt.done)
    return attempt


async def echo(item):
    return item
