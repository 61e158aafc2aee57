"""The loop between a person and the graph, with a model that does what a test tells it."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from langchain_core.messages import AIMessage, ToolMessage
from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.memory import InMemorySaver

from cli.running import control
from hms_active_rooms import blocking
from hms_active_rooms.api.auth import SignedTokens
from hms_active_rooms.api.client import ActiveRoomsClient
from hms_active_rooms.cli.conversation import Conversation, Transcript
from hms_active_rooms.cli.settings import Settings
from hms_active_rooms.errors import JournalError
from hms_active_rooms.gate.actions import parse_call
from hms_active_rooms.gate.approval import ApprovalRequest
from hms_active_rooms.gate.journal.records import Action, Origin, Way
from hms_active_rooms.gate.journal.tables import actions
from hms_active_rooms.gate.policy import Policy
from hms_active_rooms.sim.faults import Fault
from hms_active_rooms.sim.server import Simulation
from hms_active_rooms.tools.toolkit import ActiveRoomsToolkit
from scripted import ScriptedModel, calls, text
from simulated import names, peer_id, posts

REMOVE = "hms-remove-peers"
END = "hms-end-active-room"


class Talk(Transcript):
    """A person who types these lines, whatever for, and what they see."""

    def __init__(self, *lines: str) -> None:
        super().__init__(Settings(), piped_answers=True, go_on="")
        self._lines = list(lines)
        self.events: list[Mapping[str, Any]] = []
        self.questions: list[tuple[str, int, int]] = []
        self.notices: list[str] = []
        self.meanwhile: Callable[[ApprovalRequest], None] = lambda _: None

    def message(self) -> str | None:
        return self._lines.pop(0) if self._lines else None

    def read(self, _prompt: str) -> str | None:
        return self.message()

    def question(self, request: ApprovalRequest) -> None:
        self.questions.append((request.text, *self.place))
        self.meanwhile(request)

    def notice(self, text: str) -> None:
        self.notices.append(text)

    def emit(self, event: Mapping[str, Any]) -> None:
        self.events.append(event)

    def of(self, kind: str) -> list[Mapping[str, Any]]:
        return [event for event in self.events if event["type"] == kind]


Converse = Callable[..., bool]


@pytest.fixture
def toolkit(sim: Simulation, tmp_path: Path) -> Iterator[ActiveRoomsToolkit]:
    """The gate and the tools of every conversation of a test."""
    toolkit = ActiveRoomsToolkit(
        ActiveRoomsClient(SignedTokens(sim.access_key, sim.secret), base_url=sim.base_url),
        Policy(rooms=(sim.room_id,)),
        journal=f"sqlite:///{tmp_path}/journal.sqlite",
    )
    yield toolkit
    blocking.run(toolkit.aclose)


@pytest.fixture
def converse(sim: Simulation, toolkit: ActiveRoomsToolkit) -> Converse:
    """Runs a conversation to its end; graphs share one checkpointer, as processes do a file."""
    saver = InMemorySaver()

    def run(model: ScriptedModel, io: Talk) -> bool:
        return Conversation(toolkit, io, model, saver, thread="t", room_id=sim.room_id).run()

    return run


def two_removals(sim: Simulation) -> ScriptedModel:
    wanted = [
        (REMOVE, {"room_id": sim.room_id, "peer_id": sim.world.ids.uuid_for(f"peer/{name}/1")})
        for name in ("Spam Bot", "Sam Lee")
    ]
    return ScriptedModel.saying(calls(*wanted), text("finished"))


def test_a_model_that_answers_nothing_is_told_but_not_after_an_outcome(
    sim: Simulation, converse: Converse
) -> None:
    wanted = calls((REMOVE, {"room_id": sim.room_id, "role": "viewer"}))
    io = Talk("hello", "remove the viewers", "yes")
    converse(ScriptedModel.saying(text(""), wanted, text("")), io)
    (error,) = io.of("error")
    assert "The model gave no answer" in error["message"]
    assert [event["state"] for event in io.of("outcome")] == ["done"]


def test_each_action_of_a_turn_is_asked_for_itself(sim: Simulation, converse: Converse) -> None:
    io = Talk("remove both", "yes", "no")
    assert not converse(two_removals(sim), io)
    assert [(number, total) for _, number, total in io.questions] == [(1, 2), (2, 2)]
    assert "Spam Bot" in io.questions[0][0]
    assert sorted(e["state"] for e in io.of("outcome")) == ["done", "rejected"]
    assert len(posts(sim)) == 1
    assert "Sam Lee" in names(sim)
    assert "Spam Bot" not in names(sim)


def test_without_a_valid_answer_that_action_is_refused_and_nobody_is_said_to_have_rejected_it(
    sim: Simulation, converse: Converse
) -> None:
    io = Talk("remove both", "yes", "hm", "hm", "hm")
    assert not converse(two_removals(sim), io)
    assert [e["state"] for e in io.of("outcome")] == ["done", "refused"]
    assert "no valid answer" in io.of("outcome")[1]["text"]
    assert "Sam Lee" in names(sim)


def test_without_a_valid_answer_here_what_was_approved_elsewhere_meanwhile_stays_approved(
    sim: Simulation, converse: Converse, toolkit: ActiveRoomsToolkit
) -> None:
    io = Talk("remove both", "no", "hm", "hm", "hm")

    def approve(request: ApprovalRequest) -> None:
        if "Sam Lee" in request.text:
            yes = toolkit.gate.decide(request.action_id, request.approve(), by="bob", way="page")
            blocking.run(yes)

    io.meanwhile = approve
    assert not converse(two_removals(sim), io)
    assert sorted(e["state"] for e in io.of("outcome")) == ["done", "rejected"]
    assert any('Already approved by "bob" (page)' in notice for notice in io.notices)
    assert "Sam Lee" not in names(sim)
    assert "Spam Bot" in names(sim)


@pytest.mark.parametrize(
    ("answers", "told"),
    [
        (["no"], ["rejected"]),
        (["hm", "hm", "hm"], [*3 * ["bad_answer"], "rejected"]),
        (["yes"], ["approved", "sent", "done"]),
    ],
)
def test_what_a_person_saw_and_said_is_on_record_once(
    sim: Simulation,
    converse: Converse,
    toolkit: ActiveRoomsToolkit,
    answers: list[str],
    told: list[str],
) -> None:
    def kinds(action: Action) -> list[str]:
        return [event.kind for event in toolkit.gate.journal.events(action.id)]

    assert converse(two_removals(sim), Talk("remove both", *answers))
    first, second = toolkit.gate.journal.actions(oldest_first=True)
    assert kinds(first) == ["proposed", "asked", *told]
    assert kinds(second) == ["proposed", "asked"]
    assert not converse(two_removals(sim), Talk("yes"))
    assert kinds(first) == ["proposed", "asked", *told]
    assert kinds(second) == ["proposed", "asked", "asked", "approved", "sent", "done"]


def test_a_late_answer_is_on_record_once(
    sim: Simulation, converse: Converse, toolkit: ActiveRoomsToolkit
) -> None:
    def reject(request: ApprovalRequest) -> None:
        no = toolkit.gate.decide(request.action_id, request.reject(), by="bob", way="page")
        blocking.run(no)

    io = Talk("remove both", "yes", "yes")
    io.meanwhile = reject
    assert not converse(two_removals(sim), io)
    for action in toolkit.gate.journal.actions():
        kinds = [event.kind for event in toolkit.gate.journal.events(action.id)]
        assert kinds == ["proposed", "asked", "rejected", "late_answer"]
    assert posts(sim) == []


def test_a_question_that_could_not_be_shown_is_asked_again_and_no_yes(
    sim: Simulation,
    converse: Converse,
    toolkit: ActiveRoomsToolkit,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked, failures = toolkit.gate.asked, [JournalError("The disk is full.")]

    async def full(action: Action, way: Way) -> None:
        if failures:
            raise failures.pop()
        await asked(action, way)

    monkeypatch.setattr(toolkit.gate, "asked", full)
    io = Talk("remove both", "no", "no")
    assert not converse(two_removals(sim), io)
    assert [e["state"] for e in io.of("outcome")] == ["rejected", "rejected"]
    assert posts(sim) == []


def test_the_end_of_input_between_two_questions_leaves_the_second_open(
    sim: Simulation, converse: Converse
) -> None:
    io = Talk("remove both", "yes")
    assert converse(two_removals(sim), io)
    assert [e["state"] for e in io.of("outcome")] == ["done"]
    (pending,) = io.of("pending")
    (action_id,) = pending["action_ids"]
    assert f"hms-active-rooms approve {action_id}" in pending["text"]
    assert len(posts(sim)) == 1
    again = Talk("yes")
    assert not converse(two_removals(sim), again)
    assert len(again.questions) == 1
    assert again.of("resumed")
    assert len(posts(sim)) == 2


def test_edited_words_are_what_the_model_hears_of_too(
    sim: Simulation, converse: Converse, toolkit: ActiveRoomsToolkit
) -> None:
    said = {"room_id": sim.room_id, "message": "sit dwon"}
    heard: list[str] = []

    def script(history: list[Any]) -> AIMessage:
        heard.append(history[-1].text)
        return text("fine") if len(heard) > 1 else calls(("hms-send-message", said))

    io = Talk("tell them", "edit", "sit down", "yes")
    assert not converse(ScriptedModel(script=script), io)
    (told,) = io.of("outcome")
    assert (told["state"], "The person edited the words." in told["text"]) == ("done", True)
    assert [post.body["message"] for post in posts(sim)] == ["sit down"]
    assert "The person edited the words." in heard[-1]


def test_when_the_room_changed_after_the_yes_it_is_asked_again_in_the_same_turn(
    sim: Simulation, converse: Converse
) -> None:
    io = Talk("remove both", "yes", "yes", "no")
    changed: list[str] = []

    def change(request: ApprovalRequest) -> None:
        if "Spam Bot" in request.text and not changed:
            changed.append(request.action_id)
            control(sim, f"/peers/{peer_id(sim, 'Spam Bot')}", role="teacher")

    io.meanwhile = change
    assert not converse(two_removals(sim), io)
    assert "Asked again" in io.questions[1][0]
    assert [e["state"] for e in io.of("outcome")] == ["done", "rejected"]
    assert "Spam Bot" not in names(sim)


def test_what_is_open_in_the_journal_alone_is_told(
    sim: Simulation, converse: Converse, toolkit: ActiveRoomsToolkit
) -> None:
    """Left by a process that was killed before the graph's checkpoint was written."""
    call = parse_call(END, {"room_id": sim.room_id})
    row = blocking.run(toolkit.gate.propose(call, Origin("t", "m", "1", "chat:ada")))
    io = Talk()
    converse(ScriptedModel.saying(), io)
    assert io.of("pending")[0]["action_ids"] == [row.id]


