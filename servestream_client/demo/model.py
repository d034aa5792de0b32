"""A real classifier on real data: scikit-learn's handwritten digits, 1,797 images of 8 x 8.

Training is deterministic, so that every replica and an offline run hold the same model.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Sequence
from functools import cache
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from sklearn.datasets import load_digits
from sklearn.ensemble import RandomForestClassifier

Image = npt.NDArray[np.uint8]
"""64 grey values from 0 to 16."""

SEED = 20260522
TREES = 40


class Prediction(NamedTuple):
    """What the classifier says of one image.

    Attributes:
        digit: the most probable one, 0 to 9.
        votes: how many of the trees' shares went to it, from 0 to 1.
        image_crc: CRC-32 of the 64 bytes of the image that was classified, so that an answer can
            be told to belong to its input.
    """

    digit: int
    votes: float
    image_crc: int


_PREDICTION = struct.Struct("<BdI")


class DigitsCodec:
    """64 bytes in; one byte, a double and a checksum out."""

    id = "digits"
    fingerprint = "uint8[64] -> (uint8, float64, uint32)"

    def encode_input(self, item: Image, /) -> bytes:
        image = np.asarray(item)
        if image.shape != (64,) or image.dtype != np.uint8:
            raise TypeError(f"an image is uint8[64], not {image.dtype}{list(image.shape)}")
        return image.tobytes()

    def decode_input(self, payload: bytes, /) -> Image:
        image = np.frombuffer(payload, dtype=np.uint8)
        if image.shape != (64,):
            raise ValueError(f"an image has 64 bytes, not {len(payload)}")
        return image

    def encode_output(self, output: Prediction, /) -> bytes:
        return _PREDICTION.pack(*output)

    def decode_output(self, payload: bytes, /) -> Prediction:
        return Prediction(*_PREDICTION.unpack(payload))


class DigitsModel:
    """A random forest, trained on the first half of the images.

    Args:
        trees: how many, and so how long it takes.
    """

    def __init__(self, trees: int = TREES) -> None:
        images, labels = digits()
        half = len(images) // 2
        self._forest = RandomForestClassifier(trees, random_state=SEED, n_jobs=1)
        self._forest.fit(images[:half], labels[:half])

    def predict(self, image: Image) -> Prediction:
        return self.predict_batch([image])[0]

    def predict_batch(self, images: Sequence[Image]) -> list[Prediction]:
        """Many images at once, which costs hardly more than one."""
        predictions: list[Prediction] = []
        for image, shares in zip(images, self._forest.predict_proba(np.stack(images)), strict=True):
            best = int(shares.argmax())
            digit, votes = int(self._forest.classes_[best]), float(shares[best])
            predictions.append(Prediction(digit, votes, image_crc(image)))
        return predictions


def image_crc(image: Image) -> int:
    """CRC-32 of an image's 64 bytes. It differs for every image of `digits`."""
    return zlib.crc32(image.tobytes())


@cache
def digits() -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]:
    """Every image, uint8[1797, 64], and its label, int64[1797]."""
    bunch = load_digits()
    return bunch.data.astype(np.uint8), bunch.target
