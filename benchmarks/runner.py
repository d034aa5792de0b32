"""Start servers, run suites on them, keep what they measure."""

from __future__ import annotations

import asyncio
import datetime as dt
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import grpc.aio

from benchmarks.bench import Bench, Settings, Suite
from benchmarks.machine import environment
from benchmarks.results import Record, Results
from benchmarks.servers import Mode, ServerError, Servers, running
from benchmarks.terminal import Terminal


class Group(NamedTuple):
    """Suites that run on the same servers."""

    suites: list[Suite]
    applications: list[str]
    replicas: int


def groups(suites: Sequence[Suite], mode: Mode) -> Iterator[Group]:
    """The suites that say something in a mode, by the servers that they need."""
    shared: dict[int, Group] = {}
    alone: list[Group] = []
    for suite in suites:
        if mode not in suite.modes:
            continue
        if suite.fresh:
            alone.append(Group([suite], list(suite.applications), suite.replicas))
            continue
        group = shared.setdefault(suite.replicas, Group([], [], suite.replicas))
        group.suites.append(suite)
        group.applications.extend(
            name for name in suite.applications if name not in group.applications
        )
    yield from shared.values()
    yield from alone


def run(
    suites: Sequence[Suite],
    modes: Sequence[Mode],
    settings: Settings,
    results: Results,
    *,
    terminal: Terminal,
    path: Path,
) -> list[str]:
    """Measure, and save after each suite. Returns what went wrong, in words.

    Args:
        suites: to run.
        modes: to run them in, as far as they say something there.
        settings: of the run.
        results: of earlier runs, which get those of this one.
        terminal: shows it.
        path: where the results go.
    """
    failures: list[str] = []
    planned = [(mode, group) for mode in modes for group in groups(suites, mode)]
    total, done = sum(len(group.suites) for _, group in planned), 0
    # One event loop for all of it: what gRPC still has to say of calls that were cancelled goes to
    # their loop, and raises in the next one if theirs is closed.
    with asyncio.Runner() as runner:
        # And one channel for all of it: with the last one, gRPC waits for its own thread to end,
        # for ever if it still waits for a call on a connection that HAProxy does not serve.
        idle = runner.run(_idle_channel())
        for mode, group in planned:
            names = ", ".join(suite.name for suite in group.suites)
            try:
                with (
                    terminal.waiting(f"{mode}: starting the servers") as say,
                    running(mode, group.applications, replicas=group.replicas, say=say) as servers,
                ):
                    for number, suite in enumerate(group.suites, start=done + 1):
                        terminal.headline(f"{suite.name}, {mode} ({number} of {total})")
                        bench = _bench(suite, servers, settings, terminal, say)
                        failure = _measure(runner, suite, bench)
                        if failure:
                            failures.append(f"{mode}: {suite.name}: {failure}")
                            terminal.problem(failures[-1])
                            continue
                        for note in bench.record.notes:
                            terminal.line(f"  {note}")
                        results.add(bench.record)
                        results.save(path)
            except ServerError as error:
                failures.append(f"{mode}: {names}: {error}")
                terminal.problem(failures[-1])
            done += len(group.suites)
        runner.run(idle.close())
    return failures


def _bench(
    suite: Suite,
    servers: Servers,
    settings: Settings,
    terminal: Terminal,
    say: Callable[[str], None],
) -> Bench:
    record = Record(
        suite=suite.name,
        mode=servers.mode.value,
        quick=settings.quick,
        date=dt.datetime.now(dt.UTC).date().isoformat(),
        environment=environment(),
    )
    return Bench(
        servers, settings, record, say=say, show=lambda each: terminal.measured(record, each)
    )


async def _idle_channel() -> grpc.aio.Channel:
    """A channel that is never used, and so connects to nothing."""
    return grpc.aio.insecure_channel("localhost:1")


def _measure(runner: asyncio.Runner, suite: Suite, bench: Bench) -> str:
    """Run a suite. Returns what went wrong, or nothing."""
    try:
        runner.run(suite.run(bench))
    except Exception as error:  # the other suites shall run all the same
        return f"{type(error).__name__}: {error}"
    return ""
