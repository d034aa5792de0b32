"""How good is the classifier? A script with the blocking client.

make serve                      # in another terminal
python examples/classify.py     # or with another host:port
"""

import sys
from collections import Counter

from servestream_client import SyncStreamClient
from servestream_client.demo.model import DigitsCodec, digits


def main(target: str = "127.0.0.1:9000") -> None:
    """Classify every image, and count what was taken for what."""
    images, labels = digits()
    mistaken: Counter[tuple[int, int]] = Counter()
    with SyncStreamClient(target, application="digits", codec=DigitsCodec()) as client:
        stream = client.stream(images)
        # Outputs come in the order of the inputs, whatever happens to the replicas.
        for label, prediction in zip(labels, stream, strict=True):
            if prediction.digit != label:
                mistaken[int(label), prediction.digit] += 1
        replica = stream.statistics().replica

    print(f"{1 - mistaken.total() / len(labels):.1%} of {len(labels)} are right, says {replica}")
    for (label, digit), count in mistaken.most_common(3):
        print(f"{count} times {label} was taken for {digit}")


if __name__ == "__main__":
    main(*sys.argv[1:])
