"""The page over HTTP: who gets an answer, what a decision needs, what the browser is told."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

import hms_active_rooms.serve.page as package
from hms_active_rooms.errors import PolicyRefusal
from hms_active_rooms.gate.actions import parse_call
from hms_active_rooms.gate.journal import Journal
from hms_active_rooms.gate.journal.records import Action, Origin
from hms_active_rooms.serve.callers import Caller
from hms_active_rooms.serve.calls import call_tool
from hms_active_rooms.serve.page.feed import action_view
from hms_active_rooms.serve.page.routes import PATH
from serve.page.served import Served, running_page
from serve.people import kit, remove, students
from stand_in import ROOM, StandInRoom, gate_on

FILES = sorted(
    p.name for p in Path(package.__file__).parent.iterdir() if p.suffix in (".js", ".css")
)


@pytest.fixture
def room() -> StandInRoom:
    return students()


@pytest.fixture
def served(room: StandInRoom) -> Iterator[Served]:
    with running_page(kit(room), token="a-token-for-programs") as running:
        yield running


class Browser(httpx.Client):
    """Does what a browser does for the page's script: cookies, Origin, the key."""

    def __init__(self, served: Served) -> None:
        super().__init__(base_url=served.url + PATH, headers={"origin": served.url}, timeout=20.0)
        self.served = served

    def log_in(self, name: str = "ada", token: str = "") -> httpx.Response:
        token = token or token_of(self.served.link())
        answer = self.post("/login", json={"token": token, "name": name})
        if answer.status_code == 200:
            self.headers["x-approvals-key"] = answer.json()["key"]
        return answer


def token_of(link: str) -> str:
    return link.partition("#login=")[2].partition("&")[0]


@pytest.fixture
def ada(served: Served) -> Iterator[Browser]:
    with Browser(served) as browser:
        browser.log_in("ada")
        yield browser


def yes(action: Action) -> dict[str, Any]:
    return {"type": "approve", "digest": action.digest}


# --- who gets an answer -----------------------------------------------------------------------


def test_everything_but_the_files_and_the_login_needs_a_session(served: Served) -> None:
    action = served.waiting()
    with Browser(served) as nobody:
        for path in ("/news", "/journal", f"/actions/{action.id}"):
            assert nobody.get(path).status_code == 401
            assert nobody.head(path).status_code == 405  # it would show nobody anything
        for path in ("/logout", f"/actions/{action.id}"):
            assert nobody.post(path, json=yes(action)).status_code == 401
        for path in ("", *(f"/{name}" for name in FILES)):
            assert nobody.get(path).status_code == 200
    assert served.row(action).state == "proposed"


@pytest.mark.parametrize("half", ["cookie", "key"])
def test_one_half_of_a_session_is_none(served: Served, ada: Browser, half: str) -> None:
    if half == "cookie":
        del ada.headers["x-approvals-key"]
    else:
        ada.cookies.clear()
    assert ada.get("/journal").status_code == 401


def test_a_programs_token_opens_nothing_here(served: Served) -> None:
    headers = {"authorization": "Bearer a-token-for-programs"}
    assert httpx.get(served.url + PATH + "/journal", headers=headers).status_code == 401


def test_a_refusal_is_on_record_without_its_secrets(
    served: Served, ada: Browser, caplog: pytest.LogCaptureFixture
) -> None:
    key = ada.headers["x-approvals-key"]
    ada.cookies.clear()
    with caplog.at_level(logging.WARNING):
        ada.get("/journal", params={"state": "secret-in-the-query"})
    assert 'refused "GET /approvals/journal" from "127.0.0.1": session' in caplog.text
    assert key not in caplog.text
    assert "secret-in-the-query" not in caplog.text


def test_a_login_ends_the_session_of_whoever_was_logged_in_in_that_browser(
    served: Served, ada: Browser
) -> None:
    with Browser(served) as before:
        before.cookies.update(ada.cookies)
        before.headers["x-approvals-key"] = ada.headers["x-approvals-key"]
        assert before.get("/journal").status_code == 200
        ada.log_in("bob")
        assert ada.get("/journal").status_code == 200
        assert before.get("/journal").status_code == 401


def test_a_link_is_used_up_by_the_login_and_by_nothing_else(served: Served) -> None:
    link = served.link()
    assert "?" not in link  # behind the # it is in no log and no Referer
    with Browser(served) as ada, Browser(served) as bob:
        assert ada.get("").status_code == 200
        assert ada.log_in("", token_of(link)).status_code == 403
        assert ada.log_in("ada", token_of(link)).json()["name"] == "ada"
        second = bob.log_in("bob", token_of(link))
        assert second.status_code == 403
        assert "used already" in second.json()["detail"]
        assert bob.get("/journal").status_code == 401


