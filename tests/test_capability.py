"""The contract: what it says, and that a contradicting one is refused with its place."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

import hms_active_rooms
from hms_active_rooms.capability import Capability, Hints, capability, load
from hms_active_rooms.errors import ConfigurationError

PACKAGED = Path(hms_active_rooms.__file__).with_name("capability.yaml").read_text(encoding="utf-8")
PUBLISHED = Path(__file__).with_name("published-capability.yaml").read_text(encoding="utf-8")

READ = Hints(read_only=True, destructive=False, idempotent=True)


def document() -> Any:
    return yaml.safe_load(PACKAGED)


@pytest.mark.parametrize("contract", [capability(), load(PUBLISHED)], ids=["ours", "published"])
def test_seven_operations_and_five_tools(contract: Capability) -> None:
    assert contract.base_uri == "https://api.100ms.live/v2"
    assert contract.token_variable == "HMS_MANAGEMENT_TOKEN"
    for name, method, path, has_body in [
        ("retrieveactiveroom", "GET", "/active-rooms/{room_id}", False),
        ("endactiveroom", "POST", "/active-rooms/{room_id}/end-room", True),
        ("listpeers", "GET", "/active-rooms/{room_id}/peers", False),
        ("retrievepeer", "GET", "/active-rooms/{room_id}/peers/{peer_id}", False),
        ("updatepeer", "POST", "/active-rooms/{room_id}/peers/{peer_id}", True),
        ("removepeers", "POST", "/active-rooms/{room_id}/remove-peers", True),
        ("sendmessage", "POST", "/active-rooms/{room_id}/send-message", True),
    ]:
        operation = contract.operation(name)
        assert (operation.method, operation.path, operation.has_body) == (method, path, has_body)
    assert [(tool.name, tool.call, tool.hints) for tool in contract.tools] == [
        ("hms-retrieve-active-room", "active-rooms.retrieveactiveroom", READ),
        ("hms-list-peers", "active-rooms.listpeers", READ),
        (
            "hms-send-message",
            "active-rooms.sendmessage",
            Hints(read_only=False, destructive=False, idempotent=False),
        ),
        (
            "hms-remove-peers",
            "active-rooms.removepeers",
            Hints(read_only=False, destructive=True, idempotent=False),
        ),
        (
            "hms-end-active-room",
            "active-rooms.endactiveroom",
            Hints(read_only=False, destructive=True, idempotent=True),
        ),
    ]


def test_ours_says_of_each_tool_what_the_published_one_says() -> None:
    published = load(PUBLISHED)
    assert capability().info.label == published.info.label
    ours = {tool.name: (tool.description, tool.hints) for tool in capability().tools}
    for tool in published.tools:
        assert ours[tool.name] == (tool.description, tool.hints)


def test_the_contract_is_read_once() -> None:
    assert capability() is capability()


def test_tools_and_operations_are_found_by_name() -> None:
    assert capability().tool("hms-list-peers") is capability().tools[1]


def test_a_path_is_filled_and_quoted() -> None:
    peer = capability().operation("retrievepeer")
    assert peer.url_path(room_id="r", peer_id="a/../b?%2e") == (
        "/active-rooms/r/peers/a%2F..%2Fb%3F%252e"
    )


@given(st.text(min_size=1).filter(lambda text: text not in (".", "..")))
def test_no_value_adds_a_segment_a_query_or_a_placeholder(value: str) -> None:
    try:
        path = capability().operation("retrieveactiveroom").url_path(room_id=value)
    except UnicodeEncodeError:
        return
    assert path.isascii()
    assert path.count("/") == 2
    assert not set(path) & set("?#{}\\ ")


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        (None, Hints(read_only=False, destructive=True, idempotent=False)),
        ({}, Hints(read_only=False, destructive=True, idempotent=False)),
        ({"readOnly": False}, Hints(read_only=False, destructive=True, idempotent=False)),
        ({"readOnly": True}, Hints(read_only=True, destructive=False, idempotent=True)),
        ({"idempotent": True}, Hints(read_only=False, destructive=True, idempotent=True)),
        ({"destructive": False}, Hints(read_only=False, destructive=False, idempotent=False)),
    ],
)
def test_a_missing_hint_is_read_the_strict_way(given: object, meant: Hints) -> None:
    changed = document()
    tool = changed["capability"]["exposes"][0]["tools"][0]
    del tool["hints"]
    if given is not None:
        tool["hints"] = given
    assert load(yaml.safe_dump(changed)).tools[0].hints == meant


def change(path: str, value: object) -> Callable[[Any], None]:
    """A change of the document; `...` as value removes the key."""

    def apply(found: Any) -> None:
        *parents, last = [int(p) if p.isdigit() else p for p in path.split("/")]
        for key in parents:
            found = found[key]
        if value is ...:
            del found[last]
        else:
            found[last] = value

    return apply


API, TOOLS = "capability/consumes/0", "capability/exposes/0/tools"
ROOM_GET = f"{API}/resources/0/operations/0"
BODY = {"name": "b", "in": "body"}
BAD: list[tuple[str, object, str]] = [
    ("extra", 1, "extra: there is no such key"),
    ("naftiko", ..., "naftiko: it is missing"),
    ("naftiko", 1, "naftiko: give a text"),
    ("info", [], "info: "),
    ("capability", None, "capability: "),
    ("capability/consumes", [], "capability.consumes.0: it is missing"),
    (f"{TOOLS}/2/call", "active-rooms.nothing", "keys: hms-send-message calls"),
    (f"{TOOLS}/2/call", "listpeers", "keys: hms-send-message calls"),
    (f"{TOOLS}/1/name", "hms-send-message", "keys: two tools are named"),
    (f"{TOOLS}/1/name", "", "capability.exposes.0.tools.1.name: "),
    (f"{TOOLS}/1/title", "x", "capability.exposes.0.tools.1.title: there is no such key"),
    (f"{TOOLS}/1/hints/destructive", True, "capability.exposes.0.tools.1.hints: readOnly and"),
    (f"{TOOLS}/3/hints", {"readOnly": True}, "keys: hms-remove-peers is readOnly"),
    (f"{TOOLS}/1/hints/readOnly", "yes", "capability.exposes.0.tools.1.hints.readOnly: "),
    (f"{TOOLS}/1/hints/readOnly", None, "capability.exposes.0.tools.1.hints.readOnly: "),
    (f"{TOOLS}/1/hints/readonly", True, "capability.exposes.0.tools.1.hints.readonly: there is"),
    (f"{ROOM_GET}/method", "get", "capability.consumes.0.resources.0.operations.0.method: "),
    (f"{ROOM_GET}/name", "listpeers", "keys: two operations are named listpeers"),
    (f"{ROOM_GET}/inputParameters", ..., "capability.consumes.0.resources.0: "),
    (f"{ROOM_GET}/inputParameters/0/required", False, "inputParameters.0.required: "),
    (f"{ROOM_GET}/inputParameters/0/in", "query", "inputParameters.0.in: "),
    (f"{ROOM_GET}/inputParameters/0", BODY, "capability.consumes.0.resources.0: "),
    (f"{API}/resources/0/path", "/active-rooms", "capability.consumes.0.resources.0: "),
    (f"{API}/resources/0/path", "/a/{room_id}/{x}", "capability.consumes.0.resources.0: "),
    (f"{API}/resources/0/path", "a/{room_id}", "capability.consumes.0.resources.0.path: "),
    (f"{API}/resources/1/operations/0/method", "GET", "resources.1: endactiveroom is a GET"),
    (f"{API}/baseUri", "http://api.100ms.live/v2", "capability.consumes.0.baseUri: "),
    (f"{API}/baseUri", "https://u:p@host/v2", "capability.consumes.0.baseUri: "),
    (f"{API}/baseUri", "https://host/v2/", "capability.consumes.0.baseUri: "),
    (f"{API}/authentication/type", "basic", "capability.consumes.0.authentication.type: "),
    (f"{API}/authentication/token", "a-token-in-clear", "capability.consumes.0.authentication."),
    ("binds/0/keys", {}, "keys: 'binds' does not have HMS_MANAGEMENT_TOKEN"),
]


def test_a_contradicting_contract_is_refused_with_its_place() -> None:
    for place, value, reason in BAD:
        changed = document()
        change(place, value)(changed)
        with pytest.raises(ConfigurationError) as caught:
            load(yaml.safe_dump(changed))
        assert reason in str(caught.value)


@pytest.mark.parametrize("text", ["", "[]", "1", "null", "{", "a: b: c", "\x00"])
def test_text_that_is_no_contract_is_refused(text: str) -> None:
    with pytest.raises(ConfigurationError):
        load(text)


def test_a_python_object_in_the_file_is_not_made() -> None:
    with pytest.raises(ConfigurationError):
        load("naftiko: !!python/object/apply:os.getcwd []")
