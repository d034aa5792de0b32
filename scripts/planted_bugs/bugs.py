"""All planted bugs: an area of the package has a file of its own."""

from __future__ import annotations

from . import (
    chunks,
    codecs,
    compression,
    deployment,
    endpoints,
    generations,
    jobs,
    many,
    other,
    protocol,
    resume,
    server,
    session,
    state,
    testing,
    transport,
)

BUGS = (
    *protocol.BUGS,
    *chunks.BUGS,
    *compression.BUGS,
    *session.BUGS,
    *server.BUGS,
    *many.BUGS,
    *generations.BUGS,
    *jobs.BUGS,
    *deployment.BUGS,
    *endpoints.BUGS,
    *transport.BUGS,
    *codecs.BUGS,
    *resume.BUGS,
    *state.BUGS,
    *testing.BUGS,
    *other.BUGS,
)


def as_markdown() -> str:
    """The table of all bugs."""
    rows = ["| what is broken | in | a test that fails |", "|---|---|---|"]
    for bug in BUGS:
        where, _, name = bug.place.rpartition(":")
        said = (
            bug.test.rpartition("::")[2].partition("[")[0].removeprefix("test_").replace("_", " ")
        )
        rows.append(f"| {bug.name} | `{name or where}` | {said} |")
    return "\n".join(rows)
