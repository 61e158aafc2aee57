"""Remove this line, that test fails: damages the gate, one line at a time, to see a test notice.

    python tests/mutations.py [--only NAME]

Works on two copies in a temporary folder, never on the project. Each mutation is applied
alone and the one test that holds the line is run: killed (the test fails, as it must),
SURVIVED (it did not notice) or broken (it did not run, so it says nothing). Exit code 1
unless all are killed.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from queue import Queue

PROJECT = Path(__file__).resolve().parent.parent
PACKAGE = "skill/hms_active_rooms"

# Under `# file, test file`: the sentence of the promise that is broken, a name, the test that
# must fail, and the lines as they stand there, with the change marked like `git diff --word-diff`:
# [-removed-]{+added+}. Lines without a mark go as a whole: a condition becomes False, what ends
# in a comma is left out, anything else becomes `pass`.
LISTING = r"""
# gate/gate.py, gate/test_gate.py
1 run-whatever-changed: test_a_new_session_is_asked_about_again_and_not_ended
    if change.verdict == "ask_again":
2 propose-forgets-the-row: test_a_removal_that_is_done_is_told_again_not_looked_for_again
    if found is not None:
2 two-ends-at-once: test_two_ends_approved_for_one_session_never_end_the_next
    alone_since=read_at if [-names_nobody-]{+False+} else None,
2 run-sends-unknown-again: test_an_unclear_message_stays_unknown_and_is_not_sent_again
    if action.state in ("sent", [-"unknown"-]):
2 run-sends-sent-again: test_a_row_somebody_else_has_sent_is_not_sent_again
    if action.state in ([-"sent", -]"unknown"{+,+}):
3 run-what-a-lax-policy-approved: test_what_a_lax_policy_let_run_unasked_a_strict_one_does_not_send
    [-if action.decided_way in ("unattended", "relaxed") and not self.policy.runs_unasked(-]
    [-    action.tool-]
    [-):-]{+if False:+}
3 propose-in-any-room: test_a_room_elsewhere_is_refused_before_any_request
    [-self.policy.check_room(call.room_id)-]
    full, impact = assess(call, *await self._read(call.room_id), self.policy)
3 run-in-any-room: test_a_room_the_policy_of_the_sender_does_not_allow_is_left_alone
    [-self.policy.check_room(call.room_id)-]
    try:
3 read-any-room: test_a_room_elsewhere_is_refused_before_any_request
    self.policy.check_room(room_id)
3 grant-opens-hard-gates: test_a_grant_never_opens_a_hard_gate_wherever_it_came_from
    if [-action.gate == "soft"-]{+True+}:
4 refusal-unrecorded: test_a_refusal_is_on_record_and_the_same_when_repeated
    await asyncio.to_thread(self.journal.insert, self._refusal(row, error))
# gate/deciding.py, gate/test_gate.py
1 decide-any-digest: test_an_approval_for_another_call_is_a_refusal
    case Approve() | Edit() if decision.digest != action.digest:
3 decide-anything-is-a-yes: test_what_is_not_exactly_an_approval_of_this_digest_is_a_refusal
    return await self.[-_reject(action, "the answer was not understood", by, way)-]{+move(action, "approved", by=by, way=way)+}
3 decide-hard-for-the-session: test_a_destructive_action_is_never_approved_for_the_session
    case Approve(scope="session") if action.gate != "soft":
3 withdraw-proposed-only: test_a_withdrawn_action_is_not_sent_even_if_it_was_approved
    while action.state in ("proposed", [-"approved"-]):
3 rejection-keeps-grants: test_a_rejection_ends_what_was_granted_for_the_session
    if [-way != "gate"-]{+False+}:  # the gate's own refusals say nothing about what a person wants
4 edit-without-original: test_an_edit_changes_words_only_and_stands_beside_the_original
    successor = replace(row, [-edited_from=action.id, -]expires_at=action.expires_at)
4 asking-unrecorded: test_the_journal_tells_who_asked_what_was_shown_who_decided_and_what_came
    self.journal.note, action.id, [-"asked"-]{+"looked"+}, way=way, digest=action.digest
