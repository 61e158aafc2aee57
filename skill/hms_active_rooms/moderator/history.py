"""Pure functions on the messages of a conversation: they find, delete and order messages."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from functools import partial
from typing import NamedTuple, cast
from uuid import uuid4

from langchain_core.messages import (
    AIMessage,
    AnyMessage,
    HumanMessage,
    InvalidToolCall,
    RemoveMessage,
    ToolCall,
    ToolMessage,
)

KEPT_TURNS = 20  # so many turns a conversation keeps; a turn begins with a message of the person
_SUPERSEDED = "This older answer was left out, since a newer one follows."


def this_turn(messages: Sequence[AnyMessage]) -> list[AnyMessage]:
    """Return the messages after the last one of the person; all messages if the person wrote none."""
    asked = [at for at, message in enumerate(messages) if isinstance(message, HumanMessage)]
    return list(messages[asked[-1] + 1 :] if asked else messages)


def pruned(messages: Sequence[AnyMessage], readers: Collection[str]) -> list[AnyMessage]:
    """Return updates for LangGraph's `add_messages` that shorten a conversation.

    They delete old turns. Of each tool in `readers`, a short text replaces all results but the newest.
    """
    asked = [at for at, message in enumerate(messages) if isinstance(message, HumanMessage)]
    cut = asked[-KEPT_TURNS] if len(asked) > KEPT_TURNS else 0
    updates: list[AnyMessage] = [
        cast(AnyMessage, RemoveMessage(id=message.id)) for message in messages[:cut] if message.id
    ]
    newest: set[str] = set()
    for message in reversed(messages[cut:]):
        if not isinstance(message, ToolMessage) or message.name not in readers:
            continue
        if message.name in newest and message.content != _SUPERSEDED:
            left_out = {"content": _SUPERSEDED, "artifact": None}
            updates.append(message.model_copy(update=left_out))
        newest.add(message.name or "")
    return updates


class Called(NamedTuple):
    """The newest model message that has tool calls, with the calls that have no result yet."""

    message: AIMessage
    calls: list[ToolCall]  # without a result so far
    unreadable: list[InvalidToolCall]  # without a result, and with arguments that are not JSON


def last_calls(messages: Sequence[AnyMessage]) -> Called | None:
    """Return the newest model message that has tool calls. Return None if no message has any."""
    for index, message in reversed([*enumerate(messages)]):
        if isinstance(message, AIMessage) and (message.tool_calls or message.invalid_tool_calls):
            answered = {m.tool_call_id for m in messages[index:] if isinstance(m, ToolMessage)}
            calls = [c for c in message.tool_calls if c["id"] not in answered]
            unreadable = [c for c in message.invalid_tool_calls if c["id"] not in answered]
            return Called(message, calls, [c for c in unreadable if c["id"]])
    return None


def failed_calls(messages: Sequence[AnyMessage]) -> list[tuple[AIMessage, ToolCall]]:
    """Return pairs (model message, tool call): the calls that failed in the turn before the last message."""
    turn = this_turn(messages[:-1])
    failed = {m.tool_call_id for m in turn if isinstance(m, ToolMessage) and m.status == "error"}
    called = [(m, call) for m in turn if isinstance(m, AIMessage) for call in m.tool_calls]
    return [(message, call) for message, call in called if call["id"] in failed]


def refusals_in_a_row(messages: Sequence[AnyMessage]) -> int:
    """Return how many of the newest changes since the person's last message were rejected or expired, one
    after another."""
    count = 0
    for message in reversed(this_turn(messages)):
        if not isinstance(message, ToolMessage):
            continue
        state = message.artifact.get("state") if isinstance(message.artifact, dict) else None
        if state in ("rejected", "expired"):
            count += 1
        elif state is not None:
            break
    return count


def with_unique_call_ids(message: AIMessage, messages: Sequence[AnyMessage]) -> AIMessage:
    """Return `message` with new ids where ids are missing or are already used in `messages`."""
    # LangGraph lets a new message replace an older one with the same id.
    seen: set[str | None] = {
        call["id"]
        for m in messages
        if isinstance(m, AIMessage)
        for call in [*m.tool_calls, *m.invalid_tool_calls]
    }

    def fresh(call_id: str | None) -> str:
        chosen = f"call_{uuid4().hex}" if not call_id or call_id in seen else call_id
        seen.add(chosen)
        return chosen

    calls = [ToolCall({**c, "id": fresh(c["id"])}) for c in message.tool_calls]
    invalid = [InvalidToolCall({**c, "id": fresh(c["id"])}) for c in message.invalid_tool_calls]
    update: dict[str, object] = {}
    if not message.id or message.id in {m.id for m in messages}:
        update["id"] = str(uuid4())
    if calls != message.tool_calls or invalid != message.invalid_tool_calls:
        # Only the text, since the provider's raw content has the old ids.
        update |= {"tool_calls": calls, "invalid_tool_calls": invalid}
        update |= {"content": message.text, "additional_kwargs": {}}
    return message.model_copy(update=update) if update else message


def for_model(messages: Sequence[AnyMessage]) -> list[AnyMessage]:
    """Return the messages in the order that model providers accept: each tool result right after its call.
    A call without a result gets an error result."""
    results = {m.tool_call_id: m for m in messages if isinstance(m, ToolMessage)}
    unknown = partial(ToolMessage, "No result is known.", status="error")
    ordered: list[AnyMessage] = []
    for message in messages:
        if isinstance(message, ToolMessage):
            continue
        ordered.append(message)
        if isinstance(message, AIMessage):
            ids = [c["id"] for c in [*message.tool_calls, *message.invalid_tool_calls] if c["id"]]
            ordered += [results.get(call_id) or unknown(tool_call_id=call_id) for call_id in ids]
    return ordered
