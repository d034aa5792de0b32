"""`ray_stream_server`: the plugin on a real Ray Serve, as the page shows it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from inner_pytest import OPTIONS

from servestream_client.testing.ray_serve import Ingress

pytest_plugins = ["pytester"]

pytestmark = [pytest.mark.ray, pytest.mark.timeout(600)]

PAGE = Path(__file__).resolve().parents[2] / "docs" / "pytest.md"

SERVICE = """
from ray import serve
from servestream_client.server import StreamService

@serve.deployment(num_replicas=2, max_ongoing_requests=100, ray_actor_options={"num_cpus": 0.1})
class Mine(StreamService[bytes, bytes]):
    def predict(self, item):
        return item

app = Mine.bind()
"""

MORE = """
from servestream_client import StreamClient
from servestream_client.testing import Cut

@pytest.fixture(scope="session")
def ray_stream_ingress():
    return "{ingress}"

@pytest.mark.asyncio
@pytest.mark.stream_faults(Cut(after_bytes=2000))
async def test_a_cut(ray_stream_server):
    assert ray_stream_server.fired == []
    async with StreamClient(ray_stream_server.target, application="app") as client:
        inputs = [b"%d" % number for number in range(1000)]
        assert [output async for output in client.stream(inputs)] == inputs

# That it fired in the first test is no excuse.
@pytest.mark.stream_faults(Fault(FaultKind.KILL, at=100))
def test_that_must_fail(ray_stream_server):
    ray_stream_server.kill()
"""


@pytest.mark.long  # each mode needs a Ray of its own; what the plugin does is in tests/testing
@pytest.mark.parametrize("ingress", list(Ingress))
def test_the_page_on_ray(pytester: pytest.Pytester, ingress: Ingress) -> None:
    (block,) = [
        block
        for block in re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
        if "ray_stream_application" in block
    ]
    package = pytester.mkpydir("my_service")
    (package / "app.py").write_text(SERVICE)
    pytester.makepyfile(block + MORE.format(ingress=ingress))
    pytester.syspathinsert()
    result = pytester.runpytest_subprocess(*OPTIONS)
    result.assert_outcomes(passed=2, failed=1)
    result.stdout.fnmatch_lines(["never fired: kill at 100", "*SIGKILL for replica *"])
