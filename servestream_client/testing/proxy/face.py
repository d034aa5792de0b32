"""The proxy as tests use it: from any thread, in blocking and in async code."""

from __future__ import annotations

import secrets
import threading
from collections.abc import Callable
from typing import Self, TypeVar

import anyio
import anyio.to_thread
from anyio.from_thread import BlockingPortal, BlockingPortalProvider

from servestream_client.testing.network import CutKind, NetworkFault, require
from servestream_client.testing.proxy.core import Core
from servestream_client.testing.proxy.sockets import resolve

__all__ = ["FaultProxy"]

_provider = BlockingPortalProvider()

T = TypeVar("T")


class FaultProxy:
    """A proxy on 127.0.0.1 in front of one server, for tests; see the package.

    Used as a context manager, blocking or async, or with `start` and `stop`. A server where nobody
    listens looks like that through the proxy, too: the connection is reset.

    Args:
        target: the server's ``host:port``.
        port: the proxy's own; 0: one that is free.
        seed: of what is drawn at random; None: a random one. It stands in the proxy's repr.
        on_event: is told in a line what happens to connections, in the proxy's thread. It must
            not call the proxy's methods.

    Raises:
        ConfigurationError: the target is no ``host:port``, or its name is unknown.
    """

    def __init__(
        self,
        target: str,
        *,
        port: int = 0,
        seed: int | None = None,
        on_event: Callable[[str], None] | None = None,
    ) -> None:
        self._port = port
        self._seed = secrets.randbits(32) if seed is None else seed
        self._core = Core(target, self._seed, on_event)
        # Serialises the threads that use the proxy: none must ask a loop that another one ends.
        self._lock = threading.Lock()
        self._portal: BlockingPortal | None = None
        self._thread: int | None = None

    def start(self) -> None:
        """Listen. Harmless when it does already; after `stop`, on the same port again.

        Raises:
            OSError: the port is taken.
        """
        self._check_thread()
        with self._lock:
            if self._portal is not None:
                return
            portal = _provider.__enter__()
            try:
                self._port = portal.call(self._core.listen, self._port)
                self._thread = portal.call(threading.get_ident)
            except BaseException:
                _provider.__exit__(None, None, None)
                raise
            self._portal = portal

    def stop(self) -> None:
        """Reset what is open, stop listening, and end the thread with the last proxy.

        Harmless twice.
        """
        self._check_thread()
        with self._lock:
            portal, self._portal = self._portal, None
            if portal is None:
                return
            try:
                portal.call(self._core.shut)
            finally:
                self._thread = None
                _provider.__exit__(None, None, None)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    async def __aenter__(self) -> Self:
        await anyio.to_thread.run_sync(self.start)
        return self

    async def __aexit__(self, *_: object) -> None:
        with anyio.CancelScope(shield=True):
            await anyio.to_thread.run_sync(self.stop)

    @property
    def target(self) -> str:
        """Where the proxy listens, or did: ``127.0.0.1:port``.

        Raises:
            RuntimeError: it has no port yet.
        """
        if not self._port:
            raise RuntimeError("the proxy has no port before its start")
        return f"127.0.0.1:{self._port}"

    @property
    def upstream(self) -> str:
        """Where new connections go. May be set at any time; open connections stay as they are.

        Raises:
            ConfigurationError: it is no ``host:port``, or its name is unknown.
        """
        return self._core.upstream

    @upstream.setter
    def upstream(self, target: str) -> None:
        addresses = resolve(target)
        self._run(lambda: self._core.go_to(target, addresses))

    def add(self, *faults: NetworkFault) -> None:
        """Put faults in force. The same fault added twice counts as two.

        Raises:
            ConfigurationError: something is no fault of a network.
        """
        for fault in faults:
            require(isinstance(fault, NetworkFault), f"{fault!r} is no fault of a network")
        self._run(lambda: self._core.add(faults))

    def remove(self, *faults: NetworkFault) -> None:
        """End faults; those that are not in force, a `Cut` that is used up for one, do not mind."""
        self._run(lambda: self._core.remove(faults))

    def clear(self) -> None:
        """End all faults. What has fired stays in `fired`."""
        self._run(self._core.clear)

    def cut(self, how: CutKind = CutKind.RESET) -> int:
        """End all connections now, whatever is on its way; how many there were.

        Raises:
            ConfigurationError: they cannot end so.
        """
        require(how in tuple(CutKind), "how must be a CutKind")
        return self._run(lambda: self._core.cut(how))

    @property
    def faults(self) -> list[NetworkFault]:
        """Those in force."""
        return self._core.in_force.faults

    @property
    def fired(self) -> list[NetworkFault]:
        """Those that had an effect, each once, in the order of their first."""
        return list(self._core.in_force.fired)

    @property
    def connections(self) -> int:
        """How many clients are connected."""
        return len(self._core.links)

    @property
    def accepted(self) -> int:
        """How many clients have connected since the proxy was made."""
        return self._core.accepted

    def __repr__(self) -> str:
        own = f"127.0.0.1:{self._port}" if self._port else "not started"
        return f"FaultProxy({own} -> {self.upstream}, seed={self._seed})"

    def _run(self, func: Callable[[], T]) -> T:
        """Call something where the connections live, or here while there is no such place."""
        self._check_thread()
        with self._lock:
            return func() if self._portal is None else self._portal.call(func)

    def _check_thread(self) -> None:
        if self._thread == threading.get_ident():
            raise RuntimeError("on_event must not call the proxy's methods")
