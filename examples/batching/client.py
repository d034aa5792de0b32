"""Many callers at once, whose images become the service's batches."""

import asyncio
import sys

import numpy as np

from servestream_client import ArraySpec, NumpyCodec, StreamClient
from servestream_client.demo.model import digits

CODEC = NumpyCodec(ArraySpec(np.uint8, (64,)), ArraySpec(np.int64))


async def main(target: str = "127.0.0.1:9000") -> None:
    """Each image by a call of its own, all of them under way together."""
    images, labels = digits()
    async with StreamClient(target, application="digits", codec=CODEC) as client:
        answers = await asyncio.gather(*(client.predict(image) for image in images))
    right = sum(int(answer) == label for answer, label in zip(answers, labels, strict=True))
    print(f"{right} of {len(labels)} are right")


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
