"""Planted bugs in calls of stubs of one's own."""

from __future__ import annotations

from .bug import Bug

BUGS = (
    Bug(
        "a server that begins anew is believed",
        "_ByField.observe",
        "if self._position is not None and not position > self._position:",
        "if False:",
        "test_a_server_that_begins_anew_is_found_out",
    ),
    Bug(
        "a call of a stub begins anew",
        "_ByField.request",
        "_set(first, self._into, follows)",
        "pass",
        "test_the_next_server_begins_behind_what_came",
    ),
    Bug(
        "what is held back for a token is kept over a break",
        "_ByToken.request",
        "self._held = []  # which come again",
        "pass",
        "test_what_waits_for_a_token_is_held_back_until_it_comes",
    ),
    Bug(
        "replies that are dropped are not compared",
        "_BySkip.observe",
        "self._again_digest.digest() != self._digest.digest()",
        "False",
        "test_one_that_gives_other_replies_than_before_is_found_out",
    ),
    Bug(
        "a state that is known is told again",
        "_ByState.observe",
        "if first and self._shown == reply:",
        "if False:",
        "test_a_state_that_is_known_is_not_told_again",
    ),
    Bug(
        "an early OK ends a call",
        "Resumed._ended",
        "if verdict is None and not self._complete():",
        "if False:",
        "test_resumed_calls.py::test_an_ok_that_comes_early_is_not_the_end",
    ),
    Bug(
        "whoever drops a call leaves it at the server",
        "resume.call:_drop",
        "loop.call_soon_threadsafe(attempt.end)",
        "pass",
        "test_whoever_leaves_cancels_at_the_server",
    ),
    Bug(
        "a silent server of a stub is waited for",
        "resume.attempt:Attempt.read",
        "asyncio.timeout(patience)",
        "asyncio.timeout(None)",
        "test_a_server_that_falls_silent_is_left",
    ),
    Bug(
        "a caller's word on a status is not heard",
        "resume.attempt:Attempt._verdict",
        "if decision is None or decision is verdict.decision:",
        "if True:",
        "test_the_caller_may_know_a_status_better",
    ),
    Bug(
        "progress of a stub's call is none",
        "Resumed._read",
        "            self._progressed = True\n",
        "",
        "test_a_call_that_gets_on_may_break_at_any_time_and_goes_on_at_once",
    ),
    Bug(
        "a request is that of whoever uses it again",
        "ResumedCall._next_request",
        "first.ParseFromString(self._first)",
        "first.Clear()",
        "test_the_request_may_be_used_again",
    ),
    Bug(
        "a request that lacks its reply is not sent again",
        "ResumedExchange._opened",
        "self._sent = 0",
        "pass",
        "test_each_request_is_answered_once_and_in_order",
    ),
    Bug(
        "requests are pulled beyond the window",
        "ResumedExchange._pull",
        "while len(self._unanswered) >= self._window:",
        "while False:",
        "test_no_more_are_under_way_than_the_window_has",
    ),
    Bug(
        "an exchange keeps the caller's own requests",
        "resume.exchange:_copied",
        "copied.CopyFrom(request)\n    return copied",
        "copied.CopyFrom(request)\n    return request",
        "test_a_request_may_be_changed_once_it_was_given",
    ),
    Bug(
        "what the requests raise is lost",
        "ResumedExchange.__anext__",
        "if raised is None:",
        "if True:",
        "test_what_the_requests_raise_comes_behind_the_replies",
    ),
    Bug(
        "an exchange ends with an early OK",
        "ResumedExchange._complete",
        "return self._exhausted and not self._unanswered",
        "return True",
        "test_exchanges.py::test_an_ok_that_comes_early_is_not_the_end",
    ),
    Bug(
        "what was cut is compared in part",
        "resume.check:assert_resumable",
        "if found != undisturbed:",
        "if found[:1] != undisturbed[:1]:",
        "test_one_that_leaves_one_out_is_found",
    ),
)
