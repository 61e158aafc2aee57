"""A client of `langgraph dev` (or a deployment): start, see the question, approve, resume.

HMS_ROOM=ROOM langgraph dev --no-browser      # in a checkout, with the credentials set
python langgraph_sdk_client.py http://127.0.0.1:2024 "kick Spam Bot"
"""

from __future__ import annotations

import sys
from typing import Any

from langgraph_sdk import get_sync_client


def decide(action: dict[str, Any]) -> dict[str, Any]:
    """Your UI. The moderator asks once for all calls of a turn; each is decided by itself."""
    print(action["description"])
    if input("Approve? ") == "yes":
        return {"type": "approve", "digest": action["digest"]}
    return {"type": "reject", "message": "the person said no"}


def main(url: str, request: str) -> None:
    client = get_sync_client(url=url, api_key=None)
    thread = client.threads.create()["thread_id"]
    given: Any = {"messages": [{"role": "user", "content": request}]}
    state: Any = client.runs.wait(thread, "moderator", input=given)
    while questions := state.get("__interrupt__"):
        [question] = questions
        decisions = [decide(action) for action in question["value"]["action_requests"]]
        answer = {question["id"]: {"decisions": decisions}}
        state = client.runs.wait(thread, "moderator", command={"resume": answer})
    print(state["messages"][-1]["content"])


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
