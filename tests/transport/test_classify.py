"""The classification table, row by row as Serve was seen to produce them."""

import pytest

from servestream_client import errors
from servestream_client.protocol.coming import NOT_IN_TIME
from servestream_client.protocol.frames import (
    RefusalKind,
    Refused,
    StreamErrorKind,
    StreamFailure,
)
from servestream_client.transport.base import LinkStatus
from servestream_client.transport.classify import (
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

# What gRPC says, what the client says of it, and whether it has credentials.
NO_WAY_THROUGH = [
    ("UNAVAILABLE", "ipv4:127.0.0.1:443: Socket closed", False, "lacks credentials="),
    ("UNAVAILABLE", "ipv4:127.0.0.1:443: Socket closed", True, "asks for a client certificate"),
    ("UNAVAILABLE", "Expected SETTINGS frame as the first frame", False, "lacks credentials="),
    ("UNAVAILABLE", "Expected SETTINGS frame as the first frame", True, "not speak gRPC behind it"),
    ("UNAVAILABLE", "Unwrap failed (TSI_DATA_CORRUPTED)", True, "ask for a client certificate"),
    ("INTERNAL", "Data frame with END_STREAM flag received", True, "nobody behind it"),
    ("UNAVAILABLE", "Connection refused", False, "nobody answers"),
]

# Also where the client was served before: certificates expire.
NO_TLS = [
    ("CERTIFICATE_VERIFY_FAILED: certificate has expired", "has expired"),
    ("CERTIFICATE_VERIFY_FAILED: unable to get local issuer certificate", "not signed"),
    ("Hostname Verification Check failed.", "another name"),
    ("SSL_ERROR_SSL: WRONG_VERSION_NUMBER", "never has"),
    ("missing selected ALPN property", "not HTTP/2"),
]

BUSY = [
    ("RESOURCE_EXHAUSTED", "Request dropped due to backpressure"),
    ("RESOURCE_EXHAUSTED", ""),
    ("UNAVAILABLE", "upstream connect error. reset reason: OVERFLOW"),
    ("UNAVAILABLE", "local_rate_limited"),
    ("UNAVAILABLE", "Received http2 header with status: 429"),
    ("UNAVAILABLE", "envoy overloaded"),
]

FINAL_WHEN_UNKNOWN = [
    ("INTERNAL", "Received http2 header with status: 400", errors.RejectedError),
    ("NOT_FOUND", "Application 'x' not found", errors.WrongApplicationError),
    ("UNIMPLEMENTED", "Method not found!", errors.NotAServerError),
    ("OK", "", errors.NotAServerError),
]


@pytest.mark.parametrize("known", [False, True])
@pytest.mark.parametrize(("code", "details"), RESUMED)
def test_how_streams_die_is_resumed(code, details, known):
    verdict = classify_status(LinkStatus(code, details), known=known)
    assert verdict.decision is Decision.RESUME
    assert code in verdict.reason


@pytest.mark.parametrize("known", [False, True])
@pytest.mark.parametrize(("code", "details", "error"), FINAL)
def test_what_trying_again_cannot_change_is_final(code, details, error, known):
    verdict = classify_status(LinkStatus(code, details), known=known)
    assert (verdict.decision, verdict.error) == (Decision.FAIL, error)


@pytest.mark.parametrize(("code", "details", "error"), FINAL_WHEN_UNKNOWN)
def test_a_wrong_address_is_told_from_a_restart(code, details, error):
    status = LinkStatus(code, details)
    verdict = classify_status(status, known=False)
    assert (verdict.decision, verdict.error) == (Decision.FAIL, error)
    assert classify_status(status, known=True).decision is Decision.RESUME


@pytest.mark.parametrize(("code", "details", "tls", "text"), NO_WAY_THROUGH)
def test_what_keeps_an_unknown_target_from_getting_through_is_named(code, details, tls, text):
    status = LinkStatus(code, details, tls=tls)
    verdict = classify_status(status, known=False)
    assert (verdict.decision, verdict.error) == (Decision.RESUME, errors.UnreachableError)
    assert text in verdict.reason
    assert ("lacks credentials=" in verdict.reason) <= (not tls)
    assert verdict.unreachable
    assert text not in classify_status(status, known=True).reason


@pytest.mark.parametrize("known", [False, True])
@pytest.mark.parametrize(("details", "text"), NO_TLS)
def test_what_is_wrong_with_tls_is_named_to_everybody(details, text, known):
    verdict = classify_status(LinkStatus("UNAVAILABLE", details, tls=True), known=known)
    assert (verdict.decision, verdict.error) == (Decision.RESUME, errors.UnreachableError)
    assert text in verdict.reason
    assert verdict.unreachable


@pytest.mark.parametrize("known", [False, True])
@pytest.mark.parametrize(("code", "details"), BUSY)
def test_overload_waits_whoever_says_it(code, details, known):
    verdict = classify_status(LinkStatus(code, details), known=known)
    assert verdict.decision is Decision.WAIT
    assert not verdict.unreachable


@pytest.mark.parametrize("known", [False, True])
@pytest.mark.parametrize("size", [600, 8192, 8193, 16384, 16385])
def test_a_status_without_words_is_read_by_the_size_of_the_metadata(size, known):
    verdict = classify_status(
        LinkStatus("RESOURCE_EXHAUSTED", "", metadata_bytes=size), known=known
    )
    assert (verdict.decision is Decision.FAIL) == (size > 16384)
    assert (str(size) in verdict.reason) == (size > 8192)


@pytest.mark.parametrize("code", [2, 9, 11])
@pytest.mark.parametrize(("size", "known"), [(9000, False), (9000, True), (700, False)])
def test_a_closed_connection_is_laid_to_large_metadata_at_unknown_targets_only(code, size, known):
    details = f"Socket closed (GOAWAY received; Error code: {code}; Debug Text: )"
    status = LinkStatus("UNAVAILABLE", details, metadata_bytes=size)
    verdict = classify_status(status, known=known)
    assert (verdict.decision is Decision.FAIL) == (not known and size > 8192)


def test_a_target_never_reached_ends_as_unreachable():
    verdict = classify_status(LinkStatus("UNAVAILABLE", "refused"), known=False)
    assert (verdict.decision, verdict.error) == (Decision.RESUME, errors.UnreachableError)


@pytest.mark.parametrize("kind", RefusalKind)
def test_refusals_are_final_unless_they_pass(kind):
    verdict = classify_refusal(Refused(kind, "because", 1500), known=False, token_refusals=3)
    passing = {RefusalKind.UNSPECIFIED, RefusalKind.OVERLOADED, RefusalKind.DRAINING}
    assert (verdict.decision is Decision.WAIT) == (kind in passing)
    assert (verdict.decision is Decision.FAIL) == (kind not in passing)
    assert "because" in verdict.reason
    if kind in passing:
        assert verdict.retry_after == 1.5


@pytest.mark.parametrize("refusals", [1, 2])
def test_another_server_is_asked_to_go_on_with_a_state(refusals):
    refused = Refused(RefusalKind.TOKEN, "not here")
    verdict = classify_refusal(refused, known=True, token_refusals=refusals)
    assert verdict.decision is Decision.RESUME


@pytest.mark.parametrize("kind", RefusalKind)
def test_only_another_application_may_pass_where_the_client_was_welcome(kind):
    known = classify_refusal(Refused(kind, "because", 1500), known=True)
    if kind is RefusalKind.APPLICATION:
        assert (known.decision, known.error) == (Decision.RESUME, errors.WrongApplicationError)
    else:
        assert known == classify_refusal(Refused(kind, "because", 1500), known=False)


@pytest.mark.parametrize("kind", StreamErrorKind)
def test_stream_errors(kind):
    verdict = classify_failure(StreamFailure(kind, "because"))
    final = {StreamErrorKind.PROTOCOL, StreamErrorKind.STATE}
    assert (verdict.decision is Decision.FAIL) == (kind in final)
    assert (verdict.decision is Decision.WAIT) == (kind is StreamErrorKind.OVERLOADED)


@pytest.mark.parametrize("known", [False, True])
@pytest.mark.parametrize("kind", RefusalKind)
def test_the_delay_of_whatever_refusal_is_not_final_is_kept(kind, known):
    verdict = classify_refusal(Refused(kind, "because", 250), known=known)
    assert verdict.retry_after == (None if verdict.decision is Decision.FAIL else 0.25)


@pytest.mark.parametrize("kind", StreamErrorKind)
@pytest.mark.parametrize("text", ["", f"input 1 {NOT_IN_TIME} 9 bytes in all"])
def test_the_delay_of_whatever_stream_error_is_not_final_is_kept(kind, text):
    final = {StreamErrorKind.PROTOCOL, StreamErrorKind.STATE}
    verdict = classify_failure(StreamFailure(kind, text, 250))
    assert verdict.decision is (Decision.FAIL if kind in final else Decision.WAIT)
    assert verdict.retry_after == (None if kind in final else 0.25)


def test_an_unknown_target_that_breaks_the_protocol_speaks_another_one():
    assert classify_violation("x", known=False).error is errors.NotAServerError
    assert classify_violation("x", known=False).decision is Decision.FAIL
    assert classify_violation("x", known=True).decision is Decision.RESUME
