"""`servestream call --resume` as its users run it: processes, files, signals."""

import gzip
import json
import os
import random
import signal
import subprocess
import sys
from typing import ClassVar

import pytest
from effort import effort
from services import Counting, Words

from servestream_client import JsonCodec
from servestream_client.server import StreamService
from servestream_client.testing import Fault, FaultKind, StreamServer

COMMAND = [sys.executable, "-m", "servestream_client.cli"]


@pytest.fixture
def files(tmp_path):
    return tmp_path / "in.txt", tmp_path / "out.jsonl"


@pytest.fixture
def resumed(servestream, stream_server, files):
    """Runs `call --resume` from the one file to the other."""

    def run(*more: object) -> tuple[int, str, str]:
        source, output = files
        return servestream(
            "call", stream_server.target, "-i", source, "-o", output, "--resume", *more
        )

    return run


def shown(words: str) -> str:
    return "".join(f'"{word.upper()}"\n' for word in words.split())


def test_a_job_that_an_item_ended_goes_on_behind_it(resumed, files):
    source, output = files
    source.write_text("a\nb\nbad\nc\n")
    code, _, err = resumed()
    assert (code, output.read_text()) == (1, shown("a b"))
    assert "input 3 failed" in err
    assert "2 items done; to resume, run the same command again" in err
    code, _, err = resumed("--keep-going")
    assert code == 1
    assert "resuming after 2 items" in err
    assert "4 items in all, 1 of them failed: --retry-failed tries those again" in err
    lines = output.read_text().splitlines()
    assert [lines[0], lines[1], lines[3]] == ['"A"', '"B"', '"C"']
    assert json.loads(lines[2])["error"]["number"] == 3
    before = output.read_bytes()
    assert resumed("--keep-going")[0] == 1, "done, and an item of it failed"
    assert output.read_bytes() == before


def test_an_input_that_grew_is_gone_on_with(resumed, files):
    source, output = files
    source.write_text("a\nb\n")
    assert resumed()[0] == 0
    with source.open("a") as file:
        file.write("c\n")
    code, _, err = resumed()
    assert (code, output.read_text()) == (0, shown("a b c"))
    assert "1 answered" in err
    assert "3 items in all" in err


@pytest.mark.parametrize(
    ("more", "text"),
    [
        (["--application", "other"], "application was '', and is 'other'"),
        (["--codec", "json"], "codec was 'bytes', and is 'json'"),
        (["--parameter", "a=1"], "parameters was {}, and is {'a': '1'}"),
        (["--unordered"], "unordered was False, and is True"),
        (["--input-format", "frames"], "input format was 'text', and is 'frames'"),
    ],
)
def test_another_job_is_refused_and_told_what_is_another(resumed, files, more, text):
    source, output = files
    source.write_text("a\nb\n")
    assert resumed()[0] == 0
    before = output.read_bytes()
    code, _, err = resumed(*more)
    assert code == 2
    assert text in err
    assert output.read_bytes() == before


@pytest.mark.parametrize(
    ("grown", "result"),
    [("a\nb\n", "a b"), ("a\nb\r\nc\n", "a b c"), ("a\nbcd\ne\n", None), ("a\nb c", None)],
)
def test_a_last_line_without_an_end_may_get_one_and_nothing_else(resumed, files, grown, result):
    source, output = files
    source.write_text("a\nb")
    assert resumed()[0] == 0
    source.write_bytes(grown.encode())
    code, _, err = resumed()
    if result is None:
        assert (code, output.read_text()) == (2, shown("a b"))
        assert "the last line of the input has grown" in err
    else:
        assert (code, output.read_text()) == (0, shown(result))
        assert resumed()[0] == 0
        assert output.read_text() == shown(result)


def test_another_input_is_refused(resumed, files):
    source, output = files
    source.write_text("a\nb\n")
    assert resumed()[0] == 0
    source.write_text("a\nB\nc\n")
    code, _, err = resumed()
    assert (code, output.read_text()) == (2, shown("a b"))
    assert "the input has changed" in err
    code, _, err = resumed("--overwrite")
    assert (code, output.read_text()) == (0, shown("a b c"))


