"""What users are told of a stream's progress, in numbers."""

from __future__ import annotations

from collections.abc import Sequence

from servestream_client.events import LaneStatistics, StreamStatistics
from servestream_client.protocol.client import ClientSession

__all__ = ["statistics_of"]


def statistics_of(
    session: ClientSession,
    *,
    pulled: int,
    attempts: int,
    endpoint: str,
    lanes: Sequence[LaneStatistics],
    hedged: int,
) -> StreamStatistics:
    """What happened to a stream so far.

    Args:
        session: its state.
        pulled: inputs, from the caller.
        attempts: calls made for it.
        endpoint: where the last one went.
        lanes: of each way of its inputs.
        hedged: how many inputs went to a second server.
    """
    counters, welcome = session.counters, session.welcome
    return StreamStatistics(
        accepted=pulled,
        sent=counters.sent,
        replayed=counters.replayed,
        received=counters.received + counters.outside,
        taken_through=session.ledger.taken_through - session.ledger.before,
        duplicates=counters.duplicates,
        isolated=counters.isolated,
        attempts=attempts,
        resumes=max(0, counters.welcomes - 1),
        replica=welcome.replica if welcome else "",
        code_version=welcome.code_version if welcome else "",
        stream_id=session.stream_id.hex(),
        endpoint=endpoint,
        lanes=lanes,
        hedged=hedged,
        tokens=counters.tokens,
        token_bytes=counters.token_bytes,
        stateful=session.carried.stateful,
    )
