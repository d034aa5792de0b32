"""A planted bug, and where in the code it goes.

A bug names its place by what it breaks, and its test by the test's name: both may move to other
files, and nothing has to be planted anew.
"""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
PACKAGE = "servestream_client"

LEFT_OUT = ("__pycache__", "ray", "benchmarks")
"""Folders whose tests no bug can name: they take too long."""


@dataclass(frozen=True)
class Bug:
    """One planted bug.

    Attributes:
        name: what is broken.
        place: the qualified name of the function, class or module-level name that has it
            (`ClientSession.receive`), anywhere in the package. `server.workers:Call.end` looks in
            one module or folder only, and `server.workers:` at all that is in there.
        old: a piece of it, which stands there exactly once.
        new: what replaces it.
        test: the function that must fail, wherever below `tests`; with its file where several have
            the name (`test_pump.py::test_it`, `session/test_pump.py::test_it`), or a file alone.
    """

    name: str
    place: str
    old: str
    new: str
    test: str

    @property
    def stale(self) -> str:
        """Why it cannot be planted, or nothing would notice it; empty if it can."""
        code = Code.of(ROOT / PACKAGE)
        places = len(code.places(self.place, self.old))
        if places != 1:
            hint = ", ".join(code.owner(spot, self.old) for spot in code.places(":", self.old))
            return f"{self.place} has {places} places for it, not one; it stands in: {hint or '-'}"
        tests = len(Tests.of(ROOT / "tests").named(self.test))
        return "" if tests == 1 else f"{tests} tests are called {self.test}, not one"

    @property
    def path(self) -> str:
        """The file that it breaks, below the package."""
        package = ROOT / PACKAGE
        ((path, _),) = Code.of(package).places(self.place, self.old)
        return path.relative_to(package).as_posix()

    @property
    def node(self) -> str:
        """The test as pytest names it, below the root."""
        (node,) = Tests.of(ROOT / "tests").named(self.test)
        return f"tests/{node}"

    def plant(self, package: Path) -> None:
        """Break a copy of the package."""
        ((path, start),) = Code(package).places(self.place, self.old)
        text = path.read_text()
        path.write_text(text[:start] + self.new + text[start + len(self.old) :])


@dataclass(frozen=True)
class _Definition:
    """What one qualified name stands for: whole lines, from the first decorator on."""

    name: str
    path: Path
    start: int
    end: int


class Code:
    """The definitions of a package, by qualified name."""

    def __init__(self, package: Path) -> None:
        self._package = package
        self._texts = {path: path.read_text() for path in sorted(package.rglob("*.py"))}
        self._named: dict[str, list[_Definition]] = defaultdict(list)
        for path, text in self._texts.items():
            for definition in _definitions(path, text):
                self._named[definition.name].append(definition)

    @classmethod
    @cache
    def of(cls, package: Path) -> Code:
        """The code as it stood when it was first asked for."""
        return cls(package)

    def places(self, place: str, text: str) -> list[tuple[Path, int]]:
        """Where a text stands in what a place names: files, and offsets in characters."""
        where, _, name = place.rpartition(":")
        return [
            (definition.path, definition.start + found.start())
            for definition in self._named[name]
            if self._is_in(definition.path, where)
            for found in re.finditer(
                re.escape(text), self._texts[definition.path][definition.start : definition.end]
            )
        ]

    def owner(self, spot: tuple[Path, int], text: str) -> str:
        """The shortest place that names the innermost definition around a text."""
        path, start = spot
        around = [
            definition
            for definitions in self._named.values()
            for definition in definitions
            if definition.path == path
            and definition.start <= start
            and start + len(text) <= definition.end
        ]
        name = min(around, key=lambda definition: definition.end - definition.start).name
        module = path.relative_to(self._package).with_suffix("").parts
        if module[-1] == "__init__":
            module = module[:-1]
        wheres = [".".join(module[:depth]) for depth in range(1, len(module) + 1)]
        # What has no name is in a module, and which one is said.
        places = [f"{where}:{name}" for where in wheres] if name else [f"{wheres[-1]}:"]
        if name:
            places.insert(0, name)
        return next((each for each in places if len(self.places(each, text)) == 1), places[-1])

    def _is_in(self, path: Path, where: str) -> bool:
        parts = tuple(where.split(".")) if where else ()
        return path.relative_to(self._package).with_suffix("").parts[: len(parts)] == parts


class Tests:
    """The test functions below a folder, by name."""

    def __init__(self, folder: Path) -> None:
        self._nodes: dict[str, list[str]] = defaultdict(list)
        for path in sorted(folder.rglob("*.py")):
            file = path.relative_to(folder)
            if set(file.parts) & set(LEFT_OUT):
                continue
            self._nodes[""].append(file.as_posix())
            for definition in _definitions(path, path.read_text()):
                *classes, name = definition.name.split(".")
                if name.startswith("test"):
                    self._nodes[name].append("::".join((file.as_posix(), *classes, name)))

    @classmethod
    @cache
    def of(cls, folder: Path) -> Tests:
        """The tests as they stood when they were first asked for."""
        return cls(folder)

    def named(self, test: str) -> list[str]:
        """What pytest calls the tests of a name, below the folder."""
        called, bracket, parameters = test.partition("[")
        file, _, name = called.rpartition("::") if not called.endswith(".py") else (called, "", "")
        return [
            node + bracket + parameters
            for node in self._nodes[name]
            if not file or f"/{node.partition('::')[0]}".endswith(f"/{file}")
        ]


def _definitions(path: Path, text: str) -> Iterator[_Definition]:
    """All that a module defines, the module first, under no name."""
    lines = [0]
    for line in text.split("\n"):
        lines.append(lines[-1] + len(line) + 1)

    def within(parent: ast.AST, prefix: str, *, names: bool) -> Iterator[_Definition]:
        for node in ast.iter_child_nodes(parent):
            defined = _names(node) if names else ()
            below, named = prefix, names
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                defined, below = (node.name,), f"{prefix}{node.name}."
                named = isinstance(node, ast.ClassDef)
            for name in defined:
                # A statement's node may stand behind its decorators.
                first = min(each.lineno for each in [node, *getattr(node, "decorator_list", ())])
                yield _Definition(prefix + name, path, lines[first - 1], lines[node.end_lineno])
            yield from within(node, below, names=named)

    yield _Definition("", path, 0, len(text))
    yield from within(ast.parse(text), "", names=True)


def _names(node: ast.AST) -> tuple[str, ...]:
    """What an assignment outside of functions names."""
    match node:
        case ast.Assign(targets=targets):
            return tuple(target.id for target in targets if isinstance(target, ast.Name))
        case ast.AnnAssign(target=ast.Name(id=name)):
            return (name,)
    return ()
