"""From a user's method to answers: decode, call, encode.

Whatever user code does, each of its inputs gets exactly one answer; a cancelled call's inputs are
the workers' to answer.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from servestream_client.codecs import Codec
from servestream_client.server.calls import Handler
from servestream_client.server.handlers.batches import Batches
from servestream_client.server.handlers.generators import AsyncGenerators
from servestream_client.server.handlers.items import AsyncItems
from servestream_client.server.handlers.resuming import Source
from servestream_client.server.handlers.thread_generators import ThreadGenerators
from servestream_client.server.handlers.threads import ThreadedItems

__all__ = ["Source", "batch_handler", "generator_handler", "item_handler"]


def item_handler(predict: Callable[[Any], Any], codec: Codec[Any, Any], places: int) -> Handler:
    """A handler that calls `predict` with one input at a time, up to `places` times at once."""
    if inspect.iscoroutinefunction(predict):
        return AsyncItems(predict, codec)
    return ThreadedItems(predict, codec, places)


def batch_handler(
    predict_batch: Callable[[list[Any]], Any], codec: Codec[Any, Any], places: int
) -> Handler:
    """A handler that calls `predict_batch` with what it is given."""
    return Batches(predict_batch, codec, places)


def generator_handler(source: Source, places: int) -> Handler:
    """A handler that calls `generate` for each input, up to `places` generators at once."""
    if inspect.isasyncgenfunction(source.generate):
        return AsyncGenerators(source)
    return ThreadGenerators(source, places)
