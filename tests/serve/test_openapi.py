"""The OpenAPI document is true: what it describes is what is taken and sent."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import httpx
import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from schemathesis.checks import not_a_server_error
from schemathesis.config import SchemathesisConfig
from schemathesis.generation import GenerationMode
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from hms_active_rooms.capability import capability
from hms_active_rooms.serve.calls import DATA
from serve.people import kit, remove, students
from serve.rest_callers import ADA, CALLER, rest_app, speaking
from stand_in import ROOM, StandInRoom, peer

SCHEMAS = Path(__file__).parent.parent / "tools" / "schemas"
CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]
EXAMPLES = 7
"""Per operation and token: about 150 in all."""


# --- the document -------------------------------------------------------------------------------


def document() -> dict[str, Any]:
    async def read() -> Any:
        async with speaking(rest_app(kit(students())), CALLER) as (me,):
            return (await me.get("/v1/openapi.json")).json()

    return dict(asyncio.run(read()))


DOCUMENT = document()
OPERATIONS = [
    (f"{method.upper()} {path}", operation)
    for path, item in DOCUMENT["paths"].items()
    for method, operation in item.items()
]


def test_the_names_make_good_names_of_modules_and_functions_in_generated_clients() -> None:
    """openapi-python-client names its package after the title, and both name functions after ids."""
    assert DOCUMENT["openapi"].startswith("3.1.")
    assert DOCUMENT["info"]["title"] == "HMS Active Rooms"
    ids = [operation["operationId"] for _, operation in OPERATIONS]
    tools = [tool.name for tool in capability().tools]
    others = ["list_tools", "list_actions", "show_action", "approve_action", "reject_action"]
    assert sorted(ids) == sorted([*tools, *others])
    names = [*ids, DOCUMENT["info"]["title"], *DOCUMENT["components"]["schemas"]]
    assert [name for name in names if not re.sub(r"[- ]", "_", name).isidentifier()] == []


def test_every_tool_has_a_path_with_the_reviewed_schema_and_may_wait_if_it_changes_a_room() -> None:
    for tool in capability().tools:
        reviewed = json.loads((SCHEMAS / f"{tool.name}.json").read_text())["function"]["parameters"]
        operation = DOCUMENT["paths"][f"/v1/tools/{tool.name}"]["post"]
        taken = dict(followed(operation["requestBody"]["content"]["application/json"]["schema"]))
        del taken["title"], taken["description"]
        assert taken == reviewed
        assert ("202" in operation["responses"]) is not tool.hints.read_only
        told = followed(operation["responses"]["200"]["content"]["application/json"]["schema"])
        data = followed(told["properties"]["data"])["properties"]
        assert set(data) == set(DATA[tool.name].model_fields)


def followed(schema: dict[str, Any]) -> dict[str, Any]:
    name = schema["$ref"].removeprefix("#/components/schemas/")
    return dict(DOCUMENT["components"]["schemas"][name])


def test_only_approvers_decide_and_they_call_nothing_that_changes_a_room() -> None:
    for tool in capability().tools:
        security = DOCUMENT["paths"][f"/v1/tools/{tool.name}"]["post"]["security"]
        assert ({"approver": []} in security) is tool.hints.read_only
    for word in ("approve", "reject"):
        operation = DOCUMENT["paths"][f"/v1/actions/{{id}}/{word}"]["post"]
        assert operation["security"] == [{"approver": []}]


def test_whatever_is_not_an_answer_is_a_problem() -> None:
    for _, operation in OPERATIONS:
        assert set(operation["responses"]) <= {"200", "202", "default"}
        assert list(operation["responses"]["default"]["content"]) == ["application/problem+json"]


# --- what is really sent ------------------------------------------------------------------------


def about(case: Any, action: Mapping[str, str]) -> None:
    """Turn a made-up request to what is there: else all of them end at ids nobody has."""
    body = case.body
    if isinstance(body, dict) and isinstance(body.get("room_id"), str):
        body["room_id"] = ROOM
        if isinstance(body.get("peer_id"), str):
            body["peer_id"] = peer(1).id
    if isinstance(body, dict) and isinstance(body.get("digest"), str):
        body["digest"] = action["digest"]
    if "id" in (case.path_parameters or {}):
        case.path_parameters["id"] = action["id"]


async def sent(client: httpx.AsyncClient, case: Any) -> httpx.Response:
    """What schemathesis made up, sent to the application in this loop."""
    made = requests.Request(**case.as_transport_kwargs(base_url=str(client.base_url))).prepare()
    assert made.method
    assert made.url
    assert made.body is None or isinstance(made.body, str | bytes)
    headers = [
        (name.encode("latin-1"), value.encode("latin-1") if isinstance(value, str) else value)
        for name, value in made.headers.items()
        if name.lower() != "authorization"  # the client has its own
    ]
    return await client.request(made.method, made.url, headers=headers, content=made.body)


def made_up(operation: Any) -> st.SearchStrategy[Any]:
    """Requests by the document, and requests that break it somewhere, where they can."""
    right: st.SearchStrategy[Any] = operation.as_strategy(generation_mode=GenerationMode.POSITIVE)
    if not operation.body and not operation.query:
        return right
    wrong: st.SearchStrategy[Any] = operation.as_strategy(generation_mode=GenerationMode.NEGATIVE)
    return right | wrong


@pytest.mark.parametrize("token", [CALLER, ADA], ids=["caller", "approver"])
@pytest.mark.parametrize("label", [label for label, _ in OPERATIONS])
def test_every_answer_is_a_documented_one(label: str, token: str) -> None:
    room = StandInRoom([peer(n) for n in range(1, 4)])
    toolkit = kit(room)
    app = rest_app(toolkit)

    async def propose() -> None:
        async with speaking(app, CALLER) as (me,):
            await me.tool("hms-remove-peers", remove(2, reason="spam"))

    async def answer(case: Any) -> httpx.Response:
        async with speaking(app, token) as (me,):
            return await sent(me, case)

    with asyncio.Runner() as loop:
        loop.run(propose())
        api = schemathesis.openapi.from_dict(DOCUMENT, config=SchemathesisConfig())
        (waiting,) = toolkit.gate.journal.actions()
        operation = api.find_operation_by_label(label)
        assert operation
        answers: list[httpx.Response] = []

        @settings(
            max_examples=EXAMPLES,
            deadline=None,
            database=None,
            derandomize=True,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        @given(case=made_up(operation))
        def ask(case: Any) -> None:
            about(case, vars(waiting))
            answers.append(loop.run(answer(case)))
            case.validate_response(answers[-1], checks=CHECKS)

        ask()
    assert answers
    approves = token == ADA and label.endswith("/approve")
    assert len(room.posts) == sum(a.is_success for a in answers if approves)
