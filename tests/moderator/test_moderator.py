"""The moderator graph: one interrupt per turn, answers checked, the journal decides."""

from __future__ import annotations

import asyncio
import random
from datetime import timedelta
from typing import Any

import pytest
from langchain_core.language_models.fake_chat_models import FakeListChatModel
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, ToolMessage
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.errors import GraphRecursionError
from langgraph.types import Command

from hms_active_rooms import ActiveRoomsToolkit, Approve, Policy
from hms_active_rooms.api.models import ActiveRoom
from hms_active_rooms.errors import (
    ConfigurationError,
    Forbidden,
    InvalidCall,
    PolicyRefusal,
    ServerError,
)
from hms_active_rooms.gate.journal import Journal
from hms_active_rooms.gate.journal.tables import actions
from hms_active_rooms.moderator import build_moderator
from hms_active_rooms.moderator.offline import CommandsModel
from hms_active_rooms.tools.asking import MAX_QUESTIONS
from scripted import ScriptedModel, calls, text, worst
from stand_in import ROOM, Clock, StandInRoom, peer

CONFIG: Any = {"configurable": {"thread_id": "t", "approver": "ada"}}
APPROVE = {"type": "approve"}
REJECT = {"type": "reject", "message": "no"}


class Conversation:
    """A moderator on a stand-in room, with a scripted model."""

    def __init__(self, room: StandInRoom, model: ScriptedModel, **policy: Any) -> None:
        self.room = room
        self.saver = InMemorySaver()
        self.clock = Clock()
        self.kit = ActiveRoomsToolkit(
            room,  # type: ignore[arg-type]
            Policy(rooms=(ROOM,), verify_s=0, **policy),
            journal=Journal(":memory:", clock=self.clock),
        )
        self.model = model
        self.graph = build_moderator(model, self.kit, room_id=ROOM, checkpointer=self.saver)
        self.out: dict[str, Any] = {}

    def say(self, words: str = "go") -> Any:
        """The interrupt this leads to, or None."""
        return self._run({"messages": [HumanMessage(words)]})

    def answer(self, *decisions: dict[str, Any]) -> Any:
        """Answer by position; approvals and edits get their request's digest if they have none."""
        requests = self.interrupt().value["action_requests"]
        bound = [
            d if d["type"] == "reject" else {"digest": r["digest"], **d}
            for d, r in zip(decisions, requests, strict=True)
        ]
        return self.resume({"decisions": bound})

    def go_on(self) -> Any:
        return self._run(None)

    def resume(self, value: Any) -> Any:
        return self._run(Command(resume={self.interrupt().id: value}))

    def interrupt(self) -> Any:
        [interrupt] = self.graph.get_state(CONFIG).interrupts
        return interrupt

    def _run(self, value: Any) -> Any:
        self.out = self.graph.invoke(value, CONFIG)
        found = self.out.get("__interrupt__", ())
        return found[0] if found else None

    def results(self) -> list[str]:
        return [str(m.content) for m in self.out["messages"] if isinstance(m, ToolMessage)]

    def removed(self) -> list[str]:
        return [body["peer_id"] for _, body in self.room.posts]


def remove(number: int) -> tuple[str, dict[str, Any]]:
    return "hms-remove-peers", {"room_id": ROOM, "peer_id": peer(number).id}


def send(message: str = "hello", **more: Any) -> tuple[str, dict[str, Any]]:
    return "hms-send-message", {"room_id": ROOM, "message": message, **more}


END = ("hms-end-active-room", {"room_id": ROOM})
LIST = ("hms-list-peers", {"room_id": ROOM})


def students() -> StandInRoom:
    return StandInRoom([peer(n) for n in (1, 2, 3, 4)])


def three_removals() -> Conversation:
    model = ScriptedModel.saying(calls(remove(1), remove(2), remove(3)), text("done"))
    return Conversation(students(), model)


@pytest.mark.parametrize("more", [[], [HumanMessage("who is here")]], ids=["alone", "and words"])
def test_what_a_ui_writes_in_place_of_a_result_is_not_what_the_model_reads(more: Any) -> None:
    """Agent Chat UI does, when somebody types in place of answering."""
    seen: list[list[BaseMessage]] = []

    def script(history: list[BaseMessage]) -> AIMessage:
        seen.append(history)
        return calls(remove(1)) if len(seen) == 1 else text("ok")

    talk = Conversation(students(), ScriptedModel(script=script))
    asked = talk.say().value["action_requests"][0]["action_id"]
    call_id = talk.out["messages"][-1].tool_calls[0]["id"]
    theirs = ToolMessage("Successfully handled tool call.", tool_call_id=call_id)
    assert talk._run({"messages": [theirs, *more]}) is None
    [told] = [str(m.content) for m in seen[-1] if isinstance(m, ToolMessage)]
    assert told.startswith("Not executed:")
    row = talk.kit.gate.journal.get(asked)
    assert row
    assert (row.state, row.decided_by) == ("rejected", "person" if more else "gate")
    talk.say("go on")
    assert talk.results() == ["Successfully handled tool call.", told]


