"""The tables of docs/troubleshooting.md: the tree of errors, the classification, and the log lines.

What the code says stands in the code; what people should make of it stands here. Whatever is new in
the code and has no text here, or has one here and is gone from the code, ends `make docs` in words.
"""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from servestream_client import errors
from servestream_client.errors import ServeStreamError
from servestream_client.transport import classify
from servestream_client.transport.statuses import STATUS_TABLE, Decision, Row, Where

PACKAGE = Path(__file__).resolve().parent.parent / "servestream_client"

DOES = {
    Decision.RESUME: "tries again with backoff",
    Decision.WAIT: "backs off, also after progress",
    Decision.FAIL: "raises at once",
}

AS_EVER = "what had arrived, in order; `delivered` counts it"

ADVICE: dict[str, tuple[str, str]] = {
    "ConfigurationError": (
        "nothing was started",
        "change the option or argument that the text names",
    ),
    "InputsError": (
        "nothing was started",
        "pass an iterable or an async iterable; one item alone goes into a list, to `predict`, or to"
        " `generate`",
    ),
    "CursorMismatchError": (
        "nothing behind the cursor was sent",
        "give the stream the inputs, application, codec and parameters that the cursor was made with; to"
        " begin anew, `Cursor()`",
    ),
    "ClientClosedError": (
        "of a stream that was open: what had been taken",
        "make one client for the life of the program, and close it last; after a fork, a new one",
    ),
    "WrongEventLoopError": (
        "nothing was started; of what was begun elsewhere, what had been taken",
        "one `StreamClient` for each event loop; `SyncStreamClient` where there is none",
    ),
    "StreamError": (
        AS_EVER,
        "the base of those below; catch it where all failures of a stream are one to you",
    ),
    "UnreachableError": (
        AS_EVER + "; mostly nothing, for it is most often the first attempt that fails so",
        "check address, port, TLS, and whether Serve has `grpc_options`; a server that comes up late needs"
        " `RetryPolicy(connect_timeout=...)`",
    ),
    "NotAServerError": (
        "nothing: no handshake was ever completed with that target",
        "derive the deployment from `StreamService`, register the servicer function"
        " ([existing cluster](how-to/existing-cluster.md)), and route"
        " `/servestream.v1.StreamService/` to Serve's gRPC port",
    ),
    "WrongApplicationError": (
        AS_EVER,
        "pass `application=` as Serve's config has its `name`",
    ),
    "VersionMismatchError": (
        AS_EVER,
        "bring client and replicas to releases that know each other ([policy](policy.md))",
    ),
    "CodecMismatchError": (
        AS_EVER + "; something only where a redeploy changed the codec",
        "name the same codec and types on both sides; the text has both ([codecs](how-to/codecs.md))",
    ),
    "AccessDeniedError": (
        AS_EVER,
        "send a token in `metadata=`, or a client certificate in `credentials=`"
        " ([reverse proxies](how-to/behind-a-reverse-proxy.md))",
    ),
    "RejectedError": (
        AS_EVER,
        "see the text and the service's own code: the same call would be rejected again",
    ),
    "MessageTooLargeError": (
        AS_EVER,
        "lower `FlowControl.max_item_bytes`, raise the limit that the text names, or send less metadata",
    ),
    "ServerFailedError": (
        AS_EVER,
        "look into the replica's log under the stream's id: client and server disagree, or are of"
        " releases that do not fit",
    ),
    "PeerProtocolError": (
        AS_EVER,
        "see who stands between: something alters or drops messages, or the server is not ours",
    ),
    "NotResumableError": (
        "the call ends; every reply that was handed out came once",
        "the server ignores where it is asked to begin, or gives other replies when it is asked"
        " again: `assert_resumable` shows it; resume the call in another way"
        " ([how](how-to/own-stubs.md))",
    ),
    "RetriesExhaustedError": (
        AS_EVER,
        "the last reason is in the text, the failure itself in `__cause__`. For longer outages"
        " `RetryPolicy(give_up_after=..., attempts=...)`; then go on from"
        " `delivered.taken_through` ([how](how-to/bad-items.md#when-the-stream-itself-fails))",
    ),
    "StreamTimeoutError": (
        AS_EVER,
        "allow more with `timeout=`, which counts across all attempts; the text says what was awaited",
    ),
    "ItemError": (
        "everything before it; with `return_exceptions=True` everything after it as well",
        "look at `kind`, `text` and `input` ([items that fail](how-to/bad-items.md) has every kind)",
    ),
    "InputEncodeError": (
        "as for `ItemError`",
        "the `__cause__` says what the codec did not like in `input`",
    ),
    "InputTooLargeError": (
        "as for `ItemError`",
        "cut the input, or raise `FlowControl(max_item_bytes=...)` at both ends",
    ),
    "OutputDecodeError": (
        "as for `ItemError`",
        "the service returns what the client's codec does not take: compare their types",
    ),
}


