"""One Ray Serve for each ingress mode, which most tests of that mode share.

``pytest -n 2 --dist loadscope --no-loadscope-reorder tests/ray`` has the modes side by side, each
in a process of its own. In each, whatever starts a Ray of its own runs first, so that no more than
two run at a time, and no more than one HAProxy.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator
from itertools import chain, zip_longest
from pathlib import Path

import pytest
from rows import rows_made
from xdist.remote import Producer
from xdist.scheduler import LoadScopeScheduling

from server_fixture.counting import SERVICER_FUNCTION
from server_fixture.fixture import ServeFixture
from servestream_client.demo.model import DigitsModel, Image, Prediction, digits
from servestream_client.testing.ray_serve.cluster import Ingress, members

__all__ = ["rows_made"]

HERE = Path(__file__).parent
LAST = "chaos"  # the application whose tests kill what all applications need


class ByMode(LoadScopeScheduling):
    """All tests of a mode in one process. (``--dist loadgroup`` does nothing with pytest 9.2.)"""

    def _split_scope(self, nodeid: str) -> str:
        mode = re.search(r"\[(?:.*-)?(haproxy|proxy)\b", nodeid)
        return mode[1] if mode else nodeid


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> ByMode | None:
    return ByMode(config, log) if config.getvalue("dist") == "loadscope" else None


@pytest.hookimpl(tryfirst=True)  # before those marked `long` are left out
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What runs in one mode only, but for long runs, is marked `long` in the other.

    One mode goes to one process, the tests without a mode and the other mode to the other. In each
    mode first who has a Ray of its own; then no two tests in a row that use the same application,
    so that one recovers while another is tested.
    """
    here = [item for item in items if HERE in item.path.parents]
    for item in here:
        only = item.get_closest_marker("once_in")
        if only is not None and _mode(item) != only.args[0]:
            item.add_marker(pytest.mark.long)
    groups: dict[str, list[pytest.Item]] = defaultdict(list)
    for item in here:
        groups[_mode(item)].append(item)
    ordered = chain.from_iterable(_in_turn(groups[mode]) for mode in ("proxy", "", "haproxy"))
    items[:] = [*(item for item in items if item not in set(here)), *ordered]


def _mode(item: pytest.Item) -> str:
    """The ingress mode of a test; the empty string: it has none."""
    parameters = getattr(getattr(item, "callspec", None), "params", {})
    return next((str(each) for each in parameters.values() if isinstance(each, Ingress)), "")


def _application(item: pytest.Item) -> str:
    mark = item.get_closest_marker("application")
    return mark.args[0] if mark else ""


def _in_turn(items: Iterable[pytest.Item]) -> Iterator[pytest.Item]:
    by_application: dict[str, list[pytest.Item]] = defaultdict(list)
    for item in items:
        by_application[_application(item)].append(item)
    first, last = by_application.pop("", []), by_application.pop(LAST, [])
    yield from sorted(first, key=lambda item: item.path)  # a module's fixture is made once
    turns = zip_longest(*by_application.values())
    yield from (item for turn in turns for item in turn if item is not None)
    yield from sorted(last, key=lambda item: item.path)


@pytest.fixture(scope="session", params=list(Ingress))
def shared(request: pytest.FixtureRequest) -> Iterator[ServeFixture]:
    """Five applications with two replicas each; one of them has not this package's kit."""
    applications = ("digits", "echo", "fragile", "counting", "chaos.app:chaos")
    fixture = ServeFixture(applications, request.param, servicers=[SERVICER_FUNCTION])
    with fixture:
        yield fixture
    assert not list(members(fixture.id))


@pytest.fixture
def serve(request: pytest.FixtureRequest, shared: ServeFixture) -> Iterator[ServeFixture]:
    """The shared Ray Serve, with no fault planned, and with every replica alive of the application
    that the test's marker `application` names.
    """
    shared.clear_faults()
    if (application := _application(request.node)) != LAST:  # whose replicas do not enrol
        shared.wait_for_replicas(application=application)
    yield shared
    shared.clear_faults()


@pytest.fixture(scope="session")
def images() -> list[Image]:
    """Every image there is: 1,797."""
    return list(digits()[0])


@pytest.fixture(scope="session")
def offline(images: list[Image]) -> list[Prediction]:
    """What the classifier says of each image in this process."""
    return DigitsModel().predict_batch(images)
