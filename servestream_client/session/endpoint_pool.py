"""The endpoints of a client's target, and which of them an attempt goes to.

An attempt goes to the endpoint with the fewest attempts under way, of those that nothing speaks
against. One to which no connection can be made, that says nothing, or that is not what the client
is for, is left out, and costs each of its streams one attempt; a connection that can be made again
brings it back. Where all are out, one is tried all the same. Rule: docs/protocol.md, section 20.

Invariant: there is at least one endpoint once any was chosen; one that a name no longer leads to is
dropped when nothing is under way there.
"""

from __future__ import annotations

import asyncio
import contextvars
import logging
import math
import random
from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial

from servestream_client.errors import (
    AccessDeniedError,
    CodecMismatchError,
    ConfigurationError,
    NotAServerError,
    StreamError,
    UnreachableError,
    VersionMismatchError,
    WrongApplicationError,
)
from servestream_client.protocol.frames import Load
from servestream_client.session.endpoints import Endpoint, Standing
from servestream_client.signals import start_task
from servestream_client.transport.base import Transport
from servestream_client.transport.classify import Decision, Verdict
from servestream_client.transport.names import Place, Seed, read_seed
from servestream_client.usercode import describe

__all__ = ["EndpointPool"]

logger: logging.Logger = logging.getLogger(__name__)

_FRESH_SECONDS = 30.0
"""After so many a name is looked up again, beside what goes on."""

_STALE_SECONDS = 1.0
"""The same while no endpoint is good."""

_POLL_SECONDS = 0.25
"""How often whoever waits for a good endpoint looks for one, if nobody brings news."""

_MEETING_SECONDS = 0.1
"""How long the first streams of all wait to hear of more than one endpoint: or else all would go to
the quickest."""

_LOOK_UP_SECONDS = 1.0
"""How long one that has endpoints waits for news of them."""

_MOST = 64
"""Endpoints in all: what servers say of others is not to fill the memory."""

_ENDPOINTS_FAULT: frozenset[type[StreamError]] = frozenset(
    {
        AccessDeniedError,
        CodecMismatchError,
        NotAServerError,
        UnreachableError,
        VersionMismatchError,
        WrongApplicationError,
    }
)
"""What a final failure before any welcome says of the endpoint, and not of the stream."""