@pytest.mark.parametrize("chosen", [0, 1, 2])
def test_of_three_parallel_removals_the_approved_one_runs_once_and_only_that_one(
    chosen: int,
) -> None:
    talk = three_removals()
    interrupt = talk.say()
    assert len(interrupt.value["action_requests"]) == 3
    talk.answer(*[APPROVE if n == chosen else REJECT for n in range(3)])
    assert talk.removed() == [peer(chosen + 1).id]


def test_one_interrupt_for_the_whole_turn_in_the_shape_uis_render() -> None:
    talk = three_removals()
    value = talk.say().value
    assert set(value) == {"action_requests", "review_configs"}
    first = value["action_requests"][0]
    assert first["name"] == "hms-remove-peers"
    assert first["args"]["peer_id"] == peer(1).id
    assert '"Peer 1"' in first["description"]
    assert value["review_configs"][0]["action_name"] == "hms-remove-peers"


BAD: list[Any] = [
    "yes",
    True,
    None,
    {"type": "approve "},
    {"decisions": []},
    {"decisions": [APPROVE]},
    {"decisions": [APPROVE] * 4},
    {"decisions": [APPROVE, APPROVE, {"type": "approve "}]},
    {"decisions": [APPROVE, APPROVE, APPROVE]},
    {"decisions": [{**APPROVE, "digest": "0" * 64}] * 3},
    {"decisions": "approve"},
    [APPROVE, APPROVE, APPROVE],
]


@pytest.mark.parametrize("bad", [b for b in BAD if b is not None], ids=repr)
def test_a_bad_answer_is_asked_again_and_sends_nothing(bad: Any) -> None:
    talk = three_removals()
    talk.say()
    again = talk.resume(bad)
    assert "problem" in again.value
    assert talk.room.posts == []
    talk.answer(REJECT, REJECT, APPROVE)
    assert talk.removed() == [peer(3).id]


def test_a_client_that_only_gives_bad_answers_comes_to_an_end() -> None:
    talk = three_removals()
    talk.say()
    for _ in range(MAX_QUESTIONS - 1):
        assert talk.resume("yes") is not None
    assert talk.resume("yes") is None
    assert talk.room.posts == []
    assert all("no valid answer came" in r for r in talk.results())


def test_an_old_answer_does_not_count_for_a_new_question() -> None:
    """A plain resume lands on whatever is pending; the digest is what binds it."""
    talk = Conversation(students(), ScriptedModel.saying(calls(END), text("done")))
    first = talk.say()
    old = first.value["action_requests"][0]["digest"]
    talk.room.session = "4" * 24
    second = talk.answer(APPROVE)
    assert "Asked again" in second.value["action_requests"][0]["description"]
    assert talk.answer({**APPROVE, "digest": old}) is not None
    assert talk.room.posts == []
    talk.answer(APPROVE)
    assert [verb for verb, _ in talk.room.posts] == ["end"]


def test_swapping_the_arguments_in_the_state_asks_about_the_new_ones() -> None:
    talk = Conversation(students(), ScriptedModel.saying(calls(remove(1)), text("done")))
    talk.say()
    message = talk.graph.get_state(CONFIG).values["messages"][-1]
    swapped = message.model_copy(update={"tool_calls": calls(remove(4)).tool_calls})
    talk.graph.update_state(CONFIG, {"messages": [swapped]}, as_node="model")
    talk.graph.invoke(Command(resume={"decisions": [APPROVE]}), CONFIG)
    assert talk.room.posts == []


def test_an_edit_of_the_words_is_what_is_sent() -> None:
    talk = Conversation(students(), ScriptedModel.saying(calls(send("helo")), text("done")))
    request = talk.say().value["action_requests"][0]
    args = {**request["args"], "message": "hello"}
    edit = {"type": "edit", "edited_action": {"name": "hms-send-message", "args": args}}
    talk.answer(edit)
    assert [body["message"] for _, body in talk.room.posts] == ["hello"]


