"""Settings from the environment."""

from dataclasses import fields

import pytest

from servestream_client import (
    ConfigurationError,
    FlowControl,
    RetryPolicy,
    StreamClient,
    SyncStreamClient,
    Watchdog,
    environment,
)
from servestream_client.environment import names, policy
from servestream_client.testing import Echo, StreamServer


@pytest.mark.parametrize("kind", [RetryPolicy, FlowControl, Watchdog])
def test_every_field_has_a_variable_that_sets_it(kind, monkeypatch):
    assert policy(kind) == kind()
    assert list(names(kind).values()) == [field.name for field in fields(kind)]
    for name, field in names(kind).items():
        with monkeypatch.context() as environment:
            value = 1 if field == "hedge" else 5  # a share
            environment.setenv(name, str(value))
            assert policy(kind) == kind(**{field: value})


def test_numbers_of_every_kind(monkeypatch):
    monkeypatch.setenv("SERVESTREAM_RETRY_INITIAL", "0.25")
    monkeypatch.setenv("SERVESTREAM_RETRY_ATTEMPTS", "7")
    monkeypatch.setenv("SERVESTREAM_RETRY_GIVE_UP_AFTER", "None")
    assert policy(RetryPolicy) == RetryPolicy(initial=0.25, attempts=7, give_up_after=None)


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        (
            "SERVESTREAM_RETRY_ATEMPTS",
            "3",
            r"no setting \(is it SERVESTREAM_RETRY_ATTEMPTS\?\)",
        ),
        ("SERVESTREAM_RETRY_PORTS", "3", "no setting; there are SERVESTREAM_RETRY_ATTEMPTS"),
        ("SERVESTREAM_RETRY_ATTEMPTS", "many", "must be a whole number, not 'many'"),
        ("SERVESTREAM_RETRY_ATTEMPTS", "none", "must be a whole number, not 'none'"),
        ("SERVESTREAM_RETRY_ATTEMPTS", "", "must be a whole number, not ''"),
        ("SERVESTREAM_RETRY_ATTEMPTS", "0", r"at least 1 \(from the environment: SERVESTREAM_RETR"),
        ("SERVESTREAM_RETRY_MAXIMUM", "none", "must be a number, not 'none'"),
        ("SERVESTREAM_WATCHDOG_ITEM_TIMEOUT", "5s", "must be a number, or none, not '5s'"),
        ("SERVESTREAM_FLOW_WINDOW_BYTES", "4e6", "must be a whole number, not '4e6'"),
    ],
)
@pytest.mark.parametrize("face", [StreamClient, SyncStreamClient])
def test_a_mistake_is_said_when_a_client_is_made(face, name, value, expected, monkeypatch):
    monkeypatch.setenv(name, value)
    with pytest.raises(ConfigurationError, match=expected):
        face("127.0.0.1:9000")


def test_a_client_without_arguments_goes_where_the_environment_says(monkeypatch):
    with StreamServer(Echo) as server:
        monkeypatch.setenv("SERVESTREAM_TARGET", server.target)
        with SyncStreamClient() as client:
            assert client.predict(b"one") == b"one"
        monkeypatch.setenv("SERVESTREAM_APPLICATION", "another")
        with SyncStreamClient() as client:
            assert "application='another'" in repr(client)


def test_arguments_go_before_it(monkeypatch):
    monkeypatch.setenv("SERVESTREAM_TARGET", "elsewhere:1")
    monkeypatch.setenv("SERVESTREAM_APPLICATION", "another")
    monkeypatch.setenv("SERVESTREAM_RETRY_ATTEMPTS", "0")
    client = SyncStreamClient("here:1", application="this", retry=RetryPolicy())
    assert "'here:1', application='this'" in repr(client)
    client.close()


def test_without_any_target_there_is_no_client(monkeypatch):
    monkeypatch.delenv("SERVESTREAM_TARGET", raising=False)
    with pytest.raises(ConfigurationError, match="SERVESTREAM_TARGET in the environment"):
        StreamClient()


# ------------------------------------------------------------------ names that are none

KUBERNETES = {
    "SERVICE_HOST": "10.0.0.1",
    "SERVICE_PORT": "9000",
    "SERVICE_PORT_GRPC": "9000",
    "SERVICE_PORT_HTTP_METRICS": "9000",
    "PORT": "tcp://10.0.0.1:9000",
    "PORT_9000_TCP": "tcp://10.0.0.1:9000",
    "PORT_9000_TCP_PROTO": "tcp",
    "PORT_9000_TCP_PORT": "9000",
    "PORT_9000_TCP_ADDR": "10.0.0.1",
    "PORT_53_UDP": "udp://10.0.0.1:53",
    "PORT_53_UDP_ADDR": "10.0.0.1",
    "PORT_36412_SCTP_PROTO": "sctp",
}


@pytest.fixture
def untold(monkeypatch):
    monkeypatch.setattr(environment, "_told", set())


@pytest.mark.parametrize("service", ["", "_RETRY", "_FLOW", "_WATCHDOG", "_CANARY", "_RETRY_V2"])
def test_what_kubernetes_sets_for_a_service_of_that_name_is_ignored(monkeypatch, untold, service):
    for name, value in KUBERNETES.items():
        monkeypatch.setenv(f"SERVESTREAM{service}_{name}", value)
    monkeypatch.setenv("SERVESTREAM_RETRY_ATTEMPTS", "7")
    SyncStreamClient("127.0.0.1:9000").close()  # a warning would be an error
    assert policy(RetryPolicy) == RetryPolicy(attempts=7)
    assert policy(FlowControl) == FlowControl()
    monkeypatch.setenv("SERVESTREAM_RETRY_ATTEMPTS", "0")
    with pytest.raises(ConfigurationError, match=r"environment: SERVESTREAM_RETRY_ATTEMPTS\)$"):
        policy(RetryPolicy)


@pytest.mark.parametrize(
    ("name", "nearest"),
    [
        ("SERVESTREAM_TRAGET", r" \(is it SERVESTREAM_TARGET\?\)"),
        ("SERVESTREAM_APLICATION", r" \(is it SERVESTREAM_APPLICATION\?\)"),
        ("SERVESTREAM_RETRYATTEMPTS", r" \(is it SERVESTREAM_RETRY_ATTEMPTS\?\)"),
        ("SERVESTREAM_ITEM_TIMEOUT", ""),
        ("SERVESTREAM_PORT_OF_CALL", ""),
        ("SERVESTREAM_", ""),
    ],
)
@pytest.mark.parametrize("face", [StreamClient, SyncStreamClient])
def test_a_name_that_is_no_setting_is_told_once(monkeypatch, untold, face, name, nearest):
    monkeypatch.setenv(name, "x")
    monkeypatch.setenv("SERVESTREAMING", "of no concern")
    with pytest.warns(UserWarning, match=f"{name} is no setting.*{nearest}, and is ig") as caught:
        face("127.0.0.1:9000")
    assert len(caught) == 1
    assert caught[0].filename == __file__, "it points at who made the client"
    face("127.0.0.1:9000")
