"""The promise, sentence by sentence, on the gate itself."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from hms_active_rooms.errors import (
    ConnectionFailed,
    InvalidCall,
    JournalError,
    NotActive,
    NotFound,
    OutcomeUnknown,
    PeerNotFound,
    PolicyRefusal,
    ServerError,
    TimedOut,
)
from hms_active_rooms.gate.approval import Approve, Edit, Reject
from hms_active_rooms.gate.calls import StateChange, parse_call
from hms_active_rooms.gate.drafts import Origin, bound, draft
from hms_active_rooms.gate.gate import Gate
from hms_active_rooms.gate.impact import Impact
from hms_active_rooms.gate.journal import Journal
from hms_active_rooms.gate.policy import Policy
from hms_active_rooms.gate.records import Action
from hms_active_rooms.gate.wording import outcome
from stand_in import ROOM, SESSION, Clock, StandInRoom, gate_on, peer

HERE = Origin("thread", "message", "call", "agent")


def classroom() -> StandInRoom:
    return StandInRoom([peer(1, "Anna", "teacher"), peer(2, "Ben"), peer(3, "Spam Bot")])


def remove(number: int = 3, **more: Any) -> StateChange:
    return parse_call("hms-remove-peers", {"room_id": ROOM, "peer_id": peer(number).id, **more})


def remove_role(role: str = "student") -> StateChange:
    return parse_call("hms-remove-peers", {"room_id": ROOM, "role": role})


def send(message: str = "hello", **more: Any) -> StateChange:
    return parse_call("hms-send-message", {"room_id": ROOM, "message": message, **more})


def end(**more: Any) -> StateChange:
    return parse_call("hms-end-active-room", {"room_id": ROOM, **more})


async def approved(gate: Gate, call: StateChange, origin: Origin = HERE) -> Action:
    action = await gate.propose(call, origin)
    return await gate.decide(action.id, Approve(action.digest), by="ada", way="test")


async def carried_out(gate: Gate, call: StateChange, origin: Origin = HERE) -> Action:
    return await gate.run((await approved(gate, call, origin)).id)


# --- 1. What a person approved is what runs ------------------------------------------------


async def test_an_approved_removal_runs_and_is_checked() -> None:
    room = classroom()
    action = await carried_out(gate_on(room), remove(reason="spam"))
    assert action.state == "done"
    assert action.result["verified"] is True
    assert room.posts == [("remove", {"peer_id": peer(3).id, "role": None, "reason": "spam"})]
    assert "Spam Bot" in outcome(action)
    assert "Checked" in outcome(action)


@pytest.mark.parametrize(
    "answer",
    [
        "yes",
        "approve",
        True,
        1,
        None,
        {"type": "approve"},
        {"type": "approve "},
        Approve("0" * 64),
        Approve(""),
        Approve,
        Edit("0" * 64, {"reason": "x"}),
        ["approve"],
    ],
    ids=repr,
)
async def test_what_is_not_exactly_an_approval_of_this_digest_is_a_refusal(answer: object) -> None:
    room = classroom()
    gate = gate_on(room)
    action = await gate.propose(remove(), HERE)
    action = await gate.decide(action.id, answer, by="ada", way="test")
    assert action.state == "rejected"
    assert (await gate.run(action.id)).state == "rejected"
    assert room.posts == []


async def test_an_approval_for_another_call_is_a_refusal() -> None:
    room = classroom()
    gate = gate_on(room)
    one = await gate.propose(remove(3), HERE)
    two = await gate.propose(remove(2), HERE)
    assert one.digest != two.digest
    assert (await gate.decide(two.id, Approve(one.digest), by="", way="test")).state == "rejected"
    await gate.run(two.id)
    assert room.posts == []


async def test_newcomers_stay_and_leavers_are_skipped() -> None:
    room = StandInRoom([peer(n) for n in (1, 2, 3)])
    gate = gate_on(room)
    action = await approved(gate, remove_role())
    room.peers = [peer(1), peer(2), peer(9, "Newcomer")]
    action = await gate.run(action.id)
    assert action.state == "done"
    assert {body["peer_id"] for _, body in room.posts} == {peer(1).id, peer(2).id}
    assert [p.name for p in room.peers] == ["Newcomer"]
    assert "Newcomer" in outcome(action)


async def test_a_new_session_is_asked_about_again_and_not_ended() -> None:
    room = classroom()
    gate = gate_on(room)
    action = await approved(gate, end(lock=True))
    room.session = "4" * 24
    again = await gate.run(action.id)
    assert again.state == "proposed"
    assert again.id != action.id
    assert again.revision == 2
    assert "another one is running" in gate.request(again).text
    assert room.posts == []
    old = await gate.decide(again.id, Approve(action.digest), by="ada", way="test")
    assert old.state == "rejected"
    assert room.posts == []


async def test_an_edit_changes_words_only_and_stands_beside_the_original() -> None:
    room = classroom()
    gate = gate_on(room)
    action = await gate.propose(send("kil all"), HERE)
    edit = Edit(action.digest, {"message": "hello all"})
    new = await gate.decide(action.id, edit, by="ada", way="test")
    assert (new.state, new.edited_from, new.arguments["message"]) == (
        "approved",
        action.id,
        "hello all",
    )
    assert new.digest != action.digest
    assert (await gate.get(action.id)).state == "rejected"
    await gate.run(new.id)
    assert [body["message"] for _, body in room.posts] == ["hello all"]


@pytest.mark.parametrize(
    "changes",
    [{"role": "student"}, {"room_id": "7" * 24}, {"message": "x" * 5000}, {"message": ""}],
    ids=lambda c: next(iter(c)),
)
async def test_an_edit_of_a_target_or_to_nonsense_is_a_refusal(changes: dict[str, object]) -> None:
    room = classroom()
    gate = gate_on(room)
    action = await gate.propose(send(), HERE)
    edited = await gate.decide(action.id, Edit(action.digest, changes), by="", way="test")
    assert edited.state == "rejected"
    assert room.posts == []


# --- 2. At most once -------------------------------------------------------------------------


async def test_the_same_call_at_the_same_place_is_the_same_action() -> None:
    room = classroom()
    gate = gate_on(room)
    done = await carried_out(gate, send())
    again = await gate.propose(send(), HERE)
    assert again.id == done.id
    assert (await gate.run(again.id)).state == "done"
    assert len(room.posts) == 1


async def test_another_place_is_another_action() -> None:
    gate = gate_on(classroom())
    first = await gate.propose(send(), HERE)
    for origin in (
        Origin("other", "message", "call", "agent"),
        Origin("thread", "other", "call", "agent"),
        Origin("thread", "message", "other", "agent"),
    ):
        assert (await gate.propose(send(), origin)).id != first.id


async def test_many_runs_of_one_approval_send_one_request(tmp_path: Path) -> None:
    room = classroom()
    url = f"sqlite:///{tmp_path / 'j.sqlite'}"
    gates = [gate_on(room, Journal(url)) for _ in range(4)]
    action = await approved(gates[0], send())
    ends = await asyncio.gather(*(g.run(action.id) for g in gates for _ in range(5)))
    assert len(room.posts) == 1
    assert {a.state for a in ends} == {"done"}


@pytest.mark.parametrize("fault", [TimedOut, ServerError])
async def test_an_unclear_message_stays_unknown_and_is_not_sent_again(fault: type) -> None:
    room = classroom()
    gate = gate_on(room)
    room.after = lambda _: _raise(fault("No answer.", executed="maybe"))
    action = await carried_out(gate, send())
    assert action.state == "unknown"
    assert "cannot be looked up" in outcome(action)
    for _ in range(3):
        assert (await gate.run(action.id)).state == "unknown"
    assert len(room.posts) == 1


async def test_an_unclear_removal_is_looked_up() -> None:
    room = classroom()
    gate = gate_on(room)
    room.after = lambda _: _raise(TimedOut("No answer.", executed="maybe"))
    action = await carried_out(gate, remove())
    assert action.state == "done"
    assert "Whether by this request is not known" in outcome(action)
    assert len(room.posts) == 1


async def test_an_unclear_removal_without_effect_is_unknown_and_done_once_seen() -> None:
    room = classroom()
    gate = gate_on(room)
    room.before = lambda _: _raise(TimedOut("No answer.", executed="maybe"))
    action = await carried_out(gate, remove())
    assert action.state == "unknown"
    room.peers = room.peers[:2]
    assert (await gate.run(action.id)).state == "done"
    assert room.posts == []


async def test_what_was_surely_not_executed_is_failed() -> None:
    room = classroom()
    room.before = lambda _: _raise(ConnectionFailed("Refused."))
    action = await carried_out(gate_on(room), send())
    assert action.state == "failed"
    assert "Nothing was executed" in outcome(action)


async def test_an_unclear_end_is_sent_again_only_when_the_same_session_still_runs() -> None:
    room = classroom()
    gate = gate_on(room)
    failures: Iterator[bool] = iter([True, False])

    def lose(_: str) -> None:
        if next(failures):
            raise TimedOut("No answer.", executed="maybe")

    room.before = lose
    action = await carried_out(gate, end())
    assert action.state == "done"
    assert [verb for verb, _ in room.posts] == ["end"]
    kinds = [e.kind for e in gate.journal.events(action.id)]
    assert kinds.count("sent_again") == 1


async def test_an_unclear_end_is_not_sent_again_into_a_new_session() -> None:
    room = classroom()
    gate = gate_on(room)

    def lose(_: str) -> None:
        room.session = "4" * 24
        raise TimedOut("No answer.", executed="maybe")

    room.after = lose
    action = await carried_out(gate, end())
    assert action.state == "done"
    assert room.session == "4" * 24
    assert len(room.posts) == 1


async def test_two_ends_approved_for_one_session_never_end_the_next(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    room, journal = classroom(), Journal(":memory:")
    gate, other = gate_on(room, journal), gate_on(room, journal)
    first = await approved(gate, end())
    second = await approved(gate, end(), Origin("thread", "message", "call 2", "agent"))

    def meet_again(_: str) -> None:
        room.session, room.peers = "4" * 24, [peer(8)]

    room.after = meet_again
    claim = journal.claim

    def after_the_other(action: Action, **more: Any) -> bool | None:
        # The room was read; now the other end is sent, and people come back.
        if action.id == second.id and not room.posts:
            asyncio.run(other.run(first.id))
        return claim(action, **more)

    monkeypatch.setattr(journal, "claim", after_the_other)
    asked_again = await gate.run(second.id)
    assert (asked_again.state, asked_again.revision) == ("proposed", 2)
    assert [verb for verb, _ in room.posts] == ["end"]


async def test_an_end_waits_for_the_removal_that_is_being_sent() -> None:
    room, journal = classroom(), Journal(":memory:")
    gate = gate_on(room, journal)
    removal = await approved(gate, remove())
    action = await approved(gate, end(), Origin("thread", "message", "call 2", "agent"))
    assert journal.claim(removal, per_minute=9, lease_s=0)
    assert (await gate.run(action.id)).state == "done"
    assert (await gate.get(removal.id)).state != "sent"
    assert [verb for verb, _ in room.posts] == ["end"]


async def test_a_cancelled_send_is_unknown_and_not_sent_again() -> None:
    room = classroom()
    gate = gate_on(room)
    room.after = lambda _: _raise(asyncio.CancelledError())
    action = await approved(gate, send())
    with pytest.raises(asyncio.CancelledError):
        await gate.run(action.id)
    assert (await gate.run(action.id)).state == "unknown"
    assert len(room.posts) == 1


async def test_a_row_left_sent_by_a_dead_worker_is_looked_at_not_sent(tmp_path: Path) -> None:
    room = classroom()
    gate = gate_on(room)
    action = await approved(gate, remove())
    assert gate.journal.claim(action, per_minute=10)
    clock_late = gate.journal.now() + timedelta(hours=1)
    gate.journal._clock = lambda: clock_late
    settled = await gate.run(action.id)
    assert settled.state == "unknown"
    assert room.posts == []


# --- 3. Nothing state-changing runs unasked ---------------------------------------------------


@pytest.mark.parametrize("call", [send(), remove(), remove_role(), end()])
async def test_nothing_runs_without_a_decision(call: StateChange) -> None:
    room = classroom()
    gate = gate_on(room)
    action = await gate.propose(call, HERE)
    assert (await gate.run(action.id)).state == "proposed"
    assert room.posts == []


async def test_a_late_answer_and_a_late_run_send_nothing() -> None:
    room, clock = classroom(), Clock()
    gate = gate_on(room, Journal(":memory:", clock=clock), clock)
    unanswered = await gate.propose(send(), HERE)
    unused = await approved(gate, remove())
    clock.now += timedelta(seconds=601)
    late = await gate.decide(unanswered.id, Approve(unanswered.digest), by="", way="test")
    assert late.state == "expired"
    assert (await gate.run(unused.id)).state == "expired"
    assert room.posts == []
    assert "not answered in time" in outcome(late)


async def test_what_is_approved_and_not_sent_is_over_at_its_deadline() -> None:
    action = await approved(gate_on(classroom()), send())
    assert action.state_at(action.expires_at - timedelta(microseconds=1)) == "approved"
    assert action.state_at(action.expires_at) == "expired"


async def test_a_rejection_stays_one() -> None:
    room = classroom()
    gate = gate_on(room)
    action = await gate.propose(send(), HERE)
    await gate.decide(action.id, Reject("not now"), by="ada", way="test")
    late = await gate.decide(action.id, Approve(action.digest), by="bob", way="test")
    assert (late.state, late.decided_by) == ("rejected", "ada")
    assert 'rejected by "ada": "not now"' in outcome(late)
    assert room.posts == []


async def test_a_room_elsewhere_is_refused_before_any_request() -> None:
    room = classroom()
    room.session = None
    gate = gate_on(room)
    other = parse_call("hms-end-active-room", {"room_id": "7" * 24})
    for _ in range(2):
        with pytest.raises(PolicyRefusal, match="does not allow room"):
            await gate.propose(other, HERE)
    with pytest.raises(PolicyRefusal):
        await gate.peers("7" * 24)


async def test_for_the_session_covers_the_same_kind_only() -> None:
    room = classroom()
    gate = gate_on(room)
    action = await gate.propose(send(role="student"), HERE)
    await gate.decide(action.id, Approve(action.digest, scope="session"), by="ada", way="test")

    async def state(call: StateChange, thread: str = "thread") -> str:
        return (await gate.propose(call, Origin(thread, "m", "next", "agent"))).state

    assert await state(send("more", role="student")) == "approved"
    assert await state(send("to all")) == "proposed"
    assert await state(send("more", role="student"), "other thread") == "proposed"
    assert await state(remove()) == "proposed"
    room.session = "4" * 24
    assert await state(send("again", role="student")) == "proposed"


async def test_for_the_session_ends_with_its_time() -> None:
    room, clock = classroom(), Clock()
    gate = gate_on(room, Journal(":memory:", clock=clock), clock)
    action = await gate.propose(send(), HERE)
    await gate.decide(action.id, Approve(action.digest, scope="session"), by="ada", way="test")
    clock.now += timedelta(seconds=1801)
    later = await gate.propose(send("more"), Origin("thread", "m", "next", "agent"))
    assert later.state == "proposed"


async def test_a_destructive_action_is_never_approved_for_the_session() -> None:
    room = classroom()
    gate = gate_on(room)
    action = await gate.propose(remove(), HERE)
    answer = Approve(action.digest, scope="session")
    assert (await gate.decide(action.id, answer, by="", way="test")).state == "rejected"


async def test_code_may_allow_a_tool_and_the_journal_says_so() -> None:
    room = classroom()
    gate = gate_on(room, unattended={"hms-remove-peers"})
    action = await gate.propose(remove(), HERE)
    assert (action.state, action.decided_way) == ("approved", "unattended")


async def test_more_actions_per_minute_than_allowed_are_not_sent() -> None:
    room, clock = classroom(), Clock()
    gate = gate_on(room, Journal(":memory:", clock=clock), clock, actions_per_minute=2)
    actions = [
        await approved(gate, send(), Origin("thread", "m", str(n), "agent")) for n in range(3)
    ]
    for action in actions[:2]:
        await gate.run(action.id)
    with pytest.raises(PolicyRefusal, match="2 actions per minute"):
        await gate.run(actions[2].id)
    assert len(room.posts) == 2
    clock.now += timedelta(seconds=61)
    assert (await gate.run(actions[2].id)).state == "done"


# --- 4. Everything is on record -----------------------------------------------------------------


async def test_the_journal_tells_who_asked_what_was_shown_who_decided_and_what_came() -> None:
    gate = gate_on(classroom())
    action = await gate.propose(remove(), HERE)
    await gate.asked(action, "terminal")
    await gate.decide(action.id, Approve(action.digest), by="ada", way="terminal")
    action = await gate.run(action.id)
    assert [e.kind for e in gate.journal.events(action.id)] == [
        "proposed",
        "asked",
        "approved",
        "sent",
        "done",
    ]
    assert (action.requester, action.decided_by, action.decided_way) == ("agent", "ada", "terminal")
    assert action.impact
    assert action.impact["people"][0]["name"] == "Spam Bot"
    assert action.result["verified"] is True


@pytest.mark.parametrize(
    ("call", "error"),
    [(remove(9), PeerNotFound), (remove(1), PolicyRefusal), (end(), NotActive)],
)
async def test_a_refusal_is_on_record_and_the_same_when_repeated(
    call: StateChange, error: type
) -> None:
    room = classroom()
    if error is NotActive:
        room.session = None
    gate = gate_on(room, protected_roles={"teacher"})
    texts = set()
    for _ in range(2):
        with pytest.raises(error) as caught:
            await gate.propose(call, HERE)
        texts.add(caught.value.for_model())
    assert len(texts) == 1
    [row] = gate.journal.actions()
    assert row.state == "rejected"
    assert room.posts == []


async def test_a_role_removal_tells_the_fate_of_each_person() -> None:
    room = StandInRoom([peer(n) for n in (1, 2, 3)])
    gate = gate_on(room)

    def gone(_: str) -> None:
        if len(room.posts) == 1:
            raise TimedOut("No answer.", executed="maybe")

    room.before = gone
    action = await carried_out(gate, remove_role())
    fates = [p["outcome"] for p in action.result["people"]]
    assert fates == ["removed", "unknown", "not sent"]
    assert action.state == "unknown"
    assert len(room.posts) == 1
    room.peers = []
    looked = await gate.run(action.id)
    assert [p["outcome"] for p in looked.result["people"]] == [
        "removed",
        "no longer there",
        "not sent",
    ]
    assert looked.result["executed"] == "maybe"


async def test_there_is_no_such_action() -> None:
    with pytest.raises(InvalidCall, match="no such action"):
        await gate_on(classroom()).run("nothing")


def _raise(error: BaseException) -> None:
    raise error


def test_the_stand_in_session_is_what_the_tests_think() -> None:
    assert SESSION != "4" * 24


# --- what a review broke once --------------------------------------------------------------------


async def test_an_approval_of_one_of_two_identical_calls_is_none_of_the_other() -> None:
    room = classroom()
    gate = gate_on(room)
    one = await gate.propose(send(), HERE)
    two = await gate.propose(send(), Origin("thread", "message", "next call", "agent"))
    assert one.digest != two.digest
    assert (await gate.decide(two.id, Approve(one.digest), by="", way="test")).state == "rejected"


@pytest.mark.parametrize("call", [send(), remove(), remove_role(), end()])
async def test_no_failure_after_the_claim_reads_as_not_executed(call: StateChange) -> None:
    room = classroom()
    gate = gate_on(room)
    action = await approved(gate, call)

    def broken(*_: Any, **__: Any) -> bool:
        raise JournalError("The journal failed.")

    def break_the_journal(_: str) -> None:
        gate.journal.move = broken  # type: ignore[method-assign]
        gate.journal.end_step = broken  # type: ignore[method-assign, assignment]

    room.after = break_the_journal
    with pytest.raises(OutcomeUnknown) as caught:
        await gate.run(action.id)
    assert "may have been executed" in caught.value.for_model()
    assert "Nothing was executed" not in caught.value.for_model()


async def test_an_unexpected_error_while_sending_is_unknown_and_not_sent_again() -> None:
    room = classroom()
    gate = gate_on(room)
    room.after = lambda _: _raise(RuntimeError("bug"))
    action = await approved(gate, send())
    with pytest.raises(OutcomeUnknown):
        await gate.run(action.id)
    room.after = lambda _: None
    assert (await gate.run(action.id)).state == "unknown"
    assert len(room.posts) == 1


async def test_a_look_tells_the_condition_of_the_room_not_our_deed() -> None:
    room = classroom()
    gate = gate_on(room)
    action = await approved(gate, end(lock=True))
    assert gate.journal.claim(action, per_minute=9, lease_s=0)
    room.session, room.peers = None, []
    settled = await gate.run(action.id)
    assert (settled.state, settled.result["executed"]) == ("done", "maybe")
    assert "is not known" in outcome(settled)
    assert "was locked" not in outcome(settled)
    assert room.posts == []


async def test_a_404_that_is_not_about_the_session_is_no_end() -> None:
    room = classroom()
    room.before = lambda _: _raise(NotFound("page not found", status=404))
    action = await carried_out(gate_on(room), end())
    assert action.state == "failed"


async def test_whoever_lost_the_row_sends_nothing_more() -> None:
    room = StandInRoom([peer(n) for n in (1, 2, 3)])
    gate = gate_on(room)
    action = await approved(gate, remove_role())

    def lose(_: str) -> None:
        if len(room.posts) == 1:
            row = gate.journal.get(action.id)
            assert row
            assert gate.journal.move(row, "unknown", by="another", way="look")

    room.after = lose
    ended = await gate.run(action.id)
    assert len(room.posts) == 1
    assert [p["outcome"] for p in ended.result["people"]] == ["removed", "not sent", "not sent"]


async def test_a_late_answer_after_all_is_recorded() -> None:
    room = classroom()
    gate = gate_on(room)
    action = await approved(gate, send())

    def lose(_: str) -> None:
        row = gate.journal.get(action.id)
        assert row
        assert gate.journal.move(row, "unknown", by="another", way="look")

    room.after = lose
    assert (await gate.run(action.id)).state == "done"


async def test_somebody_whose_role_changes_while_others_are_removed_stays() -> None:
    room = StandInRoom([peer(n) for n in (1, 2, 3)])
    gate = gate_on(room, protected_roles={"teacher"})
    action = await approved(gate, remove_role())

    def promote(_: str) -> None:
        room.peers = [peer(p_, role="teacher") if p_ == 3 else peer(p_) for p_ in (2, 3)]
        room.after = lambda _: None

    room.after = promote
    ended = await gate.run(action.id)
    assert [p["outcome"] for p in ended.result["people"]] == ["removed", "removed", "skipped"]
    assert ended.state == "done"


@pytest.mark.parametrize(
    "more", [{"role": "teacher"}, {"role": "student", "type": "control"}], ids=repr
)
async def test_for_the_session_does_not_reach_another_role_or_type(more: dict[str, str]) -> None:
    gate = gate_on(classroom())
    action = await gate.propose(send(role="student"), HERE)
    await gate.decide(action.id, Approve(action.digest, scope="session"), by="ada", way="test")
    later = await gate.propose(send("x", **more), Origin("thread", "m", "next", "agent"))
    assert later.state == "proposed"


@pytest.mark.parametrize(
    ("granted", "other"),
    [
        (("viewer", "on stage chat"), ("viewer on stage", "chat")),
        (("viewer", 'x","chat'), ('viewer","x', "chat")),
    ],
    ids=repr,
)
async def test_for_the_session_compares_the_role_and_the_type_each_for_itself(
    granted: tuple[str, str], other: tuple[str, str]
) -> None:
    room = StandInRoom([peer(1, role=granted[0]), peer(2, role=other[0])])
    gate = gate_on(room)

    def to(audience: tuple[str, str]) -> StateChange:
        role, kind = audience
        return send("hi", role=role, type=kind)

    action = await gate.propose(to(granted), HERE)
    await gate.decide(action.id, Approve(action.digest, scope="session"), by="ada", way="test")
    later = await gate.propose(to(other), Origin("thread", "m", "next", "agent"))
    assert later.state == "proposed"
    same = await gate.propose(to(granted), Origin("thread", "m", "same", "agent"))
    assert same.state == "approved"


async def test_for_the_session_does_not_reach_a_grown_audience_or_another_requester() -> None:
    room = classroom()
    gate = gate_on(room)
    action = await gate.propose(send(), HERE)
    await gate.decide(action.id, Approve(action.digest, scope="session"), by="ada", way="test")
    other = await gate.propose(send("x"), Origin("thread", "m", "next", "somebody else"))
    assert other.state == "proposed"
    room.peers += [peer(n) for n in range(10, 20)]
    grown = await gate.propose(send("x"), Origin("thread", "m", "after it", "agent"))
    assert grown.state == "proposed"


async def test_a_rejection_ends_what_was_granted_for_the_session() -> None:
    gate = gate_on(classroom())
    action = await gate.propose(send(), HERE)
    await gate.decide(action.id, Approve(action.digest, scope="session"), by="ada", way="test")
    removal = await gate.propose(remove(), Origin("thread", "m", "c2", "agent"))
    await gate.decide(removal.id, Reject("stop"), by="ada", way="test")
    later = await gate.propose(send("x"), Origin("thread", "m", "next", "agent"))
    assert later.state == "proposed"


@pytest.mark.parametrize("ends", ["a no to something else", "time"])
async def test_what_a_grant_approved_is_asked_about_when_the_grant_is_over(ends: str) -> None:
    room, clock = classroom(), Clock()
    gate = gate_on(room, Journal(":memory:", clock=clock), clock, grant_ttl_s=60)
    action = await gate.propose(send(), HERE)
    await gate.decide(action.id, Approve(action.digest, scope="session"), by="ada", way="test")
    removal = await gate.propose(remove(), Origin("thread", "m", "c2", "agent"))
    later = await gate.propose(send("x"), Origin("thread", "m", "next", "agent"))
    assert later.state == "approved"
    if ends == "time":
        clock.now += timedelta(seconds=61)
    else:
        await gate.decide(removal.id, Reject("stop"), by="ada", way="test")
    again = await gate.run(later.id)
    assert (again.state, again.revision) == ("proposed", 2)
    assert "not allowed any more" in again.note
    assert room.posts == []


async def test_what_a_lax_policy_let_run_unasked_a_strict_one_does_not_send() -> None:
    room = classroom()
    journal = Journal(":memory:")
    lax = gate_on(room, journal, unattended={"hms-remove-peers"})
    action = await lax.propose(remove(), HERE)
    assert (await gate_on(room, journal).run(action.id)).state == "expired"
    assert room.posts == []


async def test_a_withdrawn_action_is_not_sent_even_if_it_was_approved() -> None:
    room = classroom()
    gate = gate_on(room)
    action = await approved(gate, remove())
    assert (await gate.withdraw(action.id, "never mind", by="ada", way="test")).state == "rejected"
    assert (await gate.run(action.id)).state == "rejected"
    assert room.posts == []


UNSTORABLE = "a\x00b\udcff\ud83d"


async def test_a_no_is_a_no_whatever_characters_it_and_the_name_hold() -> None:
    gate = gate_on(classroom())
    waits = await gate.propose(end(), HERE)
    no = Reject(UNSTORABLE, by=UNSTORABLE)
    turned_down = await gate.decide(waits.id, no, by="", way="page")
    unsent = await approved(gate, remove())
    withdrawn = await gate.withdraw(unsent.id, UNSTORABLE, by=UNSTORABLE, way="rest")
    for row in (turned_down, withdrawn):
        assert (row.state, row.decided_by, row.reason) == (
            "rejected",
            *2 * ["a\ufffdb\ufffd\ufffd"],
        )


async def test_what_is_withdrawn_after_its_deadline_had_expired() -> None:
    clock = Clock()
    gate = gate_on(classroom(), Journal(":memory:", clock=clock), clock)
    waits, unused = await gate.propose(send(), HERE), await approved(gate, remove())
    clock.now += timedelta(seconds=601)
    for action in (waits, unused):
        late = await gate.withdraw(action.id, "no", by="ada", way="terminal")
        assert (late.state, late.decided_by) == ("expired", "gate")


async def test_a_persons_no_is_in_time_until_the_request_is_sent() -> None:
    room = classroom()
    gate = gate_on(room)
    action = await approved(gate, remove())
    kept = await gate.decide(action.id, Reject("nobody to ask"), by="gate", way="gate")
    assert kept.state == "approved"

    turned_down = await gate.decide(action.id, Reject("wrong one"), by="bob", way="interrupt")
    assert (turned_down.state, turned_down.decided_by) == ("rejected", "bob")
    assert (await gate.run(action.id)).state == "rejected"
    assert room.posts == []


async def test_an_edited_original_says_who_edited_it() -> None:
    gate = gate_on(classroom())
    action = await gate.propose(send(), HERE)
    await gate.decide(action.id, Edit(action.digest, {"message": "x"}), by="ada", way="test")
    original = await gate.get(action.id)
    assert (original.decided_by, original.decided_way) == ("ada", "test")


async def test_a_reason_no_database_takes_is_stored_escaped() -> None:
    gate = gate_on(classroom())
    action = await gate.propose(send(), HERE)
    assert (await gate.decide(action.id, Reject("no \ud83d"), by="", way="t")).state == "rejected"


async def test_what_hostile_peers_wrote_is_bounded_in_the_journal() -> None:
    people = [peer(n, "x" * 100_000, user_id="u" * 100_000 + str(n)) for n in range(50)]
    gate = gate_on(StandInRoom(people))
    action = await gate.propose(remove_role(), HERE)
    assert len(str(action.impact)) < 60_000
    assert len({p["user_id"] for p in (action.impact or {})["people"]}) == 50


@pytest.mark.parametrize("role", ["Teacher", " teacher", "TEACHER "])
async def test_a_protected_role_is_protected_however_it_is_written(role: str) -> None:
    gate = gate_on(classroom(), protected_roles={role})
    with pytest.raises(PolicyRefusal):
        await gate.propose(remove(1), HERE)


async def test_two_names_that_are_shown_alike_are_pointed_out() -> None:
    room = StandInRoom([peer(1, "A" * 70 + "x"), peer(2, "A" * 70 + "y")])
    gate = gate_on(room)
    assert "Warning" in gate.request(await gate.propose(remove(1), HERE)).text


# --- each holds a line that another check also covers today ---------------------------------------


async def test_a_removal_that_is_done_is_told_again_not_looked_for_again() -> None:
    room = classroom()
    gate = gate_on(room)
    done = await carried_out(gate, remove())
    assert (await gate.propose(remove(), HERE)).id == done.id


async def test_a_row_somebody_else_has_sent_is_not_sent_again() -> None:
    room = classroom()
    gate = gate_on(room)
    action = await approved(gate, send())
    assert gate.journal.claim(action, per_minute=9, lease_s=0)
    assert (await gate.run(action.id)).state == "unknown"
    assert room.posts == []


async def test_a_room_the_policy_of_the_sender_does_not_allow_is_left_alone() -> None:
    room = classroom()
    gate = gate_on(room)
    action = await approved(gate, remove())
    stricter = Gate(room, Policy(rooms=("7" * 24,)), gate.journal)  # type: ignore[arg-type]
    assert (await stricter.run(action.id)).state == "rejected"
    assert room.posts == []


async def test_a_grant_never_opens_a_hard_gate_wherever_it_came_from() -> None:
    gate = gate_on(classroom())
    first = await gate.propose(remove(), HERE)
    gate.journal.add_grant(replace(gate.grant_for(first), granted_by="x", action_id=first.id))
    again = await gate.propose(remove(), Origin("thread", "m", "next", "agent"))
    assert again.state == "proposed"


async def test_a_digest_covers_the_call_and_whom_it_hits() -> None:
    row = draft(send(), key="k", revision=1, thread="t", requester="a", now=Clock()(), ttl_s=9)
    impact = Impact(kind="everyone", session_id=SESSION, total=3)
    digests = {
        bound(row, send(), impact).digest,
        bound(row, send("other words"), impact).digest,
        bound(row, send(), replace(impact, total=4)).digest,
    }
    assert len(digests) == 3


async def test_an_unclear_end_is_not_sent_again_when_the_room_cannot_be_seen() -> None:
    room = classroom()
    gate = gate_on(room)
    action = await approved(gate, end())

    async def blind(_: str) -> Any:
        raise ServerError("No.")

    def lose(_: str) -> None:
        room.retrieve_active_room = blind  # type: ignore[method-assign]
        raise TimedOut("No answer.", executed="maybe")

    room.before = lose
    assert (await gate.run(action.id)).state == "unknown"
    assert "sent_again" not in [e.kind for e in gate.journal.events(action.id)]


async def test_an_unclear_end_is_sent_a_second_time_and_not_a_third() -> None:
    room, tries = classroom(), 0

    def lose(_: str) -> None:
        nonlocal tries
        tries += 1
        if tries < 5:
            raise TimedOut("No answer.", executed="maybe")

    room.before = lose
    assert (await carried_out(gate_on(room), end())).state == "unknown"
    assert tries == 2


@pytest.mark.parametrize("stop", [asyncio.CancelledError(), RuntimeError("bug")], ids=repr)
async def test_what_stops_a_send_is_on_record_at_once(stop: BaseException) -> None:
    room = classroom()
    gate = gate_on(room)
    room.after = lambda _: _raise(stop)
    action = await approved(gate, send())
    with pytest.raises((asyncio.CancelledError, OutcomeUnknown)):
        await gate.run(action.id)
    row = await gate.get(action.id)
    assert row.state == "unknown"
    assert type(stop).__name__ in row.result["text"]


async def test_nobody_is_removed_under_a_row_that_was_closed() -> None:
    journal = Journal(":memory:")
    room = StandInRoom([peer(n) for n in (1, 2)])
    gate = gate_on(room, journal)
    action = await approved(gate, remove_role())
    start = journal.start_step

    def suspended(action_id: str, peer_id: str, *, lease_s: float) -> Any:
        row = journal.get(action_id)
        assert row
        if room.posts and row.state == "sent":
            assert journal.move(row, "unknown", by="another", way="look")
        return start(action_id, peer_id, lease_s=lease_s)

    journal.start_step = suspended  # type: ignore[method-assign]
    await gate.run(action.id)
    assert len(room.posts) == 1


async def test_when_all_changed_role_nothing_was_executed() -> None:
    room = StandInRoom([peer(n) for n in (1, 2)])
    gate = gate_on(room)
    action = await approved(gate, remove_role())
    list_peers = room.list_peers

    async def later(room_id: str, **_: Any) -> Any:
        found = await list_peers(room_id)
        room.peers = [peer(n, role="guest") for n in (1, 2)]
        return found

    room.list_peers = later  # type: ignore[method-assign]
    ended = await gate.run(action.id)
    assert room.posts == []
    assert (ended.state, ended.result["executed"]) == ("done", "no")


async def test_a_withdrawal_leaves_no_grant_behind() -> None:
    gate = gate_on(classroom())
    action = await gate.propose(send(), HERE)
    await gate.decide(action.id, Approve(action.digest, scope="session"), by="ada", way="page")
    await gate.withdraw(action.id, "new message", by="ada", way="message")
    later = await gate.propose(send("x"), Origin("thread", "m", "next", "agent"))
    assert later.state == "proposed"


async def test_a_journal_that_fails_at_the_look_does_not_say_that_nothing_was_executed() -> None:
    room = classroom()
    gate = gate_on(room)
    action = await approved(gate, remove())
    assert gate.journal.claim(action, per_minute=9, lease_s=0)

    def broken(*_: Any, **__: Any) -> bool:
        raise JournalError("The journal failed.")

    gate.journal.move = broken  # type: ignore[method-assign]
    with pytest.raises(OutcomeUnknown) as caught:
        await gate.run(action.id)
    assert "Nothing was executed" not in caught.value.for_model()
