"""A conversation with an agent that is no LangGraph graph, behind the part of a graph the runner uses."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import httpx2
from langchain_core.messages import (
    AIMessage,
    BaseMessage,
    HumanMessage,
    SystemMessage,
    ToolMessage,
    convert_to_messages,
    convert_to_openai_messages,
)
from langchain_core.tools import BaseTool
from langgraph.types import Command, Interrupt
from openai import AsyncOpenAI

from evals.agents import Kit, described, seen
from evals.disturbing import CrashingSaver
from hms_active_rooms.tools.arguments import ARGUMENTS

Answers = Mapping[str, str | None]
"""By call id: None for a yes, else why not."""


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
    """Says, asks, goes on. A subclass brings `run`.

    Attributes:
        client: the evaluated model, as a client of OpenAI's: every framework takes one.
        messages: the conversation as the framework last told it to the model, and what came after.
    """

    def __init__(self, kit: Kit, tools: Sequence[BaseTool], saver: CrashingSaver) -> None:
        self.kit, self.tools = kit, {tool.name: tool for tool in tools}
        self._kept: list[Kept] = saver.kept
        self._keep = saver.keep
        self._artifacts: dict[str, Any] = saver.artifacts
        self._model = kit.model.bind_tools(list(tools))
        http = httpx2.AsyncClient(transport=httpx2.MockTransport(self._answer))
        self.client = AsyncOpenAI(api_key="none", max_retries=0, http_client=http)

    @abstractmethod
    async def run(self, kept: Kept, said: str | None, answers: Answers | None) -> Kept:
        """Go on from what was kept to the next question or the end."""

    async def ainvoke(self, given: Any, config: Mapping[str, Any]) -> Any:
        self._callbacks = config.get("callbacks")
        place = config["configurable"].get("place")
        kept = await self.aget_state(config) if place is None else self._kept[place]
        self.messages: list[BaseMessage] = [*kept.messages]
        self._said = {m.text for m in kept.messages if isinstance(m, HumanMessage)}
        if isinstance(given, Command) and kept.interrupts:
            answers = {
                call: None if answer["type"] == "approve" else str(answer.get("message", "no"))
                for call, answer in dict(given.resume or {}).items()
            }
            self._keep(await self.run(kept, None, answers))
        elif isinstance(given, dict):
            said = given["messages"][-1].text
            self._said.add(said)
            self._keep(await self.run(kept, said, None))
        # Else nothing waits for an answer, or a question goes on waiting: it was kept, its answer not.

    async def aget_state(self, config: Mapping[str, Any]) -> Kept:
        return self._kept[-1] if self._kept else Kept(None)

    async def aget_state_history(self, config: Mapping[str, Any]) -> AsyncIterator[Kept]:
        for kept in reversed(self._kept):
            yield kept

    async def _answer(self, request: httpx2.Request) -> httpx2.Response:
        """What the model says to a chat completion."""
        self.messages = list(self._told(json.loads(request.content)["messages"]))
        told = [SystemMessage(self.kit.prompt), *self.messages]
        answer = await self._model.ainvoke(told, {"callbacks": self._callbacks})
        assert isinstance(answer, AIMessage)
        self.messages.append(answer)
        said = convert_to_openai_messages(answer)
        choice = {"index": 0, "finish_reason": "stop", "message": said}
        whole = {"id": "1", "object": "chat.completion", "created": 0, "model": "evaluated"}
        return httpx2.Response(200, json={**whole, "choices": [choice]})

    def _told(self, given: list[dict[str, Any]]) -> Iterator[BaseMessage]:
        """The messages of a request, without the prompt; a framework's own words are not the person's."""
        names: dict[str | None, str] = {}
        for message in convert_to_messages(given):
            if isinstance(message, AIMessage):
                names |= {call["id"]: call["name"] for call in message.tool_calls}
                yield AIMessage(message.text, tool_calls=message.tool_calls)
            elif isinstance(message, ToolMessage):
                call_id = message.tool_call_id
                yield self._result(message.text, names.get(call_id, ""), call_id)
            elif isinstance(message, HumanMessage):
                yield message if message.text in self._said else SystemMessage(message.text)

    async def call(self, name: str, arguments: dict[str, Any], call_id: str) -> str:
        """What the tool says; its data stays beside the conversation."""
        call = {"name": name, "args": arguments, "id": call_id, "type": "tool_call"}
        done: ToolMessage = await self.tools[name].ainvoke(call)
        self._artifacts[call_id] = done.artifact
        self.messages.append(self._result(done.text, name, call_id))
        return str(done.text)

    def _result(self, text: str, name: str, call_id: str) -> ToolMessage:
        data = self._artifacts.get(call_id)
        return ToolMessage(text, name=name, tool_call_id=call_id, artifact=data)

    def schema(self, name: str) -> dict[str, Any]:
        return ARGUMENTS[name].model_json_schema() if name in ARGUMENTS else {"type": "object"}

    def kept(self, state: Any, waiting: Iterable[tuple[str, dict[str, Any], str]]) -> Kept:
        """What is to be kept: waiting calls are shown as they are, and whom the model saw by that id."""
        asked = []
        for name, arguments, call_id in waiting:
            text = described(name, arguments, seen(self.messages))
            value = {"name": name, "args": arguments, "description": text}
            asked.append(Interrupt(value, id=call_id))
        return Kept(state, tuple(self.messages), tuple(asked))
