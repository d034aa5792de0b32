"""Inputs as a server's handler gets them, one at a time."""

from typing import NamedTuple

from servestream_client.protocol.server import ServerSession


class Input(NamedTuple):
    """One input for the handler.

    Attributes:
        number: its number in the stream.
        payload: as the client's codec made it.
        start_index: outputs below this index are already received.
    """

    number: int
    payload: bytes
    start_index: int = 0


def next_input(server: ServerSession) -> Input | None:
    """What the server starts next; None: nothing."""
    run = server.intake.next_run(1)
    return Input(run.first, run.payloads[0], run.start_index) if run else None
