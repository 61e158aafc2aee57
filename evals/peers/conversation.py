"""A conversation with an agent that is no LangGraph graph, behind the part of a graph the runner uses."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from langchain_core.messages import AIMessage, BaseMessage, SystemMessage, ToolMessage
from langchain_core.tools import BaseTool
from langgraph.types import Command, Interrupt

from evals.agents import described, seen
from evals.disturbing import CrashingSaver


@dataclass(frozen=True)
class Kept:
    """What an application keeps of a conversation.

    Attributes:
        state: what the framework needs to go on, as it says to save it.
        messages: the conversation as LangChain's messages.
        interrupts: the calls that wait for a person, by call id.
    """

    state: Any
    messages: tuple[BaseMessage, ...] = ()
    interrupts: tuple[Interrupt, ...] = ()
    place: int = -1

    @property
    def values(self) -> dict[str, Any]:
        return {"messages": list(self.messages)}

    @property
    def config(self) -> dict[str, Any]:
        return {"configurable": {"place": self.place}}


class Conversation(ABC):
    """Says, asks, goes on. A subclass brings `run`."""

    def __init__(self, kit: Any, tools: Sequence[BaseTool], saver: CrashingSaver) -> None:
        self.kit = kit
        self.tools = {tool.name: tool for tool in tools}
        self._kept: list[Kept] = saver.kept
        self._keep = saver.keep
        self.artifacts: dict[str, Any] = saver.artifacts
        self._model = kit.model.bind_tools(list(tools))
        self._callbacks: Any = None

    @abstractmethod
    async def run(
        self, kept: Kept, said: str | None, answers: Mapping[str, str | None] | None
    ) -> Kept:
        """Go on from what was kept to the next question or the end."""

    async def ainvoke(self, given: Any, config: Mapping[str, Any]) -> Any:
        self._callbacks = config.get("callbacks")
        place = config["configurable"].get("place")
        kept = self._last() if place is None else self._kept[place]
        if isinstance(given, Command):
            if not kept.interrupts:
                return  # nothing waits for an answer
            answers = {
                call: None if answer["type"] == "approve" else str(answer.get("message", "no"))
                for call, answer in dict(given.resume or {}).items()
            }
            self._keep(await self.run(kept, None, answers))
        elif given is not None:
            self._keep(await self.run(kept, given["messages"][-1].text, None))
        # Without anything new a question that waits goes on waiting: it was kept, the answer was not.

    async def aget_state(self, config: Mapping[str, Any]) -> Kept:
        return self._last()

    async def aget_state_history(self, config: Mapping[str, Any]) -> AsyncIterator[Kept]:
        for kept in reversed(self._kept):
            yield kept

    def _last(self) -> Kept:
        return self._kept[-1] if self._kept else Kept(None)

    async def answer(self, messages: Sequence[BaseMessage]) -> AIMessage:
        told = [SystemMessage(self.kit.prompt), *messages]
        answer = await self._model.ainvoke(told, {"callbacks": self._callbacks})
        assert isinstance(answer, AIMessage)
        return answer

    async def call(self, name: str, arguments: dict[str, Any], call_id: str) -> str:
        """What the tool says; its data stays beside the conversation."""
        call = {"name": name, "args": arguments, "id": call_id, "type": "tool_call"}
        done: ToolMessage = await self.tools[name].ainvoke(call)
        self.artifacts[call_id] = done.artifact
        return str(done.text)

    def result(self, text: str, name: str, call_id: str) -> ToolMessage:
        artifact = self.artifacts.get(call_id)
        return ToolMessage(text, tool_call_id=call_id, name=name, artifact=artifact)

    def question(
        self, name: str, arguments: dict[str, Any], call_id: str, messages: Sequence[BaseMessage]
    ) -> Interrupt:
        """A call that waits: shown as it is, and whom the model saw by that id."""
        text = described(name, arguments, seen(messages))
        value = {"name": name, "args": arguments, "description": text}
        return Interrupt(value=value, id=call_id)