@dataclass(frozen=True)
class Line:
    """A line of the log, or a part of one.

    Attributes:
        level: its level.
        text: how the code has it; an ellipsis stands for what is filled in.
        meaning: what happened, and what becomes of it.
        advice: what to do.
    """

    level: str
    text: str
    meaning: str
    advice: str = "nothing"


CLIENT_LINES = (
    Line(
        "INFO",
        "… cannot be looked up: …",
        "a name is not known, or its DNS server does not answer; the addresses that it had stay in use",
        "nothing where it passes; else see which DNS server this machine asks",
    ),
    Line(
        "ERROR",
        "looking after the endpoints of … failed",
        "a bug: endpoints that are out may be found again later than they could; streams go on",
        "report it, with the traceback",
    ),
    Line(
        "WARNING",
        "… is left out: …",
        "of several endpoints, one serves something else than this client is for; the others go on, and"
        " it is tried again after half a minute, then less and less often",
        "see application, codec and version of the deployment there, or take it off the list",
    ),
    Line(
        "WARNING",
        "a server told of an endpoint that is none: …",
        "`StreamService.endpoints` of the deployment has a target that cannot be dialled; it is not used",
        "write it as `host:port`",
    ),
    Line(
        "INFO",
        "stream …: attempt … failed, the next in … s: …",
        "a call broke; the stream resumes after that backoff. The reason is in the tables above, or below",
        "nothing, unless it goes on: then as for the exception that it would become",
    ),
    Line(
        "INFO",
        "call …: attempt … failed, the next in … s: …",
        "a call broke; the stream resumes after that backoff. The reason is in the tables above, or below",
        "nothing, unless it goes on: then as for the exception that it would become",
    ),
    Line(
        "INFO",
        "attempt …: … by …",
        "`resumed by`: another replica took the stream over; the caller's loop notices nothing",
    ),
    Line(
        "INFO",
        "attempt …: the server is leaving, within … s",
        "a drain: a redeploy, a scale-down, or a replica that is stopped. The stream moves in order",
    ),
    Line(
        "INFO",
        "…: … inputs sent, … answered, … attempts, … resumes",
        "`failed with` an exception, which its caller gets",
        "as for that exception",
    ),
    Line(
        "WARNING",
        "input … failed: …: …",
        "with `POISON`: replicas died whenever they had it (other kinds are DEBUG); the others go on",
        "look at that input, and for what ended the replicas in their own logs",
    ),
    Line(
        "reason",
        "nothing was heard of the server for three heartbeat intervals of … s: the link is dead, or the"
        " server was stopped, or its event loop is kept busy",
        "a half-open link, a process that hangs, or a handler that computes on the event loop; the"
        " stream resumes elsewhere",
        "if it comes again: a handler that computes belongs in a plain `def`, which runs in a thread",
    ),
    Line(
        "reason",
        "no answer to the open within … s; a replica serves only max_ongoing_requests streams at once",
        "the stream waits in a queue: replicas are full, or none has started; it tries another connection",
        "raise `max_ongoing_requests` (it counts streams), or see why no replica starts: `serve status`",
    ),
    Line(
        "reason",
        "the server's handler has worked on input … for longer than Watchdog.item_timeout",
        "the replica does not enforce the limit; the stream resumes, and the input is a suspect",
        "make the handler end, or raise `Watchdog(item_timeout=...)`",
    ),
    Line(
        "reason",
        "the server is leaving, and its grace has passed",
        "a drain was cut short; what was under way is computed again elsewhere",
        "raise `graceful_shutdown_timeout_s` to what an input takes",
    ),
    Line(
        "reason",
        "the server received nothing from this client for three heartbeat intervals",
        "this process was stopped, or its event loop was kept busy, or the link was dead; it resumes",
        "keep the client's event loop free",
    ),
    Line(
        "reason",
        "… bytes in all, and nothing came for longer than these take at … KiB/s",
        "the link is slower than 32 KiB/s under a large item, or dead",
        "send smaller items",
    ),
    Line(
        "reason",
        "the server gave the stream up",
        "the kit failed, or a higher attempt of the stream superseded this one; it resumes",
        "if it comes again: the replica's log",
    ),
    Line(
        "reason",
        "frames were lost on the way, or the server broke the protocol: …",
        "nobody is blamed for it alone; the stream resumes",
    ),
    Line(
        "reason",
        "the server broke the protocol: …",
        "the attempt is abandoned; `PeerProtocolError` if it goes on",
        "as for `PeerProtocolError`",
    ),
    Line(
        "reason",
        "the server does not speak this protocol: …",
        "`NotAServerError` at once, from a target that never completed a handshake",
        "as for `NotAServerError`",
    ),
    Line(
        "INFO",
        "inputs are blocked; their thread ends as soon as they return",
        "a blocking client was closed while your iterator waited",
        "let the iterator end: close the file or queue that it waits for",
    ),
    Line(
        "WARNING",
        "closing the inputs failed",
        "your generator raised when it was closed; the stream is not touched",
        "see the traceback",
    ),
    Line(
        "WARNING",
        "with what hooks add, …",
        "the metadata of a call exceed 8 KiB, from which on servers refuse calls at random",
        "have hooks add less",
    ),
    Line(
        "ERROR",
        "the hook … failed",
        "a hook raised; streams go on without what it did",
        "see the traceback",
    ),
    Line(
        "ERROR",
        "the hook … failed, and its metadata is not sent",
        "the same of `Hooks.metadata`",
        "see the traceback",
    ),
    Line(
        "ERROR",
        "stream …: an internal failure",
        "a bug of this package: the stream fails with a `StreamError`",
        "report it, with the traceback",
    ),
    Line(
        "ERROR",
        "stream …: its end failed",
        "likewise, at the stream's end; its results are not touched",
        "report it, with the traceback",
    ),
    Line(
        "ERROR",
        "stream …: what stands by it failed to end",
        "likewise, of the tasks beside it",
        "report it, with the traceback",
    ),
    Line(
        "ERROR",
        "closing a stream failed",
        "likewise, as the client closed",
        "report it, with the traceback",
    ),
)

