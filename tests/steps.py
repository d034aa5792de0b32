"""How much Python code an event runs, which no load on the machine changes."""

import sys
from collections.abc import Callable
from pathlib import Path

import servestream_client

__all__ = ["steps"]

PACKAGE = str(Path(servestream_client.__file__).parent)


def steps(event: Callable[[], object], within: str = PACKAGE) -> int:
    """The opcodes that run in files whose path begins so, until the event returns."""
    count = 0

    def trace(frame, kind, _):
        nonlocal count
        if not frame.f_code.co_filename.startswith(within):
            return None
        frame.f_trace_opcodes = True
        count += kind == "opcode"
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        event()
    finally:
        sys.settrace(before)
    return count
