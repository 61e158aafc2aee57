"""Chat models that say what a test or a scenario tells them, and message shapes for them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from langchain_core.language_models import BaseChatModel, LanguageModelInput
from langchain_core.messages import AIMessage, BaseMessage
from langchain_core.outputs import ChatGeneration, ChatResult
from langchain_core.runnables import Runnable
from langchain_core.tools import BaseTool

Script = Callable[[list[BaseMessage]], AIMessage]


class ScriptedModel(BaseChatModel):
    """Answers with the script's next message; the last one again and again."""

    script: Script

    @classmethod
    def saying(cls, *messages: AIMessage) -> ScriptedModel:
        """A model that says these, one a turn, counted by its own messages so far."""

        def say(history: list[BaseMessage]) -> AIMessage:
            said = sum(isinstance(m, AIMessage) for m in history)
            return messages[min(said, len(messages) - 1)].model_copy()

        return cls(script=say)

    def _generate(self, messages: list[BaseMessage], *_: Any, **__: Any) -> ChatResult:
        return ChatResult(generations=[ChatGeneration(message=self.script(messages))])

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
        return "scripted"


def calls(*wanted: tuple[str, dict[str, Any]], prefix: str = "c") -> AIMessage:
    tool_calls = [
        {"name": name, "args": args, "id": f"{prefix}{n}", "type": "tool_call"}
        for n, (name, args) in enumerate(wanted)
    ]
    return AIMessage("", tool_calls=tool_calls)


def text(words: str) -> AIMessage:
    return AIMessage(words)
