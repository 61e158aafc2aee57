"""Remove this line, that test fails: damages the gate, one line at a time, to see a test notice.

    python tests/mutations.py [--only NAME]

Works on two copies in a temporary folder, never on the project. Each mutation is applied
alone and the one test that holds the line is run: killed (the test fails, as it must),
SURVIVED (it did not notice) or broken (it did not run, or the damage crashed, so it says
nothing). Exit code 1 unless all are killed.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import time
import venv
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
#
# Skip the digest: `*-any-digest`. Skip the claim: `skip-the-claim`, `claim-*`. Trust graph state:
# `trust-graph-state`, `turn-answer-*`. Swallow the interrupt: `*-swallows-the-interrupt`. Accept
# a malformed answer: `malformed-answer-is-a-yes`. Ignore expiry: `*-late`. Expand roles late:
# `drift-newcomers-*`, `role-by-one-late-request`.
LISTING = r"""
# gate/gate.py, gate/test_gate.py
1 run-whatever-changed: test_a_new_session_is_asked_about_again_and_not_ended
    again = [-change.reason if change.verdict == "ask_again" else -]""
2 propose-forgets-the-row: test_a_removal_that_is_done_is_told_again_not_looked_for_again
    if found is not None:
2 two-ends-at-once: test_two_ends_approved_for_one_session_never_end_the_next
    alone_since=read_at if [-names_nobody-]{+False+} else None,
2 skip-the-claim: test_many_runs_of_one_approval_send_one_request
    if [-claimed-]{+True+}:
2 run-looks-for-nothing: test_a_row_somebody_else_has_sent_is_not_sent_again
    return [-await self._settle(action)-]{+action+}
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
3 grant-that-is-over: test_what_a_grant_approved_is_asked_about_when_the_grant_is_over
    if action.decided_way.startswith(_BY_GRANT) and await self._grant(action) is None:
3 grant-opens-hard-gates: test_a_grant_never_opens_a_hard_gate_wherever_it_came_from
    if [-action.gate == "soft" and -](grant := await self._grant(action)) is not None:
3 grant-over-and-sent: test_what_a_grant_approved_is_asked_about_when_the_grant_is_over
    if action.decided_way.startswith(_BY_GRANT) and await self._grant(action) is None:
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
3 run-late: test_what_is_approved_and_not_sent_is_over_at_its_deadline
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
# tools/one_at_a_time.py, tools/test_in_graphs.py
3 twice-at-once-asks-twice: test_a_call_made_twice_at_once_with_one_id_is_one_question_and_one_request
    place, mine = (os.getpid(), [-key-]{+f"{id(asyncio.current_task())}"+}), object()

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
1 call-twice-asked-twice: test_a_call_made_twice_at_once_with_one_id_is_one_question_and_one_request
    if [-not place.task-]{+True+}:
3 callback-late-is-a-yes: tools/test_tools.py::test_no_answer_of_a_callback_is_none_whatever_the_journals_clock_says
    answer = [-Reject("nobody answered in time")-]{+request.approve()+}
3 turn-asked-by-the-tool: agent/test_moderator.py::test_an_old_answer_does_not_count_for_a_new_question
    if not ask_here:
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
3 trust-graph-state: test_rows_swapped_inside_the_checkpoint_do_not_get_the_answer
    if ask.fresh or ask.items != [row.id for row in rows]:
3 malformed-answer-is-a-yes: test_a_client_that_only_gives_bad_answers_comes_to_an_end
    [-return await self._ask_again(rows, str(error), state.get("bad_answers", 0) + 1)-]{+decisions = [r.approve() for r in requests]+}
3 turn-plain-answers-everywhere: test_a_bad_answer_is_asked_again_and_sends_nothing
    decisions = parse_hitl_answer(answer, requests, by, plain_answers=[-self._plain_answers-]{+True+})
3 turn-endless-bad-answers: test_a_client_that_only_gives_bad_answers_comes_to_an_end
    if bad >= MAX_BAD_ANSWERS:
5 turn-endless-calls: test_a_flood_of_calls_is_cut
    if number >= MAX_CALLS:
# agent/history.py, agent/test_moderator.py
1 call-ids-used-again: test_a_result_is_told_for_its_own_call_even_if_a_later_one_has_the_same_id
    chosen = f"call_{uuid4().hex}" if not call_id[- or call_id in seen-] else call_id
# serve/eliciting.py, serve/test_mcp.py
1 form-without-digest: test_an_approved_removal_is_sent_once
    f"(action {request.action_id}[-, digest {request.digest[:12]}-]).{also}"
