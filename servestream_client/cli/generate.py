"""`servestream generate`: outputs as they come, of one input or of several at once."""

from __future__ import annotations

import os
import queue
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import BinaryIO, Self, TypeVar

import grpc
import msgspec
from rich.markup import escape

from servestream_client.cli.items import (
    STANDARD,
    InputFormat,
    PayloadCodec,
    as_error,
    as_json,
    as_text,
    field_of,
    input_format,
    json_of,
    payload,
    standard_input,
    text_of,
)
from servestream_client.cli.problems import Problem, errors
from servestream_client.cli.sources import Source, payloads
from servestream_client.errors import ItemError
from servestream_client.outputs import SeamKind
from servestream_client.portal import LOOK_SECONDS
from servestream_client.sync import SyncGeneration, SyncStreamClient
from servestream_client.transport.targets import split_targets

__all__ = ["Generate", "generate"]


_AHEAD = 256
"""Outputs of one input that wait to be printed at the most, besides those that its credit allows
for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Generate:
    """What to send where, and how to print what comes."""

    target: str
    application: str
    codec: str
    inputs: Sequence[str]
    input_format: InputFormat
    lines: bool
    field: str | None
    keep_going: bool
    concurrency: int
    timeout: float | None
    metadata: list[tuple[str, str]]
    credentials: grpc.ChannelCredentials | None
    quiet: bool


@dataclass(slots=True)
class _Counts:
    """What came of all inputs."""

    inputs: int = 0
    outputs: int = 0
    failed: int = 0
    first: float | None = None
    """Seconds until the first output."""


def generate(wanted: Generate) -> int:
    """Send every input, and print its outputs as they come.

    Returns:
        How many inputs failed.

    Raises:
        Problem: an input cannot be read, or an output not be shown.
        ServeStreamError: as for `SyncGeneration`.
    """
    items = _items(wanted)
    if sys.stdout is None:
        raise Problem("standard output is closed")
    began = time.monotonic()
    counts, seams = _Counts(), Counter[SeamKind]()
    page = _Page(sys.stdout.buffer, wanted)
    client = SyncStreamClient(
        split_targets(wanted.target),
        application=wanted.application,
        codec=PayloadCodec(wanted.codec),
        metadata=wanted.metadata,
        credentials=wanted.credentials,
    )
    with client, _Answers(client, items, wanted) as answers:
        try:
            for answer in answers:
                counts.inputs += 1
                try:
                    for outputs in answer.outputs():
                        if counts.first is None:
                            counts.first = time.monotonic() - began
                        counts.outputs += len(outputs)
                        page.print(answer.number, outputs)
                except ItemError as error:
                    if not wanted.keep_going:
                        raise
                    counts.failed += 1
                    page.fail(error)
                finally:
                    seams.update(seam.kind for seam in answer.generation.seams)
                page.end()
        except BaseException:
            page.break_off()
            if counts.outputs and not wanted.quiet:
                errors().print(_summary(counts, seams, time.monotonic() - began))
            raise
    if not wanted.quiet:
        errors().print(_summary(counts, seams, time.monotonic() - began))
    return counts.failed


def _items(wanted: Generate) -> Iterator[bytes]:
    """The inputs as payloads. Those that are given as arguments are looked at before anything is
    sent.
    """
    form = input_format(wanted.input_format, "", wanted.codec)
    if form in (InputFormat.FRAMES, InputFormat.CSV) and set(wanted.inputs) - {STANDARD}:
        raise Problem(f"--input-format {form} is for standard input only")
    given = [
        None if text == STANDARD else payload(os.fsencode(text), form, wanted.codec)
        for text in wanted.inputs or (STANDARD,)
    ]
    if given.count(None) > 1:
        raise Problem("standard input can be read once only")
    read: Iterator[bytes] = iter(())
    if None in given:
        read = payloads(Source(standard_input(), form, wanted.codec))

    def items() -> Iterator[bytes]:
        for item in given:
            if item is None:
                yield from read
            else:
                yield item

    return items()


# ---------------------------------------------------------------- reading

T = TypeVar("T")


def _next_of(waiting: queue.SimpleQueue[T]) -> T:
    """What comes next, for the main thread: it looks for signals meanwhile, and waits in none of
    the classes of `threading` that one may leave locked (see `portal`).
    """
    while True:
        with suppress(queue.Empty):
            return waiting.get(timeout=LOOK_SECONDS)


_Output = tuple[int, bytes, SeamKind | None]
"""Its index; its payload; how it joins the one before, if that is of another replica."""


class _Answer:
    """One input's outputs: read in one thread, and printed in another."""

    def __init__(self, number: int, generation: SyncGeneration[bytes]) -> None:
        self.number = number
        self.generation = generation
        self._ready: queue.SimpleQueue[_Output | None] = queue.SimpleQueue()  # None: the end
        self._room = threading.Semaphore(_AHEAD)
        self._left = False
        self._error: BaseException | None = None

    def read(self) -> None:
        """Until there are no more, or nobody wants them."""
        try:
            with self.generation:
                for index, output in enumerate(self.generation):
                    if not self._add(index, output):
                        return
        except BaseException as error:
            if isinstance(error, ItemError):
                error.number = self.number  # among all of this command's
            self._error = error
        finally:
            self._ready.put(None)

    def _add(self, index: int, output: bytes) -> bool:
        seams = self.generation.seams
        kind = next((seam.kind for seam in seams if seam.index == index), None)
        self._room.acquire()
        self._ready.put((index, output, kind))
        return not self._left

    def outputs(self) -> Iterator[list[_Output]]:
        """As they come: all that there are at a time.

        Raises:
            ServeStreamError: as for `SyncGeneration`.
        """
        while (first := _next_of(self._ready)) is not None:
            ready = [first]
            # Nobody else takes any, so that what is there stays there.
            while len(ready) < _AHEAD and not self._ready.empty():
                if (output := self._ready.get()) is None:
                    self._ready.put(None)
                    break
                ready.append(output)
            self._room.release(len(ready))
            yield ready
        if self._error is not None:
            raise self._error

    def leave(self) -> None:
        """Nobody wants any more of them."""
        self._left = True
        self._room.release()


