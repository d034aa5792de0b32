"""The command ``servestream``, from the extra ``cli``."""

from __future__ import annotations

import sys

__all__ = ["main"]


def main() -> None:
    """Run the command, and leave with its exit code."""
    try:
        from servestream_client.cli.app import app
    except ModuleNotFoundError as error:
        if error.name not in ("typer", "rich", "msgspec"):
            raise
        sys.exit(
            f"servestream: {error.name} is not installed;"
            " pip install 'servestream-client[cli]' brings what the command needs"
        )
    app()
