"""A job whose process is killed as well, and started again by the same command until it is done."""

from __future__ import annotations

import enum
import os
import random
import re
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.markup import escape

from servestream_client.demo.trial import kill_places

__all__ = ["JobReport", "JobTrial", "Run", "Shot", "Victim", "inputs_for", "shots"]

_JOB_SECONDS = 10.0
"""How long one replica is to work on the job, so that it can be killed in its midst."""

_LEAST_INPUTS = 900

_LEAST_UNKNOWN = 1_800
"""The same after a stream so short that it says little about the pace."""

_KILLED_UP_TO = 0.5
"""The share of the way on which is killed. Where a disk is slow, the output grows by leaps."""

_LATER_UP_TO = 0.25
"""Seconds. The command writes about twice a second; it is killed at any moment between."""

_LOOK_SECONDS = 0.005

_KEPT = re.compile(r"^resuming after ([\d,]+) item", re.MULTILINE)
"""What the command says of what an earlier run has done for certain."""


def inputs_for(*, inputs: int, seconds: float, pauses: float) -> int:
    """How many inputs a job is to have on this machine.

    Args:
        inputs: of a stream that went before it.
        seconds: what that took...
        pauses: ...and for how much of it nothing came, about.
    """
    if inputs < _LEAST_INPUTS:
        return _LEAST_UNKNOWN
    working = max(seconds - pauses, seconds / 2)
    return max(_LEAST_INPUTS, round(inputs / working * _JOB_SECONDS))


class Victim(enum.StrEnum):
    """What is killed."""

    CLIENT = "client"
    REPLICA = "replica"


@dataclass(frozen=True, slots=True, kw_only=True)
class Shot:
    """One SIGKILL that is to come.

    Attributes:
        victim: what it hits.
        after: as soon as the output has so many results...
        later: ...and so many seconds after that.
    """

    victim: Victim
    after: int
    later: float = 0.0


