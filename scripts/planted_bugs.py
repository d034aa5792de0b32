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
    def places(self) -> int:
        """How often `old` stands in the file."""
        return (ROOT / "servestream_client" / self.path).read_text().count(self.old)

    def plant(self, package: Path) -> None:
        """Break a copy of the package."""
        target = package / self.path
        target.write_text(target.read_text().replace(self.old, self.new))


BUGS = (
    # ------------------------------------------------------------------ the client's session
    Bug(
        "an input is lost at replay",
        "protocol/client.py",
        "for number, payload in self._replay:",
        "for number, payload in list(self._replay)[1:]:",
        "protocol/test_client.py::test_a_resume_sends_exactly_the_unanswered_under_their_old_numbers",
    ),
    Bug(
        "a duplicate is taken for a breach",
        "protocol/client.py",
        "if not 1 <= number <= self._last_number:",
        "if True:",
        "protocol/test_client.py::test_duplicates_are_dropped_and_counted",
    ),
    Bug(
        "gaps are not noticed",
        "protocol/client.py",
        "if self._in_order and number != self._turn(attempt):",
        "if False:",
        "protocol/test_client.py::"
        "test_a_gap_between_inputs_is_the_servers_error_and_what_came_before_is_kept",
    ),
    Bug(
        "the end is not checked",
        "protocol/client.py",
        "if said != known or attempt.in_flight_items:",
        "if False:",
        "protocol/test_client.py::test_an_end_that_does_not_add_up_is_the_servers_error",
    ),
    Bug(
        "frames of an older attempt are believed",
        "protocol/client.py",
        "if current is None or current.number != attempt:",
        "if current is None:",
        "protocol/test_client.py::test_a_late_frame_of_an_older_attempt_changes_nothing",
    ),
    Bug(
        "a wrong application's welcome is accepted",
        "protocol/client.py",
        'if self.application and welcome.application not in ("", self.application):',
        "if False:",
        "protocol/test_client.py::test_a_server_that_does_not_fit_is_left",
    ),
    Bug(
        "progress goes unnoticed",
        "protocol/client.py",
        "self.counters.received += len(payloads)\n        attempt.progressed = True",
        "self.counters.received += len(payloads)",
        "session/test_driver.py::"
        "test_progress_carries_a_stream_through_any_number_of_breaks[INTERNAL]",
    ),
    Bug(
        "halves of different answers are spliced",
        "protocol/client.py",
        "if self.welcome is not None and self.welcome.restartable:",
        "if self.welcome is not None:",
        "protocol/test_client.py::"
        "test_halves_are_not_spliced_when_the_next_server_turns_out_unable_to_go_on",
    ),
    Bug(
        "inputs that were never sent are suspected",
        "protocol/client.py",
        "if number <= attempt.sent_through and not self._elsewhere(number)",
        "if not self._elsewhere(number)",
        "protocol/test_client.py::test_suspects_are_what_this_server_has_got_and_not_answered",
    ),
    Bug(
        "outputs count as taken before they are",
        "protocol/client.py",
        "return OutputRun(first, head.payloads[begin:end])",
        "self._held_outputs -= limit\n        return OutputRun(first, head.payloads[begin:end])",
        "protocol/test_client.py::test_a_run_holds_its_credit_until_it_is_released",
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
        "self._runs.insert(len(self._runs) if position is None else position, run)",
        "self._runs.append(run)",
        "protocol/test_runs.py::test_what_is_put_back_is_taken_first",
    ),
    Bug(
        "an input that is removed takes those behind it along",
        "protocol/runs.py",
        "for part in (after, before):",
        "for part in (before,):",
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
        "return (self._read - self._reported) * 2 >= self.limit",
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
        "protocol/server.py",
        "if self._ordered and run.first != self._order.turn:",
        "if False:",
        "protocol/test_server.py::"
        "test_ordered_answers_keep_the_order_of_inputs_however_handlers_finish",
    ),
    Bug(
        "a failure overtakes the answers before it",
        "protocol/server.py",
        "if self._ordered and work.number != self._order.turn:",
        "if False:",
        "protocol/test_server.py::test_an_ordered_cancelled_input_answers_in_its_turn",
    ),
    Bug(
        "what was put back counts as started",
        "protocol/server.py",
        "self._started_through = run.first - 1",
        "pass",
        "protocol/test_server.py::test_what_was_put_back_is_no_longer_started",
    ),
    Bug(
        "what was cancelled and put back is started again",
        "protocol/server.py",
        "for number in self._cancelled.intersection(range(run.first, run.last + 1)):",
        "for number in ():",
        "protocol/test_server.py::test_what_is_put_back_after_it_was_cancelled_never_starts",
    ),
    Bug(
        "a cancelled input is forgotten while it waits for its place",
        "protocol/server.py",
        'self.fail(number, ItemErrorKind.CANCELLED, "cancelled before it was started")',
        "self._close(number)",
        "protocol/test_server.py::test_a_cancelled_input_that_has_not_started_never_does",
    ),
    Bug(
        "the server computes ahead without a bound",
        "protocol/server.py",
        "return self._held_bytes >= self._offer.ahead_bytes",
        "return False",
        "protocol/test_server.py::test_too_much_waiting_output_stops_the_next_input",
    ),
    Bug(
        "the input for which the others wait is held up by them",
        "protocol/server.py",
        "not self.full or (bool(self._early)",
        "not self.full or (False",
        "protocol/test_server.py::"
        "test_the_inputs_for_which_early_output_waits_start_one_by_one_although_it_is_too_much",
    ),
    Bug(
        "more than the input for which the others wait is started",
        "protocol/server.py",
        "self._unstarted.take(1 if self.full else limit)",
        "self._unstarted.take(limit)",
        "protocol/test_server.py::"
        "test_the_inputs_for_which_early_output_waits_start_one_by_one_although_it_is_too_much",
    ),
    Bug(
        "the window is not enforced",
        "protocol/server.py",
        "self._check_each(run.first_number, sizes)",
        "pass",
        "protocol/test_server.py::test_the_window_is_enforced_within_a_run",
    ),
    # ------------------------------------------------------------------ the driver and its retries
    Bug(
        "status OK is taken for complete",
        "session/driver.py",
        "        if session.complete and session.accepted:\n",
        "        if session.complete or (await link.status()).code == 'OK':\n",
        "session/test_driver.py::test_progress_carries_a_stream_through_any_number_of_breaks[OK]",
    ),
    Bug(
        "a connect counts as progress",
        "session/driver.py",
        "progressed=session.progressed or",
        "progressed=session.welcome is not None or",
        "session/test_driver.py::test_connecting_is_not_progress",
    ),
    Bug(
        "inputs travel to a server that did not welcome the attempt before",
        "session/driver.py",
        "self._alone |= not welcomed",
        "pass",
        "session/test_driver.py::test_inputs_travel_with_the_open_only_to_who_welcomed_before",
    ),
    Bug(
        "after one attempt without a welcome every open travels alone",
        "session/driver.py",
        "self._welcomes = session.counters.welcomes\n            self._alone = False",
        "self._welcomes = session.counters.welcomes",
        "session/test_driver.py::test_inputs_travel_with_the_open_only_to_who_welcomed_before",
    ),
    Bug(
        "a busy server remains a stranger",
        "session/driver.py",
        "self.target.known |= verdict.decision is not Decision.FAIL",
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
        "stop_after_attempt(policy.connect_attempts)",
        "too_often",
        "session/test_retry.py::test_a_target_that_never_answered_is_given_up_sooner",
    ),
    Bug(
        "a restart is taken for a wrong address",
        "transport/classify.py",
        "or (row.strangers_only and not stranger)",
        "",
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
        "self.error = error",
        "self.error = None",
        "session/test_pump.py::test_what_came_before_an_error_of_the_inputs_is_pushed",
    ),
    Bug(
        "inputs are pushed whether they fit or not",
        "session/pump.py",
        "while not self._session.fits(len(payload)):",
        "while False:",
        "session/test_pump.py::test_an_input_larger_than_the_window_waits_for_those_before_it",
    ),
    Bug(
        "inputs are pulled beyond their places",
        "session/pump.py",
        "longest = min(self._run_length, places)",
        "longest = self._run_length",
        "session/test_pump.py::test_inputs_are_pulled_as_far_as_there_are_places",
    ),
    Bug(
        "plain inputs keep the event loop to themselves",
        "session/pump.py",
        "await asyncio.sleep(0)",
        "pass",
        "session/test_pump.py::test_others_have_their_turn_between_runs",
    ),
    Bug(
        "runs of inputs grow although each takes its time",
        "session/pump.py",
        "if seconds > _RUN_SECONDS:",
        "if False:",
        "session/test_pump.py::test_runs_shrink_where_each_item_takes_its_time",
    ),
    Bug(
        "a codec that raises CancelledError ends the stream",
        "session/pump.py",
        "if isinstance(error, asyncio.CancelledError) and not being_cancelled():",
        "if False:",
        "session/test_pump.py::test_a_codec_that_raises_cancelled_fails_its_input",
    ),
    Bug(
        "a failure overtakes outputs that had arrived",
        "session/stream.py",
        "            run = driver.session.take_run(self._longest_run)\n",
        "            if driver.error is not None:\n"
        "                self._conclude(driver.error)\n"
        "            run = driver.session.take_run(self._longest_run)\n",
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
        "session/predictor.py",
        "self._predictor.has_room()",
        "pass",
        "grpc/test_predict.py::test_more_calls_than_fit_wait_for_their_turn",
    ),
    Bug(
        "an idle stream is never given back",
        "session/predictor.py",
        "loop.call_later(self._predictor.idle_seconds, self.retire)",
        "loop.call_later(3600.0, self.retire)",
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
        "raise StreamTimeoutError(text, call.delivered()) from error",
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
        "session/predictor.py",
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
        "self._silence = 0\n\n    def spoke",
        "pass\n\n    def spoke",
        "protocol/test_heartbeats.py::test_an_idle_link_carries_heartbeats_both_ways_and_nothing_else",
    ),
    Bug(
        "a half-open link is not left",
        "session/driver.py",
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
        "protocol/client.py",
        "if beat.outputs > received:",
        "if False:",
        "protocol/test_heartbeats.py::test_a_server_that_sent_what_never_came_is_left",
    ),
    Bug(
        "duplicates are taken for a gap",
        "protocol/client.py",
        "if beat.outputs > received:",
        "if beat.outputs != received:",
        "protocol/test_heartbeats.py::test_duplicates_make_no_gap",
    ),
    Bug(
        "a server that thinks all is answered is believed",
        "protocol/client.py",
        "if running.blocked_on is BlockedOn.INPUT:",
        "if False:",
        "protocol/test_heartbeats.py::"
        "test_a_server_that_owes_nothing_although_inputs_lack_an_answer_is_left",
    ),
    Bug(
        "a server that waits for what was lost is waited for",
        "protocol/client.py",
        "if attempt.stalls(beat, running) >= STALLED_BEATS:",
        "if False:",
        "protocol/test_heartbeats.py::test_a_server_that_waits_for_what_was_lost_is_left",
    ),
    Bug(
        "a farewell is given the time of a drain",
        "session/driver.py",
        "if limit < self._limit:",
        "if self._limit == math.inf and limit < math.inf:",
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
        "server/workers.py",
        "return stuck if now < stuck else math.inf",
        "return max(now, stuck)",
        "server/test_handlers.py::test_a_place_that_is_kept_for_long_costs_no_time",
    ),
    Bug(
        "what waits for credit is reported as a busy handler",
        "protocol/server.py",
        "if self._outbox and not self._credit.allows_output:",
        "if False:",
        "protocol/test_heartbeats.py::test_a_server_that_waits_for_credit_says_so",
    ),
    Bug(
        "a hung input is left to hang",
        "server/workers.py",
        "self._sweeper = loop.call_at(due, self._sweep)",
        "pass",
        "grpc/test_watchdog.py::test_a_hung_input_is_that_inputs_error",
    ),
    Bug(
        "a handler that will not be cancelled keeps its input",
        "server/workers.py",
        "forsake(self._held, text)",
        "pass",
        "grpc/test_watchdog.py::"
        "test_a_handler_that_will_not_be_cancelled_costs_its_place_and_no_more",
    ),
    Bug(
        "inputs behind one that hangs in a thread are lost",
        "server/handlers.py",
        "call.again(Part(part.attempt, part.run.split(reached + 1)))",
        "part.run.split(reached + 1)",
        "server/test_handlers.py::test_of_a_run_in_a_thread_only_the_input_that_hangs_fails",
    ),
    Bug(
        "a replica all of whose places are kept says that it is well",
        "server/kit.py",
        "if self.workers.stuck:",
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
        "if not (broken.counted and session.may_set_aside):",
        "if not session.may_set_aside:",
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
        "lane.session.push_at(suspect.number, suspect.payload)",
        "lane.session.push(suspect.payload)",
        "grpc/test_poison.py::test_one_is_found_wherever_it_stands",
    ),
    Bug(
        "answers overtake an input that is tried alone",
        "protocol/client.py",
        "if not self._replay.may_answer(number):\n            self._answered_early(attempt, number,"
        " _Early(payload, None, None, sent=True), last=last)\n            return\n",
        "pass\n",
        "protocol/test_client.py::test_answers_behind_an_input_that_was_set_aside_wait_for_it",
    ),
    Bug(
        "the end is sent while inputs are tried alone",
        "protocol/client.py",
        "if not self._aside and self._all_sent(attempt):",
        "if self._all_sent(attempt):",
        "protocol/test_client.py::test_an_input_that_was_set_aside_goes_on_no_attempt",
    ),
    Bug(
        "a stream that is left goes on trying its suspects",
        "session/driver.py",
        "self.companion.end()",
        "pass",
        "grpc/test_poison.py::test_a_stream_that_is_dropped_ends_what_is_tried_alone",
    ),
    # ------------------------------------------------------------------ storms
    Bug(
        "every stream probes for itself",
        "session/gate.py",
        "if self._state is _State.CLOSED and not self._probing:",
        "if self._state is _State.CLOSED:",
        "session/test_gate.py::"
        "test_an_outage_costs_one_probe_now_and_then_and_each_stream_comes_back_once",
    ),
    Bug(
        "after an outage all streams come at once",
        "session/gate.py",
        "_State.OPENING, 0, 1",
        "_State.OPENING, 0, 1000",
        "session/test_gate.py::test_after_an_outage_streams_come_back_in_growing_numbers",
    ),
    Bug(
        "a probe that is called off is nobody's any more",
        "session/gate.py",
        "self._wake(1)  # who goes on with it",
        "pass",
        "session/test_gate.py::test_a_stream_that_leaves_hands_on_what_it_was_doing",
    ),
    Bug(
        "fruitless attempts take no tokens",
        "session/gate.py",
        "self.tokens -= 1",
        "pass",
        "session/test_gate.py::test_fruitless_attempts_take_tokens_that_time_gives_back",
    ),
    # ------------------------------------------------------------------ leaving
    Bug(
        "health checks that cease are not heeded",
        "server/kit.py",
        "self._overdue = loop.call_at(overdue, self._forgotten)",
        "pass",
        "grpc/test_leaving.py::test_health_checks_that_cease_move_each_stream_once",
    ),
    Bug(
        "a server that leaves takes further streams",
        "server/kit.py",
        "self._leaving = True",
        "pass",
        "grpc/test_leaving.py::test_a_server_that_leaves_takes_no_further_streams",
    ),
    Bug(
        "a server whose grace is over goes on",
        "server/runner.py",
        "self._timers.append(asyncio.get_running_loop().call_later(grace, self._grace_over))",
        "pass",
        "grpc/test_leaving.py::test_a_grace_that_is_over_ends_the_attempt",
    ),
    Bug(
        "old attempts stay",
        "session/driver.py",
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
        "server/workers.py",
        "self._waiting[attempt] = None  # behind the others",
        "pass",
        "server/test_workers.py::test_inputs_are_handled_although_nothing_can_be_sent_yet[items]",
    ),
    Bug(
        "cancelled handlers run on",
        "server/workers.py",
        "if not any(self._wanted.values()) and not self._stopped and self._task is not None:",
        "if False:",
        "server/test_workers.py::test_a_call_none_of_whose_inputs_is_wanted_is_cancelled",
    ),
    Bug(
        "a call ends although one of its streams wants it",
        "server/workers.py",
        "if not any(self._wanted.values())",
        "if not all(self._wanted.values())",
        "server/test_workers.py::"
        "test_a_call_for_several_streams_goes_on_while_one_of_them_wants_it",
    ),
    Bug(
        "the call after a cancelled one is cancelled as well",
        "server/workers.py",
        "while self._task.uncancel():",
        "while False:",
        "server/test_workers.py::test_the_call_after_a_cancelled_one_is_not_cancelled",
    ),
    Bug(
        "a handler that cancels its own task ends the service of its stream",
        "server/workers.py",
        "self._served.discard(attempt)\n\n    def _note",
        "pass\n\n    def _note",
        "server/test_handlers.py::test_a_handler_that_cancels_its_own_task_fails_its_inputs_only",
    ),
    Bug(
        "a stream that may not start anything blocks the batches of the others",
        "server/workers.py",
        "            if run is None:\n                continue\n",
        "            if run is None:\n"
        "                self._waiting = {attempt: None, **self._waiting}\n"
        "                break\n",
        "server/test_workers.py::test_a_stream_that_fills_up_while_it_waits_is_passed_over",
    ),
    Bug(
        "an incomplete batch does not wait for more",
        "server/workers.py",
        "if self._batch_wait and 0 < self._gathered() < self._max_batch:",
        "if False:",
        "server/test_workers.py::test_an_incomplete_batch_waits_for_more",
    ),
    Bug(
        "a batch that fails is not tried singly",
        "server/handlers.py",
        "if len(values) == 1:\n            return [results]",
        "if values:\n            return [results] * len(values)",
        "server/test_handlers.py::test_a_batch_that_fails_is_tried_singly",
    ),
    Bug(
        "what stands behind an input that waits must wait, too",
        "server/handlers.py",
        "if done < len(run.payloads):",
        "if False:",
        "server/test_handlers.py::test_what_stands_behind_an_input_that_waits_goes_back",
    ),
    Bug(
        "a codec that raises StopIteration leaves its item without an answer",
        "server/handlers.py",
        "if len(results) < len(values):",
        "if False:",
        "server/test_handlers.py::test_a_codec_that_raises_stop_iteration_fails_its_item",
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
        "server/runner.py",
        "            resident.supersede()\n",
        "",
        "grpc/test_hostile_clients.py::test_a_higher_attempt_ends_a_lower_one",
    ),
    # ------------------------------------------------------------------ links and the wire
    Bug(
        "all calls share one connection",
        "transport/grpc_link.py",
        "if connection.calls < self._most_calls and not connection.avoided:",
        "if True:",
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
        "await self._call._cython_call.send_serialized_message(message)",
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
        "if _user not in (None, os.getpid()):",
        "if False:",
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
        "            _close(self._inputs)\n            self._ended",
        "            self._ended",
        "session/test_feeder.py::test_closing_runs_a_generators_end_in_its_own_thread",
    ),
    Bug(
        "SystemExit in the inputs ends the loop that all clients share",
        "session/pump.py",
        "if self._feeder is None and isinstance(error, KeyboardInterrupt | SystemExit):",
        "if isinstance(error, KeyboardInterrupt | SystemExit):",
        "grpc/test_blocking.py::test_what_the_inputs_raise_surfaces_after_the_outputs_before_it",
    ),
    Bug(
        "a call that Ctrl-C interrupts goes on",
        "portal.py",
        "loop.call_soon_threadsafe(crossing.cancel)\n",
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
        "if self.portal is not None and not self.inherited:",
        "if False:",
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
        "session/driver.py",
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
        "if strange := sorted(given.keys() - known.keys()):",
        "if strange := sorted(known.keys() - known.keys()):",
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
        "a front without servers counts as a server that broke",
        "transport/classify.py",
        'unreachable=row.code == "UNAVAILABLE" or row.error is UnreachableError,',
        'unreachable=row.code == "UNAVAILABLE",',
        "transport/test_classify.py::test_who_cannot_get_through_a_front_is_told_why",
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
    # ---- the surroundings of the process
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
        "an attempt's writer is cancelled, and its call left to the garbage collector",
        "session/driver.py",
        "                    self._ended = True\n                    self._outbound.set()\n",
        "",
        "grpc/test_garbage.py::test_a_resume_leaves_no_call",
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
    """The table of bugs in docs/testing.md."""
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
    parser.add_argument("--jobs", type=int, default=2, help="test runs at a time")
    options = parser.parse_args()
    console = Console(highlight=False, soft_wrap=True)
    bugs = [bug for bug in BUGS if options.only in bug.name]
    if not bugs:
        parser.error(f"no bug has {options.only!r} in its name")
    stale = [bug for bug in bugs if bug.places != 1]
    for bug in stale:
        console.print(
            f"{bug.name}: {bug.path} has {bug.places} places for it, not one", style="red"
        )
    if stale:
        return 1
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
