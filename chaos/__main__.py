"""The command line."""

from __future__ import annotations

import argparse
import asyncio
import secrets
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from chaos.deploying import Deployer, DeployerError, Deployment
from chaos.faults import Kind, kinds_for
from chaos.items import ITEM_SECONDS
from chaos.leftovers import processes_left
from chaos.nemesis import Fired, Nemesis
from chaos.processes import gcs_address, raylet
from chaos.report import Report, save
from chaos.run import Settings, run
from chaos.terminal import Say, Terminal
from command_line import interrupt_on_sigterm, parser, positive, several
from servestream_client.server.sealing import new_key
from servestream_client.testing import FaultProxy
from servestream_client.testing.ray_serve import FixtureError, Ingress, ServeFixture

_EPILOG = """\
faults:
  kill-replica, kill-proxy, kill-haproxy, kill-controller    SIGKILL
  stop-replica, stop-proxy, stop-haproxy, stop-controller    SIGSTOP, and SIGCONT after a while
  redeploy, scale                                            a new version; 1 to 3 replicas
  cut, deaf, delay, throttle, slice                          of every third stream's connection

examples:
  python -m chaos                                       three minutes, Serve's own proxy
  python -m chaos --ingress both --seconds 600          the long run
  python -m chaos --faults kill-replica,cut --every 2   only these, and often
  python -m chaos --stateful --seconds 300              streams whose state travels
  python -m chaos --seed 7 --json build/chaos.json --plot build/chaos.png

Every item is checked: lost, duplicated, out of order, with wrong content, or failed without need;
so is every stream that does not move, and whatever is left in the end. Exits with 1 if anything of
that was found.
"""

INGRESSES = {
    "proxy": (Ingress.PROXY,),
    "haproxy": (Ingress.HAPROXY,),
    "both": (Ingress.PROXY, Ingress.HAPROXY),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what was asked for. Returns the process's exit code."""
    options = asked().parse_args(arguments)
    seed: int = options.seed if options.seed is not None else secrets.randbelow(1_000_000)
    terminal = Terminal()
    terminal.line(f"seed {seed}")
    reports: list[Report] = []
    try:
        for ingress in INGRESSES[options.ingress]:
            reports.append(_one(ingress, _settings(options, ingress, seed), terminal))
            terminal.report(reports[-1])
            _publish(reports, options, seed)
    except KeyboardInterrupt:
        terminal.line("interrupted; everything that was started has been ended")
        return 130
    except (FixtureError, DeployerError) as error:
        terminal.problem(str(error))
        return 1
    return 0 if all(report.good for report in reports) else 1


def _settings(options: argparse.Namespace, ingress: Ingress, seed: int) -> Settings:
    return Settings(
        seconds=options.seconds,
        streams=options.streams,
        rate=options.rate,
        length=options.length,
        calls=options.calls,
        limit=options.limit,
        every=options.every,
        seed=seed,
        kinds=kinds_for(ingress, options.faults),
        each_kind=options.each_kind,
        stateful=options.stateful,
    )


def _one(ingress: Ingress, settings: Settings, terminal: Terminal) -> Report:
    """A run on a Ray Serve of its own."""
    with terminal.waiting(f"{ingress}: starting Ray Serve ...") as say:
        fixture = ServeFixture(["chaos.app:chaos"], ingress, on_phase=say)
        with fixture:
            report = _on(fixture, settings, say)
    return replace(report, leftovers=[*report.leftovers, *processes_left(fixture.id)])


def _on(fixture: ServeFixture, settings: Settings, say: Say) -> Report:
    environment = raylet(fixture.id).environ()
    deployer = Deployer(gcs_address(fixture.id), environment)
    proxy = FaultProxy(fixture.target, seed=settings.seed)
    state_key = new_key() if settings.stateful else ""
    deployed = Deployment(1, 2, seconds=ITEM_SECONDS, state_key=state_key)

    def nemesis(
        clock: Callable[[], float],
        on_fault: Callable[[Fired], object],
        serving: Callable[[], bool],
    ) -> Nemesis:
        return Nemesis(
            fixture.id,
            proxy,
            deployer,
            clock=clock,
            on_fault=on_fault,
            serving=serving,
            deployed=deployed,
        )

    try:
        deployer.start()
        if settings.stateful:
            say("deploying a stateful service in its place")
            deployer.deploy(deployed)
        with proxy:
            return asyncio.run(
                run(
                    fixture.ingress.value,
                    settings,
                    target=fixture.target,
                    behind_proxy=proxy.target,
                    make_nemesis=nemesis,
                    say=say,
                )
            )
    finally:
        deployer.stop()


def _publish(reports: Sequence[Report], options: argparse.Namespace, seed: int) -> None:
    """After each run: what there is, is there even if the next one is interrupted."""
    if options.json:
        asked = {name: str(value) for name, value in vars(options).items()} | {"seed": seed}
        for name in ("json", "plot"):  # paths of this machine
            asked.pop(name)
        save(reports, options.json, options=asked)
    if options.plot:
        # Not at the top: matplotlib's many objects would slow every garbage collection of a run.
        from chaos.plot import draw  # noqa: PLC0415

        draw(reports, options.plot)


def asked() -> argparse.ArgumentParser:
    """What can be asked for."""
    made = parser(
        "chaos",
        "Kill, stop, redeploy and cut a real Ray Serve under many streams, and check every item.",
        _EPILOG,
    )
    number = made.add_argument
    number("--seconds", type=float, default=180.0, help="of faults (default: 180)")
    number(
        "--ingress",
        choices=list(INGRESSES),
        default="proxy",
        help="how requests reach the replicas (default: proxy)",
    )
    number("--streams", type=positive, default=16, metavar="N", help="at a time (default: 16)")
    number("--length", type=positive, default=3000, metavar="N", help="of a stream (default: 3000)")
    number(
        "--rate", type=float, default=6000.0, help="items a second, of all streams (default: 6000)"
    )
    number("--calls", type=float, default=20.0, help="of predict, a second (default: 20)")
    number("--every", type=float, default=5.0, help="seconds between faults (default: 5)")
    number(
        "--limit",
        type=float,
        default=120.0,
        help="seconds without progress after which a stream is said to hang (default: 120)",
    )
    number("--seed", type=int, help="decides everything that is drawn (default: a random one)")
    number(
        "--faults",
        type=several(list(Kind), or_none=True),
        default=[],
        metavar="KIND,...",
        help="those below that shall happen (default: all)",
    )
    number(
        "--each-kind",
        action="store_true",
        help="go on, six times as long at the most, until each kind of fault was there once",
    )
    number(
        "--stateful",
        action="store_true",
        help="streams with a state, which must be that of an undisturbed stream (no predict)",
    )
    number("--json", type=Path, metavar="FILE", help="where to write everything")
    number("--plot", type=Path, metavar="FILE", help="where to draw items a second and faults")
    return made


if __name__ == "__main__":
    interrupt_on_sigterm()
    sys.exit(main())
