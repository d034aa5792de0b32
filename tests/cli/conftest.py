"""The command in this process."""

import pytest
from services import Words
from typer.testing import CliRunner

from servestream_client.cli.app import app
from servestream_client.cli.journal import open_journal


@pytest.fixture
def stream_service():
    return Words()


@pytest.fixture
def output(tmp_path):
    """Where a job's results go."""
    return tmp_path / "out"


@pytest.fixture
def journal(output):
    """That of a job which has begun."""
    with open_journal(output, create=True) as journal:
        journal.begin({"application": "upper", "parameters": {"a": "1"}})
        yield journal


@pytest.fixture
def servestream():
    """Runs the command; returns its exit code, and what it wrote."""

    def run(*arguments: object, stdin: bytes | str = b"") -> tuple[int, str, str]:
        result = CliRunner().invoke(app, list(map(str, arguments)), input=stdin)
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return result.exit_code, result.stdout, result.stderr

    return run
