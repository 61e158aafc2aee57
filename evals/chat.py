"""Chat models that say what a function tells them. The bench runs them beside any version of ours."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from langchain_core.language_models import BaseChatModel, LanguageModelInput
from langchain_core.messages import AIMessage, BaseMessage
from langchain_core.outputs import ChatGeneration, ChatResult
from langchain_core.runnables import Runnable
from langchain_core.tools import BaseTool

Tool = dict[str, Any] | type | Callable[..., Any] | BaseTool
Tools = Sequence[Tool]


class ToolChat(BaseChatModel):
    """A chat model that says one thing at a time. A subclass brings `say`, or `_agenerate`."""

    kind: str

    def say(self, messages: list[BaseMessage], tools: Tools | None) -> AIMessage:
        """The answer; `tools` are those that were bound, None if that never happened."""
        raise NotImplementedError("this model is asynchronous: use ainvoke")

    def bind_tools(
        self, tools: Tools, *, tool_choice: str | None = None, **kwargs: Any
    ) -> Runnable[LanguageModelInput, AIMessage]:
        return self.bind(tools=tools, chosen=tool_choice, **kwargs)

    def _generate(
        self, messages: list[BaseMessage], *_: Any, tools: Tools | None = None, **__: Any
    ) -> ChatResult:
        return as_result(self.say(messages, tools))

    @property
    def _llm_type(self) -> str:
        return self.kind


def as_result(answer: AIMessage) -> ChatResult:
    return ChatResult(generations=[ChatGeneration(message=answer)])


class ScriptedModel(ToolChat):
    """Answers with the script's next message; the last one again and again."""

    kind: str = "scripted"
    script: Callable[[list[BaseMessage]], AIMessage]

    @classmethod
    def saying(cls, *messages: AIMessage) -> ScriptedModel:
        """A model that says these, one a turn, counted by its own messages so far."""

        def say(history: list[BaseMessage]) -> AIMessage:
            said = sum(isinstance(m, AIMessage) for m in history)
            return messages[min(said, len(messages) - 1)].model_copy()

        return cls(script=say)

    def say(self, messages: list[BaseMessage], tools: Tools | None) -> AIMessage:
        return self.script(messages)


def calls(*wanted: tuple[str, dict[str, Any]], prefix: str = "c") -> AIMessage:
    tool_calls = [
        {"name": name, "args": args, "id": f"{prefix}{n}", "type": "tool_call"}
        for n, (name, args) in enumerate(wanted)
    ]
    return AIMessage("", tool_calls=tool_calls)
