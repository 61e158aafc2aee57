"""The same work done plainly: LangChain's own agent, middleware and tool, MCP's own server."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable
from typing import Any

import httpx
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, ToolMessage
from langchain_core.tools import StructuredTool

from evals.bench import peer_of
from evals.chat import ScriptedModel, calls

ROWS = 50


def removes(messages: list[BaseMessage]) -> AIMessage:
    """What a model says that removes peer 1 from the room that the person names."""
    if isinstance(messages[-1], ToolMessage):
        return AIMessage("Done.")
    room = next(m.text for m in messages if isinstance(m, HumanMessage))
    return calls(("hms-remove-peers", {"room_id": room, "peer_id": peer_of(1)}))


def model() -> ScriptedModel:
    return ScriptedModel(script=removes)


def agent(url: str, saver: Any) -> Any:
    from langchain.agents import create_agent
    from langchain.agents.middleware import HumanInTheLoopMiddleware

    http = httpx.Client(base_url=url, trust_env=False)

    def remove(room_id: str, peer_id: str) -> str:
        answer = http.post(f"/active-rooms/{room_id}/remove-peers", json={"peer_id": peer_id})
        return answer.raise_for_status().text

    name = "hms-remove-peers"
    tool = StructuredTool.from_function(remove, name=name, description="Remove a peer.")
    asks = HumanInTheLoopMiddleware({name: True})
    return create_agent(model(), [tool], middleware=[asks], checkpointer=saver)


def list_peers(url: str) -> Callable[[str], Any]:
    http = httpx.AsyncClient(base_url=url, trust_env=False)

    async def listed(room_id: str) -> str:
        answer = await http.get(f"/active-rooms/{room_id}/peers")
        peers = list(answer.raise_for_status().json()["peers"].values())
        rows = [f"{p['id']} {p['name']} {p['user_id']} {p['role']}" for p in peers[:ROWS]]
        return "\n".join([f"{len(peers)} peers", *rows])

    return listed


def list_tool(url: str) -> StructuredTool:
    return StructuredTool.from_function(
        coroutine=list_peers(url), name="hms-list-peers", description="List peers."
    )


def serve_mcp(url: str) -> None:
    """The smallest MCP server that does the same; it prints where it listens."""
    import uvicorn
    from mcp.server import MCPServer

    server = MCPServer("plain", log_level="WARNING")
    server.add_tool(list_peers(url), name="hms-list-peers", description="List peers.")
    # asyncio sets TCP_NODELAY only where the protocol is named.
    with socket.socket(proto=socket.IPPROTO_TCP) as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        host, port = listener.getsockname()
        print(json.dumps({"mcp": f"http://{host}:{port}/mcp"}), flush=True)
        config = uvicorn.Config(server.streamable_http_app(), log_level="warning")
        uvicorn.Server(config).run(sockets=[listener])
