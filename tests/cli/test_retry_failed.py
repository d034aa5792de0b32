"""A retry takes the output's place as a whole, or not at all."""

import io
import zlib

import pytest

from servestream_client.cli.items import InputFormat
from servestream_client.cli.job import Job
from servestream_client.cli.job_files import open_output
from servestream_client.cli.journal import FailedItem, Progress, open_journal
from servestream_client.cli.problems import Problem
from servestream_client.cli.retry_failed import _Page, finish_replacement
from servestream_client.cli.sources import Source


def beside(output):
    return output.with_name("out.retry")


def test_what_was_decided_is_done_whenever_the_process_died(output):
    output.write_bytes(b"old")
    beside(output).write_bytes(b"torn")
    with open_journal(output, create=True) as journal:
        journal.begin({})
        finish_replacement(journal, output)  # nothing was decided
        assert (output.read_bytes(), beside(output).exists()) == (b"old", False)
        beside(output).write_bytes(b"new")
        journal.replace(Progress(items=1, written=3), [])
    with open_journal(output, create=True) as journal:
        finish_replacement(journal, output)
        assert (output.read_bytes(), beside(output).exists()) == (b"new", False)
        journal.replace(Progress(items=1, written=3), [])  # renamed, and not noted any more
    with open_journal(output, create=True) as journal:
        finish_replacement(journal, output)
        assert output.read_bytes() == b"new"
        assert not journal.replacing


FAILED = [FailedItem(2, 2, 5), FailedItem(4, 7, 8)]
OLD = b"1\nbad3\n!5\n"


@pytest.mark.parametrize(
    ("ordered", "expected", "left"),
    [
        (True, b"1\ntwo\nTWO\n3\n!!\n5\n", FailedItem(4, 12, 15)),
        (False, b"1\n3\n5\ntwo\nTWO\n!!\n", FailedItem(4, 14, 17)),
    ],
)
def test_results_come_into_the_places_of_failures(ordered, expected, left):
    new = io.BytesIO()
    page = _Page(io.BytesIO(OLD + b"behind"), new, FAILED, end=len(OLD), ordered=ordered)
    page.add(FAILED[0], b"two\n", last=False, failed=False)
    page.add(FAILED[0], b"TWO\n", last=True, failed=False)
    page.add(FAILED[1], b"!!\n", last=True, failed=True)
    page.rest()
    assert new.getvalue() == expected
    assert page.failed == [left]
    assert new.getvalue()[left.start : left.end] == b"!!\n"


def test_an_output_that_was_cut_stays_as_it_is(output):
    with pytest.raises(Problem, match="left as it is"):
        _Page(io.BytesIO(OLD[:4]), io.BytesIO(), FAILED, end=len(OLD), ordered=False)


def test_a_job_goes_on_behind_a_retry(output):
    output.write_bytes(b"1\n2\n")
    with open_journal(output, create=True) as journal:
        journal.begin({})
        tail = zlib.crc32(b"1\n2\n")
        journal.replace(Progress(items=2, bytes=4, lines=2, digest="", written=4, tail=tail), [])
        finish_replacement(journal, output)
        source = Source(io.BytesIO(b"c\n"), InputFormat.TEXT, "bytes")
        with open_output(journal, output) as file:
            job = Job(journal, source, file, ordered=True)
            assert list(job.inputs()) == [b"c"]
            job.add(3, b"3\n", last=True)
            job.save()
    assert output.read_bytes() == b"1\n2\n3\n"
