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
from servestream_client.server.handlers.items import AsyncItems
from servestream_client.server.handlers.threads import ThreadedItems

__all__ = ["batch_handler", "item_handler"]


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