def test_newcomers_with_the_role_stay_and_the_model_is_told() -> None:
    role = ("hms-remove-peers", {"room_id": ROOM, "role": "student"})
    talk = Conversation(students(), ScriptedModel.saying(calls(role), text("done")))
    talk.say()
    talk.room.peers.append(peer(9, "Newcomer"))
    talk.answer(APPROVE)
    assert [p.name for p in talk.room.peers] == ["Newcomer"]
    assert "Newcomer" in talk.results()[0]


def test_reads_run_unasked_and_wait_for_the_question_of_their_turn() -> None:
    talk = Conversation(students(), ScriptedModel.saying(calls(LIST, remove(1)), text("done")))
    assert talk.say() is not None
    talk.answer(REJECT)
    assert any("4 in the room" in r for r in talk.results())
    assert talk.room.posts == []


def test_a_new_message_withdraws_what_was_pending() -> None:
    talk = Conversation(
        students(), ScriptedModel.saying(calls(remove(1)), text("ok"), text("done"))
    )
    talk.say("remove 1")
    asked = talk.interrupt().value["action_requests"][0]["action_id"]
    assert talk.say("who is here") is None
    assert "wrote a new message" in talk.results()[0]
    row = talk.kit.gate.journal.get(asked)
    assert row is not None
    assert row.state == "rejected"
    assert talk.room.posts == []


def test_of_a_call_that_nobody_was_asked_about_no_answer_is_said_to_be_missing() -> None:
    talk = Conversation(students(), ScriptedModel.saying(calls(remove(1), LIST), text("done")))
    limited: Any = {**CONFIG, "recursion_limit": 1}
    with pytest.raises(GraphRecursionError):
        talk.graph.invoke({"messages": [HumanMessage("go")]}, limited)
    talk.say("and now?")
    assert len(talk.results()) == 2
    assert all("wrote a new message before the call was looked" in one for one in talk.results())


def test_what_a_form_fills_in_beside_the_messages_changes_nothing() -> None:
    """LangGraph's Studio offers a field for each key of an input."""
    talk = three_removals()
    talk.say()
    filled: Any = {"messages": [], "run": "another", "told": "m", "prompts": -5}
    talk.graph.invoke(filled, CONFIG)
    assert [row.state for row in talk.kit.gate.journal.actions()] == ["rejected"] * 3


def test_the_model_sees_each_result_behind_its_call() -> None:
    seen: list[list[BaseMessage]] = []

    def script(history: list[BaseMessage]) -> AIMessage:
        seen.append(history)
        return calls(remove(1)) if len(seen) == 1 else text("ok")

    talk = Conversation(students(), ScriptedModel(script=script))
    talk.say("remove 1")
    talk.say("who is here")
    kinds = [type(m).__name__ for m in seen[-1]]
    assert kinds == ["SystemMessage", "HumanMessage", "AIMessage", "ToolMessage", "HumanMessage"]


def test_repeated_refusals_end_the_turn() -> None:
    talk = Conversation(students(), ScriptedModel.saying(calls(remove(1))), refusals_in_a_row=2)
    talk.say()
    talk.answer(REJECT)
    assert talk.answer(REJECT) is None
    assert "too many actions in a row" in talk.out["messages"][-1].content
    assert talk.room.posts == []


def test_too_many_steps_end_the_turn() -> None:
    talk = Conversation(students(), ScriptedModel.saying(calls(LIST)))
    assert talk.say() is None
    assert "stopped after 12 steps" in talk.out["messages"][-1].content


def test_too_many_questions_in_a_turn_are_refused() -> None:
    talk = Conversation(
        students(), ScriptedModel.saying(calls(*[send(str(n)) for n in range(20)]), text("done"))
    )
    assert len(talk.say().value["action_requests"]) == 12
    talk.answer(*[REJECT] * 12)
    assert sum("at most 12 actions" in r for r in talk.results()) == 8


def test_call_ids_used_again_are_other_calls() -> None:
    talk = Conversation(students(), ScriptedModel.saying(calls(send("a"))))
    talk.say()
    talk.answer(APPROVE)
    talk.answer(APPROVE)
    assert [body["message"] for _, body in talk.room.posts] == ["a", "a"]


def test_two_calls_with_one_id_are_two_calls() -> None:
    message = calls(send("a"), send("b"))
    for call in message.tool_calls:
        call["id"] = "same"
    talk = Conversation(students(), ScriptedModel.saying(message, text("done")))
    talk.say()
    talk.answer(APPROVE, REJECT)
    assert [body["message"] for _, body in talk.room.posts] == ["a"]