# gate/rows.py, gate/test_gate.py
4 decider-unrecorded: test_the_journal_tells_who_asked_what_was_shown_who_decided_and_what_came
    columns |= decided(by, way, self.journal.now())
# gate/records.py, gate/test_gate.py
3 decide-late: test_a_late_answer_and_a_late_run_send_nothing
    if self.state in ([-"proposed", -]"approved"{+,+}) and now >= self.expires_at:
3 run-late: test_a_late_answer_and_a_late_run_send_nothing
    if self.state in ("proposed", [-"approved"-]) and now >= self.expires_at:
# gate/drafts.py, gate/test_gate.py
1 digest-without-row: test_an_approval_of_one_of_two_identical_calls_is_none_of_the_other
    "action": [row.call_key, row.revision],
1 digest-without-arguments: test_a_digest_covers_the_call_and_whom_it_hits
    "arguments": call.arguments(),
1 digest-without-people: test_a_digest_covers_the_call_and_whom_it_hits
    "impact": shown,
2 key-without-message: test_another_place_is_another_action
    "message": origin.message,
3 refused-call-proposed-again: test_a_refusal_is_on_record_and_the_same_when_repeated
    if action.state == "rejected" and action.impact is None:
# gate/approval.py, gate/test_approval.py
1 answer-any-digest: test_anything_else_is_no_answer
    if parsed.digest is not None and parsed.digest != request.digest:
1 answer-without-digest: test_anything_else_is_no_answer
    type: Literal["approve"]
    digest: str{+ | None = None+}
1 answer-edits-targets: test_a_target_cannot_be_edited
    if foreign := sorted(set(changes) - set(request.editable)):
1 answer-leaves-targets-out: test_a_target_cannot_be_left_out_of_an_edit
    if missing := sorted(set(request.arguments) - set(edited.args)):
