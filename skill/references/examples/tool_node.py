"""A graph of your own with a plain `ToolNode`: one question at a time.

python tool_node.py ROOM "kick Spam Bot"
"""

from __future__ import annotations

import os
import sys
from typing import Any

from langchain_core.messages import HumanMessage
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.prebuilt import ToolNode, tools_condition
from langgraph.types import Command

from hms_active_rooms import ActiveRoomsToolkit
from hms_active_rooms.moderator.models import resolve_model


def ask(question: dict[str, Any]) -> dict[str, Any]:
    """Your UI: show the description to a person. The digest ties the answer to what was shown."""
    print(question["description"])
    if input("Approve? ") == "yes":
        return {"type": "approve", "digest": question["digest"]}
    return {"type": "reject", "message": "the person said no"}


def main(room_id: str, request: str) -> None:
    tools = ActiveRoomsToolkit.from_env(rooms=[room_id]).get_tools()
    model = resolve_model(os.environ.get("MODEL"), room_id).bind_tools(tools)
    graph = StateGraph(MessagesState)
    graph.add_node("model", lambda state: {"messages": [model.invoke(state["messages"])]})
    # All calls of a turn share this task, and LangGraph hands out answers by position in it.
    # So one call asks; the others come back as not executed, and the model calls them again.
    graph.add_node("tools", ToolNode(tools))
    graph.add_edge(START, "model")
    graph.add_conditional_edges("model", tools_condition)
    graph.add_edge("tools", "model")
    agent = graph.compile(checkpointer=InMemorySaver())
    config: Any = {"configurable": {"thread_id": "lesson", "approver": "ada"}}
    state = agent.invoke({"messages": [HumanMessage(f"In room {room_id}: {request}")]}, config)
    while questions := state.get("__interrupt__"):
        answers = {question.id: ask(question.value) for question in questions}
        state = agent.invoke(Command(resume=answers), config)
    print(state["messages"][-1].text)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
