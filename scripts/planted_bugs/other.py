"""Planted bugs in the faces, the portal, the command line, and the leaves."""

from __future__ import annotations

from .bug import Bug

BUGS = (
    # ------------------------------------------------------------------ the blocking client
    Bug(
        "a call that Ctrl-C interrupts goes on",
        "_Hold.cancel",
        "self.loop.call_soon_threadsafe(call.cancel)\n",
        "pass\n",
        "test_an_interrupted_call_is_cancelled_on_the_loop",
    ),
    Bug(
        "what a call raises ends the loop that all clients share",
        "_Crossing._run",
        "            self._error = error\n",
        "            raise\n",
        "test_whatever_it_raises_is_the_callers",
    ),
    Bug(
        "Ctrl-C at the door of a context manager leaves its mark behind",
        "PortalLease.call",
        "            _here.crossings -= 1\n",
        "            crossing().__exit__()\n",
        "test_an_interrupt_at_any_place_of_a_call_is_just_that",
    ),
    Bug(
        "a call that the loop never began waits for ever",
        "_Hold.release",
        "                call.ended()\n",
        "                pass\n",
        "test_a_call_that_the_loop_never_began_ends_with_the_lease",
    ),
    Bug(
        "a caller waits in what Ctrl-C breaks",
        "_Crossing.wait",
        "            _acquire(self._running)\n",
        "            with threading.Condition() as until:\n"
        "                until.wait_for(lambda: self._running.acquire(timeout=timeout))\n"
        "                until.wait(0)\n",
        "test_an_interrupt_at_any_place_of_a_call_is_just_that",
    ),
    Bug(
        "the main thread waits without a look for signals",
        "_acquire",
        "    if _thread.get_ident() != threading.main_thread().ident:\n",
        "    if _thread.get_ident():\n",
        "test_a_signal_that_does_not_end_the_wait_is_heard_all_the_same",
    ),
    Bug(
        "a client that is dropped keeps its thread",
        "_Hold.drop",
        "        if self.portal is not None:\n            self.release_later()",
        "        if False:\n            self.release_later()",
        "test_a_lease_that_is_dropped_is_released",
    ),
    Bug(
        "a client that was made before a fork hangs in the child",
        "PortalLease._call",
        "if hold.inherited:\n            raise ClientClosedError(",
        "if False:\n            raise ClientClosedError(",
        "test_a_forked_child_is_told_and_the_parent_goes_on",
    ),
    # ------------------------------------------------------------------ for tests
    Bug(
        "a setting of the environment that is none is passed over",
        "policy",
        "    if strange:\n",
        "    if False:\n",
        "test_a_mistake_is_said_when_a_client_is_made",
    ),
    Bug(
        "the command lets a certificate of another key pass",
        "_check_files",
        'context.load_cert_chain(certificate, key, password="")',
        "pass",
        "test_connect.py::test_plain_mistakes_are_said_in_words",
    ),
    # ------------------------------------------------------------------ what is kept, and for long
    Bug(
        "a decoding error keeps its blocking stream open",
        "SyncPredictionStream.__next__",
        "del self  # or",
        "pass  # or",
        "test_nor_does_one_of_a_blocking_stream",
    ),
    # ------------------------------------------------------------------ turns of the event loop
    Bug(
        "a spent turn is not renewed for those who wait",
        "Turn._renew",
        "        if self._waiting:\n            self._renew_soon()",
        "        if False:\n            self._renew_soon()",
        "test_quick_ones_that_had_to_wait_go_on_soon",
    ),
    Bug(
        "those who come later go before those who wait",
        "Turn._queue",
        "self._waiting.insert(place, waiter)",
        "self._waiting.insert(0, waiter)",
        "test_those_who_wait_are_served_as_they_came",
    ),
    Bug(
        "a waiter that is cancelled keeps its turn",
        "Turn._queue",
        "                self._woken -= 1\n",
        "                self._woken -= not waiter.cancelled() and self._left > 0\n",
        "test_whoever_is_cancelled_while_waiting_holds_up_nobody",
    ),
    Bug(
        "a budget is given anew in the turn in which it was spent",
        "Turn._renew",
        "if self._renewed_early and self._left <= 0:",
        "if False:",
        "test_what_is_spent_after_the_renewal_was_decided_counts",
    ),
    Bug(
        "handlers whose awaited future failed go on together",
        "_settled",
        "            failure = error\n        if turn.busy:",
        "            return error\n        if turn.busy:",
        "test_handlers_that_wait_for_the_first_time_do_not_go_on_together",
    ),
    # ------------------------------------------------------------------ user code at the client
    Bug(
        "what other people's code raised is kept in a cycle where it passes",
        "contained",
        "            del error  # its traceback refers to this frame, and to those",
        "            pass  # its traceback refers to this frame, and to those",
        "test_what_passes_keeps_nothing_of_where_it_came_from",
    ),
    Bug(
        "control flow out of plain inputs ends the stream quietly",
        "as_value",
        "if not is_a(error, _CONTROL_FLOW):",
        "if True:",
        "test_control_flow_out_of_plain_inputs_is_no_end_of_the_stream",
    ),
    Bug(
        "what is only called hears of its task's cancellation",
        "contained",
        "cancelled = awaited and is_a(error",
        "cancelled = is_a(error",
        "test_a_codecs_cancelled_error_is_not_the_tasks_own",
    ),
    # ---- the surroundings of the process
    Bug(
        "a client closed in the loop's thread waits for it",
        "may_not_wait",
        "return _here.is_loop or _here.crossings > 0",
        "return False",
        "test_a_client_closed_there_is_given_back",
    ),
    Bug(
        "an unused client belongs to the process that made it",
        "_Hold.__init__",
        "self._pid: int | None = None",
        "self._pid: int | None = os.getpid()",
        "test_clients_made_and_not_used_before_a_fork_work_on_both_sides",
    ),
    Bug(
        "what Kubernetes sets is taken for a setting",
        "_of_kubernetes",
        "return _OF_KUBERNETES.fullmatch(name) is not None",
        "return False",
        "test_what_kubernetes_sets_for_a_service_of_that_name_is_ignored",
    ),
    # ---- the demos
    Bug(
        "a job is killed for what its last run has written",
        "JobTrial._accompany",
        "written < max(self._waiting[0].after, begun + 1)",
        "written < self._waiting[0].after",
        "test_no_run_is_killed_for_what_an_earlier_one_has_written",
    ),
    Bug(
        "a job's output may be another",
        "JobReport.problems",
        "elif not self.identical:",
        "elif not self.identical and self.kills:",
        "test_an_output_that_differs_is_a_problem",
    ),
    Bug(
        "an answer that goes on counts its tokens from the beginning",
        "answer",
        "for position in range(len(given), prompt.max_tokens):",
        "for position in range(prompt.max_tokens):",
        "test_the_rest_after_any_cut_is_the_rest_of_the_whole",
    ),
    Bug(
        "an answer under way waits until another has computed what is there",
        "Answers._next",
        "return await self._turns.run(lambda: next(steps, _END))",
        "return await self._turns.run(lambda: next((each for each in steps if each), _END))",
        "test_one_that_goes_on_late_does_not_stop_the_others",
    ),
    Bug(
        "a seam is called exact though other tokens came behind it",
        "_joints",
        "equal=same >= end",
        "equal=same >= seam.index",
        "test_a_continuation_with_other_tokens_is_not_called_exact",
    ),
    Bug(
        "repeated tokens are not counted",
        "tally",
        "duplicated += max(0, (d - c) - (b - a))",
        "duplicated += 0",
        "test_tally.py::test_what_is_wrong_is_counted",
    ),
)
