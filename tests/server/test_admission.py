"""The decision about an open: welcomed, refused or failed."""

import pytest

from servestream_client.protocol.frames import (
    ClientFrame,
    CodecId,
    Credit,
    Limits,
    Open,
    Order,
    RefusalKind,
    StreamErrorKind,
)
from servestream_client.protocol.server import ServerOffer, ServerSession
from servestream_client.protocol.states import ServerState
from servestream_client.server.active_attempts import ActiveAttempts
from servestream_client.server.admission import AdmissionControl, Refuse


class Workers:
    stuck = False


class Applicant:
    def __init__(self, attempt: int = 1) -> None:
        self.attempt = attempt
        self.session = ServerSession(ServerOffer(codec=CodecId("bytes")))
        self.given_up: list[str] = []
        opened = Open(
            stream_id=bytes(16),
            attempt=attempt,
            codec=CodecId("bytes"),
            order=Order.INPUT,
            limits=Limits(),
        )
        self.session.receive(ClientFrame(open=opened, credit=Credit(1, 1000)))

    def supersede(self) -> None:
        self.given_up.append("superseded")

    def drain(self, grace: float) -> None:
        raise AssertionError(grace)

    def give_up(self, kind: StreamErrorKind, text: str) -> None:
        self.given_up.append(text)
        self.session.give_up(kind, text)


class Door:
    """Decides, with code of the test's in the service's place."""

    def __init__(self, admit=None) -> None:
        self.workers = Workers()
        self.active = ActiveAttempts()
        self.admission = AdmissionControl(self.admit, self.workers, self.active)
        self.code = admit

    async def admit(self, opened: Open) -> None:
        if self.code is not None:
            self.code()

    async def asked(self, applicant: Applicant) -> bool:
        return await self.admission.decide(applicant, applicant.session.opened)


def raising(error: BaseException):
    def admit():
        raise error

    return admit


async def test_one_that_is_admitted_is_welcomed():
    applicant = Applicant()
    assert await Door().asked(applicant)
    assert applicant.session.state is ServerState.SERVING


async def test_a_lower_attempt_is_refused_and_a_higher_one_supersedes():
    door, second, third = Door(), Applicant(2), Applicant(3)
    assert await door.asked(second)
    first = Applicant(1)
    assert not await door.asked(first)
    refused = first.session.next_frame().refused
    assert refused.kind is RefusalKind.BAD_OPEN
    assert refused.text == "attempt 1 of this stream is superseded by a higher attempt"
    assert await door.asked(third)
    assert second.given_up == ["superseded"]


async def test_nobody_is_welcomed_where_nothing_can_be_started():
    door, applicant = Door(), Applicant()
    door.workers.stuck = True
    assert not await door.asked(applicant)
    refused = applicant.session.next_frame().refused
    assert refused.kind is RefusalKind.OVERLOADED
    assert "all handler slots are blocked" in refused.text


async def test_what_the_service_refuses_is_told_with_its_delay():
    applicant = Applicant()
    assert not await Door(raising(Refuse("full", retry_after=1.5))).asked(applicant)
    refused = applicant.session.next_frame().refused
    assert (refused.kind, refused.text) == (RefusalKind.OVERLOADED, "full")
    assert refused.retry_after_ms == 1500


async def test_any_other_exception_fails_the_attempt(caplog):
    applicant = Applicant()
    assert not await Door(raising(ZeroDivisionError("a bug"))).asked(applicant)
    assert applicant.given_up == ["admit() raised ZeroDivisionError: a bug"]
    assert "admit() failed" in caplog.text


@pytest.mark.parametrize("error", [None, Refuse("full")], ids=["admitted", "refused"])
async def test_one_that_ended_meanwhile_is_left_alone(error):
    applicant = Applicant()

    def admit():
        applicant.session.half_close()
        if error is not None:
            raise error

    assert not await Door(admit).asked(applicant)
    assert applicant.given_up == []
    assert applicant.session.next_frame() is None
