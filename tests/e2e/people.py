"""People who have the same question before them, each by another way, until the test says: now."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Protocol
from uuid import uuid4

import httpx2
import mcp_types as types
from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.prebuilt import ToolNode
from langgraph.types import Command
from mcp import Client
from mcp.client.streamable_http import streamable_http_client
from pexpect import EOF

from e2e.server import CALLER, WAIT_S, Browser, Program
from forks import Terminal
from hms_active_rooms import ActiveRoomsToolkit
from scripted import calls
from serve.people import choice

Environ = Mapping[str, str]


class Person(Protocol):
    """Somebody who has seen the question. `decide` says yes or no; what they are told then."""

    def decide(self, yes: bool) -> str: ...


class AtThePage:
    """On the approvals page."""

    def __init__(self, browser: Browser, action: str) -> None:
        self._browser, self._action = browser, action
        self._digest = browser.question(action)

    def decide(self, yes: bool) -> str:
        answer = self._browser.decide(self._action, self._digest, yes)
        assert answer.status_code == 200, answer.text
        return str(answer.json()["text"])


class ByRest:
    """By an approver's program."""

    def __init__(self, approver: Program, action: str) -> None:
        self._approver, self._action = approver, action
        self._digest = approver.question(action)

    def decide(self, yes: bool) -> str:
        answer = self._approver.decide(self._action, self._digest, yes)
        assert answer.status_code in (200, 409), answer.text
        told = answer.json()
        return str(told["detail"] if answer.status_code == 409 else told["text"])


class AtATerminal:
    """`approve ACTION` on a pseudo-terminal of its own."""

    def __init__(self, environ: Environ, action: str) -> None:
        self._child = Terminal(["approve", action], environ)
        self._child.expect(r"Approve\? \[yes/no/edit\]")

    def decide(self, yes: bool) -> str:
        self._child.sendline("yes" if yes else "no")
        self._child.expect(EOF)
        told = self._child.before or ""
        self._child.close()
        return told


class InAnMcpClient:
    """Asked by elicitation during the call that they made themselves."""

    def __init__(self, url: str, mode: str, tool: str, arguments: dict[str, Any]) -> None:
        self._url, self._mode, self._call = url, mode, (tool, arguments)
        self._asked: Future[str] = Future()
        self._said: Future[bool] = Future()
        self._told: Future[str] = Future()
        threading.Thread(target=self._run, daemon=True).start()
        self.action = self._asked.result(WAIT_S)
        """The id of the action they are asked about."""

    def decide(self, yes: bool) -> str:
        self._said.set_result(yes)
        return self._told.result(WAIT_S)

    def _run(self) -> None:
        try:
            self._told.set_result(asyncio.run(self._talk()))
        except BaseException as error:
            for waited_for in (self._asked, self._told):
                if not waited_for.done():
                    waited_for.set_exception(error)
            raise

    async def _talk(self) -> str:
        headers = {"authorization": f"Bearer {CALLER}"}
        async with httpx2.AsyncClient(headers=headers, timeout=WAIT_S, verify=False) as http:
            transport = streamable_http_client(self._url, http_client=http)
            async with Client(transport, mode=self._mode, elicitation_callback=self._answer) as mcp:  # type: ignore[arg-type]  # one of the modes
                result = await mcp.call_tool(*self._call)
        [block] = result.content
        assert isinstance(block, types.TextContent)
        assert block.text == result.structured_content["text"]
        return block.text

    async def _answer(self, _: Any, question: Any) -> types.ElicitResult:
        self._asked.set_result(question.message.rpartition("(action ")[2].partition(",")[0])
        yes = await asyncio.shield(asyncio.wrap_future(self._said))
        decision = choice(question.requested_schema, "approve" if yes else "reject")
        return types.ElicitResult(action="accept", content={"decision": decision})


class InAGraph:
    """Asked by interrupt about the call that a model of theirs made."""

    def __init__(
        self, environ: Environ, room_id: str, tool: str, arguments: dict[str, Any]
    ) -> None:
        kit = ActiveRoomsToolkit.from_env(environ=environ, rooms=(room_id,))
        graph = StateGraph(MessagesState)
        graph.add_node("tools", ToolNode(kit.get_tools()))
        graph.add_edge(START, "tools")
        self._graph: Any = graph.compile(checkpointer=InMemorySaver())
        self._config = RunnableConfig(configurable={"thread_id": str(uuid4()), "approver": "grace"})
        said = MessagesState(messages=[calls((tool, arguments))])
        [asked] = self._graph.invoke(said, self._config)["__interrupt__"]
        self._id, self._digest = asked.id, asked.value["digest"]
        self.action = str(asked.value["action_id"])
        """The id of the action they are asked about."""

    def decide(self, yes: bool) -> str:
        answer = {"type": "approve", "digest": self._digest} if yes else {"type": "reject"}
        out = self._graph.invoke(Command(resume={self._id: answer}), self._config)
        return str(out["messages"][-1].content)


def at_once(*people: Callable[[], str]) -> list[str]:
    """What each of them is told when they all decide at the same moment."""
    barrier = threading.Barrier(len(people))

    def now(decide: Callable[[], str]) -> str:
        barrier.wait(WAIT_S)
        return decide()

    with ThreadPoolExecutor(len(people)) as pool:
        return list(pool.map(now, people))
