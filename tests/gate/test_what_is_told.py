"""The words of each tool: what a person decides on, and what is told of each way it can end."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from hms_active_rooms.api.models import Peer
from hms_active_rooms.errors import (
    ApiError,
    Forbidden,
    InvalidCall,
    ServerError,
    TimedOut,
)
from hms_active_rooms.gate.actions import parse_call
from hms_active_rooms.gate.actions.impact import SHOWN_ROLES, Impact, Person
from hms_active_rooms.gate.actions.result import PersonResult, Result
from hms_active_rooms.gate.approval import ApprovalRequest, Approve
from hms_active_rooms.gate.gate import Gate
from hms_active_rooms.gate.journal.records import Action, Origin, content_of
from hms_active_rooms.gate.view import (
    MAX_PEOPLE,
    NOT_AGAIN,
    describe,
    for_model,
    outcome,
    remedy,
    sent_before,
    view,
)
from stand_in import ROOM, StandInRoom, gate_on, peer, row

LOST = TimedOut("No answer.", executed="maybe")
NOT_REMOVED = "Whether this request removed them is not known."
NOT_ENDED = "Whether this request ended it is not known."


@dataclass(frozen=True)
class Told:
    """One call in a room of Anna the teacher and some students, and its words.

    Attributes:
        tool, arguments: the call.
        asked: the lines of the question, each by its beginning.
        done: what is told when 100ms accepted it and the room shows it.
        lost: what is told when the answer is lost and the room shows it.
        students: how many of them there are.
    """

    tool: str
    arguments: dict[str, Any]
    asked: list[str]
    done: str
    lost: str
    students: int = 2


IN = f'room {ROOM} named "r"'
BEN = '  "Ben", role "student", user id "u-2", id 00000002'
MESSAGE = "The outcome is unknown: No answer. The message may have reached the room."
TOLD = [
    Told(
        "hms-remove-peers",
        {"peer_id": peer(2).id, "reason": "spam"},
        [f'Remove "Ben" (role "student") from {IN}:', BEN, 'Reason shown to the others: "spam"'],
        'Removed "Ben" (id 00000002). Checked in the room.',
        f'"Ben" is no longer in the room. {NOT_REMOVED}',
    ),
    Told(
        "hms-remove-peers",
        {"role": "student"},
        [
            f'Remove everyone who has the role "student" now from {IN} (51 people):',
            BEN,
            *(f'  "Peer {n}", role' for n in range(3, 52)),
            "  ... and 1 more",
            "Warning: More than 50 people",
        ],
        'Removed everyone with the role "student". Checked in the room.',
        f"Those shown are no longer in the room. {NOT_REMOVED}",
        students=51,
    ),
    Told(
        "hms-end-active-room",
        {"reason": "late"},
        [
            f'END the session for everyone in {IN} (3 people: 2 as "student" and 1 as "teacher").',
            "Session: ",
            'Reason shown to the others: "late"',
        ],
        "The session was ended for 3 people. Checked in the room.",
        f"The session that was shown is over. {NOT_ENDED} The answer was lost",
    ),
    Told(
        "hms-end-active-room",
        {"lock": True},
        ["END the session and LOCK the room for everyone in ", "Session: ", "Warning: The room"],
        "The session was ended for 3 people and the room was locked. "
        "Checked: the session is over. The lock cannot be checked.",
        f"The session that was shown is over. {NOT_ENDED} It is also not known whether the room is locked.",
    ),
    Told(
        "hms-send-message",
        {"message": "hello", "peer_id": peer(2).id},
        [f'Send a message to "Ben" (role "student") in {IN}:', BEN, 'Message: "hello"'],
        'Message sent to "Ben".',
        MESSAGE,
    ),
    Told(
        "hms-send-message",
        {"message": "hello", "role": "student", "type": "alert"},
        [
            'Send a message of type "alert" to everyone with the role "student" in '
            f"{IN} (2 people).",
            'Message: "hello"',
        ],
        'Message sent to 2 with the role "student".',
        MESSAGE,
    ),
    Told(
        "hms-send-message",
        {"message": "hello"},
        [
            f'Send a message to EVERYONE in {IN} (3 people: 2 as "student" and 1 as "teacher").',
            'Message: "hello"',
        ],
        "Message sent to everyone (3).",
        MESSAGE,
    ),
]


def place(name: str) -> Origin:
    return Origin("thread", "message", name, "agent")


async def asked_about(told: Told, **more: Any) -> tuple[StandInRoom, Gate, ApprovalRequest]:
    students = [peer(2, "Ben"), *map(peer, range(3, told.students + 2))]
    room = StandInRoom([peer(1, "Anna", "teacher"), *students])
    gate = gate_on(room, max_peers=100, **more)
    call = parse_call(told.tool, {"room_id": ROOM, **told.arguments})
    return room, gate, gate.request(await gate.propose(call, place("call")))


async def ended(gate: Gate, asked: ApprovalRequest) -> Action:
    assert (await gate.decide(asked.action_id, asked.approve(), by="ada", way="page")).counted
    return await gate.run(asked.action_id)


def claimed_elsewhere(gate: Gate, action: Action) -> None:
    """Another worker sends it, and its lease is over."""
    with gate.journal.write() as tx:
        now, found = tx.now(), tx.get(action.id)
        assert found
        taken: dict[str, Any] = {"worker": "another", "sent_at": now, "lease_until": now}
        tx.move(found, "sent", by="another", way="claim", **taken)


@pytest.mark.parametrize("told", TOLD, ids=lambda told: f"{told.tool} {told.arguments}")
async def test_the_words_of_a_call_say_what_whom_and_only_what_is_known_of_its_end(
    told: Told,
) -> None:
    _, gate, asked = await asked_about(told)
    lines = asked.text.splitlines()
    assert len(lines) == len(told.asked)
    for line, wanted in zip(lines, told.asked, strict=True):
        assert line.startswith(wanted)
    done = await ended(gate, asked)
    assert (done.state, done.executed) == ("done", "yes")
    assert outcome(done) == f"{told.done} (action {done.id})"

    def lose(_: str) -> None:
        raise LOST

    room, gate, asked = await asked_about(told)
    room.after = lose
    lost = await ended(gate, asked)
    assert lost.executed == "maybe"
    assert outcome(lost).startswith(told.lost)


@pytest.mark.parametrize("told", [TOLD[0], TOLD[2]], ids=["removal", "end"])
async def test_a_lost_answer_without_an_effect_says_what_the_look_showed(told: Told) -> None:
    def lose(_: str) -> None:
        raise LOST

    room, gate, asked = await asked_about(told)
    room.before = lose
    action = await ended(gate, asked)
    assert (action.state, action.executed) == ("unknown", "maybe")
    assert "executed. But the room does not show the effect yet." in outcome(action)

    async def blind(_: str) -> Any:
        raise ServerError("It is down.")

    room.retrieve_active_room = blind  # type: ignore[method-assign, assignment]
    assert "But the room could not be read: It is down." in outcome(await gate.run(action.id))


@pytest.mark.parametrize("newcomers", [5, 6])
async def test_a_role_removal_names_some_of_who_came_and_the_last_error(newcomers: int) -> None:
    told = Told("hms-remove-peers", {"role": "student"}, [], "", "")
    room, gate, asked = await asked_about(told)
    room.peers += [peer(n) for n in range(10, 10 + newcomers)]

    def refuse(_: str) -> None:
        raise Forbidden("It is not allowed.")

    room.before = refuse
    text = outcome(await ended(gate, asked))
    assert "Removal of 2 people: 1 failed, 1 not sent. The last error: It is not allowed." in text
    assert 'Not removed: "Ben" and "Peer 3".' in text
    more = " and 1 more" if newcomers == 6 else ""
    assert f'{newcomers} took the role after the question and stay in the room: "Peer 10"' in text
    assert f'"Peer 14"{more}.' in text
    room, gate, asked = await asked_about(told)
    told_at_the_end = outcome(await ended(gate, asked))
    assert "error" not in told_at_the_end
    assert "2 removed. Checked in the room." in told_at_the_end


@pytest.mark.parametrize(
    ("error", "executed", "verified", "text"),
    [
        (Forbidden("It is not allowed."), "partly", None, "1 removed, 1 failed"),
        (LOST, "maybe", False, "1 removed, 1 unknown"),
    ],
)
async def test_of_a_role_half_removed_nothing_is_said_to_be_checked(
    error: ApiError, executed: str, verified: bool | None, text: str
) -> None:
    told = Told("hms-remove-peers", {"role": "student"}, [], "", "")
    room, gate, asked = await asked_about(told)

    def refuse_the_second(_: str) -> None:
        if room.posts:
            raise error

    room.before = refuse_the_second
    action = await ended(gate, asked)
    assert (action.result.executed, action.result.verified) == (executed, verified)
    assert text in outcome(action)
    assert "Checked" not in outcome(action)
    assert "still listed" not in outcome(action)


@pytest.mark.parametrize("blind", [False, True])
async def test_of_a_role_removed_it_is_told_who_is_still_listed_or_why_nobody_can_tell(
    blind: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = Told("hms-remove-peers", {"role": "student"}, [], "", "")
    room, gate, asked = await asked_about(told)
    before = list(room.peers)

    def stay(_: str) -> None:
        room.peers = before
        if blind and len(room.posts) == 2:
            for read in ("retrieve_active_room", "list_peers"):
                monkeypatch.setattr(room, read, down)

    async def down(*_: str) -> Any:
        raise ServerError("It is down.")

    room.after = stay
    action = await ended(gate, asked)
    assert action.result.verified is False
    unread = "But the room could not be read: It is down."
    look = unread if blind else "2 still listed (this can take 60 s)."
    assert f"2 removed. {look}" in outcome(action)


@pytest.mark.parametrize("target", [{"peer_id": peer(3).id}, {"role": "guest"}])
async def test_who_is_back_by_another_connection_when_the_room_is_looked_at_is_named(
    target: dict[str, str],
) -> None:
    room = StandInRoom([peer(1), peer(2), peer(3, "Spam Bot", "guest"), peer(4, user_id="u-3")])
    gate, reads = gate_on(room, verify_s=0), list[str]()

    def back(_: str) -> None:
        room.peers += [peer(5, "Not Spam", "guest", user_id="u-3"), peer(6)]

    real = room.list_peers

    async def counted(room_id: str, **more: Any) -> tuple[Peer, ...]:
        reads.append(room_id)
        return await real(room_id, **more)

    room.list_peers = counted  # type: ignore[method-assign]
    call = parse_call("hms-remove-peers", {"room_id": ROOM, **target})
    action = await gate.propose(call, place("a"))
    room.after = back
    told = outcome(await ended(gate, gate.request(action)))
    assert "Checked in the room." in told
    assert 'The same user id is in the room again: "Not Spam"' in told
    assert told.count("Peer 4") == 1  # was there before, and is told as another connection
    assert "Peer 6" not in told
    # Where nobody has come, nobody is looked for.
    room.after, reads[:] = (lambda _: None), []
    gone = parse_call("hms-remove-peers", {"room_id": ROOM, "peer_id": peer(2).id})
    action = await gate.propose(gone, place("b"))
    assert "again" not in outcome(await ended(gate, gate.request(action)))
    assert len(reads) == 2  # before the question and after the yes


def test_a_message_may_have_4096_bytes_and_not_one_more() -> None:
    call = {"room_id": ROOM, "message": "é" * 2048}
    assert parse_call("hms-send-message", call).arguments()["message"] == call["message"]
    with pytest.raises(InvalidCall, match="4097 bytes; at most 4096"):
        parse_call("hms-send-message", {"room_id": ROOM, "message": "é" * 2048 + "x"})


async def test_a_name_of_200_characters_is_whole_on_record_and_a_longer_one_is_not() -> None:
    whole, long = "a" * 200, "b" * 201
    room = StandInRoom([peer(1, whole), peer(2, long)])
    gate = gate_on(room)
    call = parse_call("hms-remove-peers", {"room_id": ROOM, "role": "student"})
    names = [p.name for p in (await gate.propose(call, place("call"))).shown.people]
    assert names[0] == whole
    assert names[1].startswith("b" * 200 + "…")


async def test_a_no_is_made_from_the_question_and_an_answer_without_a_type_is_told_so() -> None:
    _, gate, asked = await asked_about(TOLD[2])
    nothing = await gate.decide(asked.action_id, {}, by="ada", way="page")
    assert nothing.problem.startswith("type: ")
    no = await gate.decide(asked.action_id, asked.reject("not now", by="bob"), by="ada", way="page")
    assert (no.counted, no.action.state) == (True, "rejected")
    assert 'rejected by "bob": "not now"' in outcome(no.action)


async def test_while_one_call_is_asked_again_another_that_failed_stays_failed() -> None:
    room = StandInRoom([peer(1), peer(2)])
    gate = gate_on(room, actions_per_minute=1)
    calls = [{"message": "first"}, {"message": "second"}, {"message": "third"}]
    actions = [
        await gate.propose(parse_call("hms-send-message", {"room_id": ROOM, **call}), place(name))
        for name, call in zip("abc", calls, strict=True)
    ]
    rounds = []

    async def ask(requests: Any) -> list[object]:
        rounds.append([request.action_id for request in requests])
        if len(rounds) == 1:
            return [requests[0].approve(), requests[1].approve(), "nonsense"]
        return [requests[0].reject()]

    found = await gate.drive(actions, ask, by="ada", way="page")
    assert [len(asked) for asked in rounds] == [3, 1]
    told = [one.state if isinstance(one, Action) else one.code for one in found]
    assert sorted(told[:2]) == ["done", "policy_refusal"]
    assert told[2] == "rejected"


@pytest.mark.parametrize(
    ("tool", "arguments"),
    [("hms-end-active-room", {}), ("hms-remove-peers", {"role": "student"})],
    ids=["end", "role"],
)
async def test_what_hits_whoever_is_there_waits_for_a_removal_on_its_way_and_for_no_message(
    tool: str, arguments: dict[str, Any]
) -> None:
    room = StandInRoom([peer(n) for n in range(1, 53)])
    gate = gate_on(room, max_peers=100)
    others = [
        ("hms-remove-peers", {"peer_id": peer(52).id}),
        ("hms-send-message", {"message": "hello"}),
        (tool, arguments),
    ]
    removal, message, action = [
        await gate.propose(parse_call(name, {"room_id": ROOM, **call}), place(str(number)))
        for number, (name, call) in enumerate(others)
    ]
    for one in (removal, message, action):
        await gate.decide(one.id, Approve(one.digest), by="ada", way="page")
    for one in (removal, message):
        claimed_elsewhere(gate, one)
    assert (await gate.run(action.id)).state == "done"
    assert (await gate.get(removal.id)).state == "unknown"
    assert (await gate.get(message.id)).state == "sent"


async def test_an_end_that_has_to_wait_for_others_again_and_again_is_sent_at_last() -> None:
    room = StandInRoom([peer(n) for n in range(1, 9)])
    gate = gate_on(room)
    calls = [("hms-remove-peers", {"peer_id": peer(n).id}) for n in range(1, 5)]
    *removals, action = [
        await gate.propose(parse_call(name, {"room_id": ROOM, **call}), place(str(number)))
        for number, (name, call) in enumerate([*calls, ("hms-end-active-room", {})])
    ]
    for one in (*removals, action):
        await gate.decide(one.id, Approve(one.digest), by="ada", way="page")
    list_peers = room.list_peers

    async def and_another_is_sent(room_id: str, **more: Any) -> Any:
        if removals:
            claimed_elsewhere(gate, removals.pop())
        return await list_peers(room_id, **more)

    room.list_peers = and_another_is_sent  # type: ignore[method-assign]
    assert (await gate.run(action.id)).state == "done"
    assert [verb for verb, _ in room.posts] == ["end"]


async def test_what_was_allowed_for_the_session_is_sent_also_when_it_changed_within_it() -> None:
    """The audience is another one by now; it is still one that the person allowed."""
    room = StandInRoom([peer(n) for n in range(1, 11)])
    gate = gate_on(room)
    text = {"room_id": ROOM, "message": "hello"}
    first = await gate.propose(parse_call("hms-send-message", text), place("1"))
    yes = Approve(first.digest, scope="session")
    assert (await gate.decide(first.id, yes, by="ada", way="page")).counted
    covered = await gate.propose(parse_call("hms-send-message", text), place("2"))
    assert covered.decided_way == "grant"
    room.peers = [*room.peers[:5], *map(peer, range(20, 25))]
    ended = await gate.run(covered.id)
    assert (ended.state, ended.revision, ended.decided_way) == ("done", 2, "grant")


def test_a_model_is_told_not_to_ask_again_after_a_persons_no_and_a_hint_after_a_failure() -> None:
    now = datetime(2026, 11, 1, tzinfo=UTC)
    no = replace(row(now), state="rejected", decided_way="page", decided_by="ada", decided_at=now)
    assert for_model(no) == outcome(no) + NOT_AGAIN
    failed = replace(no, state="failed", result=Result("It failed.", "no", hint="Do it."))
    assert for_model(failed) == f"{outcome(failed)} Do it."
    assert remedy(failed) == "Do it."
    forged = replace(failed, contradiction="contradicts itself")
    assert (for_model(forged), remedy(forged)) == (outcome(forged), "")
    without_error = replace(failed, result=Result("It failed.", "no"))
    assert for_model(without_error) == outcome(without_error)
    done = replace(failed, state="done")
    assert for_model(done) == outcome(done)


def test_what_changed_comes_first_when_asked_again_and_a_note_last_otherwise() -> None:
    asked = replace(row(datetime(2026, 11, 1, tzinfo=UTC)), note="Ben left.")
    assert "Asked again" not in describe(asked)
    assert describe(asked).endswith("\nNote: Ben left.")
    again = describe(replace(asked, revision=2))
    assert again.startswith("Asked again: Ben left.\n")
    assert "Note:" not in again


@pytest.mark.parametrize(("ago_s", "told"), [(119, "119 s ago."), (120, "2 min ago.")])
def test_how_long_ago_the_same_was_sent_is_told(ago_s: int, told: str) -> None:
    now = datetime(2026, 11, 1, tzinfo=UTC)
    before = replace(row(now), state="done", sent_at=now)
    again = replace(before, content=content_of(before.call))
    sent = sent_before(before, again, now + timedelta(seconds=ago_s))
    assert sent.startswith(f"The same call was sent {told}")


def test_where_a_person_decides_is_told_only_while_the_action_waits() -> None:
    asked = row(datetime(2026, 11, 1, tzinfo=UTC))
    told = [view(replace(asked, state=s), approve_at="here") for s in ("proposed", "done")]
    assert [(v.waiting, v.approve_at) for v in told] == [(True, "here"), (False, "")]


def test_what_a_way_in_shows_is_bounded_and_first_who_is_left_and_on_request_whole() -> None:
    name, roles = "n" * 100, tuple((f"role {n:02}" + "r" * 50, 1) for n in range(SHOWN_ROLES + 1))
    hit = tuple(Person(f"id-{n}", "", name, "u" * 50, roles[0][0]) for n in range(MAX_PEOPLE + 1))
    fates = [PersonResult(p.id, name, "failed" if p is hit[-1] else "removed") for p in hit]
    action = replace(
        row(datetime(2026, 1, 1, tzinfo=UTC), requester="r" * 300),
        impact=Impact("remove-each", "s", len(hit), hit, roles),
        result=Result("x", people=tuple(fates)),
    )
    bounded, whole = view(action), view(action, people=None)
    assert bounded.impact is not None
    assert whole.impact is not None
    assert bounded.result.people[0].id == hit[-1].id
    assert (len(bounded.result.people), bounded.result.people_left_out) == (MAX_PEOPLE, 1)
    assert (len(whole.result.people), whole.result.people_left_out) == (MAX_PEOPLE + 1, 0)
    assert (len(bounded.impact.people), len(whole.impact.people)) == (MAX_PEOPLE, MAX_PEOPLE + 1)
    assert list(whole.impact.by_role) == [role for role, _ in roles]
    assert len(bounded.impact.by_role) == SHOWN_ROLES
    for told, cut_at in ((bounded, True), (whole, False)):
        assert told.impact is not None
        texts = [*told.impact.by_role, told.requester, told.result.people[0].name]
        texts += [(p := told.impact.people[0]).name, p.role, p.user_id]
        assert [text.endswith("…") for text in texts] == [cut_at] * len(texts)
