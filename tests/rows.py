"""Which rows of the classification a test makes the true cause of: ``@pytest.mark.row("refused")``.

A keyword names a parameter of the test for which alone that holds:
``@pytest.mark.row("overloaded", shared=Ingress.PROXY)``. The test fails if the client did
not come to those rows. `tests/transport/test_rows.py` sees to it that every row is named by a test.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from servestream_client.transport import classify, statuses
from servestream_client.transport.base import LinkStatus


@pytest.fixture(autouse=True)
def rows_made(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Notes what every broken attempt of the test's clients was taken for."""
    parameters = getattr(getattr(request.node, "callspec", None), "params", {})
    wanted = {
        name
        for mark in request.node.iter_markers("row")
        for name in mark.args
        if mark.kwargs.items() <= parameters.items()
    }
    made: dict[str, LinkStatus] = {}

    def noting(status: LinkStatus, *, known: bool) -> statuses.Row:
        row = statuses.matching_row(status, known=known)
        made[row.name] = status
        return row

    monkeypatch.setattr(classify, "matching_row", noting)
    yield
    assert wanted <= made.keys(), f"made: {made}"
