"""The two transition tables: what may follow what."""

from collections.abc import Mapping
from enum import Enum

import pytest

from servestream_client.errors import LocalProtocolError, RemoteProtocolError
from servestream_client.protocol.states import (
    CLIENT,
    SERVER,
    ClientEvent,
    ClientState,
    ServerEvent,
    ServerState,
    local_step,
    peer_step,
)

ROLES = [
    pytest.param(CLIENT, ClientState, ClientEvent, id="client"),
    pytest.param(SERVER, ServerState, ServerEvent, id="server"),
]
ILLEGAL = [
    pytest.param(table, state, event, id=f"{name}-{state.name}-{event.name}")
    for name, table, states, events in (
        ("client", CLIENT, ClientState, ClientEvent),
        ("server", SERVER, ServerState, ServerEvent),
    )
    for state in states
    for event in events
    if (state, event) not in table
]


def reachable(table: Mapping[tuple[Enum, Enum], Enum], start: Enum) -> set[Enum]:
    seen, ahead = {start}, [start]
    while ahead:
        here = ahead.pop()
        for (state, _), target in table.items():
            if state is here and target not in seen:
                seen.add(target)
                ahead.append(target)
    return seen


def allowed(table: Mapping[tuple[Enum, Enum], Enum], event: Enum) -> set[Enum]:
    return {state for state, known in table if known is event}


@pytest.mark.parametrize(("table", "states", "events"), ROLES)
def test_every_state_is_reachable_from_the_first(table, states, events):
    assert reachable(table, next(iter(states))) == set(states)


@pytest.mark.parametrize(("table", "states", "events"), ROLES)
def test_every_event_is_allowed_somewhere(table, states, events):
    assert {event for _, event in table} == set(events)


@pytest.mark.parametrize(("table", "state", "event"), ILLEGAL)
def test_what_is_not_in_a_table_is_the_peers_error_or_our_bug(table, state, event):
    with pytest.raises(RemoteProtocolError, match=state.name):
        peer_step(table, state, event)
    with pytest.raises(LocalProtocolError, match=state.name):
        local_step(table, state, event)


@pytest.mark.parametrize(("table", "states", "events"), ROLES)
def test_what_is_in_a_table_gives_the_next_state_whoever_did_it(table, states, events):
    for (state, event), target in table.items():
        assert peer_step(table, state, event) is target
        assert local_step(table, state, event) is target


# ------------------------------------------------------------------ the client's rules


def test_a_clients_attempt_begins_only_when_none_is_under_way():
    assert allowed(CLIENT, ClientEvent.BEGIN) == {ClientState.IDLE}


def test_a_call_may_be_over_in_any_state_in_which_there_is_one():
    assert allowed(CLIENT, ClientEvent.LOST) == set(ClientState) - {ClientState.IDLE}
    for state in allowed(CLIENT, ClientEvent.LOST):
        assert CLIENT[state, ClientEvent.LOST] is ClientState.IDLE


@pytest.mark.parametrize("event", [ClientEvent.WELCOME, ClientEvent.REFUSAL])
def test_a_greeting_comes_only_once(event):
    assert allowed(CLIENT, event) == {ClientState.OPENING}


def test_answers_come_only_between_welcome_and_the_last_word():
    assert allowed(CLIENT, ClientEvent.ANSWER) == {ClientState.STREAMING, ClientState.DRAINING}


def test_only_a_drained_client_leaves_without_an_end():
    assert allowed(CLIENT, ClientEvent.LEAVE) == {ClientState.DRAINING}


def test_of_what_crosses_the_clients_leaving_only_an_end_counts():
    assert peer_step(CLIENT, ClientState.LEFT, ClientEvent.END) is ClientState.ENDED
    events = {event for state, event in CLIENT if state is ClientState.LEFT}
    assert events == {ClientEvent.END, ClientEvent.LOST}


@pytest.mark.parametrize(
    "state", [ClientState.ENDED, ClientState.REFUSED, ClientState.FAILED], ids=lambda s: s.name
)
def test_after_the_servers_last_word_only_the_call_ends(state):
    assert {event for known, event in CLIENT if known is state} == {ClientEvent.LOST}


# ------------------------------------------------------------------ the server's rules


def test_inputs_may_not_follow_the_clients_end():
    with pytest.raises(RemoteProtocolError):
        peer_step(SERVER, ServerState.FINISHING, ServerEvent.INPUT)


def test_the_clients_end_comes_only_once():
    with pytest.raises(RemoteProtocolError):
        peer_step(SERVER, ServerState.FINISHING, ServerEvent.CLIENT_END)


def test_inputs_are_not_touched_before_the_service_has_decided():
    for state in (ServerState.AWAITING_OPEN, ServerState.DECIDING):
        with pytest.raises(RemoteProtocolError):
            peer_step(SERVER, state, ServerEvent.INPUT)


def test_a_stream_is_opened_once():
    for state in (ServerState.DECIDING, ServerState.SERVING, ServerState.FINISHING):
        with pytest.raises(RemoteProtocolError):
            peer_step(SERVER, state, ServerEvent.OPEN)


def test_a_server_ends_only_after_the_client_did():
    assert allowed(SERVER, ServerEvent.END) == {ServerState.FINISHING}


def test_a_half_close_may_come_at_any_time():
    assert allowed(SERVER, ServerEvent.HALF_CLOSE) == set(ServerState)


@pytest.mark.parametrize(
    "state",
    [
        ServerState.AWAITING_OPEN,
        ServerState.DECIDING,
        ServerState.SERVING,
        ServerState.FINISHING,
    ],
    ids=lambda s: s.name,
)
def test_a_half_close_before_the_servers_last_word_means_that_the_client_is_gone(state):
    assert peer_step(SERVER, state, ServerEvent.HALF_CLOSE) is ServerState.ABANDONED


@pytest.mark.parametrize("state", [ServerState.DRAINING, ServerState.LINGERING])
def test_a_half_close_after_the_last_word_or_a_drain_is_a_good_close(state):
    assert peer_step(SERVER, state, ServerEvent.HALF_CLOSE) is ServerState.CLOSED


@pytest.mark.parametrize(
    "event", [ServerEvent.OPEN, ServerEvent.INPUT, ServerEvent.CLIENT_END], ids=lambda e: e.name
)
def test_a_lingering_server_drops_what_the_client_wrote_before_it_read_the_last_frame(event):
    assert peer_step(SERVER, ServerState.LINGERING, event) is ServerState.LINGERING


@pytest.mark.parametrize("state", [ServerState.CLOSED, ServerState.ABANDONED])
def test_nothing_leads_out_of_a_servers_terminal_states(state):
    assert reachable(SERVER, state) == {state}


def test_every_server_state_leads_to_a_terminal_one():
    for state in ServerState:
        assert reachable(SERVER, state) & {ServerState.CLOSED, ServerState.ABANDONED}


def test_what_crossed_a_drain_is_served():
    assert peer_step(SERVER, ServerState.DRAINING, ServerEvent.INPUT) is ServerState.DRAINING
    assert peer_step(SERVER, ServerState.DRAINING, ServerEvent.CLIENT_END) is ServerState.FINISHING
    assert local_step(SERVER, ServerState.FINISHING, ServerEvent.DRAIN) is ServerState.FINISHING
