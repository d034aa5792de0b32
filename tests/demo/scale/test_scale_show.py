"""What the demo of scaling shows and judges, without Ray Serve."""

import io

import pytest
from rich.console import Console

from servestream_client.demo.scale import show
from servestream_client.demo.scale.show import Settings
from servestream_client.demo.scale.trial import Sample, Trial, Way


def samples(*replicas_and_rates: tuple[int, float]) -> list[Sample]:
    return [
        Sample(at=float(at), replicas=replicas, rate=rate, latency=0.1)
        for at, (replicas, rate) in enumerate(replicas_and_rates, 1)
    ]


@pytest.fixture
def trial() -> Trial:
    made = Trial("nowhere:1", [], [], seconds=20, callers=4, count=lambda _: 0)
    for way in made.ways:
        way.samples = samples(*[(1, 25.0)] * 7, (3, 40.0), *[(4, 50.0)] * 7)
        way.answers = 500
    made.gone = 12.0
    return made


def test_a_way_knows_when_it_reached_how_many():
    way = Way("a", "a", samples=samples((1, 1.0), (2, 1.0), (4, 1.0), (3, 1.0)))
    assert [way.reached(count) for count in (1, 2, 3, 4, 5)] == [1.0, 2.0, 3.0, 3.0, None]
    assert way.most_replicas == 4


def test_rates_at_first_and_at_best(trial):
    assert trial.ways[0].rates() == (25.0, 50.0)
    trial.ways[0].samples += samples((4, 1.0), (1, 0.0))  # what was under way at the end
    assert trial.ways[0].rates() == (25.0, 50.0)
    assert Way("a", "a").rates() == (0.0, 0.0)


def test_all_is_well(trial):
    assert show._problems(trial) == []


def test_what_is_wrong_is_said(trial):
    _, calls, stream = trial.ways
    calls.wrong = 3
    stream.samples = samples((1, 25.0), (2, 30.0))
    trial.gone = None
    said = "\n".join(show._problems(trial))
    assert "client.predict: 3 answers are wrong" in said
    assert "client.stream: 2 replicas, and unary stubs had 4" in said
    assert "still there" in said


def test_what_is_shown(trial, tmp_path):
    console = Console(file=io.StringIO(), width=140, force_terminal=False)
    console.print(show._table(trial))
    console.print(show._view(trial, Settings()))
    lines = show._plain_lines(trial, console)
    lines()
    lines()  # nothing twice
    show._draw(trial, tmp_path / "plots" / "scale.png", console)
    text = console.file.getvalue()
    assert "4 replicas after" in text
    assert text.count("client.stream:  10 s, 4 replicas, 50 images/s") == 1
    assert (tmp_path / "plots" / "scale.png").read_bytes().startswith(b"\x89PNG")
