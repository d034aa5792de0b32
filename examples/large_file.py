"""A file of any size through a stream, in constant memory.

    make serve APPLICATIONS=echo                   # in another terminal
    python examples/large_file.py in.txt out.txt   # and perhaps another host:port

Lines are read as there is room for them, and results are written as they come: no more than
`FlowControl` allows is ever held, at either end and between them. To go on where it was killed, see
into_database.py, or ``servestream call --resume``.
"""

import resource
import sys
from collections.abc import Iterator
from pathlib import Path

from servestream_client import FlowControl, SyncStreamClient


def lines(path: Path) -> Iterator[bytes]:
    """The file's lines, without their ends."""
    with path.open("rb") as file:
        for line in file:
            yield line.rstrip(b"\n")


def main(source: str, destination: str, target: str = "127.0.0.1:9000") -> None:
    """Send each line, and write each result in its place."""
    count = 0
    flow = FlowControl(window_items=1024)
    with (
        SyncStreamClient(target, application="echo", flow=flow) as client,
        Path(destination).open("wb") as file,
    ):
        for output in client.stream(lines(Path(source))):
            file.write(output + b"\n")
            count += 1
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"{count:,} lines, {peak:.0f} MiB at the most")


if __name__ == "__main__":
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    main(*sys.argv[1:])
