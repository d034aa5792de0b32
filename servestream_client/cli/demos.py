"""The demos: what they need, and their options."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeAlias

import typer
from rich.console import Console

from servestream_client.cli.problems import ExitCode, Problem, for_people

if TYPE_CHECKING:
    from servestream_client.testing.ray_serve import Ingress

__all__ = [
    "DEMO_EPILOG",
    "DEMO_SCALE_EPILOG",
    "DEMO_STATE_EPILOG",
    "DEMO_TOKENS_EPILOG",
    "demo",
    "demo_scale",
    "demo_state",
    "demo_tokens",
]

_IngressName: TypeAlias = Annotated[
    str, typer.Option("--ingress", help="proxy: Serve's own; haproxy: the other mode.")
]
_Kills: TypeAlias = Annotated[
    int, typer.Option("--kills", min=0, metavar="N", help="Replicas to kill.")
]

DEMO_EPILOG = """\
[bold]Examples[/]

servestream demo

servestream demo --ingress haproxy --kills 5 --seed 7
"""


def demo(
    *,
    ingress: _IngressName = "proxy",
    kills: _Kills = 3,
    images: Annotated[
        int | None,
        typer.Option(min=1, metavar="N", help="How many, or all.", show_default=False),
    ] = None,
    seed: Annotated[
        int | None, typer.Option(help="Decides where to kill; or a random one.", show_default=False)
    ] = None,
) -> None:
    """Stream 1,797 images to a real Ray Serve whose replicas are killed on the way.

    Starts Ray Serve on this machine with two replicas of a classifier (half a minute), streams the
    images, kills the replica that serves the stream with SIGKILL a few times, and compares every
    answer with an offline run of the same model. Then runs `servestream call --resume` there, kills
    that three times and a replica besides, and compares the file. Ends everything that it started.
    The exit code is 0 only if nothing was lost, duplicated, out of order or different, and nothing
    is left running.
    """
    with for_people():
        _check_installed("demo", "psutil", "ray", "sklearn")
        from servestream_client.demo.show import Settings
        from servestream_client.demo.show import demo as run

        with _problems():
            settings = Settings(
                ingress=_ingress(ingress), kills=kills, images=images, seed=_seed(seed)
            )
            good = run(settings, Console(highlight=False))
        if not good:
            raise typer.Exit(ExitCode.ITEMS_FAILED)


DEMO_TOKENS_EPILOG = """\
[bold]Examples[/]

servestream demo-tokens

servestream demo-tokens --kills 5 --max-tokens 300 --seed 7
"""


def demo_tokens(
    *,
    ingress: _IngressName = "proxy",
    kills: _Kills = 3,
    max_tokens: Annotated[
        int, typer.Option(min=1, max=400, metavar="N", help="Of each answer.")
    ] = 200,
    seed: Annotated[
        int | None,
        typer.Option(help="Decides where to kill, and what is sampled; or a random one."),
    ] = None,
) -> None:
    """Generate eight answers of a language model at once, while their replicas are killed.

    Answers the prompts offline, then starts Ray Serve on this machine with two replicas of the same
    small model, generates all answers at the same time, kills the replica that serves them with
    SIGKILL a few times, and compares every token. The exit code is 0 only if all answers are those
    of the offline run, and nothing is left running.
    """
    with for_people():
        _check_installed("tokens", "numpy", "psutil", "ray")
        from servestream_client.demo.tokens.engine import EngineError
        from servestream_client.demo.tokens.show import Settings
        from servestream_client.demo.tokens.show import demo as run

        with _problems(EngineError):
            settings = Settings(
                ingress=_ingress(ingress), kills=kills, max_tokens=max_tokens, seed=_seed(seed)
            )
            good = run(settings, Console(highlight=False))
        if not good:
            raise typer.Exit(ExitCode.ITEMS_FAILED)


DEMO_STATE_EPILOG = """\
[bold]Examples[/]

servestream demo-state --kills 5

