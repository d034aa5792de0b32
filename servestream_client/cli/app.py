"""The commands and their options."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from servestream_client.cli import connect, demos
from servestream_client.cli.bench import Load, Mode, bench
from servestream_client.cli.call import Call, call
from servestream_client.cli.generate import Generate, generate
from servestream_client.cli.items import InputFormat, OutputFormat
from servestream_client.cli.problems import ExitCode, for_people
from servestream_client.version import __version__

__all__ = ["app"]

app: typer.Typer = typer.Typer(
    name="servestream",
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Exit codes: 0 all went well, 1 items failed, 2 wrong usage, 3 the stream failed,"
    " 70 a fault of the command, 129, 130, 143 ended by SIGHUP, Ctrl-C, SIGTERM, 141 nobody reads"
    " the results any more.",
)


def _version(value: bool) -> None:
    if value:
        typer.echo(f"servestream {__version__}")
        raise typer.Exit


@app.callback()
def common(
    *,
    version: Annotated[
        bool,
        typer.Option("--version", callback=_version, is_eager=True, help="Show the version."),
    ] = False,
) -> None:
    """Streams to Ray Serve that survive their replicas."""


_CALL_EPILOG = """\
[bold]Examples[/]

servestream call 127.0.0.1:9000 -a upper -i words.txt

echo '{"text": "hello"}' | servestream call 127.0.0.1:9000 -a sentiment --codec json

servestream call 127.0.0.1:9000 --codec json -i in.jsonl -o out.jsonl --keep-going --resume

servestream call 127.0.0.1:9000 --codec my.Codec --input-format frames -i items.bin
"""


@app.command("call", epilog=_CALL_EPILOG)
def call_command(
    target: connect.Target,
    *,
    application: connect.Application = "",
    codec: connect.Codec = "bytes",
    source: Annotated[
        str, typer.Option("--input", "-i", metavar="FILE", help="The items; -: standard input.")
    ] = "-",
    destination: Annotated[
        str, typer.Option("--output", "-o", metavar="FILE", help="The results.")
    ] = "-",
    input_format: Annotated[
        InputFormat,
        typer.Option(
            help="How items stand in the input: JSON values or text, one a line; CSV, whose records"
            " become objects of strings; Parquet; or raw frames (length in 4 bytes, big-endian,"
            " then the payload). auto: by the file's name, which may end in .gz, .bz2, .xz or"
            " .zst, too."
        ),
    ] = InputFormat.AUTO,
    output_format: Annotated[
        OutputFormat,
        typer.Option(
            help="How results are written: JSON, one a line; the text of each, one a line; a"
            " Parquet table; or raw frames. auto: by the file's name."
        ),
    ] = OutputFormat.AUTO,
    unordered: Annotated[
        bool, typer.Option("--unordered", help="Results as they are ready.")
    ] = False,
    keep_going: Annotated[
        bool,
        typer.Option(
            "--keep-going",
            "-k",
            help='Write {"error": ...} for an item that fails, and go on. Otherwise it ends the'
            " stream.",
        ),
    ] = False,
    skip: Annotated[int, typer.Option(min=0, metavar="N", help="Leave out the first N items.")] = 0,
    append: Annotated[
        bool, typer.Option("--append", help="Add to an output that already exists.")
    ] = False,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace an output that already exists.")
    ] = False,
    resume: Annotated[
        bool,
        typer.Option(
            "--resume",
            help="Resume an earlier run of this command, however it ended: the output becomes what"
            " an undisturbed run writes. Progress is kept beside the output, in FILE.job.",
        ),
    ] = False,
    retry_failed: Annotated[
        bool,
        typer.Option(
            "--retry-failed",
            help="With --resume, once the job is finished: try the items again that failed, and"
            " replace their errors.",
        ),
    ] = False,
    timeout: Annotated[
        float | None,
        typer.Option(
            min=0.001, metavar="SECONDS", help="For the whole stream.", show_default=False
        ),
    ] = None,
    parameter: Annotated[
        list[str] | None,
        typer.Option(metavar="KEY=VALUE", help="For the service. Repeatable."),
    ] = None,
    quiet: Annotated[
        bool, typer.Option("--quiet", "-q", help="No progress and no summary.")
    ] = False,
    metadata: connect.Metadata = None,
    tls: connect.Tls = False,
    ca: connect.Authority = None,
    cert: connect.Certificate = None,
    key: connect.Key = None,
) -> None:
    """Send items through a service, and write its results.

    Items come from a file or from standard input, and results go out while others are still read,
    in constant memory. A replica that dies is not noticed but for a pause.
    """
    with for_people():
        failed = call(
            Call(
                target=target,
                application=application,
                codec=codec,
                source=source,
                destination=destination,
                input_format=input_format,
                output_format=output_format,
                append=append,
                overwrite=overwrite,
                resume=resume,
                retry_failed=retry_failed,
                skip=skip,
                ordered=not unordered,
                keep_going=keep_going,
                timeout=timeout,
                parameters=connect.pairs("--parameter", parameter),
                metadata=connect.pairs("--metadata", metadata),
                credentials=connect.credentials(tls=tls, authority=ca, certificate=cert, key=key),
                quiet=quiet,
            )
        )
    if failed:
        raise typer.Exit(ExitCode.ITEMS_FAILED)


_GENERATE_EPILOG = """\
[bold]Examples[/]

