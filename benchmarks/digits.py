"""The classifier of handwritten digits as a service that predicts in batches."""

from __future__ import annotations

from collections.abc import Sequence

from servestream_client.demo.model import DigitsCodec, DigitsModel, Image, Prediction
from servestream_client.server import StreamService


class DigitsBatch(StreamService[Image, Prediction]):
    """A model that computes a batch in hardly more time than a single image."""

    codec = DigitsCodec()
    max_concurrency = 1  # it computes in Python, so that one call at a time is all that goes

    def __init__(self) -> None:
        self._model = DigitsModel()

    def predict_batch(self, items: list[Image]) -> Sequence[Prediction]:
        return self._model.predict_batch(items)


def configured(max_batch_size: int, batch_wait: float) -> type[DigitsBatch]:
    """The service with other options.

    Args:
        max_batch_size: of a batch.
        batch_wait: seconds that the first item of a batch waits for others.
    """

    class Configured(DigitsBatch):
        """The service with other options."""

    # By assignment: in the class's body the parameters' names would be its own.
    Configured.max_batch_size = max_batch_size
    Configured.batch_wait = batch_wait
    return Configured
