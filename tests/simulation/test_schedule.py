"""What a seed plans."""

from servestream_client.testing.faults import FaultKind
from simulation.schedule import draw_scenario


def test_no_stream_has_an_output_twice_and_another_one_not_at_all():
    seen = set()
    for seed in range(400):
        for plan in draw_scenario(seed).streams:
            key = str(plan.items.key)
            kinds = {fault.kind for fault in draw_scenario(seed).faults if fault.stream == key}
            seen |= kinds
            assert not {FaultKind.DUPLICATE, FaultKind.SKIP} <= kinds
    assert {FaultKind.DUPLICATE, FaultKind.SKIP} <= seen
