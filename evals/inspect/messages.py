"""Chat messages, tools and tool calls between LangChain and inspect-ai, both ways. Pure."""

from __future__ import annotations

from collections.abc import Container, Sequence
from contextlib import suppress
from typing import Any, Final

from inspect_ai.model import (
    ChatMessage,
    ChatMessageAssistant,
    ChatMessageSystem,
    ChatMessageTool,
    ChatMessageUser,
    Content,
    ContentReasoning,
    ContentText,
    ModelUsage,
)
from inspect_ai.tool import ToolCall, ToolCallError, ToolChoice, ToolFunction, ToolInfo, ToolParams
from langchain_core.messages import (
    AIMessage,
    BaseMessage,
    HumanMessage,
    InvalidToolCall,
    SystemMessage,
    ToolMessage,
    UsageMetadata,
)
from langchain_core.messages import ToolCall as LangChainCall
from pydantic import TypeAdapter, ValidationError

_ARTIFACT: Final = "artifact"
"""Where a tool's full data travels: it is not for models, but the offline one reads rosters there."""

_UNREAD: Final = TypeAdapter(InvalidToolCall)

_KEPT: Final = "inspect"
"""Where the whole of what a model thought travels, signature included."""


def to_inspect(messages: Sequence[BaseMessage], with_data: bool = False) -> list[ChatMessage]:
    """LangChain's messages as inspect's.

    A call that could not be read is left out if nothing answered it: providers refuse a
    call without an answer."""
    answered = {m.tool_call_id for m in messages if isinstance(m, ToolMessage)}
    return [_to_inspect(message, answered, with_data) for message in messages]


def _to_inspect(
    message: BaseMessage, answered: Container[str | None], with_data: bool
) -> ChatMessage:
    match message:
        case SystemMessage():
            return ChatMessageSystem(content=message.text, id=message.id)
        case HumanMessage():
            return ChatMessageUser(content=message.text, id=message.id)
        case AIMessage():
            return said(message, answered)
        case ToolMessage():
            failed = message.status == "error"
            return ChatMessageTool(
                content=message.text,
                id=message.id,
                tool_call_id=message.tool_call_id,
                function=message.name,
                error=ToolCallError("unknown", message.text) if failed else None,
                metadata={_ARTIFACT: message.artifact} if with_data else None,
            )
    raise TypeError(f"no inspect message for {type(message).__name__}")


def said(message: AIMessage, answered: Container[str | None] | None = None) -> ChatMessageAssistant:
    """What a model said, as inspect's message."""
    calls = [
        ToolCall(id=c["id"] or "", function=c["name"], arguments=c["args"])
        for c in message.tool_calls
    ]
    calls += [
        ToolCall(
            id=call["id"] or "",
            function=call["name"] or "",
            arguments={},
            parse_error=_UNREAD.dump_json(call).decode(),
        )
        for call in message.invalid_tool_calls
        if answered is None or call["id"] in answered
    ]
    return ChatMessageAssistant(content=_thought(message), id=message.id, tool_calls=calls or None)


def _thought(message: AIMessage) -> str | list[Content]:
    """The text, behind what the model thought: some providers refuse their own call without it."""
    thoughts: list[Content] = []
    for block in message.content_blocks:
        if block["type"] == "reasoning":
            kept = block.get("extras", {}).get(_KEPT)
            plain = ContentReasoning(reasoning=block.get("reasoning", ""))
            thoughts.append(ContentReasoning.model_validate(kept) if kept else plain)
    return [*thoughts, ContentText(text=message.text)] if thoughts else message.text


def to_langchain(message: ChatMessage) -> BaseMessage:
    match message:
        case ChatMessageSystem():
            return SystemMessage(message.text, id=message.id)
        case ChatMessageUser():
            return HumanMessage(message.text, id=message.id)
        case ChatMessageAssistant():
            return assistant(message)
        case ChatMessageTool():
            return ToolMessage(
                message.error.message if message.error else message.text,
                id=message.id,
                tool_call_id=message.tool_call_id or "",
                name=message.function,
                status="error" if message.error else "success",
                artifact=(message.metadata or {}).get(_ARTIFACT),
            )


def assistant(message: ChatMessageAssistant, usage: ModelUsage | None = None) -> AIMessage:
    """What a model said, as LangChain's message; calls that could not be read stay apart."""
    calls = message.tool_calls or []
    content = message.content if isinstance(message.content, list) else []
    thoughts: list[str | dict[str, Any]] = [
        {"type": "reasoning", "reasoning": part.reasoning, "extras": {_KEPT: part.model_dump()}}
        for part in content
        if isinstance(part, ContentReasoning)
    ]
    return AIMessage(
        [*thoughts, {"type": "text", "text": message.text}] if thoughts else message.text,
        id=message.id,
        tool_calls=[
            LangChainCall(name=c.function, args=c.arguments, id=c.id, type="tool_call")
            for c in calls
            if c.parse_error is None
        ],
        invalid_tool_calls=[_unread(c) for c in calls if c.parse_error is not None],
        response_metadata={"dollars": usage.total_cost} if usage and usage.total_cost else {},
        usage_metadata=usage
        and UsageMetadata(
            input_tokens=usage.input_tokens,
            output_tokens=usage.output_tokens,
            total_tokens=usage.total_tokens,
        ),
    )


def _unread(call: ToolCall) -> InvalidToolCall:
    """With what was written, if it was us who made the error; else the provider's words."""
    with suppress(ValidationError):
        return _UNREAD.validate_json(call.parse_error or "")
    return InvalidToolCall(
        name=call.function, args=None, id=call.id, error=call.parse_error, type="invalid_tool_call"
    )


def tool_info(function: dict[str, Any]) -> ToolInfo:
    """A tool in OpenAI's shape as inspect's. What inspect's schemas cannot say is left out."""
    return ToolInfo(
        name=function["name"],
        description=function.get("description", ""),
        parameters=ToolParams.model_validate(function.get("parameters", {})),
    )


def tool_function(info: ToolInfo) -> dict[str, Any]:
    return {"type": "function", "function": info.model_dump(exclude={"options"}, exclude_none=True)}


def tool_choice(given: str | dict[str, Any] | bool | None) -> ToolChoice | None:
    match given:
        case None | False:
            return None
        case True | "any" | "required":
            return "any"
        case "auto" | "none":
            return given
        case str():
            return ToolFunction(name=given)
        case _:
            return ToolFunction(name=given["function"]["name"])


def chosen_tool(choice: ToolChoice) -> str | None:
    """The inverse of `tool_choice`; None leaves it to the model."""
    if isinstance(choice, ToolFunction):
        return choice.name
    return None if choice == "auto" else choice
