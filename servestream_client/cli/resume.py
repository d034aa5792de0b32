"""`servestream call --resume`: the same command, run again until it is done."""

from __future__ import annotations

import time
from contextlib import closing
from dataclasses import replace

from servestream_client.cli.interrupts import Uninterrupted
from servestream_client.cli.job import Job, JobOptions, OpenStream, Shown, Stream
from servestream_client.cli.job_files import check_same, go_on, holds_something, open_output
from servestream_client.cli.journal import Journal, open_journal
from servestream_client.cli.parquet import rows_of, write_parquet
from servestream_client.cli.problems import Problem, errors
from servestream_client.cli.results import refuse_state
from servestream_client.cli.retry_failed import finish_replacement, retry
from servestream_client.cli.show import count, progress, summary
from servestream_client.cli.sources import Source
from servestream_client.errors import ItemError

__all__ = ["resume"]


def resume(wanted: JobOptions, source: Source, show: Shown, open_stream: OpenStream) -> int:
    """Begin a job, or go on with it.

    Returns:
        How many of its items failed, in all runs.

    Raises:
        Problem: it is another job, or the input or the output is another one; another process works
            on it; an item cannot be read.
        ServeStreamError: as for `SyncStreamClient`.
        OSError: a disk is full, or worse.
    """
    if wanted.output.exists() and not wanted.output.is_file():
        raise Problem(f"{wanted.output} is no file, and --resume needs one for the results")
    if not wanted.parquet:
        return _resume(wanted, source, show, open_stream)
    if rows_of(wanted.output).exists() or wanted.overwrite or not holds_something(wanted.output):
        lines = replace(wanted, output=rows_of(wanted.output))
        failed = _resume(lines, source, show, open_stream)
        write_parquet(wanted.output)
        return failed
    raise Problem(f"{wanted.output} already exists; replace it with --overwrite")


def _resume(wanted: JobOptions, source: Source, show: Shown, open_stream: OpenStream) -> int:
    output = wanted.output
    with open_journal(output, create=True) as journal:
        assert journal is not None  # noqa: S101 — it is created
        _begin(journal, wanted)
        if wanted.retry_failed:
            return retry(journal, wanted, source, show, open_stream)
        go_on(journal, source, output)
        with open_output(journal, output) as file:
            job = Job(journal, source, file, ordered=wanted.ordered)
            inputs = job.inputs(keep_going=wanted.keep_going)
            with closing(job), open_stream(inputs) as stream:
                return _run(job, stream, show, wanted, source)


def _begin(journal: Journal, wanted: JobOptions) -> None:
    if journal.job is None and not wanted.overwrite and holds_something(wanted.output):
        journal.path.unlink()
        raise Problem(
            f"{wanted.output} already exists, and was not written with --resume; replace it with"
            " --overwrite"
        )
    if journal.job is None or wanted.overwrite:
        journal.begin(wanted.identity)
    check_same(journal, wanted.identity, wanted.output)
    journal.run()
    finish_replacement(journal, wanted.output)


def _run(job: Job, stream: Stream, show: Shown, wanted: JobOptions, source: Source) -> int:
    began = time.monotonic()
    failed = job.failed
    try:
        with progress(source, mute=wanted.quiet) as tell, Uninterrupted() as whole:
            if job.resumed_at and not wanted.quiet:
                errors().print(f"resuming after {count(job.resumed_at, 'item')}")
            try:
                for result in stream:
                    if not job.results:
                        refuse_state(stream)
                    whole.begin()
                    job.take(result, show)
                    whole.end()
                    tell(stream.statistics)
            except ItemError as error:
                error.number = job.number_of(error.number)
                raise
            whole.begin()
            job.save(whole=True)
            whole.end()
    except BaseException:
        if not whole.torn:
            job.save_what_can_be()
        if not wanted.quiet:
            errors().print(
                f"{count(job.saved, 'item')} done; to resume, run [bold]the same command[/]"
                f"{' without --overwrite' if wanted.overwrite else ''} again"
            )
        raise
    if not wanted.quiet:
        text = summary(
            stream.statistics(),
            items=job.items - job.resumed_at,
            failed=job.failed - failed,
            results=job.results,
            seconds=time.monotonic() - began,
            blank=source.blank,
        )
        errors().print(text)
        errors().print(_all(job))
    return job.failed


def _all(job: Job) -> str:
    text = f"{count(job.items, 'item')} in all"
    if job.failed:
        text += f", [red]{job.failed:,} of them failed[/]: --retry-failed tries those again"
    return text