def test_a_wrong_call_is_explained_to_the_model() -> None:
    wrong = [
        ("hms-send-message", {"room_id": ROOM, "message": "psst", "peerId": "x"}),
        ("hms-remove-peers", {"room_id": ROOM}),
        ("hms-end-active-room", {"room_id": "../x"}),
        ("hms-mute", {"room_id": ROOM}),
    ]
    talk = Conversation(students(), ScriptedModel.saying(calls(*wrong), text("done")))
    assert talk.say() is None
    assert all("Nothing was executed" in r for r in talk.results())
    assert "there is no such argument" in talk.results()[0]
    assert talk.room.posts == []


def test_resuming_by_two_workers_sends_once() -> None:
    talk = three_removals()
    interrupt = talk.say()
    digest = interrupt.value["action_requests"][0]["digest"]
    decisions = [{**APPROVE, "digest": digest}, REJECT, REJECT]
    resume: Command[Any] = Command(resume={interrupt.id: {"decisions": decisions}})

    async def both() -> None:
        other = build_moderator(talk.model, talk.kit, room_id=ROOM, checkpointer=talk.saver)
        await asyncio.gather(
            talk.graph.ainvoke(resume, CONFIG),
            other.ainvoke(resume, CONFIG),
            return_exceptions=True,
        )

    asyncio.run(both())
    assert talk.removed() == [peer(1).id]


@pytest.mark.parametrize("workers", [2, 3])
def test_what_is_asked_again_is_asked_by_all_who_resumed_at_once(workers: int) -> None:
    talk = Conversation(students(), ScriptedModel.saying(calls(remove(1)), text("done")))
    interrupt, read = talk.say(), talk.room.retrieve_active_room
    digest = interrupt.value["action_requests"][0]["digest"]
    talk.room.peers[0] = peer(1, role="assistant")

    async def both() -> list[Any]:
        together = asyncio.Barrier(workers)

        async def at_once(room_id: str) -> ActiveRoom:
            await together.wait()
            return await read(room_id)

        talk.room.retrieve_active_room = at_once  # type: ignore[method-assign]
        answers = {interrupt.id: {"decisions": [{**APPROVE, "digest": digest}]}}
        resumed = [talk.graph.ainvoke(Command(resume=answers), CONFIG) for _ in range(workers)]
        return [*await asyncio.gather(*resumed)]

    for out in asyncio.run(both()):
        assert "assistant" in out["__interrupt__"][0].value["action_requests"][0]["description"]
    talk.room.retrieve_active_room = read  # type: ignore[method-assign]
    talk.answer(APPROVE)
    assert talk.removed() == [peer(1).id]


def test_what_was_held_back_and_is_asked_about_anew_is_answered_where_it_is_asked() -> None:
    model = ScriptedModel.saying(calls(send("one")), calls(send("one")), text("done"))
    talk = Conversation(StandInRoom([peer(1)]), model)
    talk.say()
    read = talk.room.retrieve_active_room

    async def fails_once(room_id: str) -> ActiveRoom:
        talk.room.retrieve_active_room = read  # type: ignore[method-assign]
        talk.room.peers += [peer(n) for n in (2, 3, 4)]  # the audience grew
        raise ServerError("Busy.", status=503)

    talk.room.retrieve_active_room = fails_once  # type: ignore[method-assign]
    asked = talk.answer(APPROVE)
    assert "grew" in asked.value["action_requests"][0]["description"]
    talk.answer(APPROVE)
    assert [body["message"] for _, body in talk.room.posts] == ["one"]


def test_a_new_message_takes_back_what_was_approved_and_held_back() -> None:
    """It may be a no, and the model must not decide whether it is."""
    model = ScriptedModel.saying(
        calls(send("one")), calls(send("two")), text("later"), calls(send("two")), text("done")
    )
    talk = Conversation(StandInRoom([peer(1)]), model, actions_per_minute=1)
    talk.say()
    talk.answer(APPROVE)
    talk.answer(APPROVE)
    [held] = talk.kit.gate.journal.actions(state="approved")
    talk.clock.now += timedelta(seconds=61)
    assert talk.say("no, leave it") is not None  # asked about anew
    row = talk.kit.gate.journal.get(held.id)
    assert row
    assert (row.state, row.decided_way) == ("rejected", "message")
    talk.answer(REJECT)
    assert [body["message"] for _, body in talk.room.posts] == ["one"]


BREAKS = {"contradicts itself": {"reason": "because"}, "cannot be read": {"gate": "ajar"}}


def broken(talk: Conversation, action_id: str, how: str) -> None:
    with talk.kit.gate.journal.write() as tx:
        tx.db.execute(actions.update().where(actions.c.id == action_id).values(**BREAKS[how]))