def test_what_was_sent_is_told_also_when_the_conversation_cannot_be_saved(
    sim: Simulation, toolkit: ActiveRoomsToolkit
) -> None:
    class Full(InMemorySaver):
        def put(self, *given: Any) -> RunnableConfig:
            if posts(sim):
                raise sqlite3.OperationalError("database or disk is full")
            return super().put(*given)

    kit = ActiveRoomsToolkit(
        ActiveRoomsClient(SignedTokens(sim.access_key, sim.secret), base_url=sim.base_url),
        toolkit.gate.policy.model_copy(update={"relaxed": ["hms-send-message"]}),
        journal=toolkit.gate.journal,
    )
    model = ScriptedModel.saying(
        calls(("hms-send-message", {"room_id": sim.room_id, "message": "hi"})), text("done")
    )
    io = Talk("tell them")
    talk = Conversation(kit, io, model, Full(), thread="t", room_id=sim.room_id)
    with pytest.raises(sqlite3.OperationalError):
        talk.run()
    blocking.run(kit.aclose)
    assert [event["state"] for event in io.of("outcome")] == ["done"]
    assert len(posts(sim)) == 1


def test_a_turn_that_any_checkpoint_broke_off_goes_on_in_the_next_conversation(
    sim: Simulation, toolkit: ActiveRoomsToolkit
) -> None:
    class Full(InMemorySaver):
        left = 0

        def put(self, *given: Any) -> RunnableConfig:
            self.left -= 1
            if self.left < 0:
                raise sqlite3.OperationalError("database or disk is full")
            return super().put(*given)

    def ends(messages: list[Any]) -> AIMessage:
        if isinstance(messages[-1], ToolMessage):
            return text("done")
        return calls((REMOVE, {"room_id": sim.room_id, "peer_id": peer_id(sim, "Spam Bot")}))

    def talk(io: Talk) -> None:
        model = ScriptedModel(script=ends)
        Conversation(toolkit, io, model, saver, thread=str(kept), room_id=sim.room_id).run()

    for kept in range(1, 20):
        control(sim, "/reset")
        saver = Full()
        saver.left = kept
        try:
            talk(Talk("remove him", "yes"))
        except sqlite3.OperationalError:
            saver.left = 99
            io = Talk("yes")
            talk(io)
            assert io.of("resumed"), f"{kept} checkpoints"
            assert len(posts(sim)) == 1, f"{kept} checkpoints"
        else:
            assert kept > 3
            return
    pytest.fail("it never ended")