SERVER_LINES = (
    Line(
        "WARNING",
        "stream …: its state, behind input …, is refused: …",
        "a client came with the state of a stateful stream, which this replica cannot use: another key,"
        " fingerprint or version, too old, or not what a replica sealed. The client asks others, three in all",
        "the same SERVESTREAM_STATE_KEYS on all replicas; exchange keys and raise versions"
        " [step by step](how-to/stateful.md#what-travels)",
    ),
    Line(
        "ERROR",
        "a state cannot be saved",
        "`state_codec` raised for a state that a step has given; the stream ends",
        "mend the service; `assert_resumable` finds such a state in a test",
    ),
    Line(
        "INFO",
        "no health check comes any more: this replica is probably being stopped",
        "Serve has begun to stop the replica, or its controller is dead or slow; streams are asked to"
        " move ([why](serve.md#when-a-replica-is-stopped))",
        "nothing; if it comes without a redeploy, look after the controller",
    ),
    Line(
        "WARNING",
        "metrics cannot be recorded: …: …",
        "Ray did not take a measurement; it is said once, and streams are not touched",
        "see what Ray raised, at the end of the line",
    ),
    Line(
        "WARNING",
        "the client broke the protocol: …",
        "the attempt ends; nothing else is touched",
        "see which client it is: its release, or what stands between",
    ),
    Line(
        "ERROR",
        "all handler slots are blocked by inputs that exceeded their item timeout",
        "handlers in threads cannot be cancelled: the replica drains, its health check fails, and Serve"
        " replaces it",
        "find out what hangs; give handlers time limits of their own",
    ),
    Line(
        "ERROR",
        "admit() failed",
        "your `admit` raised; that client is refused and told so",
        "see the traceback",
    ),
    Line(
        "WARNING",
        "a generator failed while it was closed",
        "`generate` raised after its input was no longer wanted; the traceback is with it",
        "look at its `finally`",
    ),
    Line(
        "WARNING",
        "a generator was not closed in time",
        "cleaning up after its input was no longer wanted took `generate` longer than a second, and"
        " it was cancelled",
        "clean up in less time, or leave it to a task of its own",
    ),
    Line(
        "ERROR",
        "a frame cannot be sent",
        "a bug of the kit: the attempt ends, and the client resumes",
        "report it, with the traceback",
    ),
    Line(
        "ERROR",
        "an attempt failed for an internal reason",
        "likewise",
        "report it, with the traceback",
    ),
    Line(
        "ERROR",
        "a worker failed",
        "likewise; another worker takes its place",
        "report it, with the traceback",
    ),
    Line(
        "ERROR",
        "the kit failed around a handler",
        "likewise; the input's stream is told",
        "report it, with the traceback",
    ),
)

WARNINGS = (
    Line(
        "warning",
        "the environment's … is no setting of servestream_client…, and is ignored",
        "a variable that begins with `SERVESTREAM_` and names nothing",
        "correct its name; the nearest one is named ([settings](how-to/settings.md))",
    ),
    Line(
        "warning",
        "the metadata take … bytes, …: send less, or put it into the items",
        "above 8 KiB servers refuse calls at random",
        "send less ([sizes](failures.md#metadata-are-too-large))",
    ),
)