@pytest.mark.parametrize("how", BREAKS)
def test_a_row_that_is_broken_stops_its_own_call_and_no_other(how: str) -> None:
    talk = three_removals()
    asked = talk.say().value["action_requests"]
    broken(talk, asked[1]["action_id"], how)
    assert talk.answer(APPROVE, APPROVE, APPROVE) is None
    assert talk.removed() == [peer(1).id, peer(3).id]
    assert how in " ".join(talk.results())


@pytest.mark.parametrize("how", BREAKS)
def test_a_row_that_is_broken_does_not_end_the_conversation(how: str) -> None:
    talk = three_removals()
    asked = talk.say().value["action_requests"]
    broken(talk, asked[1]["action_id"], how)
    assert talk.say("forget it") is None
    rows = [talk.kit.gate.journal.get(asked[n]["action_id"]) for n in (0, 2)]
    assert [row.state for row in rows if row] == ["rejected", "rejected"]
    assert how in " ".join(talk.results())
    assert talk.removed() == []


def test_nobody_is_asked_about_a_question_whose_record_is_broken_now() -> None:
    talk = Conversation(students(), ScriptedModel.saying(calls(remove(1)), text("done")))
    [asked] = talk.say().value["action_requests"]
    broken(talk, asked["action_id"], "contradicts itself")
    assert talk.go_on() is None
    assert "contradicts itself" in " ".join(talk.results())


def test_other_words_for_what_was_approved_elsewhere_send_nothing_however_often_the_node_runs() -> (
    None
):
    send = ("hms-send-message", {"room_id": ROOM, "message": "helo"})
    model = ScriptedModel.saying(calls(send, remove(1), remove(2)), text("done"))
    talk = Conversation(students(), model)
    said, *_ = talk.say().value["action_requests"]
    asyncio.run(
        talk.kit.gate.decide(said["action_id"], Approve(said["digest"]), by="bob", way="page")
    )
    args = {**said["args"], "message": "hello"}
    edit = {"type": "edit", "edited_action": {"name": said["name"], "args": args}}
    talk.room.peers[0] = peer(1, role="teacher")  # so that this removal is asked about again
    assert talk.answer(edit, APPROVE, REJECT) is not None
    assert talk.answer(REJECT) is None
    assert talk.room.posts == []
    assert "approved, not sent" in talk.results()[0]


def test_going_back_in_time_sends_nothing_again() -> None:
    talk = three_removals()
    talk.say()
    before = talk.graph.get_state(CONFIG).config
    talk.answer(APPROVE, REJECT, REJECT)
    talk.room.peers.append(peer(1))
    again: Command[Any] = Command(resume={"decisions": [APPROVE, APPROVE, APPROVE]})
    for value in (None, again):
        talk.graph.invoke(value, before)
    assert talk.removed() == [peer(1).id]


def test_a_policy_refusal_is_not_asked_about() -> None:
    talk = Conversation(
        students(),
        ScriptedModel.saying(calls(remove(1)), text("done")),
        protected_user_ids=frozenset({"u-1"}),
    )
    assert talk.say() is None
    assert "the policy protects that user id" in talk.results()[0]


async def test_it_works_the_same_asynchronously() -> None:
    talk = three_removals()
    out = await talk.graph.ainvoke({"messages": [HumanMessage("go")]}, CONFIG)
    [interrupt] = out["__interrupt__"]
    digest = interrupt.value["action_requests"][1]["digest"]
    answer = {"decisions": [REJECT, {**APPROVE, "digest": digest}, REJECT]}
    await talk.graph.ainvoke(Command(resume={interrupt.id: answer}), CONFIG)
    assert talk.removed() == [peer(2).id]


@pytest.mark.slow
def test_turns_of_a_reckless_model_send_nothing_when_nobody_answers() -> None:
    rng = random.Random(7)
    talk = Conversation(
        students(),
        ScriptedModel(script=lambda _: worst(rng, ROOM, [peer(n).id for n in range(1, 6)])),
    )
    for turn in range(20):
        talk.say(f"turn {turn}")
    assert talk.room.posts == []
    assert all(a.state in ("proposed", "rejected") for a in talk.kit.gate.journal.actions())


def test_a_click_too_many_does_not_approve_what_is_asked_next() -> None:
    lock = ("hms-end-active-room", {"room_id": ROOM, "lock": True})
    talk = Conversation(
        students(), ScriptedModel.saying(calls(send("hi all")), calls(lock), text("done"))
    )
    first = talk.say().value["action_requests"][0]
    click: Any = Command(resume={"decisions": [{**APPROVE, "digest": first["digest"]}]})
    talk.graph.invoke(click, CONFIG)
    talk.graph.invoke(click, CONFIG)
    assert [verb for verb, _ in talk.room.posts] == ["send"]
    assert talk.interrupt()


