import asyncio
import json
import queue
import re
import signal
import subprocess
import sys

import pytest
from services import Deltas, PackedDeltas, Strings, Tokens

from servestream_client.server import Replay, StreamService
from servestream_client.testing import StreamServer

COMMAND = [sys.executable, "-m", "servestream_client.cli", "generate"]


@pytest.fixture
def stream_service():
    return Tokens()


@pytest.fixture
def generate(servestream, stream_server):
    """Runs the command on a server of `Tokens`."""

    def run(*arguments, stdin=b""):
        return servestream("generate", stream_server.target, *arguments, stdin=stdin)

    return run


def lines(text: str) -> list:
    return [json.loads(line) for line in text.splitlines()]


def tokens(name: str, count: int) -> str:
    return "".join(f"{name}{index} " for index in range(count))


def test_text_as_it_comes_and_a_line_break_at_its_end(generate):
    code, out, err = generate("word:5")
    assert (code, out) == (0, tokens("word", 5) + "\n")
    assert re.fullmatch(r"5 outputs, 0 seams; \d+\.\d s, the first after \d+\.\d\d s\n", err)


def test_several_run_at_once_and_are_printed_in_order(generate):
    names = [f"{chr(ord('a') + n)}:{400 + 100 * (n % 3)}" for n in range(20)]
    code, out, err = generate(*names)
    assert code == 0
    expected = [tokens(name, int(count)) for name, count in (each.split(":") for each in names)]
    assert out.splitlines() == expected
    assert " outputs of 20 inputs, 0 seams" in err


def test_they_do_run_at_once(make_stream_server, servestream):
    class Meeting(StreamService[bytes, bytes]):
        """Nobody is answered before all three are there."""

        def __init__(self):
            self.there = asyncio.Barrier(3)

        async def generate(self, item, resume):
            await self.there.wait()
            yield item

    server = make_stream_server(Meeting())
    code, out, _ = servestream("generate", server.target, "a", "b", "c", "-q", "--timeout", 20)
    assert (code, out) == (0, "a\nb\nc\n")


def test_no_more_of_them_than_it_is_told(make_stream_server, servestream):
    class Busy(StreamService[bytes, bytes]):
        most = running = 0

        async def generate(self, item, resume):
            Busy.running += 1
            Busy.most = max(Busy.most, Busy.running)
            for _ in range(10):
                await asyncio.sleep(0)
            Busy.running -= 1
            yield item

    server = make_stream_server(Busy)
    items = [f"{n}" for n in range(30)]
    code, out, _ = servestream("generate", server.target, *items, "--concurrency", 2)
    assert (code, out.split()) == (0, items)
    assert Busy.most <= 2


@pytest.mark.parametrize("arguments", [[], ["-"]], ids=str)
def test_prompts_from_standard_input(generate, arguments):
    code, out, _ = generate(*arguments, "-q", stdin="a:2\nb:1\n")
    assert (code, out) == (0, "a0 a1 \nb0 \n")


def test_both(generate):
    code, out, _ = generate("a:1", "-", "c:1", "-q", stdin="b:1\n")
    assert (code, out) == (0, "a0 \nb0 \nc0 \n")


def test_an_input_may_have_lines(make_stream_server, servestream):
    class Count(StreamService[bytes, bytes]):
        async def generate(self, item, resume):
            yield b"%d" % item.count(b"\n")

    server = make_stream_server(Count)
    assert servestream("generate", server.target, "a\nb\n", "-q")[:2] == (0, "2\n")


def test_a_line_for_each_output(generate):
    code, out, _ = generate("--lines", "a:2", "b:1", "nothing:0")
    assert code == 0
    assert lines(out) == [
        {"number": 1, "index": 0, "output": "a0 "},
        {"number": 1, "index": 1, "output": "a1 "},
        {"number": 2, "index": 0, "output": "b0 "},
    ]


# ---------------------------------------------------------------- codecs


def test_strings_are_text_and_other_values_are_lines(make_stream_server, servestream):
    server = make_stream_server(Strings)
    command = ("generate", server.target, "--codec", "json", "-q")
    code, out, _ = servestream(*command, "--input-format", "text", "so it is")
    assert (code, out) == (0, 'so it is \u00fc\n5\n["so it is"]\n')
    code, out, _ = servestream(*command, "--lines", '"x"')
    assert [line["output"] for line in lines(out)] == ["x", " \u00fc\n", 5, ["x"]]


def test_one_field_of_each_output(make_stream_server, servestream):
    server = make_stream_server(Deltas)
    command = ("generate", server.target, "--codec", "json", '{"text": "one two"}', "-q")
    assert servestream(*command, "--field", "word")[:2] == (0, "onetwo\n")
    assert servestream(*command, "--field", "index")[:2] == (0, "0\n1\n")
    code, out, _ = servestream(*command, "--field", "word", "--lines")
    assert [line["output"] for line in lines(out)] == ["one", "two"]
    code, out, err = servestream(*command, "--field", "text")
    assert (code, out) == (3, "")
    assert "--field text: an output has no such field; it has: word, index" in err


