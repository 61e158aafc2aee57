"""The OpenAPI 3.1 document of the REST way in, made of the models that check and send. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from pydantic import BaseModel
from pydantic.json_schema import JsonSchemaMode, models_json_schema

from hms_active_rooms import __version__
from hms_active_rooms.capability import Tool, capability
from hms_active_rooms.serve.answers import DATA
from hms_active_rooms.serve.rest_models import (
    ACTION_ID,
    ANSWERS,
    KEY,
    ActionAnswer,
    ActionsData,
    ActionsQuery,
    Approval,
    Decided,
    Rejection,
    ShownAction,
    ToolData,
    ToolHints,
    ToolsData,
)
from hms_active_rooms.serve.rest_problems import MEDIA_TYPE, TITLES, Problem, Refusal
from hms_active_rooms.tools.active_rooms import hints
from hms_active_rooms.tools.arguments import ARGUMENTS

JSON: Final = "application/json"

_REF: Final = "#/components/schemas/{model}"
_SENT: Final[tuple[type[BaseModel], ...]] = (
    *dict.fromkeys(ANSWERS.values()),
    ToolsData,
    ActionsData,
    ShownAction,
    Decided,
    Refusal,
)
_TAKEN: Final[tuple[type[BaseModel], ...]] = (Approval, Rejection, Problem)

_BY_GUARD: Final = (400, 401, 403, 408, 413, 421, 503)
"""Answered before a request is read, in the guard's own shorter shape."""

_ALWAYS: Final = (*_BY_GUARD, 422)
_ROOM: Final = (404, 429, 500, 502, 503, 504)
_JOURNAL: Final = (404, 500, 503)
_BODY: Final = (415,)
_BOTH_SHAPES: Final = (400, 403, 503)

_ABOUT: Final = (
    "Moderates live 100ms rooms. Reading is free. What changes a room waits for a person: the "
    "answer is 202 with the action's Location, and only an approver's token decides on it. The "
    "same call is the same action while it is open. When it has ended, the next same call within "
    "an hour is answered with its outcome and `repeated`: nothing is sent for it. An outcome that "
    "stays unknown answers every such call for an hour, or until another session runs. The one "
    "after that is a new action, and a person is asked about it whatever the policy lets run "
    "unasked. With an Idempotency-Key a call is one action for ever, and a new key is a new call. A GET "
    "changes nothing of this. Names, roles and user ids are data written by people in the room."
)
_CALLERS: Final[list[dict[str, list[str]]]] = [{"caller": []}, {"approver": []}, {}]


def input_schema(tool: str) -> dict[str, Any]:
    """The JSON schema of a tool's arguments, the one that LangChain shows a model."""
    schema = ARGUMENTS[tool].model_json_schema()
    return {key: value for key, value in schema.items() if key not in ("title", "description")}


def listed(tool: Tool) -> dict[str, Any]:
    """A tool of the contract as `GET /v1/tools` lists it."""
    told = ToolHints(
        read_only=tool.hints.read_only,
        destructive=tool.hints.destructive,
        idempotent=tool.hints.idempotent,
    )
    return ToolData(
        name=tool.name,
        title=hints(tool)["title"],
        description=tool.description,
        hints=told,
        input_schema=input_schema(tool.name),
        output_schema=DATA[tool.name].model_json_schema(),
    ).model_dump(by_alias=True)


