"""The offline chat model `commands`. It turns plain sentences into tool calls by a grammar."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from langchain_core.callbacks import CallbackManagerForLLMRun
from langchain_core.language_models import BaseChatModel, LanguageModelInput
from langchain_core.messages import AIMessage, BaseMessage
from langchain_core.outputs import ChatGeneration, ChatResult
from langchain_core.runnables import Runnable
from langchain_core.tools import BaseTool
from langchain_core.utils.function_calling import convert_to_openai_tool
from pydantic import field_validator

from hms_active_rooms.api.ids import parse_room_id
from hms_active_rooms.moderator.offline.steps import next_step
from hms_active_rooms.moderator.offline.turns import TOOLS
from hms_active_rooms.moderator.offline.words import CAPABILITIES_TEXT

__all__ = ["CAPABILITIES_TEXT", "CommandsModel", "next_step"]


class CommandsModel(BaseChatModel):
    """A chat model that turns plain English sentences of a moderator into tool calls, without a network.

    The same messages give the same reply. If a sentence gives no order, the model calls no tool that
    changes the room. After `bind_tools`, the model calls only the bound tools.

    Args:
        room_id: the room of the conversation. If None, the person's sentence or a line "Room: <id>" in a
            system message has to name the room.

    Raises ValidationError if `room_id` is not a room id.
    """

    room_id: str | None = None

    @field_validator("room_id")
    @classmethod
    def _checked(cls, value: str | None) -> str | None:
        return None if value is None else parse_room_id(value)

    @property
    def _llm_type(self) -> str:
        return "commands"

    @property
    def _identifying_params(self) -> dict[str, Any]:
        return {"model_name": "commands", "room_id": self.room_id}

    def bind_tools(
        self,
        tools: Sequence[dict[str, Any] | type | Callable[..., Any] | BaseTool],
        *,
        tool_choice: str | None = None,
        **kwargs: Any,
    ) -> Runnable[LanguageModelInput, AIMessage]:
        """Return a model that calls only these tools. `tool_choice` is ignored."""
        return self.bind(tools=[convert_to_openai_tool(tool) for tool in tools], **kwargs)

    def _generate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        tools = kwargs.get("tools")
        bound = TOOLS if tools is None else frozenset(tool["function"]["name"] for tool in tools)
        answer = next_step(messages, self.room_id, bound)
        return ChatResult(generations=[ChatGeneration(message=answer)])
