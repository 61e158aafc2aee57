"""pydantic-ai: deferred tools that require approval.

Its documentation: a tool raises `ApprovalRequired`, the run ends with `DeferredToolRequests`, and a new
run is started with the message history and `DeferredToolResults`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, SystemMessage
from pydantic_ai import (
    Agent,
    ApprovalRequired,
    DeferredToolRequests,
    DeferredToolResults,
    RunContext,
    Tool,
    ToolDenied,
)
from pydantic_ai.messages import (
    ModelMessage,
    ModelMessagesTypeAdapter,
    ModelRequest,
    ModelResponse,
    RetryPromptPart,
    TextPart,
    ToolCallPart,
    ToolReturnPart,
    UserPromptPart,
)
from pydantic_ai.models.function import AgentInfo, FunctionModel

from evals.peers.conversation import Conversation, Kept
from evals.wishes import TOOLS
from hms_active_rooms.tools.arguments import ARGUMENTS


class PydanticAI(Conversation):
    """An agent of pydantic-ai whose history is kept as JSON."""

    async def run(
        self, kept: Kept, said: str | None, answers: Mapping[str, str | None] | None
    ) -> Kept:
        history = ModelMessagesTypeAdapter.validate_json(kept.state) if kept.state else []
        results = None
        if answers is not None:
            approvals: dict[str, Any] = {
                call: True if why_not is None else ToolDenied(why_not)
                for call, why_not in answers.items()
            }
            results = DeferredToolResults(approvals=approvals)
        done = await self._agent().run(said, message_history=history, deferred_tool_results=results)
        messages = self._messages(done.all_messages())
        waiting = done.output.approvals if isinstance(done.output, DeferredToolRequests) else []
        return Kept(
            done.all_messages_json(),
            tuple(messages),
            tuple(
                self.question(c.tool_name, c.args_as_dict(), c.tool_call_id, messages)
                for c in waiting
            ),
        )

    def _agent(self) -> Agent[None, str | DeferredToolRequests]:
        return Agent(
            FunctionModel(self._say),
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

        schema = ARGUMENTS[name].model_json_schema() if name in ARGUMENTS else {"type": "object"}
        words = self.tools[name].description
        return Tool.from_schema(call, name, words, schema, takes_ctx=True)

    async def _say(self, history: list[ModelMessage], info: AgentInfo) -> ModelResponse:
        answer = await self.answer(self._messages(history))
        calls = [
            ToolCallPart(call["name"], call["args"], tool_call_id=call["id"] or "")
            for call in answer.tool_calls
        ]
        return ModelResponse([*([TextPart(answer.text)] if answer.text else []), *calls])

    def _messages(self, history: Sequence[ModelMessage]) -> list[BaseMessage]:
        found: list[BaseMessage] = []
        for message in history:
            if isinstance(message, ModelResponse):
                calls = [
                    {"name": p.tool_name, "args": p.args_as_dict(), "id": p.tool_call_id}
                    for p in message.parts
                    if isinstance(p, ToolCallPart)
                ]
                found.append(AIMessage(message.text or "", tool_calls=calls))
                continue
            assert isinstance(message, ModelRequest)
            for part in message.parts:
                match part:
                    case UserPromptPart():
                        text = str(part.content)
                        # The framework's own note on a result is no word of the person's.
                        note = text.startswith("<system>")
                        found.append(SystemMessage(text) if note else HumanMessage(text))
                    case ToolReturnPart():
                        text = part.model_response_str()
                        found.append(self.result(text, part.tool_name, part.tool_call_id))
                    case RetryPromptPart():
                        text, name = part.model_response(), part.tool_name or ""
                        found.append(self.result(text, name, part.tool_call_id))
        return found
