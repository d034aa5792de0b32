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
)
from servestream_client.environment import names, policy
from servestream_client.testing import Echo, StreamServer


@pytest.mark.parametrize("kind", [RetryPolicy, FlowControl, Watchdog])
def test_every_field_has_a_variable_that_sets_it(kind, monkeypatch):
    assert policy(kind) == kind()
    assert list(names(kind).values()) == [field.name for field in fields(kind)]
    for name, field in names(kind).items():
        with monkeypatch.context() as environment:
            environment.setenv(name, "5")
            assert policy(kind) == kind(**{field: 5})


def test_numbers_of_every_kind(monkeypatch):
    monkeypatch.setenv("SERVESTREAM_RETRY_INITIAL", "0.25")
    monkeypatch.setenv("SERVESTREAM_RETRY_ATTEMPTS", "7")
    monkeypatch.setenv("SERVESTREAM_RETRY_GIVE_UP_AFTER", "None")
    assert policy(RetryPolicy) == RetryPolicy(initial=0.25, attempts=7, give_up_after=None)


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("SERVESTREAM_RETRY_ATEMPTS", "3", "no setting; there are SERVESTREAM_RETRY_ATTEMPTS"),
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