servestream demo-state --streams 20 --seconds 60 --ingress haproxy
"""


def demo_state(
    *,
    ingress: _IngressName = "proxy",
    kills: _Kills = 3,
    streams: Annotated[int, typer.Option(min=1, max=200, metavar="N", help="At once.")] = 8,
    seconds: Annotated[
        float, typer.Option(min=5.0, metavar="S", help="Of audio in each stream.")
    ] = 120.0,
    speed: Annotated[
        float, typer.Option(min=0.1, metavar="X", help="As many times as fast as it is spoken.")
    ] = 4.0,
    seed: Annotated[
        int | None, typer.Option(help="Decides where to kill; or a random one.")
    ] = None,
) -> None:
    """Find the speech in several audio streams at once, while their replicas are killed.

    Has espeak-ng read sentences, and Silero VAD listen to them offline, then starts Ray Serve on
    this machine with two replicas of the same model, sends all recordings at the same time, kills
    the replica that hears most of them with SIGKILL a few times, and compares every probability.
    The exit code is 0 only if each is that of the offline run, bit for bit, and nothing is left
    running.
    """
    with for_people():
        _check_installed("state", "numpy", "psutil", "ray", "onnxruntime")
        from servestream_client.demo.state.show import Settings
        from servestream_client.demo.state.show import demo as run

        with _problems():
            settings = Settings(
                ingress=_ingress(ingress),
                streams=streams,
                seconds=seconds,
                speed=speed,
                kills=kills,
                seed=_seed(seed),
            )
            good = run(settings, Console(highlight=False))
        if not good:
            raise typer.Exit(ExitCode.ITEMS_FAILED)


DEMO_SCALE_EPILOG = """\
[bold]Examples[/]

servestream demo-scale --plot scale.png

servestream demo-scale --seconds 60 --callers 32
"""


def demo_scale(
    *,
    ingress: _IngressName = "proxy",
    seconds: Annotated[
        float, typer.Option(min=20.0, metavar="S", help="For each of the three ways.")
    ] = 40.0,
    callers: Annotated[int, typer.Option(min=1, metavar="N", help="Calls at a time.")] = 16,
    plot: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Draw it as an image there.", show_default=False),
    ] = None,
) -> None:
    """Let a deployment scale from one replica to four, by unary stubs, calls and one stream.

    Starts Ray Serve on this machine with three copies of an autoscaling classifier, and uses each
    in another way: unary gRPC stubs, `client.predict` from as many tasks, and one `client.stream`.
    Shows replicas and throughput as they grow, and waits until the replicas have gone again. The
    exit code is 0 only if every answer is that of an offline run, the client reached as many
    replicas as the stubs, and nothing is left running. It takes some four minutes.
    """
    with for_people():
        _check_installed("demo", "psutil", "ray", "sklearn")
        from servestream_client.demo.scale.show import Settings
        from servestream_client.demo.scale.show import demo as run

        with _problems():
            settings = Settings(
                ingress=_ingress(ingress), seconds=seconds, callers=callers, plot=plot
            )
            good = run(settings, Console(highlight=False))
        if not good:
            raise typer.Exit(ExitCode.ITEMS_FAILED)


def _check_installed(extra: str, *modules: str) -> None:
    for module in modules:
        if find_spec(module) is None:
            raise Problem(
                f"{module} is not installed;"
                f" pip install 'servestream-client[{extra}]' brings what the demo needs"
            )


@contextmanager
def _problems(*own: type[Exception]) -> Iterator[None]:
    """What may go wrong in a demo, as the command says it; `own` are errors of this one's."""
    from servestream_client.demo.phases import DemoError
    from servestream_client.testing.ray_serve import FixtureError

    known: tuple[type[Exception], ...] = (DemoError, *own)
    try:
        yield
    except known as error:
        raise Problem(str(error)) from None
    except FixtureError as error:
        raise Problem(str(error), ExitCode.STREAM_FAILED) from None


def _ingress(name: str) -> Ingress:
    from servestream_client.testing.ray_serve import Ingress

    if name not in list(Ingress):
        raise Problem(f"--ingress is {' or '.join(Ingress)}, not {name!r}")
    return Ingress(name)


def _seed(given: int | None) -> int:
    return secrets.randbelow(1_000_000) if given is None else given
