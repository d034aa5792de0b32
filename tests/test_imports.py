"""What importing the package brings along, and what it offers."""

import subprocess
import sys

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


def modules_after(statement: str) -> set[str]:
    script = (
        f"import sys; before = set(sys.modules); {statement}; print(*(set(sys.modules) - before))"
    )
    run = subprocess.run(
        [sys.executable, "-I", "-c", script], capture_output=True, text=True, check=True
    )
    return {name.partition(".")[0] for name in run.stdout.split()}


def outside(modules: set[str]) -> set[str]:
    ours = {"servestream_client", *CORE, *THEIRS}
    return {m for m in modules if m not in sys.stdlib_module_names and m not in ours}


def test_the_package_imports_its_core_dependencies_and_nothing_else():
    modules = modules_after("import servestream_client")
    assert modules >= CORE
    assert not {m for m in outside(modules) if not m.startswith("_")}


def test_the_servers_kit_does_not_import_ray():
    modules = modules_after("import servestream_client.server")
    assert "ray" not in modules
    assert not {m for m in outside(modules) if not m.startswith("_")}


def test_everything_that_is_offered_exists_and_is_sorted_in():
    for name in servestream_client.__all__:
        assert hasattr(servestream_client, name)
    assert len(set(servestream_client.__all__)) == len(servestream_client.__all__)
