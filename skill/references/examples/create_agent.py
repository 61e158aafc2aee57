"""LangChain's `create_agent` with the five tools: it pauses, a person answers, it goes on.

python create_agent.py ROOM "kick Spam Bot"
"""

from __future__ import annotations

import os
import sys
from typing import Any

from langchain.agents import create_agent
from langchain_core.messages import HumanMessage
from langgraph.checkpoint.memory import InMemorySaver
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
    toolkit = ActiveRoomsToolkit.from_env(rooms=[room_id])
    # A chat model by name, e.g. "anthropic:claude-sonnet-4-5"; without one the offline model.
    model = resolve_model(os.environ.get("MODEL"), room_id)
    # Without a checkpointer nothing can pause, so nothing would be sent.
    agent = create_agent(model, toolkit.get_tools(), checkpointer=InMemorySaver())
    config: Any = {"configurable": {"thread_id": "lesson", "approver": "ada"}}
    state = agent.invoke({"messages": [HumanMessage(f"In room {room_id}: {request}")]}, config)
    while questions := state.get("__interrupt__"):
        # By interrupt id: several calls may wait at once.
        answers = {question.id: ask(question.value) for question in questions}
        state = agent.invoke(Command(resume=answers), config)
    print(state["messages"][-1].text)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
