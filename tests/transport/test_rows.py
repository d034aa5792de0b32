"""Every row of the classification has a test that makes its true cause."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from servestream_client.transport.base import LinkStatus
from servestream_client.transport.statuses import STATUS_TABLE, Where, matching_row

TESTS = Path(__file__).resolve().parent.parent


def named() -> Iterator[str]:
    """What stands in ``pytest.mark.row(...)`` anywhere in the tests."""
    for module in TESTS.rglob("test_*.py"):
        for node in ast.walk(ast.parse(module.read_text())):
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "pytest.mark.row":
                yield from (argument.value for argument in node.args)  # type: ignore[attr-defined]


def test_every_row_is_made_by_a_test_or_said_to_be_collected_only():
    names = [row.name for row in STATUS_TABLE]
    assert len(set(names)) == len(names)
    made = set(named())
    assert made - set(names) == set()
    assert {row.name for row in STATUS_TABLE if not row.collected} - made == set()


def example(row, *, known: bool, tls: bool) -> LinkStatus:
    code = "ABORTED" if row.code == "*" else row.code
    size = {Where.LARGE: 9000, Where.LARGE_AND_UNKNOWN: 9000}.get(row.where, 700)
    if row.where in (Where.HUGE, Where.HUGE_AND_UNKNOWN):
        size = 17_000
    return LinkStatus(code, row.details[0] if row.details else "", tls=tls, metadata_bytes=size)


@pytest.mark.parametrize("row", STATUS_TABLE, ids=lambda row: row.name)
def test_no_row_is_hidden_by_another(row):
    found = [
        matching_row(example(row, known=known, tls=tls), known=known)
        for known in (False, True)
        for tls in (False, True)
    ]
    assert row in found


def test_details_are_written_in_small_letters():
    for row in STATUS_TABLE:
        assert [part.lower() for part in row.details] == list(row.details)


def test_the_words_are_those_of_the_field():
    for row in STATUS_TABLE:
        for text in (row.meaning, row.seen):
            assert " front" not in f" {text}"
            assert "whom" not in text
        assert "{" not in row.said(1)
