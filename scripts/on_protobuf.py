"""Run the tests of the wire, and fail unless it is this protobuf that they ran on."""

from __future__ import annotations

import sys

import google.protobuf
import pytest

# That messages are read and written. That a stream runs on it is seen by scripts/packages.py.
# Whether the generated code is current needs buf.
TESTS = "tests/wire"
ELSEWHERE = "tests/wire/test_generated.py"

if __name__ == "__main__":
    wanted = sys.argv[1]
    if google.protobuf.__version__ != wanted:
        sys.exit(f"protobuf {google.protobuf.__version__} is installed, not {wanted}")
    options = [
        "-q",
        "-p",
        "no:cacheprovider",
        f"--ignore={ELSEWHERE}",
    ]
    sys.exit(pytest.main([*options, TESTS]))
