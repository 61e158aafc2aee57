"""LangChain's own MCP client against our server, in a LangGraph agent that pauses to ask.

Run by `mcp_conformance.py` in an environment of its own: this client needs an older mcp than
our server. It asks a person by elicitation; here the question becomes an interrupt:

    first call   the question is written down and closed unanswered: nothing is sent
    interrupt    the graph pauses with the question
    second call  the same call is the same action, asked again; the person's answer goes in

A digest is in every question and in every choice of its form, so that an answer to another
question is not given, and would decide nothing.
"""

from __future__ import annotations

import asyncio
import sys
from typing import Any, TypedDict

from langchain_mcp_adapters.callbacks import Callbacks
from langchain_mcp_adapters.client import MultiServerMCPClient
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import END, START, StateGraph
from langgraph.types import Command, interrupt
from mcp.types import ElicitResult


class Person:
    """Closes every question, but the one that is the approved question."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.approved = ""

    async def __call__(self, mcp_context: Any, params: Any, context: Any) -> ElicitResult:
        del mcp_context, context
        self.asked.append(params.message)
        if params.message == self.approved:
            choices = params.requestedSchema["properties"]["decision"]["enum"]
            [yes] = [choice for choice in choices if choice.startswith("approve")]
            return ElicitResult(action="accept", content={"decision": yes})
        return ElicitResult(action="cancel")


class State(TypedDict):
    """The removal's arguments, and what came of it."""

    arguments: dict[str, str]
    told: str


async def remove(url: str, room: str, name: str) -> str:
    """Remove the person with this name after one approval; what the tool said."""
    person = Person()
    client = MultiServerMCPClient(
        {"rooms": {"url": url, "transport": "streamable_http"}},
        callbacks=Callbacks(on_elicitation=person),
    )
    tools = {tool.name: tool for tool in await client.get_tools()}
    found = await tools["hms-list-peers"].ainvoke({"room_id": room, "name": name})
    rows = found[0]["text"].splitlines()
    peer = next(row.split('"')[1] for row in rows if f'"{name}"' in row and row.startswith("["))

    async def act(state: State) -> dict[str, str]:
        said = await tools["hms-remove-peers"].ainvoke(state["arguments"])
        if "waiting" in said[0]["text"]:
            person.approved = interrupt({"question": person.asked[-1]})
            said = await tools["hms-remove-peers"].ainvoke(state["arguments"])
        return {"told": said[0]["text"]}

    graph = StateGraph(State)
    graph.add_node("act", act)
    graph.add_edge(START, "act")
    graph.add_edge("act", END)
    agent = graph.compile(checkpointer=InMemorySaver())
    config: Any = {"configurable": {"thread_id": "1"}}
    paused = await agent.ainvoke(
        {"arguments": {"room_id": room, "peer_id": peer}, "told": ""}, config
    )
    (question,) = paused["__interrupt__"]
    done = await agent.ainvoke(Command(resume=question.value["question"]), config)
    return str(done["told"])


if __name__ == "__main__":
    told = asyncio.run(remove(*sys.argv[1:4]))
    print(told)
    sys.exit(0 if told.startswith("Removed") else 1)
