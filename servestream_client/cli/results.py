"""What a job makes sure of before a result of its stream counts."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from servestream_client.cli.job import Stream
from servestream_client.cli.problems import Problem
from servestream_client.errors import ItemError
from servestream_client.outputs import Numbered

__all__ = ["refuse_state", "renumbered"]


def refuse_state(stream: Stream) -> None:
    """A job is not for services that keep a state from item to item. Call it once a result came,
    and before it counts.

    Raises:
        Problem: it is such a service.
    """
    if stream.statistics().stateful:
        raise Problem(
            "the service keeps a state from item to item, which --resume does not keep: leave that"
            " out, or use the cursors of a StreamClient, which hold the state"
        )


def renumbered(
    stream: Stream, number_of: Callable[[int], int]
) -> Iterator[Numbered[bytes] | ItemError]:
    """Results whose failures, also the one that ends it, say which item of the input they are."""
    try:
        for result in stream:
            if isinstance(result, ItemError):
                result.number = number_of(result.number)
            yield result
    except ItemError as error:
        error.number = number_of(error.number)
        raise
