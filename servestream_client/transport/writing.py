"""Writing to a call of grpc.aio without hiding how it ended (docs/decisions/0003).

Invariant: a write that fails changes nothing of the call's status.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, TypeAlias

import grpc.aio

__all__ = ["WRITE_FAILURES", "AnyCall", "writable", "writer"]

AnyCall: TypeAlias = "grpc.aio.StreamStreamCall[Any, Any]"

# What a write raises on a call that has ended meanwhile: an error of its own kind, or none of
# grpc's at all ("RPC already finished").
WRITE_FAILURES = (
    grpc.aio.AioRpcError,
    grpc.aio.InternalError,
    grpc.aio.UsageError,
    asyncio.InvalidStateError,
)


def writable(call: AnyCall) -> bool:
    """Whether `write` can be used: it is the call itself, without interceptors around it."""
    return hasattr(call, "_cython_call")


async def writer(call: AnyCall) -> Callable[[bytes], Awaitable[None]]:
    """What sends messages, once the call is under way. It raises what this does.

    Raises:
        Exception: one of `WRITE_FAILURES`; the call has ended.
    """
    await call.wait_for_connection()
    # Not `write()`: one that fails before the call's status has come makes the status INTERNAL
    # for good, and with it the reason of a refusal is lost.
    send: Callable[[bytes], Awaitable[None]]
    send = call._cython_call.send_serialized_message  # type: ignore[attr-defined]  # noqa: SLF001
    return send
