"""Inputs that destroy or keep their replica, on a real Ray Serve in both ingress modes."""

from __future__ import annotations

import pytest

from server_fixture.fixture import ServeFixture
from servestream_client import ItemError, ItemErrorKind, RetryPolicy, StreamClient, Watchdog
from servestream_client.testing.ray_serve import Ingress

pytestmark = [pytest.mark.ray, pytest.mark.timeout(600), pytest.mark.application("fragile")]

INPUTS = [b"input %d" % number for number in range(1, 301)]
PATIENT = RetryPolicy(attempts=200, give_up_after=500.0)


async def stream(client: StreamClient[bytes, bytes], inputs: list[bytes]) -> list[object]:
    return [output async for output in client.stream(inputs, return_exceptions=True)]


@pytest.mark.long  # six replicas die; tests/grpc/test_poison.py has real processes, too
async def test_an_input_that_crashes_its_replica_is_blamed(serve: ServeFixture) -> None:
    inputs = [*INPUTS[:149], b"crash", *INPUTS[150:]]
    before = {replica.pid for replica in serve.enrolled() if replica.application == "fragile"}
    async with StreamClient(serve.target, application="fragile", retry=PATIENT) as client:
        results = await stream(client, inputs)
    blamed = results.pop(149)
    assert results == INPUTS[:149] + INPUTS[150:]
    assert isinstance(blamed, ItemError)
    assert (blamed.kind, blamed.number) == (ItemErrorKind.POISON, 150)
    serve.wait_for_replicas(application="fragile")
    after = {replica.pid for replica in serve.enrolled() if replica.application == "fragile"}
    # Two replicas until it was suspected, three until it was blamed.
    assert len(after - before) <= 6


@pytest.mark.once_in(Ingress.PROXY)
async def test_a_prediction_that_crashes_its_replica_is_blamed(serve: ServeFixture) -> None:
    async with StreamClient(serve.target, application="fragile", retry=PATIENT) as client:
        assert await client.predict(b"sound") == b"sound"
        with pytest.raises(ItemError, match="on this input alone"):
            await client.predict(b"crash")
        assert await client.predict(b"sound") == b"sound"


async def test_an_input_that_hangs_costs_a_place_and_no_more(serve: ServeFixture) -> None:
    inputs = [*INPUTS[:10], b"hang", *INPUTS[11:]]
    watchdog = Watchdog(item_timeout=10.0)
    async with StreamClient(
        serve.target, application="fragile", retry=PATIENT, watchdog=watchdog
    ) as client:
        results = await stream(client, inputs)
    hung = results.pop(10)
    assert results == INPUTS[:10] + INPUTS[11:]
    assert isinstance(hung, ItemError)
    assert hung.kind is ItemErrorKind.TIMEOUT


@pytest.mark.long  # Serve takes a minute to replace it
async def test_a_replica_kept_by_inputs_that_hang_is_replaced(serve: ServeFixture) -> None:
    """Its health check fails once all of its 16 places are kept."""
    inputs = [b"hang"] * 40 + INPUTS
    watchdog = Watchdog(item_timeout=5.0)
    async with StreamClient(
        serve.target, application="fragile", retry=PATIENT, watchdog=watchdog
    ) as client:
        results = await stream(client, inputs)
    assert results[40:] == INPUTS
    assert {type(each) for each in results[:40]} == {ItemError}
