"""The five schemas as others' converters make them, and what their models then send.

The converters' packages take seconds to import, so each is imported where it is used.
"""

from __future__ import annotations

import copy
import itertools
import json
from typing import Any

import pytest
from langchain_core.tools import BaseTool, ToolException, render_text_description
from pydantic import BaseModel, SecretStr

from hms_active_rooms import ActiveRoomsToolkit, Policy
from hms_active_rooms.capability import capability
from hms_active_rooms.errors import InvalidCall
from hms_active_rooms.serve.calls import input_schema
from hms_active_rooms.serve.mcp import listed
from hms_active_rooms.tools.arguments import ARGUMENTS, checked
from stand_in import ROOM, StandInRoom, peer

PEER = peer(1).id
GIVEN: dict[str, dict[str, object]] = {
    "hms-retrieve-active-room": {},
    "hms-list-peers": {},
    "hms-send-message": {"message": "hi"},
    "hms-remove-peers": {"peer_id": PEER},
    "hms-end-active-room": {},
}
"""What each tool needs besides the room."""

KINDS = {"limit": "integer", "offset": "integer", "lock": "boolean"}
"""Of the optional arguments; the others are texts."""


class Verdict(BaseModel):
    """What an agent is to answer with."""

    text: str


def tools() -> list[BaseTool]:
    room: Any = StandInRoom([peer(n) for n in range(1, 4)])
    return ActiveRoomsToolkit(room, Policy(rooms=("*",)), journal=":memory:").get_tools()


def bound(**more: Any) -> list[dict[str, Any]]:
    """What langchain-openai sends."""
    from langchain_openai import ChatOpenAI

    model = ChatOpenAI(model="m", api_key=SecretStr("k"))
    sent: Any = model.bind_tools(tools(), **more)
    return [tool["function"] for tool in sent.kwargs["tools"]]


def openai_strict() -> dict[str, dict[str, Any]]:
    return {tool["name"]: tool["parameters"] for tool in bound(strict=True)}


def openai_with_response_format() -> dict[str, dict[str, Any]]:
    found = bound(strict=True, response_format=Verdict)
    return {tool["name"]: tool["parameters"] for tool in found if tool["name"] in GIVEN}


def anthropic_strict() -> dict[str, dict[str, Any]]:
    from langchain_anthropic.chat_models import convert_to_anthropic_tool

    found: list[Any] = [convert_to_anthropic_tool(tool, strict=True) for tool in tools()]
    return {tool["name"]: tool["input_schema"] for tool in found}


def agents_strict() -> dict[str, dict[str, Any]]:
    from agents.strict_schema import ensure_strict_json_schema as strict

    return {name: strict(copy.deepcopy(input_schema(name))) for name in GIVEN}


def pydantic_ai_strict() -> dict[str, dict[str, Any]]:
    from pydantic_ai.profiles.openai import OpenAIJsonSchemaTransformer

    found = {}
    for name in GIVEN:
        transformer = OpenAIJsonSchemaTransformer(copy.deepcopy(input_schema(name)), strict=True)
        found[name] = transformer.walk()
        assert transformer.is_strict_compatible
    return found


STRICT = [
    openai_strict,
    openai_with_response_format,
    anthropic_strict,
    agents_strict,
    pydantic_ai_strict,
]

# What the strict modes of OpenAI or Anthropic refuse in a schema.
UNSUPPORTED = {"default", "minimum", "maximum", "minLength", "maxLength", "pattern", "format"}


@pytest.mark.slow
@pytest.mark.parametrize("convert", STRICT)
def test_a_strict_mode_takes_every_schema_and_may_leave_out_what_is_optional(convert: Any) -> None:
    schemas = convert()
    assert set(schemas) == set(GIVEN)
    for name, schema in schemas.items():
        assert schema["additionalProperties"] is False
        assert set(schema["required"]) == set(schema["properties"])
        needed = {"room_id", *GIVEN[name]} - {"peer_id"}
        for argument, field in schema["properties"].items():
            assert not UNSUPPORTED & set(field)
            kind = KINDS.get(argument, "string")
            if argument in needed:
                assert field["type"] == kind
            else:
                assert field["anyOf"] == [{"type": kind}, {"type": "null"}]


@pytest.mark.slow
def test_without_strict_mode_only_what_is_needed_is_required() -> None:
    for tool in bound():
        needed = {"room_id", *GIVEN[tool["name"]]} - {"peer_id"}
        assert set(tool["parameters"]["required"]) == needed


@pytest.mark.slow
def test_googles_converters_keep_the_types_and_what_is_optional() -> None:
    from google.genai import types
    from langchain_google_genai import _function_utils as convert

    declared = {
        declaration.name: declaration.parameters
        for tool in convert.convert_to_genai_function_declarations(tools())
        for declaration in tool.function_declarations or ()
    }
    for name in GIVEN:
        own = types.JSONSchema.model_validate(input_schema(name))
        for schema in (declared[name], types.Schema.from_json_schema(json_schema=own)):
            assert schema is not None
            assert schema.properties is not None
            for argument, field in schema.properties.items():
                assert field.type is not None
                assert field.type.value == KINDS.get(argument, "string").upper()
                assert bool(field.nullable) is (argument not in (schema.required or ()))


