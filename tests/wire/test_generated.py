"""The generated module says what the .proto says."""

import subprocess
import sys
from pathlib import Path

import pytest
from google.protobuf.descriptor_pb2 import DescriptorProto, FileDescriptorProto, FileDescriptorSet

from servestream_client.wire import stream_pb2 as pb

PROTOS = Path(__file__).parents[2] / "protos"
BUF = Path(sys.executable).parent / "buf"


def buf(*arguments: str) -> bytes:
    done = subprocess.run([BUF, *arguments], capture_output=True, check=False, cwd=PROTOS)
    if done.returncode:
        pytest.fail(f"buf {' '.join(arguments)}:\n{(done.stdout + done.stderr).decode()}")
    return done.stdout


def bare(message: DescriptorProto) -> None:
    """Drop what a compiler may fill in or leave out."""
    for field in [*message.field, *message.extension]:
        field.ClearField("json_name")
    for nested in message.nested_type:
        bare(nested)


def comparable(file: FileDescriptorProto) -> FileDescriptorProto:
    result = FileDescriptorProto()
    result.CopyFrom(file)
    # The module is generated under the path of its package (scripts/protos.py).
    result.name = "stream.proto"
    result.ClearField("source_code_info")
    result.DiscardUnknownFields()
    for message in result.message_type:
        bare(message)
    return result


def source() -> FileDescriptorProto:
    files = FileDescriptorSet.FromString(buf("build", ".", "-o", "-")).file
    assert [file.name for file in files] == ["servestream/v1/stream.proto"]
    return comparable(files[0])


def generated() -> FileDescriptorProto:
    file = FileDescriptorProto()
    pb.DESCRIPTOR.CopyToProto(file)
    return comparable(file)


def test_the_generated_module_is_that_of_the_proto():
    assert generated() == source()


def test_the_protos_are_clean():
    assert buf("lint", ".") == b""
