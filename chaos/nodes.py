"""The command line of what needs two nodes: ``python -m chaos.nodes``."""

from __future__ import annotations

import argparse
import asyncio
import random
import secrets
import sys
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path

from chaos.calls import Caller
from chaos.checker import Violations
from chaos.clients import HEARTBEAT_SECONDS, connect
from chaos.cluster import Cluster, ClusterError
from chaos.deploying import DeployerError
from chaos.items import payload
from chaos.leftovers import Census
from chaos.network import NetworkError, why_not
from chaos.pauses import Pauses, quantiles
from chaos.probe import Probe
from chaos.report import Report, save
from chaos.run import Clock, Load
from chaos.scenarios import BOTH, CALM_SECONDS, SCENARIOS, Scene, Way
from chaos.streams import Pace, Shared, Worker
from chaos.terminal import Say, Terminal
from command_line import interrupt_on_sigterm, parser, several

SKIPPED = 77
"""The exit code when it cannot run here; what automake and others take for a skipped test."""

LIMIT_SECONDS = 240.0
"""Without progress: a node may be cut off, dead and started again meanwhile."""
SILENT_HEARTBEATS = 3
"""After so many intervals without a frame, the watchdog gives a link up."""

_EPILOG = """\
scenarios:
  partition       a node is cut off without a word, and is there again
  node-death      SIGKILL for a node, and its return
  moved           the only replica moves to the other node, and back
  long-partition  a node is cut off until Ray gives it up (not by default: two minutes)

examples:
  python -m chaos.nodes
  python -m chaos.nodes --scenarios partition --partition 40
  python -m chaos.nodes --no-watchdog --json build/nodes.json --plot build/nodes.png

It needs root, Linux and `ip`: each node gets a network namespace of its own. Where that cannot be,
it says so and exits with 77. Exits with 1 if an item was lost, duplicated, out of order or wrong,
or if a stream did not move although it could.
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what was asked for. Returns the process's exit code."""
    options = asked().parse_args(arguments)
    terminal = Terminal()
    missing = why_not()
    if missing:
        terminal.line(f"skipped: {missing}")
        return SKIPPED
    seed: int = options.seed if options.seed is not None else secrets.randbelow(1_000_000)
    terminal.line(f"seed {seed}")
    try:
        report = _run(options, seed, terminal)
    except KeyboardInterrupt:
        terminal.line("interrupted; everything that was started has been ended")
        return 130
    except (NetworkError, ClusterError, DeployerError) as error:
        terminal.problem(str(error))
        return 1
    terminal.report(report)
    if options.json:
        save([report], options.json, options={"scenarios": options.scenarios, "seed": seed})
    if options.plot:
        from chaos.plot import draw  # noqa: PLC0415 — matplotlib's objects slow a run

        draw([report], options.plot)
    return 0 if report.good else 1


def _run(options: argparse.Namespace, seed: int, terminal: Terminal) -> Report:
    with terminal.waiting("two nodes ...") as say, Cluster(say) as cluster:
        cluster.start(BOTH)
        report = asyncio.run(_on(cluster, options, seed, say))
    return replace(report, leftovers=[*report.leftovers, *cluster.left()])


