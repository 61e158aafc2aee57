"""Any model that inspect knows, as a LangChain chat model, so that it can stand in our agents."""

from __future__ import annotations

from typing import Any

from inspect_ai.model import GenerateConfig, Model
from langchain_core.messages import BaseMessage
from langchain_core.outputs import ChatResult
from langchain_core.utils.function_calling import convert_to_openai_tool
from pydantic import ConfigDict, PrivateAttr

from evals.chat import ToolChat, Tools, as_result
from evals.inspect.messages import assistant, to_inspect, tool_choice, tool_info


class InspectChat(ToolChat):
    """A LangChain chat model that asks an inspect model, so that inspect logs what it says.

    Attributes:
        failure: why the model could not be asked, if that happened. An agent may take it for
            something else; the run is worth nothing then.
    """

    model_config = ConfigDict(arbitrary_types_allowed=True)

    kind: str = "inspect"
    model: Model
    seed: int | None = None
    with_data: bool = False
    _failure: Exception | None = PrivateAttr(default=None)

    @property
    def failure(self) -> Exception | None:
        return self._failure

    async def _agenerate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        *_: Any,
        tools: Tools | None = None,
        chosen: str | None = None,
        **__: Any,
    ) -> ChatResult:
        infos = [tool_info(convert_to_openai_tool(tool)["function"]) for tool in tools or ()]
        config = GenerateConfig(stop_seqs=stop, seed=self.seed)
        try:
            output = await self.model.generate(
                to_inspect(messages, self.with_data), infos, tool_choice(chosen), config
            )
        except Exception as problem:
            self._failure = problem
            raise
        return as_result(assistant(output.message, output.usage))