3 form-anything-approves: test_only_exactly_approve_approves
    if decision [-== "approve"-]{+!= "reject"+}:
3 form-with-other-fields: test_only_exactly_approve_approves
    if action != "accept"[- or given-] or not isinstance(reason, str):
3 form-closed-is-an-answer: test_a_closed_question_leaves_the_action_waiting
    if action == "cancel":
3 form-declined-is-a-yes: test_a_no_sends_nothing
    return {"type": [-"reject", "message": ""-]{+"approve", "digest": digest+}}
3 form-approves-by-enter: test_an_approved_removal_is_sent_once
    "enum": ["reject", "approve"],{+ "default": "approve",+}
4 client-looks-like-a-person: test_the_record_says_that_a_client_answered_and_no_name_looks_like_more
    return f"[-client -]{client_name(name)}"
5 client-name-raw: test_the_record_says_that_a_client_answered_and_no_name_looks_like_more
    return [-_NOT_IN_A_NAME.sub("_", -]given[: 10 * _MAX_NAME_CHARS][-)-][:_MAX_NAME_CHARS] or "unnamed"
# serve/mcp_calls.py, serve/test_mcp.py
1 form-for-another-question: test_an_old_answer_does_not_approve_what_is_asked_by_then
    if asked and response[- and (asked.action, asked.digest) == (action.id, action.digest)-]:
2 round-again-is-a-new-call: serve/test_held.py::test_an_accepted_round_sent_again_asks_nobody_and_sends_no_second_message
    if talk.asked is not None:
3 answer-where-nobody-is-asked: test_without_elicitation_an_answer_that_comes_anyway_is_none
    response if [-elicit and -]asked and isinstance(response, types.ElicitResult) else None,
3 asked-where-nobody-may-be: test_without_elicitation_nobody_is_asked_through_the_client
    closed=[-not elicit-]{+False+},
3 form-closed-is-asked-again: test_a_closed_question_leaves_the_action_waiting
    talk.closed = True
3 form-one-time-more: test_bad_answers_are_not_asked_about_for_ever
    if self.closed or self.questions >[-=-] eliciting.MOST_QUESTIONS or ability is None:
4 form-asking-unrecorded: serve/test_held.py::test_what_a_person_was_asked_through_their_client_is_on_record
    await self._gate.asked(action, eliciting.WAY)
4 form-bad-answer-unrecorded: test_only_exactly_approve_approves
    await self._gate.bad_answer(action, str(error), way=eliciting.WAY)
4 client-told-nothing-of-whose: serve/test_held.py::test_a_yes_after_somebody_elses_no_sends_nothing_and_tells_whose_it_was
    if not verdict.counted:
4 client-told-the-old-state: test_a_question_is_taken_back_when_somebody_decides_elsewhere
    action = await self._gate.latest(action)
4 client-told-failed-is-fine: test_a_fault_before_executing_says_that_nothing_was_executed
    is_error=[-answer.failed-]{+False+},
4 client-told-no-executed: test_an_unknown_field_is_refused
    content=[types.TextContent(text=[-error.for_model()-]{+str(error)+})],
4 report-hides-the-outcome: test_a_progress_report_that_fails_does_not_hide_what_was_done
    await [-asyncio.gather(-]report.once()[-, return_exceptions=True)-]
5 client-told-a-bugs-text: test_a_bug_does_not_tell_the_client_its_text
    types.INTERNAL_ERROR, [-"The server failed. What was executed is in the journal."-]{+str(error)+}
# serve/mcp.py, serve/test_mcp.py
1 round-unsealed: test_a_forged_state_is_refused
    server.middleware.append(RequestStateBoundary(security, default_audience=NAME))
3 hints-untold: test_the_tools_carry_title_hints_and_output_schema
    destructive_hint=told["destructiveHint"],
# serve/decisions.py, serve/test_decisions.py
1 wrong-edit-is-a-no: test_a_wrong_edit_decides_nothing_and_says_what_is_wrong
    raise BadAnswerError(f"the edit is wrong: {str(error).rstrip('.')}") from None
2 outside-decision-sent-for-others: test_a_restart_sends_nothing_that_another_program_asked_for
    if not action.thread.startswith(THREADS) and action.decided_way not in _SENT_HERE:
2 outside-yes-forgotten: test_a_restart_sends_what_a_person_approved_here_whoever_asked
    _SENT_HERE = ("page", [-"rest"-])
