"""Run the quick tests, and fail unless it is this protobuf that they ran on."""

from __future__ import annotations

import sys

import google.protobuf
import pytest

# What takes long there does not depend on how messages are read and written; and whether the
# generated code is current needs buf.
ELSEWHERE = (
    "tests/wire/test_generated.py",
    "tests/grpc/test_fronts.py",
    "tests/grpc/test_leaving.py",
    "tests/grpc/test_poison.py",
    "tests/grpc/test_scripts.py",
    "tests/grpc/test_storms.py",
    "tests/grpc/test_watchdog.py",
)

if __name__ == "__main__":
    wanted = sys.argv[1]
    if google.protobuf.__version__ != wanted:
        sys.exit(f"protobuf {google.protobuf.__version__} is installed, not {wanted}")
    tests = ["tests/wire", "tests/grpc"]
    options = [
        "-q",
        "-n",
        "2",
        "-p",
        "no:cacheprovider",
        *(f"--ignore={path}" for path in ELSEWHERE),
    ]
    sys.exit(pytest.main([*options, *tests]))