servestream generate 127.0.0.1:9000 -a chat "Tell me about the sea."

servestream generate 127.0.0.1:9000 --codec json --field text '{"prompt": "hello"}'

servestream generate 127.0.0.1:9000 --lines - < prompts.txt > outputs.jsonl
"""


@app.command("generate", epilog=_GENERATE_EPILOG)
def generate_command(
    target: connect.Target,
    inputs: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="INPUT",
            show_default=False,
            help="What to send. -, or none: lines of standard input.",
        ),
    ] = None,
    *,
    application: connect.Application = "",
    codec: connect.Codec = "bytes",
    input_format: Annotated[
        InputFormat,
        typer.Option(
            help="How each input stands there: a JSON value or text; auto: by the codec. Raw"
            " frames, as for call, from standard input only."
        ),
    ] = InputFormat.AUTO,
    lines: Annotated[
        bool,
        typer.Option(
            "--lines",
            "-l",
            help='Write a line of JSON for each output: {"number": of its input, "index": which of'
            ' its outputs, "output": ...}, and "seam" where it joins those of another replica.',
        ),
    ] = False,
    field: Annotated[
        str | None,
        typer.Option(
            metavar="NAME", help="Print one field of outputs that are objects.", show_default=False
        ),
    ] = None,
    keep_going: Annotated[
        bool,
        typer.Option(
            "--keep-going",
            "-k",
            help="Say that an input failed, and go on with the others. Otherwise it ends them.",
        ),
    ] = False,
    concurrency: Annotated[
        int,
        typer.Option("--concurrency", "-c", min=1, help="How many inputs run at once."),
    ] = 16,
    timeout: Annotated[
        float | None,
        typer.Option(min=0.001, metavar="SECONDS", help="For each input.", show_default=False),
    ] = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No summary.")] = False,
    metadata: connect.Metadata = None,
    tls: connect.Tls = False,
    ca: connect.Authority = None,
    cert: connect.Certificate = None,
    key: connect.Key = None,
) -> None:
    """Send inputs to a service with many outputs for each, and print these as they come.

    Text is printed as it is, without line breaks of its own but at the end of each input's;
    outputs that are neither text nor bytes are lines of JSON. Several inputs run at once, and are
    printed in order. Ctrl-C stops them at the service, too.
    """
    with for_people():
        failed = generate(
            Generate(
                target=target,
                application=application,
                codec=codec,
                inputs=inputs or (),
                input_format=input_format,
                lines=lines,
                field=field,
                keep_going=keep_going,
                concurrency=concurrency,
                timeout=timeout,
                metadata=connect.pairs("--metadata", metadata),
                credentials=connect.credentials(tls=tls, authority=ca, certificate=cert, key=key),
                quiet=quiet,
            )
        )
    if failed:
        raise typer.Exit(ExitCode.ITEMS_FAILED)


_BENCH_EPILOG = """\
[bold]Examples[/]

