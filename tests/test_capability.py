"""The contract: what it says, and that a contradicting one is refused with its place."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

import hms_active_rooms
from hms_active_rooms.capability import Hints, capability, load
from hms_active_rooms.errors import ConfigurationError, InvalidCall

PACKAGED = Path(hms_active_rooms.__file__).with_name("capability.yaml").read_text(encoding="utf-8")


def document() -> Any:
    return yaml.safe_load(PACKAGED)


def test_the_packaged_contract_has_seven_operations_and_five_tools() -> None:
    contract = capability()
    assert contract.base_uri == "https://api.100ms.live/v2"
    assert contract.token_variable == "HMS_MANAGEMENT_TOKEN"
    assert [(op.name, op.method, op.path, op.has_body) for op in contract.operations] == [
        ("retrieveactiveroom", "GET", "/active-rooms/{room_id}", False),
        ("endactiveroom", "POST", "/active-rooms/{room_id}/end-room", True),
        ("listpeers", "GET", "/active-rooms/{room_id}/peers", False),
        ("retrievepeer", "GET", "/active-rooms/{room_id}/peers/{peer_id}", False),
        ("updatepeer", "POST", "/active-rooms/{room_id}/peers/{peer_id}", True),
        ("removepeers", "POST", "/active-rooms/{room_id}/remove-peers", True),
        ("sendmessage", "POST", "/active-rooms/{room_id}/send-message", True),
    ]
    assert [(tool.name, tool.operation.name, tool.hints) for tool in contract.tools] == [
        ("hms-retrieve-active-room", "retrieveactiveroom", Hints(True, False, True)),
        ("hms-list-peers", "listpeers", Hints(True, False, True)),
        ("hms-send-message", "sendmessage", Hints(False, False, False)),
        ("hms-remove-peers", "removepeers", Hints(False, True, False)),
        ("hms-end-active-room", "endactiveroom", Hints(False, True, True)),
    ]


def test_the_contract_is_read_once() -> None:
    assert capability() is capability()


def test_a_contract_is_read_from_a_file_or_from_text(tmp_path: Path) -> None:
    (tmp_path / "contract.yaml").write_text(PACKAGED, encoding="utf-8")
    assert load(tmp_path / "contract.yaml") == load(PACKAGED) == capability()
    with pytest.raises(ConfigurationError, match="cannot be read"):
        load(tmp_path / "missing.yaml")


def test_tools_and_operations_are_found_by_name() -> None:
    assert capability().tool("hms-list-peers").operation is capability().operation("listpeers")
    with pytest.raises(InvalidCall, match="no tool 'hms-list-peer'"):
        capability().tool("hms-list-peer")
    with pytest.raises(InvalidCall, match="no operation"):
        capability().operation("deleteroom")


def test_a_path_is_filled_and_quoted() -> None:
    peer = capability().operation("retrievepeer")
    assert peer.placeholders == ("room_id", "peer_id")
    assert peer.url_path(room_id="r", peer_id="a/../b?%2e") == (
        "/active-rooms/r/peers/a%2F..%2Fb%3F%252e"
    )


@pytest.mark.parametrize(
    "values",
    [
        {},
        {"room_id": "r"},
        {"room_id": "r", "peer_id": "p", "other": "x"},
        {"room_id": "", "peer_id": "p"},
        {"room_id": "..", "peer_id": "p"},
        {"room_id": ".", "peer_id": "p"},
    ],
)
def test_a_path_is_filled_completely_or_not_at_all(values: dict[str, str]) -> None:
    with pytest.raises(InvalidCall):
        capability().operation("retrievepeer").url_path(**values)


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
        (None, Hints(False, True, False)),
        ({}, Hints(False, True, False)),
        ({"readOnly": False}, Hints(False, True, False)),
        ({"readOnly": True}, Hints(True, False, True)),
        ({"idempotent": True}, Hints(False, True, True)),
        ({"destructive": False}, Hints(False, False, False)),
    ],
)
def test_a_missing_hint_is_read_the_strict_way(given: object, meant: Hints) -> None:
    changed = document()
    tool = changed["capability"]["exposes"][0]["tools"][0]
    del tool["hints"]
    if given is not None:
        tool["hints"] = given
    assert load(yaml.safe_dump(changed)).tools[0].hints == meant


EXPOSED = "capability.exposes[0]"
CONSUMED = "capability.consumes[0]"


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
BAD: list[tuple[Callable[[Any], None], str, str]] = [
    (change("extra", 1), "its top", "unknown key 'extra'"),
    (change("naftiko", ...), "its top", "'naftiko' is missing"),
    (change("naftiko", 1), "naftiko", "a text is needed, not a int"),
    (change("info", []), "info", "a mapping is needed, not an empty list"),
    (change("capability", None), "capability", "not nothing"),
    (change("capability/consumes", []), "capability.consumes", "a list with entries"),
    (change("capability/consumes", {}), "capability.consumes", "not a mapping"),
    (
        change(f"{TOOLS}/2/call", "active-rooms.nothing"),
        f"{EXPOSED}.tools[2].call",
        "not an operation",
    ),
    (change(f"{TOOLS}/2/call", "listpeers"), f"{EXPOSED}.tools[2].call", "not an operation"),
    (change(f"{TOOLS}/1/name", "hms-send-message"), f"{EXPOSED}.tools[2]", "already used at"),
    (change(f"{TOOLS}/1/name", ""), f"{EXPOSED}.tools[1].name", "a text is needed"),
    (change(f"{TOOLS}/1/title", "x"), f"{EXPOSED}.tools[1]", "unknown key 'title'"),
    (change(f"{TOOLS}/1/hints/destructive", True), f"{EXPOSED}.tools[1].hints", "contradict"),
    (change(f"{TOOLS}/3/hints", {"readOnly": True}), f"{EXPOSED}.tools[3].hints", "is a POST"),
    (
        change(f"{TOOLS}/1/hints/readOnly", "yes"),
        f"{EXPOSED}.tools[1].hints.readOnly",
        "true or false",
    ),
    (
        change(f"{TOOLS}/1/hints/readOnly", None),
        f"{EXPOSED}.tools[1].hints.readOnly",
        "not nothing",
    ),
    (change(f"{TOOLS}/1/hints/readonly", True), f"{EXPOSED}.tools[1].hints", "unknown key"),
    (
        change(f"{ROOM_GET}/method", "FETCH"),
        f"{CONSUMED}.resources[0].operations[0].method",
        "'FETCH'",
    ),
    (change(f"{ROOM_GET}/method", "get"), f"{CONSUMED}.resources[0].operations[0].method", "'get'"),
    (change(f"{ROOM_GET}/method", []), f"{CONSUMED}.resources[0].operations[0].method", "[]"),
    (
        change(f"{ROOM_GET}/name", "listpeers"),
        f"{CONSUMED}.resources[2].operations[0]",
        "already used",
    ),
    (
        change(f"{ROOM_GET}/inputParameters", ...),
        f"{CONSUMED}.resources[0].operations[0]",
        "room_id",
    ),
    (
        change(f"{API}/resources/0/path", "/active-rooms"),
        f"{CONSUMED}.resources[0].operations[0]",
        "no place for room_id",
    ),
    (
        change(f"{API}/resources/0/path", "/active-rooms/{room_id}/{other}"),
        f"{CONSUMED}.resources[0].operations[0]",
        "needs an input parameter other",
    ),
    (
        change(f"{API}/resources/0/path", "/a/{room_id"),
        f"{CONSUMED}.resources[0].path",
        "placeholders",
    ),
    (
        change(f"{API}/resources/0/path", "a/{room_id}"),
        f"{CONSUMED}.resources[0].path",
        "a path like",
    ),
    (
        change(f"{ROOM_GET}/inputParameters/0/required", False),
        f"{CONSUMED}.resources[0].operations[0].inputParameters[0].required",
        "always required",
    ),
    (
        change(f"{ROOM_GET}/inputParameters/0/in", "query"),
        f"{CONSUMED}.resources[0].operations[0].inputParameters[0].in",
        "'query' is not one of",
    ),
    (
        change(f"{ROOM_GET}/inputParameters/0/name", "room id"),
        f"{CONSUMED}.resources[0].operations[0].inputParameters[0].name",
        "a name like",
    ),
    (change(f"{API}/baseUri", "http://api.100ms.live/v2"), f"{CONSUMED}.baseUri", "https"),
    (change(f"{API}/baseUri", "https://"), f"{CONSUMED}.baseUri", "https"),
    (change(f"{API}/baseUri", "https://u:p@host/v2"), f"{CONSUMED}.baseUri", "no user"),
    (change(f"{API}/baseUri", "https://host/v2/"), f"{CONSUMED}.baseUri", "slash at the end"),
    (change(f"{API}/authentication/type", "basic"), f"{CONSUMED}.authentication.type", "'basic'"),
    (
        change(f"{API}/authentication/value", "a-token-in-clear"),
        f"{CONSUMED}.authentication.value",
        "a reference like",
    ),
    (change("binds", ...), f"{CONSUMED}.authentication.value", "is not bound"),
]


@pytest.mark.parametrize(("apply", "place", "reason"), BAD, ids=[f"{p}: {r}" for _, p, r in BAD])
def test_a_contradicting_contract_is_refused_with_its_place(
    apply: Callable[[Any], None], place: str, reason: str
) -> None:
    changed = document()
    apply(changed)
    with pytest.raises(ConfigurationError) as caught:
        load(yaml.safe_dump(changed))
    assert f"wrong at {place}: " in str(caught.value)
    assert reason in str(caught.value)


def test_a_get_with_a_body_is_refused() -> None:
    changed = document()
    get = changed["capability"]["consumes"][0]["resources"][0]["operations"][0]
    get["inputParameters"].append({"name": "b", "in": "body", "type": "object", "required": True})
    with pytest.raises(ConfigurationError, match="a GET has no body"):
        load(yaml.safe_dump(changed))


@pytest.mark.parametrize("text", ["", "[]", "1", "null", "{", "a: b: c", "\x00"])
def test_text_that_is_no_contract_is_refused(text: str) -> None:
    with pytest.raises(ConfigurationError):
        load(text)


def test_a_key_that_stands_twice_is_refused() -> None:
    twice = PACKAGED.replace("destructive: true, ", "destructive: true, destructive: false, ")
    with pytest.raises(ConfigurationError, match="'destructive' stands here twice"):
        load(twice)


def test_a_python_object_in_the_file_is_not_made() -> None:
    with pytest.raises(ConfigurationError):
        load("naftiko: !!python/object/apply:os.getcwd []")


@given(
    st.recursive(
        st.none() | st.booleans() | st.text(max_size=5),
        lambda inner: (
            st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
        ),
        max_leaves=8,
    ),
    st.sampled_from(["info", "binds", "capability", "naftiko"]),
)
def test_any_other_value_is_refused_and_nothing_else_happens(value: object, key: str) -> None:
    changed = document()
    changed[key] = value
    try:
        load(yaml.safe_dump(changed))
    except ConfigurationError:
        return
    assert key == "naftiko"


def test_reading_the_contract_needs_only_yaml() -> None:
    script = (
        "import sys, hms_active_rooms.capability as c; c.capability()\n"
        "print(sorted({'pydantic', 'httpx', 'asyncio', 'langchain_core'} & set(sys.modules)))"
    )
    ended = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert ended.stdout == "[]\n"
