"""The demo of a language model as people see it."""

from __future__ import annotations

import asyncio
import codecs
import itertools
import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from servestream_client.client import StreamClient
from servestream_client.demo.phases import DemoError, concluded, left_over, waiting
from servestream_client.demo.tokens.answers import answer_offline
from servestream_client.demo.tokens.codec import Prompt, Token, TokenCodec
from servestream_client.demo.tokens.engine import Model
from servestream_client.demo.tokens.prompts import PROMPTS
from servestream_client.demo.tokens.trial import Answer, Report, Trial, WhoServes, kinds, median
from servestream_client.testing.ray_serve import Ingress, ServeFixture

__all__ = ["Settings", "demo"]

APPLICATION = "servestream_client.demo.tokens.application:tokens"

TICK_SECONDS = 0.1
LINE_SECONDS = 1.0
TEMPERATURE = 0.8
"""Of every other prompt; the others get the likeliest token."""

_KILLED_UP_TO = 0.7
"""The share of all tokens up to which replicas are killed."""

_SEAM = "✂"
_TAIL = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What to show.

    Attributes:
        ingress: how requests reach the replicas.
        kills: how many replicas to kill with SIGKILL while they generate.
        max_tokens: of each answer.
        seed: decides where to kill, and which tokens are drawn.
    """

    ingress: Ingress = Ingress.PROXY
    kills: int = 3
    max_tokens: int = 200
    seed: int = 0


def demo(settings: Settings, console: Console) -> bool:
    """Answer offline, start Ray Serve, generate, kill, compare, and end what was started.

    Returns:
        Whether every answer is the offline one, token for token, and nothing is left.

    Raises:
        DemoError: so many kills do not fit into so few tokens.
        EngineError: the language model cannot be used here.
        FixtureError: Ray Serve did not start.
        StreamError: a generation failed.
    """
    prompts = [
        Prompt(
            text=text,
            max_tokens=settings.max_tokens,
            temperature=TEMPERATURE if number % 2 else 0.0,
            seed=settings.seed + number,
        )
        for number, text in enumerate(PROMPTS)
    ]
    with waiting(console, f"answering {len(prompts)} prompts offline"):
        model = Model()
        offline = [answer_offline(model, prompt) for prompt in prompts]
        fingerprint = model.fingerprint
        model.close()
    total = sum(map(len, offline))
    places = kill_places(random.Random(settings.seed), total=total, kills=settings.kills)  # noqa: S311
    console.print(fingerprint)
    console.print(
        f"seed {settings.seed}: {len(prompts)} prompts, {total} tokens offline, kills after"
        f" {', '.join(map(str, places)) or 'no'} tokens; ingress: {settings.ingress}"
    )
    with waiting(console, "starting Ray Serve (about 30 s)") as phase:
        fixture = ServeFixture([APPLICATION], settings.ingress, on_phase=phase)
        fixture.start()
    try:
        report = asyncio.run(_generate(fixture, prompts, offline, places, console))
        started = len(fixture.processes())
    finally:
        with waiting(console, "ending Ray Serve"):
            fixture.stop()
    console.print(_table(report, settings.seed))
    problems = report.problems() + left_over(fixture.id, started, console)
    return concluded(problems, "every answer is the offline one, token for token", console)


def kill_places(rng: random.Random, *, total: int, kills: int) -> list[int]:
    """After how many tokens to kill: one place in each of as many equal stretches.

    Raises:
        DemoError: there are too few tokens for so many kills.
    """
    stretch = int(total * _KILLED_UP_TO) // max(1, kills)
    if kills and stretch < len(PROMPTS):
        raise DemoError(f"{kills} kills are too many for {total} tokens")
    return [number * stretch + rng.randint(1, stretch) for number in range(kills)]


async def _generate(
    fixture: ServeFixture,
    prompts: Sequence[Prompt],
    offline: Sequence[Sequence[Token]],
    places: Sequence[int],
    console: Console,
) -> Report:
    who = WhoServes()
    trial = Trial(
        prompts,
        offline,
        places=places,
        who=who,
        kill=fixture.kill_replica,
        ready=fixture.wait_for_replicas,
    )
    with _progress(trial, console) as show:
        ticking = asyncio.create_task(_tick(show))
        try:
            async with StreamClient(
                fixture.target, application="tokens", codec=TokenCodec(), hooks=[who]
            ) as client:
                return await trial.run(client)
        finally:
            ticking.cancel()
            show()


async def _tick(show: Callable[[], None]) -> None:
    while True:
        show()
        await asyncio.sleep(TICK_SECONDS)


# ---------------------------------------------------------------- what is shown


@contextmanager
def _progress(trial: Trial, console: Console) -> Iterator[Callable[[], None]]:
    """Yields what brings the display up to date."""
    announced = 0

    def announce() -> None:
        nonlocal announced
        for kill in trial.kills[announced:]:
            console.print(
                f"[red]SIGKILL[/] to replica {kill.replica} (process {kill.pid}) after"
                f" {kill.after} tokens"
            )
        announced = len(trial.kills)

    if not console.is_terminal:
        yield _plain_lines(trial, console, announce)
        return
    with Live(console=console, auto_refresh=False) as live:

        def show() -> None:
            announce()
            live.update(_view(trial), refresh=True)

        yield show


def _plain_lines(
    trial: Trial, console: Console, announce: Callable[[], None]
) -> Callable[[], None]:
    """Once a second the end of an answer, each in turn; and all of one when it is complete."""
    ticks, told, turn = 0, set[int](), itertools.cycle(range(len(trial.answers)))

    def show() -> None:
        nonlocal ticks
        announce()
        for number, answer in enumerate(trial.answers):
            if number not in told and answer.tokens and answer.tokens[-1].finished:
                told.add(number)
                console.print(f"[bold]{number + 1}. {answer.prompt.text}[/]")
                console.print(_text(answer))
        if ticks % round(LINE_SECONDS / TICK_SECONDS) == 0:
            number = next(turn)
            tail = _one_line(_text(trial.answers[number]))[-_TAIL:]
            console.print(Text(f"{trial.tokens} tokens; {number + 1}: …").append(tail))
        ticks += 1

    return show


def _view(trial: Trial) -> Table:
    table = Table(expand=True, show_edge=False)
    table.add_column("prompt", width=24, no_wrap=True, overflow="ellipsis")
    table.add_column("answer, as it comes", no_wrap=True)
    table.add_column("tokens", justify="right", width=6)
    table.add_column("cut", justify="right", width=3)
    for answer in trial.answers:
        text = _one_line(_text(answer))
        table.add_row(
            answer.prompt.text,
            text[-_TAIL:],
            str(len(answer.tokens)),
            str(len(answer.seams)),
        )
    return table


def _text(answer: Answer) -> Text:
    """An answer with its seams marked; a character that is torn at the end waits for its rest."""
    text = Text()
    begins = [0, *(seam.index for seam in answer.seams), len(answer.tokens)]
    decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
    for begin, end in itertools.pairwise(begins):
        if begin and begin < len(answer.tokens):
            text.append(_SEAM, style="red")
        text.append(decoder.decode(b"".join(token.text for token in answer.tokens[begin:end])))
    return text


def _one_line(text: Text) -> Text:
    return Text(" ").join(text.split("\n"))


def _table(report: Report, seed: int) -> Table:
    counts, joints, pauses = report.tally(), report.joints(), report.pauses()
    table = Table(title=f"seed {seed}")
    table.add_column("figure")
    table.add_column("value", justify="right")
    table.add_column("how it is counted")
    rows: list[tuple[str, object, str]] = [
        ("generations", len(report.answers), "prompts, all at the same time"),
        ("tokens", report.tokens, "that came"),
        ("lost", counts.lost, "tokens of the offline answers that did not come"),
        ("duplicated", counts.duplicated, "tokens that came beyond those of the offline answers"),
        ("differing", counts.differing, "tokens other than the offline ones, one by one"),
        ("kills", len(report.kills), "replicas that got SIGKILL while they generated"),
        ("seams", len(joints), "places where a generation was cut and went on"),
        *((f"  {kind}", number, "of these") for kind, number in kinds(joints).items()),
        (
            "cut to next token",
            f"{median(pauses):.2f} s",
            f"median of {len(pauses)} generations cut",
        ),
        ("  the shortest", f"{min(pauses, default=0.0):.2f} s", "of these"),
        ("  the longest", f"{max(pauses, default=0.0):.2f} s", "of these"),
        ("equal to offline", report.equal(), "generations, compared token for token"),
        ("duration", f"{report.seconds:.1f} s", "first prompt to last token"),
    ]
    for name, value, how in rows:
        table.add_row(name, str(value), how)
    return table
