"""What all lanes have in common: a stream that is fed by hand, at a server that it is routed to.

Invariant: a lane ends once, when its stream does, and settles what it carried; one that retires
takes nothing more, and one that has nothing to carry retires after a while, or when it breaks.
"""

from __future__ import annotations

import abc
import asyncio

from servestream_client.protocol.frames import Load, Welcome
from servestream_client.session.driver import OpenLane, StreamDriver
from servestream_client.session.outage import Outage
from servestream_client.session.outcome import AttemptFailed
from servestream_client.usercode import unforeseen

__all__ = ["Lane"]


class Lane(abc.ABC):
    """See the module.

    Args:
        open_stream: starts its stream.
        outage: that of a lane which failed while what this one is for waited.
        tentative: others have room, so it takes nothing before it has come to a server: where all
            places are taken that may be long.
    """

    def __init__(
        self, open_stream: OpenLane, outage: Outage | None, *, tentative: bool = False
    ) -> None:
        self.retiring: bool = False
        self.ended: bool = False
        self._tentative = tentative
        self._idle: asyncio.TimerHandle | None = None
        self._known: tuple[Welcome | None, Load | None] = None, None
        self._opened = asyncio.get_running_loop().time()
        self.driver: StreamDriver = open_stream(
            on_arrival=self._arrived, on_break=self._attempt_failed, outage=outage
        )
        self._session = self.driver.session
        self._window = self.driver.inlet.window  # when `_has_opened` was asked
        self._outage = self.driver.outage

    @property
    def replica(self) -> str:
        """The server that it is at, or was last; empty: none so far."""
        welcome = self._session.welcome
        return "" if welcome is None else welcome.replica

    @property
    @abc.abstractmethod
    def carried(self) -> int:
        """How much it carries."""

    def is_for(self, made: float) -> bool:
        """Whether it takes what was made then. While it goes on with another lane's outage, what
        was made since has more patience than is left to it.
        """
        if self.retiring or (self._outage.inherited and made > self._opened):
            return False
        return not self._tentative or bool(self.replica)

    def retire(self) -> None:
        """Take nothing more, and end once what is under way is answered."""
        if not self.retiring:
            self.retiring = True
            self.driver.inlet.finish()

    # ---------------------------------------------------------------- for each kind of them

    @abc.abstractmethod
    def _deliver(self) -> None:
        """There may be something to take, or the end."""

    @abc.abstractmethod
    def _settle(self, error: BaseException | None) -> None:
        """It has ended: settle what it carried, and tell its owner."""

    def _news(self) -> bool:
        """Whether it has come to a server, or heard of its load, since this was asked."""
        welcome, load = self._known
        session = self._session
        if session.welcome is welcome and session.load is load:
            return False
        self._known = session.welcome, session.load
        return True

    def _has_opened(self) -> bool:
        """Whether its window has grown since this was asked."""
        window, self._window = self._window, self.driver.inlet.window
        return self._window > window

    def _works(self) -> None:
        """It has something to carry."""
        if self._idle is not None:
            self._idle.cancel()
            self._idle = None

    def _rests(self, seconds: float) -> None:
        """It may have nothing to carry: then it ends after so many."""
        if self.carried or self.retiring or self._idle is not None:
            return
        # Not in the context of whatever happened to be the last.
        self._idle = asyncio.get_running_loop().call_later(
            seconds, self.retire, context=self.driver.context
        )

    def _end(self, error: BaseException | None) -> None:
        if self.ended:
            return
        self.ended = self.retiring = True
        self._works()
        self._settle(error)

    # ---------------------------------------------------------------- from the driver

    def _arrived(self) -> None:
        try:
            self._deliver()
        except Exception as bug:  # which would leave others waiting
            self._end(unforeseen(bug))
            self.driver.abandon(unforeseen(bug))

    def _attempt_failed(self, _: AttemptFailed) -> None:
        if not self.carried:
            self.retire()  # there is nothing to come back for