def test_nothing_that_is_there_is_overwritten(servestream, stream_server, resumed, files):
    source, output = files
    source.write_text("a\nb\n")
    output.write_text("mine\n")
    code, _, err = resumed()
    assert (code, output.read_text()) == (2, "mine\n")
    assert "was not written with --resume" in err
    assert sorted(output.parent.iterdir()) == sorted([source, output])
    command = ("call", stream_server.target, "-i", source, "-o", output)
    code, _, err = servestream(*command)
    assert (code, output.read_text()) == (2, "mine\n")
    assert "replace it with --overwrite" in err
    assert servestream(*command, "--append")[0] == 0
    assert output.read_text() == "mine\n" + shown("a b")
    assert servestream(*command, "--overwrite")[0] == 0
    assert output.read_text() == shown("a b")


def test_a_journal_does_not_outlive_its_output(servestream, stream_server, resumed, files):
    source, output = files
    source.write_text("a\nb\n")
    assert resumed()[0] == 0
    command = ("call", stream_server.target, "-i", source, "-o", output)
    code, _, err = servestream(*command, "--append")
    assert code == 2
    assert "belongs to a job" in err
    assert servestream(*command, "--overwrite")[0] == 0
    assert sorted(output.parent.iterdir()) == sorted([source, output])
    assert resumed("--overwrite")[0] == 0
    output.unlink()
    assert servestream(*command)[0] == 0
    assert sorted(output.parent.iterdir()) == sorted([source, output])


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (["--resume", "--skip", "1"], "leave out --skip and --append"),
        (["--resume", "--append"], "leave out --skip and --append"),
        (["--append", "--overwrite"], "contradict each other"),
        (["--retry-failed"], "needs --resume"),
        (["--resume"], "needs a file for the results"),
        (["--resume", "-o", "/dev/null"], "is no file"),
    ],
)
def test_options_that_do_not_go_together(servestream, stream_server, options, text):
    code, _, err = servestream("call", stream_server.target, *options, stdin="a\n")
    assert code == 2
    assert text in err


def test_standard_input_must_be_the_same_again(servestream, stream_server, files):
    _, output = files
    command = ("call", stream_server.target, "-o", output, "--resume")
    assert servestream(*command, stdin="a\nb\nbad\n")[0] == 1
    code, _, err = servestream(*command, stdin="a\nx\ngood\n")
    assert code == 2
    assert "the input has changed" in err
    assert servestream(*command, stdin="a\nb\ngood\nc\n")[0] == 0
    assert output.read_text() == shown("a b good c")


class Parts(StreamService[bytes, bytes]):
    """A word's letters, or its failure behind two of them."""

    words: ClassVar[list[str]] = []

    async def generate(self, item, resume):
        self.words.append(item.decode())
        for place, letter in enumerate(item.decode()):
            if place == 2 and item.startswith(b"bad") and self.words.count(item.decode()) == 1:
                raise ValueError("no such word")
            yield letter.encode()


def test_an_unfinished_job_has_nothing_to_try_again(resumed, files):
    source, output = files
    source.write_text("a\nbad\nc\n")
    assert resumed()[0] == 1
    for _ in range(2):
        code, _, err = resumed("--retry-failed", "-k")
        assert code == 2
        assert "is not finished" in err
    assert output.read_text() == shown("a")


def test_the_item_that_ends_a_run_has_its_number(servestream, stream_server, resumed, files):
    source, output = files
    source.write_text("a\nb\nc\nbad\n")
    for _ in range(2):
        code, _, err = resumed()
        assert (code, output.read_text()) == (1, shown("a b c"))
        assert "input 4 failed" in err
    code, _, err = servestream("call", stream_server.target, "-i", source, "--skip", 2)
    assert code == 1
    assert "input 4 failed" in err


