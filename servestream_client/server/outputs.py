"""What `StreamService.generate` is given, and what it gives."""

from __future__ import annotations

import enum
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

__all__ = ["Output", "Replay", "Resume"]

Out = TypeVar("Out")


class Replay(enum.Enum):
    """How `StreamService.generate` goes on with an input of which outputs were delivered, when
    their server, or the link to it, is lost.
    """

    NEVER = "never"
    """Not at all: the input fails at the caller, with INTERRUPTED, behind what it had."""
    RESTART = "restart"
    """It gives the same outputs again. It is called as if nothing had been, and the first outputs
    are left out. They are compared by a digest: others than before fail the input, with
    INTERRUPTED, and are never joined to what was delivered."""
    SEEK = "seek"
    """It begins at `Resume.index`, and gives there what it would have given before."""
    CONTINUE = "continue"
    """It goes on after `Resume.outputs`, as it sees fit: what follows need not be what would have
    followed before, and the caller is told where that is so."""


@dataclass(frozen=True, slots=True)
class Resume(Generic[Out]):
    """From where an input is to go on; true if that is not its beginning.

    Attributes:
        index: outputs that were delivered: the next one's index, counted from 0.
        outputs: of these, with `Replay.CONTINUE`, those since the last checkpoint.
        outputs_from: the index of the first of them.
        checkpoint: the last one that was delivered; None: there was none.
    """

    index: int = 0
    outputs: Sequence[Out] = ()
    outputs_from: int = 0
    checkpoint: bytes | None = None

    def __bool__(self) -> bool:
        return self.index > 0


@dataclass(frozen=True, slots=True)
class Output(Generic[Out]):
    """An output with more to it than its value; `generate` may give these or plain outputs.

    Attributes:
        value: the output.
        checkpoint: what `generate` needs to go on behind this output, where `Replay.CONTINUE` says
            that it can; outputs up to here are not given to it again. At most
            `FlowControl.checkpoint_bytes` of either end, less 8 bytes. The client keeps it, and
            cannot be trusted with it.

    Raises:
        TypeError: the checkpoint is not bytes.
    """

    value: Out
    checkpoint: bytes | None = None

    def __post_init__(self) -> None:
        if self.checkpoint is not None and not isinstance(self.checkpoint, bytes):
            raise TypeError(f"a checkpoint must be bytes, not {type(self.checkpoint).__name__}")