def test_a_thread_goes_on_after_an_action_failed_elsewhere() -> None:
    talk = Conversation(
        students(), ScriptedModel.saying(calls(remove(1)), text("ok"), text("done"))
    )
    asked = talk.say().value["action_requests"][0]

    async def elsewhere() -> None:
        gate = talk.kit.gate
        decision = Approve(asked["digest"])
        await gate.decide(asked["action_id"], decision, by="bob", way="page")
        talk.room.before = refuse
        await gate.run(asked["action_id"])

    def refuse(_: str) -> None:
        raise Forbidden("No.", status=403)

    asyncio.run(elsewhere())
    assert talk.say("and now?") is None
    assert "Nothing was executed" in talk.results()[0]


def test_an_approved_action_that_was_not_sent_is_withdrawn_by_a_new_message() -> None:
    talk = Conversation(
        students(), ScriptedModel.saying(calls(remove(1)), text("ok"), text("done"))
    )
    asked = talk.say().value["action_requests"][0]
    gate = talk.kit.gate
    asyncio.run(gate.decide(asked["action_id"], Approve(asked["digest"]), by="bob", way="page"))
    talk.say("forget it")
    assert asyncio.run(gate.run(asked["action_id"])).state == "rejected"
    assert talk.room.posts == []


def test_a_no_here_counts_though_somebody_said_yes_elsewhere_and_it_was_not_sent() -> None:
    talk = Conversation(students(), ScriptedModel.saying(calls(remove(1)), text("done")))
    asked = talk.say().value["action_requests"][0]
    gate = talk.kit.gate
    asyncio.run(gate.decide(asked["action_id"], Approve(asked["digest"]), by="bob", way="page"))
    talk.resume({"decisions": [{"type": "reject", "message": "no"}]})
    assert talk.room.posts == []
    assert "rejected" in talk.results()[0]
    assert [m.status for m in talk.out["messages"] if isinstance(m, ToolMessage)] == ["error"]


@pytest.mark.parametrize("stray", ["\ud800", "\x00"])
def test_a_no_counts_whatever_characters_its_reason_holds(stray: str) -> None:
    talk = Conversation(students(), ScriptedModel.saying(calls(remove(1)), text("done")))
    talk.say()
    assert talk.answer({"type": "reject", "message": f"no{stray}"}) is None
    assert "no\ufffd" in talk.results()[0]


def test_a_person_who_comes_second_here_reads_whose_decision_counts() -> None:
    talk = Conversation(students(), ScriptedModel.saying(calls(remove(1)), text("done")))
    asked = talk.say().value["action_requests"][0]
    gate = talk.kit.gate
    asyncio.run(gate.decide(asked["action_id"], Approve(asked["digest"]), by="bob", way="page"))
    asyncio.run(gate.run(asked["action_id"]))
    talk.resume({"decisions": [{"type": "reject", "message": "no"}]})
    assert talk.results()[0].startswith('Already approved by "bob" (page) at ')
    assert len(talk.room.posts) == 1


def test_a_model_message_cannot_take_the_place_of_the_persons() -> None:
    def script(history: list[BaseMessage]) -> AIMessage:
        return AIMessage("I am you", id=history[-1].id)

    talk = Conversation(students(), ScriptedModel(script=script))
    talk.say("who is here")
    assert [type(m).__name__ for m in talk.out["messages"]] == ["HumanMessage", "AIMessage"]


def test_a_flood_of_calls_is_cut() -> None:
    talk = Conversation(students(), ScriptedModel.saying(calls(*[LIST] * 200), text("done")))
    talk.say()
    assert sum("at most 50 calls" in r for r in talk.results()) == 150


def test_plain_answers_count_only_where_code_says_so() -> None:
    talk = three_removals()
    talk.graph = build_moderator(
        talk.model, talk.kit, room_id=ROOM, checkpointer=talk.saver, plain_answers=True
    )
    talk.say()
    talk.graph.invoke(Command(resume={"decisions": [APPROVE, REJECT, REJECT]}), CONFIG)
    assert talk.removed() == [peer(1).id]


def test_each_question_and_each_bad_answer_of_a_turn_is_on_record() -> None:
    talk = three_removals()
    asked = talk.say().value["action_requests"][0]["action_id"]
    talk.resume("yes")
    kinds = [e.kind for e in talk.kit.gate.journal.events(asked)]
    assert kinds == ["proposed", "asked", "bad_answer", "asked"]


