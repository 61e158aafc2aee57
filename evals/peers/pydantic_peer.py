"""pydantic-ai: deferred tools that require approval.

Its documentation: a tool raises `ApprovalRequired`, the run ends with `DeferredToolRequests`, and a new
run is started with the message history and `DeferredToolResults`.
"""

from __future__ import annotations

from typing import Any

from pydantic_ai import (
    Agent,
    ApprovalRequired,
    DeferredToolRequests,
    DeferredToolResults,
    RunContext,
    Tool,
    ToolDenied,
)
from pydantic_ai.messages import ModelMessagesTypeAdapter
from pydantic_ai.models.openai import OpenAIChatModel
from pydantic_ai.providers.openai import OpenAIProvider

from evals.effects import TOOLS
from evals.peers.conversation import Answers, Conversation, Kept


class PydanticAI(Conversation):
    """An agent of pydantic-ai whose history is kept as JSON."""

    async def run(self, kept: Kept, said: str | None, answers: Answers | None) -> Kept:
        history = ModelMessagesTypeAdapter.validate_json(kept.state) if kept.state else []
        results = None
        if answers is not None:
            approvals: dict[str, Any] = {
                call: True if why_not is None else ToolDenied(why_not)
                for call, why_not in answers.items()
            }
            results = DeferredToolResults(approvals=approvals)
        done = await self._agent().run(said, message_history=history, deferred_tool_results=results)
        waiting = done.output.approvals if isinstance(done.output, DeferredToolRequests) else []
        return self.kept(
            done.all_messages_json(),
            [(call.tool_name, call.args_as_dict(), call.tool_call_id) for call in waiting],
        )

    def _agent(self) -> Agent[None, str | DeferredToolRequests]:
        return Agent(
            OpenAIChatModel("evaluated", provider=OpenAIProvider(openai_client=self.client)),
            instructions=self.kit.prompt,
            tools=[self._tool(name) for name in self.tools],
            output_type=[str, DeferredToolRequests],
            retries=5,
        )

    def _tool(self, name: str) -> Tool[None]:
        async def call(ctx: RunContext[None], **arguments: Any) -> str:
            if name in TOOLS and not ctx.tool_call_approved:
                raise ApprovalRequired
            return await self.call(name, arguments, ctx.tool_call_id or "")

        words = self.tools[name].description
        return Tool.from_schema(call, name, words, self.schema(name), takes_ctx=True)
