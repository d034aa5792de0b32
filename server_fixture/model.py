"""A real classifier on real data: scikit-learn's handwritten digits, 1,797 images of 8 x 8.

Training is deterministic, so that every replica and an offline run hold the same model.
"""

from __future__ import annotations

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
    """

    digit: int
    votes: float


class DigitsCodec:
    """64 bytes in, one byte and a double out."""

    id = "digits"
    fingerprint = "uint8[64] -> (uint8, float64)"

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
        return bytes([output.digit]) + np.float64(output.votes).tobytes()

    def decode_output(self, payload: bytes, /) -> Prediction:
        return Prediction(payload[0], float(np.frombuffer(payload[1:], dtype=np.float64)[0]))


class DigitsModel:
    """A random forest, trained on the first half of the images."""

    def __init__(self) -> None:
        images, labels = digits()
        half = len(images) // 2
        self._forest = RandomForestClassifier(TREES, random_state=SEED, n_jobs=1)
        self._forest.fit(images[:half], labels[:half])

    def predict(self, image: Image) -> Prediction:
        shares = self._forest.predict_proba(image.reshape(1, 64))[0]
        best = int(shares.argmax())
        return Prediction(int(self._forest.classes_[best]), float(shares[best]))


@cache
def digits() -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]:
    """Every image, uint8[1797, 64], and its label, int64[1797]."""
    bunch = load_digits()
    return bunch.data.astype(np.uint8), bunch.target
