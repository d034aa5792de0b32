"""A voice activity detector that any replica can go on with, as a deployment.

    pip install ".[state]" && pip install --no-deps silero-vad==6.2.3
    export SERVESTREAM_STATE_KEYS=$(servestream key)
    python examples/speech/service.py                   # Ctrl-C ends it
    python examples/speech/listen.py meeting.wav        # in another terminal

What Silero VAD has heard before is its recurrent state *and* the last 64 samples. Both travel.
"""

from collections.abc import Mapping

from ray import serve
from ray.serve.config import gRPCOptions

from servestream_client.demo.state.vad import BEGINNING, Vad
from servestream_client.server import GRPC_SERVICER_FUNCTIONS, StatefulService


@serve.deployment(num_replicas=2, max_ongoing_requests=100)
class VoiceActivity(StatefulService[bytes, bytes, bytes]):
    """32 ms of 16-bit samples at 16 kHz to the probability of speech, a float of 32 bits."""

    fingerprint = "silero-vad 6, 16 kHz"  # states of another model are refused
    max_batch_size = 32

    def __init__(self) -> None:
        self._model = Vad()

    def begin(self, parameters: Mapping[str, str]) -> bytes:  # noqa: ARG002
        """Nothing is heard yet."""
        return BEGINNING

    def step_batch(
        self, states: list[bytes], items: list[bytes]
    ) -> tuple[list[bytes], list[bytes]]:
        """One chunk each of several streams."""
        return self._model.step(states, items)


app = VoiceActivity.bind()

if __name__ == "__main__":
    serve.start(
        grpc_options=gRPCOptions(port=9000, grpc_servicer_functions=GRPC_SERVICER_FUNCTIONS)
    )
    serve.run(app, name="vad", blocking=True)
