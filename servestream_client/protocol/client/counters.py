"""What happened to a stream so far, in figures."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["ClientCounters"]


@dataclass(slots=True)
class ClientCounters:
    """What happened to a stream so far.

    Attributes:
        attempts: calls begun.
        welcomes: attempts that a server took.
        sent: inputs sent, each counted once.
        replayed: inputs sent again.
        received: outputs and item errors accepted.
        duplicates: outputs and item errors dropped because they were received before.
        stale: frames ignored because they belonged to an older attempt.
        isolated: inputs that were answered on another stream, or blamed there, since they were
            suspected of breaking servers.
        by_lanes: inputs that were answered on a lane.
        outside: outputs and item errors that came by other streams, those of lanes included.
        token_refusals: attempts in a row that servers refused, which could not go on with the
            state.
        tokens: states that came of a stateful handler.
        token_bytes: theirs together.
    """

    attempts: int = 0
    welcomes: int = 0
    sent: int = 0
    replayed: int = 0
    received: int = 0
    duplicates: int = 0
    stale: int = 0
    isolated: int = 0
    by_lanes: int = 0
    outside: int = 0
    token_refusals: int = 0
    tokens: int = 0
    token_bytes: int = 0
