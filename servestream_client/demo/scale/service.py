"""A classifier that takes its time, for streams and, beside them, for plain unary calls."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, ClassVar

import grpc
from google.protobuf.wrappers_pb2 import BytesValue

from servestream_client.codecs import Codec
from servestream_client.demo.model import DigitsCodec, DigitsModel, Image, Prediction
from servestream_client.server import StreamService

__all__ = [
    "MOST",
    "PLACES",
    "SERVICERS",
    "TREES",
    "Forest",
    "add_UnaryServicer_to_server",
    "unary_method",
]

TREES = 400
"""Ten times those of the other demo: some 40 ms an image."""

MOST = 4
"""Replicas that there may be."""

PLACES = 2
"""Images that a replica classifies at a time."""

SERVICERS = ("servestream_client.demo.scale.service.add_UnaryServicer_to_server",)

_METHOD = "Classify"
_SERVICE = "servestream.demo.Unary"


class Forest(StreamService[Image, Prediction]):
    """The classifier."""

    codec: Codec[Image, Prediction] = DigitsCodec()
    max_concurrency: ClassVar[int | None] = PLACES

    def __init__(self) -> None:
        self._model = DigitsModel(TREES)
        self._places = asyncio.Semaphore(PLACES)

    def predict(self, item: Image) -> Prediction:
        return self._model.predict(item)

    async def Classify(self, request: BytesValue) -> BytesValue:  # noqa: N802 — the RPC's name
        """The same without this package: one image a call."""
        image = self.codec.decode_input(request.value)
        async with self._places:
            prediction = await asyncio.to_thread(self._model.predict, image)
        return BytesValue(value=self.codec.encode_output(prediction))


def add_UnaryServicer_to_server(servicer: Any, server: Any) -> None:  # noqa: N802, ANN401 — as gRPC generates it
    """For Serve's `grpc_servicer_functions`."""
    handler = grpc.unary_unary_rpc_method_handler(
        getattr(servicer, _METHOD),
        request_deserializer=BytesValue.FromString,
        response_serializer=BytesValue.SerializeToString,
    )
    generic = grpc.method_handlers_generic_handler(_SERVICE, {_METHOD: handler})
    server.add_generic_rpc_handlers((generic,))


def unary_method(channel: grpc.aio.Channel) -> Callable[..., Any]:
    """What calls it."""
    method: Callable[..., Any] = channel.unary_unary(
        f"/{_SERVICE}/{_METHOD}",
        request_serializer=BytesValue.SerializeToString,
        response_deserializer=BytesValue.FromString,
    )
    return method
