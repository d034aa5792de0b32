"""What servers under test have in common: where faults go, and what has fired."""

from servestream_client.testing import Delay, Fault, FaultKind, History
from servestream_client.testing.faults import LocalPlan
from servestream_client.testing.handle import ProxiedServer
from servestream_client.testing.ray_serve.handle import _RemotePlan


class Nothing(ProxiedServer):
    """Serves nothing."""

    def __init__(self) -> None:
        self.plan = LocalPlan()
        self.log = []
        super().__init__("127.0.0.1:1", self.plan, History(), 1)

    def start(self):
        self.log.append("start")

    def stop(self):
        self.log.append("stop")


class RemoteServe:
    """What a Ray Serve says of faults: it forgets those that fired with the others."""

    def __init__(self) -> None:
        self.plan = LocalPlan()
        self.add_faults = self.plan.add
        self.clear_faults = self.plan.clear

    def fired(self):
        return list(self.plan.fired)


def faults(count):
    return [Fault(FaultKind.KILL, at=number) for number in range(count)]


def test_a_fault_goes_to_the_service_or_to_the_network():
    server, (fault,), delay = Nothing(), faults(1), Delay(1.0)
    server.add_faults(delay, fault)
    assert server.plan.pending_now() == [fault]
    assert server.proxy.faults == [delay]
    server.clear_faults()
    assert (server.plan.pending_now(), server.proxy.faults) == ([], [])


def test_what_has_fired_stays_when_faults_are_cleared():
    server, (first, second) = Nothing(), faults(2)
    server.add_faults(first, second)
    server.plan.claim_now(first)
    server.clear_faults()
    assert server.fired == [first]


def test_it_starts_and_stops_as_a_context_manager():
    with Nothing() as server:
        assert server.log == ["start"]
    assert server.log == ["start", "stop"]


def test_what_a_ray_serve_forgets_is_kept_once():
    serve, notes = RemoteServe(), []
    plan, (first, second, third) = _RemotePlan(serve, notes.append), faults(3)
    plan.add(first, second)
    serve.plan.claim_now(first)
    assert plan.fired == plan.fired == [first]
    plan.drop_pending()
    plan.add(third)
    serve.plan.claim_now(third)
    assert plan.fired == [first, third]
    assert len(notes) == 2
    plan.drop_pending()
    plan.forget()
    assert plan.fired == []
