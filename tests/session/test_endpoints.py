"""What is known of a server, and what the ends of attempts say of it."""

import asyncio

import pytest

from servestream_client import RetriesExhaustedError, RetryPolicy, WrongApplicationError
from servestream_client.protocol.frames import Limits
from servestream_client.session import endpoints
from servestream_client.session.breaker import AdmissionKind
from servestream_client.session.endpoints import Endpoint, Standing
from servestream_client.transport.classify import Decision, Verdict

BROKE = Verdict(Decision.RESUME, "it broke")
AWAY = Verdict(Decision.RESUME, "nobody answers", unreachable=True)
PASSING = Verdict(Decision.WAIT, "busy", RetriesExhaustedError)
FINAL = Verdict(Decision.FAIL, "another application", WrongApplicationError)
OUTAGE = Verdict(Decision.RESUME, "the outage before", unreachable=True)


class Transport:
    """Opens nothing, and notes what for."""

    def __init__(self) -> None:
        self.opened: list[bool] = []
        self.closed = 0

    def open(self, metadata=(), *, apart=False) -> None:
        self.opened.append(apart)

    async def aclose(self) -> None:
        self.closed += 1


class Transports:
    """Makes transports, and counts them."""

    def __init__(self) -> None:
        self.made: list[Transport] = []

    def __call__(self) -> Transport:
        self.made.append(Transport())
        return self.made[-1]


async def test_a_transport_is_made_for_the_first_call_and_given_back_once():
    transports = Transports()
    endpoint = Endpoint("memory", transports)
    await endpoint.aclose()
    assert transports.made == []
    endpoint.open()
    endpoint.open(apart=True)
    (transport,) = transports.made
    assert transport.opened == [False, True]
    await endpoint.aclose()
    await endpoint.aclose()
    assert (transport.closed, endpoint.transport) == (1, None)


def test_what_was_welcomed_once_stays_known():
    endpoint = Endpoint("memory", Transports())
    assert not endpoint.known
    assert endpoint.limits is None
    limits = Limits()
    endpoint.welcomed(limits)
    endpoint.refused(FINAL)
    assert endpoint.known
    assert endpoint.limits is limits


@pytest.mark.parametrize(("verdict", "known"), [(PASSING, True), (FINAL, False)])
def test_a_refusal_that_will_pass_is_that_of_the_right_server(verdict, known):
    endpoint = Endpoint("memory", Transports())
    endpoint.refused(verdict)
    assert (endpoint.known, endpoint.limits) == (known, None)


# answered before its end, kind, verdict, unanswered -> is the breaker open because of
ENDS = [
    (True, AdmissionKind.NORMAL, None, False, None),
    (True, AdmissionKind.NORMAL, BROKE, False, None),
    (True, AdmissionKind.NORMAL, AWAY, False, AWAY),
    (False, AdmissionKind.NORMAL, BROKE, False, None),
    (False, AdmissionKind.NORMAL, AWAY, False, AWAY),
    (False, AdmissionKind.NORMAL, BROKE, True, None),  # it may only be busy
    (False, AdmissionKind.PROBE, None, False, None),
    (False, AdmissionKind.PROBE, BROKE, False, None),
    (False, AdmissionKind.PROBE, AWAY, False, AWAY),
    (False, AdmissionKind.PROBE, BROKE, True, BROKE),
    (True, AdmissionKind.PROBE, AWAY, False, AWAY),
]


@pytest.mark.parametrize(("answered", "kind", "verdict", "unanswered", "open_because"), ENDS)
async def test_the_end_of_an_attempt_is_told_to_the_breaker_once(
    answered, kind, verdict, unanswered, open_because
):
    endpoint = Endpoint("memory", Transports())
    if kind is AdmissionKind.PROBE:
        endpoint.breaker.trip(OUTAGE)
    admission = await endpoint.breaker.admit(RetryPolicy(), no_progress=False)
    assert admission.kind is kind
    if answered:
        admission.answered()
    endpoint.attempt_ended(admission, verdict, unanswered=unanswered)
    assert endpoint.breaker.open_because is open_because
    admission.left()  # too late
    assert endpoint.breaker.open_because is open_because


async def test_an_attempt_of_which_nothing_is_known_is_called_off():
    """A probe that nobody answered and that ended without a verdict: the next one probes."""
    endpoint = Endpoint("memory", Transports())
    endpoint.breaker.trip(OUTAGE)
    probe = await endpoint.breaker.admit(RetryPolicy(), no_progress=False)
    endpoint.attempt_ended(probe, None, unanswered=True)
    assert probe.pending
    probe.left()
    async with asyncio.timeout(10):
        another = await endpoint.breaker.admit(RetryPolicy(), no_progress=False)
    assert another.kind is AdmissionKind.PROBE


def test_doubt_and_refusal_pass_and_grow_until_it_says_welcome(monkeypatch):
    clock = [100.0]
    monkeypatch.setattr(endpoints, "_now", lambda: clock[0])
    endpoint = Endpoint("memory", Transports())
    assert endpoint.standing(clock[0]) is Standing.GOOD
    waits = []
    for _ in range(7):
        for _ in range(3):  # streams that find out at one time
            endpoint.exclude(FINAL)
        assert endpoint.standing(clock[0]) is Standing.REFUSED
        assert endpoint.against(clock[0]) is FINAL
        begun = clock[0]
        while endpoint.standing(clock[0]) is not Standing.GOOD:
            clock[0] += 1
        waits.append(clock[0] - begun)
    assert waits == [30, 60, 120, 240, 480, 600, 600]
    endpoint.exclude(FINAL)
    endpoint.welcomed(Limits())
    assert endpoint.standing(clock[0]) is Standing.GOOD
    assert endpoint.against(clock[0]) is None


async def test_silence_is_doubted_and_a_break_is_not():
    endpoint = Endpoint("memory", Transports())
    loop = asyncio.get_running_loop()
    for verdict, unanswered, silent, standing in (
        (BROKE, False, False, Standing.GOOD),
        (None, False, False, Standing.GOOD),
        (BROKE, False, True, Standing.DOUBTED),
        (BROKE, True, False, Standing.DOUBTED),
        (AWAY, False, False, Standing.OUT),
    ):
        admission = await endpoint.breaker.admit(RetryPolicy(), no_progress=False)
        endpoint.attempt_ended(admission, verdict, unanswered=unanswered, silent=silent)
        assert endpoint.standing(loop.time()) is standing
    endpoint.breaker.half_open()
    assert endpoint.standing(loop.time()) is Standing.DOUBTED


async def test_what_is_out_is_looked_at_less_and_less_often():
    endpoint = Endpoint("memory", Reachable)
    now = asyncio.get_running_loop().time()
    assert not endpoint.probe_due(now, urgent=False)
    endpoint.question()
    assert endpoint.probe_due(now, urgent=False)
    assert await endpoint.probe() is None
    assert not endpoint.probe_due(now, urgent=False)
    endpoint.breaker.trip(AWAY)
    pauses = []
    for _ in range(8):
        await endpoint.probe()
        now = asyncio.get_running_loop().time()
        due = (tenth for tenth in range(1000) if endpoint.probe_due(now + tenth / 10, urgent=False))
        pauses.append(next(due) / 10)
        assert endpoint.probe_due(now + 1.1, urgent=True)
    assert pauses == sorted(pauses)
    assert 15 <= pauses[-1] <= 15.1


class Reachable(Transport):
    async def probe(self) -> None:
        return None
