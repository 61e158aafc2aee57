"""What counts as an answer: the exact words after the question, and nothing else."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from hms_active_rooms import blocking
from hms_active_rooms.cli.person import NO_VALID_ANSWER, Desk, ask, finish
from hms_active_rooms.cli.settings import Settings
from hms_active_rooms.gate.actions import parse_call
from hms_active_rooms.gate.actions.impact import Impact
from hms_active_rooms.gate.approval import (
    ApprovalRequest,
    Approve,
    BadAnswerError,
    Decision,
    Edit,
    Refuse,
    Reject,
)
from hms_active_rooms.gate.gate import Gate
from hms_active_rooms.gate.journal.records import Action, Origin
from stand_in import ROOM as STAND_IN
from stand_in import StandInRoom, gate_on, peer

ROOM = "64f0c1a5500de00000000001"
HARD = ApprovalRequest(
    action_id="abcdefghijkl",
    tool="hms-end-active-room",
    arguments={"room_id": ROOM, "lock": True},
    impact=Impact(kind="end", session_id="s", total=3),
    digest="d" * 64,
    deadline=datetime(2026, 1, 1, tzinfo=UTC),
    gate="hard",
    editable=("reason",),
    text="END the session",
)
SOFT = replace(
    HARD,
    tool="hms-send-message",
    arguments={"room_id": ROOM, "message": "old words", "type": "chat"},
    gate="soft",
    editable=("message", "type"),
    text="Send",
)


class Typed(Desk):
    """A person who types these lines."""

    session = True

    def __init__(self, *lines: str) -> None:
        super().__init__(Settings())
        self._lines = list(lines)
        self.seen: list[str] = []
        self.questions = 0

    def question(self, request: ApprovalRequest) -> None:
        self.questions += 1
        self.seen.append(request.text)

    def notice(self, text: str) -> None:
        self.seen.append(text)

    def read(self, prompt: str) -> str | None:
        self.seen.append(prompt)
        return self._lines.pop(0) if self._lines else None


def answer(desk: Typed, request: ApprovalRequest = HARD) -> Decision | Refuse | None:
    bad: list[BadAnswerError] = []
    return ask(request, desk, on_bad=bad.append)


def test_yes_approves_exactly_what_was_shown() -> None:
    desk = Typed("yes")
    assert answer(desk) == Approve(HARD.digest)
    assert desk.seen[0] == HARD.text


def test_no_rejects() -> None:
    assert answer(Typed("no")) == Reject()


def test_no_input_decides_nothing() -> None:
    assert answer(Typed()) is None
    assert answer(Typed("maybe")) is None


def test_anything_but_the_exact_word_is_asked_again_and_three_times_is_a_refusal() -> None:
    words = "y|Yes|YES|yes!|yes please|ok|true|1|| |approve|no yes|ｙｅｓ"
    for line in words.split("|"):
        desk = Typed(line, line, line, "yes")
        assert answer(desk) == NO_VALID_ANSWER
        assert "yes, no or edit, in full" in desk.seen[2]


def test_each_line_that_is_no_answer_is_reported_but_not_repeated() -> None:
    bad: list[BadAnswerError] = []
    ask(HARD, Typed("s3cret", "no"), on_bad=bad.append)
    assert list(map(str, bad)) == ["a line of 6 characters"]


def test_for_the_session_is_offered_for_messages_only() -> None:
    assert answer(Typed("session"), SOFT) == Approve(SOFT.digest, scope="session")
    assert answer(Typed("session", "no"), HARD) == Reject()
    (elsewhere := Typed("session", "no")).session = False
    assert answer(elsewhere, SOFT) == Reject()


def test_an_edit_is_shown_and_needs_its_own_yes() -> None:
    desk = Typed("edit", "new words", "yes")
    assert answer(desk, SOFT) == Edit(SOFT.digest, {"message": "new words"})
    assert 'New message: "new words"' in desk.seen


def test_a_no_typed_where_new_words_were_asked_for_is_not_sent() -> None:
    desk = Typed("edit", "no", "no", "no")
    assert answer(desk, SOFT) == Reject()
    assert desk.questions == 2


def test_words_that_cannot_be_sent_are_not_taken() -> None:
    desk = Typed("edit", "x" * 5000, "no")
    assert answer(desk, SOFT) == Reject()
    assert any("4096" in text for text in desk.seen)


def test_an_endless_wish_to_edit_is_a_refusal() -> None:
    assert answer(Typed(*["edit"] * 30), SOFT) == NO_VALID_ANSWER


def test_a_yes_that_anothers_no_took_back_before_it_was_sent_is_told_whose_no_it_was() -> None:
    gate = gate_on(StandInRoom([peer(1)]))
    call = parse_call("hms-send-message", {"room_id": STAND_IN, "message": "hello"})
    action = blocking.run(gate.propose(call, Origin("t", "m", "c", "cli")))

    class Overruled(Typed):
        def notice(self, text: str) -> None:
            super().notice(text)
            if text.startswith("Reading the room"):
                blocking.run(gate.decide(action.id, Reject("wait"), by="bob", way="page"))

    desk = Overruled("yes")
    assert finish(gate, action, desk).state == "rejected"
    assert any('Already rejected by "bob" (page)' in text for text in desk.seen)


def misspelt() -> tuple[StandInRoom, Gate, Action]:
    """A message "helo" that waits for a person, with its room and its gate."""
    room = StandInRoom([peer(1)])
    gate = gate_on(room)
    call = parse_call("hms-send-message", {"room_id": STAND_IN, "message": "helo"})
    return room, gate, blocking.run(gate.propose(call, Origin("t", "m", "c", "cli")))


@pytest.mark.parametrize("sent", [True, False])
def test_whoever_answers_after_another_edited_the_words_is_told_what_became_of_those(
    sent: bool,
) -> None:
    room, gate, action = misspelt()

    class Second(Typed):
        def read(self, prompt: str) -> str | None:
            edit = Edit(action.digest, {"message": "hello"})
            first = blocking.run(gate.decide(action.id, edit, by="bob", way="page"))
            if sent:
                blocking.run(gate.run(first.action))
            return super().read(prompt)

    desk = Second("yes")
    ended = finish(gate, action, desk)
    assert (ended.state, ended.call.arguments()["message"]) == ("done", "hello")
    assert any('approved by "bob" (page) with other words' in text for text in desk.seen)
    assert len(room.posts) == 1


def test_other_words_for_what_another_approved_meanwhile_send_nothing() -> None:
    room, gate, action = misspelt()

    class Second(Typed):
        def read(self, prompt: str) -> str | None:
            yes = Approve(action.digest)
            blocking.run(gate.decide(action.id, yes, by="bob", way="page"))
            return super().read(prompt)

    desk = Second("edit", "hello", "yes")
    assert finish(gate, action, desk).state == "approved"
    assert any('Already approved by "bob" (page)' in text for text in desk.seen)
    assert room.posts == []
    assert desk.said_no


@pytest.mark.parametrize(
    ("tool", "looks"), [("hms-send-message", False), ("hms-end-active-room", True)]
)
def test_a_person_is_told_of_a_look_only_where_the_room_can_show_something(
    tool: str, looks: bool
) -> None:
    gate = gate_on(StandInRoom([peer(1)]))
    words = {"message": "hello"} if tool == "hms-send-message" else {}
    call = parse_call(tool, {"room_id": STAND_IN, **words})
    action = blocking.run(gate.propose(call, Origin("t", "m", "c", "cli")))
    desk = Typed("yes")
    assert finish(gate, action, desk).state == "done"
    assert any("looking at the room" in text for text in desk.seen) == looks
    assert any(text.startswith("Reading the room") for text in desk.seen)
