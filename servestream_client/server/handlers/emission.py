"""The outputs of one input, from its generator to the outbox.

Invariant: an output leaves once, at the index that it has from the input's first one on, whatever
the attempt; of what is made again, nothing leaves, and nothing behind it unless its digest is that
of what was delivered. Each input gets one end.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from servestream_client.codecs import Codec, direct, is_bytes_codec
from servestream_client.errors import ItemErrorKind
from servestream_client.protocol.continuation import NO_OUTPUTS, digest
from servestream_client.protocol.runs import Run
from servestream_client.protocol.server.parts import PartsOutbox
from servestream_client.server.checkpoints import wrap
from servestream_client.server.handlers.answers import Failure, exact_bytes, failure_of
from servestream_client.server.outputs import Output, Replay

__all__ = ["Emission"]

_HANDLER, _ENCODE, _INTERRUPTED = (
    ItemErrorKind.HANDLER,
    ItemErrorKind.ENCODE,
    ItemErrorKind.INTERRUPTED,
)


class Emission:
    """See the module.

    Args:
        outbox: of the input's attempt.
        run: the input.
        codec: encodes outputs.
        replay: how its handler goes on.

    Attributes:
        largest: the size of the largest output so far, in bytes.
        skips: how many outputs are still to be made that were delivered.
    """

    __slots__ = (
        "_bytes",
        "_delivered",
        "_digest",
        "_encode",
        "_number",
        "_outbox",
        "_replay",
        "_start_index",
        "largest",
        "skips",
    )

    def __init__(
        self, outbox: PartsOutbox, run: Run, codec: Codec[Any, Any], replay: Replay
    ) -> None:
        self.largest: int = 0
        self.skips: int = 0
        self._outbox = outbox
        self._number = run.first
        self._start_index = run.start_index
        self._replay = replay
        self._bytes = is_bytes_codec(codec)
        self._encode: Callable[[Any], bytes] = direct(codec.encode_output)
        self._digest: bytes | None = NO_OUTPUTS if replay is Replay.CONTINUE else None
        self._delivered = b""

    @property
    def wanted(self) -> bool:
        """Whether anybody waits for more."""
        return self._outbox.wants(self._number)

    @property
    def may_make(self) -> bool:
        """Whether the generator may be asked for its next output. If not, it has to pause."""
        return self.skips > 0 or self._outbox.may_make(self._number)

    def skip(self, delivered: bytes) -> None:
        """The outputs below the start index are made again, and must have this digest."""
        self.skips, self._delivered, self._digest = self._start_index, delivered, NO_OUTPUTS

    def follow(self, delivered: bytes) -> None:
        """Outputs follow upon those below the start index, which have this digest."""
        self._digest = delivered

    def emit(self, output: Any) -> bool:  # noqa: ANN401 — whatever the generator gave
        """The next output.

        Returns:
            Whether another may be made at once. If not: see `wanted` and `may_make`.
        """
        checkpoint: bytes | None = None
        try:
            kind = type(output)
            if kind is not bytes and issubclass(kind, Output):
                checkpoint, output = output.checkpoint, output.value
            if self._bytes and type(output) is bytes:
                payload = output
            else:
                payload = self._encode(output)
                if type(payload) is not bytes:
                    payload = exact_bytes(payload)
            if checkpoint is not None:
                checkpoint = exact_bytes(checkpoint)
        except BaseException as error:
            self.fail(failure_of(_ENCODE, error))
            return False
        if checkpoint is not None and self._replay is not Replay.CONTINUE:
            self.fail(_USELESS)
            return False
        size = len(payload)
        self.largest = max(self.largest, size)
        if self._digest is not None:
            self._digest = digest(self._digest, (payload,))
            if self.skips:
                return self._skip()
            if checkpoint is not None:
                checkpoint = wrap(self._digest, checkpoint)
        return self._outbox.output(self._number, payload, checkpoint=checkpoint)

    def _skip(self) -> bool:
        self.skips -= 1
        if self.skips:
            return True
        if self._digest != self._delivered:
            self.interrupt("and its handler, which is to give the same outputs again, gave others")
            return False
        self._digest = None
        return self._outbox.may_make(self._number)

    def end(self) -> None:
        """There are no more outputs."""
        if self.skips:
            made = self._start_index - self.skips
            self.interrupt(
                f"and its handler, which is to give the same outputs again, gave only {made}"
            )
        else:
            self._outbox.close(self._number)

    def interrupt(self, why: str) -> None:
        """It cannot go on from what was delivered."""
        text = f"cut after {self._start_index} outputs, {why}"
        self._outbox.fail(self._number, _INTERRUPTED, text)

    def fail(self, failure: Failure) -> None:
        """There are no more outputs, since something failed."""
        self._outbox.fail(self._number, failure.kind, failure.text)


_USELESS = Failure(
    _HANDLER, "generate gave a checkpoint, which only a service with Replay.CONTINUE can use"
)