3 outside-decides-in-any-room: test_actions_of_other_rooms_are_neither_listed_nor_decided
    if rooms is not None and action.room_id not in rooms:
3 outside-lists-any-room: test_actions_of_other_rooms_are_neither_listed_nor_decided
    rooms=allowed_rooms(gate),
3 outside-asks-of-any-room: test_actions_of_other_rooms_are_neither_listed_nor_decided
    gate.policy.check_room(room_id)
3 outside-for-the-session: test_what_is_asked_from_outside_is_never_approved_for_the_session
    case Approve(scope="session") if action.thread.startswith(THREADS):
3 outside-no-too-late: test_a_no_to_what_is_approved_and_not_sent_is_still_in_time
    if isinstance(decision, Reject):
4 outside-room-unrecorded: serve/test_held.py::test_an_action_of_another_room_is_refused_on_record_whoever_wants_it
    refusals_of(gate.journal).add("another_room", f"action {action.id}", "")
4 outside-bad-answer-unrecorded: serve/page/test_page.py::test_one_action_is_shown_with_all_that_happened_to_it
    await gate.bad_answer(action, str(error), way=way)
4 outside-every-decision-counts: test_of_two_at_once_one_counts
    if not is_ours(decided, row, rejects=isinstance(decision, Reject), by=by, way=way):
4 outside-no-before-it-left-untold: test_whoever_approved_is_told_of_a_no_that_came_before_it_was_sent
    if no_before_it_was_sent and not isinstance(decision, Reject):
4 outside-told-not-executed: test_what_somebody_else_sent_meanwhile_is_told_by_an_error_too
    raise [-await truthful(gate, action.id, error) from None-]
# serve/running.py, serve/test_decisions.py
1 repetition-with-any-drift: serve/test_calls.py::test_a_repetition_a_person_approved_is_asked_about_again_when_the_room_changed
    return await [-(-]gate[- if action.decided_way in _UNASKED else gate.asking())-].run(action_id)
2 send-ends-with-its-caller: serve/test_mcp.py::test_a_client_that_goes_away_does_not_stop_what_was_approved
    return await [-asyncio.shield(-]task[-)-]
4 sent-and-called-not-executed: serve/test_calls.py::test_an_error_after_something_was_sent_says_so
    truth = [-_by_row(error, row, action_id)-]{+error+}
4 done-and-called-an-error: serve/test_calls.py::test_an_error_after_something_was_sent_says_so
    if row is not None and row.state in FINAL:
# serve/calls.py, serve/test_calls.py
2 key-of-two-calls: test_a_key_of_one_call_is_none_for_another
    if place.items[0] != content:
2 key-forgotten: test_a_key_is_one_row_for_ever
    if caller.key:
2 key-of-everybody: test_two_callers_have_an_action_each
    return THREADS[- + self.channel-]
2 outcome-told-for-ever: test_the_same_call_finds_its_row_and_then_its_outcome_once
    await asyncio.to_thread(gate.journal.note, action.id, "told", way="call")
2 outcome-told-next-day: test_an_outcome_nobody_was_told_answers_the_same_call_for_an_hour
    if gate.journal.now() - _ended_at(action) > TOLD_WITHIN:
3 repetition-unasked: test_a_repetition_never_runs_unasked
    return await [-(gate.asking() if again else -]gate[-)-].propose(call, origin)
3 questions-without-end: test_no_more_questions_are_asked_than_people_can_read
    if waiting >= MAX_OPEN:
4 repetition-told-as-new: test_an_outcome_that_was_there_before_the_call_is_told_as_one
    return has_ended(action) and [-_ended_at(action) < began-]{+False+}
4 refused-reader-unrecorded: serve/test_refusals.py::test_reading_another_room_is_refused_on_record
    refusals_of(gate.journal).add(error.code, what, caller.requester)
4 refused-reader-unlogged: test_another_room_is_refused_and_logged
    _log.warning("refused %s: %s", name, quoted(str(error), 200))
# serve/answers.py, serve/test_mcp.py
4 unknown-told-as-not-executed: test_a_lost_answer_says_that_it_may_have_been_executed
    if action.state in ("sent", "unknown"):
        return [-"maybe"-]{+"no"+}
4 failed-told-as-fine: test_a_fault_before_executing_says_that_nothing_was_executed
    failed = action.state == "failed" and executed == [-"no"-]{+"yes"+}
