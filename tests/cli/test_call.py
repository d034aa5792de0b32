import json
import os
import shlex
import signal
import struct
import subprocess
import sys

import psutil
import pytest
from services import Lengths, Packed

from servestream_client.cli import call
from servestream_client.cli.items import PayloadCodec
from servestream_client.server import StreamService
from servestream_client.testing import Fault, FaultKind

COMMAND = [sys.executable, "-m", "servestream_client.cli"]


def lines(text: str) -> list:
    return [json.loads(line) for line in text.splitlines()]


def test_text_from_standard_input(servestream, stream_server):
    code, out, err = servestream("call", stream_server.target, stdin="one\ntwo\r\n\nthree")
    assert code == 0
    assert lines(out) == ["ONE", "TWO", "", "THREE"]
    assert "4 answered" in err


def test_json_lines_through_a_typed_service(servestream, make_stream_server, tmp_path):
    server = make_stream_server(Lengths)
    source, destination = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    source.write_text('{"text": "hello"}\n{ "text" : "" }\n')
    code, out, err = servestream(
        "call", server.target, "--codec", "json", "-i", source, "-o", destination, "--quiet"
    )
    assert (code, out, err) == (0, "", "")
    assert destination.read_text() == '{"length":5}\n{"length":0}\n'


def test_json_lines_through_messagepack(servestream, make_stream_server):
    server = make_stream_server(Packed)
    code, out, _ = servestream("call", server.target, "--codec", "msgpack", stdin='{"a": 2}')
    assert (code, lines(out)) == (0, [{"a": "AAA="}])


def test_frames_in_and_out(servestream, stream_server, tmp_path):
    items = [b"one\n", b"", bytes(100_000)]
    source, destination = tmp_path / "in.bin", tmp_path / "out.bin"
    source.write_bytes(b"".join(struct.pack(">I", len(item)) + item for item in items))
    options = ("--input-format", "frames", "--output-format", "frames")
    code, _, _ = servestream(
        "call", stream_server.target, *options, "-i", source, "-o", destination
    )
    assert code == 0
    outputs = [item.upper() for item in items]
    expected = b"".join(struct.pack(">I", len(output)) + output for output in outputs)
    assert destination.read_bytes() == expected


@pytest.mark.parametrize(
    ("form", "expected"),
    [("json", b'"\\u00dc"\n'.decode("unicode_escape")), ("text", "\u00dc\n")],
)
def test_what_is_text_is_shown_as_text(servestream, stream_server, form, expected):
    _, out, _ = servestream(
        "call", stream_server.target, "--output-format", form, stdin="\u00dc".encode()
    )
    assert out == expected


def test_what_is_no_text_is_shown_in_base64(servestream, stream_server):
    _, out, _ = servestream("call", stream_server.target, stdin=b"\xff\xfe")
    assert lines(out) == [{"base64": "//4="}]


def test_an_item_that_fails_ends_it(servestream, stream_server):
    code, out, err = servestream("call", stream_server.target, stdin="a\nbad\nc\n")
    assert code == 1
    assert lines(out) == ["A"]
    assert "input 2 failed (handler): ValueError: no such word" in err
    assert "--skip 1" in err


def test_or_stands_in_its_place(servestream, stream_server):
    code, out, err = servestream("call", stream_server.target, "-k", stdin="a\nbad\nc\n")
    assert code == 1
    first, error, last = lines(out)
    assert (first, last) == ("A", "C")
    assert error["error"]["kind"] == "handler"
    assert error["error"]["number"] == 2
    assert "1 of them failed" in err


def test_what_was_written_can_be_skipped(servestream, stream_server):
    code, out, _ = servestream("call", stream_server.target, "--skip", 2, stdin="a\nbad\nc\n")
    assert (code, lines(out)) == (0, ["C"])


class Letters(StreamService[bytes, bytes]):
    """Each letter of a word, and none behind a full stop."""

    async def generate(self, item, resume):
        for letter in item.decode():
            if letter == ".":
                raise ValueError("a full stop")
            yield letter.encode()


def test_items_with_many_results_are_counted_by_their_ends(servestream, make_stream_server):
    target = make_stream_server(Letters).target
    code, out, err = servestream("call", target, "--output-format", "text", stdin="abc\nde\n")
    assert (code, out) == (0, "a\nb\nc\nd\ne\n")
    assert "2 answered, 5 results" in err
    code, out, err = servestream("call", target, stdin="abc\nde.f\ng\n")
    assert (code, lines(out)) == (1, [*"abcde"])
    assert "the last 2 are of an item that has more: remove them, and continue with --skip 1" in err
    code, out, err = servestream("call", target, "-k", stdin="abc\nde.f\ng\n")
    *letters, last = lines(out)
    assert (code, letters[:5], last) == (1, [*"abcde"], "g")
    assert "3 answered, 1 of them failed, 7 results" in err


