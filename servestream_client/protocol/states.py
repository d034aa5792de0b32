"""The two state machines of an attempt. Every transition of the protocol stands in this file.

One table a role, as `docs/protocol.md` draws them: from a state and an event to the next state.
What is not in a table is not allowed. When the event was the peer's doing, that is the peer's
protocol error; when it was ours, it is a bug. This file knows neither sessions nor frames: it can
say that inputs may not follow the client's end, but not what an input is.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from typing import TYPE_CHECKING, TypeVar

from servestream_client.errors import LocalProtocolError, RemoteProtocolError

__all__ = [
    "CLIENT",
    "SERVER",
    "ClientEvent",
    "ClientState",
    "ServerEvent",
    "ServerState",
    "local_step",
    "peer_step",
]


class _Name(enum.Enum):
    """A member is its own and only instance, so identity will do: the tables are consulted for
    every frame, and the hash of `enum.Enum` is a function written in Python.
    """

    if not TYPE_CHECKING:  # for which it is no override of the kind that it wants
        __hash__ = object.__hash__


class ClientState(_Name):
    """Where the client's present attempt stands."""

    IDLE = "no attempt is under way"
    OPENING = "the open frame is on its way, and nothing came back yet"
    STREAMING = "welcomed: inputs go out, outputs come in"
    DRAINING = "the server is leaving: no new inputs, outputs come in"
    ENDED = "the server has confirmed the stream's end"
    LEFT = "drained: whatever was sent here is answered"
    REFUSED = "the server does not take the stream"
    FAILED = "the server has given the stream up"


class ClientEvent(_Name):
    """What moves it. BEGIN, MOVE and LEAVE are the client's own, LOST is the link's, the rest
    frames.
    """

    BEGIN = "a new attempt"
    WELCOME = "welcome frame"
    REFUSAL = "refused frame"
    ANSWER = "outputs, item errors or tokens"
    DRAIN = "drain frame"
    END = "end frame"
    FAILURE = "stream error frame"
    MOVE = "the client wants to go elsewhere"
    LEAVE = "everything sent is answered after a drain"
    LOST = "the call is over, or abandoned"


class ServerState(_Name):
    """Where an attempt stands at its server."""

    AWAITING_OPEN = "nothing came yet"
    DECIDING = "the open frame is valid; the service may still refuse"
    SERVING = "inputs come in, outputs go out"
    FINISHING = "the client has sent its end; outputs go out"
    DRAINING = "leaving: what was sent is still answered"
    LINGERING = "the last frame is out; the client's half-close is awaited"
    CLOSED = "over, and both ends know"
    ABANDONED = "the client is gone; nobody wants the outputs"


class ServerEvent(_Name):
    """What moves it. OPEN, INPUT, CLIENT_END and HALF_CLOSE are the client's, the rest ours."""

    OPEN = "open frame"
    WELCOME = "the service takes the stream"
    REFUSE = "the service, or the protocol, refuses it"
    INPUT = "inputs"
    CLIENT_END = "the client's end"
    DRAIN = "this server is leaving"
    END = "every input is answered, and the end frame goes out"
    FAIL = "this server gives the stream up"
    HALF_CLOSE = "the client has nothing more to say, or is gone"


_C, _CE = ClientState, ClientEvent

CLIENT: Mapping[tuple[ClientState, ClientEvent], ClientState] = {
    (_C.IDLE, _CE.BEGIN): _C.OPENING,
    (_C.OPENING, _CE.WELCOME): _C.STREAMING,
    (_C.OPENING, _CE.REFUSAL): _C.REFUSED,
    (_C.OPENING, _CE.FAILURE): _C.FAILED,
    (_C.STREAMING, _CE.ANSWER): _C.STREAMING,
    (_C.STREAMING, _CE.DRAIN): _C.DRAINING,
    (_C.STREAMING, _CE.MOVE): _C.DRAINING,
    (_C.STREAMING, _CE.END): _C.ENDED,
    (_C.STREAMING, _CE.FAILURE): _C.FAILED,
    (_C.DRAINING, _CE.ANSWER): _C.DRAINING,
    (_C.DRAINING, _CE.DRAIN): _C.DRAINING,
    (_C.DRAINING, _CE.END): _C.ENDED,
    (_C.DRAINING, _CE.FAILURE): _C.FAILED,
    (_C.DRAINING, _CE.LEAVE): _C.LEFT,
    #
    # An end that crosses the client's leaving is still a good end.
    (_C.LEFT, _CE.END): _C.ENDED,
    #
    # A call may be over in any state but IDLE.
    (_C.OPENING, _CE.LOST): _C.IDLE,
    (_C.STREAMING, _CE.LOST): _C.IDLE,
    (_C.DRAINING, _CE.LOST): _C.IDLE,
    (_C.ENDED, _CE.LOST): _C.IDLE,
    (_C.LEFT, _CE.LOST): _C.IDLE,
    (_C.REFUSED, _CE.LOST): _C.IDLE,
    (_C.FAILED, _CE.LOST): _C.IDLE,
}

