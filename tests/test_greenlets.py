"""Patched threads are refused in words; other patches, and modules that are only there, are not.

The processes that are really patched are in tests/surroundings.
"""

import asyncio
import sys
from types import ModuleType

import pytest

from servestream_client import ConfigurationError, StreamClient, SyncStreamClient
from servestream_client.testing import StreamServer


def patcher(monkeypatch, name: str, question: str, patched: set[str]) -> None:
    module = ModuleType(name)
    setattr(module, question, lambda asked: asked in patched)
    monkeypatch.setitem(sys.modules, name, module)


CASES = pytest.mark.parametrize(
    ("name", "question", "threads"),
    [
        ("gevent.monkey", "is_module_patched", "threading"),
        ("eventlet.patcher", "is_monkey_patched", "thread"),
    ],
)


@CASES
@pytest.mark.parametrize("face", [StreamClient, SyncStreamClient])
def test_no_client_is_made_where_threads_are_patched(monkeypatch, face, name, question, threads):
    patcher(monkeypatch, name, question, {threads, "socket", "select"})
    with pytest.raises(ConfigurationError, match=rf"^{name.split('.')[0]} has replaced .*threads"):
        face("127.0.0.1:1")
    with pytest.raises(ConfigurationError, match="threads"):
        StreamServer().start()


@CASES
def test_a_client_made_before_the_patch_says_so_at_first_use(monkeypatch, name, question, threads):
    client, asynchronous = SyncStreamClient("127.0.0.1:1"), StreamClient("127.0.0.1:1")
    patcher(monkeypatch, name, question, {threads})
    with pytest.raises(ConfigurationError, match="threads"):
        client.predict(b"x")
    with pytest.raises(ConfigurationError, match="threads"):
        list(client.stream([b"x"]))

    async def use():
        await asynchronous.predict(b"x")

    with pytest.raises(ConfigurationError, match="threads"):
        asyncio.run(use())
    client.close()


@CASES
def test_other_patches_are_nobodys_business(monkeypatch, name, question, threads):
    patcher(monkeypatch, name, question, {"socket", "select", "time", "os", "ssl"})
    with StreamServer() as server, SyncStreamClient(server.target) as client:
        assert client.predict(b"x") == b"x"
    monkeypatch.setitem(sys.modules, name, ModuleType(name))  # a version without the question
    SyncStreamClient("127.0.0.1:1").close()
