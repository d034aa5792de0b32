"""One input, by whatever codec: its payload, or why it has none."""

from __future__ import annotations

from collections.abc import Callable

from servestream_client.errors import InputEncodeError, InputTooLargeError, ItemErrorKind
from servestream_client.usercode import contained, describe, type_name

__all__ = ["THE_ONLY_INPUT", "encoded"]

THE_ONLY_INPUT = 1
"""A call or a generation is a stream of one input."""


def encoded(encode: Callable[[object], bytes], item: object, max_item_bytes: int) -> bytes:
    """The payload of a call's input.

    Raises:
        ItemError: the codec cannot encode it, or it is too large.
    """
    try:
        payload = encode(item)
        if not issubclass(type(payload), bytes):
            raise TypeError(f"the codec made a {type_name(payload)}, not bytes")
        size = len(payload)
    except BaseException as error:
        failure = contained(error, "the codec")
        raise InputEncodeError(
            THE_ONLY_INPUT, ItemErrorKind.INPUT_ENCODE, describe(failure), input=item
        ) from failure
    if size > max_item_bytes:
        raise InputTooLargeError(
            THE_ONLY_INPUT,
            ItemErrorKind.INPUT_TOO_LARGE,
            f"{size} bytes encoded, and FlowControl.max_item_bytes is {max_item_bytes}",
            input=item,
        )
    return payload
