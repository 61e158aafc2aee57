"""What a program's type checker makes of the public names. Checked by `make types`, never run.

`tests/test_typing.py` checks it as a stranger's program is checked: without our settings and
without pydantic's plugin.
"""

from __future__ import annotations

from typing import Any, assert_type

from langchain_core.tools import BaseTool
from langgraph.checkpoint.memory import InMemorySaver

from hms_active_rooms import (
    ActiveRoomsClient,
    ActiveRoomsError,
    ActiveRoomsToolkit,
    ApprovalRequest,
    Approve,
    Edit,
    Gate,
    Journal,
    Policy,
    Reject,
    SyncActiveRoomsClient,
)
from hms_active_rooms.api.models import Acknowledgement, ActiveRoom, Peer
from hms_active_rooms.errors import Executed
from hms_active_rooms.moderator import build_moderator

ROOM = "64f0c1a5500de00000000001"


def careful(request: ApprovalRequest) -> Approve | Edit | Reject:
    """A person's answer, in code."""
    assert_type(request.text, str)
    if "everyone" in request.text:
        return request.reject("too many", by="ada")
    if request.editable:
        return request.edit(by="ada", message="Please be kind")
    return request.approve(by="ada")


def toolkit() -> ActiveRoomsToolkit:
    policy = Policy(rooms=(ROOM,), protected_roles=frozenset({"teacher"}), max_peers=5)
    assert_type(Policy.from_env({"HMS_POLICY_MAX_PEERS": "5"}), Policy)
    kit = ActiveRoomsToolkit.from_env(policy=policy, confirm=careful, requester="my-app")
    assert_type(kit.get_tools(), list[BaseTool])
    assert_type(kit.gate, Gate)
    assert_type(kit.gate.journal, Journal)
    return kit


def agent(model: Any) -> None:
    graph = build_moderator(model, toolkit(), room_id=ROOM, checkpointer=InMemorySaver())
    graph.invoke({"messages": []}, {"configurable": {"thread_id": "t", "approver": "ada"}})
    graph.invoke({"messages": [{"role": "user", "content": "Who is here?"}]})
    graph.invoke({"messages": [("user", "Who is here?")]})


async def asynchronous() -> None:
    async with ActiveRoomsClient.from_env() as client:
        assert_type(await client.retrieve_active_room(ROOM), ActiveRoom)
        for peer in await client.list_peers(ROOM):
            assert_type(peer, Peer)
        assert_type(await client.end_room(ROOM, lock=True), Acknowledgement)


def synchronous() -> None:
    with SyncActiveRoomsClient.from_env() as client:
        try:
            client.send_message(ROOM, message="hi")
        except ActiveRoomsError as error:
            assert_type(error.code, str)
            assert_type(error.executed, Executed)
            assert_type(error.hint, str)
