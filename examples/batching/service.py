"""A classifier whose handler gets what has arrived on all streams, as one batch.

    python examples/batching/service.py     # Ctrl-C ends it
    python examples/batching/client.py

A random forest takes hardly longer for 64 images than for one, as does a model on a GPU.
"""

import numpy as np
from ray import serve
from ray.serve.config import gRPCOptions

from servestream_client import ArraySpec, NumpyCodec
from servestream_client.demo.model import DigitsModel
from servestream_client.server import GRPC_SERVICER_FUNCTIONS, StreamService

CODEC = NumpyCodec(ArraySpec(np.uint8, (64,)), ArraySpec(np.int64))


@serve.deployment(num_replicas=1, max_ongoing_requests=100)
class Digits(StreamService[np.ndarray, np.ndarray]):
    """Digits, a batch at a time."""

    codec = CODEC
    max_batch_size = 64
    batch_wait = 0.0  # never wait for more: batches grow by themselves as the load does

    def __init__(self) -> None:
        self._model = DigitsModel()

    def predict_batch(self, items: list[np.ndarray]) -> list[np.ndarray]:
        """One prediction for each image, in their order."""
        return [np.array(each.digit) for each in self._model.predict_batch(items)]


app = Digits.bind()

if __name__ == "__main__":
    serve.start(
        grpc_options=gRPCOptions(port=9000, grpc_servicer_functions=GRPC_SERVICER_FUNCTIONS)
    )
    serve.run(app, name="digits", blocking=True)
