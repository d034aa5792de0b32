"""What a state costs that travels: streams with one against streams with the same work and none."""

from __future__ import annotations

import asyncio
from importlib.util import find_spec

from benchmarks.bench import Bench, Suite
from benchmarks.measure import Contender, MeasurementError, Way, calibrate, seconds
from benchmarks.results import Measurement, Unit
from benchmarks.servers import Mode, PlainServers
from benchmarks.suites.failover import longest
from benchmarks.suites.latency import ours_open
from servestream_client import FlowControl, StreamClient
from servestream_client.config import MIB

ITEM = bytes(range(100))
STATE = 1000
STATES = {"1 kB": 1000, "1 MB": 1_000_000}
CROWD = 100
CROWD_INPUTS = 60
FAILOVER = FlowControl(window_items=20, window_bytes=8 * MIB, checkpoint_bytes=2 * MIB)
"""Little is under way, so that a state comes often, however large it is."""


async def run(bench: Bench) -> None:
    """Part by part.

    Raises:
        MeasurementError: these are no servers of our own, or the speech model is not installed.
    """
    servers = bench.servers
    if not isinstance(servers, PlainServers):
        raise MeasurementError("only servers without Ray Serve are measured here")
    if find_spec("silero_vad") is None or find_spec("onnxruntime") is None:
        raise MeasurementError("Silero VAD is not installed: `make demo-state` brings it")
    await _one_stream(bench, "a def that does nothing", "", "nothing", [ITEM])
    await _one_stream(bench, "an async def that does nothing", "a", "nothing", [ITEM])
    await _one_stream(bench, "Silero VAD", "", "speech", _chunks())
    await _crowd(bench)
    for name, size in STATES.items():
        await _resume(bench, servers, name, size)


def _chunks() -> list[bytes]:
    # Not at the top: it takes NumPy and the speech extra.
    from servestream_client.demo.state.speech import chunks, recording  # noqa: PLC0415

    return chunks(recording(1, 8.0))


def _application(handler: str, work: str, size: int = STATE, tag: str = "") -> str:
    return f"folds:{handler}:{work}:{size}{tag and ':' + tag}"


def _streaming(client: StreamClient[bytes, bytes], inputs: list[bytes], streams: int) -> Contender:
    """So many streams at once, with as many inputs together as are asked for."""

    async def one(count: int) -> None:
        items = (inputs[number % len(inputs)] for number in range(count))
        found = 0
        async for _ in client.stream(items, lanes=1):
            found += 1
        if found != count:
            raise MeasurementError(f"{count} inputs, and {found} outputs")

    async def all_of_them(count: int) -> None:
        await asyncio.gather(*(one(count // streams) for _ in range(streams)))

    return Contender("ours", all_of_them, least=streams)


def _rate(contender: Contender, items: int) -> Way:
    async def once() -> float:
        return items / await seconds(contender, items)

    return once


async def _one_stream(bench: Bench, name: str, kind: str, work: str, inputs: list[bytes]) -> None:
    """A stateful stream against one without a state, whose handler does the same, an input at a
    time, as a fold must.
    """
    async with (
        bench.servers.client(_application(f"{kind}step", work, tag="alone")) as folding,
        bench.servers.client(_application(f"{kind}predict", work, tag="alone")) as plain,
    ):
        ways: dict[str, Way] = {}
        for way, client in (("stateful", folding), ("one-to-one", plain)):
            bench.say(f"{name}: warming up {way}")
            contender = _streaming(client, inputs, 1)
            ways[way] = _rate(contender, await calibrate(contender, bench.settings.seconds))
        rates = await bench.alternate(ways, unit="items/s", where=name)
    bench.compare(f"one stream, {name}, over one-to-one", rates["stateful"], rates["one-to-one"])


async def _crowd(bench: Bench) -> None:
    """Many streams of speech, one input after the other and in batches."""
    name, inputs = f"{CROWD} streams, Silero VAD, step_batch over step", _chunks()
    async with (
        bench.servers.client(_application("step", "speech")) as single,
        bench.servers.client(_application("step_batch", "speech")) as batched,
    ):
        items = CROWD * (10 if bench.settings.quick else CROWD_INPUTS)
        ways = {
            "step": _rate(_streaming(single, inputs, CROWD), items),
            "step_batch": _rate(_streaming(batched, inputs, CROWD), items),
        }
        rates = await bench.alternate(ways, unit="items/s", where=name)
    bench.compare(name, rates["step_batch"], rates["step"])


async def _resume(bench: Bench, servers: PlainServers, name: str, size: int) -> None:
    """The pause when the server dies, beyond that of a stream without a state."""
    pauses = await bench.alternate(
        {
            "stateful": _killed(servers, "astep", size),
            "one-to-one": _killed(servers, "apredict", size),
        },
        unit="s",
        where=f"resume, {name}",
    )
    both = zip(pauses["stateful"], pauses["one-to-one"], strict=True)
    beyond = [1000 * (stateful - plain) for stateful, plain in both]
    label = f"resume with a state of {name}, beyond one-to-one"
    bench.measured(Measurement(name=label, unit=Unit.MILLISECONDS, values=beyond))


def _killed(servers: PlainServers, handler: str, size: int) -> Way:
    endpoints = [_application(handler, "nothing", size, tag) for tag in ("first", "second")]

    async def once() -> float:
        targets = [servers.require(each) for each in endpoints]
        async with (
            StreamClient(targets, flow=FAILOVER) as client,
            ours_open(client, lanes=1) as (one, stream),
        ):
            await one()
            pause = await longest(servers, endpoints, stream.statistics().endpoint, one)
            statistics = stream.statistics()
            if statistics.resumes != 1 or (handler == "astep" and not statistics.tokens):
                raise MeasurementError("there was no resume, or no state")
            return pause

    return once


SUITE = Suite(
    name="stateful",
    about="streams with a state that travels, against streams without one",
    run=run,
    modes=(Mode.PLAIN,),
    applications=(),
)
