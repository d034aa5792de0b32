"""Which endpoint an attempt goes to, what leaves one out, and what brings it back. In virtual time,
with the whole client above the transport where it is about streams.
"""

import asyncio
import itertools
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import pytest
from virtual_time import connections, in_virtual_time, now

from servestream_client import (
    BytesCodec,
    FlowControl,
    RetryPolicy,
    Watchdog,
    WrongApplicationError,
)
from servestream_client.protocol.frames import (
    ClientFrame,
    Drain,
    OutputRun,
    RefusalKind,
    Refused,
    ServerEnd,
    ServerFrame,
    Welcome,
)
from servestream_client.session.connection import Connection
from servestream_client.session.endpoint_pool import EndpointPool
from servestream_client.session.endpoints import Standing
from servestream_client.session.factory import StreamFactory
from servestream_client.session.stream import PredictionStream
from servestream_client.transport.memory import CallFailed, MemoryTransport
from servestream_client.transport.names import Place, Seed

ITEMS = [b"%d" % n for n in range(1, 6)]


@dataclass
class Server:
    """What stands at one place.

    Attributes:
        how: ``well``; ``late``: its connections take some time; ``refusing`` them; ``swallowing``
            packets; ``mute``: connected, and without a word; ``other``: another application;
            ``dying``: after the first output; ``hushed``: after it without a word; ``leaving``
            after the first answers, when it tells of others.
        tells: of these endpoints.
        calls: when it got one.
        probes: when it was seen whether it can be reached.
    """

    how: str = "well"
    tells: tuple[str, ...] = ()
    calls: list[float] = field(default_factory=list)
    probes: list[float] = field(default_factory=list)
    closed: int = 0

    async def __call__(self, requests: AsyncIterator[ClientFrame]) -> AsyncIterator[ServerFrame]:
        self.calls.append(now())
        await asyncio.sleep(0.001)
        if self.how in ("refusing", "swallowing"):
            await asyncio.sleep(0 if self.how == "refusing" else 20)
            raise CallFailed("UNAVAILABLE", "failed to connect to all addresses")
        if self.how == "mute":
            await asyncio.sleep(10_000)
        read = answered = 0
        async for frame in requests:
            if frame.open is not None:
                if self.how == "other":
                    yield ServerFrame(refused=Refused(RefusalKind.APPLICATION, "it is 'other'"))
                    return
                beats = 1000 if self.how == "hushed" else 0
                yield ServerFrame(
                    welcome=Welcome(
                        replica="one",
                        endpoints=() if self.how == "leaving" else self.tells,
                        heartbeat_interval_ms=beats,
                    )
                )
            read += frame.paced
            for run in frame.inputs:
                payloads = run.payloads[:1] if self.how in ("dying", "hushed") else run.payloads
                answered += len(payloads)
                yield ServerFrame(outputs=[OutputRun(run.first_number, payloads)], frames_read=read)
                for after in await self._after_outputs():
                    yield after
            if frame.end is not None:
                yield ServerFrame(end=ServerEnd(frame.end.last_number, answered, answered))

    async def _after_outputs(self) -> list[ServerFrame]:
        how = self.how
        if how == "hushed":
            await asyncio.sleep(10_000)
        if how == "dying":
            self.how = "refusing"
            raise CallFailed("UNAVAILABLE", "Connection reset by peer")
        if how == "leaving":
            self.how = "well"
            return [ServerFrame(drain=Drain(1000, self.tells))]
        return []


class Transport(MemoryTransport):
    def __init__(self, server: Server) -> None:
        super().__init__(server)
        self._server_here = server

    async def probe(self) -> str | None:
        server = self._server_here
        server.probes.append(now())
        await asyncio.sleep({"swallowing": 5, "late": 0.05}.get(server.how, 0.001))
        return "no connection" if server.how in ("refusing", "swallowing") else None

    async def aclose(self) -> None:
        await asyncio.sleep(0.5)
        self._server_here.closed += 1
        await super().aclose()


class Name(Seed):
    """A name that leads where the test says."""

    leads_to: tuple[str, ...] = ()
    asked = 0

    async def look_up(self) -> list[Place]:
        type(self).asked += 1
        await asyncio.sleep(0.001)
        if not self.leads_to:
            raise OSError("no such name")
        return [Place(each, each) for each in self.leads_to]


