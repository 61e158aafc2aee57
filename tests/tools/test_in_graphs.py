"""The tools inside other people's graphs: they ask by interrupt and stay safe."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from langchain.agents import create_agent
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, ToolMessage
from langchain_core.runnables import RunnableConfig
from langchain_core.tools import tool
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import END, START, MessagesState, StateGraph
from langgraph.prebuilt import ToolNode
from langgraph.types import Command, interrupt

from hms_active_rooms import ActiveRoomsToolkit, Policy
from hms_active_rooms.api.models import ActiveRoom
from hms_active_rooms.errors import ConfigurationError, InvalidCall, ServerError
from hms_active_rooms.gate.approval import ApprovalRequest, Approve, Reject
from hms_active_rooms.gate.journal import Journal
from hms_active_rooms.gate.journal.tables import actions
from hms_active_rooms.moderator import build_moderator
from hms_active_rooms.serve.decisions import decide_and_run
from scripted import ScriptedModel, calls, text
from stand_in import ROOM, Clock, StandInRoom, peer

CONFIG: Any = {"configurable": {"thread_id": "t", "approver": "ada"}}
REJECT = {"type": "reject", "message": "no"}


def toolkit(room: StandInRoom, confirm: Any = None, **policy: Any) -> ActiveRoomsToolkit:
    return ActiveRoomsToolkit(
        room,  # type: ignore[arg-type]
        Policy(rooms=(ROOM,), **policy),
        journal=":memory:",
        confirm=confirm,
    )


def shared_tool_node(model: BaseChatModel, kit: ActiveRoomsToolkit, checkpointer: Any) -> Any:
    """A hand-made agent: every call of a turn in one ToolNode task."""
    graph = StateGraph(MessagesState)
    graph.add_node("model", lambda s: {"messages": [model.invoke(s["messages"])]})
    graph.add_node("tools", ToolNode(kit.get_tools()))
    graph.add_edge(START, "model")
    graph.add_conditional_edges(
        "model", lambda s: "tools" if s["messages"][-1].tool_calls else END, ["tools", END]
    )
    graph.add_edge("tools", "model")
    return graph.compile(checkpointer=checkpointer)


def agent(model: BaseChatModel, kit: ActiveRoomsToolkit, checkpointer: Any) -> Any:
    """LangChain's agent: one task per call."""
    return create_agent(model, kit.get_tools(), checkpointer=checkpointer)


def approve(interrupt: Any) -> dict[str, Any]:
    """The approval of exactly this interrupt."""
    return {"type": "approve", "digest": interrupt.value["digest"]}


def approve_all(interrupt: Any) -> dict[str, Any]:
    """The approval of each call in a moderator's interrupt."""
    asked = interrupt.value["action_requests"]
    return {"decisions": [{"type": "approve", "digest": each["digest"]} for each in asked]}


Build = Callable[[BaseChatModel, ActiveRoomsToolkit, Any], Any]
GRAPHS = pytest.mark.parametrize("build", [shared_tool_node, agent])


def remove(number: int) -> tuple[str, dict[str, Any]]:
    return "hms-remove-peers", {"room_id": ROOM, "peer_id": peer(number).id}


def students() -> StandInRoom:
    return StandInRoom([peer(n) for n in (1, 2, 3, 4)])


def ask(graph: Any) -> list[Any]:
    """Run until it pauses; the interrupts."""
    out = graph.invoke({"messages": [HumanMessage("go")]}, CONFIG)
    return list(out.get("__interrupt__", ()))


def removed(room: StandInRoom) -> list[str]:
    return [body["peer_id"] for _, body in room.posts]


@pytest.mark.parametrize("thread", ["a\x00b", "a\udcff"])
def test_a_thread_id_that_no_database_takes_is_refused_with_the_reason(thread: str) -> None:
    room = students()
    kit, model = toolkit(room), ScriptedModel.saying(calls(remove(1)), text("done"))
    graph = agent(model, kit, InMemorySaver())
    config: RunnableConfig = {"configurable": {"thread_id": thread}}
    out = graph.invoke({"messages": [HumanMessage("go")]}, config)
    [told] = [str(m.content) for m in out["messages"] if isinstance(m, ToolMessage)]
    assert "The thread id has a character that cannot be stored" in told
    assert "Nothing was executed. Leave out NUL characters, and write the text in UTF-8." in told
    with pytest.raises(InvalidCall, match="thread id"):
        kit.withdraw(thread)
    assert room.posts == []


@GRAPHS
@pytest.mark.parametrize("chosen", [1, 2, 3])
def test_of_three_parallel_removals_only_the_approved_one_runs_once(
    build: Build, chosen: int
) -> None:
    room = students()
    model = ScriptedModel.saying(calls(remove(1), remove(2), remove(3)), text("done"))
    graph = build(model, toolkit(room), InMemorySaver())
    interrupts = ask(graph)
    while interrupts:
        answers = {
            i.id: approve(i) if i.value["args"]["peer_id"] == peer(chosen).id else REJECT
            for i in interrupts
        }
        out = graph.invoke(Command(resume=answers), CONFIG)
        interrupts = list(out.get("__interrupt__", ()))
    assert set(removed(room)) <= {peer(chosen).id}
    assert len(room.posts) <= 1
    if build is agent:
        assert removed(room) == [peer(chosen).id]


