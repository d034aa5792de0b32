"""Start Ray Serve with the fixture's applications, for people and for `ServeFixture`."""

from __future__ import annotations

import argparse
import json
import os
import queue
import shutil
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from types import FrameType
from typing import Any, TextIO

from server_fixture.cluster import Ingress, application_name, cluster, deploy

# Not imported here: Ray, whose ingress mode is settled by `cluster` before it is imported.
APPLICATIONS = ("digits", "echo", "not_a_stream")

_EPILOG = """\
applications:
  digits        a classifier of handwritten digits (codec: server_fixture.model.DigitsCodec)
  echo          gives back the bytes it gets (the default codec)
  not_a_stream  a deployment that does not speak the protocol

Ray listens on 127.0.0.1 only. Serve's gRPC ingress and its replicas listen on every interface,
without authentication, since Serve has no option for it: do not run this in the open. Ctrl-C or
SIGTERM ends it in order.
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve until told to stop. Returns the process's exit code."""
    parser = _parser()
    options = parser.parse_args(arguments)
    if not _free(options.port):
        parser.error(f"port {options.port} is in use; name another one with --port")
    applications: list[str] = options.application or ["digits"]
    serve = _control if options.control else _serve
    try:
        with _ended_by_signals():
            serve(applications, options)
    except _Ended:
        if options.control and options.directory:  # a parent that died cannot
            shutil.rmtree(options.directory, ignore_errors=True)
    return 0


def _free(port: int) -> bool:
    with closing(socket.socket()) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as gRPC does
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m server_fixture",
        description="Run a local Ray Serve with applications that servestream_client can stream"
        " from.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--application",
        action="append",
        type=_application,
        metavar="NAME",
        help="an application to deploy, under its own name; may be given several times. One of"
        " those below, or MODULE:BUILDER for another one (server_fixture.cluster.deploy)"
        " (default: digits)",
    )
    parser.add_argument(
        "--servicer",
        action="append",
        default=[],
        metavar="PATH",
        help="import path of the servicer function of another gRPC service that an application"
        " speaks; may be given several times",
    )
    parser.add_argument(
        "--ingress",
        type=Ingress,
        choices=list(Ingress),
        default=Ingress.PROXY,
        help="how requests reach the replicas: Serve's own proxy in Python (proxy, the default),"
        " or HAProxy with a gRPC server in every replica (haproxy)",
    )
    parser.add_argument(
        "--replicas", type=int, default=2, help="of each application (default: 2)", metavar="N"
    )
    parser.add_argument(
        "--port", type=int, default=9000, help="of the gRPC ingress (default: 9000)"
    )
    parser.add_argument(
        "--directory",
        help="where Ray and HAProxy keep their files and logs; keep the path short (default: a"
        " temporary directory, removed in the end)",
    )
    parser.add_argument(
        "--control",
        action="store_true",
        help="take commands as lines of JSON on standard input and answer on standard output, as"
        " server_fixture.fixture.ServeFixture does; when standard input ends, end, and remove the"
        " directory",
    )
    return parser


def _application(text: str) -> str:
    if text not in APPLICATIONS and not all(text.rpartition(":")):
        raise argparse.ArgumentTypeError(
            f"invalid choice: {text!r} (choose from {', '.join(APPLICATIONS)}, or MODULE:BUILDER)"
        )
    return text


class _Ended(BaseException):
    """The process was told to end."""


@contextmanager
def _ended_by_signals() -> Iterator[None]:
    """SIGINT and SIGTERM raise `_Ended`, the first of them only: what follows is cleaning up."""

    def handle(_number: int, _frame: FrameType | None) -> None:
        for each in (signal.SIGINT, signal.SIGTERM):
            signal.signal(each, signal.SIG_IGN)
        raise _Ended

    for each in (signal.SIGINT, signal.SIGTERM):
        signal.signal(each, handle)
    yield


# ---------------------------------------------------------------- for people


