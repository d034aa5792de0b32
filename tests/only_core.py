"""``pytest -p only_core``: no test may open a socket or start a process.

So these tests need no network and no ports, and other processes cannot disturb them.
"""

from __future__ import annotations

import os
import socket
import subprocess
from typing import NoReturn

import grpc.aio
import pytest


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever reaches beyond the test's own process fails it. (An event loop's own pair of sockets
    does not.)
    """

    def refuse(*_: object, **__: object) -> NoReturn:
        raise AssertionError("this test opens a socket or starts a process: it is none of the core")

    for name in ("bind", "connect", "connect_ex", "listen"):
        monkeypatch.setattr(socket.socket, name, refuse)
    for name in ("server", "insecure_channel", "secure_channel"):
        monkeypatch.setattr(grpc.aio, name, refuse)
    monkeypatch.setattr(subprocess, "Popen", refuse)
    monkeypatch.setattr(os, "fork", refuse)
