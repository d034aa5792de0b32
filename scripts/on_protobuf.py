"""Run the quick tests, and fail unless it is this protobuf that they ran on."""

from __future__ import annotations

import sys

import google.protobuf
import pytest

if __name__ == "__main__":
    wanted = sys.argv[1]
    if google.protobuf.__version__ != wanted:
        sys.exit(f"protobuf {google.protobuf.__version__} is installed, not {wanted}")
    tests = ["tests/wire", "tests/protocol", "tests/grpc"]
    # Whether the generated code is current does not depend on the runtime, and needs buf.
    options = ["-q", "-p", "no:cacheprovider", "--ignore=tests/wire/test_generated.py"]
    sys.exit(pytest.main([*options, *tests]))
