"""The options by which every command reaches a service."""

from __future__ import annotations

import ssl
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated

import grpc
import typer

from servestream_client import environment
from servestream_client.cli.problems import Problem

__all__ = [
    "Application",
    "Authority",
    "Certificate",
    "Codec",
    "Key",
    "Metadata",
    "Target",
    "Tls",
    "credentials",
    "pairs",
]

_CONNECTION = "Connection"

Target = Annotated[
    str,
    typer.Argument(
        envvar=environment.TARGET,
        show_default=False,
        help="host:port of Serve's gRPC ingress; several with commas between them.",
    ),
]
Application = Annotated[
    str,
    typer.Option(
        "--application",
        "-a",
        envvar=environment.APPLICATION,
        show_default=False,
        help="Which application to reach; not needed if there is only one.",
        rich_help_panel=_CONNECTION,
    ),
]
Codec = Annotated[
    str,
    typer.Option(
        help="The service's codec: bytes, json, msgpack, or the id of another one.",
        rich_help_panel=_CONNECTION,
    ),
]
Metadata = Annotated[
    list[str] | None,
    typer.Option(
        metavar="KEY=VALUE",
        help="gRPC metadata for every call, e.g. authorization='Bearer ...'. Repeatable.",
        rich_help_panel=_CONNECTION,
    ),
]
Tls = Annotated[
    bool,
    typer.Option("--tls", help="Through a reverse proxy with TLS.", rich_help_panel=_CONNECTION),
]
Authority = Annotated[
    Path | None,
    typer.Option(
        "--ca",
        exists=True,
        dir_okay=False,
        readable=True,
        help="Whom to trust, in PEM, instead of the usual authorities. Implies --tls.",
        rich_help_panel=_CONNECTION,
    ),
]
Certificate = Annotated[
    Path | None,
    typer.Option(
        "--cert",
        exists=True,
        dir_okay=False,
        readable=True,
        help="A certificate of one's own, in PEM, with --key.",
        rich_help_panel=_CONNECTION,
    ),
]
Key = Annotated[
    Path | None,
    typer.Option(
        "--key",
        exists=True,
        dir_okay=False,
        readable=True,
        help="Its key.",
        rich_help_panel=_CONNECTION,
    ),
]


def credentials(
    *, tls: bool, authority: Path | None, certificate: Path | None, key: Path | None
) -> grpc.ChannelCredentials | None:
    """For a channel; None: an insecure one.

    Raises:
        Problem: a certificate without its key, or the other way round; a file that is not what it
            is said to be.
    """
    if (certificate is None) != (key is None):
        raise Problem("--cert and --key go together")
    if not (tls or authority or certificate):
        return None
    _check_files(authority, certificate, key)
    return grpc.ssl_channel_credentials(
        *(path.read_bytes() if path is not None else None for path in (authority, key, certificate))
    )


def _check_files(authority: Path | None, certificate: Path | None, key: Path | None) -> None:
    """Or gRPC would write what is wrong with them to its log, and reach nobody."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    try:
        if authority is not None:
            context.load_verify_locations(authority)
    except ssl.SSLError as error:
        raise Problem(f"--ca {authority} holds no certificate in PEM") from error
    try:
        if certificate is not None:
            context.load_cert_chain(certificate, key, password="")
    except ssl.SSLError as error:
        raise Problem(
            f"--cert {certificate} and --key {key} are not a certificate and its key, in PEM and"
            " without a password"
        ) from error


def pairs(option: str, given: Iterable[str] | None) -> list[tuple[str, str]]:
    """What was given as ``KEY=VALUE``.

    Raises:
        Problem: something was given in another way.
    """
    found = []
    for text in given or ():
        key, sign, value = text.partition("=")
        if not sign or not key:
            raise Problem(f"{option} takes KEY=VALUE, not {text!r}")
        found.append((key, value))
    return found
