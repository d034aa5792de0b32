"""Run the basic suite beside the packages that people have beside this one.

`make test-neighbours` makes the environment: SDKs that bring sniffio, instrumentation, other event
loops, and gevent, which must harm nobody where it is only installed.
"""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SUITE = ROOT / "tests" / "surroundings" / "basic.py"

NEIGHBOURS = (
    *("sniffio", "trio", "uvloop", "gevent", "eventlet", "openai", "anthropic", "httpx"),
    "opentelemetry.instrumentation.grpc",
)

VARIANTS = (
    ("plain", []),
    ("uvloop", ["--uvloop"]),
    ("OpenTelemetry's instrumentation", ["--instrumented"]),
)

PATCHED = """
import sys
{patch}
from servestream_client import ConfigurationError, StreamClient, SyncStreamClient
for face in (StreamClient, SyncStreamClient):
    try:
        face("127.0.0.1:1")
    except ConfigurationError as error:
        assert "{name} has replaced" in str(error), error
    else:
        sys.exit("a client was made where {name} had patched threads")
"""

PATCHES = {
    "gevent": "import gevent.monkey; gevent.monkey.patch_all()",
    "eventlet": "import eventlet; eventlet.monkey_patch()",
}


def main() -> int:
    lacking = [name for name in NEIGHBOURS if importlib.util.find_spec(name) is None]
    if lacking:
        sys.exit(f"not installed, so nothing would be tested: {', '.join(lacking)}")
    imports = f"import {', '.join(NEIGHBOURS)}"
    runs = [(name, ["-c", _suite(imports, options)]) for name, options in VARIANTS]
    runs += [
        (f"{name}, patched", ["-W", "ignore", "-c", PATCHED.format(patch=patch, name=name)])
        for name, patch in PATCHES.items()
    ]
    failed = 0
    for name, command in runs:
        done = subprocess.run(
            [sys.executable, *command], capture_output=True, text=True, timeout=100, check=False
        )
        print(f"  {name}: {'failed' if done.returncode else 'passed'}", flush=True)
        if done.returncode:
            print(done.stdout, done.stderr, sep="\n")
            failed += 1
    return 1 if failed else 0


def _suite(imports: str, options: list[str]) -> str:
    """The suite in a process that has imported all of them."""
    return (
        f"import runpy, sys, warnings; warnings.simplefilter('ignore')\n{imports}\n"
        f"sys.argv = {['basic.py', *options]!r}\n"
        f"runpy.run_path({str(SUITE)!r}, run_name='__main__')\n"
    )


if __name__ == "__main__":
    sys.exit(main())