@pytest.mark.parametrize("unordered", [[], ["--unordered"]])
def test_what_failed_is_tried_again_in_its_place(servestream, make_stream_server, files, unordered):
    Parts.words.clear()
    server = make_stream_server(Parts)
    source, output = files
    source.write_text("ab\nbadly\ncd\nbad\nef\n")
    command = ("call", server.target, "-i", source, "-o", output, "-k", "--resume", *unordered)
    code, _, err = servestream(*command)
    assert code == 1
    assert "2 of them failed" in err
    assert output.read_text().count("error") == 2
    code, _, err = servestream(*command, "--retry-failed")
    assert code == 0, err
    assert "2 items tried again, 2 with a result now" in err
    letters = [json.loads(line) for line in output.read_text().splitlines()]
    if unordered:
        assert sorted(letters) == sorted("abbadlycdbadef")
    else:
        assert "".join(letters) == "abbadlycdbadef"
    code, _, err = servestream(*command, "--retry-failed")
    assert code == 0
    assert "no item has failed" in err
    with source.open("a") as file:
        file.write("gh\n")
    assert servestream(*command)[0] == 0
    assert output.read_text().endswith('"g"\n"h"\n')


def test_a_line_that_cannot_be_read_is_an_error_in_its_place(
    servestream, make_stream_server, tmp_path
):
    class Doubled(StreamService[int, int]):
        codec = JsonCodec(int, int)

        async def predict(self, item):
            return 2 * item

    server = make_stream_server(Doubled)
    source, output = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    source.write_text("1\n\n{oops\n  \n3\n")
    command = ("call", server.target, "--codec", "json", "-i", source, "-o", output)
    code, _, err = servestream(*command, "--resume")
    assert (code, output.read_text()) == (2, "2\n")
    assert "line 3 of the input cannot be read" in err
    for more in (["--resume"], ["--overwrite"]):
        code, _, err = servestream(*command, *more, "--keep-going")
        assert code == 1
        first, error, last = map(json.loads, output.read_text().splitlines())
        assert (first, last) == (2, 6)
        assert error["error"]["number"] == 2
        assert error["error"]["kind"] == "input_encode"
        assert error["error"]["message"].startswith("line 3 of the input cannot be read")
    assert "2 blank lines skipped" in err


# ---------------------------------------------------------------- as a process


class Killed:
    """Runs a command again and again, killing it with SIGKILL at random moments, until it ends."""

    def __init__(self, rng: random.Random, output) -> None:
        self.kills = 0
        self._rng = rng
        self._output = output

    def run(self, command: list[str]) -> str:
        while True:
            size = self._size()
            process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
            # Once it has written so much more: that, and no time, says how far it came.
            wanted = size + self._rng.randrange(1, 1_200_000)
            while process.poll() is None and self._size() < wanted:
                os.sched_yield()
            ended = process.poll() is not None
            process.kill()
            _, err = process.communicate()
            if ended:
                assert process.returncode == 0, err
                return err
            self.kills += 1

    def _size(self) -> int:
        return self._output.stat().st_size if self._output.exists() else 0