class Client:
    """The client above the transport.

    Args:
        servers: by the places where they are.
        given: those that it is given; None: all.
    """

    def __init__(
        self, servers: dict[str, Server], given: list[Seed] | None = None, *, discover: bool = True
    ) -> None:
        self.servers = servers
        seeds = given if given is not None else [Seed(at, (Place(at, at),)) for at in servers]
        self.pool = EndpointPool(
            seeds, lambda place: Transport(servers[place.target]), discover=discover
        )
        self.connection = Connection(self.pool)
        connections.append(self.connection)
        self.factory = StreamFactory(
            connection=self.connection,
            codec=BytesCodec(),
            application="",
            retry=RetryPolicy(),
            flow=FlowControl(),
            watchdog=Watchdog(),
            close_timeout=5,
            hooks=(),
        )

    def stream(self, items: Any = ITEMS) -> PredictionStream[bytes]:
        driver = self.factory.stream(items, ordered=True, timeout=None, parameters=None, lanes=1)
        return PredictionStream(
            driver, start=self.connection.start, decode=bytes, return_exceptions=False
        )

    async def run(self) -> tuple[int, str, float]:
        """One stream; its attempts, where it ended, and how long it took."""
        begun, stream = now(), self.stream()
        assert [output async for output in stream] == ITEMS
        statistics = stream.statistics()
        return statistics.attempts, statistics.endpoint, now() - begun


@pytest.mark.parametrize("how", ["refusing", "swallowing"])
def test_one_that_cannot_be_reached_costs_nobody_an_attempt(how):
    async def main():
        client = Client({"a": Server(how), "b": Server()})
        found = [await client.run() for _ in range(10)]
        assert [(attempts, at) for attempts, at, _ in found] == [(1, "b")] * 10
        assert max(seconds for *_, seconds in found) < 0.5
        assert client.servers["a"].calls == []

    in_virtual_time(main())


def test_one_that_says_nothing_costs_its_own_streams_one_attempt():
    async def main():
        client = Client({"a": Server("mute"), "b": Server()})
        found = await asyncio.gather(*(client.run() for _ in range(10)))
        assert {at for _, at, _ in found} == {"b"}
        assert Counter(attempts for attempts, *_ in found) == {1: 5, 2: 5}
        assert max(seconds for *_, seconds in found) < 15.05  # the open's timeout, and no backoff
        assert len(client.servers["a"].calls) == 5
        later = [await client.run() for _ in range(10)]
        assert [attempts for attempts, *_ in later] == [1] * 10

    in_virtual_time(main())


def test_an_attempt_at_one_that_cannot_be_reached_any_more_does_not_wait_for_its_answer():
    async def main():
        client = Client({"a": Server(), "b": Server()})
        await client.run()
        await asyncio.sleep(1)
        for server in client.servers.values():
            server.how = "swallowing"
        waiting = [asyncio.ensure_future(client.run()) for _ in range(4)]
        await asyncio.sleep(16)  # all have asked both in vain
        client.servers["a"].how = "well"
        found = await asyncio.gather(*waiting)
        assert {at for _, at, _ in found} == {"a"}
        took = sorted(seconds for *_, seconds in found)
        assert took[1] < 24  # those at the other one; "a" may be asked what it had not heard
        assert took[-1] < 32

    in_virtual_time(main())


def test_one_behind_which_a_server_fell_silent_is_as_good_as_before():
    async def main():
        client = Client({"a": Server("hushed"), "b": Server("hushed")})
        stream = client.stream(endless())
        assert await anext(stream) == b"1"  # and no heartbeat comes
        for server in client.servers.values():
            server.how = "well"
        assert await anext(stream) == b"2"
        statistics = stream.statistics()
        assert statistics.attempts == 2
        assert [each.standing(now()) for each in client.pool.endpoints] == [Standing.GOOD] * 2
        await stream.aclose()

    in_virtual_time(main())


async def endless():
    for number in itertools.count(1):
        yield b"%d" % number


def test_another_application_is_left_out_for_a_while_that_grows():
    async def main():
        client = Client({"a": Server("other"), "b": Server()})
        while now() < 3600:
            attempts, at, _ = await client.run()
            assert at == "b"
            assert attempts <= 2
            await asyncio.sleep(1)
        calls = client.servers["a"].calls
        gaps = [later - earlier for earlier, later in itertools.pairwise(calls)]
        assert gaps == sorted(gaps)
        assert 30 <= gaps[0] < 40
        assert 600 <= gaps[-1] < 650

    in_virtual_time(main())


def test_where_every_one_is_wrong_the_error_tells_of_each():
    async def main():
        client = Client({"a": Server("other"), "b": Server("other")})
        with pytest.raises(WrongApplicationError) as caught:
            await client.run()
        assert "a: " in str(caught.value)
        assert "b: " in str(caught.value)
        assert sum(len(server.calls) for server in client.servers.values()) == 2

    in_virtual_time(main())


