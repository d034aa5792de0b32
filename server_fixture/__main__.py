"""Start Ray Serve with the fixture's applications, for people."""

from __future__ import annotations

import argparse
import signal
import socket
import sys
from collections.abc import Sequence
from contextlib import closing, suppress

from command_line import parser
from server_fixture.fixture import APPLICATIONS, import_path
from servestream_client.testing.ray_serve.cluster import (
    Ended,
    Ingress,
    application_name,
    cluster,
    until_told,
)

# Not imported here: Ray, whose ingress mode is settled by `cluster` before it is imported.

_EPILOG = """\
applications:
  digits        a classifier of handwritten digits, with the codec
                servestream_client.demo.model.DigitsCodec
  echo          gives back the bytes it gets (the default codec)
  fragile       an echo whose replica dies of the input "crash", and hangs on "hang"
  not_a_stream  a deployment that does not speak the protocol
  counting      one of somebody else's, with --servicer
                server_fixture.counting:add_CountingServicer_to_server

Ray listens on 127.0.0.1 only. Serve's gRPC ingress and its replicas listen on every interface,
without authentication, since Serve has no option for it: do not run this in the open. Ctrl-C or
SIGTERM ends it in order.
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve until told to stop. Returns the process's exit code."""
    made = _parser()
    options = made.parse_args(arguments)
    if not _free(options.port):
        made.error(f"port {options.port} is in use; name another one with --port")
    applications: list[str] = options.application or ["digits"]
    with suppress(Ended), until_told():
        _serve(applications, options)
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
    made = parser(
        "server_fixture",
        "Run a local Ray Serve with applications that servestream_client can stream from.",
        _EPILOG,
    )
    made.add_argument(
        "--application",
        action="append",
        type=_application,
        metavar="NAME",
        help="an application to deploy, under its own name; may be given several times. One of"
        " those below, or MODULE:NAME for another one, as for `serve run` (default: digits)",
    )
    made.add_argument(
        "--servicer",
        action="append",
        default=[],
        metavar="PATH",
        help="import path of the servicer function of another gRPC service that an application"
        " speaks; may be given several times",
    )
    made.add_argument(
        "--ingress",
        type=Ingress,
        choices=list(Ingress),
        default=Ingress.PROXY,
        help="how requests reach the replicas: Serve's own proxy in Python (proxy, the default),"
        " or HAProxy with a gRPC server in every replica (haproxy)",
    )
    made.add_argument(
        "--replicas", type=int, default=2, help="of each application (default: 2)", metavar="N"
    )
    made.add_argument("--port", type=int, default=9000, help="of the gRPC ingress (default: 9000)")
    made.add_argument(
        "--directory",
        help="where Ray and HAProxy keep their files and logs; keep the path short (default: a"
        " temporary directory, removed in the end)",
    )
    return made


def _application(text: str) -> str:
    if text not in APPLICATIONS and not all(text.rpartition(":")):
        raise argparse.ArgumentTypeError(
            f"invalid choice: {text!r} (choose from {', '.join(APPLICATIONS)}, or MODULE:BUILDER)"
        )
    return text


def _serve(applications: Sequence[str], options: argparse.Namespace) -> None:
    def say(text: str) -> None:
        print(f"{text} ...", flush=True)

    print(f"ingress: {options.ingress}; this takes about half a minute", flush=True)
    with cluster(
        [import_path(name) for name in applications],
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
from servestream_client.demo.model import DigitsCodec, digits
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


if __name__ == "__main__":
    sys.exit(main())