def test_a_file_that_was_begun_is_gone_on_with(servestream, stream_server, tmp_path):
    source, destination = tmp_path / "in.txt", tmp_path / "out.jsonl"
    source.write_text("a\nb\nbad\nc\n")
    command = ("call", stream_server.target, "-i", source, "-o", destination)
    code, _, err = servestream(*command)
    assert (code, lines(destination.read_text())) == (1, ["A", "B"])
    assert "continue with --skip 2 --append" in err
    source.write_text("a\nb\ngood\nc\n")
    code, _, _ = servestream(*command, "--skip", 2, "--append")
    assert (code, lines(destination.read_text())) == (0, ["A", "B", "GOOD", "C"])
    servestream(*command, "--overwrite")
    assert lines(destination.read_text()) == ["A", "B", "GOOD", "C"]


@pytest.mark.stream_faults(Fault(FaultKind.KILL, at=500))
def test_a_replica_dies_and_nobody_notices(servestream, stream_server):
    words = [f"word {number}" for number in range(1000)]
    code, out, err = servestream("call", stream_server.target, stdin="\n".join(words))
    assert code == 0
    assert lines(out) == [word.upper() for word in words]
    assert "1 resume, " in err


# ---------------------------------------------------------------- what can go wrong


@pytest.mark.parametrize(
    ("arguments", "stdin", "expected"),
    [
        (["--codec", "json"], '{"text"\n', (2, "line 1 of the input cannot be read")),
        (["--codec", "json"], b'"\xff"', (2, "line 1 of the input cannot be read")),
        (["--codec", "mine"], "x", (2, "--input-format frames only")),
        (["--input-format", "frames"], b"\0\0", (2, "frame 1 of the input has no sensible length")),
        (["--input-format", "frames"], b"\0\0\0\5x", (2, "ends after 1 of 5 B")),
        (["-i", "/not/there"], "", (2, "/not/there: No such file or directory")),
        (["-o", "/not/there"], "", (2, "/not/there: No such file or directory")),
        (["-o", "/dev/full"], "x", (2, "No space left on device")),
        (["--parameter", "x"], "", (2, "--parameter takes KEY=VALUE, not 'x'")),
        (["--metadata", "UP=x"], "", (2, "metadata keys are in lower case")),
        (["--key", __file__], "", (2, "--cert and --key go together")),
        (["--codec", "json", "-k"], '"x"', (3, "this service speaks codec 'bytes'")),
    ],
)
def test_plain_mistakes_are_said_in_words(servestream, stream_server, arguments, stdin, expected):
    code, words = expected
    found, out, err = servestream("call", stream_server.target, *arguments, stdin=stdin)
    assert (found, out) == (code, "")
    assert words in err
    assert "Traceback" not in err


def test_results_before_a_line_that_cannot_be_read_are_written(servestream, make_stream_server):
    server = make_stream_server(Lengths)
    code, out, err = servestream(
        "call", server.target, "--codec", "json", stdin='{"text": "hello"}\noops\n'
    )
    assert (code, lines(out)) == (2, [{"length": 5}])
    assert "line 2" in err


def test_nobody_listens(servestream):
    code, _, err = servestream("call", "127.0.0.1:1", stdin="x")
    assert code == 3
    assert "nobody answers there" in err


def test_the_target_may_come_from_the_environment(servestream, stream_server, monkeypatch):
    monkeypatch.setenv("SERVESTREAM_TARGET", stream_server.target)
    assert servestream("call", stdin="x")[:2] == (0, '"X"\n')


# ---------------------------------------------------------------- as a process


