"""What runs as a callback of an event loop calls none of anyio's functions: these ask which library
is running, and where `sniffio` is installed, nobody says so outside of a task.
"""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import servestream_client

PACKAGE = Path(servestream_client.__file__).parent
SCHEDULERS = {
    "add_done_callback",
    "add_reader",
    "add_signal_handler",
    "add_writer",
    "call_at",
    "call_later",
    "call_soon",
    "call_soon_threadsafe",
}
MODULES = sorted(PACKAGE.rglob("*.py"))


def name_of(node: ast.expr) -> str:
    return node.attr if isinstance(node, ast.Attribute) else getattr(node, "id", "")


def schedulers(tree: ast.Module) -> set[str]:
    """Those of the loop, and the module's own functions that pass a parameter of theirs on."""
    found = set(SCHEDULERS)
    while True:
        more = {
            func.name
            for func in ast.walk(tree)
            if isinstance(func, ast.FunctionDef)
            for call in ast.walk(func)
            if isinstance(call, ast.Call) and name_of(call.func) in found
        }
        # Whatever schedules anything may be given a callback.
        if more <= found:
            return found
        found |= more


def callbacks(tree: ast.Module) -> Iterator[ast.AST]:
    names = schedulers(tree)
    for call in ast.walk(tree):
        if isinstance(call, ast.Call) and name_of(call.func) in names:
            yield from call.args


def anyio_calls(tree: ast.Module) -> set[str]:
    """The functions of anyio that callbacks reach, through functions of the same module."""
    functions: dict[str, list[ast.AST]] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef):  # a coroutine runs in a task
            functions.setdefault(node.name, []).append(node)
    imported = {
        alias.asname or alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] == "anyio"
        for alias in node.names
    }
    found, seen, left = set(), set(), list(callbacks(tree))
    while left:
        for node in ast.walk(left.pop()):
            if isinstance(node, ast.Call):
                root = node.func
                while isinstance(root, ast.Attribute):
                    root = root.value
                if isinstance(root, ast.Name) and root.id in {"anyio", *imported}:
                    found.add(ast.unparse(node.func))
            name = name_of(node) if isinstance(node, ast.Name | ast.Attribute) else ""
            if name in functions and name not in seen:
                seen.add(name)
                left += functions[name]
    return found


def test_there_are_callbacks_to_look_at():
    with_some = [path for path in MODULES if list(callbacks(ast.parse(path.read_text())))]
    assert {path.name for path in with_some} >= {"driver.py", "agenda.py", "core.py", "portal.py"}


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_no_callback_calls_anyio(path):
    assert not anyio_calls(ast.parse(path.read_text()))


@pytest.mark.parametrize(
    "source",
    [
        "loop.call_later(1, anyio.current_time())",
        "loop.call_later(1, lambda: anyio.current_time())",
        """
def move(): limit()
def limit(): return anyio.current_time()
loop.call_at(1, move)
""",
        """
from anyio import current_time
class A:
    def later(self, func): loop.call_soon(func)
    def move(self): self.later(self.limit)
    def limit(self): current_time()
""",
    ],
)
def test_one_that_does_is_found(source):
    assert anyio_calls(ast.parse(source))