1 schema-any-digest: tools/test_in_graphs.py::test_the_old_click_does_not_count_for_a_question_asked_again
    only = [-Literal[digest]  # type: ignore[valid-type]-]{+str+}
3 answer-with-extra-keys: test_anything_else_is_no_answer
    class ApproveAnswer(_Answer{+, extra="ignore"+}):
3 answer-hard-for-the-session: test_a_destructive_action_is_never_approved_for_the_session
    if parsed.scope == "session" and request.gate != "soft":
# agent/hitl.py, gate/test_approval.py
1 turn-without-digests: test_answers_without_a_digest_count_only_where_code_says_so
    if [-plain_answers-]{+True+}:
3 turn-with-extra-keys: test_a_turns_answer_counts_wholly_or_not_at_all
    if not isinstance(answer, dict) or [-set(answer) != {"decisions"}-]{+"decisions" not in answer+}:
3 turn-wrong-count: test_a_turns_answer_counts_wholly_or_not_at_all
    decisions = [-answer["decisions"]-]{+(answer["decisions"] * len(requests))[: len(requests)]+}
# gate/calls.py, tools/test_tools.py
1 call-unknown-arguments: test_a_wrong_argument_is_refused_by_name
    model_config = ConfigDict(frozen=True, [-extra="forbid", -]strict=True, json_schema_extra=_slim)
1 call-loose-types: test_a_wrong_argument_is_refused_by_name
    model_config = ConfigDict(frozen=True, extra="forbid", [-strict=True, -]json_schema_extra=_slim)
1 call-empty-message: test_a_wrong_argument_is_refused_by_name
    Field([-min_length=1, -]description="The text, at most 4096 bytes."),
1 call-empty-role: test_a_wrong_argument_is_refused_by_name
    Role = Annotated[Text, Field([-min_length=1, -]max_length=MAX_LABEL_CHARS)]
1 edit-of-targets: gate/test_gate.py::test_an_edit_of_a_target_or_to_nonsense_is_a_refusal
    if foreign := sorted(set(changes) - self.words):
# gate/drift.py, gate/test_impact.py
1 drift-session: test_another_session_asks_again
    if session_id != shown.session_id:
1 drift-newcomers-removed: test_newcomers_with_the_role_stay_and_are_reported
    still = tuple(p for p in [-shown.people if p.id in current and p.same_person(current[p.id])-]{+people if p.role == shown.people[0].role+})
1 drift-newcomers-in-one-request: test_a_whole_role_request_asks_again_about_newcomers
    if newcomers := sum(p.id not in known for p in now.people):
1 drift-audience-grown: test_a_grown_audience_asks_again_beyond_the_limit
    if newcomers > shown.total * policy.audience_growth:
1 drift-audience-exchanged: test_an_audience_of_as_many_other_people_asks_again
    if shown.people and now.people:
3 drift-protected: test_a_role_removal_spares_whom_a_stricter_policy_protects
    refuse_protected(still, policy)
# gate/impact.py, gate/test_impact.py
1 drift-role: test_another_role_or_user_id_asks_again_and_another_name_does_not
    return (self.id, self.user_id[-, self.role-]) == (other.id, other.user_id[-, other.role-])
1 drift-user-id: test_another_role_or_user_id_asks_again_and_another_name_does_not
    return (self.id, [-self.user_id, -]self.role) == (other.id, [-other.user_id, -]other.role)
1 short-id-fits-two: test_a_short_id_that_fits_two_peers_is_refused
    if len(matches) > 1:
3 protected-peer: test_a_protected_role_is_never_removed
    refuse_protected([person], policy)
3 protected-in-a-role: test_a_protected_user_id_is_never_removed_even_by_role
    refuse_protected(hit, policy)
3 max-peers: test_more_people_than_one_action_may_hit_is_refused
    if len(hit) > policy.max_peers:
5 look-alikes-unnoticed: test_look_alikes_and_namesakes_are_pointed_out
    alike = set([-lookalikes(person.name, [p.name for p in others])-])
5 names-unbounded: gate/test_gate.py::test_what_hostile_peers_wrote_is_bounded_in_the_journal
    if [-len(text) <= MAX_TEXT_CHARS-]{+True+}:
# gate/sending.py, gate/test_gate.py
1 role-by-one-late-request: test_newcomers_stay_and_leavers_are_skipped
    case RemovePeers() if impact.kind == "remove-each":
1 person-not-looked-at-again: test_somebody_whose_role_changes_while_others_are_removed_stays
    leave = person.id not in going[- or not await self._unchanged(call.room_id, person)-]
2 send-without-the-row: test_nobody_is_removed_under_a_row_that_was_closed
    if step != "started":
2 end-again-unseen: test_an_unclear_end_is_not_sent_again_when_the_room_cannot_be_seen
    if second or not idempotent or sight.gone[- is not False-] or not await self._mine(action):
2 end-again-and-again: test_an_unclear_end_is_sent_a_second_time_and_not_a_third
    if [-second or -]not idempotent or sight.gone is not False or not await self._mine(action):
2 end-again-in-a-new-session: test_an_unclear_end_is_not_sent_again_into_a_new_session
    if [-room.session.id != session_id or (-]ids and not still[-)-]:
2 unclear-called-failed: test_an_unclear_message_stays_unknown_and_is_not_sent_again
    if error.executed == "no":
        return outcome.failed(error)
    [-text = f"{outcome.unsure(call)} ({error}) A message cannot be looked up."-]{+return outcome.failed(error)+}
2 error-reads-as-not-sent: test_an_unexpected_error_while_sending_is_unknown_and_not_sent_again
    except [-Exception-]{+JournalError+} as error:
4 cancelled-unrecorded: test_what_stops_a_send_is_on_record_at_once
    await asyncio.shield(asyncio.to_thread(self._try_to_record, action, error))
4 stopped-unrecorded: test_what_stops_a_send_is_on_record_at_once
    await asyncio.to_thread(self._try_to_record, action, error)
4 outcome-unrecorded: test_the_journal_tells_who_asked_what_was_shown_who_decided_and_what_came
    if self._journal.move(action, result.state, by=by, way=way, data=data[-, **columns-]):
4 late-answer-unrecorded: test_a_late_answer_after_all_is_recorded
    if now.state == "unknown" and result.state != "unknown":
4 step-unrecorded: test_a_role_removal_tells_the_fate_of_each_person
    await asyncio.to_thread(self._journal.end_step, action.id, person.id, fate[person.id])
# gate/journal.py, gate/test_journal.py
2 ends-beside-what-is-sent: gate/test_gate.py::test_an_end_waits_for_the_removal_that_is_being_sent
    sa.or_([-other.c.state == "sent", -]other.c.finished_at > naive(since)),
1 claim-any-digest: test_a_claim_is_for_the_digest_that_was_approved
    actions.c.digest == action.digest,
1 second-question-replaces: test_the_first_question_at_a_place_stays
    return Ask([-list(found or [])-]{+wanted+}, fresh=False)
2 claim-of-anything: test_only_an_approved_row_can_be_claimed
        if action.state != "approved":

2 claim-in-any-state: test_a_claim_has_one_winner_among_threads
    where = [actions.c.id == action.id[-, actions.c.state == action.state-]]
2 any-step: test_only_the_machines_steps_are_taken
    if not allowed(action.state, after):
2 person-twice: test_one_person_is_removed_by_one_request
    except IntegrityError:
        return [-"before"-]{+"started"+}
2 step-without-a-lease: test_one_person_is_removed_by_one_request
    if not self._renew(db, action_id, lease_s):
3 claim-late: test_a_claim_after_the_deadline_fails
    actions.c.expires_at > naive(now),
3 any-rate: gate/test_gate.py::test_more_actions_per_minute_than_allowed_are_not_sent
    if (db.scalar(recent) or 0) >= per_minute:
3 grant-any-session: gate/test_gate.py::test_for_the_session_covers_the_same_kind_only
    same = ("tool", "room_id", [-"session_id", -]"thread", "requester", "worker", "audience")
3 grant-any-thread: gate/test_gate.py::test_for_the_session_covers_the_same_kind_only
    same = ("tool", "room_id", "session_id", [-"thread", -]"requester", "worker", "audience")
3 grant-any-requester: gate/test_gate.py::test_for_the_session_does_not_reach_a_grown_audience_or_another_requester
    same = ("tool", "room_id", "session_id", "thread", [-"requester", -]"worker", "audience")
3 grant-any-kind: gate/test_gate.py::test_for_the_session_does_not_reach_another_role_or_type
    same = ("tool", "room_id", "session_id", "thread", "requester", "worker"[-, "audience"-])
3 grant-any-size: gate/test_gate.py::test_for_the_session_does_not_reach_a_grown_audience_or_another_requester
    grants.c.most >= wanted.most,
3 grant-late: gate/test_gate.py::test_for_the_session_ends_with_its_time
    grants.c.expires_at > naive(self.now()),
4 move-without-event: test_whatever_is_tried_each_step_is_taken_once_and_recorded
    self._event(db, action.id, after, by, way, data)
# gate/schema.py, gate/test_journal.py
2 claim-not-on-disk: test_the_file_is_durable_and_private
    for pragma in ("journal_mode=WAL", "synchronous=[-FULL-]{+NORMAL+}", "foreign_keys=ON", "busy_timeout=30000"):
4 events-changeable: test_events_are_append_only
    connection.exec_driver_sql(statement)
# gate/states.py, gate/test_journal.py
2 unknown-may-be-sent: test_nothing_is_sent_but_what_was_approved
    "unknown": frozenset({"done", "failed"{+, "sent"+}}),
# gate/policy.py, gate/test_policy.py
3 policy-unknown-key: test_an_unknown_key_or_wrong_value_is_an_error
    model_config = ConfigDict(frozen=True[-, extra="forbid"-])
3 policy-relaxes-hard-gates: test_an_unknown_key_or_wrong_value_is_an_error
    if gate_for(capability().tool(name).hints) == "hard":
3 policy-unattended-from-a-file: test_a_file_cannot_leave_a_tool_unattended
    if "unattended" in values:
3 policy-cleared-by-nothing: test_an_empty_variable_does_not_clear_a_protection
    if not text.strip():
3 nothing-is-asked: gate/test_gate.py::test_nothing_runs_without_a_decision
    return [-tool in self.unattended or tool in self.relaxed-]{+True+}
3 protected-role: gate/test_impact.py::test_a_protected_role_is_never_removed
    if folded(role) in {folded(r) for r in self.protected_roles}:
3 protected-user-id: gate/test_impact.py::test_a_protected_user_id_is_never_removed_even_by_role
    if folded(user_id) in {folded(u) for u in self.protected_user_ids}:
# tools/asking.py, tools/test_in_graphs.py
3 tool-swallows-the-interrupt: tools/test_in_graphs.py::test_in_a_shared_tool_node_one_call_asks_and_its_siblings_are_not_executed
    answer = [-interrupt(payload(request, tool_call_id), response_schema=answer_model(request.digest))-]{+answer_model(request.digest)({"type": "approve", "digest": request.digest})+}
1 tool-old-answer-for-new-question: test_a_drift_is_asked_again_and_the_old_answer_does_not_count_for_it
    asked = [-await asyncio.to_thread(journal.get, ask.items[1]) or -]action
3 tool-answer-before-question: test_an_answer_waiting_before_the_question_does_not_count
    if [-ask.fresh-]{+False+}:
        raise BadAnswerError("an answer that was there before the question")
3 tool-siblings-ask: test_in_a_shared_tool_node_one_call_asks_and_its_siblings_are_not_executed
    if [-ask.items[0] != action.call_key or -]position >= _MAX_QUESTIONS:
4 tool-asking-unrecorded: test_each_question_and_each_bad_answer_is_on_record
    await gate.asked(asked, "interrupt")
4 tool-bad-answer-unrecorded: test_each_question_and_each_bad_answer_is_on_record
    await gate.bad_answer(asked, str(error), way="interrupt")
# tools/active_rooms.py, tools/test_in_graphs.py
2 call-without-id-twice: test_a_node_that_invokes_a_tool_without_a_call_id_sends_once
    identity = call_id or [-("" if place.task else -]str(uuid4())[-)-]
# agent/moderator.py, agent/test_moderator.py
3 turn-swallows-the-interrupt: e2e/test_promise.py::test_a_removal_is_shown_asked_done_once_checked_and_on_record
    answer = [-interrupt(hitl_request(requests, state.get("problem", "")))-]{+{"decisions": [{"type": "approve", "digest": r.digest} for r in requests]}+}
1 turn-answer-for-other-rows: test_rows_swapped_inside_the_checkpoint_do_not_get_the_answer
    if ask.fresh[- or ask.items != [row.id for row in rows]-]:
3 turn-answer-before-question: test_an_answer_that_comes_with_the_question_is_not_its_answer
    if [-ask.fresh or -]ask.items != [row.id for row in rows]:
3 turn-asks-for-another-thread: test_a_thread_never_asks_about_the_rows_of_another
    rows = [row for row in rows if row.thread == self._thread(config)]
3 new-message-withdraws-nothing: test_a_new_message_withdraws_what_was_pending
    await self._gate.withdraw(action.id, _WITHDRAWN, by="person", way="message")
3 turn-endless-refusals: test_repeated_refusals_end_the_turn
    if history.refusals_in_a_row(state["messages"]) >= self._gate.policy.refusals_in_a_row:
3 turn-endless-questions: test_too_many_questions_in_a_turn_are_refused
    elif asked + len(pending) >= self._max_prompts:
4 turn-asking-unrecorded: test_each_question_and_each_bad_answer_of_a_turn_is_on_record
    await gate.asked(row, "interrupt")
4 turn-bad-answer-unrecorded: test_each_question_and_each_bad_answer_of_a_turn_is_on_record
    await self._gate.bad_answer(row, problem, way="interrupt")
# agent/history.py, agent/test_moderator.py
1 call-ids-used-again: test_a_result_is_told_for_its_own_call_even_if_a_later_one_has_the_same_id
    chosen = f"call_{uuid4().hex}" if not call_id[- or call_id in seen-] else call_id
# api/retry.py, api/test_retry.py
2 write-again-after-a-timeout: test_the_table_in_the_docstring_holds
    "timeout": _Rule("maybe", [-_READ-]{+_BOTH+}),
2 401-for-ever: test_a_401_gets_a_new_token_once_at_once
    return [-"stop" if refreshed else -]"refresh_token"
# api/calls.py, api/test_wire.py
2 401-not-remembered: test_a_second_401_ends_the_call
    refreshed = True
2 deadline-says-not-executed: api/test_deadline.py::test_a_write_under_way_at_the_deadline_may_have_been_executed
    done = executed([-"timeout" if flight.sent else -]"not_sent", request.effect)
# api/client.py, api/test_client.py
1 empty-target-is-everyone: test_a_wrong_call_is_refused_before_any_request
    if not value and not may_be_empty:
# api/auth.py, api/test_auth.py
4 token-in-repr: test_no_repr_shows_a_secret
    return [-"StaticToken(**********)"-]{+f"StaticToken({self._token.get_secret_value()})"+}
# api/ids.py, api/test_ids.py
5 id-with-a-tail: test_a_hostile_id_is_refused
    if _ROOM_ID.[-full-]match(value):
# capability.py, test_capability.py
5 path-unquoted: test_a_path_is_filled_and_quoted
    return _PLACEHOLDER.sub(lambda match: [-quote(-]values[match[1]][-, safe="")-], self.path)
# untrusted.py, test_untrusted.py
5 quoted-raw: test_only_what_a_person_can_see_comes_out_and_on_one_line
    body = f'"{[-escaped(-]text[:cap][-)-]}"'
5 quoted-unbounded: test_the_length_is_bounded_whatever_comes_in
    body = f'"{escaped(text[-[:cap]-])}"'
# gate/wording.py, e2e/test_promise.py
5 question-raw: test_hostile_names_never_reach_a_model_or_a_question_raw
    f"{[-quoted(-]person.name[-)-]}, role {quoted(person.role, 30)}, "
# tools/roster.py, tools/test_roster.py
5 roster-any-budget: test_hostile_text_in_every_field_cannot_pass_the_budget
    return [-_fitted(view, default_budget(limit) if budget is None else budget)-]{+view+}
5 roster-raw: test_the_hostile_scene_comes_out_as_rows_of_what_a_person_can_see
    return f'"{[-escaped(-]shown[-)-]}{"" if len(shown) == len(text) else "…"}"'
"""

GUARD = """
from pathlib import Path
import hms_active_rooms
assert Path(hms_active_rooms.__file__).is_relative_to(Path(__file__).parent / "skill")
"""
"""The copy's conftest: the package is installed editable, but the copy must be what is tested."""

WORKERS = 2

HANGS_S = 20
"""A test that a mutation makes hang has failed after so long; none of them takes it."""

PLUGINS = ("asyncio", "timeout", "hypothesispytest")
ENVIRONMENT = {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "COLUMNS": "160"}
"""Only the plugins the tests need: loading all that happen to be installed doubles the time."""

NO_TEST_RAN = re.compile(r"^ERROR|- (\w*ImportError|ModuleNotFoundError|NameError|SyntaxError)\b")


@dataclass(frozen=True)
class Mutation:
    """One damage to one file, and the test that must notice."""

    sentence: str
    name: str
    file: str
    test: str
    lines: tuple[str, ...]

    def damaged(self, source: str) -> str:
        """The source with the damage done; its lines must stand there exactly once."""
        old = [re.sub(r"\[-(.*?)-\]|\{\+.*?\+\}", r"\1", line) for line in self.lines]
        new = [re.sub(r"\[-.*?-\]|\{\+(.*?)\+\}", r"\1", line) for line in self.lines]
        if new == old:
            condition = re.sub(r"\b(el)?if .*:$", r"\1if False:", old[0])
            gone = [] if old[-1].endswith(",") else ["pass"]
            new = [condition] if condition != old[0] else gone
        pattern = re.compile("^( *)" + r"\n\1".join(map(re.escape, old)) + "$", re.MULTILINE)
        found = list(pattern.finditer(source))
        if len(found) != 1:
            sys.exit(f"{self.name}: its lines stand {len(found)} times in {self.file}, not once.")
        lines = "\n".join(found[0][1] + line for line in new if line.strip())
        return source[: found[0].start()] + lines + source[found[0].end() :]


def listed() -> list[Mutation]:
    """The listing, read."""
    found: list[Mutation] = []
    file = tests = ""
    for block in re.findall(r"^(?:# .+|[1-5] .+(?:\n    .+)+)$", LISTING, re.MULTILINE):
        head, *lines = block.splitlines()
        if head.startswith("# "):
            file, tests = head[2:].split(", ")
            continue
        sentence, name, test = head.replace(":", "", 1).split()
        test = f"tests/{test}" if "::" in test else f"tests/{tests}::{test}"
        found.append(Mutation(sentence, name, file, test, tuple(line[4:] for line in lines)))
    return found


def copied(tree: Path) -> Path:
    """A copy of the package and its tests in this folder."""
    for part in ("skill", "tests", "evals"):
        shutil.copytree(PROJECT / part, tree / part, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy2(PROJECT / "pyproject.toml", tree)
    (tree / "conftest.py").write_text(GUARD)
    return tree


def tested(tree: Path, tests: Sequence[str], **env: str) -> tuple[int, str]:
    """Run these tests in a copy; pytest's exit code and output."""
    plugins = [word for name in PLUGINS for word in ("-p", name)]
    options = [*plugins, "-p", "no:cacheprovider", "-q", "-x", "--tb=no", f"--timeout={HANGS_S}"]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *options, *tests],
        cwd=tree,
        env={**os.environ, **ENVIRONMENT, "PYTHONPATH": str(tree / "skill"), **env},
        capture_output=True,
        text=True,
        check=False,
        timeout=3 * HANGS_S,
    )
    return done.returncode, done.stdout + done.stderr