def error_sections() -> str:
    """Every public exception: what it means, what the caller has, what to do, and its reasons."""
    classes = [
        each
        for each in vars(errors).values()
        if inspect.isclass(each) and issubclass(each, ServeStreamError)
    ]
    names = [each.__name__ for each in classes if each is not ServeStreamError]
    if set(names) != set(ADVICE):
        raise SystemExit(
            f"scripts/troubleshooting.py: ADVICE differs by {set(names) ^ set(ADVICE)}"
        )
    parts = []
    for each in classes:
        if each is not ServeStreamError:
            delivered, advice = ADVICE[each.__name__]
            parts += [
                f"### {each.__name__}",
                "",
                _summary(each),
                "",
                f"- *You have:* {delivered}.",
                f"- *Do:* {advice}.",
                "",
                *_reasons(each),
            ]
    return "\n".join(parts)


def _summary(kind: type[ServeStreamError]) -> str:
    """What its own docstring says, and which others catch it."""
    bases = [base.__name__ for base in kind.__bases__ if base is not ServeStreamError]
    named = [f"{'an' if base[0] in 'AEIOU' else 'a'} `{base}`" for base in bases]
    also = f" It is {' and '.join(named)}." if bases else ""
    return " ".join((inspect.getdoc(kind) or "").partition("\n\n")[0].split()) + also


def _reasons(kind: type[ServeStreamError]) -> Iterator[str]:
    """What the classification makes this exception of."""
    rows = [row for row in STATUS_TABLE if row.error is kind]
    refusals = [
        f"the stream is not served there ({refusal.name.lower()}): …"
        for refusal, error in classify._FINAL_REFUSALS.items()  # noqa: SLF001 — its own table
        if error is kind
    ]
    if not rows and not refusals:
        return
    yield from ("| it says | after | the client |", "|---|---|---|")
    for text in refusals:
        passing = "; no handshake yet" if kind is errors.WrongApplicationError else ""
        yield f"| {text} | a refusal by the server's kit{passing} | {DOES[Decision.FAIL]} |"
    for row in rows:
        yield f"| {row.said('…')} | {_after(row)} | {DOES[row.decision]} |"
    yield ""


def _after(row: Row) -> str:
    status = "any status" if row.code == "*" else row.code
    if row.details:
        status += " “" + "” or “".join(row.details) + "”"
    if row.no_details:
        status += " without details"
    return status if row.where is Where.ANYWHERE else f"{status}; {row.where.value}"


def log_lines(lines: tuple[Line, ...]) -> str:
    """A table of lines."""
    _compare()
    rows = ["| level | line | what it means | what to do |", "|---|---|---|---|"]
    rows += [f"| {each.level} | {each.text} | {each.meaning} | {each.advice} |" for each in lines]
    return "\n".join(rows)


def _compare() -> None:
    """That every line is the code's, and that the code has no others."""
    said, logged = set[str](), set[str]()
    for module in sorted(PACKAGE.rglob("*.py")):
        for node in ast.walk(ast.parse(module.read_text())):
            said.add(_text(node))
            if isinstance(node, ast.Call):
                logged.update(_logged(node))
    said.discard("")
    mine = [line.text for line in (*CLIENT_LINES, *SERVER_LINES, *WARNINGS)]
    gone = [text for text in mine if not any(_within(text, each) for each in said)]
    new = logged - set(mine)
    if gone or new:
        raise SystemExit(
            f"scripts/troubleshooting.py: lines that the code no longer has: {gone};"
            f" lines that have no text here: {sorted(new)}"
        )


def _within(text: str, said: str) -> bool:
    """Whether the code's text begins with it, or has it in its middle."""
    return said.startswith(text) or text.strip("… ") in said


def _logged(call: ast.Call) -> Iterator[str]:
    """The texts that a call logs or warns of, from INFO up, as far as they stand in it."""
    match ast.unparse(call.func):
        case "logger.info" | "logger.warning" | "logger.error" | "logger.exception":
            texts = call.args[:1]
        case "report" if len(call.args) == 4:
            texts = call.args[2:3]
        case "warnings.warn":
            texts = call.args[:1]
        case _:
            return
    yield from (text for each in texts if (text := _text(each)).strip("… "))


def _text(node: ast.AST) -> str:
    """A literal text, with an ellipsis for each part that is filled in."""
    match node:
        case ast.Constant(value=str(text)):
            return re.sub(r"%(\.\d+f|[sdr])", "…", text)
        case ast.JoinedStr(values=values):
            return re.sub("…+", "…", "".join(_text(each) or "…" for each in values))
    return ""