def test_the_cookie_is_for_this_page_alone(served: Served) -> None:
    with Browser(served) as browser:
        cookie = browser.log_in().headers["set-cookie"].lower()
        for part in ("httponly", "samesite=strict", f"path={PATH}", "max-age="):
            assert part in cookie
        assert "secure" not in cookie
        browser.headers["origin"] = served.url.replace("http:", "https:")
        assert "; secure" in browser.log_in().headers["set-cookie"].lower()


# --- what a decision needs --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"origin": "http://evil.example"}, 403),
        ({"origin": "null"}, 403),
        ({"origin": ""}, 403),
        ({"origin": "http://127.0.0.1:1"}, 403),
        ({"host": "evil.example"}, 421),
        ({"sec-fetch-site": "cross-site"}, 403),
        ({"sec-fetch-site": "same-site"}, 403),
        ({"content-type": "text/plain"}, 415),
        ({"content-type": "application/x-www-form-urlencoded"}, 415),
        ({"x-approvals-key": ""}, 401),
    ],
)
def test_a_request_that_another_site_could_make_decides_nothing(
    served: Served, ada: Browser, room: StandInRoom, headers: dict[str, str], status: int
) -> None:
    action = served.waiting()
    answer = ada.post(f"/actions/{action.id}", json=yes(action), headers=headers)
    assert answer.status_code == status
    assert served.row(action).state == "proposed"
    assert room.posts == []


def test_without_an_origin_nothing_is_decided(served: Served, ada: Browser) -> None:
    action = served.waiting()
    del ada.headers["origin"]
    assert ada.post(f"/actions/{action.id}", json=yes(action)).status_code == 403
    assert served.row(action).state == "proposed"


@pytest.mark.parametrize("body", [b"[]", b"null", b"{", b'"approve"', b"[" * 100_000])
def test_what_is_no_object_is_no_decision(served: Served, ada: Browser, body: bytes) -> None:
    action = served.waiting()
    headers = {"content-type": "application/json"}
    assert ada.post(f"/actions/{action.id}", content=body, headers=headers).status_code == 400
    assert served.row(action).state == "proposed"


@pytest.mark.parametrize(
    ("change", "status"),
    [({"digest": "0" * 64}, 409), ({"digest": None}, 422), ({"type": "yes"}, 422), ({"x": 1}, 422)],
)
def test_only_an_answer_to_what_was_shown_decides(
    served: Served, ada: Browser, change: dict[str, Any], status: int
) -> None:
    action = served.waiting()
    answer = ada.post(f"/actions/{action.id}", json=yes(action) | change)
    assert answer.status_code == status
    assert "Nothing was decided" in answer.json()["detail"]
    assert served.row(action).state == "proposed"


def test_a_wrong_edit_decides_nothing_and_says_what_is_wrong(
    served: Served, ada: Browser, room: StandInRoom
) -> None:
    action = served.waiting("hms-send-message", room_id=ROOM, message="hi")
    edited = {"name": action.tool, "args": {**action.call.arguments(), "message": "x" * 5000}}
    edit = {"type": "edit", "digest": action.digest, "edited_action": edited}
    answer = ada.post(f"/actions/{action.id}", json=edit)
    assert answer.status_code == 422
    assert "5000 bytes" in answer.json()["detail"]
    assert served.row(action).state == "proposed"
    assert ada.post(f"/actions/{action.id}", json=yes(action)).json()["counted"]
    assert len(room.posts) == 1


def test_a_question_opened_from_the_journal_was_asked(served: Served, ada: Browser) -> None:
    action = served.waiting()
    for _ in range(2):
        ada.get(f"/actions/{action.id}")
    events = served.toolkit.gate.journal.events(action.id)
    assert [(e.kind, e.way) for e in events] == [("proposed", "call"), ("asked", "page")]


def test_an_action_of_another_room_is_like_none(room: StandInRoom) -> None:
    journal = Journal(":memory:")
    call = parse_call("hms-remove-peers", remove())
    row = asyncio.run(gate_on(students(), journal).propose(call, Origin("t", "m", "1", "agent")))
    with running_page(kit(room, journal, rooms=("7" * 24,))) as served, Browser(served) as ada:
        ada.log_in()
        answers = [ada.get(f"/actions/{action_id}") for action_id in (row.id, "abcdefghijkl")]
        answers += [
            ada.post(f"/actions/{action_id}", json=yes(row)) for action_id in (row.id, "nothing")
        ]
        assert len({(answer.status_code, answer.content) for answer in answers}) == 1
        assert ROOM not in answers[0].text
        found = journal.get(row.id)
        assert found is not None
        assert found.state == "proposed"


def test_who_decided_is_who_logged_in(served: Served, ada: Browser, room: StandInRoom) -> None:
    action = served.waiting()
    answer = ada.post(f"/actions/{action.id}", json=yes(action)).json()
    assert (answer["counted"], answer["ended"]) == (True, True)
    assert "Removed" in answer["text"]
    row = served.row(action)
    assert (row.decided_by, row.decided_way) == ("ada", "page")
    assert len(room.posts) == 1


