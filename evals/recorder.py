"""Every message a model was given and gave during a run, through LangChain's callbacks."""

from __future__ import annotations

import json
from functools import lru_cache
from typing import Any

from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.messages import AIMessage, BaseMessage, ToolCall
from langchain_core.outputs import ChatGeneration, LLMResult
from langchain_core.utils.function_calling import convert_to_openai_tool

from hms_active_rooms.tokens import token_bound
from hms_active_rooms.tools.arguments import ARGUMENTS

_bound = lru_cache(maxsize=8192)(token_bound)


class Recorder(BaseCallbackHandler):
    """Counts and keeps.

    Attributes:
        answers: the model's messages, in order.
        tokens: upper bound of what it read and wrote.
    """

    run_inline = True

    def __init__(self) -> None:
        self.answers: list[AIMessage] = []
        self.tokens = 0
        self.dollars = 0.0

    def on_chat_model_start(
        self, serialized: dict[str, Any], messages: list[list[BaseMessage]], **kwargs: Any
    ) -> None:
        self.tokens += _schema_tokens() + sum(_cost(m) for batch in messages for m in batch)

    def on_llm_end(self, response: LLMResult, **kwargs: Any) -> None:
        for generations in response.generations:
            for generation in generations:
                if isinstance(generation, ChatGeneration) and isinstance(
                    generation.message, AIMessage
                ):
                    self.answers.append(generation.message)
                    self.tokens += _cost(generation.message)
                    self.dollars += generation.message.response_metadata.get("dollars") or 0.0

    @property
    def calls(self) -> list[ToolCall]:
        return [call for answer in self.answers for call in answer.tool_calls]


@lru_cache
def _schema_tokens() -> int:
    return sum(_bound(json.dumps(convert_to_openai_tool(model))) for model in ARGUMENTS.values())


def _cost(message: BaseMessage) -> int:
    calls = message.tool_calls if isinstance(message, AIMessage) else []
    return _bound(str(message.content)) + sum(_bound(json.dumps(c["args"])) for c in calls)