class _Answers:
    """The answers of all inputs, in their order, of which so many run at once.

    Its threads are daemons: one may wait in a read of what has no end.
    """

    def __init__(
        self, client: SyncStreamClient[bytes, bytes], items: Iterable[bytes], wanted: Generate
    ) -> None:
        self._client = client
        self._items = items
        self._timeout = wanted.timeout
        self._places = threading.Semaphore(wanted.concurrency)
        self._begun: queue.SimpleQueue[_Answer | BaseException | None] = queue.SimpleQueue()
        self._running: list[_Answer] = []
        self._lock = threading.Lock()
        self._left = False

    def __enter__(self) -> Self:
        threading.Thread(target=self._feed, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._left = True
            running = list(self._running)
        self._places.release()
        for answer in running:
            answer.leave()

    def __iter__(self) -> Iterator[_Answer]:
        while (answer := _next_of(self._begun)) is not None:
            if isinstance(answer, BaseException):
                raise answer
            yield answer
            with self._lock:
                self._running.remove(answer)
            self._places.release()

    def _feed(self) -> None:
        try:
            for number, item in enumerate(self._items, 1):
                self._places.acquire()
                if not self._begin(number, item):
                    return
        except BaseException as error:
            self._begun.put(error)
        else:
            self._begun.put(None)

    def _begin(self, number: int, item: bytes) -> bool:
        answer = _Answer(number, self._client.generate(item, timeout=self._timeout))
        with self._lock:
            if self._left:
                return False
            self._running.append(answer)
        threading.Thread(target=answer.read, daemon=True).start()
        self._begun.put(answer)
        return True


# ---------------------------------------------------------------- printing


class _Page:
    """Where outputs are printed."""

    def __init__(self, out: BinaryIO, wanted: Generate) -> None:
        self._out = out
        self._lines = wanted.lines
        self._field = wanted.field
        self._codec = wanted.codec
        self._in_line = False

    def print(self, number: int, outputs: Sequence[_Output]) -> None:
        """Outputs of one input, at once and whole."""
        show = self._line if self._lines else self._text
        self._write(b"".join(show(number, output) for output in outputs))

    def fail(self, error: ItemError) -> None:
        """An input has failed, and others go on."""
        if self._lines:
            self._write(as_error(error) + b"\n")
        else:
            self.end()
            errors().print(f"[bold red]error:[/] {escape(str(error))}")

    def end(self) -> None:
        """An input has no further output."""
        if self._in_line:
            self._write(b"\n")

    def break_off(self) -> None:
        """Nothing more is printed: what is said next begins a line of the terminal."""
        with suppress(OSError, ValueError):
            if self._out.isatty():
                self.end()

    def _write(self, text: bytes) -> None:
        if text:
            self._in_line = not text.endswith(b"\n")
            self._out.write(text)
            self._out.flush()

    def _text(self, _: int, output: _Output) -> bytes:
        if self._field is not None:
            return text_of(field_of(output[1], self._field, self._codec))
        return as_text(output[1], self._codec)

    def _line(self, number: int, output: _Output) -> bytes:
        index, found, seam = output
        if self._field is not None:
            shown = json_of(field_of(found, self._field, self._codec))
        else:
            shown = as_json(found, self._codec)
        line: dict[str, object] = {"number": number, "index": index, "output": msgspec.Raw(shown)}
        if seam is not None:
            line["seam"] = seam.value
        return msgspec.json.encode(line) + b"\n"


def _summary(counts: _Counts, seams: Counter[SeamKind], seconds: float) -> str:
    of = "" if counts.inputs == 1 else f" of {_count(counts.inputs, 'input')}"
    parts = [f"{_count(counts.outputs, 'output')}{of}"]
    if counts.failed:
        parts.append(f"[red]{_count(counts.failed, 'input')} failed[/]")
    kinds = ", ".join(f"{seams[kind]:,} {kind.value}" for kind in SeamKind if seams[kind])
    parts.append(f"{_count(seams.total(), 'seam')}{f' ({kinds})' if kinds else ''}")
    first = f", the first after {counts.first:.2f} s" if counts.first is not None else ""
    return f"{', '.join(parts)}; {seconds:.1f} s{first}"


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}{'' if number == 1 else 's'}"
