"""Many seeds in several processes."""

from __future__ import annotations

import gc
import itertools
import multiprocessing
import os
import signal
import threading
from collections.abc import Generator, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from dataclasses import dataclass
from multiprocessing.connection import wait as wait_for

from simulation.run import simulate

__all__ = ["SHOWN_LINES", "Result", "results"]

SHOWN_LINES = 40
"""Of the trace of a run that failed."""

_CHUNK = 8


@dataclass(frozen=True, slots=True)
class Result:
    """What a process hands back of an outcome."""

    seed: int
    digest: str
    faults: Mapping[tuple[str, str], int]
    items: int
    many: Mapping[str, int]
    attempts: int
    seconds: float
    violations: Sequence[str]
    lines: Sequence[str]


def results(seeds: range, jobs: int) -> Generator[Result, None, None]:
    """The results of seeds, as they come. Close it to begin no further runs."""
    if jobs == 1:
        _prepare()
        for first in range(0, len(seeds), _CHUNK):
            yield from _results_of(seeds[first : first + _CHUNK])
        return
    executor = ProcessPoolExecutor(
        jobs, mp_context=multiprocessing.get_context("spawn"), initializer=_prepare_process
    )
    chunks = (seeds[first : first + _CHUNK] for first in range(0, len(seeds), _CHUNK))
    try:
        yield from _as_they_come(executor, chunks, 3 * jobs)
    finally:
        executor.shutdown(cancel_futures=True)


def _as_they_come(
    executor: ProcessPoolExecutor, chunks: Iterator[range], most: int
) -> Iterator[Result]:
    """Keep so many chunks under way, since there may be more seeds than anybody waits for."""
    under_way: set[Future[list[Result]]] = {
        executor.submit(_results_of, chunk) for chunk in itertools.islice(chunks, most)
    }
    while under_way:
        done, under_way = wait(under_way, return_when=FIRST_COMPLETED)
        for future in done:
            yield from future.result()
            under_way |= {
                executor.submit(_results_of, chunk) for chunk in itertools.islice(chunks, 1)
            }


def _prepare_process() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent ends it
    threading.Thread(target=_end_with_parent, daemon=True).start()
    _prepare()


def _end_with_parent() -> None:
    """A parent that was killed ends nobody, and its processes would wait for work for ever."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait_for([parent.sentinel])
        os._exit(1)


def _prepare() -> None:
    gc.collect()
    gc.freeze()  # the modules need not be looked through again and again


def _results_of(seeds: range) -> list[Result]:
    all_results = [_result(seed) for seed in seeds]
    gc.collect()  # it is off during a run, and there is hardly anything between two
    return all_results


def _result(seed: int) -> Result:
    outcome = simulate(seed)
    return Result(
        seed=outcome.seed,
        digest=outcome.digest,
        faults=outcome.faults,
        items=outcome.items,
        many=outcome.many,
        attempts=outcome.attempts,
        seconds=outcome.seconds,
        violations=outcome.violations,
        lines=outcome.trace.lines(SHOWN_LINES) if outcome.violations else (),
    )
