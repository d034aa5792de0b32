"""A typed async client for Ray Serve streams that survive their replicas.

    async with StreamClient("127.0.0.1:9000", application="digits") as client:
        async for prediction in client.stream(inputs):
            ...

See `StreamClient` for the client, `servestream_client.server` for the deployment's side, and
docs/protocol.md for what travels between them.
"""

import logging
import os
from importlib import import_module
from typing import TYPE_CHECKING

# Before gRPC is imported: its handlers around fork() crash the child of a process in which grpc.aio
# is at work (docs/decisions/0008). Whoever wants them sets the variable.
os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")

if TYPE_CHECKING:
    from servestream_client.client import StreamClient
    from servestream_client.codecs import (
        ArraySpec,
        BytesCodec,
        Codec,
        JsonCodec,
        MsgpackCodec,
        NumpyCodec,
        ProtobufCodec,
    )
    from servestream_client.config import Endpoints, FlowControl, RetryPolicy, Watchdog
    from servestream_client.cursor import Cursor, SeekableInputs
    from servestream_client.errors import (
        AccessDeniedError,
        ClientClosedError,
        CodecMismatchError,
        ConfigurationError,
        CursorMismatchError,
        Delivered,
        InputEncodeError,
        InputsError,
        InputTooLargeError,
        ItemError,
        ItemErrorKind,
        MessageTooLargeError,
        NotAServerError,
        OutputDecodeError,
        PeerProtocolError,
        RejectedError,
        RetriesExhaustedError,
        ServerFailedError,
        ServeStreamError,
        StreamError,
        StreamTimeoutError,
        UnreachableError,
        VersionMismatchError,
        WrongApplicationError,
        WrongEventLoopError,
    )
    from servestream_client.events import Hooks, LaneStatistics, StreamStatistics
    from servestream_client.outputs import NoOutput, Numbered, Seam, SeamKind
    from servestream_client.session.batches import Batch
    from servestream_client.session.generation import Generation
    from servestream_client.session.stream import PredictionStream
    from servestream_client.sync import SyncGeneration, SyncPredictionStream, SyncStreamClient
    from servestream_client.version import __version__

__all__ = [
    "AccessDeniedError",
    "ArraySpec",
    "Batch",
    "BytesCodec",
    "ClientClosedError",
    "Codec",
    "CodecMismatchError",
    "ConfigurationError",
    "Cursor",
    "CursorMismatchError",
    "Delivered",
    "Endpoints",
    "FlowControl",
    "Generation",
    "Hooks",
    "InputEncodeError",
    "InputTooLargeError",
    "InputsError",
    "ItemError",
    "ItemErrorKind",
    "JsonCodec",
    "LaneStatistics",
    "MessageTooLargeError",
    "MsgpackCodec",
    "NoOutput",
    "NotAServerError",
    "Numbered",
    "NumpyCodec",
    "OutputDecodeError",
    "PeerProtocolError",
    "PredictionStream",
    "ProtobufCodec",
    "RejectedError",
    "RetriesExhaustedError",
    "RetryPolicy",
    "Seam",
    "SeamKind",
    "SeekableInputs",
    "ServeStreamError",
    "ServerFailedError",
    "StreamClient",
    "StreamError",
    "StreamStatistics",
    "StreamTimeoutError",
    "SyncGeneration",
    "SyncPredictionStream",
    "SyncStreamClient",
    "UnreachableError",
    "VersionMismatchError",
    "Watchdog",
    "WrongApplicationError",
    "WrongEventLoopError",
    "__version__",
]

_NAMES = {
    "client": "StreamClient",
    "codecs": "ArraySpec BytesCodec Codec JsonCodec MsgpackCodec NumpyCodec ProtobufCodec",
    "config": "Endpoints FlowControl RetryPolicy Watchdog",
    "cursor": "Cursor SeekableInputs",
    "errors": (
        "AccessDeniedError ClientClosedError CodecMismatchError ConfigurationError "
        "CursorMismatchError Delivered InputEncodeError InputsError InputTooLargeError "
        "ItemError ItemErrorKind MessageTooLargeError NotAServerError OutputDecodeError "
        "PeerProtocolError RejectedError RetriesExhaustedError ServerFailedError "
        "ServeStreamError StreamError StreamTimeoutError UnreachableError "
        "VersionMismatchError WrongApplicationError WrongEventLoopError"
    ),
    "events": "Hooks LaneStatistics StreamStatistics",
    "outputs": "NoOutput Numbered Seam SeamKind",
    "session.batches": "Batch",
    "session.generation": "Generation",
    "session.stream": "PredictionStream",
    "sync": "SyncGeneration SyncPredictionStream SyncStreamClient",
    "version": "__version__",
}
"""What is offered here, by the module that has it, and is imported when it is first asked for: a
server needs no client, and who catches an error needs no gRPC."""

_HOMES = {name: module for module, names in _NAMES.items() for name in names.split()}


if not TYPE_CHECKING:  # or type checkers would believe any name

    def __getattr__(name: str) -> object:
        if name in _HOMES:
            value: object = getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
            globals()[name] = value
            return value
        if name in _NAMES:
            return import_module(f"{__name__}.{name}")
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__, *_NAMES})


# Silent unless the application sets up logging.
logging.getLogger(__name__).addHandler(logging.NullHandler())
