"""What importing the package brings along, and what it offers."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import servestream_client

CORE = {"anyio", "google", "grpc", "tenacity"}
"""The top-level packages of the four core dependencies."""
# What those bring along; grpc imports its siblings if they happen to be installed.
THEIRS = {
    "cython_runtime",
    "grpc_health",
    "grpc_reflection",
    "grpc_status",
    "grpc_tools",
    "idna",
    "sniffio",
    "typing_extensions",
}


def modules_after(statement: str, *, whole: bool = False) -> set[str]:
    script = (
        f"import sys; before = set(sys.modules); {statement}; print(*(set(sys.modules) - before))"
    )
    run = subprocess.run(
        [sys.executable, "-I", "-c", script], capture_output=True, text=True, check=True
    )
    names = run.stdout.split()
    return set(names) if whole else {name.partition(".")[0] for name in names}


def outside(modules: set[str]) -> set[str]:
    ours = {"servestream_client", *CORE, *THEIRS}
    return {m for m in modules if m not in sys.stdlib_module_names and m not in ours}


def test_the_package_imports_its_core_dependencies_and_nothing_else():
    modules = modules_after("from servestream_client import *")
    assert modules >= CORE
    assert not {m for m in outside(modules) if not m.startswith("_")}


@pytest.mark.parametrize(
    "what", ["import servestream_client", "from servestream_client import ItemError"]
)
def test_nothing_is_imported_before_it_is_asked_for(what):
    assert not modules_after(what) & CORE


def test_a_client_needs_no_blocking_one():
    late = "servestream_client.sync" in modules_after(
        "from servestream_client import StreamClient", whole=True
    )
    assert not late


def test_the_servers_kit_does_not_import_ray():
    modules = modules_after("import servestream_client.server")
    assert "ray" not in modules
    assert not {m for m in outside(modules) if not m.startswith("_")}


def test_everything_that_is_offered_exists_and_is_sorted_in():
    for name in servestream_client.__all__:
        assert hasattr(servestream_client, name)
    assert len(set(servestream_client.__all__)) == len(servestream_client.__all__)


def test_type_checkers_see_each_name_where_it_is_imported_from():
    tree = ast.parse(Path(servestream_client.__file__).read_text(encoding="utf-8"))
    seen = {
        (alias.name, node.module)
        for block in tree.body
        if isinstance(block, ast.If)
        for node in block.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    package = servestream_client.__name__
    homes = {(name, f"{package}.{home}") for name, home in servestream_client._HOMES.items()}
    assert seen == homes
    assert set(servestream_client.__all__) == {name for name, _ in homes}


def test_what_is_not_offered_is_an_attribute_error():
    assert servestream_client.errors.ItemError is servestream_client.ItemError
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        servestream_client.nothing  # noqa: B018 — looked up, and not there
    assert {"StreamClient", "errors", "__version__"} <= set(dir(servestream_client))