class EndpointPool:
    """See the module.

    Args:
        seeds: what was given as the target.
        make_transport: how a place is reached.
        discover: whether endpoints are used that servers tell of.
    """

    def __init__(
        self,
        seeds: Sequence[Seed],
        make_transport: Callable[[Place], Transport],
        *,
        discover: bool = True,
    ) -> None:
        self.name: str = ", ".join(seed.text for seed in seeds)
        """For people."""
        self.answered: int = 0
        """How many inputs were answered."""
        self.load: Load | None = None
        """What a server last said of its load."""
        self.many: bool = False
        """Whether an input may have many outputs there, as far as that is known."""
        self.make_transport: Callable[[Place], Transport] = make_transport
        self._names = [seed for seed in seeds if seed.address is not None]
        self._discover = discover
        self._endpoints: dict[str, Endpoint] = {}  # by their places' keys
        self._named: dict[str, list[str]] = {}  # where the names lead, by their texts
        self._looked_up: set[str] = set()  # keys that come from names only
        self._heard: set[str] = set()  # from servers
        self._looked_at = -math.inf
        self._looking: asyncio.Task[None] | None = None
        self._probing: set[Endpoint] = set()
        self._watched: set[Endpoint] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._closing: set[asyncio.Task[None]] = set()  # those that are not to be cancelled
        self._news = asyncio.Event()
        self._met = math.inf  # when the first streams have heard enough
        for place in (place for seed in seeds for place in seed.places):
            self._add(place)
        for endpoint in self._endpoints.values():
            endpoint.unproven = len(self._endpoints) > 1

    # ---------------------------------------------------------------- to look at

    @property
    def single(self) -> bool:
        """Whether there is one place, and never another."""
        return not self._names and len(self._endpoints) == 1

    @property
    def endpoints(self) -> Sequence[Endpoint]:
        """Those that there are at present."""
        return list(self._endpoints.values())

    @property
    def known(self) -> bool:
        """Whether any ever spoke the protocol with this client."""
        return any(endpoint.known for endpoint in self._endpoints.values())

    @property
    def good(self) -> bool:
        """Whether nothing speaks against one of them."""
        return self._best() is Standing.GOOD

    def account(self, but: Endpoint, now: float) -> str:
        """What speaks against the others, for people; empty: nothing."""
        others = [each for each in self._endpoints.values() if each is not but]
        return "; ".join(
            f"{each.name}: {against.reason}"
            for each in others
            if (against := each.against(now)) is not None
        )

    # ---------------------------------------------------------------- which one

    async def choose(self, after: Endpoint | None = None) -> Endpoint:
        """Where the next attempt goes.

        Args:
            after: where the stream's last one broke: another that is as good comes first.
        """
        if self.single:
            return next(iter(self._endpoints.values()))
        await self._refresh()
        while not self._endpoints:  # a look-up was cut short
            await self._refresh()
        self._drop_unnamed()
        self._probe()
        await self._listen()
        now = _now()
        candidates = list(self._endpoints.values())
        best = self._best()
        fit = [each for each in candidates if each.standing(now) is best]
        fit = [each for each in fit if not each.spare] or fit
        return min(fit, key=lambda each: (each is after, _load(each), random.random()))  # noqa: S311 — hides nothing

    async def _listen(self) -> None:
        """Wait for what is being found out, as long as that is worth it."""
        begun = _now()
        self._met = min(self._met, begun + _MEETING_SECONDS)
        while self._probing:
            unproven = any(each.unproven for each in self._probing)
            if self.good:
                left = self._met - _now() if unproven else 0.0
            else:
                left = _POLL_SECONDS if unproven else begun + _MEETING_SECONDS - _now()
            if left <= 0:
                return
            await self._hear(left)

    @contextmanager
    def under_way(self, endpoint: Endpoint, give_up: Callable[[Verdict], None]) -> Iterator[None]:
        """While an attempt goes on there.

        Args:
            endpoint: where.
            give_up: called once it is known that nobody there will answer, while others do.
        """
        endpoint.live.append(give_up)
        self._watch(endpoint)
        try:
            yield
        finally:
            endpoint.live.remove(give_up)

    def elsewhere(self, endpoint: Endpoint, verdict: Verdict, *, welcomed: bool) -> Verdict | None:
        """What the failure of an attempt means, if another endpoint can be tried at once; else
        None.
        """
        if self.single:
            return None
        if verdict.decision is Decision.FAIL:
            if welcomed or verdict.error not in _ENDPOINTS_FAULT or len(self._endpoints) == 1:
                return None
            if endpoint.standing(_now()) is not Standing.REFUSED:  # others may have met it, too
                logger.warning("%s is left out: %s", endpoint.name, verdict.reason)
            endpoint.exclude(verdict)
            if self._best() is Standing.REFUSED:
                return None
            return Verdict(Decision.RESUME, verdict.reason, verdict.error)
        endpoint.question()
        self._probe()
        if endpoint.standing(_now()) is Standing.GOOD or not self.good:
            return None
        return verdict

    async def sleep(self, seconds: float) -> None:
        """Wait, but no longer than until there is an endpoint that nothing speaks against, where
        there is none now.
        """
        if seconds <= 0 or self.single or self.good:
            await asyncio.sleep(seconds)
            return
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self.until_good()

    async def until_good(self) -> None:
        """Until nothing speaks against one of them."""
        while not self.good:
            await self._refresh()
            self._probe()
            await self._hear()

    def learn(self, targets: Sequence[str]) -> None:
        """A server told of others."""
        for target in targets if self._discover else ():
            if target in self._heard or len(self._heard) >= _MOST:
                continue
            self._heard.add(target)
            try:
                seed = read_seed(target)
            except ConfigurationError as error:
                logger.warning("a server told of an endpoint that is none: %s", error)
                continue
            if seed.address is not None and seed not in self._names:
                self._names.append(seed)
                self._looked_at = -math.inf
            for place in seed.places:
                if place.key not in self._endpoints:
                    self._add(place).unproven = True

    async def aclose(self) -> None:
        """Give back all transports; open calls are cancelled."""
        for task in self._tasks - self._closing:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await asyncio.gather(*(each.aclose() for each in self._endpoints.values()))

    # ---------------------------------------------------------------- what is known of them

    def _best(self) -> Standing:
        now = _now()
        standings = [each.standing(now) for each in self._endpoints.values()]
        return min(standings, default=Standing.OUT)

    async def _hear(self, seconds: float = _POLL_SECONDS) -> None:
        """Wait for news, but no longer than that."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._news.wait()

    def _tell(self) -> None:
        """Whoever waits for news looks again."""
        self._news.set()
        self._news.clear()

    def _start(self, coroutine: Coroutine[None, None, None], name: str) -> asyncio.Task[None]:
        # Not in the context of the stream that happens to be the first.
        task = start_task(coroutine, f"servestream {name}", context=contextvars.Context())
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            logger.error("looking after the endpoints of %s failed", self.name, exc_info=error)

    # ---------------------------------------------------------------- whether they can be reached

    def _probe(self) -> None:
        """See which of those that are left out can be reached by now, where that is due."""
        now, urgent = _now(), not self.good
        for endpoint in self._endpoints.values():
            if endpoint not in self._probing and endpoint.probe_due(now, urgent=urgent):
                self._probing.add(endpoint)
                task = self._start(self._probe_one(endpoint), "probe")
                task.add_done_callback(partial(self._probe_over, endpoint))

    def _watch(self, endpoint: Endpoint) -> None:
        """See that attempts do not wait for an answer at one that is not good once another is."""
        if self.single or endpoint in self._watched or not endpoint.live:
            return
        if endpoint.standing(_now()) is not Standing.GOOD:
            self._watched.add(endpoint)
            task = self._start(self._wait_for_better(endpoint), "endpoints")
            task.add_done_callback(lambda _: self._watched.discard(endpoint))

    async def _wait_for_better(self, endpoint: Endpoint) -> None:
        while endpoint.live and (against := endpoint.against(_now())) is not None:
            if self.good:
                for give_up in list(endpoint.live):
                    give_up(against)
            await self._refresh()
            self._probe()
            await self._hear()

    async def _probe_one(self, endpoint: Endpoint) -> None:
        verdict = await endpoint.probe()
        endpoint.unproven = False
        if verdict is not None:
            endpoint.breaker.trip(verdict)
            self._watch(endpoint)
        else:
            endpoint.breaker.half_open()

    def _probe_over(self, endpoint: Endpoint, _: asyncio.Task[None]) -> None:
        self._probing.discard(endpoint)
        self._tell()

    # ---------------------------------------------------------------- names

    async def _refresh(self) -> None:
        """See where the names lead, if that is due. Nobody waits for it who has a good endpoint."""
        if not self._names:
            return
        wanted = not self.good
        age = _now() - self._looked_at
        due = age >= (_STALE_SECONDS if wanted else _FRESH_SECONDS) or not self._endpoints
        if self._looking is None and due:
            self._looking = self._start(self._look_up(), "names")
            self._looking.add_done_callback(self._looked)
        if self._looking is not None and wanted:
            limit = _LOOK_UP_SECONDS if self._endpoints else None
            await asyncio.wait({self._looking}, timeout=limit)

    async def _look_up(self) -> None:
        for seed in self._names:
            self._leads_to(seed, await _places_of(seed))

    def _looked(self, _: asyncio.Task[None]) -> None:
        self._looked_at, self._looking = _now(), None
        self._tell()

    def _leads_to(self, seed: Seed, places: Sequence[Place]) -> None:
        if not places and not self._named.get(seed.text):
            places = [Place(seed.text, seed.text)]  # gRPC says what is wrong with it
        if places:
            self._named[seed.text] = [place.key for place in places]
        several = len(places) > 1 or bool(self._endpoints)
        for place in places:
            if place.key not in self._endpoints:
                self._add(place).unproven = several
                self._looked_up.add(place.key)
        self._drop_unnamed()

    def _drop_unnamed(self) -> None:
        """Let go of what the names no longer lead to."""
        named = {key for keys in self._named.values() for key in keys}
        for key in self._looked_up - named:
            endpoint = self._endpoints[key]
            if not endpoint.live and endpoint not in self._probing:
                del self._endpoints[key]
                self._looked_up.discard(key)
                closing = self._start(endpoint.aclose(), "endpoint")
                self._closing.add(closing)
                closing.add_done_callback(self._closing.discard)

    def _add(self, place: Place) -> Endpoint:
        endpoint = self._endpoints[place.key] = Endpoint(
            place.name,
            partial(self._transport, place),
            direct=bool(place.authority),
            spare=place.spare,
        )
        return endpoint

    def _transport(self, place: Place) -> Transport:
        return self.make_transport(place)


async def _places_of(seed: Seed) -> Sequence[Place]:
    try:
        return await seed.look_up()
    except Exception as error:  # as resolvers have it; of an executor that is shut down, too
        logger.info("%s cannot be looked up: %s", seed.text, describe(error))
        return ()


def _load(endpoint: Endpoint) -> float:
    """Attempts of this client for each server there."""
    servers = endpoint.load.servers if endpoint.load is not None else 1
    return len(endpoint.live) / max(1, servers)


def _now() -> float:
    return asyncio.get_running_loop().time()
