"""What a delivery queue hands out: single outputs of consecutive inputs, outputs of one input, and
what else becomes of one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from servestream_client.protocol.client.partial import Seam
from servestream_client.protocol.frames import ItemFailure, OutputRun

__all__ = ["Delivery", "Part", "Ready"]


@dataclass(frozen=True, slots=True)
class Delivery:
    """One thing for the consumer: an output, or the failure that stands in an input's place, or
    neither where an input's outputs end without a further one.

    Attributes:
        number: the input's number.
        index: which output of that input.
        payload: the output, if it is one.
        failure: why there is no output, if it failed.
        last: nothing further comes for this input.
        item: of a failed input, what `push` was given with it; None if it was cancelled.
        cause: of an input that failed on this side, the exception.
        size: of a failed input, the bytes that it counts for until this is taken.
    """

    number: int
    index: int
    payload: bytes | None
    failure: ItemFailure | None
    last: bool
    item: object = None
    cause: BaseException | None = None
    size: int = 0


@dataclass(slots=True)
class Part:
    """Outputs of one input, of which there may be others.

    Attributes:
        number: the input's.
        first_index: of the first of them.
        payloads: at least one.
        last: nothing further comes for this input.
        seam: how they join the outputs before them, if another server made those.
    """

    number: int
    first_index: int
    payloads: Sequence[bytes]
    last: bool
    seam: Seam | None = None

    def take(self, limit: int) -> Part:
        """The first of them, as many as `limit`, which is less than there are."""
        taken = Part(
            self.number, self.first_index, self.payloads[:limit], last=False, seam=self.seam
        )
        self.payloads, self.seam = self.payloads[limit:], None
        self.first_index += limit
        return taken


class Ready:
    """Single outputs of consecutive inputs; what was taken is kept no longer."""

    __slots__ = ("_own", "first", "payloads")

    def __init__(self, first: int, payloads: Sequence[bytes]) -> None:
        self.first: int = first
        self.payloads: Sequence[bytes] = payloads
        self._own: list[bytes] | None = None  # the same, once some were taken

    def take(self, limit: int) -> OutputRun:
        """The next outputs, as many as `limit`, which is less than there are."""
        taken = OutputRun(self.first, self.payloads[:limit])
        if self._own is None:  # a frame is not ours to change
            self.payloads = self._own = list(self.payloads[limit:])
        else:
            del self._own[:limit]
        self.first += limit
        return taken
