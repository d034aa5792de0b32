"""A job goes on with what it left, and with nothing else."""

import zlib

import pytest

from servestream_client.cli.job_files import check_same, open_output
from servestream_client.cli.journal import Progress
from servestream_client.cli.problems import Problem


def test_another_job_is_told_by_what_is_another(journal, output):
    check_same(journal, {"application": "upper", "parameters": {"a": "1"}}, output)
    with pytest.raises(Problem) as caught:
        check_same(journal, {"application": "lower", "parameters": {"a": "2"}}, output)
    text = str(caught.value)
    assert "application was 'upper', and is 'lower'" in text
    assert "parameters was {'a': '1'}, and is {'a': '2'}" in text


def test_an_output_that_was_cut_is_not_gone_on_with(journal, output):
    journal.note(Progress(items=1, written=10), [])
    output.write_bytes(b"x" * 9)
    with pytest.raises(Problem, match="it had 10 bytes then, and has 9 now"):
        open_output(journal, output)
    assert output.read_bytes() == b"x" * 9


def test_an_output_of_somebody_elses_is_not_gone_on_with(journal, output):
    journal.note(Progress(items=1, written=4, tail=zlib.crc32(b"one\n")), [])
    output.write_bytes(b"other\n")
    with pytest.raises(Problem, match="has changed since its job last wrote"):
        open_output(journal, output)
    assert output.read_bytes() == b"other\n"


def test_what_stands_behind_what_is_counted_is_cut_off(journal, output):
    journal.note(Progress(items=1, written=4, tail=zlib.crc32(b"one\n")), [])
    output.write_bytes(b"one\ntw")
    open_output(journal, output).close()
    assert output.read_bytes() == b"one\n"