def _serve(applications: Sequence[str], options: argparse.Namespace) -> None:
    def say(text: str) -> None:
        print(f"{text} ...", flush=True)

    print(f"ingress: {options.ingress}; this takes about half a minute", flush=True)
    with cluster(
        applications,
        ingress=options.ingress,
        port=options.port,
        replicas=options.replicas,
        servicers=options.servicer,
        directory=options.directory,
        say=say,
    ):
        print(_usage(applications, options.port), flush=True)
        while True:
            signal.pause()


_EXAMPLES = {
    "digits": """\
from server_fixture.model import DigitsCodec, digits
client = StreamClient("{target}", application="digits", codec=DigitsCodec())
async for prediction in client.stream(digits()[0]): ...""",
    "echo": """\
client = StreamClient("{target}", application="echo")
async for output in client.stream([b"one", b"two"]): ...""",
}


def _usage(applications: Sequence[str], port: int) -> str:
    target = f"127.0.0.1:{port}"
    names = [application_name(application) for application in applications]
    lines = [f"ready: gRPC on {target}, applications: {', '.join(names)}", ""]
    for name in applications:
        if name in _EXAMPLES:
            lines += [_EXAMPLES[name].format(target=target), ""]
    return "\n".join([*lines, "Ctrl-C ends it."])


# ---------------------------------------------------------------- for ServeFixture


def _control(applications: Sequence[str], options: argparse.Namespace) -> None:
    requests, replies = _private_streams()
    pending: queue.SimpleQueue[str] = queue.SimpleQueue()
    threading.Thread(target=_read, args=(requests, pending), daemon=True).start()

    def send(message: dict[str, Any]) -> None:
        try:
            print(json.dumps(message), file=replies, flush=True)
        except BrokenPipeError:  # the parent is gone; the end of its input says so as well
            return

    with cluster(
        applications,
        ingress=options.ingress,
        port=options.port,
        replicas=options.replicas,
        servicers=options.servicer,
        directory=options.directory,
        say=lambda text: send({"phase": text}),
    ):
        commands = _commands(options.replicas)
        send({"ready": True})
        while True:
            request = json.loads(pending.get())
            try:
                result = commands[request["do"]](*request["arguments"])
            except Exception as error:  # whatever it is, the parent shall know
                send({"id": request["id"], "error": f"{type(error).__name__}: {error}"})
            else:
                send({"id": request["id"], "result": result})


def _private_streams() -> tuple[TextIO, TextIO]:
    """Standard input and output under other numbers, which no child process inherits.

    What Ray prints goes to standard error from now on, and no process but this one keeps the
    pipes open: their end means that this process, or its parent, has ended.
    """
    requests = os.fdopen(os.dup(0), encoding="utf-8")
    replies = os.fdopen(os.dup(1), "w", encoding="utf-8")
    with Path(os.devnull).open(encoding="utf-8") as nothing:
        os.dup2(nothing.fileno(), 0)
    sys.stdout.flush()
    os.dup2(2, 1)
    return requests, replies


def _read(requests: TextIO, pending: queue.SimpleQueue[str]) -> None:
    for line in requests:
        pending.put(line)
    # The parent closed it, or died. A signal ends the main thread also while it starts Ray.
    os.kill(os.getpid(), signal.SIGTERM)


def _commands(replicas: int) -> dict[str, Callable[..., Any]]:
    import ray

    from server_fixture.app import ledger
    from servestream_client.testing.faults import Fault

    book = ledger()

    def enrolled() -> dict[str, dict[str, Any]]:
        pids, applications = ray.get([book.pids.remote(), book.applications.remote()])
        return {
            replica: {"pid": pid, "application": applications[replica]}
            for replica, pid in pids.items()
        }

    def add(*faults: dict[str, Any]) -> None:
        ray.get(book.add.remote([Fault.from_json(each) for each in faults]))

    def clear() -> None:
        ray.get(book.clear.remote())

    def fired() -> list[dict[str, Any]]:
        return [fault.to_json() for fault in ray.get(book.fired.remote())]

    def deploy_another(name: str) -> None:
        deploy(name, replicas=replicas)

    return {
        "enrolled": enrolled,
        "add": add,
        "clear": clear,
        "fired": fired,
        "deploy": deploy_another,
    }


if __name__ == "__main__":
    sys.exit(main())
