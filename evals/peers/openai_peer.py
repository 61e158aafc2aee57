"""openai-agents: function tools with `needs_approval`.

Its documentation: the run is interrupted, `RunState` is serialized, loaded again, each interruption is
approved or rejected, and the run goes on from that state.
"""

from __future__ import annotations

import json
from typing import Any

from agents import (
    Agent,
    FunctionTool,
    OpenAIChatCompletionsModel,
    RunConfig,
    Runner,
    RunState,
)
from agents.tool_context import ToolContext

from evals.effects import TOOLS
from evals.peers.conversation import Answers, Conversation, Kept

MAX_TURNS = 60


class OpenAIAgents(Conversation):
    """An agent of openai-agents whose state is kept as JSON: a run's, or the input of the next."""

    async def run(self, kept: Kept, said: str | None, answers: Answers | None) -> Kept:
        agent: Agent[Any] = Agent(
            name="moderator",
            instructions=self.kit.prompt,
            model=OpenAIChatCompletionsModel("evaluated", self.client),
            tools=[self._tool(name) for name in self.tools],
        )
        begin: Any
        if answers is None:
            earlier = json.loads(kept.state)["input"] if kept.state else []
            begin = [*earlier, {"role": "user", "content": said}]
        else:
            begin = await RunState.from_json(agent, json.loads(kept.state)["run"])
            for item in begin.get_interruptions():
                if (call := item.call_id or "") not in answers:
                    continue
                if (why_not := answers[call]) is None:
                    begin.approve(item)
                else:
                    begin.reject(item, rejection_message=why_not)
        config = RunConfig(tracing_disabled=True)
        done = await Runner.run(agent, begin, max_turns=MAX_TURNS, run_config=config)
        run = done.to_state().to_json() if done.interruptions else None
        return self.kept(
            json.dumps({"input": done.to_input_list(), "run": run}),
            [
                (item.name or "", json.loads(item.arguments or "{}"), item.call_id or "")
                for item in done.interruptions
            ],
        )

    def _tool(self, name: str) -> FunctionTool:
        async def invoke(context: ToolContext[Any], written: str) -> str:
            return await self.call(name, json.loads(written), context.tool_call_id)

        return FunctionTool(
            name=name,
            description=self.tools[name].description,
            params_json_schema=self.schema(name),
            on_invoke_tool=invoke,
            strict_json_schema=False,
            needs_approval=name in TOOLS,
        )