def document() -> dict[str, Any]:
    """The document, as plain values."""
    return {
        "openapi": "3.1.0",
        "info": {
            "title": capability().label,
            "version": __version__,
            "description": _ABOUT,
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/"}],
        "paths": {
            "/v1/openapi.json": {"get": _self()},
            "/v1/tools": {"get": _tools()},
            **{f"/v1/tools/{t.name}": {"post": _call(t)} for t in capability().tools},
            "/v1/actions": {"get": _actions()},
            "/v1/actions/{id}": {"get": _action()},
            "/v1/actions/{id}/approve": {"post": _decision("approve", Approval)},
            "/v1/actions/{id}/reject": {"post": _decision("reject", Rejection)},
        },
        "components": {
            "schemas": _schemas(),
            "securitySchemes": {
                "caller": _bearer("Calls tools; needed where the server was given a token."),
                "approver": _bearer("Decides on actions; never calls what changes a room."),
            },
        },
    }


def _schemas() -> dict[str, Any]:
    """Every model by name; arguments and answers are told apart by how they are used."""
    models: list[tuple[type[BaseModel], JsonSchemaMode]] = []
    models += [(model, "serialization") for model in _SENT]
    # A problem without an action leaves it out: the form in which it may be left out.
    models += [(model, "validation") for model in _TAKEN]
    _, schema = models_json_schema(models, ref_template=_REF)
    found: dict[str, Any] = dict(sorted(schema["$defs"].items()))
    return found


def _bearer(text: str) -> dict[str, Any]:
    return {"type": "http", "scheme": "bearer", "description": text}


def _ref(model: type[BaseModel]) -> dict[str, Any]:
    return {"$ref": _REF.format(model=model.__name__)}


def _content(schema: dict[str, Any], media_type: str = JSON) -> dict[str, Any]:
    return {media_type: {"schema": schema}}


def _refused(status: int) -> dict[str, Any]:
    schema = _ref(Refusal if status in _BY_GUARD else Problem)
    if status in _BOTH_SHAPES:
        schema = {"anyOf": [_ref(Problem), _ref(Refusal)]}
    return {"description": f"{TITLES[status]}.", "content": _content(schema, MEDIA_TYPE)}


def _operation(
    name: str,
    summary: str,
    good: dict[str, Any],
    statuses: Sequence[int],
    **more: Any,
) -> dict[str, Any]:
    bad = {str(status): _refused(status) for status in sorted({*_ALWAYS, *statuses})}
    return {
        "operationId": name,
        "summary": summary,
        **more,
        "responses": {**good, **bad},
    }


def _good(model: type[BaseModel], text: str) -> dict[str, Any]:
    return {"200": {"description": text, "content": _content(_ref(model))}}


def _waiting(model: type[BaseModel]) -> dict[str, Any]:
    where = {"description": "The action.", "required": True, "schema": {"type": "string"}}
    return {
        "202": {
            "description": "Nothing was executed: a person decides first.",
            "headers": {"Location": where},
            "content": _content(_ref(model)),
        }
    }


def _self() -> dict[str, Any]:
    good = {"200": {"description": "OpenAPI 3.1.", "content": _content({"type": "object"})}}
    return _operation("openapi", "This document", good, (), security=_CALLERS)


def _tools() -> dict[str, Any]:
    good = _good(ToolsData, "The five tools.")
    return _operation("list_tools", "The tools and their schemas", good, (), security=_CALLERS)


def _call(tool: Tool) -> dict[str, Any]:
    more: dict[str, Any] = {
        "requestBody": {"required": True, "content": _content(input_schema(tool.name))},
    }
    if tool.hints.read_only:
        good = _good(ANSWERS[tool.name], "What the room shows now.")
        return _operation(
            tool.name, tool.description, good, (*_BODY, *_ROOM), security=_CALLERS, **more
        )
    key = {
        "name": "Idempotency-Key",
        "in": "header",
        "required": False,
        "description": "Of the caller's own: one key is one action for ever.",
        "schema": {"type": "string", "pattern": KEY},
    }
    good = _good(ActionAnswer, "What came of it; see `state` and `executed`.")
    return _operation(
        tool.name,
        tool.description,
        {**good, **_waiting(ActionAnswer)},
        (*_BODY, *_ROOM),
        security=[{"caller": []}, {}],
        parameters=[key],
        **more,
    )


def _actions() -> dict[str, Any]:
    schema = ActionsQuery.model_json_schema()
    parameters = [
        {
            "name": name,
            "in": "query",
            "required": False,
            "description": field["description"],
            "schema": _plain(field),
        }
        for name, field in schema["properties"].items()
    ]
    good = _good(ActionsData, "Newest first.")
    return _operation(
        "list_actions",
        "What was asked for, what waits and what came of it",
        good,
        (500, 503),
        security=_CALLERS,
        parameters=parameters,
    )


def _plain(field: dict[str, Any]) -> dict[str, Any]:
    """A query parameter's schema: when it is given it has its value's type."""
    options = [o for o in field.get("anyOf", ()) if o.get("type") != "null"]
    chosen = {**field, **options[0]} if len(options) == 1 else field
    dropped = ("anyOf", "title", "description")
    return {k: v for k, v in chosen.items() if k not in dropped and (k, v) != ("default", None)}


_ID: Final = {
    "name": "id",
    "in": "path",
    "required": True,
    "description": "The action's id.",
    "schema": {"type": "string", "pattern": ACTION_ID},
}


def _action() -> dict[str, Any]:
    good = _good(ShownAction, "The action, the question, and what happened.")
    return _operation(
        "show_action", "One action", good, _JOURNAL, security=_CALLERS, parameters=[_ID]
    )


def _decision(name: str, model: type[BaseModel]) -> dict[str, Any]:
    good = _good(Decided, "The decision counts; what came of it.")
    return _operation(
        f"{name}_action",
        f"{name.capitalize()} an action that waits",
        {**good, **(_waiting(Decided) if name == "approve" else {})},
        (*_BODY, *_ROOM, 409),
        security=[{"approver": []}],
        parameters=[_ID],
        requestBody={"required": True, "content": _content(_ref(model))},
    )
