"""Run the quick tests, and fail unless it is this protobuf that they ran on."""

from __future__ import annotations

import sys

import google.protobuf
import pytest

# What depends on how messages are read and written: these, and no test of time limits, reverse
# proxies or leave-taking. Whether the generated code is current needs buf.
TESTS = (
    "tests/wire",
    "tests/grpc/test_backpressure.py",
    "tests/grpc/test_bad_input.py",
    "tests/grpc/test_batches.py",
    "tests/grpc/test_faults.py",
    "tests/grpc/test_hostile_clients.py",
    "tests/grpc/test_hostile_servers.py",
    "tests/grpc/test_predict.py",
    "tests/grpc/test_stream.py",
)
ELSEWHERE = "tests/wire/test_generated.py"

if __name__ == "__main__":
    wanted = sys.argv[1]
    if google.protobuf.__version__ != wanted:
        sys.exit(f"protobuf {google.protobuf.__version__} is installed, not {wanted}")
    options = [
        "-q",
        "-n",
        "2",
        "-p",
        "no:cacheprovider",
        f"--ignore={ELSEWHERE}",
    ]
    sys.exit(pytest.main([*options, *TESTS]))