def test_in_a_shared_tool_node_one_call_asks_and_its_siblings_are_not_executed() -> None:
    room = students()
    model = ScriptedModel.saying(calls(remove(1), remove(2), remove(3)), text("done"))
    graph = shared_tool_node(model, toolkit(room), InMemorySaver())
    [interrupt] = ask(graph)
    asked = interrupt.value["args"]["peer_id"]
    out = graph.invoke(Command(resume={interrupt.id: approve(interrupt)}), CONFIG)
    assert removed(room) == [asked]
    texts = [m.content for m in out["messages"] if isinstance(m, ToolMessage)]
    assert sum("another one did" in t for t in texts) == 2
    assert sum("Removed" in t for t in texts) == 1


@GRAPHS
@pytest.mark.parametrize("yes_here", [False, True])
def test_what_somebody_approved_elsewhere_and_was_not_sent_can_still_be_turned_down_here(
    build: Build, yes_here: bool
) -> None:
    room = students()
    kit = toolkit(room)
    graph = build(ScriptedModel.saying(calls(remove(1)), text("done")), kit, InMemorySaver())
    [interrupt] = ask(graph)
    action, yes = interrupt.value["action_id"], Approve(interrupt.value["digest"])
    asyncio.run(kit.gate.decide(action, yes, by="bob", way="page"))

    answer = approve(interrupt) if yes_here else REJECT
    out = graph.invoke(Command(resume={interrupt.id: answer}), CONFIG)
    assert removed(room) == ([peer(1).id] if yes_here else [])
    [told] = [str(m.content) for m in out["messages"] if isinstance(m, ToolMessage)]
    assert told.startswith('Already approved by "bob" (page) at ') is yes_here
    assert ('rejected by "ada"' in told) is not yes_here


@GRAPHS
def test_other_words_for_what_somebody_approved_elsewhere_send_nothing(build: Build) -> None:
    room = students()
    kit = toolkit(room)
    said = ("hms-send-message", {"room_id": ROOM, "message": "helo"})
    graph = build(ScriptedModel.saying(calls(said), text("done")), kit, InMemorySaver())
    [interrupt] = ask(graph)
    action, digest = interrupt.value["action_id"], interrupt.value["digest"]
    asyncio.run(kit.gate.decide(action, Approve(digest), by="bob", way="page"))

    changed = {"name": said[0], "args": {**interrupt.value["args"], "message": "hello"}}
    edit = {"type": "edit", "digest": digest, "edited_action": changed}
    out = graph.invoke(Command(resume={interrupt.id: edit}), CONFIG)
    assert room.posts == []
    [told] = [str(m.content) for m in out["messages"] if isinstance(m, ToolMessage)]
    assert told.startswith('Already approved by "bob" (page) at ')
    assert "approved, not sent" in told
    asyncio.run(kit.gate.run(action))  # the approval still holds for whoever sends it
    assert [body["message"] for _, body in room.posts] == ["helo"]


@GRAPHS
def test_nobody_is_asked_about_a_question_whose_record_is_broken_now(build: Build) -> None:
    room = students()
    kit = toolkit(room)
    graph = build(ScriptedModel.saying(calls(remove(1)), text("done")), kit, InMemorySaver())
    ask(graph)
    with kit.gate.journal.write() as tx:
        tx.db.execute(actions.update().values(note="forged"))
    out = graph.invoke(None, CONFIG)
    assert "__interrupt__" not in out
    [told] = [str(m.content) for m in out["messages"] if isinstance(m, ToolMessage)]
    assert "contradicts itself" in told
    assert room.posts == []


@GRAPHS
def test_the_interrupt_is_the_per_call_shape_with_the_impact(build: Build) -> None:
    model = ScriptedModel.saying(calls(remove(3)), text("done"))
    [interrupt] = ask(build(model, toolkit(students()), InMemorySaver()))
    value = interrupt.value
    assert (value["type"], value["name"], value["tool_call_id"]) == (
        "tool_approval",
        "hms-remove-peers",
        "c0",
    )
    assert value["args"]["peer_id"] == peer(3).id
    assert '"Peer 3"' in value["description"]
    assert len(value["digest"]) == 64
    assert value["digest"] in str(interrupt.response_schema)


@GRAPHS
@pytest.mark.parametrize(
    "answer",
    ["yes", True, {"type": "approve"}, {"type": "approve "}, {"type": "yes"}, ["approve"], {}],
    ids=repr,
)
def test_a_malformed_answer_sends_nothing_and_can_be_given_again(
    build: Build, answer: object
) -> None:
    room = students()
    model = ScriptedModel.saying(calls(remove(3)), text("done"))
    graph = build(model, toolkit(room), InMemorySaver())
    [interrupt] = ask(graph)
    [again] = graph.invoke(Command(resume={interrupt.id: answer}), CONFIG)["__interrupt__"]
    assert room.posts == []
    assert again.value["problem"]
    graph.invoke(Command(resume={again.id: approve(again)}), CONFIG)
    assert removed(room) == [peer(3).id]


