"""What is not exactly a request of ours is refused, and nothing is executed or recorded."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from hms_active_rooms import errors
from hms_active_rooms.errors import ActiveRoomsError, RateLimited
from hms_active_rooms.gate.journal import Journal
from hms_active_rooms.serve.app import create_app
from hms_active_rooms.serve.page.routes import Page
from hms_active_rooms.serve.rest import rest_entry
from serve.people import broken, kit, remove, students
from serve.rest_callers import ADA, CALLER, GUARDED, OPEN, problem, rest_app, speaking
from stand_in import ROOM

SEND = "/v1/tools/hms-send-message"
JSON = {"content-type": "application/json"}
HELLO = json.dumps({"room_id": ROOM, "message": "hello"}).encode()

BODIES: dict[str, tuple[bytes, int, str]] = {
    "nothing": (b"", 422, "invalid_call"),
    "no JSON": (b"{", 400, "malformed_json"),
    "two values": (HELLO + HELLO, 400, "malformed_json"),
    "a list": (b"[]", 400, "malformed_json"),
    "null": (b"null", 400, "malformed_json"),
    "not UTF-8": (b'{"room_id": "\xff"}', 400, "malformed_json"),
    "UTF-16": (HELLO.decode().encode("utf-16"), 400, "malformed_json"),
    "a byte order mark": (b"\xef\xbb\xbf" + HELLO, 400, "malformed_json"),
    "NaN": (b'{"room_id": NaN}', 400, "malformed_json"),
    "a huge number": (b'{"limit": ' + b"9" * 5000 + b"}", 400, "malformed_json"),
    "a key twice": (b'{"message": "a", ' + HELLO[1:], 400, "malformed_json"),
    "a key twice inside": (b'{"x": {"a": 1, "a": 1}}', 400, "malformed_json"),
    "deep": (b'{"x": ' * 100 + b"1" + b"}" * 100, 422, "invalid_call"),
    "very deep": (b'{"x": ' + b"[" * 100_000 + b"]" * 100_000 + b"}", 400, "malformed_json"),
    "a comment": (HELLO + b"// no", 400, "malformed_json"),
    "an unknown field": (b'{"peerId": "x", ' + HELLO[1:], 422, "invalid_call"),
    "a missing field": (b'{"message": "hello"}', 422, "invalid_call"),
    "a wrong type": (b'{"message": 7, "room_id": "' + ROOM.encode() + b'"}', 422, "invalid_call"),
    "a lone surrogate": (HELLO.replace(b"hello", b"\\ud800"), 422, "invalid_call"),
    "consent": (b'{"approved": true, ' + HELLO[1:], 422, "invalid_call"),
}


async def test_a_wrong_body_is_refused_and_nothing_recorded() -> None:
    for name in BODIES:
        content, status, code = BODIES[name]
        room = students()
        toolkit = kit(room)
        async with speaking(rest_app(toolkit), CALLER) as (me,):
            problem(await me.post(SEND, content=content, headers=JSON), status, code)
        assert toolkit.gate.journal.actions() == []
        assert room.posts == []


@pytest.mark.parametrize("name", [n for n in BODIES if BODIES[n][1] == 400])
async def test_a_wrong_body_decides_nothing(name: str) -> None:
    room = students()
    toolkit = kit(room)
    async with speaking(rest_app(toolkit), CALLER, ADA) as (me, ada):
        action = (await me.tool("hms-remove-peers", remove())).json()["data"]
        for word in ("approve", "reject"):
            where = f"/v1/actions/{action['action_id']}/{word}"
            problem(
                await ada.post(where, content=BODIES[name][0], headers=JSON), 400, "malformed_json"
            )
    assert (await toolkit.gate.get(action["action_id"])).state == "proposed"
    assert room.posts == []


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"digest": "x"},
        {"digest": None},
        {"digest": "0" * 64, "force": True},
        {"digest": "0" * 64, "scope": "always"},
        {"digest": "0" * 64, "words": {"message": 1}},
    ],
)
async def test_a_wrong_approval_is_refused(given: dict[str, Any]) -> None:
    toolkit = kit(students())
    async with speaking(rest_app(toolkit), CALLER, ADA) as (me, ada):
        action = (await me.tool("hms-remove-peers", remove())).json()["data"]
        where = f"/v1/actions/{action['action_id']}/approve"
        problem(await ada.post(where, json=given), 422, "invalid_call")
    assert (await toolkit.gate.get(action["action_id"])).state == "proposed"


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        *((b'"no\\u0000"', "no\ufffd"), (b'"no\\ud800"', "no\ufffd"), (b"null", "")),
        (b'"%s"' % (b"x" * 2001), "x" * 2000),
    ],
    ids=["NUL", "half a character", "null", "too long"],
)
async def test_a_no_is_taken_whatever_its_reason_holds(given: bytes, reason: str) -> None:
    toolkit = kit(students())
    async with speaking(rest_app(toolkit), CALLER, ADA) as (me, ada):
        action = (await me.tool("hms-remove-peers", remove())).json()["data"]
        where = f"/v1/actions/{action['action_id']}/reject"
        told = await ada.post(where, content=b'{"reason": %s}' % given, headers=JSON)
    assert told.status_code == 200
    row = await toolkit.gate.get(action["action_id"])
    assert (row.state, row.reason) == ("rejected", reason)


@pytest.mark.parametrize("given", [{"reason": 5}, {"digest": "x"}, {"why": "x"}])
async def test_a_wrong_rejection_is_refused(given: dict[str, Any]) -> None:
    toolkit = kit(students())
    async with speaking(rest_app(toolkit), CALLER, ADA) as (me, ada):
        action = (await me.tool("hms-remove-peers", remove())).json()["data"]
        where = f"/v1/actions/{action['action_id']}/reject"
        problem(await ada.post(where, json=given), 422, "invalid_call")
    assert (await toolkit.gate.get(action["action_id"])).state == "proposed"


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"content-type": "text/plain"},
        {"content-type": "application/x-www-form-urlencoded"},
        {"content-type": "application/json", "content-encoding": "gzip"},
    ],
)
async def test_another_content_type_is_refused(headers: dict[str, str]) -> None:
    toolkit = kit(students())
    async with speaking(rest_app(toolkit), CALLER) as (me,):
        told = await me.post(SEND, content=HELLO, headers=headers)
    problem(told, 415, "unsupported_media_type")
    assert toolkit.gate.journal.actions() == []


async def test_two_content_types_are_refused_like_another_one() -> None:
    headers = [("content-type", "application/json"), ("content-type", "text/plain")]
    for given in (headers, headers[::-1]):
        async with speaking(rest_app(kit(students())), CALLER) as (me,):
            problem(
                await me.post(SEND, content=HELLO, headers=given), 415, "unsupported_media_type"
            )


@pytest.mark.parametrize("kind", ["application/json", 'APPLICATION/json; charset="UTF-8"'])
async def test_json_by_any_of_its_names_is_taken(kind: str) -> None:
    async with speaking(rest_app(kit(students())), CALLER) as (me,):
        told = await me.post(SEND, content=HELLO, headers={"content-type": kind})
    assert told.status_code == 202


@pytest.mark.parametrize(
    "query",
    ["state=over", "limit=0", "limit=501", "limit=x", "room_id=x", "page=2", "limit=1&limit=2"],
)
async def test_wrong_filters_are_refused(query: str) -> None:
    async with speaking(rest_app(kit(students())), CALLER) as (me,):
        problem(await me.get(f"/v1/actions?{query}"), 422, "invalid_call")


async def test_a_query_where_there_is_none_is_refused() -> None:
    toolkit = kit(students())
    async with speaking(rest_app(toolkit), CALLER) as (me,):
        problem(
            await me.post(f"{SEND}?approved=1", content=HELLO, headers=JSON), 422, "invalid_call"
        )
    assert toolkit.gate.journal.actions() == []


# --- paths and methods --------------------------------------------------------------------------


async def test_what_is_not_there_is_told_so() -> None:
    for path, code in [
        ("/v1", "not_found"),
        ("/v1/", "not_found"),
        ("/v1/rooms", "not_found"),
        ("/v1/tools/", "not_found"),
        ("/v1/tools/hms-list-peers/x", "not_found"),
        ("/v1/actions/", "not_found"),
        ("/v1/actions/aaaaaaaaaaaa", "no_action"),
        ("/v1/actions/aaaaaaaaaaa%00", "no_action"),
        ("/v1/actions/..%2Factions", "not_found"),
    ]:
        async with speaking(rest_app(kit(students())), CALLER) as (me,):
            problem(await me.get(path), 404, code)


@pytest.mark.parametrize("name", ["aaaaaaaaaaa%00", "aaaaaaaaaaaaa", "a" * 9000, "%20aaaaaaaaaaa"])
async def test_what_is_no_id_is_not_looked_up(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    toolkit = kit(students())
    broken(monkeypatch)
    async with speaking(rest_app(toolkit), ADA) as (ada,):
        problem(await ada.get(f"/v1/actions/{name}"), 404, "no_action")
        problem(await ada.post(f"/v1/actions/{name}/reject", json={}), 404, "no_action")


async def test_no_other_tool_can_be_called() -> None:
    async with speaking(rest_app(kit(students())), CALLER) as (me,):
        problem(await me.tool("hms-ban", {}), 404, "not_found")


@pytest.mark.parametrize(
    ("path", "allow"),
    [
        ("/v1/tools", "GET"),
        (SEND, "POST"),
        ("/v1/actions", "GET"),
        ("/v1/actions/aaaaaaaaaaaa", "GET"),
        ("/v1/actions/aaaaaaaaaaaa/approve", "POST"),
    ],
)
async def test_other_methods_are_told_which_are_allowed(path: str, allow: str) -> None:
    toolkit = kit(students())
    async with speaking(rest_app(toolkit), CALLER) as (me,):
        other = "GET" if allow == "POST" else "POST"
        for method in ("OPTIONS", "PUT", "PATCH", "DELETE", "TRACE", other):
            told = await me.request(method, path, content=HELLO, headers=JSON)
            problem(told, 405, "method_not_allowed")
            assert {*told.headers["allow"].split(", ")} == {*allow.split(", ")}
    assert toolkit.gate.journal.actions() == []


async def test_without_a_token_nothing_is_answered() -> None:
    toolkit = kit(students())
    async with speaking(rest_app(toolkit), "", "another-token-0123456789") as clients:
        for client, code in zip(clients, ("no_token", "wrong_token"), strict=True):
            answers: list[httpx.Response] = [
                await client.get("/v1/tools"),
                await client.get("/v1/openapi.json"),
                await client.tool("hms-remove-peers", remove()),
                await client.get("/v1/actions"),
            ]
            for answer in answers:
                assert "Bearer" in problem(answer, 401, code)["hint"]
    assert toolkit.gate.journal.actions() == []


async def test_no_page_of_another_address_reads_an_answer() -> None:
    """A browser hides answers without these headers, and asks for them before it sends a call."""
    address = "https://rooms.example"
    guard = dataclasses.replace(GUARDED, origins=(address,))
    asked = {"access-control-request-method": "POST", "origin": address}
    async with speaking(rest_app(kit(students()), guard=guard), CALLER, "") as (me, browser):
        answer = await me.get("/v1/tools", headers={"origin": address})
        before = await browser.options(SEND, headers=asked)
    assert (answer.status_code, before.status_code) == (200, 401)
    for told in (answer, before):
        assert not [name for name in told.headers if name.startswith("access-control-")]


# --- errors -------------------------------------------------------------------------------------


def tree(kind: type[ActiveRoomsError] = ActiveRoomsError) -> Iterator[type[ActiveRoomsError]]:
    yield kind
    for below in kind.__subclasses__():
        if below.__module__ == errors.__name__:
            yield from tree(below)


def failing(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    """Lists of actions fail from here on."""

    def fail(*_: Any, **__: Any) -> Any:
        raise error

    monkeypatch.setattr(Journal, "actions", fail)


@pytest.mark.parametrize("kind", list(tree()))
async def test_an_error_has_the_same_status_by_rest_and_on_the_page(
    kind: type[ActiveRoomsError], monkeypatch: pytest.MonkeyPatch
) -> None:
    toolkit = kit(students())
    page = Page(toolkit)
    guard = dataclasses.replace(OPEN, own_login=("/approvals",))
    app = create_app(toolkit, rest_entry(toolkit), page.entry, guard=guard)
    login = {"token": page.login_link("", "ada").partition("#login=")[2].partition("&")[0]}
    origin = {"origin": "http://127.0.0.1:9090"}
    async with speaking(app, "", "") as (me, ada):
        key = (await ada.post("/approvals/login", json=login, headers=origin)).json()["key"]
        failing(monkeypatch, kind("It went wrong.", hint="Look."))
        told = await me.get("/v1/actions")
        shown = await ada.get("/approvals/journal", headers={"x-approvals-key": key})
    assert told.status_code == shown.status_code >= 400
    said = told.json()
    assert (said["code"], said["hint"]) == (kind.code, "Look.")
    assert said["detail"] == shown.json()["detail"] == kind("It went wrong.").for_person()


async def test_a_problem_says_whether_anything_was_executed_and_when_to_come_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with speaking(rest_app(kit(students())), CALLER) as (me,):
        failing(monkeypatch, RateLimited("Slow down.", retry_after_s=1.2, executed="no"))
        slow = await me.get("/v1/actions")
        failing(monkeypatch, errors.OutcomeUnknown("Gone."))
        gone = await me.get("/v1/actions")
    assert (slow.status_code, slow.headers["retry-after"]) == (429, "2")
    assert (slow.json()["executed"], gone.json()["executed"]) == ("no", "maybe")


async def test_a_failure_of_ours_is_a_problem_without_its_text(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    failing(monkeypatch, RuntimeError("a secret"))
    async with speaking(rest_app(kit(students())), CALLER) as (me,):
        told = await me.get("/v1/actions")
    assert (told.status_code, told.json()["code"], told.json()["executed"]) == (
        500,
        "internal",
        "maybe",
    )
    assert "secret" not in told.text