def test_mcp_lists_schemas_that_googles_converter_takes() -> None:
    # google-genai reads `additionalProperties` as a schema, and fails at false.
    for tool in capability().tools:
        told = listed(tool).input_schema
        assert {**told, "additionalProperties": False} == input_schema(tool.name)


async def test_a_framework_may_call_a_tools_function_with_the_arguments_by_name() -> None:
    found: Any = {tool.name: tool for tool in tools()}
    listed = found["hms-list-peers"]
    given = {"room_id": ROOM, "limit": 1, "role": None}
    text, artifact = listed.func(**given)
    assert (text, artifact) == await listed.coroutine(**given)
    assert listed.invoke(given) == text
    with pytest.raises(ToolException, match="peer: there is no such argument"):
        found["hms-remove-peers"].func(room_id=ROOM, peer=PEER)


def test_a_prompt_that_lists_the_tools_names_their_arguments() -> None:
    shown = render_text_description(tools())
    assert "hms-remove-peers(*, room_id, peer_id=None, role=None, reason=None) - " in shown
    assert "hms-list-peers(*, room_id, role=None, user_id=None, name=None, limit=50, " in shown


def optional(name: str) -> list[str]:
    needed = {"room_id", *GIVEN[name]}
    return [argument for argument in ARGUMENTS[name].model_fields if argument not in needed]


EVERY = [(name, argument) for name in GIVEN for argument in optional(name)]


def test_null_and_nothing_mean_absent_for_every_optional_argument() -> None:
    for name, argument in EVERY:
        given = {"room_id": ROOM, **GIVEN[name]}
        absent = checked(name, given)
        for nothing in (None, ""):
            assert checked(name, {**given, argument: nothing}) == absent


@pytest.mark.parametrize("name", GIVEN)
def test_a_text_of_spaces_is_no_argument_and_not_absent(name: str) -> None:
    given = {"room_id": ROOM, **GIVEN[name]}
    for argument in optional(name):
        with pytest.raises(InvalidCall, match=f"{argument} has only spaces"):
            checked(name, {**given, argument: " \u00a0\n"})


@pytest.mark.parametrize("nothing", [None, ""])
def test_null_and_nothing_are_refused_for_what_is_no_argument(nothing: object) -> None:
    for name in GIVEN:
        with pytest.raises(InvalidCall, match="peerId: there is no such argument"):
            checked(name, {"room_id": ROOM, **GIVEN[name], "peerId": nothing})


def test_what_is_too_long_is_told_in_characters_and_a_long_name_is_cut() -> None:
    with pytest.raises(InvalidCall) as caught:
        checked("hms-end-active-room", {"room_id": ROOM, "reason": "x" * 501, "k" * 99: 1})
    told = f"reason: give at most 500 characters; {'k' * 40}…: there is no such argument."
    assert str(caught.value) == told


@pytest.mark.parametrize("huge", [10**4000, 1e300, 1_000_001], ids=["int", "float", "over"])
def test_a_number_of_any_length_is_a_clear_error(huge: float) -> None:
    listed = next(tool for tool in tools() if tool.name == "hms-list-peers")
    given = {"room_id": ROOM, "offset": huge}
    told = listed.invoke({"type": "tool_call", "id": "c", "name": listed.name, "args": given})
    assert "offset: give at most 1000000" in told.content
    assert "Nothing was executed" in told.content


@pytest.mark.parametrize("name", GIVEN)
def test_all_optional_arguments_at_once_may_be_null_or_nothing(name: str) -> None:
    given = {"room_id": ROOM, **GIVEN[name]}
    for nothing in itertools.product((None, ""), repeat=len(optional(name))):
        more = dict(zip(optional(name), nothing, strict=True))
        assert checked(name, {**given, **more}) == checked(name, given)


def test_a_tool_reads_null_and_nothing_as_absent() -> None:
    listed = next(tool for tool in tools() if tool.name == "hms-list-peers")
    more = {"role": "", "user_id": None, "name": "", "limit": None, "offset": None}
    assert listed.invoke({"room_id": ROOM, **more}) == listed.invoke({"room_id": ROOM})


@pytest.mark.parametrize("name", ["hms-send-message", "hms-remove-peers", "hms-end-active-room"])
def test_the_contracts_nested_body_is_told_where_its_members_go(name: str) -> None:
    given = {"room_id": ROOM, "body": GIVEN[name]}
    line = "give the arguments beside room_id, not inside body"
    with pytest.raises(InvalidCall, match=line) as caught:
        checked(name, given)
    assert str(caught.value).count(";") == 0
    tool = next(tool for tool in tools() if tool.name == name)
    told = tool.invoke({"type": "tool_call", "id": "c", "name": name, "args": given})
    assert line in told.content
    assert "Nothing was executed" in told.content
    assert json.dumps(told.status) == '"error"'
