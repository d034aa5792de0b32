"""What it takes to blame a request for breaking its servers."""

from __future__ import annotations

from collections.abc import Callable

from servestream_client.errors import ItemError, ItemErrorKind
from servestream_client.protocol.client import Part
from servestream_client.session.encoding import THE_ONLY_INPUT
from servestream_client.session.outcome import AttemptFailed
from servestream_client.session.request import Request

__all__ = ["Control", "poison"]


class Control(Request):
    """An input that was answered before, tried again until its first output: to see whether its
    server still answers anything.
    """

    __slots__ = ("_on_end",)

    def __init__(self, payload: bytes, on_end: Callable[[], None]) -> None:
        super().__init__(None, payload)
        self._on_end = on_end

    def add(self, part: Part) -> None:
        super().add(part)
        self.drop()

    def end(self, error: BaseException | None = None) -> None:
        if not self.ended:
            self._on_end()
        super().end(error)


def poison(request: Request, failed: AttemptFailed) -> ItemError:
    """The verdict on one that broke its servers alone, the last time like this."""
    return ItemError(
        THE_ONLY_INPUT,
        ItemErrorKind.POISON,
        f"its server broke {request.lone_breaks} times in a row on this input alone, and answered"
        f" others meanwhile; last: {failed.verdict.reason}",
        index=request.received,
        input=request.item,
    )
