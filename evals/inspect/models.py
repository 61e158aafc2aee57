"""Models between LangChain and inspect, both ways.

`EvalModels` are ours behind inspect's model interface: `hms/commands`, `hms/gullible`, and so on; also
any LangChain model by its `provider:model` name, as `hms/openai:gpt-5`. Nothing is downloaded, tokens
are those the model tells. `InspectChat` is any model that inspect knows, so that it can stand in our
agents.
"""

from __future__ import annotations

import asyncio
import re
from typing import Any, Final

from inspect_ai.model import (
    ChatCompletionChoice,
    ChatMessage,
    ChatMessageSystem,
    GenerateConfig,
    Model,
    ModelAPI,
    ModelOutput,
    ModelUsage,
    modelapi,
)
from inspect_ai.tool import ToolChoice, ToolInfo
from langchain_core.language_models import LanguageModelInput
from langchain_core.messages import AIMessage, BaseMessage
from langchain_core.outputs import ChatResult
from langchain_core.runnables import Runnable
from langchain_core.runnables.config import set_config_context
from langchain_core.utils.function_calling import convert_to_openai_tool
from pydantic import ConfigDict, PrivateAttr

from evals.chat import ToolChat, as_result
from evals.inspect.messages import (
    assistant,
    chosen_tool,
    said,
    to_inspect,
    to_langchain,
    tool_function,
    tool_info,
)
from evals.inspect.messages import (
    tool_choice as as_choice,
)
from evals.models import OFFLINE, eval_model
from evals.models.local import LOCAL

PREFIX: Final = "hms"
_ROOM: Final = re.compile(r"\bRoom: ([0-9a-f]{24})\b")
_ANY_ROOM: Final = "0" * 24


class NoRoomError(ValueError):
    """An offline model was asked without being told its room."""


@modelapi(name=PREFIX)
class EvalModels(ModelAPI):
    def __init__(
        self,
        model_name: str,
        base_url: str | None = None,
        api_key: str | None = None,
        config: GenerateConfig = GenerateConfig(),  # noqa: B008 - inspect's own signature
        **model_args: Any,
    ) -> None:
        super().__init__(model_name, base_url, api_key, [], config)
        found = eval_model(model_name, room_id=_ANY_ROOM, seed=0)
        self._real = None if model_name in OFFLINE else found

    async def generate(
        self,
        input: list[ChatMessage],
        tools: list[ToolInfo],
        tool_choice: ToolChoice,
        config: GenerateConfig,
    ) -> ModelOutput:
        """The model's answer."""
        chat = self._real or eval_model(
            self.model_name, room_id=self._room(input), seed=config.seed or 0
        )
        model: Runnable[LanguageModelInput, AIMessage] = chat
        if tools or self.model_name in OFFLINE:
            model = chat.bind_tools(
                [tool_function(tool) for tool in tools], tool_choice=chosen_tool(tool_choice)
            )
        told = [to_langchain(message) for message in input]
        # In a context of its own: callbacks of an agent that asks us by way of inspect would
        # count this model's messages a second time.
        with set_config_context({}) as context:
            answer = await asyncio.create_task(model.ainvoke(told), context=context)
        message, used = said(answer), answer.usage_metadata
        message.model, message.source = self.model_name, "generate"
        return ModelOutput(
            model=self.model_name,
            choices=[
                ChatCompletionChoice(
                    message=message, stop_reason="tool_calls" if message.tool_calls else "stop"
                )
            ],
            # None, if the model does not tell.
            usage=used and ModelUsage.model_validate(used),
        )

    def _room(self, messages: list[ChatMessage]) -> str:
        told = [_ROOM.search(m.text) for m in messages if isinstance(m, ChatMessageSystem)]
        rooms = [match[1] for match in told if match]
        if not rooms:
            raise NoRoomError('a system message has to tell the room, in a line "Room: <id>"')
        return rooms[0]

    def max_connections(self) -> int:
        if self.model_name == LOCAL:
            return 1  # it answers one at a time
        return 4 if self.model_name in OFFLINE else super().max_connections()


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
        self, messages: list[BaseMessage], stop: list[str] | None = None, *_: Any, **given: Any
    ) -> ChatResult:
        """As `bind_tools` gives them: `tools`, and in `chosen` which of them."""
        infos = [
            tool_info(convert_to_openai_tool(tool)["function"]) for tool in given.get("tools") or ()
        ]
        config = GenerateConfig(stop_seqs=stop, seed=self.seed)
        try:
            output = await self.model.generate(
                to_inspect(messages, self.with_data), infos, as_choice(given.get("chosen")), config
            )
        except Exception as problem:
            self._failure = problem
            raise
        return as_result(assistant(output.message, output.usage))