@pytest.mark.parametrize("word", ["q", "bye", "Bye!", "exit", "quit", " EXIT "])
def test_these_words_leave(converse: Converse, word: str) -> None:
    io = Talk(word, "never read")
    assert not converse(ScriptedModel.saying(text("hello")), io)
    assert [event["type"] for event in io.events] == ["started"]


def test_what_the_policy_refuses_is_not_called_rejected_nor_told_in_words_for_a_model(
    sim: Simulation, converse: Converse
) -> None:
    wanted = {"room_id": "f" * 24, "peer_id": "d6a660ef"}
    io = Talk("remove")
    converse(ScriptedModel.saying(calls((REMOVE, wanted)), text("no")), io)
    (told,) = io.of("outcome")
    assert told["state"] == "refused"
    assert "do not try" not in told["text"].lower()
    assert "the person" not in told["text"]


def test_nobody_to_ask_leaves_the_actions_waiting(sim: Simulation, converse: Converse) -> None:
    io = Talk("remove both", "yes", "yes")
    io.cannot_ask = "Nobody was asked."
    assert converse(two_removals(sim), io)
    assert io.questions == []
    assert posts(sim) == []


def test_a_model_that_fails_is_told_and_the_conversation_goes_on(converse: Converse) -> None:
    def script(history: list[Any]) -> AIMessage:
        if history[-1].text == "fail":
            raise ZeroDivisionError("`tier-1`:\n quota \x1b[31mexceeded")
        return text("fine")

    io = Talk("fail", "again")
    assert not converse(ScriptedModel(script=script), io)
    (error,) = io.of("error")
    assert error["code"] == "model"
    assert error["message"] == (
        'The model failed: ZeroDivisionError "`tier-1`: quota \\u001b[31mexceeded".'
    )
    assert [e["text"] for e in io.of("message")] == ["fine"]


