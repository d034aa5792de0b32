#!/bin/sh
# protobuf 7.36.2 (upb), CPython 3.11, glibc 2.36 on x86-64 Linux.
#
# A guess: to serialize a message of 1 MB again and again costs some copies of 1 MB, as joining its
# payloads does; the memory for it is there after the first time.
#
# Seen: each call of SerializeToString takes some 500 page faults, at 200 kB some 100, at 100 kB none, and
# b"".join of the same payloads none at any size. upb writes into a buffer that it makes larger as it
# goes, and glibc gives that back to the system when it is freed, so that the next call gets it page by
# page. With MALLOC_TRIM_THRESHOLD_ set, which ends glibc's giving back, there are none. A fault costs
# 0.1 to 2 microseconds, most in virtual machines, where they were most of the time of a large message.
#
#   100 kB: few; 200 kB: many; 1000 kB: many; joined: few; nothing given back: few
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install --quiet --disable-pip-version-check protobuf==7.36.2
cat > "$folder/count.py" <<'PYTHON'
import resource
import sys

from google.protobuf.descriptor_pb2 import FileDescriptorProto

payloads = ["x" * 1000] * int(sys.argv[1])
message = FileDescriptorProto(dependency=payloads)
joined = [payload.encode() for payload in payloads]
work = message.SerializeToString if sys.argv[2] == "serialized" else lambda: b"".join(joined)


def faults() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt


for _ in range(50):  # whatever is to be allocated once
    work()
before = faults()
for _ in range(200):
    work()
each = (faults() - before) / 200
print("many" if each > 30 else "few" if each < 5 else f"{each:.0f} page faults")
PYTHON
count() { "$folder/env/bin/python" "$folder/count.py" "$1" "$2"; }
kept() { env MALLOC_TRIM_THRESHOLD_=67108864 MALLOC_MMAP_THRESHOLD_=33554432 "$@"; }
seen="100 kB: $(count 100 serialized); 200 kB: $(count 200 serialized); \
1000 kB: $(count 1000 serialized); joined: $(count 1000 joined); \
nothing given back: $(kept "$folder/env/bin/python" "$folder/count.py" 1000 serialized)"
echo "$seen"
test "$seen" = "100 kB: few; 200 kB: many; 1000 kB: many; joined: few; nothing given back: few"