@GRAPHS
@pytest.mark.parametrize(
    "more",
    [
        {"scope": "session"},
        {"type": "edit", "edited_action": {"name": "hms-end-active-room", "args": {}}},
    ],
    ids=repr,
)
def test_an_answer_that_does_not_fit_the_question_is_asked_again(
    build: Build, more: dict[str, Any]
) -> None:
    room = students()
    model = ScriptedModel.saying(calls(remove(3)), text("done"))
    graph = build(model, toolkit(room), InMemorySaver())
    [interrupt] = ask(graph)
    out = graph.invoke(Command(resume={interrupt.id: {**approve(interrupt), **more}}), CONFIG)
    [again] = out["__interrupt__"]
    assert room.posts == []
    graph.invoke(Command(resume={again.id: REJECT}), CONFIG)
    assert room.posts == []


@GRAPHS
def test_a_drift_is_asked_again_and_the_old_answer_does_not_count_for_it(build: Build) -> None:
    room = students()
    model = ScriptedModel.saying(
        calls(("hms-end-active-room", {"room_id": ROOM, "lock": True})), text("done")
    )
    graph = build(model, toolkit(room), InMemorySaver())
    [first] = ask(graph)
    room.session = "4" * 24
    out = graph.invoke(Command(resume={first.id: approve(first)}), CONFIG)
    [second] = out["__interrupt__"]
    assert room.posts == []
    assert second.value["digest"] != first.value["digest"]
    assert "Asked again" in second.value["description"]
    graph.invoke(Command(resume={second.id: approve(second)}), CONFIG)
    assert [verb for verb, _ in room.posts] == ["end"]


@GRAPHS
def test_an_answer_waiting_before_the_question_does_not_count(build: Build) -> None:
    """A journal lost between question and answer: the saved answer meets a new question."""
    room = students()
    model = ScriptedModel.saying(calls(remove(3)), text("done"))
    saver = InMemorySaver()
    [interrupt] = ask(build(model, toolkit(room), saver))
    out = build(model, toolkit(room), saver).invoke(
        Command(resume={interrupt.id: approve(interrupt)}), CONFIG
    )
    assert room.posts == []
    assert out["__interrupt__"]


@GRAPHS
def test_resuming_twice_sends_once(build: Build) -> None:
    room = students()
    model = ScriptedModel.saying(calls(remove(3)), text("done"))
    saver, kit = InMemorySaver(), toolkit(room)
    graph = build(model, kit, saver)
    [interrupt] = ask(graph)
    before = graph.get_state(CONFIG).config
    graph.invoke(Command(resume={interrupt.id: approve(interrupt)}), CONFIG)
    assert len(room.posts) == 1
    room.peers.append(peer(3))
    graph.invoke(None, before)
    graph.invoke(Command(resume=approve(interrupt)), before)
    assert len(room.posts) == 1


@GRAPHS
async def test_it_works_the_same_asynchronously(build: Build) -> None:
    room = students()
    model = ScriptedModel.saying(calls(remove(2), remove(3)), text("done"))
    graph = build(model, toolkit(room), InMemorySaver())
    out = await graph.ainvoke({"messages": [HumanMessage("go")]}, CONFIG)
    first, *others = out["__interrupt__"]
    answers = {first.id: approve(first), **{other.id: REJECT for other in others}}
    out = await graph.ainvoke(Command(resume=answers), CONFIG)
    assert not out.get("__interrupt__")
    assert removed(room) == [first.value["args"]["peer_id"]]


async def asked_twice_with_one_id(room: StandInRoom, *id_chars: int) -> tuple[Any, Any]:
    """A graph whose model made one call twice, and its one question. `id_chars` are the lengths of
    the peer's id in the two calls."""
    twice = calls(remove(2), remove(2))
    for call, chars in zip(twice.tool_calls, id_chars, strict=False):
        call["args"]["peer_id"] = peer(2).id[:chars]
    twice.tool_calls[1]["id"] = twice.tool_calls[0]["id"]
    model = ScriptedModel.saying(twice, text("done"))
    graph = shared_tool_node(model, toolkit(room), InMemorySaver())
    out = await graph.ainvoke({"messages": [HumanMessage("go")]}, CONFIG)
    [question] = out["__interrupt__"]
    return graph, question


@pytest.mark.parametrize("id_chars", [(36, 36), (8, 36), (36, 8)])
async def test_a_call_made_twice_at_once_with_one_id_is_one_question_and_one_request(
    id_chars: tuple[int, int],
) -> None:
    room = students()
    graph, question = await asked_twice_with_one_id(room, *id_chars)
    out = await graph.ainvoke(Command(resume={question.id: approve(question)}), CONFIG)
    assert not out.get("__interrupt__")
    assert removed(room) == [peer(2).id]
    told = [m.content for m in out["messages"] if isinstance(m, ToolMessage)]
    # With another id, the second call may come when the peer has left: then it finds nobody.
    assert ["Removed" in content for content in told].count(True) >= (
        2 if len(set(id_chars)) == 1 else 1
    )


