"""Plant bugs, one at a time, in a copy of the code, and see that the tests catch each.

A test suite that cannot fail proves nothing. Every bug here is a replacement of one piece of text
by another, so that it also fails when the code has moved on and the bug must be planted anew.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

ROOT = Path(__file__).resolve().parent.parent


@dataclass(frozen=True)
class Bug:
    """One planted bug.

    Attributes:
        name: what is broken.
        path: the file, below the package.
        old: a piece of it, which stands there exactly once.
        new: what replaces it.
        tests: where a test must fail.
    """

    name: str
    path: str
    old: str
    new: str
    tests: str


BUGS = (
    Bug(
        "an input is lost at replay",
        "protocol/client.py",
        "for entry in list(self._entries.values()):",
        "for entry in list(self._entries.values())[1:]:",
        "tests/grpc/test_faults.py",
    ),
    Bug(
        "a duplicate is taken for a breach",
        "protocol/client.py",
        "            self.counters.duplicates += 1\n            return None\n"
        "        if entry.sent_on",
        '            raise RemoteProtocolError("again")\n        if entry.sent_on',
        "tests/grpc/test_faults.py",
    ),
    Bug(
        "gaps are not noticed",
        "protocol/client.py",
        "if self._ordered and number != self._order[0]:",
        "if False:",
        "tests/grpc/test_faults.py",
    ),
    Bug(
        "the end is not checked",
        "protocol/client.py",
        "if said != known or attempt.in_flight_items:",
        "if False:",
        "tests/grpc/test_hostile_servers.py",
    ),
    Bug(
        "frames of an older attempt are believed",
        "protocol/client.py",
        "if current is None or current.number != attempt:",
        "if current is None:",
        "tests/protocol/test_client.py",
    ),
    Bug(
        "the whole credit is given afresh at every resume",
        "protocol/credit.py",
        "self._received_outputs + max(0, self._budget.outputs - held.outputs),",
        "self._received_outputs + self._budget.outputs,",
        "tests/protocol/test_client.py",
    ),
    Bug(
        "nothing is ever acknowledged on its own",
        "protocol/pacing.py",
        "return (self._read - self._reported) * 2 >= self.limit",
        "return False",
        "tests/protocol/test_client.py",
    ),
    Bug(
        "the server answers out of order",
        "protocol/server.py",
        "        if self._ordered:\n            self._emittable.append(work)",
        "        if self._ordered:\n            self._emittable.appendleft(work)",
        "tests/grpc/test_stream.py",
    ),
    Bug(
        "status OK is taken for complete",
        "session/driver.py",
        "        if session.complete and session.accepted:\n",
        "        if session.complete or (await link.status()).code == 'OK':\n",
        "tests/grpc/test_faults.py",
    ),
    Bug(
        "a connect counts as progress",
        "session/driver.py",
        "progressed=session.progressed",
        "progressed=session.welcome is not None",
        "tests/session",
    ),
    Bug(
        "a failure overtakes outputs that had arrived",
        "session/stream.py",
        "            delivery = driver.session.take()\n            if delivery is not None:",
        "            delivery = driver.session.take()\n"
        "            if delivery is not None and driver.error is None:",
        "tests/grpc/test_faults.py",
    ),
    Bug(
        "a server's delay is ignored",
        "session/retry.py",
        "if told is not None:",
        "if False:",
        "tests/session",
    ),
    Bug(
        "cancelled handlers run on",
        "server/runner.py",
        "        if self._handler.interruptible and not task.cancelling():",
        "        if False:",
        "tests/grpc/test_closing.py",
    ),
    Bug(
        "the server does not linger",
        "server/runner.py",
        "LINGER_SECONDS = 2.0",
        "LINGER_SECONDS = 0.0",
        "tests/grpc/test_hostile_clients.py",
    ),
    Bug(
        "an exception in the user's inputs vanishes",
        "session/driver.py",
        "        except BaseException as error:\n            self._input_error = error",
        "        except BaseException as error:",
        "tests/grpc/test_closing.py",
    ),
    Bug(
        "an item's failure is lost when the wait for the close is cancelled",
        "session/stream.py",
        "        self._failed = problem  #",
        "        #",
        "tests/grpc/test_user_code.py",
    ),
    Bug(
        "progress goes unnoticed",
        "protocol/client.py",
        "        self.counters.received += 1\n        attempt.progressed = True",
        "        self.counters.received += 1",
        "tests/session",
    ),
    Bug(
        "a cancelled input is forgotten while it waits for its place",
        "server/runner.py",
        "            await handler.reserve()\n            inputs: list[Input] = []",
        "            inputs: list[Input] = [session.next_input()]\n"
        "            await handler.reserve()",
        "tests/grpc/test_hostile_clients.py",
    ),
    Bug(
        "a wrong application's welcome is accepted",
        "protocol/client.py",
        'if self._application and welcome.application not in ("", self._application):',
        "if False:",
        "tests/grpc/test_bad_input.py",
    ),
)


def caught_by(bug: Bug) -> str | None:
    """The first test that failed with the bug planted; None if all passed."""
    with tempfile.TemporaryDirectory() as directory:
        copy = Path(directory)
        for name in ("servestream_client", "tests", "protos", "docs"):
            shutil.copytree(
                ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__", "ray")
            )
        for name in ("pyproject.toml", "README.md", "Makefile"):
            shutil.copy(ROOT / name, copy / name)
        target = copy / "servestream_client" / bug.path
        text = target.read_text()
        if text.count(bug.old) != 1:
            raise SystemExit(
                f"{bug.name}: {bug.path} has {text.count(bug.old)} places for it, not one"
            )
        target.write_text(text.replace(bug.old, bug.new))
        run = subprocess.run(
            [
                *(sys.executable, "-m", "pytest", "-x", "-q", "--no-header", "-p"),
                *("no:cacheprovider", "--timeout=20", "--tb=no", bug.tests),
            ],
            cwd=copy,
            env={**os.environ, "PYTHONPATH": str(copy)},
            capture_output=True,
            text=True,
            check=False,
        )
    failed = [line for line in run.stdout.splitlines() if line.startswith(("FAILED", "ERROR"))]
    if run.returncode == 0:
        return None
    if not failed:
        return "the test run itself broke" if run.returncode > 1 else "a test timed out"
    return failed[0].split(" - ")[0].removeprefix("FAILED ").removeprefix("ERROR ")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("only", nargs="?", default="", help="plant only bugs whose name has this")
    only = parser.parse_args().only
    console = Console()
    missed = 0
    for bug in BUGS:
        if only not in bug.name:
            continue
        with console.status(bug.name):
            test = caught_by(bug)
        missed += test is None
        verdict = "[red]MISSED[/red]" if test is None else f"caught by {test}"
        console.print(f"{bug.name} ({bug.path}): {verdict}", soft_wrap=True)
    console.print(f"{missed} missed")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