def test_a_bug_of_ours_is_not_taken_for_trouble_with_the_model(converse: Converse) -> None:
    class Broken(Talk):
        def emit(self, event: Mapping[str, Any]) -> None:
            if event["type"] == "message":
                raise LookupError("a bug")

    with pytest.raises(LookupError, match="a bug"):
        converse(ScriptedModel.saying(text("hello")), Broken("hello"))


def test_the_question_is_from_the_journal_not_from_the_models_words(
    sim: Simulation, converse: Converse
) -> None:
    lie = calls((END, {"room_id": sim.room_id}))
    lie.content = "This only says hello to everyone. Approve? yes"
    io = Talk("greet them", "no")
    assert not converse(ScriptedModel.saying(lie, text("done")), io)
    assert io.questions[0][0].startswith("END the session")
    assert posts(sim) == []


def test_an_edit_that_was_given_up_is_asked_about_again(
    sim: Simulation, converse: Converse
) -> None:
    io = Talk("remove both", "edit", "", "no", "edit", "", "no")
    assert not converse(two_removals(sim), io)
    assert [number for _, number, _ in io.questions] == [1, 1, 2, 2]
    assert posts(sim) == []


def test_other_words_for_what_another_approved_meanwhile_send_nothing_and_it_stays_approved(
    sim: Simulation, converse: Converse, toolkit: ActiveRoomsToolkit
) -> None:
    def approve(request: ApprovalRequest) -> None:
        yes = toolkit.gate.decide(request.action_id, request.approve(), by="bob", way="page")
        blocking.run(yes)

    said = calls(("hms-send-message", {"room_id": sim.room_id, "message": "helo"}))
    io = Talk("tell them", "edit", "hello", "yes")
    io.meanwhile = approve
    assert not converse(ScriptedModel.saying(said, text("done")), io)
    assert posts(sim) == []
    assert [event["state"] for event in io.of("outcome")] == ["approved"]
    assert "The action was not sent, and its approval is still open" in io.notices[-1]


@pytest.mark.parametrize("later", [False, True])
def test_a_question_whose_record_breaks_ends_with_its_error(
    sim: Simulation, converse: Converse, toolkit: ActiveRoomsToolkit, later: bool
) -> None:
    def breaks(_: ApprovalRequest) -> None:
        with toolkit.gate.journal.write() as tx:
            tx.db.execute(actions.update().values(note="forged"))

    io = Talk("remove him", *([] if later else ["yes"]))
    io.meanwhile = breaks
    wanted = calls((REMOVE, {"room_id": sim.room_id, "peer_id": peer_id(sim, "Spam Bot")}))
    assert converse(ScriptedModel.saying(wanted, text("done")), io) is later
    if later:  # the input ended; the conversation is opened again
        assert not converse(ScriptedModel.saying(text("done")), io)
    [told] = io.of("outcome")
    assert "contradicts itself" in told["text"]
    assert len(io.questions) == 1
    assert posts(sim) == []


def test_only_a_conversation_that_has_the_call_says_that_a_new_message_takes_it_back(
    sim: Simulation, toolkit: ActiveRoomsToolkit
) -> None:
    saver = InMemorySaver()

    def deleted(_: ApprovalRequest) -> None:
        saver.delete_thread("t")
        sim.faults.add(Fault(kind="status", status=500, method="GET", times=None))

    io = Talk("remove him", "yes")
    io.meanwhile = deleted
    wanted = calls((REMOVE, {"room_id": sim.room_id, "peer_id": peer_id(sim, "Spam Bot")}))
    model = ScriptedModel.saying(wanted, text("done"))
    Conversation(toolkit, io, model, saver, thread="t", room_id=sim.room_id).run()
    assert "approval is still open" in io.notices[-1]
    assert "takes it back, too" not in io.notices[-1]
