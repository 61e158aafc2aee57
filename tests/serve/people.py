"""Clients and people for the tests of the ways in."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import mcp_types as types
from mcp import Client

from hms_active_rooms import ActiveRoomsToolkit, Policy
from hms_active_rooms.gate.journal import Journal
from hms_active_rooms.serve.mcp import build_server
from stand_in import ROOM, StandInRoom, peer

Hook = Callable[[], None]


def students() -> StandInRoom:
    return StandInRoom([peer(n) for n in (1, 2, 3)])


def kit(
    room: StandInRoom, journal: Journal | str = ":memory:", **policy: Any
) -> ActiveRoomsToolkit:
    settings: dict[str, Any] = {"rooms": (ROOM,), "verify_s": 0} | policy
    return ActiveRoomsToolkit(
        room,  # type: ignore[arg-type]  # stands in for the client
        Policy.build(**settings),
        journal=journal,
    )


@dataclass
class Person:
    """Answers every question in turn, the last answer for all that come after it."""

    answers: Sequence[types.ElicitResult]
    before: Hook = lambda: None
    questions: list[str] = field(default_factory=list)
    forms: list[dict[str, Any]] = field(default_factory=list)

    async def __call__(self, _: Any, params: Any) -> types.ElicitResult:
        self.before()
        answer = self.answers[min(len(self.questions), len(self.answers) - 1)]
        self.questions.append(params.message)
        self.forms.append(params.requested_schema)
        return answer


YES = types.ElicitResult(action="accept", content={"decision": "approve"})
NO = types.ElicitResult(action="accept", content={"decision": "reject", "reason": "leave him"})
DECLINE = types.ElicitResult(action="decline")
CANCEL = types.ElicitResult(action="cancel")


def client(toolkit: ActiveRoomsToolkit, mode: str, person: Person | None = None) -> Client:
    return Client(build_server(toolkit), mode=mode, elicitation_callback=person)  # type: ignore[arg-type]  # a str that is one of the modes


def remove(number: int = 1, **more: Any) -> dict[str, Any]:
    return {"room_id": ROOM, "peer_id": peer(number).id, **more}


def text(result: types.CallToolResult) -> str:
    (block,) = result.content
    assert isinstance(block, types.TextContent)
    return block.text
