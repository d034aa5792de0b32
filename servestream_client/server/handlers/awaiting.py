"""Coroutines of others, outside of runs: those of a batch, and those that a thread returned.

Invariant: they go on only in turns of the event loop that were entered for them, but for what they
do when they are cancelled while they wait for one; and turns are left however they end.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable, Sequence

from servestream_client.errors import ItemErrorKind
from servestream_client.server.calls import Call, Cancelled, Expired, Part
from servestream_client.server.handlers.answers import Failure, failure_of
from servestream_client.turns import Turn

__all__ = ["await_in_turn", "wait_for_turn"]


async def wait_for_turn(turn: Turn, parts: Sequence[Part]) -> float:
    """Wait for the event loop's turn, where `Turn.enter` says so; then as that.

    Raises:
        Cancelled: meanwhile all these inputs were, or their streams ended.
    """
    until = await turn.wait()
    if not any(
        attempt.session.outbox.wants(number)
        for attempt, run in parts
        for number in range(run.first, run.last + 1)
    ):
        turn.leave()
        raise Cancelled
    return until


async def await_in_turn(
    call: Call,
    parts: Sequence[Part],
    code: Callable[[], Awaitable[object]],
    *,
    until: float = math.inf,
    answer_without: Callable[[str], None] | None = None,
) -> object:
    """What comes of awaiting that, in its turn of the event loop."""
    turn, task = call.turn, asyncio.current_task()
    if not turn.enter():
        await wait_for_turn(turn, parts)
    try:
        return await call.run(
            turn.metered(code()), parts, until=until, answer_without=answer_without
        )
    except Cancelled:
        raise
    except Expired as error:
        return Failure(ItemErrorKind.TIMEOUT, str(error))
    except BaseException as error:
        return failure_of(ItemErrorKind.HANDLER, error, task)
    finally:
        turn.leave()