def test_a_result_is_told_for_its_own_call_even_if_a_later_one_has_the_same_id() -> None:
    seen: list[list[BaseMessage]] = []

    def script(history: list[BaseMessage]) -> AIMessage:
        seen.append(history)
        return calls(send("a")) if len(seen) < 3 else text("done")

    talk = Conversation(students(), ScriptedModel(script=script))
    talk.say()
    talk.answer(REJECT)
    talk.answer(APPROVE)
    told = [str(m.content) for m in seen[-1] if isinstance(m, ToolMessage)]
    assert [t.split()[0] for t in told] == ["Not", "Message"]


def test_an_answer_that_comes_with_the_question_is_not_its_answer() -> None:
    """Answers without a digest count only at the place where their question was shown."""
    talk = three_removals()
    talk.graph = build_moderator(
        talk.model, talk.kit, room_id=ROOM, checkpointer=talk.saver, plain_answers=True
    )
    talk.say()
    talk.graph.update_state(CONFIG, Command(goto="gate"))
    talk.graph.invoke(Command(resume={"decisions": [APPROVE] * 3}), CONFIG)
    assert talk.room.posts == []


def test_a_thread_never_asks_about_the_rows_of_another() -> None:
    talk = three_removals()
    ids = [r["action_id"] for r in talk.say().value["action_requests"]]
    other: Any = {"configurable": {"thread_id": "other", "approver": "eve"}}
    talk.graph.update_state(other, talk.graph.get_state(CONFIG).values, as_node="model")
    [asked] = talk.graph.invoke(None, other)["__interrupt__"]
    shown = [request["action_id"] for request in asked.value["action_requests"]]
    assert len(shown) == 3
    assert not set(shown) & set(ids)
    talk.graph.invoke(Command(resume={"decisions": [APPROVE] * 3}), other)
    assert talk.room.posts == []


@pytest.mark.parametrize("config", [{}, {"configurable": {"thread_id": "t"}}], ids=repr)
def test_without_a_thread_or_a_checkpointer_nobody_is_asked_and_nothing_is_sent(
    config: Any,
) -> None:
    talk = three_removals()
    graph = build_moderator(talk.model, talk.kit, room_id=ROOM)
    out = graph.invoke({"messages": [HumanMessage("go")]}, config)
    results = [str(m.content) for m in out["messages"] if isinstance(m, ToolMessage)]
    assert len(results) == 3
    assert all("nobody could be asked about this call" in r for r in results)
    assert talk.room.posts == []
    assert {a.state for a in talk.kit.gate.journal.actions()} == {"rejected"}


def test_a_long_thread_keeps_its_last_turns_and_one_answer_of_each_reader() -> None:
    def script(history: list[BaseMessage]) -> AIMessage:
        return text("so many") if isinstance(history[-1], ToolMessage) else calls(LIST)

    talk = Conversation(students(), ScriptedModel(script=script))
    sizes = []
    for turn in range(30):
        talk.say(f"who is here? ({turn})")
        messages = talk.out["messages"]
        sizes.append(len(messages))
        with_data = [m for m in messages if isinstance(m, ToolMessage) and m.artifact]
        assert len(with_data) <= 2  # this turn's, and the one before
    assert sizes[-1] == sizes[-5]
    assert "(29)" in str(messages[-4].content)


def test_a_relaxed_message_without_a_thread_id_is_one_row_and_one_request() -> None:
    room = students()
    kit = ActiveRoomsToolkit(
        room,  # type: ignore[arg-type]
        Policy(rooms=(ROOM,), relaxed=frozenset({"hms-send-message"})),
        journal=":memory:",
    )
    model = ScriptedModel.saying(calls(send()), text("done"))
    build_moderator(model, kit, room_id=ROOM).invoke({"messages": [HumanMessage("go")]})
    assert [a.state for a in kit.gate.journal.actions()] == ["done"]
    assert len(room.posts) == 1


def test_nobody_is_said_to_have_been_asked_where_nobody_can_be() -> None:
    talk = Conversation(students(), ScriptedModel.saying(calls(remove(1)), text("done")))
    build_moderator(talk.model, talk.kit, room_id=ROOM).invoke({"messages": [HumanMessage("go")]})
    [action] = talk.kit.gate.journal.actions()
    assert [e.kind for e in talk.kit.gate.journal.events(action.id)] == ["proposed", "rejected"]


