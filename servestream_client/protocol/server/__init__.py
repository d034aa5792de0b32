"""The server's side of one attempt, as pure state machines.

Each module is above those below it in the list.

    session   the state machine; the order of effects within a frame
    intake    which inputs came, and which may be started
    outbox    the answers, until their turn has come
    parts     the same of a handler that gives many outputs
    ready     those whose turn has come, until they leave within credit and frames (`ready_parts`)
    inputs    which inputs have no answer yet
    resumes   whether what is said of an input that was cut can be so
    opening   which streams the server takes, and on which terms
"""

from servestream_client.protocol.server.opening import ServerOffer
from servestream_client.protocol.server.session import ServerSession

__all__ = ["ServerOffer", "ServerSession"]
