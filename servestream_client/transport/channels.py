"""Channels: how one is configured, and what is known of one connection and the calls on it."""

from __future__ import annotations

import logging
from typing import TypeAlias

import grpc
import grpc.aio

from servestream_client.metadata import METADATA_OPTIONS, Metadata
from servestream_client.transport.intercepted import Outgoing, begin_intercepted, has_interceptors
from servestream_client.transport.traffic import Traffic
from servestream_client.transport.writing import writable
from servestream_client.usercode import describe
from servestream_client.wire import stream_pb2 as pb
from servestream_client.wire import stream_pb2_grpc as pb_grpc

__all__ = ["CONNECT_MS", "Call", "Connection", "channel_options", "connected"]

logger: logging.Logger = logging.getLogger(__name__)

Call: TypeAlias = "grpc.aio.StreamStreamCall[pb.ClientFrame, pb.ServerFrame]"

_FRAME_OVERHEAD_BYTES = 64 * 1024

CONNECT_MS = 5000
"""How long a connection may take to be made. With TLS that is four round trips and more; an address
that swallows packets is tried again as often."""
PING_TIMEOUT_MS = 2**31 - 1
"""For ever. gRPC measures a connection with pings, and breaks it where one is not answered in a
minute, which is what it takes behind 3 MB at 50 kB/s."""


def channel_options(max_frame_bytes: int) -> list[tuple[str, int | str]]:
    """Channel arguments for streams whose frames have at most `max_frame_bytes`.

    gRPC's own retry is off: it cannot replay once a response came, and two layers of retry
    multiply (gRFC A6). The connection is retried often, since the policy above decides when; and
    its state is not shared with other channels of the process. What gRPC calls the minimum of the
    backoff is in truth how long one try to connect may last.
    """
    return [
        ("grpc.enable_retries", 0),
        ("grpc.max_receive_message_length", max_frame_bytes + _FRAME_OVERHEAD_BYTES),
        ("grpc.max_send_message_length", -1),
        ("grpc.initial_reconnect_backoff_ms", 50),
        ("grpc.min_reconnect_backoff_ms", CONNECT_MS),
        ("grpc.max_reconnect_backoff_ms", 500),
        ("grpc.use_local_subchannel_pool", 1),
        *METADATA_OPTIONS,
        # Its pings wait behind megabytes like everything else, and heartbeats notice a dead link.
        ("grpc.http2.ping_timeout_ms", PING_TIMEOUT_MS),
    ]


async def connected(channel: grpc.aio.Channel) -> bool:
    """Whether a channel comes to be connected, or fails once more."""
    ready, failure = grpc.ChannelConnectivity.READY, grpc.ChannelConnectivity.TRANSIENT_FAILURE
    state = channel.get_state(try_to_connect=True)
    tried = state is not failure
    while state is not ready and not (state is failure and tried):
        tried |= state is not failure
        await channel.wait_for_state_change(state)
        state = channel.get_state(try_to_connect=True)
    return state is ready


class Connection:
    """One channel, and how many calls are under way on it."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self.channel: grpc.aio.Channel = channel
        self.stub: pb_grpc.StreamServiceAsyncStub = pb_grpc.StreamServiceStub(channel)  # type: ignore[assignment]
        self.traffic: Traffic = Traffic()
        self.apart: bool = False
        """Whether its calls carry small items only."""
        self.calls: int = 0
        self.avoided: bool = False
        """Whether it takes no further ones."""
        self.intercepted: bool = has_interceptors(self.stub.Stream)
        """Or as its first call shows."""

    def call(self, metadata: Metadata) -> tuple[Call, Outgoing[pb.ClientFrame] | None]:
        """Begin a call; with what it sends, where interceptors stand between."""
        if not self.intercepted:
            call = self.stub.Stream(metadata=metadata)
            if writable(call):
                return call, None
            call.cancel()  # before it has begun
            self.intercepted = True
        return begin_intercepted(self.stub.Stream, metadata)

    async def close(self) -> None:
        """Close the channel, whatever its interceptors have made of its calls."""
        try:
            await self.channel.close(grace=None)
        except Exception as error:
            if not self.intercepted:
                raise
            # gRPC cancels what interceptors gave it for a call, whatever that is.
            logger.debug("closing a channel: %s", describe(error))
