"""The classification table, row by row as Serve was seen to produce them."""

import pytest

from servestream_client import errors
from servestream_client.protocol.frames import (
    RefusalKind,
    Refused,
    StreamErrorKind,
    StreamFailure,
)
from servestream_client.transport.base import LinkStatus
from servestream_client.transport.classify import (
    STATUS_TABLE,
    Decision,
    classify_failure,
    classify_refusal,
    classify_status,
    classify_violation,
)

RESUMED = [
    ("INTERNAL", "The actor died unexpectedly before finishing this task."),
    ("INTERNAL", "The actor 8f is unavailable: the actor is temporarily unavailable"),
    ("INTERNAL", "Internal error from Core"),
    ("CANCELLED", "Stream removed (RST_STREAM with error code 8)"),
    ("DEADLINE_EXCEEDED", "Request timed out after 30.0s."),
    ("UNAVAILABLE", "Stream removed (Socket closed)"),
    ("UNKNOWN", "whatever"),
    ("FAILED_PRECONDITION", "custom"),
    ("ABORTED", ""),
    ("DATA_LOSS", ""),
    ("A_STATUS_OF_THE_FUTURE", ""),
]

FINAL = [
    ("UNAUTHENTICATED", "", errors.AccessDeniedError),
    ("PERMISSION_DENIED", "", errors.AccessDeniedError),
    ("INVALID_ARGUMENT", "", errors.RejectedError),
    ("OUT_OF_RANGE", "", errors.RejectedError),
    (
        "RESOURCE_EXHAUSTED",
        "SERVER: Received message larger than max (5000000 vs. 4194304)",
        errors.MessageTooLargeError,
    ),
]

NO_WAY_THROUGH = [
    ("UNAVAILABLE", "Tls handshake failed: CERTIFICATE_VERIFY_FAILED", "not signed"),
    ("UNAVAILABLE", "Hostname Verification Check failed.", "another name"),
    ("UNAVAILABLE", "SSL_ERROR_SSL: WRONG_VERSION_NUMBER", "never has"),
    (
        "UNAVAILABLE",
        "Failed parsing HTTP/2 (Expected SETTINGS frame as the first frame",
        "HTTP port",
    ),
    ("UNAVAILABLE", "ipv4:127.0.0.1:443: Socket closed", "lacks credentials"),
    ("UNAVAILABLE", "Unwrap failed (TSI_DATA_CORRUPTED)", "the client's"),
    ("INTERNAL", "Stream removed (Data frame with END_STREAM flag received)", "nobody behind it"),
    ("UNAVAILABLE", "Connection refused", "nobody answers"),
]

FINAL_FROM_A_STRANGER = [
    ("INTERNAL", "Received http2 header with status: 400", errors.RejectedError),
    ("NOT_FOUND", "Application 'x' not found", errors.WrongApplicationError),
    ("UNIMPLEMENTED", "Method not found!", errors.NotAServerError),
    ("OK", "", errors.NotAServerError),
]


@pytest.mark.parametrize("stranger", [False, True])
@pytest.mark.parametrize(("code", "details"), RESUMED)
def test_how_streams_die_is_resumed(code, details, stranger):
    verdict = classify_status(LinkStatus(code, details), stranger=stranger)
    assert verdict.decision is Decision.RESUME
    assert code in verdict.reason


@pytest.mark.parametrize("stranger", [False, True])
@pytest.mark.parametrize(("code", "details", "error"), FINAL)
def test_what_trying_again_cannot_change_is_final(code, details, error, stranger):
    verdict = classify_status(LinkStatus(code, details), stranger=stranger)
    assert (verdict.decision, verdict.error) == (Decision.FAIL, error)


@pytest.mark.parametrize(("code", "details", "error"), FINAL_FROM_A_STRANGER)
def test_a_wrong_address_is_told_from_a_restart(code, details, error):
    status = LinkStatus(code, details)
    verdict = classify_status(status, stranger=True)
    assert (verdict.decision, verdict.error) == (Decision.FAIL, error)
    assert classify_status(status, stranger=False).decision is Decision.RESUME


@pytest.mark.parametrize(("code", "details", "text"), NO_WAY_THROUGH)
def test_who_cannot_get_through_a_front_is_told_why(code, details, text):
    status = LinkStatus(code, details)
    verdict = classify_status(status, stranger=True)
    assert (verdict.decision, verdict.error) == (Decision.RESUME, errors.UnreachableError)
    assert text in verdict.reason
    assert verdict.unreachable
    assert text not in classify_status(status, stranger=False).reason


def test_overload_waits():
    status = LinkStatus("RESOURCE_EXHAUSTED", "Request dropped due to backpressure")
    assert classify_status(status, stranger=False).decision is Decision.WAIT


def test_an_unreachable_stranger_ends_as_unreachable():
    verdict = classify_status(LinkStatus("UNAVAILABLE", "refused"), stranger=True)
    assert (verdict.decision, verdict.error) == (Decision.RESUME, errors.UnreachableError)


def test_every_row_can_be_reached():
    reached = set()
    for row in STATUS_TABLE:
        for stranger in (False, True):
            code = "ABORTED" if row.code == "*" else row.code
            verdict = classify_status(LinkStatus(code, row.details), stranger=stranger)
            reached.update(r for r in STATUS_TABLE if verdict.reason.startswith(r.meaning))
    assert reached == set(STATUS_TABLE)


@pytest.mark.parametrize("kind", RefusalKind)
def test_refusals_are_final_unless_they_pass(kind):
    verdict = classify_refusal(Refused(kind, "because", 1500), stranger=True)
    passing = {RefusalKind.UNSPECIFIED, RefusalKind.OVERLOADED, RefusalKind.DRAINING}
    assert (verdict.decision is Decision.WAIT) == (kind in passing)
    assert (verdict.decision is Decision.FAIL) == (kind not in passing)
    assert "because" in verdict.reason
    if kind in passing:
        assert verdict.retry_after == 1.5


@pytest.mark.parametrize("kind", RefusalKind)
def test_only_another_application_may_pass_where_the_client_was_welcome(kind):
    known = classify_refusal(Refused(kind, "because", 1500), stranger=False)
    if kind is RefusalKind.APPLICATION:
        assert (known.decision, known.error) == (Decision.RESUME, errors.WrongApplicationError)
    else:
        assert known == classify_refusal(Refused(kind, "because", 1500), stranger=True)


@pytest.mark.parametrize("kind", StreamErrorKind)
def test_stream_errors(kind):
    verdict = classify_failure(StreamFailure(kind, "because"))
    final = {StreamErrorKind.PROTOCOL, StreamErrorKind.STATE}
    assert (verdict.decision is Decision.FAIL) == (kind in final)
    assert (verdict.decision is Decision.WAIT) == (kind is StreamErrorKind.OVERLOADED)


def test_a_stream_errors_delay_is_kept():
    failure = StreamFailure(StreamErrorKind.INTERNAL, "", 250)
    assert classify_failure(failure).retry_after == 0.25
    assert classify_failure(failure).decision is Decision.WAIT


def test_a_stranger_that_breaks_the_protocol_speaks_another_one():
    assert classify_violation("x", stranger=True).error is errors.NotAServerError
    assert classify_violation("x", stranger=True).decision is Decision.FAIL
    assert classify_violation("x", stranger=False).decision is Decision.RESUME
