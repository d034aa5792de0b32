"""Calls of stubs of one's own that survive their servers: no kit is needed there.

So::

    async with ResumableClient("127.0.0.1:9000", RowsStub, application="rows") as client:
        rows = client.call(lambda stub: stub.Read, ReadRequest(), by_field("row", into="start"))
        async for row in rows:
            ...

See docs/how-to/own-stubs.md.
"""

from servestream_client.errors import NotResumableError
from servestream_client.resume.call import DeliveredReplies, ResumedCall
from servestream_client.resume.check import assert_resumable
from servestream_client.resume.client import ResumableClient
from servestream_client.resume.exchange import Answers, by_key, in_order
from servestream_client.resume.strategies import (
    Resumption,
    by_field,
    by_skip,
    by_state,
    by_token,
)
from servestream_client.transport.statuses import Decision

__all__ = [
    "Answers",
    "Decision",
    "DeliveredReplies",
    "NotResumableError",
    "ResumableClient",
    "ResumedCall",
    "Resumption",
    "assert_resumable",
    "by_field",
    "by_key",
    "by_skip",
    "by_state",
    "by_token",
    "in_order",
]
