"""The detector as a stateful service: `step_batch` takes a chunk each of all streams there are."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from servestream_client.demo.state.vad import BEGINNING, STATE_BYTES, Vad
from servestream_client.server.stateful import StatefulService, Tokens

__all__ = ["VoiceActivity"]


class VoiceActivity(StatefulService[bytes, bytes, bytes]):
    """Chunks of 512 samples to probabilities. States are the model's own."""

    fingerprint: ClassVar[str] = "silero-vad 6, 16 kHz"
    max_batch_size: ClassVar[int] = 32
    # 2 % of what travels, for states of 1.3 kB and chunks of 1 kB.
    tokens: ClassVar[Tokens] = Tokens(inputs=64)

    def __init__(self) -> None:
        self._model = Vad()

    def begin(self, parameters: Mapping[str, str]) -> bytes:  # noqa: ARG002
        return BEGINNING

    def step_batch(
        self, states: list[bytes], items: list[bytes]
    ) -> tuple[list[bytes], list[bytes]]:
        return self._model.step(states, items)

    def upgrade(self, version: int, raw: bytes) -> bytes:
        if len(raw) != STATE_BYTES:
            raise ValueError(f"a state of version {version} with {len(raw)} bytes")
        return raw
