"""Datasets of Ray Data as inputs, computed on another Ray than the one that serves."""

from __future__ import annotations

import gc
import re
import tempfile
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import ray.data

from server_fixture.fixture import ServeFixture
from servestream_client import Cursor, CursorMismatchError, SyncStreamClient
from servestream_client.testing.ray_serve.cluster import MARK, SLOW_START, Ingress, end

pytestmark = [
    pytest.mark.ray,
    pytest.mark.timeout(600),
    pytest.mark.application("echo"),
    pytest.mark.once_in(Ingress.PROXY),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),  # Ray Data's own, of its context
    # Ray leaves logs, and the processes of a start that failed, to the garbage collector.
    pytest.mark.filterwarnings("ignore:.*unclosed file:ResourceWarning"),
    pytest.mark.filterwarnings("ignore:.*is still running:ResourceWarning"),
]

CPUS = 2
BLOCKS = 4
PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "batch-jobs.md"


@pytest.fixture(scope="module", autouse=True)
def cluster() -> Iterator[None]:
    """For the datasets. It ends with these tests, since what it has open here would be taken for
    what a later test has left.
    """
    mark = uuid.uuid4().hex
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(MARK, mark)
        try:
            start()
        except Exception as error:
            if SLOW_START not in str(error):
                raise
            end(mark)
            start()
    yield
    ray.shutdown()
    end(mark)
    gc.collect()


def start() -> None:
    ray.init(address="local", num_cpus=CPUS, include_dashboard=False, log_to_driver=False)


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


def dataset(folder: Path) -> ray.data.Dataset:
    """The first block is ready when all others are. These are more than the CPUs left to them, so
    the last of them began after another one was taken, which comes first where no order is kept.
    """
    ready = Path(tempfile.mkdtemp(dir=folder))

    def late_first(rows: dict[str, Any]) -> dict[str, Any]:  # inside, or Ray would look for it
        if 0 not in rows["id"]:
            (ready / str(rows["id"][0])).touch()
            return rows
        deadline = time.monotonic() + 60
        while len(list(ready.iterdir())) < BLOCKS - 1 and time.monotonic() < deadline:
            time.sleep(0.05)
        return rows

    rows = ray.data.range(400, override_num_blocks=BLOCKS)
    return rows.map_batches(late_first, batch_size=None)


def texts(folder: Path) -> Iterator[bytes]:
    return (b"%d" % row["id"] for row in dataset(folder).iter_rows())


def test_the_page_s_example(serve, context, capsys):
    (block,) = [
        each
        for each in re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
        if "import ray" in each
    ]
    exec(block.replace("127.0.0.1:9000", serve.target), {})
    assert capsys.readouterr().out.split()[-2:] == ["500", "1000"]


def test_a_dataset_in_its_order_is_resumed(serve: ServeFixture, context, tmp_path):
    context.execution_options.preserve_order = True
    with SyncStreamClient(serve.target, application="echo") as client:
        batches = client.stream(texts(tmp_path), cursor=Cursor()).batches(150)
        first = next(batches)
        with client.stream(texts(tmp_path), cursor=first.cursor) as stream:
            outputs = first.outputs + list(stream)
    assert outputs == [b"%d" % number for number in range(400)]


def test_in_another_order_it_is_refused(serve: ServeFixture, context, tmp_path):
    context.execution_options.preserve_order = True
    with SyncStreamClient(serve.target, application="echo") as client:
        first = next(client.stream(texts(tmp_path), cursor=Cursor()).batches(150))
        context.execution_options.preserve_order = False
        with pytest.raises(CursorMismatchError, match="inputs are not those"):
            list(client.stream(texts(tmp_path), cursor=first.cursor))
