"""Clients and people for the tests of the ways in."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from typing import Any

import mcp_types as types
import pytest
from mcp import Client
from starlette.types import ASGIApp

from hms_active_rooms import ActiveRoomsToolkit, Policy
from hms_active_rooms.errors import JournalError
from hms_active_rooms.gate.journal import Journal
from hms_active_rooms.serve.app import Server, address, listen
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
        Policy(**settings),
        journal=journal,
    )


@asynccontextmanager
async def serving(app: ASGIApp) -> AsyncIterator[str]:
    """Serve in this loop while the block runs; its base URL. It listens when the block begins."""
    server = Server(app)
    with listen("127.0.0.1", 0) as listener:
        task = asyncio.create_task(server.serve(sockets=[listener]))
        try:
            yield address(listener)
        finally:
            server.should_exit = True
            await task


def broken(
    monkeypatch: pytest.MonkeyPatch,
    when: Callable[[], bool] = lambda: True,
    doors: Sequence[str] = ("read", "write"),
) -> None:
    """Every journal's transactions of these kinds fail whenever this holds."""

    def failing(door: str) -> Any:
        real = getattr(Journal, door)

        @contextmanager
        def opened(self: Journal) -> Iterator[Any]:
            if when():
                raise JournalError("The journal failed.")
            with real(self) as transaction:
                yield transaction

        return opened

    for door in doors:
        monkeypatch.setattr(Journal, door, failing(door))


@dataclass
class Person:
    """Answers every question in turn, the last answer for all that come after it."""

    answers: Sequence[types.ElicitResult]
    before: Hook = lambda: None
    questions: list[str] = field(default_factory=list)
    forms: list[dict[str, Any]] = field(default_factory=list)

    async def __call__(self, context: Any, params: Any) -> types.ElicitResult:
        self.before()
        answer = self.answers[min(len(self.questions), len(self.answers) - 1)]
        self.questions.append(params.message)
        self.forms.append(params.requested_schema)
        return named(answer, params.requested_schema)


@dataclass
class Resumed:
    """A person behind a client that resumes as LangChain's `MCPAdapter` does.

    Each time it issues the call from round one and gives the saved answers, in order, to
    whatever is asked by then. A question behind the last of them is shown and stays open.
    """

    mcp: Client | None = None
    saved: list[types.ElicitResult] = field(default_factory=list)
    shown: list[Any] = field(default_factory=list)
    given: int = 0

    async def __call__(self, context: Any, params: Any) -> types.ElicitResult:
        self.given += 1
        if self.given <= len(self.saved):
            return self.saved[self.given - 1]
        self.shown.append(params)
        return CANCEL

    def say(self, answer: types.ElicitResult) -> None:
        """Answer the question that was shown last."""
        self.saved.append(named(answer, self.shown[-1].requested_schema))

    async def invoke(self, tool: str, arguments: dict[str, Any]) -> types.CallToolResult:
        """Start, or resume, the run that makes this call."""
        assert self.mcp
        self.given = 0
        return await self.mcp.call_tool(tool, arguments)


THIS = "this"
"""In a decision: the name of the question that is asked."""

YES = types.ElicitResult(action="accept", content={"decision": f"approve {THIS}"})
NO = types.ElicitResult(
    action="accept", content={"decision": f"reject {THIS}", "reason": "leave him"}
)
DECLINE = types.ElicitResult(action="decline")
CANCEL = types.ElicitResult(action="cancel")


def choice(form: dict[str, Any], word: str) -> str:
    """The form's one decision that begins with this word."""
    [value] = [v for v in form["properties"]["decision"]["enum"] if v.split()[0] == word]
    return str(value)


def named(answer: types.ElicitResult, form: dict[str, Any]) -> types.ElicitResult:
    """The answer as the form takes it: it names the question that was asked."""
    content = dict(answer.content or {})
    word, _, name = str(content.get("decision", "")).partition(" ")
    if name != THIS:
        return answer
    content["decision"] = choice(form, word)
    return answer.model_copy(update={"content": content})


def yes_to(asked: types.InputRequiredResult) -> Any:
    """A yes to the question of this round."""
    form: Any = (asked.input_requests or {})["approval"].params
    return {"approval": named(YES, form.requested_schema)}


def client(
    toolkit: ActiveRoomsToolkit, mode: str, person: Person | Resumed | None = None
) -> Client:
    return Client(build_server(toolkit), mode=mode, elicitation_callback=person)


def remove(number: int = 1, **more: Any) -> dict[str, Any]:
    return {"room_id": ROOM, "peer_id": peer(number).id, **more}


def text(result: types.CallToolResult) -> str:
    (block,) = result.content
    assert isinstance(block, types.TextContent)
    return block.text
