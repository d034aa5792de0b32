"""What is noted is found again, whatever the file went through; and nobody else notes there."""

import errno
import fcntl
import os
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from servestream_client.cli import journal as journal_module
from servestream_client.cli.journal import (
    FailedItem,
    Progress,
    journal_of,
    open_journal,
)
from servestream_client.cli.problems import Problem

HOLDER = """
import pathlib, sys
from servestream_client.cli.journal import open_journal
with open_journal(pathlib.Path(sys.argv[1]), create=True) as journal:
    journal.begin({})
    journal.run()
    print(flush=True)
    sys.stdin.read()
"""

JOB = {"application": "upper", "parameters": {}}


@pytest.fixture
def output(tmp_path):
    return tmp_path / "out.jsonl"


def noted(output):
    with open_journal(output, create=False) as journal:
        return journal and (journal.job, journal.progress, journal.failed, journal.replacing)


def test_what_is_noted_is_found_again(output):
    assert noted(output) is None
    one = Progress(items=3, bytes=70, lines=4, digest="ab", written=200, failed=1)
    two = Progress(items=5, bytes=90, lines=6, digest="cd", beyond=[(7, 9)], written=300, failed=2)
    with open_journal(output, create=True) as journal:
        assert journal.job is None
        journal.begin(JOB)
        journal.run()
        journal.note(one, [FailedItem(2, 10, 90)])
        journal.note(two, [FailedItem(4, 100, 190)])
    failed = [FailedItem(2, 10, 90), FailedItem(4, 100, 190)]
    assert noted(output) == (JOB, two, failed, False)
    with open_journal(output, create=False) as journal:
        journal.replace(one, failed[1:])
    assert noted(output) == (JOB, one, failed[1:], True)
    with open_journal(output, create=False) as journal:
        journal.replaced()
    assert noted(output) == (JOB, one, failed[1:], False)
    with open_journal(output, create=False) as journal:
        journal.begin({"application": "lower"})
    assert noted(output) == ({"application": "lower"}, Progress(), [], False)


@given(st.data())
def test_a_torn_record_does_not_count_and_the_next_ones_do(tmp_path_factory, data):
    output = tmp_path_factory.mktemp("torn") / "out"
    with open_journal(output, create=True) as journal:
        journal.begin(JOB)
        whole = journal_of(output).stat().st_size
        journal.note(Progress(items=1), [])
    path = journal_of(output)
    content = bytearray(path.read_bytes())
    # The disk kept some of its bytes, and others not.
    length = data.draw(st.one_of(st.just(len(content)), st.integers(whole, len(content))))
    kept = content[:length]
    if length > whole:
        at = data.draw(st.integers(whole, length - 1))
        kept[at] ^= data.draw(st.integers(0, 255))
    path.write_bytes(kept)
    intact = kept == content
    assert noted(output) == (JOB, Progress(items=1 if intact else 0), [], False)
    with open_journal(output, create=True) as journal:
        journal.note(Progress(items=2), [])
    assert noted(output) == (JOB, Progress(items=2), [], False)


