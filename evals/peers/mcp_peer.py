"""An MCP server whose tools ask by elicitation, and nothing else: the protocol's own way.

The SDK's documentation: a tool calls `Context.elicit` with a question and a schema, and goes on with
what the client's callback answers. Nothing is kept between question and answer.
"""

from __future__ import annotations

from typing import Any

import mcp_types as types
from langchain_core.tools import BaseTool, StructuredTool
from mcp import Client
from mcp.server import MCPServer
from mcp.server.mcpserver import Context
from pydantic import BaseModel, Field

from evals.agents import Ask, described
from evals.answering import Question
from evals.people import Yes
from hms_active_rooms.api.client import ActiveRoomsClient


class Approval(BaseModel):
    approve: bool = Field(description="Approve this call?")


def elicited(tool: BaseTool, client: ActiveRoomsClient, ask: Ask) -> StructuredTool:
    """The tool, called over MCP from a server that asks first."""

    async def call(**arguments: Any) -> tuple[str, Any]:
        data: Any = None

        async def changes(ctx: Context[Any, Any]) -> str:
            nonlocal data
            peers = [p.model_dump() for p in await client.list_peers(arguments["room_id"])]
            answer = await ctx.elicit(described(tool.name, arguments, peers), Approval)
            if answer.action != "accept" or not answer.data.approve:
                return "Not executed: the person did not approve it."
            done = await tool.ainvoke(
                {"name": tool.name, "args": arguments, "id": "1", "type": "tool_call"}
            )
            data = done.artifact
            return str(done.text)

        async def on_question(context: Any, params: Any) -> types.ElicitResult:
            given = await ask(Question("mcp", tool.name, arguments, params.message))
            if isinstance(given, Yes):
                return types.ElicitResult(action="accept", content={"approve": True})
            return types.ElicitResult(action="decline")

        server = MCPServer("rooms", log_level="WARNING")
        server.add_tool(changes, name=tool.name, description=tool.description)
        async with Client(server, mode="legacy", elicitation_callback=on_question) as user:
            result = await user.call_tool(tool.name, {})
        return "".join(
            part.text for part in result.content if isinstance(part, types.TextContent)
        ), data

    return StructuredTool(
        name=tool.name,
        description=tool.description,
        args_schema=tool.args_schema,
        coroutine=call,
        handle_validation_error=True,
        response_format="content_and_artifact",
    )
