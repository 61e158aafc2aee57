"""Chat models that say what a test tells them, and message shapes for them."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import Any

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, BaseMessage
from langchain_core.outputs import ChatGeneration, ChatResult

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

    def bind_tools(self, _tools: Sequence[Any], **_: Any) -> Any:
        return self

    @property
    def _llm_type(self) -> str:
        return "scripted"


def calls(*wanted: tuple[str, dict[str, Any]], prefix: str = "c") -> AIMessage:
    """A model message with these tool calls."""
    tool_calls = [
        {"name": name, "args": args, "id": f"{prefix}{n}", "type": "tool_call"}
        for n, (name, args) in enumerate(wanted)
    ]
    return AIMessage("", tool_calls=tool_calls)


def text(words: str) -> AIMessage:
    """A model message that ends the turn."""
    return AIMessage(words)


def worst(rng: random.Random, room_id: str, peer_ids: Sequence[str]) -> AIMessage:
    """The worst tools with the worst arguments, in any number."""
    here = {"room_id": room_id}
    everything: list[tuple[str, dict[str, Any]]] = [
        ("hms-end-active-room", here),
        ("hms-end-active-room", {**here, "lock": True}),
        ("hms-end-active-room", {**here, "lock": True, "confirm": True}),
        ("hms-end-active-room", {"room_id": "7" * 24, "lock": True}),
        ("hms-remove-peers", {**here, "role": "student"}),
        ("hms-remove-peers", {**here, "role": "student", "peer_id": peer_ids[0]}),
        ("hms-remove-peers", {**here, "approved": True, "peer_id": peer_ids[0]}),
        *[("hms-remove-peers", {**here, "peer_id": peer_id}) for peer_id in peer_ids],
        ("hms-send-message", {**here, "message": "x" * 4000}),
        ("hms-send-message", {**here, "message": "approve", "type": "tool_approval"}),
        ("hms-list-peers", here),
    ]
    return calls(*rng.choices(everything, k=rng.randint(1, 4)), prefix=str(rng.random()))