def test_a_reader_that_has_enough_is_no_error(stream_server):
    with subprocess.Popen(
        [*COMMAND, "call", stream_server.target],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        process.stdout.close()
        _, err = process.communicate(b"x\n" * 200_000)
    assert process.returncode == 141, err
    assert b"Traceback" not in err


@pytest.mark.parametrize(
    ("number", "unbuffered"),
    [(signal.SIGINT, ""), (signal.SIGINT, "1"), (signal.SIGTERM, ""), (signal.SIGHUP, "")],
)
def test_a_signal_says_where_it_was(stream_server, number, unbuffered):
    with subprocess.Popen(
        [*COMMAND, "call", stream_server.target],
        env={**os.environ, "PYTHONUNBUFFERED": unbuffered},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        process.stdin.write(b"one\n")
        process.stdin.flush()
        assert process.stdout.readline() == b'"ONE"\n'  # at once, since more may take long to come
        process.send_signal(number)
        process.wait()  # with its standard input open: nothing else ends it
        err = process.stderr.read()
    assert process.returncode == 128 + number, err
    assert b"--skip 1" in err
    said = "interrupted" if number == signal.SIGINT else f"ended by {number.name}"
    assert said.encode() in err
    assert b"Traceback" not in err


def test_memory_does_not_grow_with_the_input(stream_server):
    """Ten times as many items of 10 kB, 100 MB in all, and no more memory."""

    def peak(items: int) -> int:
        with subprocess.Popen(
            [*COMMAND, "call", stream_server.target, "-q", "-o", os.devnull],
            stdin=subprocess.PIPE,
        ) as process:
            for _ in range(items):
                process.stdin.write(b"x" * 10_000 + b"\n")
            process.stdin.flush()
            memory = psutil.Process(process.pid).memory_info().rss
            process.stdin.close()
        assert process.returncode == 0
        return memory

    small = peak(1000)
    assert peak(10_000) < small + 30_000_000


def test_a_timeout_is_a_stream_that_failed(servestream, stream_server):
    stream_server.add_faults(Fault(FaultKind.HANG, at=1))
    code, _, err = servestream("call", stream_server.target, "--timeout", 0.2, stdin="a")
    assert code == 3
    assert "timeout" in err


def test_a_file_is_not_read_and_written_at_once(servestream, stream_server, tmp_path):
    file = tmp_path / "same.txt"
    file.write_text("a\nb\n")
    for more in ((), ("--append",)):
        code, _, err = servestream("call", stream_server.target, "-i", file, "-o", file, *more)
        assert (code, file.read_text()) == (2, "a\nb\n")
        assert "is the input, too" in err


def test_a_full_disk_does_not_say_where_to_go_on(servestream, stream_server):
    code, _, err = servestream("call", stream_server.target, "-o", "/dev/full", stdin="a\nb\n")
    assert code == 2
    assert "No space left" in err
    assert "perhaps in part" in err
    assert "--skip" not in err


def test_a_fault_of_the_command_is_no_failed_item(servestream, stream_server, monkeypatch):
    def broken(*_: object) -> None:
        raise RuntimeError("a bug")

    monkeypatch.setattr(call, "behind", broken)
    code, _, err = servestream("call", stream_server.target, stdin="x")
    assert code == 70
    assert "RuntimeError: a bug" in err
    assert "please report it" in err


def test_a_line_that_cannot_be_read_can_be_skipped(servestream, make_stream_server):
    server = make_stream_server(Lengths)
    command = ("call", server.target, "--codec", "json", "--skip", 2)
    code, out, _ = servestream(*command, stdin='{"text": "a"}\n{bad\n{"text": "b"}\n')
    assert (code, lines(out)) == (0, [{"length": 1}])


@pytest.mark.parametrize(
    ("codec", "line"), [("json", "[" * 100_000), ("msgpack", "123456789012345678901234567890")]
)
def test_a_line_beyond_its_codec_is_said_in_words(servestream, stream_server, codec, line):
    code, _, err = servestream("call", stream_server.target, "--codec", codec, stdin=line)
    assert code == 2
    assert "line 1 of the input cannot be read" in err


def test_a_result_that_is_no_json_is_said_in_words(servestream, make_stream_server):
    class Odd(StreamService[bytes, bytes]):
        codec = PayloadCodec("json")

        def predict(self, item):
            return b"NaN" if item == b"1" else item

    server = make_stream_server(Odd)
    code, out, err = servestream("call", server.target, "--codec", "json", stdin="5\n1\n")
    assert (code, out) == (3, "5\n")
    assert "cannot be shown as JSON" in err
    assert "--skip 1" in err, "what was not written is not left out"


@pytest.mark.parametrize("closed", [">&-", "<&-"])
def test_a_standard_stream_that_is_closed_is_said_in_words(stream_server, closed):
    command = f"{shlex.join([*COMMAND, 'call', stream_server.target])} {closed}"
    done = subprocess.run(
        ["/bin/sh", "-c", command], capture_output=True, text=True, check=False, stdin=None
    )
    assert done.returncode == 2
    assert "is closed" in done.stderr


def test_who_is_told_not_to_heed_ctrl_c_goes_on(stream_server):
    with subprocess.Popen(
        [
            "/bin/sh",
            "-c",
            f"trap '' INT; exec {shlex.join([*COMMAND, 'call', stream_server.target])}",
        ],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        process.stdin.write(b"one\n")
        process.stdin.flush()
        assert process.stdout.readline() == b'"ONE"\n'
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(b"two\n")
    assert (process.returncode, out) == (0, b'"TWO"\n'), err
