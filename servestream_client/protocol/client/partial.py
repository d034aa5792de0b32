"""What was received of an input whose last output was not: all that it takes to go on with it.

Invariant: `index` outputs were accepted, each once and in their order, all of them made on the same
terms; `digest` is of exactly these. Where a handler is given outputs, they are kept from
`outputs_from` on without a gap, or, once they weigh too much, not at all until the next checkpoint.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from servestream_client.errors import printable
from servestream_client.protocol.continuation import NO_OUTPUTS, ResumeTerms, digest
from servestream_client.protocol.frames import (
    RESUME_BYTES,
    RESUMED_OUTPUT_BYTES,
    Limits,
    Replay,
    Resume,
)

__all__ = ["Partial", "Seam"]


@dataclass(frozen=True, slots=True)
class Seam:
    """Where the outputs of one server join those of another.

    Attributes:
        index: of the first output behind it.
        replay: how its handler went on.
        before: the replica of the outputs before it.
        after: that of those behind it.
    """

    index: int
    replay: Replay
    before: str
    after: str


class Partial:
    """One input that was answered in part.

    Args:
        terms: of the server whose output came first.
        limit: what its continuation may weigh, in bytes.
    """

    __slots__ = (
        "_limit",
        "checkpoint",
        "digest",
        "index",
        "kept_bytes",
        "outputs",
        "outputs_from",
        "server",
        "terms",
        "too_large",
    )

    def __init__(self, terms: ResumeTerms, limit: int) -> None:
        self.terms: ResumeTerms = terms
        self.index: int = 0
        """The next output's."""
        self.digest: bytes = NO_OUTPUTS
        self.checkpoint: bytes | None = None
        self.outputs_from: int = 0
        """The index of the first output after the checkpoint."""
        self.outputs: list[bytes] = []
        self.kept_bytes: int = 0
        """What the continuation weighs."""
        self.server: tuple[object, str] | None = None
        """Whose output came last: its attempt, and its replica's name."""
        self.too_large: bool = False
        """Whether that is more than it may, so that it cannot be continued for now."""
        self._limit = limit

    def seam(self, attempt: object, replica: str) -> Seam | None:
        """Outputs come on this attempt now; how they join those before them, if that was another.

        Args:
            attempt: which one, among those of all streams.
            replica: the name of its server.
        """
        before = self.server
        if before is not None and before[0] is attempt:
            return None
        self.server = attempt, replica
        if before is None or before[0] == attempt:
            return None
        return Seam(self.index, self.terms.replay, before[1], replica)

    def receive(self, payloads: Sequence[bytes], checkpoint: bytes | None = None) -> None:
        """The next outputs were accepted; the checkpoint, if there is one, stands behind them."""
        self.index += len(payloads)
        if not self.terms.resumable:
            return
        self.digest = digest(self.digest, payloads)
        if self.terms.replay is not Replay.CONTINUE:
            return
        if checkpoint is not None:
            self.checkpoint, self.outputs_from = checkpoint, self.index
            self.outputs.clear()
            self.kept_bytes = len(checkpoint)
        elif not self.too_large:
            self.outputs += payloads
            self.kept_bytes += sum(map(len, payloads)) + len(payloads) * RESUMED_OUTPUT_BYTES
        else:
            return
        self.too_large = self.kept_bytes > self._limit
        if self.too_large:
            self.outputs.clear()
            self.checkpoint, self.kept_bytes = None, 0

    def drop(self) -> None:
        """Nobody will go on with it: keep no more than what is said of it."""
        self.outputs.clear()
        self.checkpoint, self.kept_bytes, self.too_large = None, 0, True

    def why_not(self, terms: ResumeTerms, limits: Limits, payload_bytes: int) -> str:
        """Why a server cannot go on with it; empty: it can.

        Args:
            terms: on which the server goes on with inputs.
            limits: what it accepts.
            payload_bytes: of the input.
        """
        if not self.terms.resumable:
            return "and its handler says that it cannot go on with an input that was cut"
        if terms.fingerprint != self.terms.fingerprint:
            now, then = printable(terms.fingerprint, 100), printable(self.terms.fingerprint, 100)
            return f"and what answers now is of another fingerprint ({now!r}, not {then!r})"
        if terms.replay is not self.terms.replay:
            return (
                f"and what answers now goes on in another way ({terms.replay.name}, not"
                f" {self.terms.replay.name})"
            )
        if self.too_large:
            return (
                f"and what it takes to go on exceeds FlowControl.continuation_bytes, {self._limit}"
            )
        checkpoint, size = len(self.checkpoint or b""), self.resume_bytes
        if not limits.chunked_bytes:  # or else the payload goes before it
            size += payload_bytes
        if checkpoint > limits.token_bytes:
            return (
                f"and its checkpoint has {checkpoint} bytes, where the server accepts"
                f" {limits.token_bytes}"
            )
        if size > limits.frame_bytes:
            return (
                f"and with what it takes to go on it has {size} bytes, where the server accepts"
                f" {limits.frame_bytes}"
            )
        return ""

    @property
    def resume_bytes(self) -> int:
        """What the next server is given weighs, about."""
        return RESUME_BYTES + self.kept_bytes

    def resume(self) -> Resume:
        """What the next server is given."""
        if self.terms.replay is not Replay.CONTINUE:
            return Resume(self.digest)
        return Resume(self.digest, self.checkpoint, self.outputs_from, tuple(self.outputs))