def test_a_break_goes_on_at_another_at_once():
    async def main():
        client = Client({"a": Server(), "b": Server()})
        while (await client.run())[1] != "a":
            pass
        await asyncio.sleep(1)  # it was seen to be well just now
        client.servers["a"].how = "dying"
        while client.servers["a"].how == "dying":
            begun = now()
            await client.run()
            assert now() - begun < 0.05
        found = [await client.run() for _ in range(10)]
        assert [(attempts, at) for attempts, at, _ in found] == [(1, "b")] * 10

    in_virtual_time(main())


def test_one_that_can_be_reached_again_gets_streams_again():
    async def main():
        client = Client({"a": Server("refusing"), "b": Server()})
        await client.run()
        for _ in range(300):
            await asyncio.sleep(1)
            await client.run()
        probes = client.servers["a"].probes
        assert 15 <= len(probes) <= 40  # the pauses grow to 15 s
        client.servers["a"].how = "well"
        back = now()
        while not client.servers["a"].calls:
            assert now() < back + 20
            await asyncio.sleep(1)
            assert (await client.run())[0] == 1

    in_virtual_time(main())


def test_streams_go_where_the_fewest_are():
    async def main():
        client = Client({at: Server() for at in "abc"})
        gate = asyncio.Event()

        async def inputs():
            yield b"1"
            await gate.wait()

        streams = [client.stream(inputs()) for _ in range(9)]
        for stream in streams:
            await anext(stream)
        assert Counter(stream.statistics().endpoint for stream in streams) == dict.fromkeys(
            "abc", 3
        )
        gate.set()
        for stream in streams:
            assert [output async for output in stream] == []

    in_virtual_time(main())


def test_the_first_streams_of_all_spread():
    """Though one of them is there a little earlier."""

    async def main():
        client = Client({"a": Server("late"), "b": Server(), "c": Server("late")})
        gate = asyncio.Event()

        async def inputs():
            yield b"1"
            await gate.wait()

        streams = [client.stream(inputs()) for _ in range(9)]
        await asyncio.gather(*map(anext, streams))
        places = Counter(stream.statistics().endpoint for stream in streams)
        assert places == dict.fromkeys("abc", 3)
        gate.set()
        for stream in streams:
            assert [output async for output in stream] == []

    in_virtual_time(main())


def test_where_all_are_out_whoever_comes_back_first_is_taken():
    async def main():
        client = Client({at: Server("swallowing") for at in "abc"})
        waiting = [asyncio.ensure_future(client.run()) for _ in range(20)]
        await asyncio.sleep(40)
        client.servers["c"].how = "well"
        back = now()
        found = await asyncio.gather(*waiting)
        assert {at for _, at, _ in found} == {"c"}
        took = sorted(seconds - back for *_, seconds in found)
        assert took[-4] < 8  # a probe of 5 s, and its pause
        assert took[-1] < 16  # for those who just tried the others

    in_virtual_time(main())


def test_where_all_stay_out_the_error_says_what_is_with_each():
    async def main():
        client = Client({at: Server("refusing") for at in "ab"})
        with pytest.raises(Exception, match=r"of the other endpoints, [ab]: ") as caught:
            await client.run()
        assert "failed to connect" in str(caught.value)

    in_virtual_time(main())


def test_what_servers_tell_of_is_used_once_it_can_be_reached():
    async def main():
        servers = {
            "127.0.0.1:1": Server(tells=("127.0.0.1:2", "127.0.0.1:3", "no target")),
            "127.0.0.1:2": Server(),
            "127.0.0.1:3": Server("swallowing"),
        }
        client = Client(servers, [Seed("127.0.0.1:1", (Place("127.0.0.1:1", "127.0.0.1:1"),))])
        await client.run()
        await asyncio.sleep(1)
        found = Counter([(await client.run())[1] for _ in range(100)])
        assert set(found) == {"127.0.0.1:1", "127.0.0.1:2"}
        assert servers["127.0.0.1:3"].calls == []
        shy = Client(
            servers, [Seed("127.0.0.1:1", (Place("127.0.0.1:1", "127.0.0.1:1"),))], discover=False
        )
        assert {(await shy.run())[1] for _ in range(20)} == {"127.0.0.1:1"}

    in_virtual_time(main())


def name(*places: str) -> Name:
    class Here(Name):
        leads_to = places

    return Here("name:1", (), object())


def test_a_name_stands_for_all_its_addresses():
    async def main():
        seed = name("a", "b")
        client = Client({at: Server() for at in "ab"}, [seed])
        assert {(await client.run())[1] for _ in range(30)} == {"a", "b"}
        assert type(seed).asked == 1

    in_virtual_time(main())


