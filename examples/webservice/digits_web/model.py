"""The classifier: a `StreamService`, for Ray Serve and for tests alike."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression

from servestream_client.server import StreamService

Image = list[int]
"""64 grey values from 0 to 16: 8 rows of 8."""

Answer = dict[str, Any]
"""``{"digit": 0 to 9, "confidence": 0 to 1}``"""


class JsonCodec:
    """Images and answers as JSON."""

    id = "digits-web"
    fingerprint = "1"

    def encode_input(self, item: Image, /) -> bytes:
        return json.dumps(item).encode()

    def decode_input(self, payload: bytes, /) -> Image:
        image: Image = json.loads(payload)
        return image

    def encode_output(self, output: Answer, /) -> bytes:
        return json.dumps(output).encode()

    def decode_output(self, payload: bytes, /) -> Answer:
        answer: Answer = json.loads(payload)
        return answer


class Classifier(StreamService[Image, Answer]):
    """Answers what has arrived from all callers at once; a model is trained in the constructor."""

    codec = JsonCodec()

    def __init__(self) -> None:
        digits = load_digits()
        self._model = LogisticRegression(max_iter=200).fit(digits.data / 16, digits.target)

    def predict_batch(self, items: list[Image]) -> list[Answer]:
        images: npt.NDArray[np.float64] = np.array(items, dtype=float)
        if images.shape[1:] != (64,) or images.min() < 0 or images.max() > 16:
            raise ValueError("an image has 64 values from 0 to 16")
        shares = self._model.predict_proba(images / 16)
        return [
            {"digit": int(each.argmax()), "confidence": round(float(each.max()), 4)}
            for each in shares
        ]