def shots(rng: random.Random, *, inputs: int, clients: int, replicas: int) -> list[Shot]:
    """So many SIGKILLs to either, in any order, spread over the way.

    Raises:
        ValueError: there are too few inputs for so many.
    """
    victims = [Victim.CLIENT] * clients + [Victim.REPLICA] * replicas
    rng.shuffle(victims)
    places = kill_places(rng, inputs=inputs, kills=len(victims), up_to=_KILLED_UP_TO)
    return [
        Shot(victim=victim, after=place, later=rng.uniform(0, _LATER_UP_TO))
        for victim, place in zip(victims, places, strict=True)
    ]


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One process of the job, which has ended.

    Attributes:
        pid: its id.
        kept: results of earlier runs that it went on behind.
        written: whole results in the output at its end.
        code: its exit code; one that is negative names the signal that ended it.
        said: what it wrote to standard error.
    """

    pid: int
    kept: int
    written: int
    code: int
    said: str

    @property
    def killed(self) -> bool:
        """Whether a SIGKILL ended it, and nothing before that."""
        return self.code == -signal.SIGKILL


@dataclass(frozen=True, slots=True, kw_only=True)
class JobReport:
    """What came of a job that was killed.

    Attributes:
        inputs: how many it had.
        runs: its processes, in order.
        replicas: processes of replicas that were killed meanwhile.
        planned: the kills that were to happen.
        identical: whether its output is what it should be, byte for byte.
        seconds: from the first start to the last end.
    """

    inputs: int
    runs: Sequence[Run]
    replicas: Sequence[int]
    planned: Sequence[Shot]
    identical: bool
    seconds: float

    @property
    def kills(self) -> int:
        """How many of its processes were killed."""
        return sum(run.killed for run in self.runs)

    @property
    def kept(self) -> list[int]:
        """What each restart found done."""
        return [run.kept for run in self.runs[1:]]

    def problems(self) -> list[str]:
        """Everything that is wrong, in words; empty if all is well."""
        found: list[str] = []
        last = self.runs[-1]
        if last.code != 0:
            found.append(f"the job ended with {last.code}: {last.said.strip() or 'without a word'}")
        elif not self.identical:
            found.append("the job's output differs from offline")
        for victim, number in ((Victim.CLIENT, self.kills), (Victim.REPLICA, len(self.replicas))):
            wanted = sum(shot.victim is victim for shot in self.planned)
            if number < wanted:
                found.append(f"only {number} of {wanted} kills of a {victim} while the job ran")
        if self.kept != sorted(self.kept) or (self.kept and not self.kept[-1]):
            found.append(f"restarts of the job kept {', '.join(map(str, self.kept))} results")
        return found


class JobTrial:
    """Runs a command, kills it and replicas on its way, and runs it again until it ends by itself.

    Args:
        command: the same each time.
        output: the file that it writes.
        size: bytes of a result there; all have the same.
        expected: what is to be there in the end.
        planned: whom to kill and when, by ascending places.
        kill_replica: kills one, and returns what it is called and its process.
        tell: called with what happens, in lines with Rich's markup.
        progress: called with the number of results whenever there are more.
        environment: variables of the command besides those of this process.
    """

    def __init__(
        self,
        command: Sequence[str],
        output: Path,
        *,
        size: int,
        expected: bytes,
        planned: Sequence[Shot],
        kill_replica: Callable[[], tuple[str, int]],
        tell: Callable[[str], None] = lambda _: None,
        progress: Callable[[int], None] = lambda _: None,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self._command = list(command)
        self._output = output
        self._size = size
        self._expected = expected
        self._planned = list(planned)
        self._waiting = list(planned)
        self._kill_replica = kill_replica
        self._tell = tell
        self._progress = progress
        self._environment = {**os.environ, **(environment or {})}
        self._replicas: list[int] = []

    def run(self) -> JobReport:
        """Bring the job to its end. No process of it is left, whatever happens.

        Raises:
            OSError: the command cannot be started.
            FixtureError: a replica could not be killed.
        """
        began = time.monotonic()
        runs = [self._run_once()]
        while runs[-1].killed and len(runs) <= len(self._planned):  # by nobody else without end
            runs.append(self._run_once())
        return JobReport(
            inputs=len(self._expected) // self._size,
            runs=runs,
            replicas=self._replicas,
            planned=self._planned,
            identical=self._found() == self._expected,
            seconds=time.monotonic() - began,
        )

    def _run_once(self) -> Run:
        begun = self._written()
        process = subprocess.Popen(  # noqa: S603 — our own command, our own arguments
            self._command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            env=self._environment,
        )
        try:
            self._accompany(process, begun)
        finally:  # Ctrl-C as well
            if process.poll() is None:
                process.kill()
            _, said = process.communicate()
        kept = _KEPT.search(said)
        run = Run(
            pid=process.pid,
            kept=int(kept[1].replace(",", "")) if kept else 0,
            written=self._written(),
            code=process.returncode,
            said=said,
        )
        if run.killed:
            self._tell(
                f"[red]SIGKILL[/] to the client (process {run.pid}): begun at {run.kept},"
                f" killed at {run.written}"
            )
        else:
            self._tell(escape(said.strip()))
        return run

    def _accompany(self, process: subprocess.Popen[str], begun: int) -> None:
        """Kill replicas as planned; return when it is the turn of the process, or it has ended.

        None is killed before this process has added to the results that it found.
        """
        written = begun
        while not _ended(process, _LOOK_SECONDS):
            before, written = written, self._written()
            if written > before:
                self._progress(written)
            begun = min(begun, written)  # what is not certain is cut off at first
            if not self._waiting or written < max(self._waiting[0].after, begun + 1):
                continue
            if _ended(process, self._waiting[0].later):
                return
            if self._waiting.pop(0).victim is Victim.CLIENT:
                return
            name, pid = self._kill_replica()
            self._replicas.append(pid)
            self._tell(
                f"[red]SIGKILL[/] to replica {name} (process {pid}): the client is at"
                f" {self._written()}"
            )

    def _written(self) -> int:
        return self._output.stat().st_size // self._size if self._output.exists() else 0

    def _found(self) -> bytes:
        return self._output.read_bytes() if self._output.exists() else b""


def _ended(process: subprocess.Popen[str], seconds: float) -> bool:
    """Whether it has, or does within that time."""
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        return False
    return True