def test_a_name_that_moves_while_its_server_dies_is_followed():
    async def main():
        seed = name("a")
        client = Client({at: Server() for at in "ab"}, [seed])
        assert (await client.run())[1] == "a"
        client.servers["a"].how = "refusing"
        waiting = [asyncio.ensure_future(client.run()) for _ in range(10)]
        await asyncio.sleep(20)
        type(seed).leads_to = ("b",)
        moved = now()
        found = await asyncio.gather(*waiting)
        assert {at for _, at, _ in found} == {"b"}
        assert now() - moved < 2
        await asyncio.sleep(1)
        assert client.servers["a"].closed == 1
        assert [each.name for each in client.pool.endpoints] == ["b"]

    in_virtual_time(main())


def test_new_addresses_of_a_name_are_found_in_time_and_old_ones_kept_while_they_are_used():
    async def main():
        seed = name("a")
        client = Client({at: Server() for at in "ab"}, [seed])
        gate = asyncio.Event()

        async def inputs():
            yield b"1"
            await gate.wait()
            yield b"2"

        stream = client.stream(inputs())
        assert await anext(stream) == b"1"
        type(seed).leads_to = ("b",)
        await asyncio.sleep(31)
        await client.run()
        await asyncio.sleep(1)
        assert (await client.run())[1] in ("a", "b")
        assert client.servers["a"].closed == 0
        gate.set()
        assert [output async for output in stream] == [b"2"]
        assert stream.statistics().attempts == 1
        await asyncio.sleep(1)
        await client.run()
        assert [each.name for each in client.pool.endpoints] == ["b"]

    in_virtual_time(main())


def test_a_name_that_is_not_known_is_left_to_grpc_whose_words_are_told():
    async def main():
        seed = name()
        client = Client({"name:1": Server("refusing")}, [seed])
        with pytest.raises(Exception, match="failed to connect"):
            await client.run()
        assert type(seed).asked > 1

    in_virtual_time(main())


def test_one_endpoint_is_neither_probed_nor_left_out():
    async def main():
        client = Client({"a": Server("refusing")})
        waiting = asyncio.ensure_future(client.run())
        await asyncio.sleep(2)
        client.servers["a"].how = "well"
        assert (await waiting)[1] == "a"
        assert client.servers["a"].probes == []

    in_virtual_time(main())


def test_one_place_is_one_endpoint_however_it_is_written():
    async def main():
        place = Place("ipv4:127.0.0.1:1", "name:1 (127.0.0.1:1)", authority="name:1")
        told = ("127.0.0.1:1", "ipv4:127.0.0.1:1", "dns:///127.0.0.1:1")
        client = Client({place.target: Server(tells=told)}, [Seed("name:1", (place,))])
        for _ in range(3):
            await client.run()
        assert [each.name for each in client.pool.endpoints] == [place.name]

    in_virtual_time(main())


def test_one_that_has_no_other_is_not_left_out(caplog):
    async def main():
        client = Client({"a": Server("other")}, [name("a")])
        with pytest.raises(WrongApplicationError):
            await client.run()
        assert client.pool.good

    in_virtual_time(main())
    assert "left out" not in caplog.text


def test_that_one_is_left_out_is_said_once(caplog):
    async def main():
        client = Client({"a": Server("other"), "b": Server()})
        await asyncio.gather(*(client.run() for _ in range(10)))

    in_virtual_time(main())
    assert caplog.text.count("a is left out") == 1


def test_a_name_is_asked_for_once_a_second_while_nobody_answers():
    async def main():
        seed = name("a")
        client = Client({"a": Server("refusing")}, [seed])
        waiting = [asyncio.ensure_future(client.run()) for _ in range(20)]
        await asyncio.sleep(4)
        assert 4 <= type(seed).asked <= 6
        for each in waiting:
            each.cancel()
        await asyncio.wait(waiting)

    in_virtual_time(main())


def test_what_a_server_that_leaves_tells_of_is_used():
    async def main():
        servers = {
            "127.0.0.1:1": Server("leaving", tells=("127.0.0.1:2",)),
            "127.0.0.1:2": Server(),
        }
        client = Client(servers, [Seed("127.0.0.1:1", (Place("127.0.0.1:1", "127.0.0.1:1"),))])
        stream = client.stream(endless())
        while stream.statistics().attempts < 2:
            await anext(stream)
        await stream.aclose()
        assert {each.name for each in client.pool.endpoints} == set(servers)

    in_virtual_time(main())


def test_one_that_is_dropped_is_closed_though_the_client_is_closed_meanwhile():
    async def main():
        seed = name("a")
        client = Client({at: Server() for at in "ab"}, [seed])
        await client.run()
        type(seed).leads_to = ("b",)
        await asyncio.sleep(31)
        await client.run()
        while "a" in [each.name for each in client.pool.endpoints]:
            await client.run()
        await client.connection.aclose()
        assert client.servers["a"].closed == 1

    in_virtual_time(main())