async def test_a_call_made_twice_with_one_id_is_asked_once_also_when_its_yes_had_to_be_held(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    room, looks = students(), 0
    graph, question = await asked_twice_with_one_id(room)
    retrieve = room.retrieve_active_room

    async def fails_once(room_id: str) -> ActiveRoom:
        nonlocal looks
        looks += 1
        if looks == 1:
            raise ServerError("100ms answered 500.")
        return await retrieve(room_id)

    monkeypatch.setattr(room, "retrieve_active_room", fails_once)
    out = await graph.ainvoke(Command(resume={question.id: approve(question)}), CONFIG)
    # Asked again, they could say no to it, and the saved yes would be used before that no is heard.
    assert not out.get("__interrupt__")
    assert removed(room) == [peer(2).id]
    told = [str(m.content) for m in out["messages"] if isinstance(m, ToolMessage)]
    assert ["500" in content for content in told].count(True) == 1
    assert ["Removed" in content for content in told].count(True) == 1


def test_without_a_checkpointer_the_callback_is_asked() -> None:
    room = students()
    seen: list[ApprovalRequest] = []

    def confirm(request: ApprovalRequest) -> Approve:
        seen.append(request)
        return request.approve(by="ada")

    model = ScriptedModel.saying(calls(remove(3)), text("done"))
    create_agent(model, toolkit(room, confirm).get_tools()).invoke(
        {"messages": [HumanMessage("go")]}
    )
    assert removed(room) == [peer(3).id]
    assert seen[0].impact.people[0].name == "Peer 3"


def test_without_a_checkpointer_and_a_callback_nothing_is_sent() -> None:
    room = students()
    model = ScriptedModel.saying(calls(remove(3)), text("done"))
    out = create_agent(model, toolkit(room).get_tools()).invoke({"messages": [HumanMessage("go")]})
    assert room.posts == []
    [result] = [m for m in out["messages"] if isinstance(m, ToolMessage)]
    assert "Not executed" in result.content


def test_the_model_reads_a_rejection_plainly() -> None:
    model = ScriptedModel.saying(calls(remove(3)), text("done"))
    graph = agent(model, toolkit(students()), InMemorySaver())
    [interrupt] = ask(graph)
    out = graph.invoke(Command(resume={interrupt.id: REJECT}), CONFIG)
    [result] = [m for m in out["messages"] if isinstance(m, ToolMessage)]
    assert str(result.content).startswith('Not executed: rejected by "ada": "no"')
    assert isinstance(out["messages"][-1], AIMessage)


def test_the_answer_to_another_tool_beside_ours_approves_nothing() -> None:
    """LangGraph shows one of two questions of a task, and gives its answer to either."""

    @tool
    def buy(what: str) -> str:
        """Buy something, if a person agrees."""
        return str(interrupt({"type": "tool_approval", "question": f"buy {what}?"}))

    room = students()
    end = ("hms-end-active-room", {"room_id": ROOM})
    model = ScriptedModel.saying(calls(("buy", {"what": "ice"}), end), text("done"))
    graph = StateGraph(MessagesState)
    graph.add_node("model", lambda s: {"messages": [model.invoke(s["messages"])]})
    graph.add_node("tools", ToolNode([buy, *toolkit(room).get_tools()]))
    graph.add_edge(START, "model")
    graph.add_edge("model", "tools")
    compiled = graph.compile(checkpointer=InMemorySaver())
    asked = compiled.invoke({"messages": [HumanMessage("go")]}, CONFIG)["__interrupt__"]
    for _ in range(3):
        with contextlib.suppress(ValueError):
            compiled.invoke(Command(resume={asked[0].id: {"type": "approve"}}), CONFIG)
    assert room.posts == []


@GRAPHS
def test_the_old_click_does_not_count_for_a_question_asked_again(build: Build) -> None:
    room = students()
    end = ("hms-end-active-room", {"room_id": ROOM})
    graph = build(ScriptedModel.saying(calls(end), text("done")), toolkit(room), InMemorySaver())
    [first] = ask(graph)
    room.session = "4" * 24
    graph.invoke(Command(resume={first.id: approve(first)}), CONFIG)
    for _ in range(2):
        with contextlib.suppress(ValueError):  # LangGraph knows no such interrupt any more
            graph.invoke(Command(resume={first.id: approve(first)}), CONFIG)
        graph.invoke(Command(resume=approve(first)), CONFIG)
    assert room.posts == []


def test_a_node_that_invokes_a_tool_without_a_call_id_sends_once() -> None:
    room = students()
    remove_it = next(t for t in toolkit(room).get_tools() if t.name == "hms-remove-peers")

    def node(state: MessagesState, config: RunnableConfig) -> dict[str, Any]:
        args = {"room_id": ROOM, "peer_id": peer(1).id}
        return {"messages": [HumanMessage(str(remove_it.invoke(args, config)))]}

    graph = StateGraph(MessagesState)
    graph.add_node("node", node)
    graph.add_edge(START, "node")
    compiled = graph.compile(checkpointer=InMemorySaver())
    [asked] = compiled.invoke({"messages": []}, CONFIG)["__interrupt__"]
    out = compiled.invoke(Command(resume={asked.id: approve(asked)}), CONFIG)
    assert "Removed" in out["messages"][-1].content
    assert removed(room) == [peer(1).id]


def test_the_same_call_id_outside_a_graph_is_another_call() -> None:
    room = students()
    seen: list[ApprovalRequest] = []

    def confirm(request: ApprovalRequest) -> Approve:
        seen.append(request)
        return request.approve()

    send = next(t for t in toolkit(room, confirm).get_tools() if "send" in t.name)
    for _ in range(2):
        args = {"room_id": ROOM, "message": "hi"}
        send.invoke({"name": send.name, "args": args, "id": "call_0", "type": "tool_call"})
    assert (len(seen), len(room.posts)) == (2, 2)


def test_a_call_without_an_id_is_refused_before_anything_is_sent() -> None:
    for build in (shared_tool_node, agent):
        room = students()
        message = calls(remove(1))
        message.tool_calls[0]["id"] = None
        kit = toolkit(room, unattended={"hms-remove-peers"})
        graph = build(ScriptedModel.saying(message, text("done")), kit, InMemorySaver())
        with pytest.raises(InvalidCall, match="has no id"):
            ask(graph)
        assert room.posts == []


def test_a_subgraph_without_memory_comes_to_an_end() -> None:
    room = students()
    model = ScriptedModel.saying(calls(remove(3)), text("done"))
    graph = StateGraph(MessagesState)
    graph.add_node("sub", shared_tool_node(model, toolkit(room), False))
    graph.add_edge(START, "sub")
    compiled = graph.compile(checkpointer=InMemorySaver())
    out = compiled.invoke({"messages": [HumanMessage("go")]}, CONFIG)
    for _ in range(5):
        if "__interrupt__" not in out:
            break
        [asked] = out["__interrupt__"]
        out = compiled.invoke(Command(resume={asked.id: approve(asked)}), CONFIG)
    [told] = [str(m.content) for m in out["messages"] if isinstance(m, ToolMessage)]
    assert "this subgraph loses each answer" in told
    assert room.posts == []


@pytest.mark.parametrize("memory", [None, True])
def test_a_subgraph_with_memory_asks_once(memory: Any) -> None:
    room = students()
    model = ScriptedModel.saying(calls(remove(3)), text("done"))
    graph = StateGraph(MessagesState)
    graph.add_node("sub", shared_tool_node(model, toolkit(room), memory))
    graph.add_edge(START, "sub")
    compiled = graph.compile(checkpointer=InMemorySaver())
    [asked] = compiled.invoke({"messages": [HumanMessage("go")]}, CONFIG)["__interrupt__"]
    out = compiled.invoke(Command(resume={asked.id: approve(asked)}), CONFIG)
    assert "__interrupt__" not in out
    assert removed(room) == [peer(3).id]


def copy_thread(saver: InMemorySaver, before: str, after: str) -> Any:
    """What a saver's own `copy_thread` does."""
    for place, checkpoints in list(saver.storage[before].items()):
        saver.storage[after][place] = dict(checkpoints)
    for (thread, place, checkpoint), writes in list(saver.writes.items()):
        if thread == before:
            saver.writes[after, place, checkpoint] = dict(writes)
    for (thread, place, channel, version), blob in list(saver.blobs.items()):
        if thread == before:
            saver.blobs[after, place, channel, version] = blob
    return {"configurable": {"thread_id": after, "approver": "eve"}}


@GRAPHS
def test_a_copied_thread_asks_for_itself_and_the_first_one_goes_on(build: Build) -> None:
    room, saver = students(), InMemorySaver()
    kit = toolkit(room)
    graph = build(ScriptedModel.saying(calls(remove(3)), text("done")), kit, saver)
    [asked] = ask(graph)
    copied = copy_thread(saver, "t", "copy")
    [shown] = graph.get_state(copied).interrupts
    [again] = graph.invoke(Command(resume={shown.id: approve(shown)}), copied)["__interrupt__"]
    assert room.posts == []
    assert again.value["digest"] != asked.value["digest"]
    assert "before the question" in again.value["description"]
    graph.invoke(Command(resume={again.id: REJECT}), copied)
    graph.invoke(Command(resume={asked.id: approve(asked)}), CONFIG)
    assert removed(room) == [peer(3).id]


@GRAPHS
def test_a_bad_edit_is_asked_again_with_its_problem_and_all_a_callback_gets(build: Build) -> None:
    room = students()
    model = ScriptedModel.saying(
        calls(("hms-send-message", {"room_id": ROOM, "message": "hi", "role": "student"})),
        text("done"),
    )
    graph = build(model, toolkit(room), InMemorySaver())
    [first] = ask(graph)
    args = {**first.value["args"], "role": "teacher"}
    edit = {"type": "edit", "edited_action": {"name": first.value["name"], "args": args}}
    answer = {**edit, "digest": first.value["digest"]}
    [again] = graph.invoke(Command(resume={first.id: answer}), CONFIG)["__interrupt__"]
    assert "may be edited" in again.value["problem"]
    assert again.value["problem"] in again.value["description"]
    assert first.value["description"] in again.value["description"]
    for value in (first.value, again.value):
        assert (value["gate"], value["editable"]) == ("soft", ["message", "type"])
        assert (value["impact"]["kind"], value["impact"]["total"]) == ("role", 4)
        assert value["impact"]["people"][0]["name"] == "Peer 1"
    assert room.posts == []


@pytest.mark.parametrize("way", ["graph", "confirm"])
def test_what_was_approved_and_held_back_is_sent_by_the_next_same_call_unasked(way: str) -> None:
    room, seen = students(), list[str]()

    def confirm(request: ApprovalRequest) -> Approve:
        seen.append(str(request.arguments["message"]))
        return request.approve()

    clock = Clock()
    kit = ActiveRoomsToolkit(
        room,  # type: ignore[arg-type]
        Policy(rooms=[ROOM], actions_per_minute=1),
        journal=Journal(":memory:", clock=clock),
        confirm=confirm,
    )
    given = [{"room_id": ROOM, "message": message} for message in ("one", "two", "two")]
    told: list[str] = []
    if way == "confirm":
        send = next(t for t in kit.get_tools() if "send" in t.name)
        for number, args in enumerate(given):
            clock.now += timedelta(seconds=61 if number == 2 else 0)
            told.append(str(send.invoke(args)))
    else:

        def say(history: list[BaseMessage]) -> AIMessage:
            said = sum(isinstance(m, AIMessage) for m in history)
            clock.now += timedelta(seconds=61 if said == 2 else 0)
            return calls(("hms-send-message", given[said])) if said < 3 else text("done")

        graph = agent(ScriptedModel(script=say), kit, InMemorySaver())
        asked = ask(graph)
        while asked:
            seen.append(asked[0].value["args"]["message"])
            out = graph.invoke(Command(resume={asked[0].id: approve(asked[0])}), CONFIG)
            asked = list(out.get("__interrupt__", ()))
        told = [str(m.content) for m in out["messages"] if isinstance(m, ToolMessage)]
    assert ["still approved" in text for text in told] == [False, True, False]
    assert seen == ["one", "two"]
    assert [body["message"] for _, body in room.posts] == ["one", "two"]


@GRAPHS
@pytest.mark.parametrize("is_relaxed", [True, False])
def test_a_graph_that_goes_on_from_an_earlier_checkpoint_sends_nothing_again_unasked(
    build: Build, is_relaxed: bool
) -> None:
    room = students()
    kit = toolkit(room, relaxed={"hms-send-message"} if is_relaxed else ())
    send = ("hms-send-message", {"room_id": ROOM, "message": "hi"})
    graph = build(ScriptedModel.saying(calls(send), text("done")), kit, InMemorySaver())
    for first in ask(graph):
        graph.invoke(Command(resume={**approve(first), "scope": "session"}), CONFIG)
    assert [verb for verb, _ in room.posts] == ["send"]
    [earlier] = [s.config for s in graph.get_state_history(CONFIG) if "tools" in s.next]
    [question] = graph.invoke(None, earlier)["__interrupt__"]
    assert "was sent" in question.value["note"]
    assert [verb for verb, _ in room.posts] == ["send"]


def test_a_call_that_sent_what_was_held_back_is_not_sent_again_from_an_earlier_checkpoint() -> None:
    room, clock = students(), Clock()
    policy = Policy(rooms=[ROOM], relaxed={"hms-send-message"}, actions_per_minute=1)
    journal = Journal(":memory:", clock=clock)
    kit = ActiveRoomsToolkit(room, policy, journal=journal)  # type: ignore[arg-type]

    def say(history: list[BaseMessage]) -> AIMessage:
        said = sum(isinstance(m, AIMessage) for m in history)
        clock.now += timedelta(seconds=61 if said == 2 else 0)
        if said == 3:
            return text("done")
        args = {"room_id": ROOM, "message": ("one", "two", "two")[said]}
        return calls(("hms-send-message", args), prefix=f"call {said} ")

    graph = agent(ScriptedModel(script=say), kit, InMemorySaver())
    assert ask(graph) == []
    assert [body["message"] for _, body in room.posts] == ["one", "two"]
    clock.now += timedelta(hours=2)
    earlier = next(s.config for s in graph.get_state_history(CONFIG) if "tools" in s.next)
    [question] = graph.invoke(None, earlier)["__interrupt__"]
    assert "same id and content was made" in question.value["note"]
    assert [body["message"] for _, body in room.posts] == ["one", "two"]


@dataclass
class RoomThatGoesDown(StandInRoom):
    """A room that cannot be read while it is down."""

    is_down: bool = False

    async def retrieve_active_room(self, room_id: str) -> ActiveRoom:
        if self.is_down:
            raise ServerError("100ms answered 503.")
        return await super().retrieve_active_room(room_id)


@pytest.mark.parametrize("build", [shared_tool_node, agent, build_moderator])
def test_what_was_approved_and_could_not_be_sent_is_told_as_still_approved(build: Any) -> None:
    room = RoomThatGoesDown([peer(1)])
    model = ScriptedModel.saying(calls(remove(1)), text("done"))
    graph = build(model, toolkit(room), checkpointer=InMemorySaver())
    [question] = ask(graph)
    room.is_down = True
    yes = approve(question) if "digest" in question.value else approve_all(question)
    out = graph.invoke(Command(resume={question.id: yes}), CONFIG)
    [told] = [str(m.content) for m in out["messages"] if isinstance(m, ToolMessage)]
    assert "Nothing was executed." in told
    assert "still approved" in told
    assert room.posts == []


def test_outside_a_graph_a_yes_for_the_session_is_for_one_call() -> None:
    room, seen = students(), list[ApprovalRequest]()

    def confirm(request: ApprovalRequest) -> Approve:
        seen.append(request)
        return request.approve(scope="session")

    send = next(t for t in toolkit(room, confirm).get_tools() if "send" in t.name)
    for message in ("one", "two"):
        send.invoke({"room_id": ROOM, "message": message})
    assert len(seen) == len(room.posts) == 2


def test_a_confirm_that_cannot_ask_is_refused_when_the_toolkit_is_built() -> None:
    with pytest.raises(ConfigurationError, match="It is True"):
        toolkit(students(), True)


def test_a_requester_or_a_journal_of_another_type_is_refused_when_the_toolkit_is_built() -> None:
    settings = {"HMS_MANAGEMENT_TOKEN": "x"}
    for wrong in ({"requester": None}, {"requester": 7}, {"journal": 5}, {"journal": b"j"}):
        name, value = next(iter(wrong.items()))
        given: dict[str, Any] = {"journal": ":memory:", **wrong}
        with pytest.raises(ConfigurationError, match=f"^{name} has to be .* It is {value!r}"):
            ActiveRoomsToolkit.from_env(rooms=[ROOM], environ=settings, **given)


@GRAPHS
def test_an_abandoned_question_is_withdrawn_by_the_toolkit(build: Build) -> None:
    room = students()
    kit = toolkit(room)
    [asked] = ask(build(ScriptedModel.saying(calls(remove(1))), kit, InMemorySaver()))
    assert kit.withdraw("t", by="ada", reason="forget it") == [asked.value["action_id"]]
    yes = Approve(asked.value["digest"])
    late = asyncio.run(kit.gate.decide(asked.value["action_id"], yes, by="bob", way="page"))
    assert (late.counted, late.action.decided_by) == (False, "ada")
    assert room.posts == []


@GRAPHS
@pytest.mark.parametrize("thread", [0, 7, UUID(int=5), "t"])
def test_a_thread_id_of_any_type_is_asked_in_and_withdrawn(build: Build, thread: object) -> None:
    kit = toolkit(students())
    graph = build(ScriptedModel.saying(calls(remove(1))), kit, InMemorySaver())
    out = graph.invoke({"messages": [HumanMessage("go")]}, {"configurable": {"thread_id": thread}})
    [asked] = out["__interrupt__"]
    assert kit.withdraw(None) == []
    assert kit.withdraw(thread) == [asked.value["action_id"]]


@GRAPHS
def test_each_question_and_each_bad_answer_is_on_record(build: Build) -> None:
    kit = toolkit(students())
    graph = build(ScriptedModel.saying(calls(remove(3)), text("done")), kit, InMemorySaver())
    [asked] = ask(graph)
    graph.invoke(Command(resume={asked.id: {**approve(asked), "scope": "session"}}), CONFIG)
    kinds = [e.kind for e in kit.gate.journal.events(asked.value["action_id"])]
    assert kinds == ["proposed", "asked", "bad_answer", "asked"]


@GRAPHS
@pytest.mark.parametrize("unasked", ["held back", "for the session"])
def test_what_runs_unasked_and_is_asked_about_after_all_takes_the_first_answer(
    build: Build, unasked: str
) -> None:
    room = StandInRoom([peer(1)])
    message = "hms-send-message", {"room_id": ROOM, "message": "one"}
    second = "hms-send-message", {"room_id": ROOM, "message": "two"}
    held = unasked == "held back"
    again = message if held else second
    model = ScriptedModel.saying(calls(message), calls(again), text("done"))
    graph = build(model, toolkit(room), InMemorySaver())
    [interrupt] = ask(graph)
    read, reads = room.retrieve_active_room, 0

    async def changing(room_id: str) -> ActiveRoom:
        nonlocal reads
        reads += 1
        if held and reads == 1:
            room.peers += [peer(n) for n in (2, 3, 4)]  # the audience grew
            raise ServerError("Busy.", status=503)
        if not held and len(room.posts) == 1 and reads > 2:
            room.session = "4" * 24  # after the second call was proposed
        return await read(room_id)

    room.retrieve_active_room = changing  # type: ignore[method-assign]
    scope = {} if held else {"scope": "session"}
    out = graph.invoke(Command(resume={interrupt.id: approve(interrupt) | scope}), CONFIG)
    [interrupt] = out["__interrupt__"]
    out = graph.invoke(Command(resume={interrupt.id: approve(interrupt)}), CONFIG)
    assert "__interrupt__" not in out
    assert [body["message"] for _, body in room.posts] == (["one"] if held else ["one", "two"])


@GRAPHS
@pytest.mark.parametrize("items", ["5", "null", "{}", "no JSON", '"text"', "[1, null]", '["ID"]'])
def test_a_broken_record_of_what_was_asked_sends_nothing(
    build: Build, items: str, tmp_path: Path
) -> None:
    room, file = students(), tmp_path / "j.sqlite"
    kit = ActiveRoomsToolkit(
        room,  # type: ignore[arg-type]
        Policy(rooms=[ROOM]),
        journal=f"sqlite:///{file}",
    )
    graph = build(ScriptedModel.saying(calls(remove(1)), text("done")), kit, InMemorySaver())
    [asked] = ask(graph)
    with closing(sqlite3.connect(file)) as db, db:
        [action] = kit.gate.journal.actions()
        db.execute("UPDATE hms_asks SET items = ?", [items.replace("ID", action.id)])
    out = graph.invoke(Command(resume={asked.id: approve(asked)}), CONFIG)
    assert room.posts == []
    [told] = [str(m.content) for m in out["messages"] if isinstance(m, ToolMessage)]
    assert "Not executed" in told


def with_a_question_of_its_own(kit: ActiveRoomsToolkit) -> Any:
    """A node that calls a tool, then asks a question of its own."""
    remove_it = next(t for t in kit.get_tools() if t.name == "hms-remove-peers")

    async def node(state: MessagesState, config: RunnableConfig) -> dict[str, Any]:
        args = {"room_id": ROOM, "peer_id": peer(1).id}
        done = await remove_it.ainvoke(args, config)
        return {"messages": [HumanMessage(f"{interrupt('who is next?')}: {done}")]}

    graph = StateGraph(MessagesState)
    graph.add_node("node", node)
    graph.add_edge(START, "node")
    return graph.compile(checkpointer=InMemorySaver())


@pytest.mark.parametrize("elsewhere", [False, True])
async def test_the_answer_to_our_question_is_not_given_to_the_nodes_next_one(
    elsewhere: bool,
) -> None:
    room = students()
    kit = toolkit(room)
    graph = with_a_question_of_its_own(kit)
    [asked] = (await graph.ainvoke({"messages": []}, CONFIG))["__interrupt__"]
    if elsewhere:
        yes = Approve(asked.value["digest"])
        await kit.gate.decide(asked.value["action_id"], yes, by="bob", way="page")
    resume: Any = None if elsewhere else Command(resume={asked.id: approve(asked)})
    [own] = (await graph.ainvoke(resume, CONFIG))["__interrupt__"]
    assert own.value == "who is next?"
    out = await graph.ainvoke(Command(resume={own.id: "Nora"}), CONFIG)
    assert "__interrupt__" not in out
    assert str(out["messages"][-1].content).startswith("Nora: ")
    assert removed(room) == [peer(1).id]
    events = kit.gate.journal.events(asked.value["action_id"])
    assert not {"bad_answer", "late_answer"} & {event.kind for event in events}


@GRAPHS
async def test_a_question_after_one_that_was_decided_elsewhere_gets_its_own_answer(
    build: Build,
) -> None:
    room = students()
    kit = toolkit(room)
    end = calls(("hms-end-active-room", {"room_id": ROOM}))
    graph = build(ScriptedModel.saying(end, text("done")), kit, InMemorySaver())
    [first] = (await graph.ainvoke({"messages": [HumanMessage("go")]}, CONFIG))["__interrupt__"]
    yes = Approve(first.value["digest"])
    await kit.gate.decide(first.value["action_id"], yes, by="bob", way="page")
    room.session = "4" * 24
    [second] = (await graph.ainvoke(None, CONFIG))["__interrupt__"]
    assert second.value["digest"] != first.value["digest"]
    out = await graph.ainvoke(Command(resume={second.id: approve(second)}), CONFIG)
    assert "__interrupt__" not in out
    assert [verb for verb, _ in room.posts] == ["end"]


@GRAPHS
@pytest.mark.parametrize("before", ["a no", "a yes that ran", "the deadline"])
def test_an_answer_that_came_too_late_is_on_record_once(build: Build, before: str) -> None:
    room, clock = students(), Clock()
    kit = ActiveRoomsToolkit(
        room,  # type: ignore[arg-type]
        Policy(rooms=[ROOM], verify_s=0),
        journal=Journal(":memory:", clock=clock),
    )
    message = "hms-send-message", {"room_id": ROOM, "message": "hi"}
    saver = InMemorySaver()
    graph = build(ScriptedModel.saying(calls(message), text("done")), kit, saver)
    [asked] = ask(graph)
    paused = graph.get_state(CONFIG).config
    action, digest = asked.value["action_id"], asked.value["digest"]
    if before == "a no":
        asyncio.run(kit.gate.decide(action, Reject(), by="bob", way="page"))
    elif before == "a yes that ran":
        asyncio.run(decide_and_run(kit.gate, action, Approve(digest), by="bob", way="page"))
    else:
        clock.now += timedelta(seconds=601)
    answer = REJECT if before == "a yes that ran" else approve(asked)
    graph.invoke(Command(resume={asked.id: answer}), CONFIG)
    graph.invoke(None, paused)
    late = [e for e in kit.gate.journal.events(action) if e.kind == "late_answer"]
    assert [(e.by, e.way) for e in late] == [("ada", "interrupt")]
    assert len(room.posts) == (1 if before == "a yes that ran" else 0)


@GRAPHS
def test_a_no_that_came_too_late_ends_what_was_allowed_for_the_session(build: Build) -> None:
    room = students()
    kit = toolkit(room)
    sends = [("hms-send-message", {"room_id": ROOM, "message": m}) for m in ("one", "two", "three")]
    model = ScriptedModel.saying(*(calls(s, prefix=s[1]["message"]) for s in sends), text("done"))
    graph = build(model, kit, InMemorySaver())
    [asked] = ask(graph)
    for_the_session = Approve(asked.value["digest"], scope="session")
    action = asked.value["action_id"]
    asyncio.run(decide_and_run(kit.gate, action, for_the_session, by="bob", way="page"))
    out = graph.invoke(Command(resume={asked.id: REJECT}), CONFIG)
    assert [body["message"] for _, body in room.posts] == ["one"]
    assert out["__interrupt__"][0].value["args"]["message"] == "two"