def test_two_processes_do_not_work_on_one_job(output):
    holder = subprocess.Popen(
        [
            sys.executable,
            "-c",
            HOLDER,
            output,
        ],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    with holder:
        holder.stdout.readline()
        with (
            pytest.raises(Problem, match=rf"another process \({holder.pid}\) is working on"),
            open_journal(output, create=True),
        ):
            pass
        holder.kill()
    with open_journal(output, create=True) as journal:  # a lock dies with its process
        assert journal.job == {}


def test_where_a_journal_cannot_be_is_said_in_words(tmp_path):
    with (
        pytest.raises(Problem, match="no such directory"),
        open_journal(tmp_path / "not" / "there", create=True),
    ):
        pass


def test_a_journal_of_another_version_is_left_alone(output):
    with open_journal(output, create=True) as journal:
        journal._append({"job": {"version": 99}})
    before = journal_of(output).read_bytes()
    with (
        pytest.raises(Problem, match="another version"),
        open_journal(output, create=True),
    ):
        pass
    assert journal_of(output).read_bytes() == before
    assert before


def test_a_journal_of_a_long_night_stays_small(output, monkeypatch):
    monkeypatch.setattr(journal_module, "_MOST_BYTES", 2000)
    path = journal_of(output)
    largest = 0
    with open_journal(output, create=True) as journal:
        journal.begin(JOB)
        for number in range(1, 1001):
            beyond = [(number + each, number + each) for each in range(2, 30, 2)]
            failed = [FailedItem(number, number, number + 1)] if number % 100 == 0 else []
            journal.note(Progress(items=number, beyond=beyond), failed)
            largest = max(largest, path.stat().st_size)
    assert 2000 < largest < 8000
    job, progress, failures, replacing = noted(output)
    assert (job, progress.items, replacing) == (JOB, 1000, False)
    assert [item.number for item in failures] == list(range(100, 1001, 100))
    assert [each.name for each in output.parent.iterdir()] == [path.name]


def test_one_that_was_written_anew_is_locked_as_well(output, monkeypatch):
    monkeypatch.setattr(journal_module, "_MOST_BYTES", 0)
    with open_journal(output, create=True) as journal:
        journal.begin(JOB)
        journal_of(output).chmod(0o640)
        journal.note(Progress(items=1), [])
        assert journal_of(output).stat().st_mode & 0o777 == 0o640
        with (
            pytest.raises(Problem, match=rf"another process \({os.getpid()}\) is working on"),
            open_journal(output, create=True),
        ):
            pass


def test_a_disk_without_room_for_another_keeps_the_old_one(output, monkeypatch):
    with open_journal(output, create=True) as journal:
        journal.begin(JOB)
        monkeypatch.setattr(journal_module, "_MOST_BYTES", 0)

        def full(descriptor: int, data: bytes) -> int:
            if descriptor != journal._descriptor:
                raise OSError(errno.ENOSPC, "No space left on device")
            return write(descriptor, data)

        write = os.write
        monkeypatch.setattr(os, "write", full)
        journal.note(Progress(items=1), [])
        journal.note(Progress(items=2), [])
    assert noted(output) == (JOB, Progress(items=2), [], False)
    assert [each.name for each in output.parent.iterdir()] == [journal_of(output).name]


@pytest.mark.parametrize("create", [True, False])
def test_who_opened_one_that_was_then_removed_has_none(output, monkeypatch, create):
    """It waited for the lock of the process that removed it."""
    with open_journal(output, create=True) as journal:
        journal.begin(JOB)
    flock = fcntl.flock

    def removed_first(descriptor: int, how: int) -> None:
        monkeypatch.setattr(fcntl, "flock", flock)
        journal_of(output).unlink()
        flock(descriptor, how)

    monkeypatch.setattr(fcntl, "flock", removed_first)
    with open_journal(output, create=create) as journal:
        assert (journal is not None) == create
        assert journal_of(output).exists() == create


def test_one_that_was_half_written_anew_is_removed(output):
    beside = output.with_name(output.name + ".job.new")
    with open_journal(output, create=True) as journal:
        journal.begin(JOB)
    beside.write_bytes(b"half")
    assert noted(output) == (JOB, Progress(), [], False)
    assert not beside.exists()


def test_one_that_is_elsewhere_is_written_anew_there(output, tmp_path, monkeypatch):
    monkeypatch.setattr(journal_module, "_MOST_BYTES", 0)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.touch()
    journal_of(output).symlink_to(elsewhere)
    with open_journal(output, create=True) as journal:
        journal.begin(JOB)
        journal.note(Progress(items=1), [])
        journal.note(Progress(items=2), [])
    assert journal_of(output).is_symlink()
    assert noted(output) == (JOB, Progress(items=2), [], False)
