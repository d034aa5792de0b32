"""Finds servers that do not go on where they are asked to."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, TypeVar

from google.protobuf.message import Message

from servestream_client.errors import NotResumableError, StreamError
from servestream_client.resume.client import ResumableClient
from servestream_client.resume.strategies import Resumption

if TYPE_CHECKING:
    from servestream_client.resume.attempt import UnaryStream

__all__ = ["assert_resumable"]

Stub = TypeVar("Stub")
Req = TypeVar("Req", bound=Message)
Rep = TypeVar("Rep", bound=Message)

_MOST_SHOWN = 200


async def assert_resumable(
    client: ResumableClient[Stub],
    method: Callable[[Stub], UnaryStream[Req, Rep]],
    request: Req,
    resume: Callable[[], Resumption[Req, Rep]],
    *,
    most_cuts: int = 100,
    most_replies: int = 10_000,
) -> Sequence[Rep]:
    """Make a call once undisturbed, and then again and again, each time cut behind another reply:
    the replies must be the same. For the tests of whoever owns the service.

    Args:
        client: of the service.
        method: as for `ResumableClient.call`.
        request: likewise, one that gives the same replies each time.
        resume: likewise.
        most_cuts: where there are more replies, cuts are spread over them.
        most_replies: of a call without an end, so many are looked at.

    Returns:
        The replies.

    Raises:
        AssertionError: a call that was cut gave other replies, or failed; or there were none.
        StreamError: the undisturbed one failed.
    """

    async def replies(most: int, cut: int = 0) -> list[Rep]:
        found: list[Rep] = []
        async with client.call(method, request, resume, ahead=1) as call:
            async for reply in call:
                found.append(reply)
                if len(found) == cut:
                    call.interrupt()
                if len(found) == most:
                    break
        return found

    undisturbed = await replies(most_replies)
    count = len(undisturbed)
    if not count:
        raise AssertionError("the call gave no reply: there is nowhere to cut it")
    for cut in range(1, count + 1, -(-count // most_cuts)):
        try:
            # One more, which a server that repeats would send.
            found = await replies(count + (count < most_replies), cut)
        except NotResumableError as error:
            raise AssertionError(f"cut behind reply {cut}: {error.reason}") from error
        except StreamError as error:
            raise AssertionError(f"cut behind reply {cut}, the call failed: {error}") from error
        if found != undisturbed:
            difference = _difference(undisturbed, found)
            raise AssertionError(
                f"cut behind reply {cut}, the call gave {_several(len(found))}, and {count}"
                f" undisturbed: {difference}"
            )
    return undisturbed


def _difference(undisturbed: Sequence[Message], found: Sequence[Message]) -> str:
    for number, (expected, reply) in enumerate(zip(undisturbed, found, strict=False), 1):
        if expected != reply:
            return f"reply {number} is {_shown(reply)}, and was {_shown(expected)}"
    if len(found) > len(undisturbed):
        return f"reply {len(undisturbed) + 1} is {_shown(found[len(undisturbed)])}"
    return f"reply {len(found) + 1} is missing, {_shown(undisturbed[len(found)])}"


def _several(count: int) -> str:
    return f"{count} {'reply' if count == 1 else 'replies'}"


def _shown(message: Message) -> str:
    text = " ".join(str(message).split()) or "empty"
    return text if len(text) <= _MOST_SHOWN else f"{text[:_MOST_SHOWN]} …"
