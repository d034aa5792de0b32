"""Write what docs/ and CONTRIBUTING have from the code, or check that it is current."""

from __future__ import annotations

import argparse
import ast
import inspect
import re
import sys
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import fields
from enum import Enum
from pathlib import Path
from typing import Any

from troubleshooting import CLIENT_LINES, SERVER_LINES, WARNINGS, error_sections, log_lines

from servestream_client import FlowControl, RetryPolicy, Watchdog, environment
from servestream_client.protocol.states import CLIENT, SERVER
from servestream_client.transport.classify import STATUS_TABLE

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"


def _row(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"


def states(table: Mapping[tuple[Enum, Enum], Enum]) -> str:
    """A state machine: its states, then its transitions."""
    kind = type(next(iter(table))[0])
    rows = [_row("state", "meaning"), "|---|---|"]
    rows += [_row(state.name, str(state.value)) for state in kind]
    rows += ["", _row("in state", "event", "goes to"), "|---|---|---|"]
    rows += [_row(s.name, str(event.value), after.name) for (s, event), after in table.items()]
    return "\n".join(rows)


def statuses() -> str:
    """The classification of gRPC statuses."""
    heads = ("status", "details contain", "only with", "decision", "meaning", "seen")
    rows = [_row(*heads), "|---" * len(heads) + "|"]
    rows += [
        _row(
            row.code,
            " or ".join(row.details) or ("(none)" if row.no_details else ""),
            str(row.where.value),
            row.decision.name,
            row.said("…"),
            f"{row.seen} (collected only)" if row.collected else row.seen,
        )
        for row in STATUS_TABLE
    ]
    return "\n".join(rows)


def settings(kind: type) -> str:
    """A policy's variables, with what its own docstring says of their fields."""
    said = dict(re.findall(r"^    (\w+): (.+?)(?=[;.] |[;.]$)", _attributes(kind), re.MULTILINE))
    names = list(environment.names(kind))
    prefix = environment.PREFIXES[kind]
    rows = [_row(f"`{prefix}` and", "default", "meaning"), "|---|---|---|"]
    for name, field in zip(names, fields(kind), strict=True):
        default = str(field.default).lower()
        rows.append(_row(f"`{name.removeprefix(prefix)}`", f"`{default}`", said[field.name]))
    return "\n".join(rows)


def _attributes(kind: type) -> str:
    """The part of a docstring on attributes, each on a line of its own."""
    text = (inspect.getdoc(kind) or "").partition("Attributes:")[2]
    return re.sub(r"\n {8}", " ", text)


def house() -> str:
    """The rooms of the package by floor, as the import contracts have them, and what each is."""
    setting = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]
    lines = ["```"]
    for contract in setting["contracts"]:
        if contract["type"] == "layers":
            lines += [*_floors(contract), ""]
    named = set(re.findall(r"[\w.]+", str(setting["contracts"])))
    package = ROOT / "servestream_client"
    for path in sorted(package.iterdir()):
        free = path.suffix == ".py" or (path / "__init__.py").exists()
        if free and f"{package.name}.{path.stem}" not in named and path.stem != "__init__":
            lines.append(f" -  {path.stem:24}{_first_line(f'{package.name}.{path.stem}')}")
    lines.append("")
    lines += [
        f"{f'{package}/':28}{_first_line(package)}"
        for package in setting["root_packages"]
        if package != "servestream_client"
    ]
    return "\n".join([*lines, "```"])


def _floors(contract: dict[str, Any]) -> Iterator[str]:
    containers = contract.get("containers", [""])
    if containers != [""]:
        yield f"within {', '.join(containers)}"
    layers = contract["layers"]
    for floor, layer in zip(range(len(layers) - 1, -1, -1), layers, strict=True):
        for place, room in enumerate(re.split(r"\s*[|:]\s*", layer)):
            module = room.strip("() \n")
            names = [f"{each}.{module}".lstrip(".") for each in containers]
            name = module.removeprefix("servestream_client.")
            said = next(filter(None, map(_first_line, names)), "")
            yield f"{'' if place else floor:>2}  {name:24}{said}".rstrip()


def _first_line(module: str) -> str:
    """The first sentence of a module's docstring, which says what it is."""
    path = ROOT / module.replace(".", "/")
    path = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    if not path.exists():
        return ""
    text = (ast.get_docstring(ast.parse(path.read_text())) or "").partition("\n")[0]
    return re.split(r"(?<=\w)\. ", text)[0].rstrip(".").replace("``", "`")


TABLES = {
    DOCS / "protocol.md": {
        "client": states(CLIENT),
        "server": states(SERVER),
        "statuses": statuses(),
    },
    DOCS / "how-to" / "settings.md": {
        "retry": settings(RetryPolicy),
        "flow": settings(FlowControl),
        "watchdog": settings(Watchdog),
    },
    DOCS / "troubleshooting.md": {
        "errors": error_sections(),
        "client lines": log_lines(CLIENT_LINES),
        "server lines": log_lines(SERVER_LINES),
        "warnings": log_lines(WARNINGS),
    },
    ROOT / "CONTRIBUTING.md": {"house": house()},
}


def current(document: Path) -> str:
    """A document with its tables as the code has them."""
    text = document.read_text()
    for name, table in TABLES[document].items():
        text, found = re.subn(
            rf"(<!-- table: {name} -->\n).*?(<!-- end -->)",
            lambda match, table=table: f"{match[1]}{table}\n{match[2]}",  # type: ignore[misc]
            text,
            flags=re.DOTALL,
        )
        if not found:
            raise SystemExit(f"{document.name} has no place for the table {name!r}")
    return text


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="change nothing; fail if out of date")
    check = parser.parse_args().check
    stale = [document for document in TABLES if document.read_text() != current(document)]
    for document in stale:
        if check:
            print(f"{document.relative_to(ROOT)}: out of date; run `make docs`", file=sys.stderr)
        else:
            document.write_text(current(document))
    return 1 if check and stale else 0


if __name__ == "__main__":
    sys.exit(main())
