"""Planted bugs in the server's kit."""

from __future__ import annotations

from .bug import Bug

BUGS = (
    # ------------------------------------------------------------------ heartbeats, item timeouts
    Bug(
        "a server does not free the place of a client that is gone",
        "AttemptRunner._tick",
        "if session.silent and session.state is not ServerState.LINGERING:",
        "if False:",
        "test_a_server_that_hears_nothing_frees_its_place",
    ),
    Bug(
        "a place that is kept is looked at again and again",
        "TimeLimits._look",
        "                elif due < math.inf:\n",
        "                if call.abandoned or due < math.inf:\n"
        "                    due = now + 0.001\n",
        "test_a_place_that_is_kept_for_long_costs_no_time",
    ),
    Bug(
        "a hung input is left to hang",
        "TimeLimits.begin",
        "self._alarm.set(due)",
        "pass",
        "test_a_hung_input_is_that_inputs_error",
    ),
    Bug(
        "a handler that will not be cancelled keeps its input",
        "Call.expire",
        "(self._answer_without or self._abandon_held)(text)",
        "pass",
        "test_a_handler_that_will_not_be_cancelled_costs_its_place_and_no_more",
    ),
    Bug(
        "inputs behind one that hangs in a thread are lost",
        "ThreadedItems._handle.on_abandoned",
        "call.requeue(Part(attempt, run.split(reached + 1)))",
        "run.split(reached + 1)",
        "test_of_a_run_in_a_thread_only_the_input_that_hangs_fails",
    ),
    Bug(
        "a replica all of whose places are kept says that it is well",
        "Kits.check_health",
        "if any(kit.workers.stuck for loop, kit in self._kits.items() if not loop.is_closed()):",
        "if False:",
        "test_a_replica_whose_places_are_all_kept_is_not_well",
    ),
    # ------------------------------------------------------------------ leaving
    Bug(
        "health checks that cease are not heeded",
        "Kits._expect_the_next",
        "alarm.set(due)",
        "pass",
        "test_health_checks_that_cease_move_each_stream_once",
    ),
    Bug(
        "a server that leaves takes further streams",
        "Kits.here",
        "kit.leaving = self._leaving",
        "pass",
        "test_a_server_that_leaves_takes_no_further_streams",
    ),
    Bug(
        "a server whose grace is over goes on",
        "AttemptRunner._ask_to_leave",
        "self._leaving = loop.call_at(self._leaves_at, self._grace_over)",
        "pass",
        "test_a_grace_that_is_over_ends_the_attempt",
    ),
    # ------------------------------------------------------------------ workers and handlers
    Bug(
        "more calls run than there are places",
        "Workers._start_worker",
        "self._free -= 1",
        "pass",
        "test_no_more_calls_run_at_a_time_than_there_are_places",
    ),
    Bug(
        "a stream that had its turn is forgotten",
        "ItemWorkers",
        "if self._has_work(attempt):\n                self._waiting.add(attempt)\n\n    def _leave",
        "if False:\n                self._waiting.add(attempt)\n\n    def _leave",
        "test_inputs_are_handled_although_nothing_can_be_sent_yet[items]",
    ),
    Bug(
        "cancelled handlers run on",
        "Call.unwanted",
        "if not self._wanted:",
        "if False:",
        "test_a_call_none_of_whose_inputs_is_wanted_is_cancelled",
    ),
    Bug(
        "a call ends although one of its streams wants it",
        "Call.unwanted",
        "if not self._wanted:",
        "if not all(self._wanted.get(each.attempt) for each in self._held):",
        "test_a_call_for_several_streams_goes_on_while_one_of_them_wants_it",
    ),
    Bug(
        "the call after a cancelled one is cancelled as well",
        "Call._end",
        "while self._task.uncancel():",
        "while False:",
        "test_the_call_after_a_cancelled_one_is_not_cancelled",
    ),
    Bug(
        "a handler that cancels its own task ends the service of its stream",
        "ItemWorkers._leave",
        "            self._turn_over(call)\n",
        "            pass\n",
        "test_a_handler_that_cancels_its_own_task_fails_its_inputs_only",
    ),
    Bug(
        "a batch handler gets the very list that its answers are counted by",
        "Batches._call",
        "batch = [*values]",
        "batch = values",
        "test_a_batch_handler_may_change_the_list_that_it_gets",
    ),
    Bug(
        "a stream that may not start anything blocks the batches of the others",
        "BatchWorkers._gather",
        "            if self._has_work(attempt):\n                waiting.move",
        "            if part is None:\n                return parts\n"
        "            if self._has_work(attempt):\n"
        "                waiting.move",
        "test_a_stream_that_fills_up_while_it_waits_is_passed_over",
    ),
    Bug(
        "an incomplete batch does not wait for more",
        "BatchWorkers._next",
        "if self._batch_wait and 0 < self._gathered < self._max_batch:",
        "if False:",
        "test_an_incomplete_batch_waits_for_more",
    ),
    Bug(
        "a batch that fails is not tried singly",
        "Batches._results",
        "if len(values) == 1:\n            return [results]",
        "if values:\n            return [results] * len(values)",
        "test_a_batch_that_fails_is_tried_singly",
    ),
    Bug(
        "what stands behind an input that waits must wait, too",
        "give_back",
        "if done < len(run.payloads):",
        "if False:",
        "test_what_stands_behind_an_input_that_waits_goes_back",
    ),
    Bug(
        "the server does not linger",
        "LINGER_SECONDS",
        "LINGER_SECONDS = 2.0",
        "LINGER_SECONDS = 0.0",
        "test_the_server_lingers_until_the_client_has_half_closed",
    ),
    Bug(
        "two attempts of one stream are served side by side",
        "ActiveAttempts.register",
        "            before.supersede()\n",
        "",
        "test_a_higher_attempt_ends_a_lower_one",
    ),
    # ------------------------------------------------------------------ for tests
    Bug(
        "a service's wrong attribute is not noticed with its class",
        "StreamService.__init_subclass__",
        "        check_class(cls)\n",
        "",
        "test_an_attribute_that_cannot_work_is_refused_with_its_class",
    ),
    Bug(
        "a service's wrong attribute is not noticed when it begins to serve",
        "checked_handler",
        "    check_service(service)\n",
        "",
        "test_or_where_it_begins_to_serve",
    ),
    # ------------------------------------------------------------------ words that are true
    Bug(
        "our own server refuses large metadata by chance",
        "server_options",
        "        *METADATA_OPTIONS,\n",
        "",
        "test_our_own_ends_take_metadata_that_others_refuse",
    ),
    # ---- the protocol's fine print, and values that come back
    Bug(
        "a lost frame of the client's is its breach",
        "AttemptRunner._read",
        "except FrameLostError as error:",
        "except ZeroDivisionError as error:",
        "test_a_frame_of_the_clients_that_was_lost_is_no_breach",
    ),
    Bug(
        "a text is a batch",
        "_is_sequence",
        "if isinstance(value, str | bytes | bytearray | memoryview):",
        "if isinstance(value, bytearray | memoryview):",
        "test_a_batch_that_answers_wrongly_fails_each_of_its_inputs",
    ),
    # ------------------------------------------------ large frames on slow links
    Bug(
        "large frame: a server lingers no longer for it",
        "AttemptRunner._wait",
        "loop.time() + LINGER_SECONDS + seconds_for(self.session.under_way)",
        "loop.time() + LINGER_SECONDS",
        "test_after_the_last_frame_it_waits_for_what_is_on_its_way",
    ),
    # ------------------------------------------------------------------ what is kept, and for long
    Bug(
        "inputs that were given back and cancelled are kept",
        "GivenBack.drop",
        "        self._runs.remove_each(dropped)\n",
        "",
        "test_what_was_dropped_is_gone_at_once",
    ),
    # ------------------------------------------------------------------ what events cost, and whom
    Bug(
        "a tick walks over everything that is computed",
        "Workers.running",
        "        in_flight = self._in_flight.get(attempt)\n"
        "        if in_flight is None or not in_flight.count:",
        "        in_flight = self._in_flight.get(attempt)\n"
        "        sum(each.count for each in self._in_flight.values())\n"
        "        if in_flight is None or not in_flight.count:",
        "test_an_event_costs_the_same_however_much_there_is_besides[tick_beside_others]",
    ),
    Bug(
        "a cancellation walks over the calls of its stream",
        "InFlight.holding",
        "        found: dict[Call, list[int]] = {}\n",
        "        found: dict[Call, list[int]] = {}\n        [call for call in self.calls()]\n",
        "test_ten_thousand_handlers_of_one_stream_cost_no_more[cancelling_one_input]",
    ),
    Bug(
        "a stream whose worker leaves is forgotten",
        "Workers",
        "        if self._has_work(attempt):\n            self._queue(attempt)\n\n    async def",
        "        pass\n\n    async def",
        "test_no_stream_is_left_alone",
    ),
    Bug(
        "what a hung thread gave back is cancelled in vain",
        "Workers.cancel",
        "self._drop_given_back(attempt, numbers)\n        in_flight",
        "pass\n        in_flight",
        "test_an_input_that_was_given_back_and_is_cancelled_is_not_computed",
    ),
    Bug(
        "inputs of a batch have each a time of their own to be tried alone",
        "Batches._results",
        "until = min(clock(), began + limit) + limit",
        "until = math.inf",
        "test_none_ends_and_each_is_told_why",
    ),
    Bug(
        "an input that hangs uses up the time of its neighbours",
        "Tries.next",
        "share = left * _SHARE if self._shared and not alone else math.inf",
        "share = math.inf",
        "test_one_that_hangs_among_quick_ones_fails_alone",
    ),
    Bug(
        "one kit serves all event loops",
        "Kits.here",
        "            kit = self._kits.get(loop)\n",
        "            kit = next(iter(self._kits.values()), None)\n",
        "test_an_input_that_hangs_ends_although_another_event_loop_has_stopped_over_one",
    ),
    Bug(
        "a kit outlives its event loop",
        "Alarm.set",
        "self._handle = weakref.ref(handle)",
        "self._handle = lambda: handle",
        "test_a_kit_goes_with_its_event_loop",
    ),
    Bug(
        "a drain misses the stream that is being admitted",
        "Kit.frames.admit",
        "            self._check_leaving()  # it may have begun to, meanwhile\n",
        "",
        "test_a_stream_that_is_being_admitted_when_its_server_drains_is_refused",
    ),
    Bug(
        "who is asked to leave before the welcome stays",
        "AttemptRunner._read",
        "                        self._tick_later()\n"
        "                        self._ask_to_leave()\n",
        "                        self._tick_later()\n",
        "test_a_stream_that_is_asked_to_leave_before_its_welcome_is_drained_right_after_it",
    ),
    Bug(
        "user code runs in the midst of whatever has hired its worker",
        "Workers._work",
        "if self._starting is call:",
        "if False:",
        "test_many_places_are_no_deep_stack",
    ),
    Bug(
        "the one who gathers is noted after the task was made",
        "BatchWorkers._start_workers",
        "            call = self._gatherer = self._new_call()\n"
        "            self._start_worker(call, attempt)\n",
        "            call = self._new_call()\n"
        "            self._starting = None\n"
        "            self._start_worker(call, attempt)\n"
        "            asyncio.get_running_loop().call_later(\n"
        '                0.01, setattr, self, "_gatherer", call\n'
        "            )\n",
        "test_every_stream_is_served_again_and_again",
    ),
    # ------------------------------------------------------------------ turns of the event loop
    Bug(
        "a handler that never waits keeps the loop for a whole run",
        "AsyncItems._of_bytes",
        "if look and clock() >= until:",
        "if False:",
        "test_the_loop_turns_after_each_slow_piece",
    ),
    Bug(
        "a handler's inputs are decoded and encoded for a whole run",
        "AsyncItems._of_any",
        "                if clock() >= stretch.until:\n                    return\n"
        "                stretch.careful",
        "                stretch.careful",
        "test_two_pieces_keep_the_loop_at_the_most_wherever_and_whenever_they_are_slow",
    ),
    Bug(
        "an input is begun and ended before anybody looks at the clock",
        "AsyncItems._of_any",
        "if (stretch.careful or always or not look) and clock() >= stretch.until:",
        "if (stretch.careful or always) and clock() >= stretch.until:",
        "test_two_pieces_keep_the_loop_at_the_most_wherever_and_whenever_they_are_slow",
    ),
    Bug(
        "an input that fails passes the place where one looks at the clock",
        "AsyncItems._of_any",
        "                look = True  # what failed passed a place where one looks\n",
        "",
        "test_two_pieces_keep_the_loop_at_the_most_wherever_and_whenever_they_are_slow",
    ),
    Bug(
        "handlers that wait for the first time go on together",
        "AsyncItems._predict_in",
        "if self._waits or turn.unmetered:",
        "if self._waits:",
        "test_handlers_that_wait_for_the_first_time_do_not_go_on_together",
    ),
    Bug(
        "what goes on unmetered after waiting is charged to nobody",
        "_Stretch.end",
        "                self.turn.spend(BUDGET_SECONDS)\n",
        "                pass\n",
        "test_two_pieces_keep_the_loop_at_the_most_wherever_and_whenever_they_are_slow",
    ),
    Bug(
        "beside code that goes on unmetered others call two pieces",
        "AsyncItems._predict_in",
        "partial(_in_turns, turn, self._predict), turn.unmetered",
        "partial(_in_turns, turn, self._predict), False",
        "test_two_pieces_keep_the_loop_at_the_most_wherever_and_whenever_they_are_slow",
    ),
    Bug(
        "handlers that waited go on together",
        "AsyncItems.__init__",
        "        self._waits = True  # as far as is known",
        "        self._waits = False\n        self.__class__._waits = property(lambda _: False)",
        "test_the_loop_turns_after_each_slow_piece",
    ),
    Bug(
        "a batch is decoded in one go",
        "Batches._values",
        "            if turn.clock() >= until:\n"
        "                until = turn.enter() or await wait_for_turn(turn, parts)\n"
        "            values.append(",
        "            values.append(",
        "test_the_loop_turns_after_each_slow_piece",
    ),
    Bug(
        "answers are encoded in one go",
        "Answers.encode",
        "            if turn.clock() >= until:\n                turn.leave()",
        "            if False:\n                turn.leave()",
        "test_the_loop_turns_after_each_slow_piece",
    ),
    Bug(
        "an admit() that raises no Exception is met with silence",
        "AdmissionControl.decide",
        "        except BaseException as error:\n            self._not_admitted(",
        "        except Exception as error:\n            self._not_admitted(",
        "test_whatever_admit_raises_is_said_at_once",
    ),
    Bug(
        "what a result says of its length is believed",
        "_listed",
        "    if len(listed) != wanted:",
        "    if False:",
        "test_a_batch_that_answers_wrongly_fails_each_of_its_inputs",
    ),
    # ---- the surroundings of the process
    Bug(
        "a lying exception out of a handler fails its neighbours",
        "failure_of",
        "    if is_a(failure, SystemExit):\n",
        "    if isinstance(failure, SystemExit):\n",
        "test_a_handlers_exception_that_lies_is_its_items_error",
    ),
    Bug(
        "a lying exception out of admit hides what it was",
        "AdmissionControl._not_admitted",
        "        if is_a(error, Refuse):\n",
        "        if isinstance(error, Refuse):\n",
        "test_an_admits_exception_that_lies_is_said",
    ),
    Bug(
        "an output whose class has no hash fails its neighbours",
        "all_of",
        "(kinds)\n    except BaseException as error:\n",
        "(kinds)\n    except ValueError as error:\n",
        "test_an_output_whose_class_has_no_hash_is_its_items_error",
    ),
    # ------------------------------------------------------------------ rooms by themselves
    Bug(
        "an input is looked for at its neighbour",
        "InFlight.holding",
        "bisect_right(self._firsts, number) - 1",
        "bisect_left(self._firsts, number) - 1",
        "test_it_is_what_a_list_of_all_calls_is",
    ),
    Bug(
        "a thread's input is as old as the first that it took",
        "InFlight.oldest",
        "            if call.since == noted:\n",
        "            if True:\n",
        "test_a_thread_that_went_on_is_as_old_as_the_input_at_hand",
    ),
    Bug(
        "a call that has ended is looked at all the same",
        "TimeLimits.end",
        "self._agenda.discard(call)",
        "pass",
        "test_each_is_looked_at_when_it_is_due_by_one_timer",
    ),
    Bug(
        "one limit that fails takes the others along",
        "TimeLimits._look",
        "        finally:  # the time",
        "        except ZeroDivisionError:\n            raise\n        else:  # the time",
        "test_one_that_fails_here_takes_nobodys_limit_along",
    ),
    Bug(
        "code begins in a turn that is another's",
        "await_in_turn",
        "    if not turn.enter():\n",
        "    if not turn.enter() and False:\n",
        "test_who_waits_for_a_turn_is_not_to_be_started_once_nobody_wants_it",
    ),
    Bug(
        "a turn is not left by code that fails in it",
        "await_in_turn",
        "    finally:\n        turn.leave()\n",
        "    finally:\n        pass\n",
        "test_the_turn_is_left_however_code_ends",
    ),
    Bug(
        "who finds in his turn that nobody wants him keeps it",
        "wait_for_turn",
        "        turn.leave()\n",
        "",
        "test_who_waits_for_a_turn_is_not_to_be_started_once_nobody_wants_it",
    ),
    Bug(
        "a reader stops at its attempt's last word",
        "AttemptRunner._read",
        "                    self._blame(str(error))\n",
        "                    self._blame(str(error))\n                    return\n",
        "test_it_reads_on_after_its_last_word_until_the_client_has_said_all",
    ),
    Bug(
        "an attempt that is closed leaves its heartbeats",
        "AttemptRunner.frames",
        "for timer in (self._ticking, self._opening, self._leaving):",
        "for timer in (self._opening, self._leaving):",
        "test_nothing_is_left_of_it_wherever_it_is_closed",
    ),
    Bug(
        "an attempt that is closed leaves its reader",
        "AttemptRunner.frames",
        "                reader.cancel()\n",
        "                pass\n",
        "test_nothing_is_left_of_it_wherever_it_is_closed",
    ),
    Bug(
        "the longer of two graces holds",
        "AttemptRunner.drain",
        "if leaves_at < self._leaves_at:",
        "if self._leaves_at == math.inf or leaves_at > self._leaves_at:",
        "test_a_grace_that_is_over_ends_it_and_the_shorter_one_holds",
    ),
    Bug(
        "the way to a thread counts as an input's time",
        "Workers._took",
        "        seconds -= way\n",
        "",
        "test_the_way_to_a_thread_is_not_what_an_input_takes",
    ),
    Bug(
        "a handler that warms up is called slow",
        "Workers._took",
        "elif self._first or taken >= _COLD:",
        "elif True:",
        "test_a_first_call_that_is_slow_makes_no_slow_handler",
    ),
    Bug(
        "nobody says how long the way to a thread took",
        "InThread.__call__",
        "        call.hop_seconds += clock() - began - progress.seconds\n",
        "",
        "test_the_way_to_a_thread_is_told_apart_from_the_handler",
    ),
    # ------------------------------------------------------------------ metrics
    Bug(
        "what a stream answered is not counted once it has gone",
        "Exporter.__init__",
        "active.on_gone.append(self._count_gone)",
        "pass",
        "test_each_answer_counts_once_whether_its_stream_is_there_or_not",
    ),
    Bug(
        "metrics end with the last stream, whose gauges stay",
        "Exporter._look",
        "        self._tell(accounts)\n",
        "        if accounts:\n            self._tell(accounts)\n",
        "test_gauges_tell_of_all_streams_and_at_last_that_there_is_none",
    ),
    Bug(
        "every call is sampled",
        "Samples.begin",
        "self.due = max(self.due, earliest) + _BETWEEN_SAMPLES",
        "self.due = earliest",
        "test_no_more_than_some_calls_a_second_are_watched_however_many_there_are",
    ),
    Bug(
        "a counter that Ray did not take is lost",
        "Exporter._tell",
        'if more and self._say(ITEMS, more, {"outcome": outcome}):',
        'if more and (self._say(ITEMS, more, {"outcome": outcome}) or True):',
        "test_what_ray_raises_is_logged_once_and_told_later",
    ),
    Bug(
        "what a handler does in a thread counts as the way there",
        "InThread.__call__",
        "        call.hop_seconds += clock() - began - progress.seconds\n",
        "        call.hop_seconds += clock() - began\n",
        "test_the_way_to_a_thread_is_told_apart_from_the_handler",
    ),
    Bug(
        "a run in a thread is as long however slow its inputs are",
        "ItemWorkers._adapt_run_length",
        "        if seconds > longest:\n",
        "        if seconds > longest and not way:\n",
        "test_in_a_thread_runs_shrink_where_inputs_are_slower_than_the_way_there",
    ),
)
