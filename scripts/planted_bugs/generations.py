"""Planted bugs in generations at their client, in numbered streams, and in faults at an output."""

from __future__ import annotations

from .bug import Bug

BUGS = (
    # ------------------------------------------------------------------ what a reader sees
    Bug(
        "what was dropped with a generation counts as delivered",
        "GenerationBase._leave",
        "self._delivered -= 1",
        "pass",
        "test_delivered_counts_what_the_caller_has_and_nothing_else",
    ),
    Bug(
        "an output that cannot be decoded counts as delivered",
        "GenerationBase._undecoded",
        "self._delivered -= 1",
        "pass",
        "test_an_output_that_cannot_be_decoded_ends_it_at_its_place",
    ),
    Bug(
        "why an output cannot be decoded is lost",
        "Generation.__anext__",
        "raise problem from failure",
        "raise problem from failure.__cause__",
        "test_an_output_that_cannot_be_decoded_ends_it_at_its_place",
    ),
    Bug(
        "inputs of generations are encoded outside the loop's turns",
        "GenerationBase._begin",
        "_ = turn.enter() or await turn.wait()",
        "turn.enter()",
        "test_inputs_and_outputs_are_converted_in_turns_of_the_loop",
    ),
    Bug(
        "a generation waits for ever in another event loop",
        "GenerationBase._advance",
        "if self._loop is not None and self._loop is not asyncio.get_running_loop():",
        "if False:",
        "test_another_event_loop_is_refused_and_may_close_it",
    ),
    Bug(
        "a generation waits for ever in a forked child",
        "GenerationBase._advance",
        "if self._pid != os.getpid():",
        "if False:",
        "test_a_forked_child_is_told",
    ),
    Bug(
        "a generation that was closed begins all the same",
        "GenerationBase._next",
        "        if self._closed:\n            return False\n",
        "",
        "test_one_that_was_closed_before_it_began_never_begins",
    ),
    Bug(
        "every seam is called exact",
        "Request.add",
        "SeamKind.CONTINUED if seam.replay is Replay.CONTINUE else SeamKind.EXACT",
        "SeamKind.EXACT",
        "test_a_cut_is_a_seam_and_nothing_is_lost_or_twice",
    ),
    # ------------------------------------------------------------------ what is kept
    Bug(
        "a generation keeps its input to the end of its object",
        "GenerationBase._begin",
        "self._item, self._payload = None, None",
        "self._payload = None",
        "test_it_lets_go_of_its_input_at_its_end",
    ),
    Bug(
        "a generation and its error keep each other",
        "Request.take_error",
        "error, self.error = self.error, None",
        "error = self.error",
        "test_who_keeps_its_error_keeps_no_circle",
    ),
    # ------------------------------------------------------------------ lanes
    Bug(
        "a generation that expired while it waited is sent, and is empty",
        "Request.cancel",
        "elif self.owner is not None:",
        "elif self.owner is None:",
        "test_one_that_waits_for_a_place_and_expires_is_never_sent",
    ),
    Bug(
        "a generation that nobody reads any more goes on at its server",
        "Request.cancel",
        "self.lane.cancel(self)",
        "pass",
        "test_a_reader_who_leaves_cancels_at_the_server",
    ),
    Bug(
        "a reader who has stopped takes a place after a cut",
        "Generator.broke",
        "if request.lacks_credit(self._flow) and not request.ended:",
        "if False:",
        "test_a_reader_who_stops_stops_nobody_and_is_parked_by_a_cut",
    ),
    Bug(
        "a lane takes no newer request though its outage is over",
        "GenerateLane.takes",
        "self.driver.outage.inherited and",
        "self.driver.outage.patience > 0 and",
        "test_generate_lane.py::test_a_lane_that_has_got_over_anothers_outage_takes_whatever_comes",
    ),
    Bug(
        "a lane for suspects is kept for nobody",
        "GenerateLane._rest",
        "if self.suspected:",
        "if False:",
        "test_one_without_requests_ends_after_a_while_and_one_for_suspects_at_once",
    ),
    Bug(
        "suspects wait for ever where no lane can be opened any more",
        "Generator._try_apart",
        "request.end(own_failure(unforeseen(error), request.delivered()))",
        "pass",
        "test_suspects_for_which_no_lane_can_be_opened_any_more_fail",
    ),
    Bug(
        "an input of a generation that breaks its servers is tried again and again",
        "Generator._judge",
        "if request.lone_breaks >= LONE_BREAKS:",
        "if request.lone_breaks >= 100:",
        "test_a_prompt_that_breaks_its_servers_is_blamed_and_the_others_go_on",
    ),
    # ------------------------------------------------------------------ numbered streams
    Bug(
        "an output is acknowledged twice",
        "Taken.unacknowledged",
        "self._acknowledged = end = self._count",
        "end = self._count",
        "test_each_output_is_acknowledged_once_and_an_input_with_its_last",
    ),
    Bug(
        "each output of a frame with an input's last one is called the last",
        "Taken.place",
        "last = outputs.last and offset + 1 == len(outputs.payloads)",
        "last = outputs.last",
        "test_the_place_of_an_output_says_whether_it_is_the_last_of_its_input",
    ),
    Bug(
        "an input that ends without a further output has no end",
        "StreamBase._arrival",
        "found.failure is None and not self._numbered:",
        "found.failure is None:",
        "test_ends_without_an_output_show_with_numbers_only",
    ),
    # ------------------------------------------------------------------ faults, and the command
    Bug(
        "a fault at an output strikes at its input",
        "_FaultyHandler._struck",
        "if each.output is None]",
        "]",
        "test_a_handler_raises_at_an_output_behind_those_before_it",
    ),
    Bug(
        "a fault at an output spoils the first one",
        "testing.injector:_has",
        "index = fault.output or 0",
        "index = 0",
        "test_which_frame_has_an_output",
    ),
    Bug(
        "what is made again is counted from where it goes on",
        "Source.of",
        "between(part, resume.index, generate(item, resume))",
        "between(part, part.run.start_index, generate(item, resume))",
        "test_what_is_made_again_is_counted_from_the_beginning",
    ),
    Bug(
        "every input of the command is called its first",
        "_Answer.read",
        "error.number = self.number",
        "error.number = 1",
        "test_an_input_that_fails_ends_it",
    ),
    Bug(
        "inputs of the command run one after the other",
        "_Answers._begin",
        "threading.Thread(target=answer.read, daemon=True).start()",
        "answer.read()",
        "test_they_do_run_at_once",
    ),
)
