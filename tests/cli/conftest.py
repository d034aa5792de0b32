"""The command in this process."""

import pytest
from services import Words
from typer.testing import CliRunner

from servestream_client.cli.app import app


@pytest.fixture
def stream_service():
    return Words()


@pytest.fixture
def servestream():
    """Runs the command; returns its exit code, and what it wrote."""

    def run(*arguments: object, stdin: bytes | str = b"") -> tuple[int, str, str]:
        result = CliRunner().invoke(app, list(map(str, arguments)), input=stdin)
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return result.exit_code, result.stdout, result.stderr

    return run