5 data-raw: serve/test_calls.py::test_hidden_characters_of_names_are_escaped_in_the_data
    return [-escaped(-]shown[-)-] + ("" if len(shown) == len(text) else "…")
# serve/admission.py, serve/test_guard.py
3 any-host: test_every_other_host_is_refused
    if match is None[- or match[1] not in settings.hosts-]:
3 any-origin: test_only_the_own_and_named_origins_are_let_through
    if not _origin_fits(settings, headers.get("origin", []), hosts[0].lower()):
3 origin-of-any-port: test_only_the_own_and_named_origins_are_let_through
    return match[1]{+.partition(":")[0]+} == host{+.partition(":")[0]+} or origin in settings.origins
3 origin-twice: test_only_the_own_and_named_origins_are_let_through
    if [-len(origins) > 1 or -]match is None:
3 any-site: serve/test_admission.py::test_what_another_site_makes_a_browser_send_is_refused
    if not headers.get("origin") and not _site_fits(settings, path, headers):
3 page-in-a-frame: serve/test_admission.py::test_a_link_elsewhere_opens_the_page_but_no_frame_does
    return path.rstrip("/") in settings.own_login[- and opened == (["navigate"], ["document"])-]
3 any-proxy: serve/test_admission.py::test_without_a_token_nobody_comes_through_a_proxy
    if not settings.token and any(_PROXIED.fullmatch(name) for name in headers):
3 no-token-needed: test_a_token_is_told_from_every_other
    if who == "" and settings.token and not _needs_no_token(settings, path):
3 no-token-below-healthz: test_only_the_page_and_healthz_do_without_the_token
    return own or path[- in settings.open_paths-]{+.startswith(settings.open_paths)+}
3 token-by-its-beginning: test_a_token_is_told_from_every_other
    if [-hmac.compare_digest(_hash(given.strip()), _hash(token))-]{+token.startswith(given.strip())+} and token:
3 token-of-nobody: serve/test_held.py::test_where_only_approvers_have_a_token_an_empty_one_is_no_callers
    if hmac.compare_digest(_hash(given.strip()), _hash(token))[- and token-]:
3 token-told-by-time: serve/test_held.py::test_the_guard_compares_every_token_whichever_was_given
    [-found =-]{+return+} who
3 token-twice: test_a_token_is_told_from_every_other
    if [-len(values) > 1 or -]scheme.lower() != "bearer":
3 token-by-any-scheme: test_a_token_is_told_from_every_other
    if len(values) > 1[- or scheme.lower() != "bearer"-]:
3 approver-beyond-rest: test_an_approvers_token_opens_nothing_but_rest
    if who == "approver" and not path.startswith("/v1/"):
3 caller-is-the-approver: test_a_wrong_setting_is_an_error
    if self.token and self.token in self.approver_tokens:
3 beyond-loopback-without-a-token: test_beyond_loopback_there_must_be_a_token
    elif not token:
4 token-in-the-settings-repr: test_tokens_are_not_in_the_repr
    token: str = field(default="", repr=[-False-]{+True+})
5 any-length: test_a_large_or_malformed_length_is_refused
    if lengths and (len(lengths[0]) > 12 or int(lengths[0]) > settings.max_body_bytes):
# serve/guard.py, serve/test_guard.py
3 guard-lets-through: test_what_is_refused_never_reaches_the_application
    if isinstance(verdict, Refusal):
3 guard-forgets-who: test_what_is_refused_never_reaches_the_application
    scope[PRINCIPAL_KEY] = verdict
4 guard-logs-secrets: test_what_is_refused_never_reaches_the_application
    note_refusal(self._refusals, refusal.word, scope["method"], scope["path"]{+ + scope["query_string"].decode()+}, client)
4 guard-logs-nothing: test_what_is_refused_never_reaches_the_application
    _log.warning(
        "refused %s %s from %s: %s",
        quoted(method, 10)[1:-1],
        quoted(path, 100),
        quoted(client, 50)[1:-1],
        word,
    )
4 guard-records-nothing: e2e/test_refused_requests.py::test_refused_requests_are_on_record_without_their_secrets
    refusals.add(word, f"{method[:10]} {path}", client)
5 body-of-any-size: test_what_is_refused_never_reaches_the_application
    if len(body) > limit:
# serve/refusals.py, serve/test_refusals.py
4 refusals-without-end: test_a_flood_is_counted_and_fills_nothing
    if self._written[word] >= MOST_A_MINUTE:
4 refusals-uncounted: test_a_flood_is_counted_and_fills_nothing
    self._write(word, f"{count:,} more", "")
