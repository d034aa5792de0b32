"""Silero VAD: the probability that there is speech in 32 ms of audio, given all audio before.

What it has heard before is its recurrent state, and the last 64 samples, which stand before the
next 512 when they are judged: 1,280 bytes together. Who forgets the samples gets other
probabilities.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from servestream_client.demo.phases import DemoError
from servestream_client.demo.state.speech import RATE

__all__ = ["BEGINNING", "STATE_BYTES", "Vad"]

_RECURRENT, _CONTEXT = 2 * 128, 64
STATE_BYTES = 4 * (_RECURRENT + _CONTEXT)
BEGINNING = bytes(STATE_BYTES)
"""The state before anything is heard."""


class Vad:
    """The model, run by onnxruntime in one thread."""

    @cached_property
    def _session(self) -> Any:  # noqa: ANN401 — onnxruntime has no types
        found = find_spec("silero_vad")  # which is not imported: it would want PyTorch
        if found is None or found.origin is None or find_spec("onnxruntime") is None:
            raise DemoError("Silero VAD is not installed: `make demo-state` brings it")
        import onnxruntime  # noqa: PLC0415 — it is an extra

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        path = Path(found.origin).parent / "data" / "silero_vad.onnx"
        return onnxruntime.InferenceSession(str(path), options)

    def step(
        self, states: Sequence[bytes], chunks: Sequence[bytes]
    ) -> tuple[list[bytes], list[bytes]]:
        """The next states and the probabilities, a float of 32 bits each, of a batch of streams."""
        rows = len(states)
        held = np.frombuffer(b"".join(states), "<f4").reshape(rows, -1)
        recurrent = held[:, :_RECURRENT].reshape(rows, 2, 128).transpose(1, 0, 2)
        samples = np.frombuffer(b"".join(chunks), "<i2").reshape(rows, -1).astype("<f4") / 32_768
        heard = np.concatenate([held[:, _RECURRENT:], samples], axis=1)
        probabilities, following = self._session.run(
            None,
            {
                "input": heard,
                "state": np.ascontiguousarray(recurrent),
                "sr": np.array(RATE, dtype=np.int64),
            },
        )
        kept: npt.NDArray[np.float32] = np.concatenate(
            [following.transpose(1, 0, 2).reshape(rows, -1), heard[:, -_CONTEXT:]], axis=1
        )
        return [row.tobytes() for row in kept], [row.tobytes() for row in probabilities]

    def offline(self, chunks: Sequence[bytes]) -> list[bytes]:
        """The probabilities of a whole recording."""
        state, found = BEGINNING, list[bytes]()
        for chunk in chunks:
            (state,), (probability,) = self.step([state], [chunk])
            found.append(probability)
        return found
