"""Plant bugs, one at a time, in a copy of the code, and see that a test catches each.

A test suite that cannot fail proves nothing. Every bug here is a replacement of one piece of text
by another; when the code has moved on and that piece is gone, or stands there twice, the bug must
be planted anew. Each names the test that is to fail, or to hang: with no bug planted it passes.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

import pytest
from rich.console import Console
from rich.progress import track
from rich.table import Table

ROOT = Path(__file__).resolve().parent.parent

TEST_SECONDS = 10
"""A test that hangs has noticed the bug as well; its process is ended then."""

RUN_SECONDS = 120
"""The same for whatever hangs outside of tests."""


@dataclass(frozen=True)
class Bug:
    """One planted bug.

    Attributes:
        name: what is broken.
        path: the file, below the package.
        old: a piece of it, which stands there exactly once.
        new: what replaces it.
        test: what must fail, below `tests`.
    """

    name: str
    path: str
    old: str
    new: str
    test: str

    @property
    def stale(self) -> str:
        """Why it cannot be planted, or nothing would notice it; empty if it can."""
        places = (ROOT / "servestream_client" / self.path).read_text().count(self.old)
        if places != 1:
            return f"{self.path} has {places} places for it, not one"
        path, _, name = self.test.partition("::")
        test = name.partition("[")[0].rpartition("::")[2]
        if test and f"def {test}(" not in (ROOT / "tests" / path).read_text():
            return f"tests/{path} has no {test}"
        return ""

    def plant(self, package: Path) -> None:
        """Break a copy of the package."""
        target = package / self.path
        target.write_text(target.read_text().replace(self.old, self.new))


BUGS = (
    # ------------------------------------------------------------------ the client's session
    Bug(
        "an input is lost at replay",
        "protocol/client/ledger.py",
        "for number, payload in self.replay:",
        "for number, payload in list(self.replay)[1:]:",
        "protocol/test_client.py::test_a_resume_sends_exactly_the_unanswered_under_their_old_numbers",
    ),
    Bug(
        "a duplicate is taken for a breach",
        "protocol/client/answers.py",
        "if number not in ledger.replay or ledger.decided.get(number, False):\n"
        "        return False",
        "if number not in ledger.replay or ledger.decided.get(number, False):\n"
        "        raise RemoteProtocolError",
        "protocol/test_client.py::test_duplicates_are_dropped_and_counted",
    ),
    Bug(
        "gaps are not noticed",
        "protocol/client/answers.py",
        "if ledger.ordered and number != attempt.turn():",
        "if False:",
        "protocol/test_client.py::"
        "test_a_gap_between_inputs_is_the_servers_error_and_what_came_before_is_kept",
    ),
    Bug(
        "the end is not checked",
        "protocol/client/attempt.py",
        "if said != (accepted, sent, sent) or self.in_flight_items:",
        "if False:",
        "protocol/test_client.py::test_an_end_that_does_not_add_up_is_the_servers_error",
    ),
    Bug(
        "frames of an older attempt are believed",
        "protocol/client/session.py",
        "if current is None or current.number != attempt:",
        "if current is None:",
        "protocol/test_client.py::test_a_late_frame_of_an_older_attempt_changes_nothing",
    ),
    Bug(
        "a wrong application's welcome is accepted",
        "protocol/client/opening.py",
        'if offer.application and welcome.application not in ("", offer.application):',
        "if False:",
        "protocol/test_client.py::test_a_server_that_does_not_fit_is_left",
    ),
    Bug(
        "progress goes unnoticed",
        "protocol/client/answers.py",
        "self._counters.received += count\n        attempt.progressed = True",
        "self._counters.received += count",
        "session/test_driver.py::"
        "test_progress_carries_a_stream_through_any_number_of_breaks[INTERNAL]",
    ),
    Bug(
        "halves of different answers are spliced",
        "protocol/client/attempt.py",
        "if not welcome.restartable:",
        "if False:",
        "protocol/test_client.py::"
        "test_halves_are_not_spliced_when_the_next_server_turns_out_unable_to_go_on",
    ),
    Bug(
        "inputs that were never sent are suspected",
        "protocol/client/attempt.py",
        "if number <= self.sent_through and not ledger.elsewhere(number)",
        "if not ledger.elsewhere(number)",
        "protocol/test_client.py::test_suspects_are_what_this_server_has_got_and_not_answered",
    ),
    Bug(
        "outputs count as taken before they are",
        "protocol/client/delivery.py",
        "return OutputRun(head.first, head.payloads)",
        "self.held_outputs -= len(head.payloads)\n"
        "        return OutputRun(head.first, head.payloads)",
        "protocol/test_client.py::test_a_run_holds_its_credit_until_it_is_released",
    ),
    Bug(
        "a decided input is carried as well",
        "protocol/client/ledger.py",
        "        self.quarantined.discard(number)\n        self.decided[number] = sent",
        "        self.decided[number] = sent",
        "protocol/client/test_ledger.py::test_each_input_is_in_exactly_one_place_and_the_window_holds",
    ),
    Bug(
        "what is delivered early is delivered again",
        "protocol/client/delivery.py",
        "early = self._early.pop(number)",
        "early = self._early[number]",
        "protocol/client/test_delivery.py::test_what_comes_early_waits_for_what_is_before_it",
    ),
    Bug(
        "the head of the line gets no credit",
        "protocol/client/delivery.py",
        "if not self.head_of_line_blocked:",
        "if True:",
        "protocol/client/test_delivery.py::"
        "test_the_head_of_the_line_has_credit_though_the_budget_is_held_behind_it",
    ),
    Bug(
        "an attempt exceeds the window",
        "protocol/client/attempt.py",
        "return min(max(in_window, items == 0), max(in_frame, used == 0))",
        "return max(in_frame, used == 0)",
        "protocol/client/test_attempt.py::"
        "test_nothing_goes_beyond_what_holds_and_what_waits_does_not_fly",
    ),
    Bug(
        "a duplicate of a half-answered input is a gap",
        "protocol/client/answers.py",
        "    if index < next_index:\n        return False",
        "    if False:\n        return False",
        "protocol/client/test_answers.py::test_the_rules",
    ),
    # ------------------------------------------------------------------ runs and the replay set
    Bug(
        "an input that was cut goes on at its first output",
        "protocol/runs.py",
        "head = Run(self.first, payloads, sum(map(len, payloads)), self.start_index)",
        "head = Run(self.first, payloads, sum(map(len, payloads)))",
        "protocol/test_runs.py::test_the_head_of_a_run_is_cut_off_with_the_start_index",
    ),
    Bug(
        "runs grow beyond a frame",
        "protocol/runs.py",
        "or self.frame_bytes + other.frame_bytes > FRAME_TARGET_BYTES",
        "",
        "protocol/test_runs.py::test_runs_join_only_as_far_as_they_fit_into_one_frame",
    ),
    Bug(
        "what is put back goes to the end",
        "protocol/runs.py",
        "self._runs.insert(position, run)",
        "self._runs.append(run)",
        "protocol/test_runs.py::test_what_is_put_back_is_taken_first",
    ),
    Bug(
        "an input that is removed takes those behind it along",
        "protocol/runs.py",
        "begin = hole + 1",
        "begin = len(run.payloads)",
        "protocol/test_runs.py::test_one_input_is_removed_from_wherever_it_stands",
    ),
    Bug(
        "the bytes of answered inputs are not given back",
        "protocol/replay.py",
        "self.head += count\n        self.size -= size",
        "self.head += count",
        "protocol/test_client.py::"
        "test_room_grows_in_bytes_with_the_answer_and_in_items_with_the_taking",
    ),
    Bug(
        "a failed input comes back as another",
        "protocol/replay.py",
        "return self._items[number - self.head]",
        "return self._items[0]",
        "protocol/test_replay.py::test_what_was_appended_is_there_in_ascending_order",
    ),
    Bug(
        "of a run without order only one input is looked up",
        "protocol/replay.py",
        "return all(map(self._payloads.__contains__",
        "return any(map(self._payloads.__contains__",
        "protocol/test_replay.py::test_in_any_order_each_may_be_answered_that_is_there",
    ),
    # ------------------------------------------------------------------ credit and pacing
    Bug(
        "the whole credit is given afresh at every resume",
        "protocol/credit.py",
        "self._received_outputs + max(0, self._budget.outputs - held.outputs),",
        "self._received_outputs + self._budget.outputs,",
        "protocol/test_client.py::"
        "test_a_resume_with_a_full_buffer_grants_nothing_until_the_consumer_takes",
    ),
    Bug(
        "outputs without credit are let pass",
        "protocol/credit.py",
        "self._received_outputs >= self._granted.outputs",
        "False",
        "protocol/test_credit.py::test_one_output_too_many_is_the_servers_error",
    ),
    Bug(
        "a late grant takes credit back",
        "protocol/credit.py",
        "max(self._granted.outputs, total.outputs), max(self._granted.bytes, total.bytes)",
        "total.outputs, total.bytes",
        "protocol/test_credit.py::test_of_several_grants_the_highest_holds",
    ),
    Bug(
        "credit is never given on its own",
        "protocol/credit.py",
        "return (free_outputs - self._granted.outputs)",
        "return False and (free_outputs - self._granted.outputs)",
        "protocol/test_credit.py::test_a_frame_for_credit_alone_is_due_at_half_the_outputs",
    ),
    Bug(
        "nothing is ever acknowledged on its own",
        "protocol/pacing.py",
        "return self._urgent or (self._read - self._reported) * 2 >= self.limit",
        "return False",
        "protocol/test_client.py::test_a_frame_for_the_acknowledgement_alone_goes_at_half_of_k",
    ),
    Bug(
        "one frame more than K is under way",
        "protocol/pacing.py",
        "under_way < self.limit if full",
        "under_way <= self.limit if full",
        "protocol/test_pacing.py::test_exactly_k_frames_may_be_under_way",
    ),
    Bug(
        "a frame that is not full does not wait",
        "protocol/pacing.py",
        "if full else under_way * 2 < self.limit",
        "",
        "protocol/test_client.py::"
        "test_inputs_that_fill_no_frame_wait_while_half_of_k_is_unacknowledged",
    ),
    # ------------------------------------------------------------------ the server's session
    Bug(
        "the server answers out of order",
        "protocol/server/outbox.py",
        "if self._ordered and run.first != self._turns.next:",
        "if False:",
        "protocol/server/test_outbox.py::"
        "test_ordered_answers_keep_the_order_of_inputs_however_handlers_finish",
    ),
    Bug(
        "a failure overtakes the answers before it",
        "protocol/server/outbox.py",
        "if self._ordered and work.number != self._turns.next:",
        "if False:",
        "protocol/server/test_outbox.py::"
        "test_ordered_answers_keep_the_order_of_inputs_however_handlers_finish",
    ),
    Bug(
        "what was put back counts as started",
        "protocol/server/intake.py",
        "self.started_through = run.first - 1",
        "pass",
        "protocol/server/test_intake.py::test_what_was_put_back_is_no_longer_started",
    ),
    Bug(
        "what was cancelled and put back is started again",
        "protocol/server/intake.py",
        "self._drop(sorted(inputs.cancelled.intersection(range(run.first, run.last + 1))))",
        "pass",
        "protocol/server/test_intake.py::test_what_is_put_back_after_it_was_cancelled_never_starts",
    ),
    Bug(
        "a cancelled input is forgotten while it waits for its place",
        "protocol/server/outbox.py",
        "self.early.update(dict.fromkeys(numbers, _DROPPED))",
        "pass",
        "protocol/test_work.py::test_the_answers_to_what_was_cancelled",
    ),
    Bug(
        "the server computes ahead without a bound",
        "protocol/server/intake.py",
        "            outbox.held_bytes < self._ahead_bytes\n",
        "            True\n",
        "protocol/server/test_intake.py::test_too_much_waiting_output_stops_the_next_input",
    ),
    Bug(
        "the input for which the others wait is held up by them",
        "protocol/server/intake.py",
        "or (bool(outbox.early) and waiting.head.first",
        "or (False and waiting.head.first",
        "protocol/server/test_intake.py::"
        "test_the_inputs_for_which_early_output_waits_start_one_by_one_although_it_is_too_much",
    ),
    Bug(
        "more than the input for which the others wait is started",
        "protocol/server/intake.py",
        "self.waiting.take(1 if self.full else limit)",
        "self.waiting.take(limit)",
        "protocol/server/test_intake.py::"
        "test_the_inputs_for_which_early_output_waits_start_one_by_one_although_it_is_too_much",
    ),
    Bug(
        "the window is not enforced",
        "protocol/server/intake.py",
        "self._check_each(run.first_number, sizes)",
        "pass",
        "protocol/server/test_intake.py::test_the_window_is_enforced_within_a_run",
    ),
    # ------------------------------------------------------------------ the driver and its retries
    Bug(
        "status OK is taken for complete",
        "session/attempt.py",
        "        if not self.broke_protocol and settings.nothing_open():\n",
        "        if (await exchange.link.status()).code == 'OK' or (\n"
        "            not self.broke_protocol and settings.nothing_open()\n"
        "        ):\n",
        "session/test_driver.py::test_progress_carries_a_stream_through_any_number_of_breaks[OK]",
    ),
    Bug(
        "the end of patience is told as too many attempts",
        "session/outcome.py",
        "    if outage.passed(now):\n        return f",
        "    if outage.passed(-now):\n        return f",
        "session/test_deadlines.py::test_where_patience_has_run_out_the_error_says_so[1-away]",
    ),
    Bug(
        "attempts of other streams are told although progress has come since",
        "session/attempts.py",
        "            self._row.progress()\n",
        "            pass\n",
        "session/test_deadlines.py::test_attempts_of_others_before_progress_are_past",
    ),
    Bug(
        "a connect counts as progress",
        "session/outcome.py",
        "progressed = (session.progressed or stable) and",
        "progressed = (session.welcome is not None or stable) and",
        "session/test_driver.py::test_connecting_is_not_progress",
    ),
    Bug(
        "inputs travel to a server that did not welcome the attempt before",
        "session/attempts.py",
        "alone=last is not None and not last.welcomed,",
        "alone=False,",
        "session/test_driver.py::test_inputs_travel_with_the_open_only_to_who_welcomed_before",
    ),
    Bug(
        "after one attempt without a welcome every open travels alone",
        "session/attempts.py",
        "alone=last is not None and not last.welcomed,",
        "alone=last is not None and (last._alone or not last.welcomed),",
        "session/test_driver.py::test_inputs_travel_with_the_open_only_to_who_welcomed_before",
    ),
    Bug(
        "another application is final where no welcome came before",
        "session/outcome.py",
        "classify_refusal(session.refusal, never_welcomed=never_welcomed)",
        "classify_refusal(session.refusal, never_welcomed=session.welcome is None)",
        "session/test_driver.py"
        "::test_after_a_refusal_that_passes_another_application_is_no_wrong_address",
    ),
    Bug(
        "a welcome that does not fit is called a refusal",
        "transport/classify.py",
        "the stream is not served there (",
        "the server refused the stream (",
        "session/test_driver.py::test_a_welcome_that_does_not_fit_is_not_called_a_refusal",
    ),
    Bug(
        "a server that only fails is called silent",
        "session/outcome.py",
        "it has never completed a handshake with this client",
        "it has never answered this client",
        "session/test_driver.py::test_a_server_that_only_fails_is_not_said_to_have_been_silent",
    ),
    Bug(
        "a busy server still counts as never reached",
        "session/endpoints.py",
        "self.known |= verdict.decision is not Decision.FAIL",
        "pass",
        "session/test_driver.py::test_a_refusal_that_passes_makes_the_server_known",
    ),
    Bug(
        "a server's delay is ignored",
        "session/retry.py",
        "if told is not None:",
        "if False:",
        "session/test_retry.py::test_a_servers_delay_is_kept_and_spread",
    ),
    Bug(
        "progress does not start the count afresh",
        "session/retry.py",
        "state.attempt_number = 0",
        "pass",
        "session/test_retry.py::test_progress_starts_the_count_afresh",
    ),
    Bug(
        "a wrong address is tried as often as a known one",
        "session/retry.py",
        "state.attempt_number >= self._policy.connect_attempts",
        "state.attempt_number >= self._policy.attempts",
        "session/test_retry.py::test_a_target_that_never_answered_is_given_up_sooner",
    ),
    Bug(
        "a restart is taken for a wrong address",
        "transport/statuses.py",
        "            case Where.NEVER_WELCOMED:\n                return never_welcomed\n",
        "            case Where.NEVER_WELCOMED:\n                return True\n",
        "transport/test_classify.py::test_a_wrong_address_is_told_from_a_restart",
    ),
    Bug(
        "a final refusal is tried again",
        "transport/classify.py",
        "if final is not None:",
        "if False:",
        "transport/test_classify.py::test_refusals_are_final_unless_they_pass",
    ),
    Bug(
        "the delay of a server that heard nothing is ignored",
        "transport/classify.py",
        "if failure.kind is StreamErrorKind.OVERLOADED or failure.retry_after_ms is not None:",
        "if failure.kind is not StreamErrorKind.SILENCE and failure.retry_after_ms is not None:",
        "transport/test_classify.py::test_the_delay_of_whatever_stream_error_is_not_final_is_kept",
    ),
    Bug(
        "the delay of another application's refusal is ignored",
        "transport/classify.py",
        "return Verdict(Decision.RESUME, reason, WrongApplicationError, retry_after=after)",
        "return Verdict(Decision.RESUME, reason, WrongApplicationError)",
        "transport/test_classify.py::test_the_delay_of_whatever_refusal_is_not_final_is_kept",
    ),
    Bug(
        "an overloaded server is asked again at once",
        "transport/classify.py",
        "if failure.kind is StreamErrorKind.OVERLOADED or failure.retry_after_ms is not None:",
        "if failure.retry_after_ms is not None:",
        "transport/test_classify.py::test_stream_errors",
    ),
    # ------------------------------------------------------------------ the pump and the stream
    Bug(
        "an exception in the user's inputs vanishes",
        "session/pump.py",
        "self.error = failed.error",
        "pass",
        "session/test_pump.py::test_what_came_before_an_error_of_the_inputs_is_pushed",
    ),
    Bug(
        "inputs are pushed whether they fit or not",
        "session/pump.py",
        "while not self._inlet.fits(_size(payload)):",
        "while False:",
        "session/test_pump.py::test_an_input_larger_than_the_window_waits_for_those_before_it",
    ),
    Bug(
        "inputs are pulled beyond their places",
        "session/pump.py",
        "longest = min(_LONGEST_RUN, places)",
        "longest = _LONGEST_RUN",
        "session/test_pump.py::test_inputs_are_pulled_as_far_as_there_are_places",
    ),
    Bug(
        "plain inputs keep the event loop to themselves",
        "session/pump.py",
        "                if clock() >= until:\n",
        "                if False:\n",
        "session/test_pump.py::test_slow_inputs_come_one_in_a_turn_of_the_event_loop",
    ),
    Bug(
        "a codec that raises CancelledError ends the stream",
        "session/pump.py",
        'failure = contained(error, "the codec")',
        "failure = error\n        if not isinstance(error, Exception):\n            raise error",
        "session/test_pump.py::test_a_codec_that_raises_cancelled_fails_its_input",
    ),
    Bug(
        "a failure overtakes outputs that had arrived",
        "session/stream.py",
        "            found = driver.outlet.next(self._longest_run)\n",
        "            if driver.error is not None:\n"
        "                self._conclude(driver.error)\n"
        "            found = driver.outlet.next(self._longest_run)\n",
        "session/test_driver.py::test_what_had_arrived_comes_before_the_failure",
    ),
    Bug(
        "an item's failure is lost when the wait for the close is cancelled",
        "session/stream.py",
        "self._failed = problem  # not forgotten should this task be cancelled while it closes\n"
        "        await self._aclose()",
        "await self._aclose()\n        self._failed = problem",
        "grpc/test_user_code.py::test_an_item_error_is_not_lost_to_a_cancelled_wait",
    ),
    # ------------------------------------------------------------------ single predictions
    Bug(
        "every call has a stream of its own",
        "session/predictor.py",
        "_ENOUGH_CALLS = 16",
        "_ENOUGH_CALLS = 0",
        "grpc/test_predict.py::test_few_calls_at_a_time_need_one_stream",
    ),
    Bug(
        "calls open more streams than they may",
        "session/predictor.py",
        "if open_lanes < self._most_lanes and (",
        "if (",
        "grpc/test_predict.py::test_calls_spread_over_as_many_streams_as_allowed",
    ),
    Bug(
        "calls that found no room wait for ever",
        "session/predict_lane.py",
        "self._owner.has_room()",
        "pass",
        "grpc/test_predict.py::test_more_calls_than_fit_wait_for_their_turn",
    ),
    Bug(
        "an idle stream is never given back",
        "session/predict_lane.py",
        "self._owner.idle_seconds, self.retire, context",
        "3600.0, self.retire, context",
        "grpc/test_predict.py::"
        "test_an_idle_stream_is_given_back_and_a_new_one_is_opened_when_needed",
    ),
    Bug(
        "a call that nobody waits for runs on at the server",
        "session/predictor.py",
        "call.lane.cancel(call)",
        "pass",
        "grpc/test_predict.py::test_a_cancelled_call_is_cancelled_at_the_server_and_others_go_on",
    ),
    Bug(
        "a call's timeout does not say what is known",
        "session/predictor.py",
        "raise StreamTimeoutError(_no_answer(timeout), call.delivered()) from error",
        "raise",
        "grpc/test_predict.py::test_a_timeout_ends_the_call_and_tells_what_is_known",
    ),
    Bug(
        "an answer that comes with the timeout is lost",
        "session/predictor.py",
        "return call.future.result()",
        "raise",
        "session/test_predictor.py::test_an_answer_that_comes_with_the_timeout_is_the_answer",
    ),
    Bug(
        "an item error of one call ends its stream for all",
        "session/predict_lane.py",
        "        failure = delivery.failure\n",
        "        failure = delivery.failure\n        self._end(StreamError(failure.text))\n",
        "grpc/test_predict.py::test_a_failing_item_leaves_calls_that_wait_alone",
    ),
    # ------------------------------------------------------------------ heartbeats, item timeouts
    Bug(
        "silence is never noticed",
        "protocol/pulse.py",
        "self._silence += 1",
        "pass",
        "protocol/test_heartbeats.py::test_silence_is_noticed_on_either_side",
    ),
    Bug(
        "a heartbeat is sent an interval too late",
        "protocol/pulse.py",
        "TICKS_PER_INTERVAL = 2",
        "TICKS_PER_INTERVAL = 1",
        "protocol/test_pulse.py",
    ),
    Bug(
        "frames of the peer do not prove that it lives",
        "protocol/pulse.py",
        "self._silence = self._coming = self._excused = 0\n\n    def spoke",
        "pass\n\n    def spoke",
        "protocol/test_heartbeats.py::test_an_idle_link_carries_heartbeats_both_ways_and_nothing_else",
    ),
    Bug(
        "a half-open link is not left",
        "session/exchange.py",
        "if session.silent and not session.over:",
        "if False:",
        "grpc/test_watchdog.py::test_a_half_open_link_is_left",
    ),
    Bug(
        "a server does not free the place of a client that is gone",
        "server/runner.py",
        "if session.silent and session.state is not ServerState.LINGERING:",
        "if False:",
        "grpc/test_watchdog.py::test_a_server_that_hears_nothing_frees_its_place",
    ),
    Bug(
        "the loss of a last frame is not noticed",
        "protocol/client/attempt.py",
        "if beat.outputs > received:",
        "if False:",
        "protocol/test_heartbeats.py::test_a_server_that_sent_what_never_came_is_left",
    ),
    Bug(
        "duplicates are taken for a gap",
        "protocol/client/attempt.py",
        "if beat.outputs > received:",
        "if beat.outputs != received:",
        "protocol/test_heartbeats.py::test_duplicates_make_no_gap",
    ),
    Bug(
        "a server that thinks all is answered is believed",
        "protocol/client/attempt.py",
        "if running.blocked_on is BlockedOn.INPUT:",
        "if False:",
        "protocol/test_heartbeats.py::"
        "test_a_server_that_owes_nothing_although_inputs_lack_an_answer_is_left",
    ),
    Bug(
        "a server that waits for what was lost is waited for",
        "protocol/client/attempt.py",
        "if self._standstill.lasts(beat, running, self.sent_through):",
        "if False:",
        "protocol/test_heartbeats.py::test_a_server_that_waits_for_what_was_lost_is_left",
    ),
    Bug(
        "a farewell is given the time of a drain",
        "session/patience.py",
        "if loop.time() + seconds < self._at:",
        "if self._at == math.inf:",
        "session/test_driver.py::test_a_farewell_is_not_given_the_time_of_a_drain",
    ),
    Bug(
        "an error does not wait for the inputs to come to rest",
        "session/stream.py",
        "await self._driver.inputs_at_rest()",
        "pass",
        "session/test_driver.py::test_an_error_counts_what_was_pulled_to_the_last",
    ),
    Bug(
        "a place that is kept is looked at again and again",
        "server/limits.py",
        "                elif due < math.inf:\n",
        "                if call.abandoned or due < math.inf:\n"
        "                    due = now + 0.001\n",
        "server/test_handler_threads.py::test_a_place_that_is_kept_for_long_costs_no_time",
    ),
    Bug(
        "what waits for credit is reported as a busy handler",
        "protocol/server/session.py",
        "if ready.waiting and not ready.credit.allows_output:",
        "if False:",
        "protocol/test_heartbeats.py::test_a_server_that_waits_for_credit_says_so",
    ),
    Bug(
        "a hung input is left to hang",
        "server/limits.py",
        "self._alarm.set(due)",
        "pass",
        "grpc/test_watchdog.py::test_a_hung_input_is_that_inputs_error",
    ),
    Bug(
        "a handler that will not be cancelled keeps its input",
        "server/calls.py",
        "(self._answer_without or self._abandon_held)(text)",
        "pass",
        "grpc/test_watchdog.py::"
        "test_a_handler_that_will_not_be_cancelled_costs_its_place_and_no_more",
    ),
    Bug(
        "inputs behind one that hangs in a thread are lost",
        "server/handlers/threads.py",
        "call.requeue(Part(attempt, run.split(reached + 1)))",
        "run.split(reached + 1)",
        "server/test_handler_threads.py::test_of_a_run_in_a_thread_only_the_input_that_hangs_fails",
    ),
    Bug(
        "a replica all of whose places are kept says that it is well",
        "server/kits.py",
        "if any(kit.workers.stuck for loop, kit in self._kits.items() if not loop.is_closed()):",
        "if False:",
        "grpc/test_leaving.py::test_a_replica_whose_places_are_all_kept_is_not_well",
    ),
    # ------------------------------------------------------------------ poison
    Bug(
        "a single break makes suspects",
        "session/isolation.py",
        "sorted(suspects & self._suspected)",
        "sorted(suspects)",
        "session/test_predictor.py::"
        "test_neither_a_single_break_nor_a_server_that_leaves_makes_suspects",
    ),
    Bug(
        "a server that leaves clears a suspicion",
        "session/isolation.py",
        "if not (failed.counted and quarantine.allowed):",
        "if not quarantine.allowed:",
        "session/test_predictor.py::test_a_server_that_leaves_clears_no_suspicion",
    ),
    Bug(
        "suspects are not tried one at a time",
        "session/isolation.py",
        "and len(self._trying) < self._width:",
        "and True:",
        "session/test_predictor.py::"
        "test_suspects_are_tried_one_at_a_time_and_blamed_after_three_breaks",
    ),
    Bug(
        "one break of a lone input is enough to blame it",
        "session/isolation.py",
        "LONE_BREAKS = 3",
        "LONE_BREAKS = 1",
        "grpc/test_poison.py::test_one_is_found_wherever_it_stands",
    ),
    Bug(
        "an input is blamed where nothing else was answered either",
        "session/isolation.py",
        "and answered > suspect.answered_before:",
        "and True:",
        "grpc/test_poison.py::test_where_nothing_is_answered_the_server_is_to_blame",
    ),
    Bug(
        "what is tried alone loses its number",
        "session/isolation.py",
        "lane.inlet.push_at(suspect.number, payload)",
        "lane.inlet.push(payload)",
        "grpc/test_poison.py::test_one_is_found_wherever_it_stands",
    ),
    Bug(
        "answers overtake an input that is tried alone",
        "protocol/client/answers.py",
        "            self._answered_early(attempt, number, payload, None)\n            return\n",
        "            pass\n",
        "protocol/test_client.py::test_answers_behind_an_input_that_was_set_aside_wait_for_it",
    ),
    Bug(
        "the end is sent while inputs are tried alone",
        "protocol/client/attempt.py",
        "ledger.finished and not ledger.quarantined and not self.unsent",
        "ledger.finished and not self.unsent",
        "protocol/test_client.py::test_an_input_that_was_set_aside_goes_on_no_attempt",
    ),
    Bug(
        "a stream that is left goes on trying its suspects",
        "session/driver.py",
        "self.observer.end()",
        "pass",
        "grpc/test_poison.py::test_a_stream_that_is_dropped_ends_what_is_tried_alone",
    ),
    # ------------------------------------------------------------------ storms
    Bug(
        "every stream probes for itself",
        "session/breaker.py",
        "if self._state is _State.OPEN and not self._probing:",
        "if self._state is _State.OPEN:",
        "session/test_breaker.py::"
        "test_an_outage_costs_one_probe_now_and_then_and_each_stream_comes_back_once",
    ),
    Bug(
        "after an outage all streams come at once",
        "session/breaker.py",
        "_State.RECOVERING, 0, 1",
        "_State.RECOVERING, 0, 1000",
        "session/test_breaker.py::test_after_an_outage_streams_come_back_in_growing_numbers",
    ),
    Bug(
        "a probe that is called off is nobody's any more",
        "session/breaker.py",
        "self._wake(1)  # who goes on with it",
        "pass",
        "session/test_breaker.py::test_a_stream_that_leaves_hands_on_what_it_was_doing",
    ),
    Bug(
        "attempts without progress take no tokens",
        "session/breaker.py",
        "self.tokens -= 1",
        "pass",
        "session/test_breaker.py::test_attempts_without_progress_take_tokens_that_time_gives_back",
    ),
    # ------------------------------------------------------------------ leaving
    Bug(
        "health checks that cease are not heeded",
        "server/kits.py",
        "alarm.set(due)",
        "pass",
        "grpc/test_leaving.py::test_health_checks_that_cease_move_each_stream_once",
    ),
    Bug(
        "a server that leaves takes further streams",
        "server/kits.py",
        "kit.leaving = self._leaving",
        "pass",
        "grpc/test_leaving.py::test_a_server_that_leaves_takes_no_further_streams",
    ),
    Bug(
        "a server whose grace is over goes on",
        "server/runner.py",
        "self._leaving = loop.call_at(self._leaves_at, self._grace_over)",
        "pass",
        "grpc/test_leaving.py::test_a_grace_that_is_over_ends_the_attempt",
    ),
    Bug(
        "old attempts stay",
        "session/exchange.py",
        "self._session.move()",
        "False",
        "grpc/test_leaving.py::test_old_attempts_move_by_themselves",
    ),
    # ------------------------------------------------------------------ workers and handlers
    Bug(
        "more calls run than there are places",
        "server/workers.py",
        "self._free -= 1",
        "pass",
        "server/test_workers.py::test_no_more_calls_run_at_a_time_than_there_are_places",
    ),
    Bug(
        "a stream that had its turn is forgotten",
        "server/item_workers.py",
        "if self._has_work(attempt):\n                self._waiting.add(attempt)\n\n    def _leave",
        "if False:\n                self._waiting.add(attempt)\n\n    def _leave",
        "server/test_workers.py::test_inputs_are_handled_although_nothing_can_be_sent_yet[items]",
    ),
    Bug(
        "cancelled handlers run on",
        "server/calls.py",
        "if not self._wanted:",
        "if False:",
        "server/test_calls.py::test_a_call_none_of_whose_inputs_is_wanted_is_cancelled",
    ),
    Bug(
        "a call ends although one of its streams wants it",
        "server/calls.py",
        "if not self._wanted:",
        "if not all(self._wanted.get(each.attempt) for each in self._held):",
        "server/test_calls.py::test_a_call_for_several_streams_goes_on_while_one_of_them_wants_it",
    ),
    Bug(
        "the call after a cancelled one is cancelled as well",
        "server/calls.py",
        "while self._task.uncancel():",
        "while False:",
        "server/test_calls.py::test_the_call_after_a_cancelled_one_is_not_cancelled",
    ),
    Bug(
        "a handler that cancels its own task ends the service of its stream",
        "server/workers.py",
        "        self._turn_over(call)\n        if self._has_work(attempt):",
        "        if self._has_work(attempt):",
        "server/test_handler_answers.py::test_a_handler_that_cancels_its_own_task_fails_its_inputs_only",
    ),
    Bug(
        "a batch handler gets the very list that its answers are counted by",
        "server/handlers/batches.py",
        "batch = [*values]",
        "batch = values",
        "server/test_handler_batches.py::test_a_batch_handler_may_change_the_list_that_it_gets",
    ),
    Bug(
        "a stream that may not start anything blocks the batches of the others",
        "server/batch_workers.py",
        "            if attempt.session.startable or attempt in self._given_back:\n"
        "                waiting.move",
        "            if part is None:\n                return parts\n"
        "            if attempt.session.startable or attempt in self._given_back:\n"
        "                waiting.move",
        "server/test_batch_workers.py::test_a_stream_that_fills_up_while_it_waits_is_passed_over",
    ),
    Bug(
        "an incomplete batch does not wait for more",
        "server/batch_workers.py",
        "if self._batch_wait and 0 < self._gathered < self._max_batch:",
        "if False:",
        "server/test_batch_workers.py::test_an_incomplete_batch_waits_for_more",
    ),
    Bug(
        "a batch that fails is not tried singly",
        "server/handlers/batches.py",
        "if len(values) == 1:\n            return [results]",
        "if values:\n            return [results] * len(values)",
        "server/test_handler_batches.py::test_a_batch_that_fails_is_tried_singly",
    ),
    Bug(
        "what stands behind an input that waits must wait, too",
        "server/handlers/answers.py",
        "if done < len(run.payloads):",
        "if False:",
        "server/test_handler_items.py::test_what_stands_behind_an_input_that_waits_goes_back",
    ),
    Bug(
        "the server does not linger",
        "server/runner.py",
        "LINGER_SECONDS = 2.0",
        "LINGER_SECONDS = 0.0",
        "grpc/test_hostile_clients.py::test_the_server_lingers_until_the_client_has_half_closed",
    ),
    Bug(
        "two attempts of one stream are served side by side",
        "server/residents.py",
        "            before.supersede()\n",
        "",
        "grpc/test_hostile_clients.py::test_a_higher_attempt_ends_a_lower_one",
    ),
    # ------------------------------------------------------------------ links and the wire
    Bug(
        "all calls share one connection",
        "transport/grpc_link.py",
        "if connection.calls < self._most_calls\n            and not connection.avoided",
        "if True",
        "transport/test_connections.py::test_calls_share_a_connection_up_to_the_limit",
    ),
    Bug(
        "a call that has ended keeps its place on the connection",
        "transport/grpc_link.py",
        "connection.calls -= 1",
        "pass",
        "transport/test_connections.py::test_an_ended_call_gives_its_place_to_the_next",
    ),
    Bug(
        "connections that nobody needs stay open",
        "transport/grpc_link.py",
        "if connection.calls or connection not in self._connections:",
        "if True:",
        "transport/test_connections.py::test_a_connection_that_is_not_needed_is_closed",
    ),
    Bug(
        "a limit that is not set is a limit of nothing",
        "wire/convert.py",
        "limits.window_items or _DEFAULTS.window_items",
        "limits.window_items",
        "wire/test_convert.py::test_a_limit_of_zero_is_the_default",
    ),
    Bug(
        "come again at once is read as whenever you like",
        "wire/convert.py",
        'return message.retry_after_ms if message.HasField("retry_after_ms") else None',
        "return message.retry_after_ms or None",
        "wire/test_convert.py::test_no_retry_after_differs_from_at_once",
    ),
    Bug(
        "payloads are taken for what they are not",
        "wire/convert.py",
        "if encoding != pb.ENCODING_UNSPECIFIED:",
        "if False:",
        "wire/test_convert.py::test_answers_that_mean_nothing_are_the_servers_error",
    ),
    Bug(
        "an index beyond the last there can be is believed",
        "wire/convert.py",
        "    if value > _NUMBERS_END - count:",
        "    if False:",
        "wire/test_convert.py::test_answers_that_mean_nothing_are_the_servers_error",
    ),
    Bug(
        "what crosses the client's leaving is taken in",
        "protocol/client/session.py",
        "if self.state in _OVER:  # what comes after",
        "if self.state in _OVER - {ClientState.LEFT}:  # what comes after",
        "protocol/test_client.py::test_what_crosses_the_clients_leaving_is_dropped",
    ),
    Bug(
        "the value of a later version breaks this one",
        "wire/convert.py",
        "return kind(0)",
        "raise",
        "wire/test_convert.py::test_unknown_enumeration_values_become_zero",
    ),
    # ------------------------------------------------------------------ gRPC's own ways
    Bug(
        "a write that fails hides why the call was refused",
        "transport/grpc_link.py",
        "await self._write(message)",
        "await self._call.write(client_frame_to_wire(frame))",
        "grpc/test_scripts.py::test_a_refusal_at_once_keeps_its_reason",
    ),
    Bug(
        "a closed client leaves events for the next event loop to stumble over",
        "transport/grpc_link.py",
        "        await _settle()\n",
        "",
        "grpc/test_scripts.py::test_event_loops_in_turn_leave_nothing_to_each_other",
    ),
    Bug(
        "a client in a forked process hangs",
        "transport/grpc_link.py",
        "        cls.forked = cls.used",
        "        cls.forked = False",
        "grpc/test_scripts.py::test_a_forked_child_is_told_and_the_parent_goes_on",
    ),
    # ------------------------------------------------------------------ the blocking client
    Bug(
        "a thread pulls inputs beyond the window",
        "session/feeder.py",
        "return self.pulled < self._most_inputs and",
        "return",
        "session/test_feeder.py::test_no_more_is_pulled_than_allowed",
    ),
    Bug(
        "a thread pulls more bytes than fit",
        "session/feeder.py",
        "and self._bytes_fed < self._most_bytes",
        "",
        "session/test_feeder.py::test_bytes_are_bounded_as_well_but_for_the_last_input",
    ),
    Bug(
        "what was pulled and not handed over is allowed again",
        "session/feeder.py",
        "self._most_inputs = self._taken + inputs",
        "self._most_inputs = self.pulled + inputs",
        "session/test_feeder.py::test_what_was_taken_in_part_does_not_count_twice",
    ),
    Bug(
        "a close waits for inputs that block",
        "session/feeder.py",
        "if self._busy and loop.time() >= patience:",
        "if False:",
        "session/test_feeder.py::test_closing_does_not_wait_for_inputs_that_block",
    ),
    Bug(
        "a generator is not closed with its stream",
        "session/feeder.py",
        "                self._close_inputs()\n            finally:",
        "                pass\n            finally:",
        "session/test_feeder.py::test_closing_runs_a_generators_end_in_its_own_thread",
    ),
    Bug(
        "SystemExit in the inputs ends the loop that all clients share",
        "session/pump.py",
        "            self.error = failed.error\n",
        "            self.error = failed.error\n"
        "            if isinstance(failed.error, SystemExit):\n"
        "                raise failed.error from None\n",
        "grpc/test_blocking.py::test_what_the_inputs_raise_surfaces_after_the_outputs_before_it",
    ),
    Bug(
        "a call that Ctrl-C interrupts goes on",
        "portal.py",
        "loop.call_soon_threadsafe(call.cancel)\n",
        "pass\n",
        "test_portal.py::test_an_interrupted_call_is_cancelled_on_the_loop",
    ),
    Bug(
        "what a call raises ends the loop that all clients share",
        "portal.py",
        "                self._error = error\n",
        "                raise\n",
        "test_portal.py::test_whatever_it_raises_is_the_callers",
    ),
    Bug(
        "a client that is dropped keeps its thread",
        "portal.py",
        "        if self.portal is not None:\n            self.release_later()",
        "        if False:\n            self.release_later()",
        "test_portal.py::test_a_lease_that_is_dropped_is_released",
    ),
    Bug(
        "a client that was made before a fork hangs in the child",
        "portal.py",
        "if hold.inherited:\n            raise ClientClosedError(",
        "if False:\n            raise ClientClosedError(",
        "grpc/test_scripts.py::test_a_forked_child_is_told_and_the_parent_goes_on",
    ),
    Bug(
        "two threads may iterate one stream",
        "session/stream.py",
        "if self._iterating:",
        "if False:",
        "grpc/test_blocking.py::test_two_threads_iterating_one_stream_are_told",
    ),
    # ------------------------------------------------------------------ for tests
    Bug(
        "a marked fault that never fires passes",
        "testing/trial.py",
        "        if missing:",
        "        if False:",
        "testing/test_plugin.py::test_a_fault_that_never_fires_fails_the_test_and_is_named",
    ),
    Bug(
        "a killed server keeps its connections",
        "testing/server.py",
        "        self._proxy.cut()\n",
        "",
        "testing/test_stream_server.py::test_the_connections_of_a_killed_server_are_reset",
    ),
    Bug(
        "a service that is made anew for each life is not",
        "testing/server.py",
        "        self.service = self._make()\n        self._proxy",
        "        self._proxy",
        "testing/test_plugin.py::test_services_and_clients_of_ones_own",
    ),
    Bug(
        "a cut comes one byte late",
        "testing/proxy.py",
        "yield fault.after_bytes - self._passed",
        "yield 1 + fault.after_bytes - self._passed",
        "testing/test_proxy.py",
    ),
    Bug(
        "a reset is an orderly end",
        "testing/proxy.py",
        "            if how == CutKind.RESET:\n                _reset(side)",
        "            if False:\n                _reset(side)",
        "testing/test_proxy.py",
    ),
    Bug(
        "a link that is deaf passes on what it gets",
        "testing/proxy.py",
        "return bool(deaf)",
        "return False",
        "testing/test_proxy.py",
    ),
    Bug(
        "a delay delays nothing",
        "testing/proxy.py",
        "if due <= self._loop.time():",
        "if True:",
        "testing/test_proxy.py",
    ),
    Bug(
        "an attempt never moves for its age",
        "session/exchange.py",
        "                    self._move_later()\n",
        "",
        "session/test_driver.py::test_an_attempt_that_was_welcomed_late_still_moves_for_its_age",
    ),
    Bug(
        "other hooks on the same connection are not told",
        "session/base.py",
        "hooks=self._streams.hooks if hooks is None else checked_hooks(hooks),",
        "hooks=self._streams.hooks,",
        "grpc/test_hooks.py::test_other_hooks_on_the_same_connection",
    ),
    Bug(
        "a setting of the environment that is none is passed over",
        "environment.py",
        "    if strange:\n",
        "    if False:\n",
        "test_environment.py::test_a_mistake_is_said_when_a_client_is_made",
    ),
    Bug(
        "the environment goes before an argument",
        "session/base.py",
        "        if target is None:\n",
        "        if environment.TARGET in os.environ:\n",
        "test_environment.py::test_arguments_go_before_it",
    ),
    Bug(
        "a reverse proxy without servers counts as a server that broke",
        "transport/statuses.py",
        'missing = self.code == "UNAVAILABLE" or self.error is UnreachableError',
        'missing = self.code == "UNAVAILABLE"',
        "transport/test_classify.py::test_what_keeps_a_target_never_welcomed_from_getting_through_is_named",
    ),
    Bug(
        "a service's wrong attribute is not noticed with its class",
        "server/service.py",
        "        check_class(cls)\n",
        "",
        "server/test_settings.py::test_an_attribute_that_cannot_work_is_refused_with_its_class",
    ),
    Bug(
        "a service's wrong attribute is not noticed when it begins to serve",
        "server/service.py",
        "    check_service(service)\n",
        "",
        "server/test_settings.py::test_or_where_it_begins_to_serve",
    ),
    Bug(
        "the command lets a certificate of another key pass",
        "cli/connect.py",
        'context.load_cert_chain(certificate, key, password="")',
        "pass",
        "cli/test_connect.py::test_plain_mistakes_are_said_in_words",
    ),
    # ------------------------------------------------------------------ words that are true
    Bug(
        "details are compared with their capitals",
        "transport/statuses.py",
        "details = status.details.lower()",
        "details = status.details",
        "transport/test_classify.py::test_overload_waits_whoever_says_it",
    ),
    Bug(
        "a client with credentials is told that it lacks them",
        "transport/grpc_link.py",
        "tls=self._credentials is not None,",
        "tls=False,",
        "grpc/test_verdicts.py::test_a_server_that_asks_for_a_client_certificate[none]",
    ),
    Bug(
        "a circuit breaker that overflows counts as nobody there",
        "transport/statuses.py",
        'details=("reset reason: overflow",),\n        busy=True,',
        'details=("reset reason: overflow",),',
        "transport/test_classify.py::test_overload_waits_whoever_says_it",
    ),
    Bug(
        "what hooks add to metadata is not counted",
        "transport/grpc_link.py",
        "size = metadata_size((*self._metadata, *metadata))",
        "size = self._metadata_bytes",
        "grpc/test_verdicts.py::test_what_hooks_add_counts_and_a_known_server_is_tried_again",
    ),
    Bug(
        "our own server refuses large metadata by chance",
        "server/service.py",
        "        *METADATA_OPTIONS,\n",
        "",
        "grpc/test_verdicts.py::test_our_own_ends_take_metadata_that_others_refuse",
    ),
    Bug(
        "large metadata are not told when they are given",
        "session/base.py",
        "        check_metadata_size((*own, *metadata), stacklevel=3)",
        "        (lambda *_, **__: None)((*own, *metadata), stacklevel=3)",
        "grpc/test_verdicts.py::test_the_warning_names_the_line_that_makes_the_client",
    ),
    Bug(
        "a connection has a tenth of a second to be made",
        "transport/grpc_link.py",
        '("grpc.min_reconnect_backoff_ms", CONNECT_MS)',
        '("grpc.min_reconnect_backoff_ms", 50)',
        "grpc/test_verdicts.py::test_a_far_away_server_with_tls_has_time_to_connect",
    ),
    Bug(
        "a busy target that never served this client is given up as a wrong address",
        "session/retry.py",
        "return self._never_welcomed() and _failure(state).verdict.decision is not Decision.WAIT",
        "return self._never_welcomed()",
        "session/test_retry.py::test_a_target_that_says_that_it_is_busy_is_no_wrong_address",
    ),
    Bug(
        "heartbeats that gathered while the client was stopped speak of a loss",
        "protocol/client/standstill.py",
        "elif self._free_ticks > self._counted_at:",
        "else:",
        "protocol/test_heartbeats.py::test_heartbeats_that_gathered_while_the_client_was_stopped_count_once",
    ),
    Bug(
        "a client that was stopped does not say so",
        "session/absence.py",
        "if late >= max(self._interval, LATE_SECONDS):",
        "if False:",
        "session/test_absences.py::test_an_absence_is_said_while_it_is_recent",
    ),
    Bug(
        "a deadline that fires late takes what came meanwhile for missing",
        "session/patience.py",
        "if loop.time() - self._at >= LATE_SECONDS and not self._extended:",
        "if False:",
        "session/test_patience.py"
        "::test_a_limit_that_passes_late_gives_what_came_meanwhile_its_time",
    ),
    Bug(
        "the last failure counts, however little it says",
        "session/outcome.py",
        "if verdict.vague and self._telling is not None and not failed.progressed:",
        "if False:",
        "session/test_last_words.py::test_a_failure_that_says_nothing_does_not_have_the_last_word",
    ),
    #
    # ---- the protocol's fine print, and values that come back
    Bug(
        "an output that was received is computed again",
        "protocol/server/intake.py",
        "if accepted.start_index and self._single_output:",
        "if False:",
        "protocol/test_conformance.py::test_an_output_that_was_received_is_neither_computed_nor_sent_again",
    ),
    Bug(
        "of a run whose first input was received the others are dropped",
        "protocol/server/intake.py",
        "            if count == 1:\n                return\n",
        "            return\n",
        "grpc/test_hostile_clients.py::test_an_output_that_was_received_is_not_sent_again",
    ),
    Bug(
        "a client that asks for more heartbeats than it gets is cut",
        "protocol/server/session.py",
        "self._pulse.begin(own_ms=self.heartbeat_ms, peer_ms=self.heartbeat_ms)",
        "self._pulse.begin(own_ms=self.heartbeat_ms, peer_ms=opened.heartbeat_interval_ms)",
        "protocol/test_conformance.py::test_a_server_is_as_patient_as_what_it_granted",
    ),
    Bug(
        "a handler of unknown kind is taken for one-to-one",
        "protocol/client/opening.py",
        "if welcome.handler_kind is HandlerKind.UNSPECIFIED:",
        "if False:",
        "grpc/test_hostile_servers.py::test_a_handler_of_a_kind_that_the_client_cannot_resume_is_left",
    ),
    Bug(
        "a lost welcome is final at a new target",
        "transport/classify.py",
        "    if perhaps_lost:\n",
        "    if perhaps_lost and not never_welcomed:\n",
        "grpc/test_hostile_servers.py::test_a_single_frame_that_is_lost_is_never_final",
    ),
    Bug(
        "a lost frame of the client's is its breach",
        "server/runner.py",
        "except FrameLostError as error:",
        "except ZeroDivisionError as error:",
        "grpc/test_hostile_clients.py::test_a_frame_of_the_clients_that_was_lost_is_no_breach",
    ),
    Bug(
        "what a server waited for before an input came is held against it",
        "protocol/client/session.py",
        "current.check_positions(frame.heartbeat, frame.running)",
        "current.check_positions(frame.heartbeat, current.running)",
        "protocol/test_conformance.py::test_what_a_server_waits_for_is_judged_by_the_frame_that_says_it",
    ),
    Bug(
        "nobody counts a client's frames",
        "protocol/pacing.py",
        "        if self._read - self._reported > self.limit:\n",
        "        if False:\n",
        "protocol/test_conformance.py::test_more_frames_than_the_client_may_have_under_way_are_its_error",
    ),
    Bug(
        "a stream without inputs is complete before anybody answers",
        "session/driver.py",
        "            or session.counters.welcomes\n",
        "            or True\n",
        "session/test_driver.py::test_a_stream_without_inputs_learns_what_is_wrong_with_its_target",
    ),
    Bug(
        "twins drive each other away for ever",
        "session/outcome.py",
        "progressed = (session.progressed or stable) and not session.superseded",
        "progressed = session.progressed or stable",
        "session/test_driver.py::test_two_that_have_one_id_do_not_drive_each_other_away_for_ever",
    ),
    Bug(
        "what comes after a grace that has ended is a breach",
        "protocol/client/session.py",
        "if self.state in _OVER:  # what comes after",
        "if False:  # what comes after",
        "protocol/test_conformance.py::test_what_comes_after_the_last_word_is_dropped",
    ),
    Bug(
        "nan is null in a plain record",
        "codecs/fidelity.py",
        'finite = f"{value} - {value} == 0.0"',
        'finite = "True"',
        "codecs/test_fidelity.py::test_json_refuses_nan_and_infinity_wherever_they_are",
    ),
    Bug(
        "nan is null in a list of numbers and nothings",
        "codecs/fidelity.py",
        "                    self.floats = True\n",
        "",
        "codecs/test_fidelity.py::test_json_refuses_nan_and_infinity_wherever_they_are",
    ),
    Bug(
        "nan is null in a plain list",
        "codecs/fidelity.py",
        "{check} and {self._name(math.isfinite)}(sum({value}))",
        "{check}",
        "codecs/test_fidelity.py::test_json_refuses_nan_and_infinity_wherever_they_are",
    ),
    Bug(
        "whatever is not plain is sent unseen",
        "codecs/structured.py",
        "        if found is not None:\n            raise ValueError",
        "        if False:\n            raise ValueError",
        "codecs/test_fidelity.py::test_what_json_has_no_type_for_is_refused_where_the_codec_names_none",
    ),
    Bug(
        "a field of another type is taken for plain",
        "codecs/fidelity.py",
        '" and ".join([f"{value}.__class__ is {self._name(info.cls)}", *known])',
        'f"{value}.__class__ is {self._name(info.cls)}"',
        "codecs/test_fidelity.py::test_what_is_not_of_the_named_type_is_refused_at_the_sender",
    ),
    Bug(
        "a text is a batch",
        "server/handlers/batches.py",
        "if isinstance(value, str | bytes | bytearray | memoryview):",
        "if isinstance(value, bytearray | memoryview):",
        "server/test_handler_batches.py::test_a_batch_that_answers_wrongly_fails_each_of_its_inputs",
    ),
    # ------------------------------------------------ large frames on slow links
    Bug(
        "large frame: announced bytes are silence all the same",
        "protocol/pulse.py",
        "if coming and self._excused * self._tick_bytes < self._coming:",
        "if False:",
        "protocol/test_coming.py::"
        "test_no_link_above_the_lowest_rate_is_given_up_for_what_it_carries",
    ),
    Bug(
        "large frame: a link is waited for without end",
        "protocol/pulse.py",
        "if coming and self._excused * self._tick_bytes < self._coming:",
        "if coming:",
        "protocol/test_coming.py::"
        "test_ticks_in_which_bytes_come_are_no_silence_so_long_as_they_may_take",
    ),
    Bug(
        "large frame: the server does not announce its answers",
        "protocol/server/session.py",
        "if waiting and (large := self._large):",
        "if False:",
        "protocol/test_coming.py::"
        "test_whatever_takes_longer_than_an_interval_is_announced_right_before",
    ),
    Bug(
        "large frame: one rides with the open",
        "protocol/client/attempt.py",
        "                or len(head.payloads[0]) > frame_room\n",
        "",
        "protocol/test_coming.py::test_no_large_input_rides_with_the_open",
    ),
    Bug(
        "large frame: neighbours are not asked",
        "transport/traffic.py",
        "        if not found:\n",
        "        if True:\n",
        "transport/test_traffic.py::test_every_server_expects_all_that_is_under_way",
    ),
    Bug(
        "large frame: what goes beside one has no bound",
        "transport/traffic.py",
        "            return True  # it cannot speak, and is waited for",
        "            return False",
        "transport/test_traffic.py::"
        "test_what_exceeds_the_room_that_a_mute_call_has_left_waits_for_it",
    ),
    Bug(
        "large frame: a limit in seconds does not know of it",
        "session/patience.py",
        "more = excuse - self._excused",
        "more = 0.0",
        "session/test_patience.py::test_the_time_that_large_frames_take_is_added",
    ),
    Bug(
        "large frame: a server lingers no longer for it",
        "server/runner.py",
        "loop.time() + LINGER_SECONDS + seconds_for(self.session.under_way)",
        "loop.time() + LINGER_SECONDS",
        "server/test_lingering.py::test_after_the_last_frame_it_waits_for_what_is_on_its_way",
    ),
    # ------------------------------------------------------------------ what is kept, and for long
    Bug(
        "a kept failure counts for nothing",
        "protocol/client/ledger.py",
        "return self.replay.size + self._failed_bytes",
        "return self.replay.size",
        "protocol/test_memory.py::test_failed_inputs_fill_the_window_until_the_consumer_takes_them",
    ),
    Bug(
        "a kept failure counts for ever",
        "protocol/client/ledger.py",
        "self._failed_bytes -= failed_bytes",
        "pass",
        "protocol/test_memory.py::test_one_input_is_always_allowed_when_nothing_is_kept",
    ),
    Bug(
        "a kept input of unknown size counts for nothing",
        "session/pump.py",
        "if isinstance(payload, bytes) else payload.size",
        "if isinstance(payload, bytes) else 0",
        "session/test_pump.py::test_what_cannot_be_sent_counts_until_it_is_taken",
    ),
    Bug(
        "a kept run holds what was taken of it",
        "protocol/client/delivery.py",
        "del self._own[:limit]",
        "self.payloads = self.payloads[limit:]",
        "protocol/test_memory.py::test_outputs_are_kept_until_they_are_taken_and_no_longer",
    ),
    Bug(
        "a cancelled input is kept with its payload",
        "protocol/client/ledger.py",
        "self._stripped[number] = self.replay.strip(number)",
        "pass",
        "protocol/test_memory.py::"
        "test_a_cancelled_input_leaves_at_once_and_the_servers_window_does_not",
    ),
    Bug(
        "what was cancelled is kept in the server's window",
        "protocol/client/ledger.py",
        "size += self._stripped.pop(number, 0)",
        "self._stripped.pop(number, None)",
        "protocol/test_memory.py::"
        "test_a_cancelled_input_leaves_at_once_and_the_servers_window_does_not",
    ),
    Bug(
        "a call that waits is kept until its turn",
        "session/predictor.py",
        "            del self._waiting[call]\n            self.has_room()",
        "            pass",
        "session/test_predictor.py::test_calls_that_nobody_waits_for_leave_at_once_with_what_they_carried",
    ),
    Bug(
        "numbers are kept in as many ranges as they came in",
        "protocol/numbers.py",
        "begin = bisect_left(self._lasts, first - 1)",
        "begin = bisect_left(self._lasts, first)",
        "protocol/test_work.py::test_neither_end_grows_behind_one_slow_input",
    ),
    Bug(
        "closed inputs are kept behind an open one",
        "protocol/server/inputs.py",
        "if self._holes <= self._count + _SLACK:",
        "if True:",
        "protocol/test_work.py::test_neither_end_grows_behind_one_slow_input",
    ),
    Bug(
        "removed payloads are kept as holes",
        "protocol/runs.py",
        "if self._holes > self.count + _SLACK:",
        "if False:",
        "protocol/test_work.py::test_neither_end_grows_behind_one_slow_input",
    ),
    Bug(
        "a context is kept by what others share",
        "session/driver.py",
        "if self._kind not in _SHARED:",
        "if True:",
        "grpc/test_contexts.py",
    ),
    Bug(
        "hooks run in the context of what caused the event",
        "session/announcer.py",
        "return self._context.copy().run(call)",
        "return call()",
        "grpc/test_contexts.py",
    ),
    Bug(
        "an error keeps the inputs that were pulled with its own",
        "session/pump.py",
        'item, payload, checked = None, b"", b""\n            del payloads, items',
        "pass",
        "grpc/test_kept.py::test_an_error_that_is_kept_keeps_its_own_input_only",
    ),
    Bug(
        "an error of the inputs keeps those before it",
        "session/pump.py",
        'item, payload, checked = None, b"", b""\n            del payloads, items',
        "pass",
        "grpc/test_kept.py::test_an_error_of_the_inputs_that_is_kept_keeps_none_of_them",
    ),
    Bug(
        "a decoding error keeps its stream open",
        "session/stream.py",
        "del self  # or",
        "pass  # or",
        "grpc/test_kept.py::test_a_decoding_error_that_is_kept_does_not_keep_its_stream",
    ),
    Bug(
        "a decoding error keeps its blocking stream open",
        "sync.py",
        "del self  # or",
        "pass  # or",
        "grpc/test_kept.py::test_nor_does_one_of_a_blocking_stream",
    ),
    Bug(
        "a stream that is over keeps its inputs",
        "session/driver.py",
        "        self.session.drop_inputs()\n",
        "",
        "grpc/test_kept.py::test_a_stream_that_is_over_keeps_no_payloads",
    ),
    Bug(
        "a stream that was closed keeps its outputs",
        "session/driver.py",
        "        self._dropped = True\n        self.session.drop_outputs()\n",
        "",
        "grpc/test_kept.py::test_a_stream_that_is_over_keeps_no_payloads",
    ),
    Bug(
        "a connection that is given up after its last call stays",
        "transport/grpc_link.py",
        "connection.avoided = True\n        self._close_unneeded(connection)",
        "connection.avoided = True",
        "transport/test_connections.py::test_a_connection_that_is_given_up_after_its_last_call_is_closed",
    ),
    Bug(
        "the connection that is kept is one that takes no calls",
        "transport/grpc_link.py",
        "next((each for each in self._connections if not each.avoided), None)",
        "self._connections[0] and not connection.avoided",
        "transport/test_connections.py::test_a_connection_that_was_given_up_is_not_the_one_that_is_kept",
    ),
    Bug(
        "streams that leave stay in the breaker's queue",
        "session/breaker.py",
        "self._queue.pop(turn, None)",
        "pass",
        "session/test_breaker.py::test_of_a_stream_that_leaves_the_queue_nothing_stays_there",
    ),
    Bug(
        "inputs that were given back and cancelled are kept",
        "server/givenback.py",
        "        self._runs.remove_each(dropped)\n",
        "",
        "server/test_given_back.py::test_what_was_dropped_is_gone_at_once",
    ),
    Bug(
        "an input that does not fit the server is told in its turn",
        "session/exchange.py",
        "if session.ready or session.failed:",
        "if session.ready:",
        "grpc/test_hooks.py::test_an_item_that_does_not_fit_the_server_is_told_at_once",
    ),
    Bug(
        "a client that is dropped keeps its lanes",
        "session/predictor.py",
        "            if not lane.calls:\n                lane.retire()\n",
        "            pass\n",
        "grpc/test_predict.py::test_a_client_that_is_dropped_leaves_no_stream_behind",
    ),
    Bug(
        "a client that is dropped after a timeout keeps its lane",
        "session/predictor.py",
        "self.idle_seconds = 0.0",
        "pass",
        "grpc/test_predict.py::test_a_client_that_is_dropped_leaves_no_stream_behind",
    ),
    # ------------------------------------------------------------------ what events cost, and whom
    # they reach
    Bug(
        "a tick walks over everything that is computed",
        "server/workers.py",
        "        in_flight = self._in_flight.get(attempt)\n"
        "        if in_flight is None or not in_flight.count:",
        "        in_flight = self._in_flight.get(attempt)\n"
        "        sum(each.count for each in self._in_flight.values())\n"
        "        if in_flight is None or not in_flight.count:",
        "server/test_bounded_work.py::"
        "test_an_event_costs_the_same_however_much_there_is_besides[tick_beside_others]",
    ),
    Bug(
        "a cancellation walks over the calls of its stream",
        "server/inflight.py",
        "        found: dict[Call, list[int]] = {}\n",
        "        found: dict[Call, list[int]] = {}\n        [call for call in self.calls()]\n",
        "server/test_bounded_work.py::"
        "test_ten_thousand_handlers_of_one_stream_cost_no_more[cancelling_one_input]",
    ),
    Bug(
        "a stream whose worker leaves is forgotten",
        "server/workers.py",
        "        if self._has_work(attempt):\n            self._queue(attempt)\n\n    async def",
        "        pass\n\n    async def",
        "server/test_fair_queue.py::test_no_stream_is_left_alone",
    ),
    Bug(
        "what a hung thread gave back is cancelled in vain",
        "server/workers.py",
        "self._drop_given_back(attempt, numbers)\n        in_flight",
        "pass\n        in_flight",
        "server/test_fair_queue.py::test_an_input_that_was_given_back_and_is_cancelled_is_not_computed",
    ),
    Bug(
        "inputs of a batch have each a time of their own to be tried alone",
        "server/handlers/batches.py",
        "until = min(clock(), began + limit) + limit",
        "until = math.inf",
        "server/test_tries.py::test_none_ends_and_each_is_told_why",
    ),
    Bug(
        "an input that hangs uses up the time of its neighbours",
        "server/tries.py",
        "share = left * _SHARE if self._shared and not alone else math.inf",
        "share = math.inf",
        "server/test_tries.py::test_one_that_hangs_among_quick_ones_fails_alone",
    ),
    Bug(
        "one kit serves all event loops",
        "server/kits.py",
        "            kit = self._kits.get(loop)\n",
        "            kit = next(iter(self._kits.values()), None)\n",
        "server/test_kits.py::"
        "test_an_input_that_hangs_ends_although_another_event_loop_has_stopped_over_one",
    ),
    Bug(
        "a kit outlives its event loop",
        "server/agenda.py",
        "self._handle = weakref.ref(handle)",
        "self._handle = lambda: handle",
        "server/test_kits.py::test_a_kit_goes_with_its_event_loop",
    ),
    Bug(
        "a drain misses the stream that is being admitted",
        "server/kit.py",
        "            self._check_leaving()  # it may have begun to, meanwhile\n",
        "",
        "server/test_kits.py::"
        "test_a_stream_that_is_being_admitted_when_its_server_drains_is_refused",
    ),
    Bug(
        "who is asked to leave before the welcome stays",
        "server/runner.py",
        "                        self._tick_later()\n"
        "                        self._ask_to_leave()\n",
        "                        self._tick_later()\n",
        "server/test_kits.py::"
        "test_a_stream_that_is_asked_to_leave_before_its_welcome_is_drained_right_after_it",
    ),
    Bug(
        "user code runs in the midst of whatever has hired its worker",
        "server/workers.py",
        "if self._starting is call:",
        "if False:",
        "server/test_eager_tasks.py::test_many_places_are_no_deep_stack",
    ),
    Bug(
        "the one who gathers is noted after the task was made",
        "server/batch_workers.py",
        "            call = self._gatherer = self._new_call()\n"
        "            self._start_worker(call, attempt)\n",
        "            call = self._new_call()\n"
        "            self._starting = None\n"
        "            self._start_worker(call, attempt)\n"
        "            asyncio.get_running_loop().call_later(\n"
        '                0.01, setattr, self, "_gatherer", call\n'
        "            )\n",
        "server/test_eager_tasks.py::test_every_stream_is_served_again_and_again",
    ),
    Bug(
        "each of those that wait with a large frame looks at all calls",
        "transport/traffic.py",
        "if expected <= self._asked_for and self._lacks",
        "if not expected and self._lacks",
        "transport/test_traffic.py::test_an_acknowledgement_costs_each_that_waits_the_same",
    ),
    Bug(
        "a call that takes back its word is not asked again",
        "transport/traffic.py",
        "self._asked_for = 0  # it",
        "pass  # it",
        "transport/test_traffic.py::test_whoever_keeps_a_large_frame_waiting_was_asked",
    ),
    Bug(
        "a call that asked the others is not asked itself",
        "transport/traffic.py",
        "            self._lacks(self._asked_by, line, expected)\n",
        "",
        "transport/test_traffic.py::test_whoever_keeps_a_large_frame_waiting_was_asked",
    ),
    # ------------------------------------------------------------------ turns of the event loop
    Bug(
        "a spent turn is not renewed for those who wait",
        "turns.py",
        "        if self._waiting:\n            self._renew_soon()",
        "        if False:\n            self._renew_soon()",
        "test_turns.py::test_quick_ones_that_had_to_wait_go_on_soon",
    ),
    Bug(
        "those who come later go before those who wait",
        "turns.py",
        "self._waiting.insert(place, waiter)",
        "self._waiting.insert(0, waiter)",
        "test_turns.py::test_those_who_wait_are_served_as_they_came",
    ),
    Bug(
        "a waiter that is cancelled keeps its turn",
        "turns.py",
        "                self._woken -= 1\n",
        "                self._woken -= not waiter.cancelled() and self._left > 0\n",
        "test_turns.py::test_whoever_is_cancelled_while_waiting_holds_up_nobody",
    ),
    Bug(
        "a budget is given anew in the turn in which it was spent",
        "turns.py",
        "if self._renewed_early and self._left <= 0:",
        "if False:",
        "test_turns.py::test_what_is_spent_after_the_renewal_was_decided_counts",
    ),
    Bug(
        "a handler that never waits keeps the loop for a whole run",
        "server/handlers/items.py",
        "if look and clock() >= until:",
        "if False:",
        "server/test_stalls.py::test_the_loop_turns_after_each_slow_piece",
    ),
    Bug(
        "a handler's inputs are decoded and encoded for a whole run",
        "server/handlers/items.py",
        "                if clock() >= stretch.until:\n                    return\n"
        "                stretch.careful",
        "                stretch.careful",
        "server/test_stalls.py::test_two_pieces_keep_the_loop_at_the_most_wherever_and_whenever_they_are_slow",
    ),
    Bug(
        "an input is begun and ended before anybody looks at the clock",
        "server/handlers/items.py",
        "if (stretch.careful or always or not look) and clock() >= stretch.until:",
        "if (stretch.careful or always) and clock() >= stretch.until:",
        "server/test_stalls.py::test_two_pieces_keep_the_loop_at_the_most_wherever_and_whenever_they_are_slow",
    ),
    Bug(
        "an input that fails passes the place where one looks at the clock",
        "server/handlers/items.py",
        "                look = True  # what failed passed a place where one looks\n",
        "",
        "server/test_stalls.py::test_two_pieces_keep_the_loop_at_the_most_wherever_and_whenever_they_are_slow",
    ),
    Bug(
        "handlers that wait for the first time go on together",
        "server/handlers/items.py",
        "if self._waits or turn.unmetered:",
        "if self._waits:",
        "server/test_stalls.py::test_handlers_that_wait_for_the_first_time_do_not_go_on_together",
    ),
    Bug(
        "what goes on unmetered after waiting is charged to nobody",
        "server/handlers/items.py",
        "                self.turn.spend(BUDGET_SECONDS)\n",
        "                pass\n",
        "server/test_stalls.py::test_two_pieces_keep_the_loop_at_the_most_wherever_and_whenever_they_are_slow",
    ),
    Bug(
        "beside code that goes on unmetered others call two pieces",
        "server/handlers/items.py",
        "partial(_in_turns, turn, self._predict), turn.unmetered",
        "partial(_in_turns, turn, self._predict), False",
        "server/test_stalls.py::test_two_pieces_keep_the_loop_at_the_most_wherever_and_whenever_they_are_slow",
    ),
    Bug(
        "handlers whose awaited future failed go on together",
        "turns.py",
        "            failure = error\n        if turn.busy:",
        "            return error\n        if turn.busy:",
        "server/test_stalls.py::test_two_pieces_keep_the_loop_at_the_most_wherever_and_whenever_they_are_slow",
    ),
    Bug(
        "handlers that waited go on together",
        "server/handlers/items.py",
        "        self._waits = True  # as far as is known",
        "        self._waits = False\n        self.__class__._waits = property(lambda _: False)",
        "server/test_stalls.py::test_the_loop_turns_after_each_slow_piece",
    ),
    Bug(
        "a batch is decoded in one go",
        "server/handlers/batches.py",
        "            if turn.clock() >= until:\n"
        "                until = turn.enter() or await wait_for_turn(turn, parts)\n"
        "            values.append(",
        "            values.append(",
        "server/test_stalls.py::test_the_loop_turns_after_each_slow_piece",
    ),
    Bug(
        "answers are encoded in one go",
        "server/handlers/answers.py",
        "            if turn.clock() >= until:\n                turn.leave()",
        "            if False:\n                turn.leave()",
        "server/test_stalls.py::test_the_loop_turns_after_each_slow_piece",
    ),
    Bug(
        "a consumer decodes a whole run in one go",
        "session/stream.py",
        "if self._clock() >= self._until:",
        "if not self._until:",
        "grpc/test_shared_loops.py::test_a_consumer_lets_the_loop_turn_after_each_slow_output",
    ),
    Bug(
        "all callers decode when their answers come together",
        "session/predictor.py",
        "if turn.busy and self._quick_outputs < _QUICK:",
        "if False:",
        "grpc/test_shared_loops.py::test_many_calls_that_wake_up_together_share_the_turns_of_the_loop",
    ),
    Bug(
        "an admit() that raises no Exception is met with silence",
        "server/admission.py",
        "        except BaseException as error:\n            self._not_admitted(",
        "        except Exception as error:\n            self._not_admitted(",
        "grpc/test_user_code.py::test_whatever_admit_raises_is_said_at_once",
    ),
    Bug(
        "what a result says of its length is believed",
        "server/handlers/batches.py",
        "    if len(listed) != wanted:",
        "    if False:",
        "grpc/test_user_code.py::test_a_batch_result_that_lies_fails_its_own_inputs",
    ),
    # ------------------------------------------------------------------ user code at the client
    Bug(
        "what other people's code raised is kept in a cycle where it passes",
        "usercode.py",
        "            del error  # its traceback refers to this frame, and to those",
        "            pass  # its traceback refers to this frame, and to those",
        "test_usercode.py::test_what_passes_keeps_nothing_of_where_it_came_from",
    ),
    Bug(
        "control flow out of plain inputs ends the stream quietly",
        "usercode.py",
        "if not is_a(error, _CONTROL_FLOW):",
        "if True:",
        "grpc/test_user_code.py::test_control_flow_out_of_plain_inputs_is_no_end_of_the_stream",
    ),
    Bug(
        "what is only called hears of its task's cancellation",
        "usercode.py",
        "cancelled = awaited and is_a(error",
        "cancelled = is_a(error",
        "grpc/test_user_code.py::test_a_codecs_cancelled_error_is_not_the_tasks_own",
    ),
    Bug(
        "only an Exception of a hook is contained",
        "session/announcer.py",
        "hook.on_event(event)\n            except BaseException as error:",
        "hook.on_event(event)\n            except Exception as error:",
        "grpc/test_hooks.py::"
        "test_a_hook_that_raises_at_the_attempt_that_probes_for_all_stops_nobody",
    ),
    Bug(
        "an admission is kept by what is interrupted",
        "session/breaker.py",
        "def __exit__(self, *_: object) -> None:\n        self.left()",
        "def __exit__(self, *_: object) -> None:\n        pass",
        "session/test_breaker.py::test_an_admission_is_given_back_once_whatever_happens",
    ),
    Bug(
        "an admission is given back twice",
        "session/breaker.py",
        "return was_pending",
        "return True",
        "session/test_breaker.py::test_an_admission_is_given_back_once_whatever_happens",
    ),
    Bug(
        "what nobody foresaw reaches users bare",
        "session/driver.py",
        "failure = unforeseen(bug)",
        "failure = bug",
        "session/test_driver.py::test_a_bug_in_the_transport_surfaces_and_does_not_hang",
    ),
    Bug(
        "nobody misses a writer that ended",
        "session/exchange.py",
        "self._fail(end_of_task(error))",
        "pass",
        "session/test_unforeseen.py::test_a_writer_that_is_cancelled_from_outside_is_no_silence",
    ),
    Bug(
        "a task that never came to run settles nothing",
        "session/driver.py",
        "self._task.add_done_callback(self._ended, context=self.context)",
        "pass",
        "session/test_unforeseen.py::test_a_stream_whose_task_never_came_to_run_has_ended",
    ),
    Bug(
        "inputs that nobody pulls any more seem exhausted",
        "session/pump.py",
        "if not self._finished and self.error is None:",
        "if False:",
        "session/test_pump.py::test_a_pump_may_be_cancelled_wherever_it_waits",
    ),
    # ------------------------------------------------------------------ patience
    Bug(
        "time in which a server had the stream counts as an outage",
        "session/outage.py",
        "self._running_since, self._standing_since = math.inf, now",
        "self._standing_since = now",
        "session/test_outage.py::test_it_stands_still_while_a_server_has_the_stream",
    ),
    Bug(
        "the bucket knows no deadline",
        "session/breaker.py",
        "late = now + delay > deadline",
        "late = False",
        "session/test_breaker.py::"
        "test_what_waits_for_a_token_ends_at_its_deadline_and_leaves_the_token_to_others",
    ),
    Bug(
        "calls wait once for each lane",
        "session/predictor.py",
        "return self._last_outage.heir(now, at_most=now - call.made)",
        "return None",
        "session/test_deadlines.py::test_a_call_made_later_has_its_patience_whole",
    ),
    Bug(
        "a later call shares an outage that began before it",
        "session/predict_lane.py",
        "(self._inherits and call.made > self._opened)",
        "False",
        "session/test_deadlines.py::test_a_call_made_later_has_its_patience_whole",
    ),
    Bug(
        "a new target is given up by the count alone",
        "session/retry.py",
        "return too_often and now >= last_look(self._policy, self._outage)",
        "return too_often",
        "session/test_deadlines.py::test_a_server_that_comes_up_late_is_found",
    ),
    Bug(
        "the patience with a new target ends in a wait",
        "session/retry.py",
        "if now < look:",
        "if False:",
        "session/test_retry.py::test_a_target_never_welcomed_is_tried_for_a_time_too_and_once_more_at_its_end",
    ),
    # ---- the surroundings of the process
    Bug(
        "gRPC's own iterator of an intercepted call is not closed",
        "transport/intercepted.py",
        "(call, outgoing.innermost)",
        "(call, None)",
        "grpc/test_garbage.py::test_nor_under_an_interceptor[call-garbage]",
    ),
    Bug(
        "an interceptor that raises GeneratorExit on the way out is heard of by nobody",
        "transport/intercepted.py",
        "describe(_raised(error, task))\n            call.cancel()",
        "describe(contained(error, _SOURCE, awaited=True))\n            call.cancel()",
        "grpc/test_interceptors.py::test_one_that_closes_itself_is_named[request]",
    ),
    Bug(
        "metadata that interceptors add are not counted",
        "transport/grpc_link.py",
        "        return outgoing.metadata_bytes\n",
        "        return self._metadata_bytes\n",
        "grpc/test_interceptors.py::test_metadata_that_one_adds_count[20000]",
    ),
    Bug(
        "what an interceptor returns is cancelled, whatever it is",
        "transport/intercepted.py",
        '        logger.debug("cancelling: %s"',
        '        raise\n        logger.debug("cancelling: %s"',
        "grpc/test_interceptors.py::test_what_cannot_be_cancelled_harms_nothing",
    ),
    Bug(
        "whether there are interceptors shows in a call made in vain",
        "transport/grpc_link.py",
        "self.intercepted = has_interceptors(self.stub.Stream)",
        "self.intercepted = False",
        "grpc/test_interceptors.py::test_no_call_is_made_in_vain_where_tasks_begin_at_once",
    ),
    Bug(
        "a call with interceptors is written by gRPC itself, which hides refusals",
        "transport/intercepted.py",
        "if isinstance(others, list):\n        setattr(",
        "if False:\n        setattr(",
        "grpc/test_interceptors.py::test_a_refusal_keeps_its_reason",
    ),
    Bug(
        "an interceptor that ends the responses is taken for the call's end",
        "transport/intercepted.py",
        "    if not call.done():\n",
        "    if False:\n",
        "grpc/test_interceptors.py::test_one_that_ends_the_responses_itself_is_believed",
    ),
    Bug(
        "this machine is reached by the environment's proxy",
        "transport/grpc_link.py",
        "if is_local_target(target):",
        "if False:",
        "transport/test_proxies.py::test_this_machine_is_reached_without_any",
    ),
    Bug(
        "a client closed in the loop's thread waits for it",
        "portal.py",
        "return _here.is_loop or _here.crossings > 0",
        "return False",
        "grpc/test_own_thread.py::test_a_client_closed_there_is_given_back",
    ),
    Bug(
        "an unused client belongs to the process that made it",
        "portal.py",
        "self._pid: int | None = None",
        "self._pid: int | None = os.getpid()",
        "grpc/test_scripts.py::test_clients_made_and_not_used_before_a_fork_work_on_both_sides",
    ),
    Bug(
        "a cancelled stream leaves its call to the garbage collector",
        "session/driver.py",
        "                _drop_frames(error)\n",
        "                pass\n",
        "grpc/test_garbage.py::test_ends_of_all_kinds_leave_no_call",
    ),
    Bug(
        "what Kubernetes sets is taken for a setting",
        "environment.py",
        "return _OF_KUBERNETES.fullmatch(name) is not None",
        "return False",
        "test_environment.py::test_what_kubernetes_sets_for_a_service_of_that_name_is_ignored",
    ),
    # What user code returns or raises is not asked for its class.
    Bug(
        "a lying exception out of a handler fails its neighbours",
        "server/handlers/answers.py",
        "    if is_a(failure, SystemExit):\n",
        "    if isinstance(failure, SystemExit):\n",
        "grpc/test_user_code.py::test_a_handlers_exception_that_lies_is_its_items_error",
    ),
    Bug(
        "a lying exception out of admit hides what it was",
        "server/admission.py",
        "        if is_a(error, Refuse):\n",
        "        if isinstance(error, Refuse):\n",
        "grpc/test_user_code.py::test_an_admits_exception_that_lies_is_said",
    ),
    Bug(
        "an output whose class has no hash fails its neighbours",
        "server/handlers/answers.py",
        "(kinds)\n    except BaseException as error:\n",
        "(kinds)\n    except ValueError as error:\n",
        "grpc/test_user_code.py::test_an_output_whose_class_has_no_hash_is_its_items_error",
    ),
    Bug(
        "the metadata of hooks are sent as the subclasses that they are",
        "session/announcer.py",
        "                pairs = exact(pairs)\n",
        "",
        "grpc/test_hooks.py::test_metadata_are_sent_without_asking_them",
    ),
)


class Outcome(Enum):
    """What became of a run of tests."""

    PASSED = "missed"
    FAILED = "caught"
    HUNG = "caught, by a test that hangs"


def run_tests(tests: Iterable[str], bug: Bug | None = None) -> Outcome:
    """Run tests in a copy of the code, with a bug planted or without."""
    with tempfile.TemporaryDirectory() as directory:
        copy = Path(directory)
        for name in ("servestream_client", "tests"):
            ignored = shutil.ignore_patterns("__pycache__", "ray", "benchmarks")
            shutil.copytree(ROOT / name, copy / name, ignore=ignored)
        shutil.copy(ROOT / "pyproject.toml", copy)
        if bug is not None:
            bug.plant(copy / "servestream_client")
        limit = (f"--timeout={TEST_SECONDS}", "--timeout-method=thread")
        try:
            run = subprocess.run(
                [
                    *(sys.executable, "-m", "pytest", "-x", "-q", "--no-header", "--tb=no"),
                    *("-p", "no:cacheprovider", "-p", "no:randomly", *limit),
                    *(f"tests/{test}" for test in tests),
                ],
                cwd=copy,
                # The copy stands before what is installed; were it not so, all would be missed.
                env={**os.environ, "PYTHONPATH": directory},
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                timeout=RUN_SECONDS,
                check=False,
            )
        except subprocess.TimeoutExpired:
            return Outcome.HUNG
    if run.returncode == pytest.ExitCode.OK:
        return Outcome.PASSED
    if run.returncode != pytest.ExitCode.TESTS_FAILED:
        raise SystemExit(f"{bug.name if bug else 'nothing planted'}: no test ran\n{run.stdout}")
    if bug is None:
        print(run.stdout)
    return Outcome.HUNG if "+ Timeout +" in run.stdout else Outcome.FAILED


def as_markdown() -> str:
    """The table of bugs, for people."""
    rows = ["| what is broken | in | a test that fails |", "|---|---|---|"]
    for bug in BUGS:
        module, _, test = bug.test.partition("::")
        said = test.partition("[")[0].removeprefix("test_").replace("_", " ")
        rows.append(f"| {bug.name} | `{bug.path}` | `{module}`: {said} |")
    return "\n".join(rows)


def summary(bugs: Iterable[Bug], missed: Iterable[Bug]) -> Table:
    """How many bugs were planted in each file, and missed."""
    planted, lacking = Counter(b.path for b in bugs), Counter(b.path for b in missed)
    table = Table("in", "planted", "caught", "missed")
    for path, count in planted.items():
        table.add_row(path, str(count), str(count - lacking[path]), str(lacking[path] or ""))
    table.add_section()
    total, left = planted.total(), lacking.total()
    table.add_row("all", str(total), str(total - left), str(left or ""))
    return table


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", default="", help="plant only bugs whose name has this")
    parser.add_argument(
        "--check", action="store_true", help="only see that each still has its place, and its test"
    )
    parser.add_argument(
        "--markdown", action="store_true", help="only print what is broken, where, and the test"
    )
    parser.add_argument("--jobs", type=int, default=2, help="test runs at a time")
    options = parser.parse_args()
    if options.markdown:
        print(as_markdown())
        return 0
    console = Console(highlight=False, soft_wrap=True)
    bugs = [bug for bug in BUGS if options.only in bug.name]
    if not bugs:
        parser.error(f"no bug has {options.only!r} in its name")
    stale = [(bug, bug.stale) for bug in bugs if bug.stale]
    for bug, why in stale:
        console.print(f"{bug.name}: {why}", style="red", markup=False)
    if stale or options.check:
        return 1 if stale else 0
    began = time.monotonic()
    with console.status("the tests, with nothing planted"):
        unbroken = run_tests(sorted({bug.test for bug in bugs}))
    if unbroken is not Outcome.PASSED:
        console.print("these tests fail although nothing is planted", style="red")
        return 1
    missed: list[Bug] = []
    pool = ThreadPoolExecutor(options.jobs)
    try:
        runs = {pool.submit(run_tests, [bug.test], bug): bug for bug in bugs}
        for run in track(as_completed(runs), "planted", total=len(bugs), console=console):
            bug, outcome = runs[run], run.result()
            if outcome is Outcome.PASSED:
                missed.append(bug)
            console.print(f"{bug.name} ({bug.path}): {outcome.value}")
    finally:
        pool.shutdown(cancel_futures=True)
    console.print(summary(bugs, missed))
    for bug in missed:
        console.print(f"missed: {bug.name} ({bug.path}), by {bug.test}", style="red", markup=False)
    console.print(f"{len(missed)} of {len(bugs)} missed, in {time.monotonic() - began:.0f} s")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
