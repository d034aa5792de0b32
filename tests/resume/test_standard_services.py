"""Services that nobody here wrote, in processes that are killed: gRPC's health and reflection."""

import asyncio
import sys
from pathlib import Path

from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from servestream_client import RetryPolicy
from servestream_client.resume import ResumableClient, by_state, in_order

sys.path.append(str(Path(__file__).parents[1] / "grpc"))
from processes import restarted_server

SERVICES = Path(__file__).with_name("standard_services.py")
PATIENT = RetryPolicy(initial=0.05, maximum=0.2, attempts=1000, give_up_after=60)
Status = health_pb2.HealthCheckResponse


async def until(condition) -> None:
    while not condition():
        await asyncio.sleep(0.01)


async def test_who_watches_a_service_hears_of_changes_and_of_no_restart(tmp_path):
    status = tmp_path / "status"
    status.write_text(str(Status.SERVING))
    async with (
        restarted_server(SERVICES, status) as (target, lives),
        ResumableClient(target, health_pb2_grpc.HealthStub, retry=PATIENT) as client,
    ):
        request = health_pb2.HealthCheckRequest(service="model")
        watching = client.call(lambda stub: stub.Watch, request, by_state())
        seen: list[int] = []

        async def watch() -> None:
            async for reply in watching:
                seen.append(reply.status)

        task = asyncio.ensure_future(watch())
        await until(lambda: seen == [Status.SERVING])
        lives[-1].kill()
        await until(lambda: watching.statistics.resumes == 1)
        status.write_text(str(Status.NOT_SERVING))
        lives[-1].kill()
        await until(lambda: len(seen) > 1)
        task.cancel()
        await asyncio.wait({task})
    assert seen == [Status.SERVING, Status.NOT_SERVING]
    assert watching.statistics.resumes == 2


def asked(count: int):
    """For the services there are, and for a file's description, in turn."""
    for number in range(count):
        if number % 2:
            yield reflection_pb2.ServerReflectionRequest(list_services="")
        else:
            symbol = "grpc.health.v1.Health"
            yield reflection_pb2.ServerReflectionRequest(file_containing_symbol=symbol)


async def test_each_question_to_a_reflection_service_has_its_answer(tmp_path):
    status = tmp_path / "status"
    status.write_text(str(Status.SERVING))
    stub = reflection_pb2_grpc.ServerReflectionStub
    got, killed = [], 0
    async with (
        restarted_server(SERVICES, status) as (target, lives),
        ResumableClient(target, stub, retry=PATIENT) as client,
        client.exchange(
            lambda stub: stub.ServerReflectionInfo, asked(60), in_order(), window=8
        ) as replies,
    ):
        async for reply in replies:
            got.append(reply.WhichOneof("message_response"))
            if len(got) in (10, 31):
                lives[-1].kill()
                killed += 1
    assert got == ["file_descriptor_response", "list_services_response"] * 30
    assert replies.statistics.resumes == killed == 2
