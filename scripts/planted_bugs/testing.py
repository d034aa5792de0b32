"""Planted bugs in what is there for tests."""

from __future__ import annotations

from .bug import Bug

BUGS = (
    # ------------------------------------------------------------------ for tests
    Bug(
        "a marked fault that never fires passes",
        "Trial.check",
        "        if missing:",
        "        if False:",
        "test_a_fault_that_never_fires_fails_the_test_and_is_named",
    ),
    Bug(
        "a killed server keeps its connections",
        "StreamServer._disconnect",
        "        self._proxy.cut()\n",
        "",
        "test_the_connections_of_a_killed_server_are_reset",
    ),
    Bug(
        "a service that is made anew for each life is not",
        "StreamServer._crash",
        "        self.service = self._make()\n        self._proxy",
        "        self._proxy",
        "test_services_and_clients_of_ones_own",
    ),
    Bug(
        "a cut comes one byte late",
        "Shaping._rooms",
        "yield fault.after_bytes - self._passed",
        "yield 1 + fault.after_bytes - self._passed",
        "test_proxy.py",
    ),
    Bug(
        "a reset is an orderly end",
        "Link.end",
        "            if how == CutKind.RESET:\n                reset(side)",
        "            if False:\n                reset(side)",
        "test_proxy.py",
    ),
    Bug(
        "a link that is deaf passes on what it gets",
        "Link.deaf",
        "return bool(deaf)",
        "return False",
        "test_proxy.py",
    ),
    Bug(
        "a delay delays nothing",
        "Shaping.held_until",
        "if due <= now:",
        "if True:",
        "test_proxy.py",
    ),
)