4 refusals-end-with-one-failure: test_a_journal_that_takes_nothing_keeps_no_refusal_from_being_one
    except [-JournalError-]{+LookupError+} as error:
5 refusals-raw: test_what_strangers_wrote_is_escaped_and_cut
    return [-escaped(-]text[:_MAX_CHARS][-)-] + ("…" if len(text) > _MAX_CHARS else "")
# serve/page/view.py, serve/test_held.py
5 page-raw: test_the_page_is_told_no_name_raw_and_none_in_full_length
    return [-escaped(-]text[:most][-)-] + ("…" if len(text) > most else "")
5 page-unbounded: test_the_page_is_told_no_name_raw_and_none_in_full_length
    return escaped(text[-[:most]-]) + ("…" if len(text) > most else "")
# serve/app.py, serve/test_http.py
3 app-without-its-guard: test_refused_requests_read_nothing_from_100ms
    return [-Guard(-]LastResort(app)[-, guard, refusals)-]
# serve/last_resort.py, serve/test_last_resort.py
4 bug-called-not-executed: test_a_bug_is_answered_with_maybe_and_logged_once_without_its_text
    "executed": [-"maybe"-]{+"no"+},
4 bug-logged-with-its-text: test_a_bug_is_answered_with_maybe_and_logged_once_without_its_text
    _log.error("failed %s %s: %s", *_request(scope), [-_where(error)-]{+error+})
# serve/server.py, serve/test_patience.py
2 stop-waits-for-nothing: test_a_stop_while_sending_waits_and_tells_the_approver
    sends = asyncio.create_task(all_ended([-LAST_SENDS_S-]{+0+}))
# serve/rest_approvers.py, serve/test_rest_deciding.py
3 approver-is-the-caller: serve/test_held.py::test_whoever_is_no_approver_decides_nothing
    if role == "caller":
3 everybody-is-an-approver: serve/test_held.py::test_whoever_is_no_approver_decides_nothing
    return Approver(DEFAULT_NAME)[- if role == "approver" else CallingProgram()-]
3 any-token-is-an-approvers: serve/test_held.py::test_whoever_is_no_approver_decides_nothing
    if [-hmac.compare_digest(given, wanted)-]{+given+}:
3 approver-told-by-time: serve/test_held.py::test_rest_compares_every_approvers_token_whichever_was_given
    [-name = known-]{+return Approver(known)+}
4 two-approvers-one-token: serve/test_rest_wire.py::test_a_wrong_approver_is_an_error_that_shows_no_token
    if len(set(hashes.values())) < len(hashes):
4 two-tokens-one-approver: serve/test_rest_approvers.py::test_two_variables_for_one_name_are_an_error
    if name in found:
# serve/rest.py, serve/test_rest_deciding.py
1 rest-any-digest: test_a_digest_of_something_else_decides_nothing
    decision: dict[str, Any] = {"digest": [-given-]{+action+}.digest}
1 rest-no-to-any-digest: test_a_digest_of_something_else_decides_nothing
    if given.digest is not None:
2 rest-key-ignored: serve/test_rest.py::test_one_key_is_one_action_for_ever
    caller = Caller(WAY, WAY, [-"" if tool.hints.read_only else _key(request)-]{+""+})
2 rest-key-twice: serve/test_rest.py::test_a_malformed_key_is_refused
    if [-len(given) > 1 or -]not _KEY.fullmatch(given[0]):
3 rest-caller-approves: test_the_callers_token_never_decides
    by = [-self._approver(request)-]{+"anybody"+}
    given = checked(Approval, await body(request))
3 rest-caller-rejects: test_the_callers_token_never_decides
    by = [-self._approver(request)-]{+"anybody"+}
    given = checked(Rejection, await body(request))
3 rest-approver-calls: test_an_approvers_token_calls_nothing_that_changes_a_room
    if not tool.hints.read_only and isinstance(who(request, self._settings), Approver):
4 rest-every-decision-counts: test_a_second_decision_is_told_which_one_counted
    if not verdict.counted:
4 rest-asked-whoever-looks: serve/test_held.py::test_a_question_was_asked_by_rest_once_an_approver_read_it
    if not isinstance(who(request, self._settings), Approver):
4 rest-asked-by-a-head: serve/test_held.py::test_a_question_was_asked_by_rest_once_an_approver_read_it
    if [-request.method == "GET"-]{+True+}:
