"""Datasets of Ray Data as inputs, on the Ray that serves them as well."""

from __future__ import annotations

import gc
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import ray.data

from server_fixture.fixture import ServeFixture
from servestream_client import Cursor, CursorMismatchError, SyncStreamClient
from servestream_client.testing.ray_serve.cluster import Ingress

pytestmark = [
    pytest.mark.ray,
    pytest.mark.timeout(300),
    pytest.mark.application("echo"),
    pytest.mark.once_in(Ingress.PROXY),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),  # Ray Data's own, of its context
    # Ray Data leaves the log of each dataset open, until the garbage collector closes it.
    pytest.mark.filterwarnings("ignore:.*unclosed file.*ray-data:ResourceWarning"),
]

PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "batch-jobs.md"


@pytest.fixture(autouse=True)
def logs_closed() -> Iterator[None]:
    yield
    gc.collect()  # here, where the warning is expected, and not in a later test


@pytest.fixture
def context() -> Iterator[ray.data.DataContext]:
    context = ray.data.DataContext.get_current()
    before = context.execution_options.preserve_order
    yield context
    context.execution_options.preserve_order = before


def dataset() -> ray.data.Dataset:
    def late_first(rows: dict[str, Any]) -> dict[str, Any]:  # inside, or Ray would look for it
        if 0 in rows["id"]:
            time.sleep(3)  # the first block is ready when the others are
        return rows

    return ray.data.range(400, override_num_blocks=4).map_batches(late_first, batch_size=None)


def texts() -> Iterator[bytes]:
    return (b"%d" % row["id"] for row in dataset().iter_rows())


def test_the_page_s_example(serve, context, capsys):
    (block,) = [
        each
        for each in re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
        if "import ray" in each
    ]
    exec(block.replace("127.0.0.1:9000", serve.target), {})
    assert capsys.readouterr().out.split()[-2:] == ["500", "1000"]


def test_a_dataset_in_its_order_is_resumed(serve: ServeFixture, context):
    context.execution_options.preserve_order = True
    with SyncStreamClient(serve.target, application="echo") as client:
        batches = client.stream(texts(), cursor=Cursor()).batches(150)
        first = next(batches)
        with client.stream(texts(), cursor=first.cursor) as stream:
            outputs = first.outputs + list(stream)
    assert outputs == [b"%d" % number for number in range(400)]


def test_in_another_order_it_is_refused(serve: ServeFixture, context):
    context.execution_options.preserve_order = True
    with SyncStreamClient(serve.target, application="echo") as client:
        first = next(client.stream(texts(), cursor=Cursor()).batches(150))
        context.execution_options.preserve_order = False
        with pytest.raises(CursorMismatchError, match="inputs are not those"):
            list(client.stream(texts(), cursor=first.cursor))
