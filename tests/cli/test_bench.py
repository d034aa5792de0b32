import asyncio
import json
from collections import Counter

import pytest
from services import Lengths

from servestream_client.cli.bench import quantile
from servestream_client.server import StreamService
from servestream_client.testing import Fault, FaultKind

SHORT = ("--duration", 0.5, "--warmup", 0)


def test_quantiles_by_nearest_rank():
    """The examples of https://en.wikipedia.org/wiki/Percentile#The_nearest-rank_method."""
    ordered = [15.0, 20.0, 35.0, 40.0, 50.0]
    shares = (0.05, 0.3, 0.4, 0.5, 1.0)
    assert [quantile(ordered, share) for share in shares] == [15.0, 20.0, 20.0, 35.0, 50.0]


@pytest.mark.parametrize("mode", ["stream", "predict"])
def test_figures_as_a_table_and_as_json(servestream, stream_server, tmp_path, mode):
    file = tmp_path / "figures.json"
    code, out, err = servestream(
        "bench", stream_server.target, *SHORT, "--mode", mode, "-c", 3, "--json", file
    )
    assert code == 0, err
    figures = json.loads(file.read_text())
    assert figures["answered"] > 0
    assert f"{figures['answered']:,}" in out
    assert figures["throughput"] == figures["answered"] / figures["seconds"]
    latency = figures["latency"]
    assert 0 < latency["p50"] <= latency["p90"] <= latency["p99"] <= latency["max"]
    assert list(figures["replicas"]) == ["in-process-1"]


def test_a_rate_is_kept(servestream, stream_server, tmp_path):
    """No more than is asked for: so many items are due in that time."""
    file = tmp_path / "figures.json"
    options = ("--rate", 100, "-c", 2, "--duration", 1, "--warmup", 0)
    assert servestream("bench", stream_server.target, *options, "--json", file)[0] == 0
    assert 0 < json.loads(file.read_text())["answered"] <= 101


def test_own_items_and_those_that_fail(servestream, stream_server, tmp_path):
    source, file = tmp_path / "words.txt", tmp_path / "figures.json"
    source.write_text("good\nbad\n")
    code, out, _ = servestream("bench", stream_server.target, *SHORT, "-i", source, "--json", file)
    assert code == 1
    assert "failed: handler" in out
    figures = json.loads(file.read_text())
    assert Counter(figures["failures"]).total() in range(1, figures["answered"])


def test_a_typed_service(servestream, make_stream_server):
    options = ("--codec", "json", "--item", '{"text": "x"}')
    code, out, err = servestream("bench", make_stream_server(Lengths).target, *SHORT, *options)
    assert code == 0, err
    assert "failed" not in out


@pytest.mark.stream_faults(Fault(FaultKind.KILL, at=50))
def test_resumes_are_counted(servestream, stream_server, tmp_path):
    file = tmp_path / "figures.json"
    options = ("--duration", 2, "--warmup", 0, "--json", file)
    assert servestream("bench", stream_server.target, *options)[0] == 0
    figures = json.loads(file.read_text())
    assert figures["resumes"] >= 1
    assert len(figures["replicas"]) == 2


@pytest.mark.parametrize("suffix", ["png", "svg"])
def test_a_picture(servestream, stream_server, tmp_path, suffix):
    file = tmp_path / f"deep/figures.{suffix}"
    assert servestream("bench", stream_server.target, *SHORT, "--plot", file)[0] == 0
    head = file.read_bytes()[:400]
    assert head.startswith(b"\x89PNG") if suffix == "png" else b"<svg" in head or b"<?xml" in head


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--codec", "json"], (2, "--item or --input")),
        (["-i", "/not/there"], (2, "No such file")),
        (["--rate", "inf"], (2, "must be finite")),
        (["--plot", "x.gif"], (2, ".png, .svg and .pdf")),
        (["--json", "/dev/null/x"], (2, "/dev/null/x: ")),
        (["--codec", "json", "--item", "1"], (3, "this service speaks codec 'bytes'")),
        (["--item", "bad"], (1, "ValueError: no such word")),
    ],
)
def test_plain_mistakes_are_said_in_words(servestream, stream_server, arguments, expected):
    code, words = expected
    found, out, err = servestream("bench", stream_server.target, *SHORT, *arguments)
    assert (found, out) == (code, "")
    assert words in err
    assert "Traceback" not in err


def test_a_service_that_falls_behind_does_not_prolong_it(servestream, make_stream_server, tmp_path):
    """Of 20,000 items due, those whose time has passed are not sent."""

    class Slow(StreamService[bytes, bytes]):
        max_concurrency = 1
        served = 0

        async def predict(self, item):
            await asyncio.sleep(0.005)
            type(self).served += 1
            return item

    server = make_stream_server(Slow)
    options = ("--rate", 20_000, "--duration", 1, "--warmup", 0, "--window", 16, "--size", 4)
    assert servestream("bench", server.target, *options)[0] == 0
    assert Slow.served < 2000


def test_items_of_any_kind(servestream, stream_server):
    for item in ("", "\udcff"):
        assert servestream("bench", stream_server.target, *SHORT, "--item", item)[0] == 0