def test_what_one_graph_asks_is_not_withdrawn_by_another_that_runs_in_the_same_thread() -> None:
    talk = three_removals()
    ids = [request["action_id"] for request in talk.say().value["action_requests"]]
    other = build_moderator(
        ScriptedModel.saying(text("hello")), talk.kit, room_id=ROOM, checkpointer=InMemorySaver()
    )
    other.invoke({"messages": [HumanMessage("hello")]}, CONFIG)
    rows = [talk.kit.gate.journal.get(action_id) for action_id in ids]
    assert [row.state for row in rows if row] == ["proposed"] * 3
    talk.answer(APPROVE, REJECT, REJECT)
    assert talk.removed() == [peer(1).id]


def test_the_record_does_not_say_that_a_person_wrote_where_nobody_did() -> None:
    talk = Conversation(students(), ScriptedModel.saying(calls(remove(1)), text("ok")))
    asked = talk.say().value["action_requests"][0]["action_id"]
    talk.graph.invoke({"messages": []}, CONFIG)
    row = talk.kit.gate.journal.get(asked)
    assert row
    assert (row.state, row.decided_by, row.decided_way) == ("rejected", "gate", "gate")
    assert "wrote" not in row.reason


def test_a_message_id_that_comes_again_with_another_checkpointer_is_another_call() -> None:
    message = calls(send("hi"))
    message.id = "the same id"
    talk = Conversation(students(), ScriptedModel.saying(message, text("done")))
    for _ in range(2):
        talk.saver = InMemorySaver()
        talk.graph = build_moderator(talk.model, talk.kit, room_id=ROOM, checkpointer=talk.saver)
        assert talk.say() is not None
        talk.answer(APPROVE)
    assert len(talk.room.posts) == 2


def test_a_copied_thread_asks_for_itself() -> None:
    talk = three_removals()
    first = talk.say().value["action_requests"]
    copied: Any = {"configurable": {"thread_id": "copy", "approver": "eve"}}
    for place, checkpoints in list(talk.saver.storage["t"].items()):
        talk.saver.storage["copy"][place] = dict(checkpoints)
    for (_, place, checkpoint), writes in list(talk.saver.writes.items()):
        talk.saver.writes["copy", place, checkpoint] = dict(writes)
    for (_, place, channel, version), blob in list(talk.saver.blobs.items()):
        talk.saver.blobs["copy", place, channel, version] = blob
    decisions = {"decisions": [{**APPROVE, "digest": r["digest"]} for r in first]}
    out = talk.graph.invoke(Command(resume=decisions), copied)
    [again] = out["__interrupt__"]
    ids = {request["action_id"] for request in again.value["action_requests"]}
    assert not ids & {request["action_id"] for request in first}
    assert talk.room.posts == []
    talk.answer(REJECT, APPROVE, REJECT)
    assert talk.removed() == [peer(2).id]


def test_a_bad_edit_is_asked_again_and_every_ui_shows_why() -> None:
    talk = Conversation(students(), ScriptedModel.saying(calls(send("hi")), text("done")))
    first = talk.say().value["action_requests"][0]
    args = {**first["args"], "role": "student"}
    edited = {"name": "hms-send-message", "args": args}
    again = talk.answer({"type": "edit", "edited_action": edited}).value
    [request] = again["action_requests"]
    assert "may be edited" in again["problem"]
    assert again["problem"] in request["description"]
    assert (request["gate"], request["editable"]) == ("soft", ["message", "type"])
    assert request["impact"]["total"] == 4


@pytest.mark.parametrize(("room_id", "refused"), [("x", InvalidCall), ("7" * 24, PolicyRefusal)])
def test_a_room_that_no_call_could_be_about_is_refused_when_it_is_built(
    room_id: str, refused: type[Exception]
) -> None:
    kit, model = three_removals().kit, ScriptedModel.saying(text("hi"))
    with pytest.raises(refused):
        build_moderator(model, kit, room_id=room_id)


@pytest.mark.parametrize(
    ("argument", "value"),
    [
        ("plain_answers", "0"),  # of a variable; as a truth value it would be true
        ("records_questions", None),
        ("max_steps", "3"),
        ("max_steps", 0),
        ("max_prompts", True),
        ("model", CommandsModel().with_retry()),
        ("model", CommandsModel),
        ("checkpointer", "memory"),
    ],
)
def test_an_argument_of_another_type_is_refused_when_it_is_built(
    argument: str, value: object
) -> None:
    given: dict[str, Any] = {"model": "commands", "toolkit": three_removals().kit, argument: value}
    with pytest.raises(ConfigurationError, match=f"{argument} is "):
        build_moderator(**given)


def test_a_model_without_tool_calling_is_refused_when_it_is_built() -> None:
    model = FakeListChatModel(responses=["hi"])
    with pytest.raises(ConfigurationError, match="FakeListChatModel cannot call tools"):
        build_moderator(model, three_removals().kit)