_S, _SE = ServerState, ServerEvent

SERVER: Mapping[tuple[ServerState, ServerEvent], ServerState] = {
    (_S.AWAITING_OPEN, _SE.OPEN): _S.DECIDING,
    (_S.AWAITING_OPEN, _SE.REFUSE): _S.LINGERING,
    (_S.AWAITING_OPEN, _SE.FAIL): _S.LINGERING,
    (_S.AWAITING_OPEN, _SE.HALF_CLOSE): _S.ABANDONED,
    (_S.DECIDING, _SE.WELCOME): _S.SERVING,
    (_S.DECIDING, _SE.REFUSE): _S.LINGERING,
    (_S.DECIDING, _SE.FAIL): _S.LINGERING,
    (_S.DECIDING, _SE.HALF_CLOSE): _S.ABANDONED,
    (_S.SERVING, _SE.INPUT): _S.SERVING,
    (_S.SERVING, _SE.CLIENT_END): _S.FINISHING,
    (_S.SERVING, _SE.DRAIN): _S.DRAINING,
    (_S.SERVING, _SE.FAIL): _S.LINGERING,
    (_S.SERVING, _SE.HALF_CLOSE): _S.ABANDONED,
    (_S.FINISHING, _SE.DRAIN): _S.FINISHING,
    (_S.FINISHING, _SE.END): _S.LINGERING,
    (_S.FINISHING, _SE.FAIL): _S.LINGERING,
    # A client that half-closes before the end has stopped listening.
    (_S.FINISHING, _SE.HALF_CLOSE): _S.ABANDONED,
    #
    # Inputs and an end that were on their way when the drain went out are served as well.
    (_S.DRAINING, _SE.INPUT): _S.DRAINING,
    (_S.DRAINING, _SE.CLIENT_END): _S.FINISHING,
    (_S.DRAINING, _SE.DRAIN): _S.DRAINING,
    (_S.DRAINING, _SE.FAIL): _S.LINGERING,
    (_S.DRAINING, _SE.HALF_CLOSE): _S.CLOSED,
    #
    # What a client wrote before it read our last frame is dropped unread.
    (_S.LINGERING, _SE.OPEN): _S.LINGERING,
    (_S.LINGERING, _SE.INPUT): _S.LINGERING,
    (_S.LINGERING, _SE.CLIENT_END): _S.LINGERING,
    (_S.LINGERING, _SE.DRAIN): _S.LINGERING,
    (_S.LINGERING, _SE.HALF_CLOSE): _S.CLOSED,
    (_S.CLOSED, _SE.HALF_CLOSE): _S.CLOSED,
    (_S.ABANDONED, _SE.HALF_CLOSE): _S.ABANDONED,
}

_State = TypeVar("_State", ClientState, ServerState)
_Event = TypeVar("_Event", ClientEvent, ServerEvent)


def peer_step(
    table: Mapping[tuple[_State, _Event], _State], state: _State, event: _Event
) -> _State:
    """The state after something that the peer did.

    Raises:
        RemoteProtocolError: the peer may not do that now.
    """
    try:
        return table[state, event]
    except KeyError:
        raise RemoteProtocolError(
            f"{event.value} may not come in state {state.name} ({state.value})"
        ) from None


def local_step(
    table: Mapping[tuple[_State, _Event], _State], state: _State, event: _Event
) -> _State:
    """The state after something that this end did.

    Raises:
        LocalProtocolError: this end may not do that now; a bug.
    """
    try:
        return table[state, event]
    except KeyError:
        raise LocalProtocolError(f"{event.name} in state {state.name}") from None
