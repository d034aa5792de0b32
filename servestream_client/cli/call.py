"""`servestream call`: a file through a service, in constant memory."""

from __future__ import annotations

import io
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import BinaryIO, Literal, Self

import grpc
from rich.progress import (
    BarColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from servestream_client.cli.items import (
    STANDARD,
    InputFormat,
    OutputFormat,
    PayloadCodec,
    input_format,
    payloads,
    printer,
    standard_input,
)
from servestream_client.cli.problems import Problem, errors
from servestream_client.errors import ItemError
from servestream_client.events import StreamStatistics
from servestream_client.outputs import Numbered
from servestream_client.sync import SyncPredictionStream, SyncStreamClient
from servestream_client.transport.targets import split_targets

__all__ = ["Call", "call"]

_SHOW_SECONDS = 0.1


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
        How many items failed.

    Raises:
        Problem: a file cannot be read or written, or an item in it.
        ServeStreamError: as for `SyncStreamClient`.
    """
    form = input_format(wanted.input_format, wanted.source, wanted.codec)
    show = printer(wanted.output_format, wanted.codec)
    with ExitStack() as stack:
        source = stack.enter_context(_source(wanted.source))
        _check_apart(source, wanted.destination)
        items = payloads(source, form, wanted.codec, wanted.skip)
        client = stack.enter_context(
            SyncStreamClient(
                split_targets(wanted.target),
                application=wanted.application,
                codec=PayloadCodec(wanted.codec),
                metadata=wanted.metadata,
                credentials=wanted.credentials,
            )
        )
        stream = client.stream(
            items,
            ordered=wanted.ordered,
            return_exceptions=wanted.keep_going,
            timeout=wanted.timeout,
            parameters=dict(wanted.parameters),
            numbered=True,
        )
        destination = stack.enter_context(_destination(wanted.destination, append=wanted.append))
        return _run(stream, destination, show, wanted, source)


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

    def add(self, result: Numbered[bytes] | ItemError) -> bytes | ItemError | None:
        """Count a result. Returns what there is to write; None where it only ends its item."""
        found = result if isinstance(result, ItemError) else result.output
        self.results += found is not None
        self.of_next += found is not None
        self.failed += isinstance(result, ItemError)
        if isinstance(result, ItemError) or result.last:
            self.items += 1
            self.of_next = 0
        return found


def _run(
    stream: SyncPredictionStream[Numbered[bytes] | ItemError],
    destination: BinaryIO,
    show: Callable[[bytes | ItemError], bytes],
    wanted: Call,
    source: BinaryIO,
) -> int:
    began = time.monotonic()
    written = _Written()
    # Somebody may type, or look on.
    prompt = destination.isatty() or not source.seekable()
    # A bar on the terminal where results are shown would tear them apart.
    mute = wanted.quiet or destination.isatty()
    try:
        with _progress(source, mute=mute) as tell, _Uninterrupted() as whole:
            for result in stream:
                with whole.step():
                    found = written.add(result)
                    if found is not None:
                        destination.write(show(found))
                    if prompt:
                        destination.flush()
                tell(stream.statistics)
        destination.flush()
    except BaseException:
        whole_lines = _flushed(destination)
        if not wanted.quiet and written.results and not whole_lines:
            errors().print("not everything was written, and the last result perhaps in part")
        elif not wanted.quiet and written.results:
            errors().print(f"written: {_count(written.results, 'result')}; {_how(wanted, written)}")
        raise
    if not wanted.quiet:
        errors().print(_summary(stream.statistics(), written, time.monotonic() - began))
    return written.failed


def _how(wanted: Call, written: _Written) -> str:
    """How to go on behind what was written."""
    if not wanted.ordered:
        return "in no order"
    skip = f"--skip {wanted.skip + written.items}"
    if written.of_next:
        last = "the last one is" if written.of_next == 1 else f"the last {written.of_next} are"
        return f"{last} of an item that has more: without them, [bold]{skip}[/] goes on behind"
    more = "" if wanted.destination == STANDARD else " --append"
    return f"[bold]{skip}{more}[/] goes on behind them"


def _flushed(destination: BinaryIO) -> bool:
    """Whether everything that was written has got there."""
    try:
        destination.flush()
    except OSError:
        return False
    return True


class _Uninterrupted:
    """Lets Ctrl-C strike between results, and not between writing one and counting it."""

    def __init__(self) -> None:
        self._writing = False
        self._struck = False

    def __enter__(self) -> Self:
        # One that was told not to heed it, as by nohup, goes on.
        self._heeds = signal.getsignal(signal.SIGINT) is signal.default_int_handler
        if self._heeds:
            signal.signal(signal.SIGINT, self._strike)
        return self

    def __exit__(self, *_: object) -> None:
        if self._heeds:
            signal.signal(signal.SIGINT, signal.default_int_handler)

    def _strike(self, number: int, frame: FrameType | None) -> None:
        if self._writing and not self._struck:  # the second one does not wait
            self._struck = True
        else:
            signal.default_int_handler(number, frame)

    @contextmanager
    def step(self) -> Iterator[None]:
        """What is done as a whole."""
        self._writing = True
        try:
            yield
        finally:
            self._writing = False
        if self._struck:
            raise KeyboardInterrupt


def _summary(counts: StreamStatistics, written: _Written, seconds: float) -> str:
    parts = [f"{written.items:,} answered"]
    if written.failed:
        parts.append(f"[red]{written.failed:,} of them failed[/]")
    if written.results != written.items:
        parts.append(_count(written.results, "result"))
    if counts.resumes:
        parts.append(f"{_count(counts.resumes, 'resume')}, {counts.replayed:,} sent again")
    rate = f", {written.results / seconds:,.0f}/s" if seconds > 0 else ""
    return f"{', '.join(parts)}; {seconds:.1f} s{rate}"


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}{'' if number == 1 else 's'}"


@contextmanager
def _source(path: str) -> Iterator[BinaryIO]:
    file = standard_input() if path == STANDARD else _open(path, "rb")
    try:
        yield file
    finally:
        # A thread may be waiting in a read of what has no end, and closing would wait for it.
        if file.seekable():
            file.close()


@contextmanager
def _destination(path: str, *, append: bool) -> Iterator[BinaryIO]:
    if path == STANDARD:
        if sys.stdout is None:
            raise Problem("standard output is closed")
        yield sys.stdout.buffer
        return
    with _open(path, "ab" if append else "wb") as file:
        yield file


def _check_apart(source: BinaryIO, destination: str) -> None:
    """That what is read is not what is written, which would be emptied first."""
    if destination == STANDARD or not source.seekable():
        return
    with suppress(OSError, io.UnsupportedOperation):  # it is not there yet, or no file
        if os.path.samestat(os.fstat(source.fileno()), Path(destination).stat()):
            raise Problem(f"{destination} is the input, too")


def _open(path: str, mode: Literal["rb", "wb", "ab"]) -> BinaryIO:
    try:
        return Path(path).open(mode)
    except OSError as error:
        raise Problem(f"{path}: {error.strerror}") from None


@contextmanager
def _progress(
    source: BinaryIO, *, mute: bool
) -> Iterator[Callable[[Callable[[], StreamStatistics]], None]]:
    """Yields what shows how far it is: on a terminal, and nowhere else."""
    console = errors()
    if mute or not console.is_terminal:
        yield lambda _: None
        return
    size = Path(f"/dev/fd/{source.fileno()}").stat().st_size if source.seekable() else 0
    columns = (
        SpinnerColumn(),
        *((BarColumn(), TextColumn("{task.percentage:>3.0f} %")) if size else ()),
        TextColumn("{task.fields[answered]:,} answered"),
        TextColumn("{task.fields[rate]:,.0f}/s"),
        TextColumn("{task.fields[resumes]} resumes"),
        TimeElapsedColumn(),
        *((TimeRemainingColumn(),) if size else ()),
    )
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task("", total=size or None, answered=0, rate=0.0, resumes=0)
        began = shown = time.monotonic()

        def tell(statistics: Callable[[], StreamStatistics]) -> None:
            nonlocal shown
            now = time.monotonic()
            if now - shown < _SHOW_SECONDS:
                return
            shown = now
            counts = statistics()
            progress.update(
                task,
                completed=source.tell() if size else None,
                answered=counts.received,
                rate=counts.received / (now - began),
                resumes=counts.resumes,
            )

        yield tell
