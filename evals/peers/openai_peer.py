"""openai-agents: function tools with `needs_approval`.

Its documentation: the run is interrupted, `RunState` is serialized, loaded again, each interruption is
approved or rejected, and the run goes on from that state.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from agents import Agent, FunctionTool, Model, ModelResponse, RunConfig, Runner, RunState, Usage
from agents.items import ToolApprovalItem
from agents.tool_context import ToolContext
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage
from openai.types.responses import (
    ResponseFunctionToolCall,
    ResponseOutputMessage,
    ResponseOutputText,
)

from evals.peers.conversation import Conversation, Kept
from evals.wishes import TOOLS
from hms_active_rooms.tools.arguments import ARGUMENTS

MAX_TURNS = 60


class OpenAIAgents(Conversation):
    """An agent of openai-agents whose state is kept as JSON: a run's, or the input of the next."""

    async def run(
        self, kept: Kept, said: str | None, answers: Mapping[str, str | None] | None
    ) -> Kept:
        agent: Agent[Any] = Agent(
            name="moderator",
            instructions=self.kit.prompt,
            model=_Says(self),
            tools=[self._tool(name) for name in self.tools],
        )
        begin: Any
        if answers is None:
            earlier = json.loads(kept.state)["input"] if kept.state else []
            begin = [*earlier, {"role": "user", "content": said}]
        else:
            begin = await RunState.from_json(agent, json.loads(kept.state)["run"])
            for item in begin.get_interruptions():
                call = _call_id(item)
                if call not in answers:
                    continue
                if (why_not := answers[call]) is None:
                    begin.approve(item)
                else:
                    begin.reject(item, rejection_message=why_not)
        config = RunConfig(tracing_disabled=True)
        done = await Runner.run(agent, begin, max_turns=MAX_TURNS, run_config=config)
        items = done.to_input_list()
        messages = self.messages(items)
        state = {"input": items, "run": done.to_state().to_json() if done.interruptions else None}
        waiting = [
            self.question(item.name or "", json.loads(item.arguments or "{}"), call, messages)
            for item in done.interruptions
            for call in [_call_id(item)]
        ]
        return Kept(json.dumps(state), tuple(messages), tuple(waiting))

    def _tool(self, name: str) -> FunctionTool:
        async def invoke(context: ToolContext[Any], written: str) -> str:
            return await self.call(name, json.loads(written), context.tool_call_id)

        schema = ARGUMENTS[name].model_json_schema() if name in ARGUMENTS else {"type": "object"}
        return FunctionTool(
            name=name,
            description=self.tools[name].description,
            params_json_schema=schema,
            on_invoke_tool=invoke,
            strict_json_schema=False,
            needs_approval=name in TOOLS,
        )

    def messages(self, items: Sequence[Any]) -> list[BaseMessage]:
        found: list[BaseMessage] = []
        names: dict[str, str] = {}
        for item in items:
            match item:
                case {"type": "function_call"}:
                    names[item["call_id"]] = item["name"]
                    args = json.loads(item["arguments"])
                    call = {"name": item["name"], "args": args, "id": item["call_id"]}
                    last = found[-1]
                    before = last.tool_calls if isinstance(last, AIMessage) else []
                    if isinstance(last, AIMessage):
                        found.pop()
                    text = str(last.text) if isinstance(last, AIMessage) else ""
                    found.append(AIMessage(text, tool_calls=[*before, call]))
                case {"type": "function_call_output"}:
                    call_id, output = item["call_id"], str(item["output"])
                    found.append(self.result(output, names[call_id], call_id))
                case {"role": "user"}:
                    found.append(HumanMessage(str(item["content"])))
                case {"role": "assistant"}:
                    found.append(AIMessage("".join(part["text"] for part in item["content"])))
        return found


def _call_id(item: ToolApprovalItem) -> str:
    call = item.raw_item
    assert isinstance(call, ResponseFunctionToolCall), "all tools here are functions"
    return call.call_id


class _Says(Model):
    """The evaluated model as one of openai-agents."""

    def __init__(self, peer: OpenAIAgents) -> None:
        self._peer = peer

    async def get_response(
        self, system_instructions: str | None, input: str | list[Any], *_: Any, **__: Any
    ) -> ModelResponse:
        assert isinstance(input, list)
        answer = await self._peer.answer(self._peer.messages(input))
        output: list[Any] = [
            ResponseFunctionToolCall(
                type="function_call",
                name=call["name"],
                call_id=call["id"] or "",
                arguments=json.dumps(call["args"]),
            )
            for call in answer.tool_calls
        ]
        if answer.text or not output:
            text = ResponseOutputText(type="output_text", text=answer.text, annotations=[])
            output.insert(0, ResponseOutputMessage(id="m", type="message", role="assistant", status="completed", content=[text]))  # fmt: skip
        return ModelResponse(output=output, usage=Usage(), response_id=None)

    def stream_response(self, *_: Any, **__: Any) -> Any:
        # The class is abstract, so there must be one; `Runner.run` never calls it.
        raise NotImplementedError("runs are not streamed here")
