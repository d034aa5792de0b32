"""Bugs in several endpoints: names, which one an attempt takes, what leaves one out."""

from __future__ import annotations

from .bug import Bug

BUGS: tuple[Bug, ...] = (
    # ------------------------------------------------------------------ names
    Bug(
        "a name stands for one of its addresses",
        "EndpointPool._leads_to",
        "        for place in places:\n            if",
        "        for place in places[:1]:\n            if",
        "test_a_name_stands_for_all_its_addresses",
    ),
    Bug(
        "a name is looked up once",
        "EndpointPool._refresh",
        "(_STALE_SECONDS if wanted else _FRESH_SECONDS)",
        "math.inf",
        "test_a_name_that_moves_while_its_server_dies_is_followed",
    ),
    Bug(
        "an address that its name no longer leads to is kept",
        "EndpointPool._drop_unnamed",
        "if not endpoint.live and endpoint not in self._probing:",
        "if False:",
        "test_a_name_that_moves_while_its_server_dies_is_followed",
    ),
    Bug(
        "an address that its name no longer leads to loses its streams",
        "EndpointPool._drop_unnamed",
        "if not endpoint.live and endpoint not in self._probing:",
        "if True:",
        "test_new_addresses_of_a_name_are_found_in_time_and_old_ones_kept_while_they_are_used",
    ),
    Bug(
        "names behind the environment's proxy are looked up here",
        "_is_for_us",
        "return not is_local_target(target.text) and proxy_of(target.text) is None",
        "return not is_local_target(target.text)",
        "test_a_name_behind_a_proxy_is_left_to_grpc",
    ),
    Bug(
        "both versions' addresses of a name are used side by side",
        "Seed.look_up",
        "spare=family != found[0][0],",
        "spare=False,",
        "test_addresses_of_the_version_that_the_system_likes_less_are_spare",
    ),
    Bug(
        "a certificate is checked for an address",
        "GrpcTransport.__init__",
        "        if authority:\n",
        "        if False:\n",
        "test_a_certificate_is_that_of_the_name",
    ),
    Bug(
        "an address is an endpoint once more for each way to write it",
        "Place.key",
        're.sub(r"^(ipv4|ipv6|dns):/*", "", self.target)',
        "self.target",
        "test_one_place_is_one_endpoint_however_it_is_written",
    ),
    # ------------------------------------------------------------------ which one
    Bug(
        "attempts take the first endpoint that is as good as any",
        "EndpointPool.choose",
        "(each is after, _load(each), random.random())",
        "each is after",
        "test_streams_go_where_the_fewest_are",
    ),
    Bug(
        "the first streams all go to the endpoint that answers first",
        "EndpointPool._listen",
        "left = self._met - _now() if unproven else 0.0",
        "left = 0.0",
        "test_the_first_streams_of_all_spread",
    ),
    Bug(
        "hearsay is used before it is known whether it can be reached",
        "EndpointPool.learn",
        "self._add(place).unproven = True",
        "self._add(place).unproven = False",
        "test_what_servers_tell_of_is_used_once_it_can_be_reached",
    ),
    Bug(
        "what servers tell of is used against the user's word",
        "EndpointPool.learn",
        "targets if self._discover else ()",
        "targets",
        "test_what_servers_tell_of_is_used_once_it_can_be_reached",
    ),
    Bug(
        "what a server that leaves tells of is not heard",
        "Attempt._changed",
        "parts.pool.learn(session.elsewhere)",
        "pass",
        "test_what_a_server_that_leaves_tells_of_is_used",
    ),
    Bug(
        "an endpoint that is dropped is left open where its client is closed",
        "EndpointPool.aclose",
        "self._tasks - self._closing",
        "self._tasks",
        "test_one_that_is_dropped_is_closed_though_the_client_is_closed_meanwhile",
    ),
    Bug(
        "an admission that comes too late is kept",
        "_give_back",
        "admission.left()",
        "pass",
        "test_an_admission_that_comes_too_late_for_its_stream_is_given_back",
    ),
    # ------------------------------------------------------------------ what leaves one out
    Bug(
        "another application ends the stream, though another endpoint is right",
        "EndpointPool.elsewhere",
        "if welcomed or verdict.error not in _ENDPOINTS_FAULT or len(self._endpoints) == 1:",
        "if True:",
        "test_another_application_is_left_out_for_a_while_that_grows",
    ),
    Bug(
        "where every endpoint is wrong, they are tried in turn",
        "EndpointPool.elsewhere",
        "if self._best() is Standing.REFUSED:",
        "if False:",
        "test_where_every_one_is_wrong_the_error_tells_of_each",
    ),
    Bug(
        "another endpoint is tried after a backoff",
        "_Rules._wish",
        "if failed.elsewhere:",
        "if False:",
        "test_one_that_says_nothing_costs_its_own_streams_one_attempt",
    ),
    Bug(
        "one that says nothing is as good as any",
        "Endpoint.attempt_ended",
        "if verdict is not None and (unanswered or silent):",
        "if False:",
        "test_silence_is_doubted_and_a_break_is_not",
    ),
    Bug(
        "one that was refused is tried again as soon as ever",
        "Endpoint._speak_against",
        "self._rounds += 1",
        "pass",
        "test_doubt_and_refusal_pass_and_grow_until_it_says_welcome",
    ),
    Bug(
        "an attempt waits for its answer at one that nobody can reach",
        "EndpointPool._wait_for_better",
        "            if self.good:\n",
        "            if False:\n",
        "test_an_attempt_at_one_that_cannot_be_reached_any_more_does_not_wait_for_its_answer",
    ),
    Bug(
        "a proxy is blamed for the server behind it",
        "Endpoint.probe",
        "if self._fell_silent and not self._refused:",
        "if False:",
        "test_one_behind_which_a_server_fell_silent_is_as_good_as_before",
    ),
    # ------------------------------------------------------------------ what brings one back
    Bug(
        "one that can be reached again stays out",
        "EndpointPool._probe_one",
        "endpoint.breaker.half_open()",
        "pass",
        "test_one_that_can_be_reached_again_gets_streams_again",
    ),
    Bug(
        "a look that was cut short is never taken again",
        "EndpointPool._probe_over",
        "self._probing.discard(endpoint)",
        "pass",
        "test_one_that_can_be_reached_again_gets_streams_again",
    ),
    Bug(
        "while all are out, nobody hears of one that is back",
        "Admissions._admitted",
        "if pool.single or pool.good:",
        "if True:",
        "test_whoever_waits_at_an_endpoint_hears_of_one_that_is_back",
    ),
    Bug(
        "while all are out, they are looked at every 15 s",
        "Endpoint.probe_due",
        "min(pause, _URGENT_PROBE_PAUSE) if urgent else pause",
        "pause",
        "test_what_is_out_is_looked_at_less_and_less_often",
    ),
)