def test_whoever_comes_second_is_told_which_decision_counted(served: Served, ada: Browser) -> None:
    action = served.waiting()
    with Browser(served) as bob:
        bob.log_in("bob")
        bob.post(f"/actions/{action.id}", json={"type": "reject", "message": "no"})
    answer = ada.post(f"/actions/{action.id}", json=yes(action)).json()
    assert answer["counted"] is False
    assert 'Already rejected by "bob" (page)' in answer["text"]
    assert 'Already rejected by "bob" (page)' in ada.get(f"/actions/{action.id}").json()["told"]


def test_a_refused_action_says_whether_anything_was_executed(served: Served, ada: Browser) -> None:
    assert (
        "Nothing was executed."
        in ada.post("/actions/nothing", json={"type": "reject"}).json()["detail"]
    )
    assert ada.get("/journal", params={"state": "maybe"}).status_code == 422
    assert ada.get("/journal", params={"room": "7" * 24}).status_code == 403


# --- what is shown ----------------------------------------------------------------------------


def test_the_journal_is_filtered_by_state_and_room(served: Served, ada: Browser) -> None:
    first, second = served.waiting(), served.waiting(**remove(2))
    ada.post(f"/actions/{first.id}", json={"type": "reject", "message": "no"})

    def ids(**filters: str) -> list[str]:
        return [row["action_id"] for row in ada.get("/journal", params=filters).json()["rows"]]

    assert ids() == [second.id, first.id]
    assert ids(state="rejected", room=ROOM) == [first.id]
    assert ada.get("/journal", params={"room": "64F0"}).status_code == 422
    assert ids(state="proposed") == [second.id]
    assert ids(state="done") == []


def test_one_action_is_shown_with_all_that_happened_to_it(served: Served, ada: Browser) -> None:
    action = served.waiting()
    ada.post(f"/actions/{action.id}", json=yes(action) | {"digest": "0" * 64})
    ada.post(f"/actions/{action.id}", json=yes(action))
    shown = ada.get(f"/actions/{action.id}").json()
    assert shown["question"] == served.toolkit.gate.request(action).text
    kinds = [event["kind"] for event in shown["events"]]
    assert [k for k in kinds if k in ("proposed", "bad_answer", "approved", "sent", "done")] == [
        "proposed",
        "bad_answer",
        "approved",
        "sent",
        "done",
    ]


def test_the_news_say_as_whom_they_are_told(ada: Browser) -> None:
    assert ada.get("/news").json()["name"] == "ada"


def test_logging_out_ends_the_session(ada: Browser) -> None:
    cookies = dict(ada.cookies)
    assert ada.post("/logout", json={}).status_code == 200
    ada.cookies.update(cookies)
    assert ada.get("/journal").status_code == 401


# --- what the browser is told -----------------------------------------------------------------


def test_every_answer_forbids_what_the_page_does_not_need(served: Served, ada: Browser) -> None:
    action = served.waiting()
    answers = [ada.get(path) for path in ("", "/news", "/journal", f"/actions/{action.id}")]
    answers += [ada.get(f"/{name}") for name in (*FILES, "icon.svg")]
    answers.append(ada.post("/login", json={}))
    for answer in answers:
        policy = answer.headers["content-security-policy"].split("; ")
        assert policy[:8] == [
            "default-src 'none'",
            "script-src 'self'",
            "style-src 'self'",
            "connect-src 'self'",
            "img-src 'self'",
            "form-action 'self'",
            "frame-ancestors 'none'",
            "base-uri 'none'",
        ]
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["referrer-policy"] == "no-referrer"
        assert answer.headers["cache-control"] == "no-store"


@pytest.mark.parametrize("name", [name for name in FILES if name.endswith(".js")])
def test_no_script_parses_markup(name: str) -> None:
    code = Path(package.__file__).with_name(name).read_text()
    for word in (
        "innerHTML",
        "outerHTML",
        "insertAdjacent",
        "document.write",
        "eval(",
        "Function(",
    ):
        assert word not in code
    assert len(code.splitlines()) < 350


def test_the_page_is_its_own_files_and_nothing_inline(served: Served, ada: Browser) -> None:
    html = ada.get("").text
    for word in ("http:", "https:", " style=", " onclick=", "<style"):
        assert word not in html
    assert (
        html.count("<script") == html.count('<script type="module" src="/approvals/page.js">') == 1
    )


async def test_what_nobody_said_no_to_is_labelled_refused() -> None:
    toolkit = kit(students(), protected_roles=("student",))
    with pytest.raises(PolicyRefusal):
        await call_tool(toolkit, "hms-remove-peers", remove(), caller=Caller("test", "tester"))
    [row] = toolkit.gate.journal.actions()
    assert action_view(row)["label"] == "refused"