async def _on(cluster: Cluster, options: argparse.Namespace, seed: int, say: Say) -> Report:
    targets = _targets(cluster)
    async with connect(next(iter(targets.values()))) as client:
        await client.predict(payload(0, 1))  # what gRPC keeps for good is there when counted
    census = Census.take()
    watchdog = not options.no_watchdog
    clock = Clock()
    load = Load(LIMIT_SECONDS, Shared(clock, Violations(clock), Pauses()))
    async with AsyncExitStack() as stack:
        scene = Scene(
            cluster,
            load,
            [],
            SILENT_HEARTBEATS * HEARTBEAT_SECONDS if watchdog else None,
            options.partition,
            say,
            Probe(cluster.target(cluster.machines[0]), clock),
        )
        rng = random.Random(seed)  # noqa: S311 — decides tags and lengths, hides nothing
        for way, target in targets.items():
            client = await stack.enter_async_context(connect(target, watchdog=watchdog))
            for ordered in (True, False):
                scene.ways.append(way)
                load.workers.append(
                    Worker(
                        f"stream ({way.name}, {'ordered' if ordered else 'unordered'})",
                        client,
                        Pace.STEADY,
                        ordered=ordered,
                        length=None,
                        rate=options.rate / (2 * len(targets)),
                        rng=random.Random(rng.random()),  # noqa: S311
                        shared=load.shared,
                    )
                )
            load.callers.append(
                Caller(
                    f"predict ({way.name})",
                    client,
                    rate=2.0,
                    limit=LIMIT_SECONDS,
                    rng=random.Random(rng.random()),  # noqa: S311
                    shared=load.shared,
                )
            )
        async with scene.probe.running(), load.under_way():
            await _play(scene, options.scenarios)
        seconds = clock()
    await asyncio.get_running_loop().shutdown_default_executor()
    return _report(scene, seed, seconds, watchdog=watchdog, leftovers=await census.left())


async def _play(scene: Scene, names: Sequence[str]) -> None:
    await scene.wait(CALM_SECONDS)
    for name in names:
        try:
            await SCENARIOS[name](scene)
        except (NetworkError, ClusterError, DeployerError) as error:
            # What has been found so far is told all the same, but this is no success.
            scene.failures.append(f"{name}: {error}")
            scene.violations.add("incomplete", name, "the cluster did not come back; see above")
            return
        await scene.wait(CALM_SECONDS)


def _targets(cluster: Cluster) -> dict[Way, str | list[str]]:
    """By one node, or by whichever of both serves best."""
    one, two = (cluster.target(machine) for machine in cluster.machines)
    return {
        Way("by node 1", (one,)): one,
        Way("by node 2", (two,)): two,
        Way("by either", (one, two)): [one, two],
        Way("by either, as one target", (one, two)): f"ipv4:{one},{two}",
    }


def _report(
    scene: Scene, seed: int, seconds: float, *, watchdog: bool, leftovers: Sequence[str]
) -> Report:
    shared = scene.load.shared
    return Report(
        name="two nodes",
        seed=seed,
        seconds=seconds,
        watchdog=watchdog,
        totals=shared.totals,
        fired=scene.fired,
        skipped={},
        deployments_failed=scene.failures,
        pauses=shared.pauses.overall(),
        pauses_after=shared.pauses.after(),
        calls=quantiles(wait for caller in scene.load.callers for wait in caller.waits),
        notable=shared.pauses.notable,
        timeline=scene.load.timeline,
        violation_counts=dict(shared.violations.counts),
        violations=shared.violations.details,
        leftovers=leftovers,
        notes=scene.notes,
    )


def asked() -> argparse.ArgumentParser:
    """What can be asked for."""
    made = parser(
        "chaos.nodes",
        "Cut off, kill and restart a node of two under live streams, and check every item.",
        _EPILOG,
    )
    number = made.add_argument
    number(
        "--scenarios",
        type=several(list(SCENARIOS)),
        default=["partition", "node-death", "moved"],
        metavar="NAME,...",
        help="those below that shall be played (default: partition,node-death,moved)",
    )
    number("--partition", type=float, default=25.0, help="seconds of a partition (default: 25)")
    number("--rate", type=float, default=800.0, help="items a second, in all (default: 800)")
    number(
        "--no-watchdog",
        action="store_true",
        help="clients without heartbeats: what a partition does then",
    )
    number("--seed", type=int, help="decides everything that is drawn (default: a random one)")
    number("--json", type=Path, metavar="FILE", help="where to write everything")
    number("--plot", type=Path, metavar="FILE", help="where to draw items a second and faults")
    return made


if __name__ == "__main__":
    interrupt_on_sigterm()
    sys.exit(main())
