"""Bugs in what makes a whole deployment of it: load reports, lanes, autoscaling, targets."""

from __future__ import annotations

from .bug import Bug

BUGS: tuple[Bug, ...] = (
    # ------------------------------------------------------------------ what servers say
    Bug(
        "a client is told of each item more or less",
        "worth_saying",
        "    return abs(now.items - said.items) > _FEW and _differ(now.items, said.items)",
        "    return now.items != said.items",
        "test_what_is_worth_saying",
    ),
    Bug(
        "a client that does not know of load reports gets them",
        "ServerSession.report",
        "if not self._reports or self.over",
        "if self.over",
        "test_who_did_not_ask_for_the_load_is_not_told",
    ),
    Bug(
        "what is said of the load is said again and again",
        "ServerSession._take_load",
        "            self._load_said = now\n",
        "            pass\n",
        "test_the_load_is_said_when_it_is_news",
    ),
    Bug(
        "what waits for its reader counts as work",
        "AttemptRunner.to_compute",
        "len(open_inputs) - sum(map(open_inputs.__contains__, self._workers.paused(self)))",
        "len(open_inputs)",
        "test_a_generator_that_waits_for_its_reader_is_no_load",
    ),
    # ------------------------------------------------------------------ autoscaling
    Bug(
        "streams count beside their items",
        "policy",
        "others = max(0.0, ctx.total_num_requests - streams)",
        "others = ctx.total_num_requests",
        "test_a_replica_for_so_many_items",
    ),
    Bug(
        "what is counted at different times makes fewer items",
        "policy",
        "max(0.0, ctx.total_num_requests - streams)",
        "ctx.total_num_requests - streams",
        "test_a_replica_for_so_many_items",
    ),
    Bug(
        "the first burst of answers is taken for a rate",
        "Rate.answered",
        "(_WINDOW if self.value else _FIRST_WINDOW)",
        "(_WINDOW if self.value else 1e-9)",
        "test_the_first_answers_say_nothing_yet",
    ),
    # ------------------------------------------------------------------ where lanes stand
    Bug(
        "lanes never move to servers that have none",
        "Spread.misplaced",
        "if len(covered) < min(self._servers, self._most):",
        "if False:",
        "test_a_second_lane_at_a_server_moves_while_another_has_none",
    ),
    Bug(
        "lanes move though each server has one",
        "Spread.misplaced",
        "if len(covered) < min(self._servers, self._most):",
        "if doubled:",
        "test_nothing_moves_once_each_server_has_one",
    ),
    Bug(
        "a server that cannot be reached is tried all the time",
        "Spread.may_open",
        "return now >= self._next",
        "return True",
        "test_tries_grow_rare_until_the_number_of_servers_changes",
    ),
    Bug(
        "a lane that ends keeps a server from the others",
        "Spread.misplaced",
        "if lane.retiring or not lane.replica:",
        "if not lane.replica:",
        "test_lanes_that_are_on_their_way_or_end_count_for_nothing",
    ),
    Bug(
        "a call waits for a lane that may find no place",
        "Lane.is_for",
        "return not self._tentative or bool(self.replica)",
        "return True",
        "test_calls_go_on_where_no_further_lane_finds_a_place",
    ),
    # ------------------------------------------------------------------ lanes of a stream
    Bug(
        "a stream keeps to one server",
        "StreamLanes._learn",
        "self._spread.limit if now.item_us >= _SLOW_US else 1",
        "1",
        "test_a_stream_uses_all_replicas",
    ),
    Bug(
        "the window goes to the first server at once",
        "StreamLanes.look",
        "        if not (self._bounded or self._returned):",
        "        if True:",
        "test_a_stream_goes_to_replicas_that_come",
    ),
    Bug(
        "a lane gets inputs before it is known where it came",
        "StreamLanes._lane",
        "if lane.replica and lane.carried",
        "if lane.carried",
        "test_a_lane_that_comes_where_there_is_one_carries_nothing",
    ),
    Bug(
        "a lane that gives up keeps its inputs",
        "StreamLanes.left",
        "        self._returned.extend(inputs)\n",
        "",
        "test_what_a_lane_that_gives_up_had_goes_to_others",
    ),
    Bug(
        "an input of a lane is answered as often as it has outputs",
        "LanePart.lacks",
        "return number <= self.last and number not in self._done",
        "return True",
        "test_what_has_not_one_output_fails_on_a_lane_too_and_once",
    ),
    Bug(
        "lanes take what the stream would send itself",
        "LaneShare.waiting",
        "own = max(0, ledger.share - attempt.in_flight.items)",
        "own = 0",
        "test_without_a_server_all_that_was_not_taken_waits",
    ),
    Bug(
        "a stream that is left leaves its lanes",
        "StreamLanes.end",
        "            lane.driver.abandon()\n",
        "            pass\n",
        "test_a_stream_that_fails_leaves_no_lane",
    ),
    Bug(
        "a controller that was away once is never asked again",
        "LoadReports._count",
        "        finally:\n            self._counting = None\n",
        "",
        "test_a_controller_that_is_away_changes_nothing",
    ),
    Bug(
        "a poison keeps others from the only server",
        "Attempts.stand_back",
        "self._held_until = _now() + delays",
        "self._held_until = 0.0 * delays",
        "test_a_poison_does_not_keep_others_from_the_only_server",
    ),
    Bug(
        "answers of lanes have no place of their own",
        "DeliveryQueue.held",
        "outputs = self.held_outputs + self.reserved",
        "outputs = self.held_outputs",
        "test_places_that_are_kept_for_lanes_are_granted_to_nobody_else",
    ),
    Bug(
        "time in which nothing was owed makes a lane slow",
        "Rate.answered",
        "None if all_done else now",
        "now",
        "test_only_the_time_in_which_something_is_owed_counts",
    ),
    # ------------------------------------------------------------------ targets
    Bug(
        "gRPC takes another port than was said",
        "_address",
        "if not 1 <= int(port[:10]) <= _LAST_PORT:",
        "if False:",
        "test_what_is_wrong_with_a_target_is_said",
    ),
    Bug(
        "an IPv6 address without brackets loses its end",
        "_address",
        'elif place.count(":") > 1:',
        "elif False:",
        "test_what_is_wrong_with_a_target_is_said",
    ),
)
