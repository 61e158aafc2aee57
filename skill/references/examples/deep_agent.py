"""deepagents with the five tools, and with the skill as its guide (pip install deepagents).

hms-active-rooms skill install skills
python deep_agent.py ROOM "kick Spam Bot" skills
"""

from __future__ import annotations

import os
import sys
from typing import Any

from deepagents import create_deep_agent
from deepagents.backends import FilesystemBackend
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


def main(room_id: str, request: str, skills: str) -> None:
    toolkit = ActiveRoomsToolkit.from_env(rooms=[room_id])
    agent = create_deep_agent(
        resolve_model(os.environ.get("MODEL"), room_id),
        toolkit.get_tools(),
        # The agent sees this folder alone. A source is the folder that holds skills.
        backend=FilesystemBackend(root_dir=skills, virtual_mode=True),
        skills=["/"],
        checkpointer=InMemorySaver(),
    )
    config: Any = {"configurable": {"thread_id": "lesson", "approver": "ada"}}
    state = agent.invoke({"messages": [HumanMessage(f"In room {room_id}: {request}")]}, config)
    while questions := state.get("__interrupt__"):
        answers = {question.id: ask(question.value) for question in questions}
        state = agent.invoke(Command(resume=answers), config)
    print(state["messages"][-1].text)


if __name__ == "__main__":
    main(*sys.argv[1:4])
