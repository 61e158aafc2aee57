"""Whoever gives a wrong value reads plain words: not pydantic's, and no pattern."""

from __future__ import annotations

import asyncio
import json
import re
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from pydantic import BaseModel, Field, ValidationError

from hms_active_rooms.capability import load
from hms_active_rooms.errors import ConfigurationError, InvalidCall
from hms_active_rooms.gate.approval import BadAnswerError, parse_answer
from hms_active_rooms.gate.policy import Policy
from hms_active_rooms.plain import explain
from hms_active_rooms.sim.scenes import SceneError, load_scene
from hms_active_rooms.sim.server import in_process
from hms_active_rooms.tools.arguments import ARGUMENTS, checked

ROOM = "6" * 24
PYDANTIC = re.compile(
    r"Input|should|must be|Value error|[Ff]ield required|Extra inputs|permitted|valid (string|int|"
    r"number|dict|list|bool)|unable to|discriminator|\[0-9|\^|\$|Unexpected|model_|_type"
)
WRONG: list[Any] = [None, "", "x" * 5000, "\ud800", 7, 7.5, -1, 10**9, True, [], [1], {}, {"a": 1}]


def told(words: str) -> None:
    assert words
    assert not PYDANTIC.search(words), words


@pytest.mark.parametrize("tool", ARGUMENTS)
def test_wrong_arguments_of_a_tool_are_told_in_plain_words(tool: str) -> None:
    for value in WRONG:
        for given in (
            value,
            *({"room_id": ROOM, name: value} for name in ARGUMENTS[tool].model_fields),
        ):
            try:
                checked(tool, given)
            except InvalidCall as error:
                told(str(error))


def test_a_wrong_answer_is_told_in_plain_words() -> None:
    whole = {"type": "approve", "digest": "d", "scope": "once", "edited_action": {}, "message": "m"}
    for value in WRONG:
        for kind in ("approve", "reject", "edit", value):
            for name in whole:
                with pytest.raises(BadAnswerError) as refused:
                    parse_answer({"type": kind, name: value, "more": 1})
                told(str(refused.value))


def test_a_wrong_policy_is_told_in_plain_words(tmp_path: Path) -> None:
    file = tmp_path / "policy.toml"
    for field in (*Policy.model_fields, "unknown"):
        for value in ("x", 10**9, -1, True, [1], {"a": 1}):
            file.write_text(f"{field} = {json.dumps(value).replace(':', ' =')}\n")
            with pytest.raises(ConfigurationError) as refused:
                Policy.from_file(file)
            told(str(refused.value))
            with pytest.raises(ConfigurationError) as refused:
                Policy(**{field: value})
            told(str(refused.value))


def test_a_wrong_contract_is_told_in_plain_words(contract: str) -> None:
    def broken(found: Any) -> list[Any]:
        if not isinstance(found, dict | list):
            return []
        places = list(found) if isinstance(found, dict) else range(len(found))
        return [(found, place) for place in places] + [
            one for place in places for one in broken(found[place])
        ]

    document = yaml.safe_load(contract)
    # Each key once, where it comes first.
    first = {str(place): (where, place) for where, place in reversed(broken(document))}
    for name, (where, place) in first.items():
        kept = where[place]
        for value in ("?", 1 if len(name) % 2 else [1]):
            where[place] = value
            try:
                load(yaml.safe_dump(document))
            except ConfigurationError as error:
                told(str(error))
        where[place] = kept


@pytest.fixture(scope="module")
def contract() -> str:
    import hms_active_rooms

    return Path(hms_active_rooms.__file__).with_name("capability.yaml").read_text("utf-8")


def test_a_wrong_scene_is_told_in_plain_words(tmp_path: Path) -> None:
    file = tmp_path / "scene.yaml"
    person = {"name": "Ann", "role": "host"}
    wrong: list[tuple[str, Any]] = [
        *zip(["about"] * 3, [None, 7, []], strict=True),
        *zip(["room"] * 3, [None, [], {"name": "r", "id": "?", "roles": []}], strict=True),
        *zip(["people"] * 3, ["x", [7], [{**person, "count": 0}]], strict=True),
        ("unknown", 1),
    ]
    for field, value in wrong:
        scene = {"about": "a", "room": {"name": "r", "roles": [{"name": "h"}]}} | {field: value}
        file.write_text(yaml.safe_dump(scene))
        with pytest.raises(SceneError) as refused:
            load_scene(file)
        told(str(refused.value))


@pytest.mark.parametrize(
    ("path", "names"),
    [
        ("join", ("name", "role", "peer_id", "kind", "ago_s", "unknown")),
        ("faults", ("kind", "operation", "times", "latency_s", "status", "unknown")),
        ("rooms", ("name", "id", "roles")),
        ("time", ("seconds",)),
    ],
)
def test_a_wrong_order_to_the_simulator_is_told_in_plain_words(
    path: str, names: tuple[str, ...]
) -> None:
    async def problems() -> list[str]:
        app = httpx.ASGITransport(in_process("classroom").app)
        async with httpx.AsyncClient(transport=app, base_url="http://sim") as client:
            bodies = [{"kind": "reset", name: value} for name in names for value in WRONG]
            if path != "faults":
                bodies = [{name: body[name]} for body in bodies for name in list(body)[1:]]
            answers = [
                await client.post(f"/_sim/{path}", content=json.dumps(body)) for body in bodies
            ]
        return [answer.json()["message"] for answer in answers if answer.status_code == 422]

    found = asyncio.run(problems())
    assert found
    for words in found:
        told(words)


@pytest.mark.parametrize("name", ["", ".", "..."])
def test_a_name_without_a_letter_is_told_in_quotes(name: str) -> None:
    with pytest.raises(InvalidCall) as refused:
        checked("hms-list-peers", {"room_id": ROOM, name: 1})
    assert str(refused.value) == f'"{name}": there is no such argument.'


def test_a_value_of_a_kind_that_has_no_words_yet_is_refused_without_pydantics() -> None:
    class Odd(BaseModel):
        when: bytes = Field(max_length=1)

    with pytest.raises(ValidationError) as refused:
        Odd.model_validate({"when": "long"})
    assert explain(refused.value) == "when: it cannot be used"
