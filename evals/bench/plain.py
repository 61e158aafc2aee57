"""The same work done plainly: LangChain's own agent, middleware and tool, MCP's own server."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable, Sequence
from typing import Any

import httpx
from langchain_core.language_models import BaseChatModel, LanguageModelInput
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, ToolMessage
from langchain_core.outputs import ChatGeneration, ChatResult
from langchain_core.runnables import Runnable
from langchain_core.tools import BaseTool, StructuredTool

from evals.bench import peer_of

ROWS = 50


class RemovingModel(BaseChatModel):
    """Removes peer 1 from the room that the person names, then ends its turn."""

    def _generate(self, messages: list[BaseMessage], *_: Any, **__: Any) -> ChatResult:
        answer = AIMessage("Done.")
        if not isinstance(messages[-1], ToolMessage):
            room = next(m.text for m in messages if isinstance(m, HumanMessage))
            args = {"room_id": room, "peer_id": peer_of(1)}
            call = {"name": "hms-remove-peers", "args": args, "id": "c1", "type": "tool_call"}
            answer = AIMessage("", tool_calls=[call])
        return ChatResult(generations=[ChatGeneration(message=answer)])

    def bind_tools(
        self,
        tools: Sequence[dict[str, Any] | type | Callable[..., Any] | BaseTool],
        *,
        tool_choice: str | None = None,
        **kwargs: Any,
    ) -> Runnable[LanguageModelInput, AIMessage]:
        return self

    @property
    def _llm_type(self) -> str:
        return "removing"


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
    return create_agent(RemovingModel(), [tool], middleware=[asks], checkpointer=saver)


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
