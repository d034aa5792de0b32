"""Another build of the package, for processes that are to import that one and not this.

Everything else they import is this checkout's: a directory that holds nothing but the other package
comes first in their `PYTHONPATH`.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["SUFFIX", "BuildError", "environment", "offered"]

PACKAGE = "servestream_client"
SUFFIX = "_there"
"""Of the applications that run on the other build."""

_PLACE = "BENCH_AGAINST"
_ROOT = Path(__file__).resolve().parents[1]


class BuildError(Exception):
    """There is no package where one was said to be."""


@contextmanager
def offered(checkout: Path) -> Iterator[None]:
    """Have the applications of the other build run on that of a checkout.

    Raises:
        BuildError: it has none.
    """
    package = checkout.resolve() / PACKAGE
    if not (package / "__init__.py").exists():
        raise BuildError(f"{checkout} has no package {PACKAGE}: give a checkout of this project")
    with tempfile.TemporaryDirectory() as place, tempfile.TemporaryDirectory() as empty:
        Path(place, PACKAGE).symlink_to(package)
        os.environ[_PLACE] = place
        try:
            # Ray puts the directory that it is started in before the `PYTHONPATH` of a replica.
            with contextlib.chdir(empty):
                yield
        finally:
            del os.environ[_PLACE]


def environment() -> dict[str, str]:
    """What a process needs to import the other build.

    Raises:
        BuildError: none was offered.
    """
    place = os.environ.get(_PLACE)
    if place is None:
        raise BuildError("say with --against which build it is")
    return {"PYTHONPATH": os.pathsep.join((place, str(_ROOT)))}