def test_messagepack(make_stream_server, servestream):
    server = make_stream_server(PackedDeltas)
    command = ("generate", server.target, "--codec", "msgpack", '{"a": 2}', "-q")
    assert servestream(*command)[:2] == (0, '{"key":"a","bytes":"AAA="}\n')
    assert servestream(*command, "--field", "bytes")[:2] == (0, "\0\0\n")


# ---------------------------------------------------------------- what can go wrong


def test_an_input_that_fails_ends_it(generate):
    code, out, err = generate("a:1", "bad:5", "c:1")
    assert code == 1
    assert out.startswith("a0 \nbad0 bad1 ")
    assert "c0" not in out
    assert "3 outputs of 2 inputs" in err
    assert "error: input 2 failed (handler): ValueError: no such word" in err


def test_or_is_said_and_the_others_go_on(generate):
    code, out, err = generate("a:1", "bad:5", "c:1", "-k")
    assert (code, out) == (1, "a0 \nbad0 bad1 \nc0 \n")
    assert "error: input 2 failed (handler): ValueError: no such word" in err
    assert "1 input failed" in err
    code, out, _ = generate("bad:5", "c:1", "-k", "--lines")
    assert code == 1
    assert lines(out)[2]["error"]["number"] == 1
    assert lines(out)[3] == {"number": 2, "index": 0, "output": "c0 "}


@pytest.mark.parametrize(
    ("arguments", "stdin", "expected"),
    [
        (["--codec", "json", "{"], "", (2, "the input cannot be read")),
        (["--codec", "mine", "x"], "", (2, "--input-format frames only")),
        (["--input-format", "frames", "x"], "", (2, "for standard input only")),
        (["-", "-"], "", (2, "once only")),
        (["--codec", "json", "1"], "", (3, "codec")),
        (["--field", "x", "a:1"], "", (3, "an output cannot be shown")),
        (["endless", "--timeout", "0.2"], "", (3, "timeout of 0.2 s")),
    ],
    ids=str,
)
def test_what_cannot_be_is_said_in_words(generate, arguments, stdin, expected):
    code, _, err = generate(*arguments, stdin=stdin)
    assert code == expected[0]
    assert expected[1] in err
    assert "Traceback" not in err


def test_a_line_that_cannot_be_read_ends_it_behind_the_others(make_stream_server, servestream):
    server = make_stream_server(Strings)
    code, out, err = servestream("generate", server.target, "--codec", "json", stdin='"a"\n{')
    assert (code, out.splitlines()[0]) == (2, "a \u00fc")
    assert "line 2 of the input cannot be read" in err


def test_a_seam_is_counted_and_stands_in_its_line(make_stream_server, servestream):
    class Dies(StreamService[bytes, bytes]):
        replay = Replay.SEEK
        server: StreamServer

        async def generate(self, item, resume):
            for index in range(resume.index, 1000):
                if index == 500 and not resume:
                    Dies.server._die(Dies.server.lives)
                    await (
                        asyncio.Event().wait()
                    )  # or its connection may carry more before it is cut
                yield b"%d " % index

    server = Dies.server = make_stream_server(Dies)
    code, out, err = servestream("generate", server.target, "x", "--lines")
    assert code == 0
    found = lines(out)
    assert [line["output"] for line in found] == [f"{n} " for n in range(1000)]
    seams = [line for line in found if "seam" in line]
    assert [line["seam"] for line in seams] == ["exact"]
    assert 0 < seams[0]["index"] < 1000
    assert "1,000 outputs, 1 seam (1 exact); " in err


# ---------------------------------------------------------------- as a process


def test_ctrl_c_ends_it_at_the_server_too(stream_server, monkeypatch):
    monkeypatch.setattr(Tokens, "closed", queue.SimpleQueue())
    with subprocess.Popen(
        [*COMMAND, stream_server.target, "endless:5"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        stdin=subprocess.PIPE,
    ) as process:
        assert process.stdout.read(9) == b"endless0 "
        assert Tokens.closed.empty()
        process.send_signal(signal.SIGINT)
        _, err = process.communicate()
    assert process.returncode == 130, err
    assert b"1 output, 0 seams" in err
    assert b"interrupted" in err
    assert b"Traceback" not in err
    assert Tokens.closed.get(timeout=20) == "endless"


def test_ctrl_c_while_it_waits_for_a_prompt(stream_server):
    with subprocess.Popen(
        [*COMMAND, stream_server.target],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        stdin=subprocess.PIPE,
    ) as process:
        process.stdin.write(b"a:2\n")
        process.stdin.flush()
        assert process.stdout.readline() == b"a0 a1 \n"  # at once, since somebody may type
        process.send_signal(signal.SIGINT)
        process.wait()  # with its standard input open
        err = process.stderr.read()
    assert process.returncode == 130, err
    assert b"Traceback" not in err


def test_a_reader_that_has_enough_is_no_error(stream_server):
    with subprocess.Popen(
        [*COMMAND, stream_server.target, "a:1000000"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        process.stdout.read(1000)
        process.stdout.close()
        err = process.stderr.read()
    assert process.returncode == 141, err
    assert b"Traceback" not in err
