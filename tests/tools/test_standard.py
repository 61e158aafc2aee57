"""LangChain's own standard tests for tools, with a confirmer that allows everything."""

from __future__ import annotations

from typing import Any

from langchain_core.tools import BaseTool
from langchain_tests.integration_tests import ToolsIntegrationTests
from langchain_tests.unit_tests import ToolsUnitTests

from hms_active_rooms import ActiveRoomsToolkit, Policy
from hms_active_rooms.gate.approval import ApprovalRequest, Approve
from stand_in import ROOM, StandInRoom, peer

ANNA = peer(1, "Anna")


def approve(request: ApprovalRequest) -> Approve:
    """Allows everything: for these suites only."""
    return request.approve(by="test")


def tool(name: str) -> BaseTool:
    """One of the five, on a room of its own."""
    room = StandInRoom([ANNA, peer(2)])
    policy = Policy(rooms=(ROOM,))
    kit = ActiveRoomsToolkit(room, policy, journal=":memory:", confirm=approve)  # type: ignore[arg-type]
    return next(t for t in kit.get_tools() if t.name == name)


EXAMPLES: dict[str, dict[str, Any]] = {
    "hms-retrieve-active-room": {"room_id": ROOM},
    "hms-list-peers": {"room_id": ROOM, "role": "student"},
    "hms-send-message": {"room_id": ROOM, "message": "hi", "peer_id": ANNA.id},
    "hms-remove-peers": {"room_id": ROOM, "peer_id": ANNA.id, "reason": "spam"},
    "hms-end-active-room": {"room_id": ROOM, "lock": False},
}


def _suites(name: str) -> tuple[type, type]:
    def constructor(_: Any) -> BaseTool:
        return tool(name)

    def example(_: Any) -> dict[str, Any]:
        return EXAMPLES[name]

    body = {
        "tool_constructor": property(constructor),
        "tool_invoke_params_example": property(example),
    }
    return type("Unit", (ToolsUnitTests,), body), type(
        "Integration", (ToolsIntegrationTests,), body
    )


TestRetrieveUnit, TestRetrieveIntegration = _suites("hms-retrieve-active-room")
TestListUnit, TestListIntegration = _suites("hms-list-peers")
TestSendUnit, TestSendIntegration = _suites("hms-send-message")
TestRemoveUnit, TestRemoveIntegration = _suites("hms-remove-peers")
TestEndUnit, TestEndIntegration = _suites("hms-end-active-room")
