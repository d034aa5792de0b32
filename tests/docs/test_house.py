"""What a contributor is given says the same in every place."""

import inspect
import re
import tomllib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import servestream_client
from servestream_client.errors import ServeStreamError

ROOT = Path(__file__).resolve().parents[2]
GROUPS = tomllib.loads((ROOT / "pyproject.toml").read_text())["dependency-groups"]


def test_pre_commit_runs_what_make_check_runs():
    (checks,) = re.findall(r"^CHECKS = (.*)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    hooks = re.findall(
        r"- id: (\S+)\n.*\n +entry: make -s (\S+)", (ROOT / ".pre-commit-config.yaml").read_text()
    )
    assert hooks == [(check, check) for check in checks.split()]


def requirements(group: str) -> Iterator[str]:
    for each in GROUPS[group]:
        if isinstance(each, dict):
            yield from requirements(each["include-group"])
        else:
            yield re.split(r"[\[><=;]", each)[0].replace(".", "-")  # as the lock has it


def test_the_group_dev_has_all_that_the_others_have_and_the_lock_has_it():
    everything = set(requirements("dev"))
    assert everything == {each for group in GROUPS for each in requirements(group)}
    own = [each for group in GROUPS.values() for each in group if isinstance(each, str)]
    assert len(own) == len(set(own))  # each stands in one group
    locked = (ROOT / "requirements" / "dev.txt").read_text()
    pinned = set(re.findall(r"^([A-Za-z0-9._-]+)==", locked, re.MULTILINE))
    assert everything - pinned == set()


def test_no_two_test_modules_have_one_name():
    """`pytest` imports them by that name alone, so one run of all would not begin."""
    names = Counter(each.name for each in (ROOT / "tests").rglob("test_*.py"))
    assert [name for name, count in names.items() if count > 1] == []


def test_readme_is_short_and_has_the_words_that_people_search_for():
    readme = (ROOT / "README.md").read_text()
    assert len(readme.splitlines()) <= 150
    words = ("backoff", "backpressure", "idempotent", "at-least-once", "sequence number")
    assert [word for word in words if word not in readme] == []
    everything = readme + "".join(page.read_text() for page in (ROOT / "docs").rglob("*.md"))
    words = ("reverse proxy", "circuit breaker", "head-of-line blocking", "full jitter")
    assert [word for word in words if word not in everything] == []


def test_each_public_exception_can_be_looked_up():
    page = (ROOT / "docs" / "troubleshooting.md").read_text()
    public = [
        name
        for name, value in inspect.getmembers(servestream_client)
        if isinstance(value, type) and issubclass(value, ServeStreamError)
    ]
    assert len(public) > 15
    for name in set(public) - {"ServeStreamError"}:
        assert f"\n### {name}\n" in page