4 rest-asking-unrecorded: serve/test_held.py::test_a_question_was_asked_by_rest_once_an_approver_read_it
    await asked(self._gate, shown.action, WAY)
4 rest-late-and-waiting: test_too_late_is_told_so
    now = [-replace(action, state=action.state_at(self._gate.journal.now()))-]{+action+}
5 rest-any-id: serve/test_rest_wire.py::test_what_is_no_id_is_not_looked_up
    if not _ID.fullmatch(found):
# serve/rest_models.py, serve/test_rest_wire.py
3 rest-yes-with-more: test_a_wrong_approval_is_refused
    model_config = ConfigDict(frozen=True[-, extra="forbid"-])
# serve/rest_wire.py, serve/test_rest_wire.py
3 rest-plain-text: test_another_content_type_is_refused
    if len(types) != 1 or not _is_json(types[0]):
4 rest-refusal-unlogged: serve/test_rest_deciding.py::test_the_callers_token_never_decides
    note_refusal(refusals, problem.code, request.method, request.url.path, client)
5 rest-a-key-twice: test_a_wrong_body_is_refused_and_nothing_recorded
    if len(found) < len(pairs):
5 rest-any-depth: test_a_body_as_deep_as_allowed_is_read
    if _deeper(value, MAX_DEPTH):
# serve/page/sessions.py, serve/page/test_sessions.py
3 login-twice: test_a_link_opens_one_session
    del self._links[_hash(token)]
3 login-for-ever: test_a_link_gets_too_old
    self._links = {k: v for k, v in self._links.items() if now < v.ends_at}
3 login-for-anybody: test_a_link_for_somebody_is_nobody_elses
    person = [-link.name or -]person_name(name)
3 session-by-its-cookie: test_a_session_needs_both_its_halves
    if session is None[- or not hmac.compare_digest(session._key, _hash(key))-]:
3 session-for-ever: test_a_session_ends_by_itself_and_by_logging_out
    return session._id in self._sessions[- and self._clock() < session.ends_at-]
3 session-after-logout: test_a_session_ends_by_itself_and_by_logging_out
    self._sessions.pop(session._id, None)
5 person-unseen: test_a_name_that_cannot_be_read_is_none_and_the_link_stays
    if not name or len(name) > MAX_NAME_CHARS[- or escaped(name) != name-]:
# serve/page/http.py, serve/page/test_page.py
3 page-for-whoever-comes-next: test_one_half_of_a_session_is_none
    session = [-logins.find(cookie, request.headers.get(KEY_HEADER, ""))-]{+next(iter(logins._sessions.values()))+}