@pytest.mark.parametrize("kind", ["lines", "csv", "gz", "unordered"])
@pytest.mark.parametrize("again", range(1, effort(2, 12)))
def test_killed_as_often_as_one_likes_the_output_is_the_same(stream_server, tmp_path, kind, again):
    seed = f"{kind} {again}"
    many = 15_000
    words = [f"word {number} {'x' * (number % 400)}" for number in range(many)]
    source = tmp_path / {"csv": "in.csv", "gz": "in.txt.gz"}.get(kind, "in.txt")
    if kind == "csv":
        source.write_text("word,number\n" + "".join(f'"{w},\n",{n}\n' for n, w in enumerate(words)))
    elif kind == "gz":
        source.write_bytes(gzip.compress("\n".join(words).encode()))
    else:
        source.write_text("\n".join(words))
    options = ["--unordered"] if kind == "unordered" else []
    plain, output = tmp_path / "plain.jsonl", tmp_path / "out.jsonl"
    command = [*COMMAND, "call", stream_server.target, "-i", str(source), *options]
    subprocess.run([*command, "-o", str(plain)], check=True)
    killed = Killed(random.Random(seed), output)
    stream_server.add_faults(Fault(FaultKind.KILL, at=1000))
    killed.run([*command, "-o", str(output), "--resume"])
    print(f"seed {seed!r}: killed {killed.kills} times")
    assert killed.kills > 1
    undisturbed, found = plain.read_bytes(), output.read_bytes()
    if kind == "unordered":
        undisturbed, found = (sorted(text.splitlines()) for text in (undisturbed, found))
    assert found == undisturbed


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_it_in_order(servestream, stream_server, files, number):
    _, output = files
    assert servestream("call", stream_server.target, "-o", output, "--resume", stdin="a\n")[0] == 0
    with subprocess.Popen(
        [*COMMAND, "call", stream_server.target, "-o", str(output), "--resume"],
        stdin=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        process.stdin.write("a\nb\n")
        process.stdin.flush()
        assert process.stderr.readline() == "resuming after 1 item\n"
        process.send_signal(number)
        process.wait()  # with its standard input open: nothing else ends it
        err = process.stderr.read()
    assert process.returncode == 128 + number, err
    assert "done; to resume, run the same command again" in err
    assert "Traceback" not in err
    assert ("interrupted" if number == signal.SIGINT else f"ended by {number.name}") in err
    code, _, _ = servestream(
        "call", stream_server.target, "-o", output, "--resume", stdin="a\nb\nc\n"
    )
    assert (code, output.read_text()) == (0, shown("a b c"))


def test_a_disk_that_is_full_loses_nothing(stream_server, tmp_path):
    """A limit on the size of files says the same as a full disk: the write fails in its midst."""
    source, output, plain = (tmp_path / name for name in ("in.txt", "out.jsonl", "plain.jsonl"))
    source.write_text("".join(f"word {number}\n" for number in range(20_000)))
    command = [*COMMAND, "call", stream_server.target, "-i", str(source)]
    subprocess.run([*command, "-o", str(plain)], check=True)
    job = [*command, "-o", str(output), "--resume"]
    limited = (
        "import resource, signal, runpy, sys\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))\n"
        "sys.argv[0] = 'servestream'\n"
        "runpy.run_module('servestream_client.cli', run_name='__main__')\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", limited, *job[3:]], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2, done.stderr
    assert "File too large" in done.stderr
    assert "done; to resume, run the same command again" in done.stderr
    assert "Traceback" not in done.stderr
    subprocess.run(job, check=True)
    assert output.read_bytes() == plain.read_bytes()


class TestAStatefulService:
    @pytest.fixture
    def stream_service(self):
        return Counting()

    def test_its_state_would_be_lost(self, resumed, files):
        source, output = files
        source.write_text("a\nb\n")
        code, _, err = resumed()
        assert code == 2
        assert (
            "the service keeps a state from item to item, which --resume does not keep"
            in " ".join(err.split())
        )
        assert output.read_bytes() == b""
        assert "0 items done" in err

    def test_without_it_nobody_is_told_to_skip(self, servestream, stream_server, files):
        source, output = files
        source.write_text("a\nb\nbad\n")
        code, _, err = servestream("call", stream_server.target, "-i", source, "-o", output)
        assert code == 1
        assert output.read_text() == '"1"\n"2"\n'
        assert "written: 2 results; begin anew" in err

    def test_nor_are_its_failures_tried_again(self, resumed, files, output_of_words):
        """The service was another one when the job was done."""
        _, output = files
        before = output.read_bytes()
        code, _, err = resumed("--keep-going", "--retry-failed")
        assert code == 2
        assert "the service keeps a state from item to item" in " ".join(err.split())
        assert output.read_bytes() == before

    @pytest.fixture
    def output_of_words(self, servestream, files):
        source, output = files
        source.write_text("a\nbad\n")
        with StreamServer(Words) as server:
            arguments = ("-i", source, "-o", output, "--resume", "--keep-going")
            assert servestream("call", server.target, *arguments)[0] == 1
