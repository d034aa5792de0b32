"""When a stateful stream's client gets the state, so that another server can go on from there.

Pure: the figures come from the stream.
"""

from __future__ import annotations

from dataclasses import dataclass

from servestream_client.config import check_count, check_number
from servestream_client.errors import ConfigurationError

__all__ = ["Tokens"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Tokens:
    """How often states are sent, at the most as often as `share` allows. Also where that does not,
    one is sent when the client has no room for more inputs, when the server leaves, and at the end.

    Attributes:
        inputs: one behind so many inputs.
        payload_bytes: or behind inputs and outputs of so many bytes.
        seconds: or so many seconds after the last one.
        share: which part of a stream's bytes states may be.
    """

    inputs: int = 64
    payload_bytes: int = 1024 * 1024
    seconds: float = 2.0
    share: float = 0.05

    def __post_init__(self) -> None:
        for name in ("inputs", "payload_bytes"):
            check_count(f"Tokens.{name}", getattr(self, name))
        for name in ("seconds", "share"):
            check_number(f"Tokens.{name}", getattr(self, name))
        if not self.seconds > 0:
            raise ConfigurationError("Tokens.seconds must be positive")
        if not 0 < self.share <= 1:
            raise ConfigurationError("Tokens.share must lie between 0 and 1")

    def due(
        self, inputs: int, size: int, seconds: float, *, traffic: int, sent: int, last: int
    ) -> bool:
        """Whether a state is to be sent now.

        Args:
            inputs: since the last one.
            size: of these and their outputs, in bytes.
            seconds: since it.
            traffic: bytes of all inputs and outputs so far.
            sent: bytes of all states so far.
            last: of the last one, or of one that is like it.
        """
        often = inputs >= self.inputs or size >= self.payload_bytes or seconds >= self.seconds
        return inputs > 0 and often and sent + last <= self.share * traffic
