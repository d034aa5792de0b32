"""Whether a stream is let in: what a service learns of it, and how it says no."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from servestream_client.errors import ConfigurationError
from servestream_client.protocol.frames import RefusalKind

__all__ = ["RefusalKind", "Refuse", "StreamRequest"]


class Refuse(Exception):  # noqa: N818 — an instruction to the kit, not an error
    """Raise it in `StreamService.admit` to turn a stream away.

    Args:
        text: for people; it reaches the caller.
        kind: overloaded by default: the client comes again.
        retry_after: seconds until then; None: the client's policy decides.
    """

    def __init__(
        self,
        text: str,
        *,
        kind: RefusalKind = RefusalKind.OVERLOADED,
        retry_after: float | None = None,
    ) -> None:
        if retry_after is not None and not 0 <= retry_after < float("inf"):
            raise ConfigurationError("Refuse(retry_after=...) takes seconds, not below 0")
        if not isinstance(kind, RefusalKind):
            raise ConfigurationError("Refuse(kind=...) takes a RefusalKind")
        text = str(text)  # so that whatever it is can be sent
        super().__init__(text)
        self.text: str = text
        self.kind = kind
        self.retry_after = retry_after


@dataclass(frozen=True, slots=True)
class StreamRequest:
    """What a service learns of a stream before it takes it.

    Attributes:
        stream_id: in hex, the same on every attempt.
        attempt: counted from 1.
        parameters: as the client gave them.
        metadata: of the gRPC call, where the server hands it on.
    """

    stream_id: str
    attempt: int
    parameters: Mapping[str, str]
    metadata: Mapping[str, str] = field(default_factory=dict)
