"""For tests of generations."""

import pytest
from session.generations import Harness


@pytest.fixture
async def generate_with():
    made = []

    def make(replicas, **options):
        made.append(Harness(replicas, **options))
        return made[-1]

    yield make
    for harness in made:
        await harness.aclose()
