"""Puts an interceptor on every channel of grpc.aio, as instrumentation does.

As a pytest plugin (``-p surroundings.intercepting``) it does so for a whole run of tests.
"""

import os
from collections.abc import AsyncIterator
from typing import Any

import grpc.aio

KIND = "SURROUNDINGS_INTERCEPTOR"
"""The environment's word for what the interceptor returns: the call, or an iterator around it."""


class Interceptor(grpc.aio.StreamStreamClientInterceptor):
    """Counts what passes.

    Args:
        iterates: whether it returns an iterator of its own, and not the call.
    """

    requests = 0
    responses = 0
    calls = 0

    def __init__(self, *, iterates: bool) -> None:
        self._iterates = iterates

    async def intercept_stream_stream(self, continuation, client_call_details, request_iterator):
        Interceptor.calls += 1
        call = await continuation(client_call_details, _requests(request_iterator))
        return _responses(call) if self._iterates else call


async def _requests(requests: AsyncIterator) -> AsyncIterator:
    async for request in requests:
        Interceptor.requests += 1
        yield request


async def _responses(call: AsyncIterator) -> AsyncIterator:
    async for response in call:
        Interceptor.responses += 1
        yield response


def install(interceptor: grpc.aio.ClientInterceptor) -> None:
    """Have it on every channel that is made from now on."""

    def patched(make: Any) -> Any:
        def channel(*args: Any, interceptors: Any = None, **options: Any) -> Any:
            return make(*args, interceptors=[*(interceptors or ()), interceptor], **options)

        return channel

    grpc.aio.insecure_channel = patched(grpc.aio.insecure_channel)
    grpc.aio.secure_channel = patched(grpc.aio.secure_channel)


def pytest_configure() -> None:
    install(Interceptor(iterates=os.environ.get(KIND) == "iterator"))