3 page-without-origin: test_without_an_origin_nothing_is_decided
    if [-not request.headers.get("origin") or -]request.headers.get("sec-fetch-site") not in (
3 page-from-any-site: test_a_request_that_another_site_could_make_decides_nothing
    if not request.headers.get("origin")[- or request.headers.get("sec-fetch-site") not in (-]{+:+}
    [-    None,-]
    [-    "same-origin",-]
    [-):-]
3 page-by-a-form: test_a_request_that_another_site_could_make_decides_nothing
    if kind != "application/json":
3 page-framed: test_every_answer_forbids_what_the_page_does_not_need
    "img-src 'self'; form-action 'self'; [-frame-ancestors 'none'; -]base-uri 'none'; "
4 page-refusal-unlogged: test_a_refusal_is_on_record_without_its_secrets
    note_refusal(request.scope.get(KEY), word, request.method, request.url.path, client)
4 page-logs-secrets: test_a_refusal_is_on_record_without_its_secrets
    note_refusal(request.scope.get(KEY), word, request.method, request.url.path{+ + request.url.query+}, client)
5 page-runs-what-is-inline: test_every_answer_forbids_what_the_page_does_not_need
    "default-src 'none'; script-src 'self'{+ 'unsafe-inline'+}; style-src 'self'; connect-src 'self'; "
# serve/page/routes.py, serve/page/test_page.py
1 page-any-digest: test_only_an_answer_to_what_was_shown_decides
    verdict = await decide(self._gate, action_id, [-body-]{+body | {"digest": (await self._gate.get(action_id)).digest}+}, by=session.name, way=WAY)
3 page-decides-for-any-site: test_without_an_origin_nothing_is_decided
    body = await [-sent_by_the_page(request)-]{+request.json()+}
    action_id = request.path_params["action_id"]
3 page-cookie-for-scripts: test_the_cookie_is_for_this_page_alone
    httponly=True,
3 page-cookie-for-other-sites: test_the_cookie_is_for_this_page_alone
    samesite="strict",
3 page-cookie-in-the-clear: test_the_cookie_is_for_this_page_alone
    secure=request.headers["origin"].lower().startswith("https:"),
3 page-cookie-everywhere: test_the_cookie_is_for_this_page_alone
    cookie_name(request),
    opened.cookie,
    max_age=int(self._settings.session_s),
    [-path=PATH,-]
3 page-logout-is-none: test_logging_out_ends_the_session
    self._logins.close(session)
4 page-decider-unrecorded: test_who_decided_is_who_logged_in
    verdict = await decide(self._gate, action_id, body, by=[-session.name-]{+WAY+}, way=WAY)
4 page-asking-unrecorded: test_a_question_opened_from_the_journal_was_asked
    await asked(self._gate, shown.action, WAY)
3 page-old-links-open: cli/test_serving.py::test_a_signal_prints_new_links_and_the_old_ones_open_nothing
    self._logins.forget_links()
4 person-unnamed: cli/test_serving.py::test_it_says_where_everything_is_and_for_whom
    return {name: self.login_link(base_url[-, name-]) for name in people or ("",)}
4 page-login-in-a-log: test_a_link_is_used_up_by_the_login_and_by_nothing_else
    return f"{base_url.rstrip('/')}{PATH}[-#-]{+?+}login={self._logins.link(name)}{person}"
# serve/page/feed.py, serve/page/test_feed.py
3 page-of-any-room: serve/page/test_page.py::test_a_refused_action_says_whether_anything_was_executed
    self._gate.policy.check_room(room_id)
3 page-asks-about-any-room: test_other_rooms_are_neither_read_nor_shown
    at=now,
    [-rooms=rooms,-]
    oldest_first=True,
3 page-shows-an-old-picture: test_no_picture_comes_before_the_journal_was_read
    if not self._fresh:
3 page-outlives-its-session: test_a_stream_ends_with_its_session_and_with_the_server
    while [-lasts() and -]not self._closed and not any(task.done() for task in self._tasks):
4 page-shown-unrecorded: test_what_was_shown_is_on_record_once
    await asked(self._gate, row, "page")
# cli/serving.py, serve/test_http.py
3 no-elicitation-by-mcp: test_the_command_warns_of_strangers_and_can_leave_the_client_out[mcp-given1-variables1-may call.-0]
    server = build_server(toolkit, guides=guides()[-, elicit=elicit-])
3 no-elicitation-by-serve: test_the_command_warns_of_strangers_and_can_leave_the_client_out[serve-given1-variables1-may call.-0]
    mcp=entry(build_server(toolkit, page=page_url, guides=guides()[-, elicit=elicit-])),
3 rooms-beyond-the-policy: serve/test_held.py::test_rooms_that_the_policy_names_stay_the_only_ones
    if named and (foreign := [room for room in rooms if room not in named]):
3 proxy-without-a-token: serve/test_held.py::test_reached_from_elsewhere_the_server_needs_a_token
    if match and not environ.get(TOKEN_VARIABLE) and not is_loopback(match[2].strip("[]")):
# cli/dialogue.py, cli/test_dialogue.py
1 terminal-edit-unseen: test_a_no_typed_where_new_words_were_asked_for_is_not_sent
    return Edit(request.digest, changes)[- if line is not None and line.strip() == "yes" else None-]
3 terminal-nearly-yes: test_anything_but_the_exact_word_is_asked_again_and_three_times_is_a_refusal
    match line.strip(){+.lower()+}:
3 terminal-endless-is-a-yes: test_an_endless_wish_to_edit_is_a_refusal
    [-raise NoValidAnswerError-]{+return request.approve()+}
3 terminal-end-is-a-yes: test_no_input_decides_nothing
    line = desk.read(prompt)
    if line is None:
        return [-None-]{+request.approve()+}
3 terminal-hard-for-the-session: test_for_the_session_is_offered_for_messages_only
    if session[- and request.gate == "soft"-]:
4 terminal-bad-answer-unrecorded: test_each_line_that_is_no_answer_is_reported_but_not_repeated
    on_bad(f"a line of {len(line)} characters")
# cli/desk.py, cli/test_changing.py
3 terminal-typed-ahead: test_what_is_typed_before_the_question_is_no_answer
    termios.tcflush(sys.stdin.fileno(), termios.TCIFLUSH)
# cli/changing.py, cli/test_changing.py
3 pipe-is-a-person: test_without_a_terminal_it_is_recorded_and_nothing_is_sent
    if [-action.state != "proposed" or somebody_here()-]{+True+}:
# cli/actions.py, cli/test_actions.py
3 pipe-approves: test_approve_without_a_terminal_decides_nothing
    if not somebody_here():
# cli/deciding.py, e2e/test_ways.py
4 terminal-asking-unrecorded: test_the_same_removal_leaves_the_same_rows_and_one_request_whatever_way_it_is_approved[terminal]
    blocking.run(gate.asked(action, WAY))
4 terminal-told-nothing-of-whose: e2e/test_two_people.py::test_whoever_comes_second_is_told_which_decision_counts[page-terminal-yes, no]
    if not ours and (words := already(row)):
3 terminal-no-too-late: serve/test_held.py::test_a_no_at_a_terminal_to_what_is_approved_and_not_sent_is_still_in_time
    if isinstance(decision, Reject) and action.state == "approved":
3 reject-proposed-only: serve/test_held.py::test_the_command_reject_takes_back_what_is_approved_and_not_sent
    while action.state in ("proposed", [-"approved"-]):
3 reject-keeps-grants: serve/test_held.py::test_the_command_reject_ends_what_was_granted_for_the_session
    journal.revoke_grants(action.thread)
# cli/conversation.py, cli/test_conversation.py
3 chat-asks-nobody: test_nobody_to_ask_leaves_the_actions_waiting
    if open_rows and not self._io.can_ask:
3 chat-half-a-turn: test_without_a_valid_answer_all_of_the_turn_is_refused
    return [-[{"type": "reject", "message": NO_VALID_ANSWER} for _ in rows]-]{+answers + [{"type": "reject", "message": NO_VALID_ANSWER}] * (len(rows) - len(answers))+}
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

PROVES_NOTHING = re.compile(
    r"^ERROR|- (\w*ImportError|ModuleNotFoundError|NameError|SyntaxError"
    r"|TypeError|AttributeError|UnboundLocalError)\b"
)
"""No test ran, or the damaged code fell over its own damage: nobody noticed what it does."""


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
            raise LookupError(f"{self.name}: stands {len(found)} times in {self.file}, not once.")
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
        sentence, name, test = head.replace(":", "", 1).split(maxsplit=2)
        test = f"tests/{test}" if "::" in test else f"tests/{tests}::{test}"
        found.append(Mutation(sentence, name, file, test, tuple(line[4:] for line in lines)))
    return found


def copied(tree: Path) -> Path:
    """A copy of the package and its tests in this folder, with an environment that has them.

    So that what a test starts runs the copy too, whatever environment variables it gets.
    """
    for part in ("skill", "tests", "evals"):
        shutil.copytree(PROJECT / part, tree / part, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy2(PROJECT / "pyproject.toml", tree)
    (tree / "conftest.py").write_text(GUARD)
    home = tree / "venv"
    venv.create(home, symlinks=True)
    packages = sysconfig.get_path("purelib", "posix_prefix", {"base": str(home)})
    paths = str(tree / "skill"), sysconfig.get_path("purelib"), sysconfig.get_path("platlib")
    (Path(packages) / "copy.pth").write_text("\n".join(paths))
    return tree


def tested(tree: Path, tests: Sequence[str], **env: str) -> tuple[int, str]:
    """Run these tests in a copy; pytest's exit code and output."""
    plugins = [word for name in PLUGINS for word in ("-p", name)]
    options = [*plugins, "-p", "no:cacheprovider", "-q", "-x", "--tb=no", f"--timeout={HANGS_S}"]
    done = subprocess.run(
        [tree / "venv" / "bin" / "python", "-m", "pytest", *options, *tests],
        cwd=tree,
        env={**os.environ, **ENVIRONMENT, **env},
        capture_output=True,
        text=True,
        check=False,
        timeout=HANGS_S * (2 + len(tests)),
    )
    return done.returncode, done.stdout + done.stderr


def misplaced(mutation: Mutation, tree: Path) -> str:
    """What is wrong with where its lines stand; "" when they stand there once."""
    try:
        mutation.damaged((tree / PACKAGE / mutation.file).read_text(encoding="utf-8"))
    except LookupError as error:
        return str(error)
    return ""


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
    if code != 1 or not ends or PROVES_NOTHING.search(ends[0]):
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
        if missing := list(filter(None, (misplaced(m, trees[0]) for m in chosen))):
            sys.exit("\n".join(missing))
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
