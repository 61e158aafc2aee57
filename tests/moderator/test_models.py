"""Models by name: the real provider path up to the HTTP boundary, and clear errors before it."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest
from langchain_core.messages import HumanMessage
from langgraph.checkpoint.memory import InMemorySaver

from hms_active_rooms import ActiveRoomsToolkit, Policy
from hms_active_rooms.errors import ConfigurationError
from hms_active_rooms.moderator import build_moderator
from hms_active_rooms.moderator.models import resolve_model
from hms_active_rooms.moderator.offline import CommandsModel
from stand_in import ROOM, StandInRoom, peer

ANSWER = {
    "id": "chatcmpl-1",
    "object": "chat.completion",
    "created": 1,
    "model": "any",
    "choices": [
        {
            "index": 0,
            "finish_reason": "tool_calls",
            "message": {
                "role": "assistant",
                "content": None,
                "tool_calls": [
                    {
                        "id": "call_1",
                        "type": "function",
                        "function": {
                            "name": "hms-remove-peers",
                            "arguments": json.dumps({"room_id": ROOM, "peer_id": peer(1).id}),
                        },
                    }
                ],
            },
        }
    ],
    "usage": {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2},
}


class Provider(HTTPServer):
    """Answers every chat completion with one tool call, and keeps what it was sent."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.asked: list[Any] = []


class Handler(BaseHTTPRequestHandler):
    disable_nagle_algorithm = True
    server: Provider

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.asked.append(json.loads(body))
        answer = json.dumps(ANSWER).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def provider(monkeypatch: pytest.MonkeyPatch) -> Iterator[Provider]:
    with Provider() as server:
        monkeypatch.setenv("OPENAI_API_KEY", "sk-none")
        monkeypatch.setenv("OPENAI_BASE_URL", f"http://127.0.0.1:{server.server_port}/v1")
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.mark.slow
def test_a_real_providers_client_is_given_the_tools_and_its_calls_are_gated(
    provider: Provider,
) -> None:
    room = StandInRoom([peer(1)])
    policy = Policy(rooms=(ROOM,))
    kit = ActiveRoomsToolkit(room, policy, journal=":memory:")  # type: ignore[arg-type]
    graph = build_moderator("openai:any", kit, room_id=ROOM, checkpointer=InMemorySaver())
    config: Any = {"configurable": {"thread_id": "t"}}
    out = graph.invoke({"messages": [HumanMessage("remove Peer 1")]}, config)
    assert out["__interrupt__"]
    assert room.posts == []
    [asked] = provider.asked
    assert [t["function"]["name"] for t in asked["tools"]] == [
        "hms-retrieve-active-room",
        "hms-list-peers",
        "hms-send-message",
        "hms-remove-peers",
        "hms-end-active-room",
    ]
    assert all(t["function"]["parameters"]["additionalProperties"] is False for t in asked["tools"])
    assert f"Room: {ROOM}" in asked["messages"][0]["content"]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["nosuch:model", "gibberish", "cohere:any", "openai:gpt-5"])
def test_a_model_that_cannot_be_had_is_one_clear_error(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    monkeypatch.delenv("OPENAI_ADMIN_KEY", raising=False)
    with pytest.raises(ConfigurationError, match="cannot be used") as raised:
        resolve_model(name, ROOM)
    assert str(raised.value).isprintable()
    assert "anthropic" not in str(raised.value), "no list of what there is elsewhere"
    assert "\\u0060" not in str(raised.value), "backticks are shown as they are"


@pytest.mark.parametrize("name", [None, "commands"])
def test_the_offline_model_is_the_default(name: str | None) -> None:
    assert isinstance(resolve_model(name, ROOM), CommandsModel)
