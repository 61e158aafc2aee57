"""The promise through the whole stack: graph, gate, client, HTTP, simulator."""

from __future__ import annotations

import json
import logging
import random
from pathlib import Path
from typing import Any

import pytest
from langchain_core.messages import HumanMessage, ToolMessage
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.checkpoint.sqlite import SqliteSaver
from langgraph.types import Command

from hms_active_rooms import ActiveRoomsToolkit, Policy
from hms_active_rooms.moderator import build_moderator
from hms_active_rooms.sim.server import Simulation, environment, running_sim
from scripted import ScriptedModel, calls, text, worst
from simulated import names, peer_id, posts
from tokenizer import real_tokens

CONFIG: Any = {"configurable": {"thread_id": "t", "approver": "ada"}}


def approval(out: Any) -> Any:
    """Approves all that this output asks, and nothing else."""
    [interrupt] = out["__interrupt__"]
    decisions = [
        {"type": "approve", "digest": r["digest"]} for r in interrupt.value["action_requests"]
    ]
    return Command(resume={interrupt.id: {"decisions": decisions}})


def toolkit(sim: Simulation, journal: str = ":memory:", **policy: Any) -> ActiveRoomsToolkit:
    return ActiveRoomsToolkit.from_env(
        rooms=[sim.room_id],
        policy=Policy(verify_s=5, **policy),
        journal=journal,
        environ=environment(sim),
    )


def tool(kit: ActiveRoomsToolkit, name: str) -> Any:
    return next(t for t in kit.get_tools() if t.name == name)


def roster(sim: Simulation, kit: ActiveRoomsToolkit, **more: Any) -> ToolMessage:
    call = {"name": "hms-list-peers", "args": {"room_id": sim.room_id, **more}, "id": "1"}
    message = tool(kit, "hms-list-peers").invoke({**call, "type": "tool_call"})
    assert isinstance(message, ToolMessage)
    return message


def test_a_removal_is_shown_asked_done_once_checked_and_on_record(tmp_path: Path) -> None:
    with (
        running_sim("classroom") as sim,
        SqliteSaver.from_conn_string(str(tmp_path / "checkpoints.sqlite")) as saver,
    ):
        kit = toolkit(sim, f"sqlite:///{tmp_path / 'journal.sqlite'}")
        spam = peer_id(sim, "Spam Bot")
        model = ScriptedModel.saying(
            calls(("hms-remove-peers", {"room_id": sim.room_id, "peer_id": spam[:8]})), text("ok")
        )
        graph = build_moderator(model, kit, room_id=sim.room_id, checkpointer=saver)
        out = graph.invoke({"messages": [HumanMessage("go")]}, CONFIG)
        [interrupt] = out["__interrupt__"]
        assert '"Spam Bot"' in interrupt.value["action_requests"][0]["description"]
        assert posts(sim) == []
        out = graph.invoke(approval(out), CONFIG)
        assert "Checked in the room" in out["messages"][-2].content
        assert "Spam Bot" not in names(sim)
        [post] = posts(sim)
        assert post.body == {"peer_id": spam}
        [row] = kit.gate.journal.actions()
        assert (row.state, row.decided_by, row.decided_way) == ("done", "ada", "interrupt")