def judged(mutation: Mutation, tree: Path) -> tuple[str, str]:
    """Damage the copy, run the test, undo; the verdict and what it rests on."""
    path = tree / PACKAGE / mutation.file
    source, stat = path.read_text(encoding="utf-8"), path.stat()
    path.write_text(mutation.damaged(source), encoding="utf-8")
    os.utime(path, (0, 0))  # so that no compiled file of the sound source is taken for it
    try:
        code, output = tested(tree, [mutation.test], PYTHONDONTWRITEBYTECODE="1")
    except subprocess.TimeoutExpired:
        return "killed", f"{mutation.test} - it never ends"
    finally:
        path.write_text(source, encoding="utf-8")
        os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    if code == 0:
        return "SURVIVED", mutation.test
    ends = [line for line in output.splitlines() if line.startswith(("FAILED", "ERROR"))]
    if code != 1 or not ends or NO_TEST_RAN.search(ends[0]):
        return "broken", output[-2000:]
    return "killed", ends[0].removeprefix("FAILED ")


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--only", metavar="NAME", help="this mutation only")
    only = parser.parse_args().only
    chosen = [m for m in listed() if only in (None, m.name)]
    if not chosen:
        sys.exit(f"There is no mutation {only!r}.")
    started, count, free = time.monotonic(), Counter[str](), Queue[Path]()
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(WORKERS) as pool:
        trees = [copied(Path(folder).resolve() / str(n)) for n in range(WORKERS)]
        for mutation in chosen:
            mutation.damaged((trees[0] / PACKAGE / mutation.file).read_text(encoding="utf-8"))
        tests = sorted({m.test for m in chosen})
        shares = [share for n in range(WORKERS) if (share := tests[n::WORKERS])]
        for code, output in pool.map(tested, trees, shares):
            if code:
                sys.exit(f"The tests do not pass without a mutation:\n{output}")
        print(f"All {len(tests)} tests pass without a mutation.", flush=True)
        for tree in trees:
            free.put(tree)

        def judge(mutation: Mutation) -> tuple[str, str]:
            tree = free.get()
            try:
                return judged(mutation, tree)
            finally:
                free.put(tree)

        for mutation, (verdict, why) in zip(chosen, pool.map(judge, chosen), strict=True):
            count[verdict] += 1
            print(f"{verdict:8} {mutation.sentence} {mutation.name:32} {why}", flush=True)
    words = ", ".join(f"{number} {verdict}" for verdict, number in count.items())
    print(f"{len(chosen)} mutations in {time.monotonic() - started:.0f} s: {words}.")
    return 0 if count["killed"] == len(chosen) else 1


if __name__ == "__main__":
    sys.exit(main())
