"""An OpenAI-style function-calling loop over REST; nothing of this package is imported.

hms-active-rooms serve --room ROOM --person ada     # prints the login of the approvals page
OPENAI_API_KEY=... MODEL=gpt-5 python openai_rest.py http://127.0.0.1:9090 ROOM "kick Spam Bot"

OPENAI_BASE_URL: any server that speaks chat completions. HMS_SERVER_TOKEN: if serve has one.
"""

from __future__ import annotations

import os
import sys
import time
from typing import Any
from urllib.parse import quote

import httpx


def client(url: str, token_variable: str) -> httpx.Client:
    token = os.environ.get(token_variable)
    headers = {"authorization": f"Bearer {token}"} if token else {}
    return httpx.Client(base_url=url, headers=headers, timeout=120)


def call(rooms: httpx.Client, name: str, arguments: str) -> str:
    """What the model is told of its call; after a person's decision, if it needs one."""
    # The arguments as the model wrote them: the server checks them.
    json_type = {"content-type": "application/json"}
    answer = rooms.post(f"/v1/tools/{quote(name, safe='')}", content=arguments, headers=json_type)
    if answer.is_error:
        return answer.text  # a problem: what is wrong, whether anything was executed, what next
    told = answer.json()
    if answer.status_code == 202:
        print(f"A person decides {told['data']['approve_at']}", flush=True)
        return outcome(rooms, answer.headers["location"])
    return str(told["text"])


def outcome(rooms: httpx.Client, location: str) -> str:
    """Waits; at most until the time to decide is over, 10 minutes unless the policy says else."""
    while True:
        shown = rooms.get(location).raise_for_status().json()
        if shown["newest_id"] != shown["action"]["action_id"]:
            # Asked again because the room changed, or with the words the person edited.
            location = f"/v1/actions/{shown['newest_id']}"
        elif shown["action"]["state"] in ("proposed", "approved", "sent"):
            time.sleep(1)
        else:
            return str(shown["action"]["text"])


def function(tool: dict[str, Any]) -> dict[str, Any]:
    schema = tool["input_schema"]
    return {"name": tool["name"], "description": tool["description"], "parameters": schema}


def main(server: str, room_id: str, request: str) -> None:
    base_url = os.environ.get("OPENAI_BASE_URL", "https://api.openai.com/v1")
    with client(server, "HMS_SERVER_TOKEN") as rooms, client(base_url, "OPENAI_API_KEY") as model:
        listed = rooms.get("/v1/tools").raise_for_status().json()["tools"]
        tools = [{"type": "function", "function": function(tool)} for tool in listed]
        messages: list[Any] = [{"role": "user", "content": f"In room {room_id}: {request}"}]
        body = {"model": os.environ.get("MODEL", "gpt-5"), "messages": messages, "tools": tools}
        for _ in range(20):
            answer = model.post("/chat/completions", json=body).raise_for_status()
            messages.append(reply := answer.json()["choices"][0]["message"])
            if not reply.get("tool_calls"):
                print(reply["content"])
                break
            for wanted in reply["tool_calls"]:
                told = call(rooms, wanted["function"]["name"], wanted["function"]["arguments"])
                messages.append({"role": "tool", "tool_call_id": wanted["id"], "content": told})


if __name__ == "__main__":
    main(*sys.argv[1:4])
