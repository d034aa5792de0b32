"""What the demos say while they wait, and at their end."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from rich.console import Console

from servestream_client.testing.ray_serve.cluster import members

__all__ = ["DemoError", "concluded", "left_over", "waiting"]


class DemoError(Exception):
    """The demo cannot do what it was asked for; the message is for people."""


@contextmanager
def waiting(console: Console, what: str) -> Iterator[Callable[[str], None]]:
    """Say what is being waited for: with a spinner on a terminal, in plain lines elsewhere."""
    if not console.is_terminal:
        console.print(f"{what} ...")
        yield lambda phase: console.print(f"  {phase} ...")
        return
    with console.status(f"{what} ...") as status:
        yield lambda phase: status.update(f"{what}: {phase} ...")


def left_over(fixture: str, started: int, console: Console) -> list[str]:
    """What is wrong about the processes of a Ray Serve that has been stopped, in words.

    Args:
        fixture: its id.
        started: how many there were.
        console: told if all is well.
    """
    left = [process.pid for process in members(fixture)]
    if left:
        return [f"{len(left)} processes are left: {', '.join(map(str, left))}"]
    console.print(f"all {started} processes of Ray Serve have ended; none is left")
    return []


def concluded(problems: Sequence[str], well: str, console: Console) -> bool:
    """Say what is wrong, or that all is well; whether it is."""
    for problem in problems:
        console.print(f"[red]wrong:[/] {problem}")
    if not problems:
        console.print(f"[green]{well}[/]")
    return not problems