def test_the_token_is_nowhere_but_in_the_request(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    with (
        running_sim("classroom") as sim,
        SqliteSaver.from_conn_string(str(tmp_path / "checkpoints.sqlite")) as saver,
    ):
        token = sim.management_token()
        journal = tmp_path / "journal.sqlite"
        kit = ActiveRoomsToolkit.from_env(
            rooms=[sim.room_id],
            policy=Policy(),
            journal=f"sqlite:///{journal}",
            environ={"HMS_BASE_URL": sim.base_url, "HMS_MANAGEMENT_TOKEN": token},
        )
        model = ScriptedModel.saying(
            calls(
                ("hms-list-peers", {"room_id": sim.room_id}),
                ("hms-end-active-room", {"room_id": sim.room_id}),
                ("hms-retrieve-active-room", {"room_id": "7" * 24}),
            ),
            text("ok"),
        )
        graph = build_moderator(model, kit, room_id=sim.room_id, checkpointer=saver)
        out = graph.invoke({"messages": [HumanMessage("go")]}, CONFIG)
        out = graph.invoke(approval(out), CONFIG)
        assert posts(sim)
        kit.gate.journal.close()
        told = repr(out) + repr(kit) + repr(kit.gate.journal) + caplog.text
        files = b"".join(p.read_bytes() for p in tmp_path.rglob("*") if p.is_file())
        for secret in (token, token.split(".")[2], sim.secret, "Bearer"):
            assert secret not in told
            assert secret.encode() not in files


def test_20_000_peers_cost_a_model_at_most_1500_tokens_and_the_artifact_holds_what_is_shown() -> (
    None
):
    with running_sim("arena") as sim:
        message = roster(sim, toolkit(sim))
        assert real_tokens(str(message.content)) <= 1500
        assert len(message.artifact["peers"]) == 50
        assert message.artifact["total"] == 20_000
        assert "Shown: 1 to 50 of 20,000. Next: offset=50" in message.content


def test_hostile_names_never_reach_a_model_or_a_question_raw() -> None:
    with running_sim("hostile") as sim:
        kit = toolkit(sim)
        message = roster(sim, kit, limit=100)
        shown = [str(message.content)]
        for peer in sim.world.peers(sim.room_id):
            result = kit.get_tools()[3].invoke(
                {"room_id": sim.room_id, "peer_id": peer.id}, {"configurable": {}}
            )
            shown.append(str(result))
        for action in kit.gate.journal.actions(limit=500):
            if action.impact:
                shown.append(kit.gate.request(action).text)
        for words in shown:
            assert words.replace("\n", "").isprintable(), words
            assert len(words) < 12_000
        assert posts(sim) == []


def test_orders_in_names_change_nothing_that_is_asked() -> None:
    with running_sim("classroom") as sim:
        kit = toolkit(sim)
        giver = next(n for n in names(sim) if n.startswith("SYSTEM"))
        model = ScriptedModel.saying(
            calls(("hms-list-peers", {"room_id": sim.room_id})),
            calls(
                ("hms-remove-peers", {"room_id": sim.room_id, "peer_id": peer_id(sim, giver)}),
                prefix="d",
            ),
            text("ok"),
        )
        graph = build_moderator(model, kit, room_id=sim.room_id, checkpointer=InMemorySaver())
        out = graph.invoke({"messages": [HumanMessage("go")]}, CONFIG)
        [request] = out["__interrupt__"][0].value["action_requests"]
        assert request["name"] == "hms-remove-peers"
        assert json.dumps(giver) in request["description"]
        assert posts(sim) == []


def test_a_session_that_restarts_meanwhile_is_not_ended() -> None:
    with running_sim("classroom") as sim:
        kit = toolkit(sim)
        model = ScriptedModel.saying(
            calls(("hms-end-active-room", {"room_id": sim.room_id})), text("ok")
        )
        graph = build_moderator(model, kit, room_id=sim.room_id, checkpointer=InMemorySaver())
        out = graph.invoke({"messages": [HumanMessage("go")]}, CONFIG)
        for peer in sim.world.peers(sim.room_id):
            sim.world.leave(sim.room_id, peer.id)
        sim.world.join(sim.room_id, name="Nora Berg", role="teacher")
        out = graph.invoke(approval(out), CONFIG)
        assert "Asked again" in out["__interrupt__"][0].value["action_requests"][0]["description"]
        assert posts(sim) == []
        assert names(sim) == ["Nora Berg"]


@pytest.mark.parametrize("turns", [20, pytest.param(200, marks=pytest.mark.nightly)])
def test_all_turns_of_a_reckless_model_reach_the_simulator_with_nothing_when_nobody_answers(
    turns: int,
) -> None:
    rng = random.Random(11)
    with running_sim("classroom") as sim:
        peers = [p.id for p in sim.world.peers(sim.room_id)][:5]
        model = ScriptedModel(script=lambda _: worst(rng, sim.room_id, peers))
        saver = InMemorySaver()
        graph = build_moderator(model, toolkit(sim), room_id=sim.room_id, checkpointer=saver)
        for turn in range(turns):
            graph.invoke({"messages": [HumanMessage(f"turn {turn}")]}, CONFIG)
        assert len(sim.requests) > turns
        assert posts(sim) == []