servestream bench 127.0.0.1:9000 -a upper --item hello

servestream bench 127.0.0.1:9000 --codec json -i items.jsonl --concurrency 8 --duration 60

servestream bench 127.0.0.1:9000 --mode predict --concurrency 64 --rate 500 --plot latency.png
"""


@app.command("bench", epilog=_BENCH_EPILOG)
def bench_command(
    target: connect.Target,
    *,
    application: connect.Application = "",
    codec: connect.Codec = "bytes",
    mode: Annotated[
        Mode,
        typer.Option(
            help="stream: each worker is a stream; predict: each is a caller with one item at a"
            " time, and calls share few streams."
        ),
    ] = Mode.STREAM,
    source: Annotated[
        str | None,
        typer.Option(
            "--input", "-i", metavar="FILE", help="Items, read once and sent again and again."
        ),
    ] = None,
    input_format: Annotated[InputFormat, typer.Option(help="As for call.")] = InputFormat.AUTO,
    item: Annotated[
        str | None, typer.Option(help="The one item to send, as a line of the input would have it.")
    ] = None,
    size: Annotated[
        int, typer.Option(min=0, metavar="BYTES", help="Without items: of random ones, for bytes.")
    ] = 100,
    concurrency: Annotated[int, typer.Option("--concurrency", "-c", min=1, help="Workers.")] = 1,
    rate: Annotated[
        float | None,
        typer.Option(
            min=0.001,
            metavar="ITEMS/S",
            help="Of all workers; latency then counts from when an item was due. Without it,"
            " as fast as results come back.",
            show_default=False,
        ),
    ] = None,
    duration: Annotated[
        float, typer.Option("--duration", "-d", min=0.1, metavar="SECONDS", help="How long.")
    ] = 10.0,
    warmup: Annotated[
        float, typer.Option(min=0, metavar="SECONDS", help="Before it, not counted.")
    ] = 1.0,
    window: Annotated[
        int,
        typer.Option(min=1, metavar="ITEMS", help="Unanswered ones that a stream may have."),
    ] = 1024,
    json: Annotated[
        Path | None,
        typer.Option("--json", metavar="FILE", dir_okay=False, help="Write the figures there."),
    ] = None,
    plot: Annotated[
        Path | None,
        typer.Option(
            "--plot", metavar="FILE", dir_okay=False, help="Draw them: .png, .svg or .pdf."
        ),
    ] = None,
    metadata: connect.Metadata = None,
    tls: connect.Tls = False,
    ca: connect.Authority = None,
    cert: connect.Certificate = None,
    key: connect.Key = None,
) -> None:
    """Put load on a service, and measure throughput, latency and resumes.

    Figures are of this machine, this moment and this service: compare them with others of the same.
    """
    with for_people():
        failed = bench(
            Load(
                target=target,
                application=application,
                codec=codec,
                mode=mode,
                source=source,
                input_format=input_format,
                item=item,
                size=size,
                concurrency=concurrency,
                rate=rate,
                duration=duration,
                warmup=warmup,
                window=window,
                metadata=connect.pairs("--metadata", metadata),
                credentials=connect.credentials(tls=tls, authority=ca, certificate=cert, key=key),
            ),
            json=json,
            plot=plot,
        )
    if failed:
        raise typer.Exit(ExitCode.ITEMS_FAILED)


@app.command()
def key() -> None:
    """Make a key with which a stateful service seals its states.

    Set SERVESTREAM_STATE_KEYS to it on all replicas. To exchange it, put the new one behind the
    old one everywhere (`old,new`), then before it (`new,old`), and take the old one away once no
    state is in use that it sealed.
    """
    from servestream_client.server.sealing import new_key

    print(new_key())  # noqa: T201 — it is for a pipe


app.command("demo", epilog=demos.DEMO_EPILOG)(demos.demo)
app.command("demo-state", epilog=demos.DEMO_STATE_EPILOG)(demos.demo_state)
app.command("demo-tokens", epilog=demos.DEMO_TOKENS_EPILOG)(demos.demo_tokens)
app.command("demo-scale", epilog=demos.DEMO_SCALE_EPILOG)(demos.demo_scale)
