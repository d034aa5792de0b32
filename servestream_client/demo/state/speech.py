"""Audio with speech and without: sentences read by espeak-ng, with pauses between them.

The same on each run and machine: the synthesiser is deterministic, and so is the noise in between.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import numpy.typing as npt

from servestream_client.demo.phases import DemoError

__all__ = ["CHUNK", "RATE", "SENTENCES", "chunks", "recording"]

RATE = 16_000
"""Samples in a second."""

CHUNK = 512
"""Samples of which the model gives one probability: 32 ms."""

_SYNCHRONOUS, _UTF8, _RATE_PARAMETER = 2, 1, 1
_PAUSE_SECONDS = 1.2
_NOISE = 20.0

SENTENCES: Sequence[str] = (
    "The harbour was quiet when the first ferry of the day came in.",
    "Please hold the line, and somebody will be with you shortly.",
    "A model is only as good as the audio that it gets to hear.",
    "Seven, twelve, nineteen, and then the list begins again.",
    "Nobody noticed that the server had gone, and that was the point.",
    "Turn left at the mill, and follow the river to the old bridge.",
    "What the microphone hears at night is mostly the refrigerator.",
    "There is nothing to see here, but there may be something to hear.",
)


@cache
def _library() -> ctypes.CDLL:
    found = find_spec("espeakng_loader")
    if found is None or found.origin is None:
        raise DemoError("espeak-ng is not installed: `make demo-state` brings it")
    folder = Path(found.origin).parent
    (path,) = folder.glob("libespeak-ng.so") or folder.glob("libespeak-ng.dylib")
    library = ctypes.CDLL(str(path))
    if library.espeak_Initialize(_SYNCHRONOUS, 0, str(folder).encode(), 0) <= 0:
        raise DemoError("espeak-ng did not start")
    return library


_Callback = ctypes.CFUNCTYPE(
    ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.c_void_p
)


@cache
def _spoken(sentence: str, words_a_minute: int) -> npt.NDArray[np.float64]:
    """A sentence, at 16 kHz."""
    library, blocks = _library(), list[npt.NDArray[np.int16]]()

    @_Callback  # type: ignore[untyped-decorator]  # ctypes'
    def keep(samples: ctypes.Array[ctypes.c_short], count: int, _: object) -> int:
        if samples and count:
            blocks.append(np.ctypeslib.as_array(samples, (count,)).copy())
        return 0

    library.espeak_SetSynthCallback(keep)
    library.espeak_SetVoiceByName(b"en")
    library.espeak_SetParameter(_RATE_PARAMETER, words_a_minute, 0)
    text = sentence.encode()
    library.espeak_Synth(text, len(text) + 1, 0, 0, 0, _UTF8, None, None)
    library.espeak_Synchronize()
    made = np.concatenate(blocks).astype(np.float64)
    rate = 22_050
    places = np.arange(0, len(made), rate / RATE)
    found: npt.NDArray[np.float64] = np.interp(places, np.arange(len(made)), made)
    return found


def recording(number: int, seconds: float) -> bytes:
    """One of several recordings: samples of 16 bits, little-endian, at 16 kHz.

    Args:
        number: which.
        seconds: how long.
    """
    rng, wanted = np.random.default_rng(number), int(seconds * RATE)
    parts, length, turn = list[npt.NDArray[np.float64]](), 0, number
    while length < wanted:
        spoken = _spoken(SENTENCES[turn % len(SENTENCES)], 140 + 10 * (number % 6))
        parts += [np.zeros(int(_PAUSE_SECONDS * RATE)), spoken]
        length += len(parts[-1]) + len(parts[-2])
        turn += 1
    audio = np.concatenate(parts)[:wanted]
    audio += rng.normal(0.0, _NOISE, len(audio))
    return np.clip(audio, -32_768, 32_767).astype("<i2").tobytes()


def chunks(audio: bytes) -> list[bytes]:
    """What the model gets of a recording, in order; what is left at its end is no chunk."""
    size = 2 * CHUNK
    return [audio[at : at + size] for at in range(0, len(audio) - size + 1, size)]
