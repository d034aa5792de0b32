"""`servestream call`: a file through a service, in constant memory."""

from __future__ import annotations

import io
import os
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Literal

import grpc

from servestream_client.cli.interrupts import Uninterrupted
from servestream_client.cli.items import (
    STANDARD,
    InputFormat,
    OutputFormat,
    PayloadCodec,
    Unreadable,
    input_format,
    output_format,
    printer,
)
from servestream_client.cli.job import JobOptions, Shown, Stream
from servestream_client.cli.job_files import holds_something
from servestream_client.cli.journal import journal_of, open_journal
from servestream_client.cli.opening import open_source
from servestream_client.cli.problems import Problem, errors
from servestream_client.cli.results import renumbered
from servestream_client.cli.resume import resume
from servestream_client.cli.show import count, progress, summary
from servestream_client.cli.sources import Source, behind, readable
from servestream_client.errors import ItemError
from servestream_client.outputs import Numbered
from servestream_client.sync import SyncStreamClient
from servestream_client.transport.targets import split_targets

__all__ = ["Call", "call"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """What to send where, and what to do with the results."""

    target: str
    application: str
    codec: str
    source: str
    destination: str
    input_format: InputFormat
    output_format: OutputFormat
    append: bool
    overwrite: bool
    resume: bool
    retry_failed: bool
    skip: int
    ordered: bool
    keep_going: bool
    timeout: float | None
    parameters: list[tuple[str, str]]
    metadata: list[tuple[str, str]]
    credentials: grpc.ChannelCredentials | None
    quiet: bool


def call(wanted: Call) -> int:
    """Stream every item, and write every result.

    Returns:
        How many items failed; of a job, in all its runs.

    Raises:
        Problem: a file cannot be read or written, or an item in it.
        ServeStreamError: as for `SyncStreamClient`.
    """
    form = input_format(wanted.input_format, wanted.source, wanted.codec)
    shape = output_format(wanted.output_format, wanted.destination)
    show = printer(shape, wanted.codec)
    _check_together(wanted, shape)
    with ExitStack() as stack:
        source = stack.enter_context(open_source(wanted.source, form, wanted.codec))
        _check_apart(source, wanted.destination)
        if wanted.resume:
            job = JobOptions(
                output=Path(wanted.destination),
                parquet=shape is OutputFormat.PARQUET,
                # What decides about the results. --keep-going and its like may change.
                identity={
                    "application": wanted.application,
                    "codec": wanted.codec,
                    "parameters": dict(wanted.parameters),
                    "input_format": form.value,
                    "output_format": shape.value,
                    "unordered": not wanted.ordered,
                },
                ordered=wanted.ordered,
                keep_going=wanted.keep_going,
                overwrite=wanted.overwrite,
                retry_failed=wanted.retry_failed,
                quiet=wanted.quiet,
            )
            return resume(job, source, show, lambda items: _stream(stack, wanted, items))
        destination = stack.enter_context(_destination(wanted))
        stream = _stream(stack, wanted, _inputs(source, wanted))
        return _run(stream, destination, show, wanted, source)


def _stream(stack: ExitStack, wanted: Call, items: Iterator[bytes | Unreadable]) -> Stream:
    client: SyncStreamClient[bytes | Unreadable, bytes] = stack.enter_context(
        SyncStreamClient(
            split_targets(wanted.target),
            application=wanted.application,
            codec=PayloadCodec(wanted.codec),
            metadata=wanted.metadata,
            credentials=wanted.credentials,
        )
    )
    return client.stream(
        items,
        ordered=wanted.ordered,
        return_exceptions=wanted.keep_going,
        timeout=wanted.timeout,
        parameters=dict(wanted.parameters),
        numbered=True,
    )


def _inputs(source: Source, wanted: Call) -> Iterator[bytes | Unreadable]:
    """What is to be sent. One that cannot be read fails like any, or ends it."""
    for payload in behind(source, wanted.skip):
        yield readable(payload, keep_going=wanted.keep_going)


def _check_together(wanted: Call, shape: OutputFormat) -> None:
    """That the options go together."""
    if wanted.resume and (wanted.append or wanted.skip):
        raise Problem("--resume knows where to continue; leave out --skip and --append")
    if wanted.append and wanted.overwrite:
        raise Problem("--append and --overwrite contradict each other")
    if wanted.retry_failed and not wanted.resume:
        raise Problem("--retry-failed needs --resume, which records the failures")
    if not wanted.resume and shape is OutputFormat.PARQUET:
        raise Problem("writing Parquet needs --resume: the file is made once all results are there")
    if wanted.resume and wanted.destination == STANDARD:
        raise Problem("--resume needs a file for the results: pass --output")


# ---------------------------------------------------------------- a run of its own


@dataclass(slots=True)
class _Written:
    """What was written: results, and of which items.

    Attributes:
        results: how many.
        items: whose results are all there; they are the first ones of an ordered stream.
        of_next: results of the item behind these, which may have more.
        failed: items that failed.
    """

    results: int = 0
    items: int = 0
    of_next: int = 0
    failed: int = 0

    def add(self, result: Numbered[bytes] | ItemError) -> None:
        """Count a result, which is written."""
        found = result if isinstance(result, ItemError) else result.output
        self.results += found is not None
        self.of_next += found is not None
        self.failed += isinstance(result, ItemError)
        if isinstance(result, ItemError) or result.last:
            self.items += 1
            self.of_next = 0


def _run(
    stream: Stream,
    destination: BinaryIO,
    show: Shown,
    wanted: Call,
    source: Source,
) -> int:
    began = time.monotonic()
    written = _Written()
    # Somebody may type, or look on.
    prompt = destination.isatty() or not source.seekable
    # A bar on the terminal where results are shown would tear them apart.
    mute = wanted.quiet or destination.isatty()
    try:
        with progress(source, mute=mute) as tell, Uninterrupted() as whole:
            for result in renumbered(stream, lambda sent: wanted.skip + sent):
                whole.begin()
                found = result if isinstance(result, ItemError) else result.output
                if found is not None:
                    destination.write(show(found))
                written.add(result)
                if prompt:
                    destination.flush()
                whole.end()
                tell(stream.statistics)
        destination.flush()
    except BaseException:
        whole_lines = _flushed(destination) and not whole.torn
        if not wanted.quiet and written.results and not whole_lines:
            errors().print("not everything was written, and the last result perhaps in part")
        elif not wanted.quiet and written.results:
            how = "begin anew" if stream.statistics().stateful else _how(wanted, written)
            errors().print(f"written: {count(written.results, 'result')}; {how}")
        raise
    if not wanted.quiet:
        text = summary(
            stream.statistics(),
            items=written.items,
            failed=written.failed,
            results=written.results,
            seconds=time.monotonic() - began,
            blank=source.blank,
        )
        errors().print(text)
    return written.failed


def _how(wanted: Call, written: _Written) -> str:
    """How to go on behind what was written."""
    if not wanted.ordered:
        return "in no order"
    skip = f"--skip {wanted.skip + written.items}"
    if written.of_next:
        last = "the last one is" if written.of_next == 1 else f"the last {written.of_next} are"
        return f"{last} of an item that has more: remove them, and continue with [bold]{skip}[/]"
    more = "" if wanted.destination == STANDARD else " --append"
    return f"continue with [bold]{skip}{more}[/]"


def _flushed(destination: BinaryIO) -> bool:
    """Whether everything that was written has got there."""
    try:
        destination.flush()
    except OSError:
        return False
    return True


@contextmanager
def _destination(wanted: Call) -> Iterator[BinaryIO]:
    path = wanted.destination
    if path == STANDARD:
        if sys.stdout is None:
            raise Problem("standard output is closed")
        yield sys.stdout.buffer
        return
    output = Path(path)
    if holds_something(output) and not (wanted.append or wanted.overwrite):
        raise Problem(
            f"{path} already exists: replace it with --overwrite, add to it with --append, or"
            " resume the job that wrote it with --resume"
        )
    if output.is_file() or not output.exists():
        _leave_job(output, wanted)
    with _open(path, "ab" if wanted.append else "wb") as file:
        yield file


def _leave_job(output: Path, wanted: Call) -> None:
    """A journal beside the output would speak of results that are no longer there."""
    if not journal_of(output).exists():
        return
    if wanted.append:
        raise Problem(f"{output} belongs to a job; resume that with --resume")
    with open_journal(output, create=False) as journal:
        if journal is not None:
            journal.path.unlink()


def _check_apart(source: Source, destination: str) -> None:
    """That what is read is not what is written, which would be emptied first."""
    if destination == STANDARD or not source.seekable:
        return
    with suppress(OSError, io.UnsupportedOperation):  # it is not there yet, or no file
        if os.path.samestat(os.fstat(source.file.fileno()), Path(destination).stat()):
            raise Problem(f"{destination} is the input, too")


def _open(path: str, mode: Literal["wb", "ab"]) -> BinaryIO:
    try:
        return Path(path).open(mode)
    except OSError as error:
        raise Problem(f"{path}: {error.strerror}") from None
