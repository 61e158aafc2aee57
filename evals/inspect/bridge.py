"""Any model that inspect knows, as a LangChain chat model, so that it can stand in our agents."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from inspect_ai.model import GenerateConfig, Model
from inspect_ai.tool import ToolChoice, ToolInfo
from langchain_core.callbacks import AsyncCallbackManagerForLLMRun, CallbackManagerForLLMRun
from langchain_core.language_models import BaseChatModel, LanguageModelInput
from langchain_core.messages import AIMessage, BaseMessage
from langchain_core.outputs import ChatGeneration, ChatResult
from langchain_core.runnables import Runnable
from langchain_core.tools import BaseTool
from langchain_core.utils.function_calling import convert_to_openai_tool
from pydantic import ConfigDict, PrivateAttr

from evals.inspect.messages import assistant, to_inspect, tool_info
from evals.inspect.messages import tool_choice as inspect_choice


class InspectChat(BaseChatModel):
    """A LangChain chat model that asks an inspect model, so that inspect logs what it says.

    Attributes:
        failure: why the model could not be asked, if that happened. An agent may take it for
            something else; the run is worth nothing then.
    """

    model_config = ConfigDict(arbitrary_types_allowed=True)

    model: Model
    seed: int | None = None
    with_data: bool = False
    _failure: Exception | None = PrivateAttr(default=None)

    @property
    def failure(self) -> Exception | None:
        return self._failure

    @property
    def _llm_type(self) -> str:
        return "inspect"

    def bind_tools(
        self,
        tools: Sequence[dict[str, Any] | type | Callable[..., Any] | BaseTool],
        *,
        tool_choice: str | None = None,
        **kwargs: Any,
    ) -> Runnable[LanguageModelInput, AIMessage]:
        infos = [tool_info(convert_to_openai_tool(tool)["function"]) for tool in tools]
        return self.bind(tool_infos=infos, chosen=inspect_choice(tool_choice), **kwargs)

    async def _agenerate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        *,
        tool_infos: Sequence[ToolInfo] = (),
        chosen: ToolChoice | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        config = GenerateConfig(stop_seqs=stop, seed=self.seed)
        try:
            output = await self.model.generate(
                to_inspect(messages, self.with_data), list(tool_infos), chosen, config
            )
        except Exception as problem:
            self._failure = problem
            raise
        answer = assistant(output.message, output.usage)
        return ChatResult(generations=[ChatGeneration(message=answer)])

    def _generate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        raise NotImplementedError("inspect's models are asynchronous: use ainvoke")
