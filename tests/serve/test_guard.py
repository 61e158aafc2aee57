"""Who may speak to the server: pure decisions, then the wrapper around an application."""

from __future__ import annotations

import asyncio
import dataclasses
import logging
from typing import Any

import httpx
import pytest

from hms_active_rooms.errors import ConfigurationError
from hms_active_rooms.gate.journal import Journal
from hms_active_rooms.serve.guard import (
    Guard,
    GuardSettings,
    Principal,
    guard_settings,
    judge,
    principal,
)
from hms_active_rooms.serve.limits import MOST_A_MINUTE, Refusals
from hms_active_rooms.serve.problems import Refused
from stand_in import Clock

TOKEN = "caller-token-0123456789"
APPROVER = "approver-token-0123456789"
WAIT_S = 10.0


def verdict(
    settings: GuardSettings, path: str = "/mcp", method: str = "POST", **headers: Any
) -> Any:
    given: dict[str, list[str]] = {"host": ["127.0.0.1:9090"]}
    for name, value in headers.items():
        given[name.replace("_", "-")] = value if isinstance(value, list) else [value]
    found = judge(settings, path, given, method)
    if isinstance(found, Principal):
        return found.name
    return found.code


@pytest.mark.parametrize(("length", "word"), [("10", ""), ("262145", "size"), ("9" * 5000, "size")])
def test_a_large_body_is_refused_before_it_comes(length: str, word: str) -> None:
    assert verdict(guard_settings("127.0.0.1"), content_length=length) == word


def test_a_body_whose_length_is_told_in_two_ways_is_refused() -> None:
    two = {"transfer_encoding": "chunked", "content_length": "10"}
    assert verdict(guard_settings("127.0.0.1"), **two) == "framing"
    assert verdict(guard_settings("127.0.0.1"), transfer_encoding="chunked") == ""


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "127.0.0.1:9090", "localhost:1", "LOCALHOST", "[::1]:9090"]
)
def test_loopback_names_are_let_through(host: str) -> None:
    assert verdict(guard_settings("127.0.0.1"), host=host) == ""


def test_every_other_host_is_refused() -> None:
    for host in [
        "evil.example",
        "evil.example:9090",
        "127.0.0.1.evil.example",
        "localhost.",
        "localhost@evil.example",
        "127.0.0.1:9090\n",
        "",
        [],
        ["localhost", "localhost"],
    ]:
        assert verdict(guard_settings("127.0.0.1"), host=host) == "host"


def test_only_the_own_and_named_origins_are_let_through() -> None:
    for origin, word in [
        ("http://127.0.0.1:9090", ""),
        ("https://127.0.0.1:9090", ""),
        ("https://ops.example", ""),
        ("http://127.0.0.1:3000", "origin"),
        ("http://evil.example", "origin"),
        ("https://ops.example.evil.example", "origin"),
        ("http://127.0.0.1:9090/", "origin"),
        ("null", "origin"),
        ("", "origin"),
        (["http://127.0.0.1:9090", "http://evil.example"], "origin"),
    ]:
        settings = GuardSettings(origins=("https://ops.example",))
        assert verdict(settings, origin=origin) == word


@pytest.mark.parametrize(
    ("host", "word"),
    [
        ("127.0.0.1:65535", ""),
        ("127.0.0.1:65536", "host"),
        ("127.0.0.1:99999", "host"),
        ("[::1]:65536", "host"),
    ],
)
def test_a_port_that_no_machine_has_is_refused(host: str, word: str) -> None:
    """Whatever reads the request's address later would fail over it."""
    assert verdict(guard_settings("127.0.0.1"), host=host) == word


def test_a_token_is_told_from_every_other() -> None:
    for given, found in [
        ([], "no_token"),
        (f"Bearer {TOKEN}", ""),
        (f"bearer  {TOKEN}", ""),
        (f"Bearer {APPROVER}", "approver"),
        (f"Basic {TOKEN}", "wrong_token"),
        (f"Bearer {TOKEN}x", "wrong_token"),
        (f"Bearer {TOKEN[:-1]}", "wrong_token"),
        ("Bearer ", "wrong_token"),
        ("Bearer", "wrong_token"),
        ([f"Bearer {TOKEN}", f"Bearer {TOKEN}"], "wrong_token"),
    ]:
        settings = guard_settings("127.0.0.1", callers={"": TOKEN}, approvers={"ada": APPROVER})
        assert verdict(settings, authorization=given) == found


@pytest.mark.parametrize("path", ["/mcp", "/", "/approvals", "/v1", "/V1/tools"])
def test_an_approvers_token_opens_nothing_but_rest(path: str) -> None:
    settings = guard_settings(
        "127.0.0.1", callers={"": TOKEN}, approvers={"bob": "x" * 20, "ada": APPROVER}
    )
    headers = {"host": ["127.0.0.1"], "authorization": [f"Bearer {APPROVER}"]}
    assert judge(settings, "/v1/actions/a/approve", headers) == Principal(
        "ada", approves=True, known=True
    )
    refused = judge(settings, path, headers)
    assert isinstance(refused, Refused)
    assert refused.status_code == 403


def test_an_empty_token_is_nobodys() -> None:
    settings = guard_settings("127.0.0.1", callers={"": TOKEN})
    assert verdict(settings, authorization="Bearer ") == "wrong_token"


@pytest.mark.parametrize(
    ("path", "found"),
    [
        ("/healthz", ""),
        ("/approvals", ""),
        ("/approvals/x", ""),
        ("/approvalsx", "no_token"),
        ("/healthz/x", "no_token"),
        ("/", "no_token"),
    ],
)
def test_only_the_page_and_healthz_do_without_the_token(path: str, found: str) -> None:
    settings = guard_settings("127.0.0.1", callers={"": TOKEN}, own_login=("/approvals",))
    assert verdict(settings, path) == found


BROWSER = {"accept": "text/html,application/xhtml+xml,*/*;q=0.8", "sec_fetch_dest": "document"}


@pytest.mark.parametrize("page", ["/approvals", "/approvals/"])
@pytest.mark.parametrize("token", ["", TOKEN])
def test_a_link_whose_sign_was_escaped_leads_to_the_page_and_into_no_log(
    token: str, page: str
) -> None:
    settings = guard_settings(
        "127.0.0.1", callers={"": token} if token else None, own_login=("/approvals",)
    )
    asked = {"host": ["127.0.0.1:9090"]}
    refused = judge(settings, f"{page}#login=S-x_&name=Ada L\r\n\u00e9", asked, "GET")
    assert isinstance(refused, Refused)
    assert refused.status_code == 307  # what is below 400 is not recorded
    assert (refused.headers or {})["location"] == f"{page}#login=S-x_&name=Ada%20L%0D%0A%C3%A9"
    assert verdict(settings, f"{page}x#login=S", method="GET") != "page"


@pytest.mark.parametrize("given", [BROWSER, {"accept": "text/html"}])
@pytest.mark.parametrize("token", ["", TOKEN])
def test_a_browser_at_the_root_is_sent_to_the_page(token: str, given: dict[str, str]) -> None:
    settings = guard_settings(
        "127.0.0.1", callers={"": token} if token else None, own_login=("/approvals",)
    )
    assert verdict(settings, "/", method="GET", **given) == "page"


@pytest.mark.parametrize(
    ("path", "method", "more"),
    [
        ("/", "POST", {}),
        ("/mcp", "GET", {}),
        ("/", "GET", {"accept": "application/json, text/event-stream"}),
        ("/", "GET", {"accept": []}),
        ("/", "GET", {"host": "evil.example"}),
        ("/", "GET", {"origin": "http://evil.example"}),
    ],
)
def test_nobody_else_is(path: str, method: str, more: dict[str, Any]) -> None:
    settings = guard_settings("127.0.0.1", callers={"": TOKEN}, own_login=("/approvals",))
    assert verdict(settings, path, method=method, **{**BROWSER, **more}) != "page"


def test_without_a_page_a_browser_is_sent_nowhere() -> None:
    assert verdict(guard_settings("127.0.0.1"), "/", method="GET", **BROWSER) == ""


# --- settings ----------------------------------------------------------------------------------


@pytest.mark.parametrize("host", ["0.0.0.0", "192.168.1.5", "::", "rooms.example"])
def test_beyond_loopback_there_must_be_a_token(host: str) -> None:
    with pytest.raises(ConfigurationError, match=r"^Listening on .* needs a token"):
        guard_settings(host, hosts=("rooms.example",))


@pytest.mark.parametrize(
    "reached",
    [
        {"hosts": ("rooms.example",)},
        {"hosts": ("localhost", "192.168.1.5")},
        {"hosts": ("[2001:db8::1]",)},
        {"origins": ("https://rooms.example:8443",)},
    ],
)
def test_reached_by_another_name_there_must_be_a_token(reached: dict[str, Any]) -> None:
    """It binds this machine, so a proxy is what others reach, and that need not say so."""
    with pytest.raises(ConfigurationError, match=r"^Answering to .* needs a token"):
        guard_settings("127.0.0.1", **reached)
    assert guard_settings("127.0.0.1", callers={"": TOKEN}, **reached).callers == {"": TOKEN}


@pytest.mark.parametrize(
    "reached",
    [{"hosts": ("localhost", "127.0.0.2", "[::1]")}, {"origins": ("http://localhost:3000",)}],
)
def test_another_name_of_this_machine_needs_no_token(reached: dict[str, Any]) -> None:
    assert guard_settings("127.0.0.1", **reached).callers == {}


def test_binding_everywhere_needs_the_names_it_is_reached_by() -> None:
    with pytest.raises(ConfigurationError, match="names"):
        guard_settings("0.0.0.0", callers={"": TOKEN})
    settings = guard_settings("0.0.0.0", callers={"": TOKEN}, hosts=("Rooms.example",))
    assert settings.hosts == ("rooms.example",)


def test_a_bound_address_is_a_name_it_is_reached_by() -> None:
    assert guard_settings("192.168.1.5", callers={"": TOKEN}).hosts == ("192.168.1.5",)


@pytest.mark.parametrize(
    "wrong",
    [
        {"callers": {"": "short"}},
        {"callers": {"": "with space in the token"}},
        {"callers": {"": TOKEN}, "approvers": {"ada": TOKEN}},
        {"hosts": ("http://rooms.example",)},
        {"hosts": ("rooms.example:9090",)},
    ],
)
def test_a_wrong_setting_is_an_error(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError):
        guard_settings("127.0.0.1", **wrong)


def test_tokens_are_not_in_the_repr() -> None:
    shown = repr(guard_settings("127.0.0.1", callers={"": TOKEN}, approvers={"ada": APPROVER}))
    assert TOKEN not in shown
    assert APPROVER not in shown


# --- the wrapper --------------------------------------------------------------------------------


def guarded(app: Any, settings: GuardSettings, refusals: Refusals | None = None) -> Guard:
    return Guard(app, settings, refusals or Refusals(Journal(":memory:")))


async def test_what_is_refused_never_reaches_the_application(
    caplog: pytest.LogCaptureFixture,
) -> None:
    seen: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        message = await receive()
        seen.append((principal(scope), message["body"]))
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"ok"})

    async def chunks() -> Any:
        for _ in range(3):
            yield b"x" * 100

    settings = guard_settings("127.0.0.1", callers={"": TOKEN})
    small = guarded(app, dataclasses.replace(settings, max_body_bytes=250))
    transport = httpx.ASGITransport(app=small)
    good = {"authorization": f"Bearer {TOKEN}"}
    with caplog.at_level(logging.WARNING):
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:9090") as http:
            assert (await http.post("/mcp?secret=login-link", content=b"{}")).status_code == 401
            bad = {**good, "origin": "http://evil.example"}
            assert (await http.post("/mcp", headers=bad)).status_code == 403
            bad = {**good, "host": "evil.example"}
            assert (await http.post("/mcp", headers=bad)).status_code == 421
            assert (await http.post("/mcp", headers=good, content=chunks())).status_code == 413
            assert seen == []
            assert (await http.post("/mcp", headers=good, content=b"{}")).text == "ok"
    assert seen == [(Principal(known=True), b"{}")]
    assert [record.getMessage().rpartition(": ")[2] for record in caplog.records] == [
        "no_token",
        "origin",
        "host",
        "size",
    ]
    assert TOKEN not in caplog.text
    assert "login-link" not in caplog.text


async def test_a_refusal_is_heard_since_the_body_is_thrown_away_first() -> None:
    """Else the connection is reset with the answer in it."""
    happened: list[str] = []
    rest = [
        {"type": "http.request", "body": b"{", "more_body": True},
        {"type": "http.request", "body": b"}", "more_body": False},
    ]

    async def receive() -> Any:
        happened.append("read")
        return rest.pop(0)

    async def send(message: Any) -> None:
        happened.append(message["type"])

    async def app(*_: Any) -> None:
        raise AssertionError("it was let through")

    host = [(b"host", b"evil.example")]
    scope = {"type": "http", "method": "POST", "path": "/mcp", "headers": host}
    await guarded(app, guard_settings("127.0.0.1"))(scope, receive, send)
    assert happened == ["read", "read", "http.response.start", "http.response.body"]


# --- room for people ----------------------------------------------------------------------------


class Slow:
    """An application that answers when it is told to."""

    def __init__(self) -> None:
        self.go = asyncio.Event()
        self.fails = False
        self._asked: asyncio.Queue[str] = asyncio.Queue()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self._asked.put_nowait(scope["path"])
        await self.go.wait()
        if self.fails:
            raise RuntimeError
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"ok"})

    async def asked(self, count: int) -> None:
        """So many requests more have reached it."""
        async with asyncio.timeout(WAIT_S):
            for _ in range(count):
                await self._asked.get()


def crowded(app: Any, refusals: Refusals | None = None) -> httpx.AsyncClient:
    """A client of a guard that lets two requests of programs in at a time."""
    settings = guard_settings(
        "127.0.0.1", callers={"": TOKEN}, approvers={"ada": APPROVER}, own_login=("/approvals",)
    )
    guard = guarded(app, dataclasses.replace(settings, most_of_programs=2), refusals)
    return httpx.AsyncClient(
        transport=httpx.ASGITransport(app=guard, raise_app_exceptions=False),
        base_url="http://127.0.0.1:9090",
        headers={"authorization": f"Bearer {TOKEN}"},
    )


@pytest.mark.parametrize("path", ["/mcp", "/", "/v1/tools"])
async def test_programs_do_not_keep_people_out(path: str) -> None:
    app = Slow()
    async with crowded(app) as http:
        programs = [asyncio.create_task(http.get(path)) for _ in range(2)]
        await app.asked(2)
        more = await asyncio.wait_for(http.get(path), WAIT_S)
        assert (more.status_code, more.headers["retry-after"]) == (503, "5")
        assert "Nothing was executed" in more.json()["detail"]
        by_rest = {"authorization": f"Bearer {APPROVER}"}
        people = [
            asyncio.create_task(http.get("/approvals/news")),
            asyncio.create_task(http.post("/v1/actions/a/approve", headers=by_rest)),
            asyncio.create_task(http.get("/healthz")),
        ]
        await app.asked(3)
        app.go.set()
        answers = await asyncio.gather(*programs, *people)
    assert {answer.status_code for answer in answers} == {200}


async def test_of_more_tokens_than_places_each_gets_in() -> None:
    app, tokens = Slow(), {name: f"token-of-{name}-0123456789" for name in ("a", "b", "c")}
    app.go.set()
    settings = guard_settings("127.0.0.1", callers=tokens)
    guard = guarded(
        app, dataclasses.replace(settings, most_of_programs=2), Refusals(Journal(":memory:"))
    )
    transport = httpx.ASGITransport(app=guard)
    async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:9090") as http:
        headers = {"authorization": f"Bearer {tokens['c']}"}
        assert (await http.get("/v1/tools", headers=headers)).status_code == 200


async def test_two_programs_do_not_keep_a_third_one_out() -> None:
    app, tokens = Slow(), {name: f"token-of-{name}-0123456789" for name in ("a", "b", "c")}
    settings = guard_settings("127.0.0.1", callers=tokens)
    guard = guarded(
        app, dataclasses.replace(settings, most_of_programs=6), Refusals(Journal(":memory:"))
    )
    transport = httpx.ASGITransport(app=guard)
    async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:9090") as http:

        def ask(name: str) -> asyncio.Task[httpx.Response]:
            headers = {"authorization": f"Bearer {tokens[name]}"}
            return asyncio.create_task(http.get("/v1/tools", headers=headers))

        noisy = [ask(name) for name in "ab" for _ in range(3)]
        await app.asked(4)
        third = ask("c")
        await app.asked(1)
        app.go.set()
        assert (await third).status_code == 200
        told = [answer.status_code for answer in await asyncio.gather(*noisy)]
        assert (told.count(200), told.count(503)) == (4, 2)


@pytest.mark.parametrize("fails", [False, True])
async def test_a_program_gets_in_again_once_another_is_answered(fails: bool) -> None:
    app = Slow()
    app.fails = fails
    async with crowded(app) as http:
        programs = [asyncio.create_task(http.get("/mcp")) for _ in range(2)]
        await app.asked(2)
        assert (await http.get("/mcp")).status_code == 503
        app.go.set()
        await asyncio.gather(*programs)
        assert (await http.get("/mcp")).status_code == (500 if fails else 200)


async def test_programs_that_try_again_and_again_fill_neither_the_log_nor_the_journal(
    caplog: pytest.LogCaptureFixture,
) -> None:
    app, journal = Slow(), Journal(":memory:", clock=Clock())
    refusals = Refusals(journal)
    with caplog.at_level(logging.WARNING):
        async with crowded(app, refusals) as http:
            programs = [asyncio.create_task(http.get("/mcp")) for _ in range(2)]
            await app.asked(2)
            for _ in range(50):
                assert (await http.get("/mcp")).status_code == 503
            app.go.set()
            await asyncio.gather(*programs)
    await refusals.ended()
    assert len([r for r in caplog.records if r.getMessage().endswith(": busy")]) == MOST_A_MINUTE
    rows = [(row.way, row.data["what"]) for row in journal.refused_requests(limit=500)]
    assert sorted(rows) == sorted(
        [("busy", "GET /mcp")] * MOST_A_MINUTE + [("busy", "45 more requests")]
    )


# --- other sites, and proxies ---------------------------------------------------------------------

OPEN = guard_settings("127.0.0.1", own_login=("/approvals",))


def test_what_another_site_makes_a_browser_send_is_refused() -> None:
    """An image or a link of a page elsewhere sends no Origin."""
    for path in ["/v1/actions/abcdefghijkl", "/mcp", "/approvals/journal"]:
        for site in ["cross-site", "same-site", "anything-new"]:
            assert verdict(OPEN, path, sec_fetch_site=site, sec_fetch_mode="no-cors") == "site"
            navigation = {"sec_fetch_mode": "navigate", "sec_fetch_dest": "document"}
            assert verdict(OPEN, path, sec_fetch_site=site, **navigation) == "site"


@pytest.mark.parametrize("path", ["/approvals", "/approvals/"])
def test_a_link_elsewhere_opens_the_page_but_no_frame_does(path: str) -> None:
    given = {"sec_fetch_site": "cross-site", "sec_fetch_mode": "navigate"}
    assert verdict(OPEN, path, **given, sec_fetch_dest="document") == ""
    assert verdict(OPEN, path, **given, sec_fetch_dest="iframe") == "site"
    assert verdict(OPEN, path, sec_fetch_site="cross-site", sec_fetch_mode="no-cors") == "site"


@pytest.mark.parametrize("site", ["same-origin", "none"])
def test_the_own_page_and_the_address_bar_are_let_through(site: str) -> None:
    assert verdict(OPEN, "/approvals/journal", sec_fetch_site=site) == ""


def test_the_page_is_opened_at_the_address_that_is_named_though_the_proxy_changes_the_host() -> (
    None
):
    address = "https://rooms.example:8443"
    given = {"sec_fetch_site": "same-origin", "sec_fetch_mode": "cors", "origin": address}
    login = "/approvals/login"
    proxied = guard_settings("127.0.0.1", callers={"": TOKEN}, own_login=("/approvals",))
    assert verdict(proxied, login, **given) == "origin"
    named = guard_settings(
        "127.0.0.1", callers={"": TOKEN}, own_login=("/approvals",), origins=(address,)
    )
    assert verdict(named, login, **given) == ""
    assert verdict(named, login, **{**given, "origin": "https://rooms.example"}) == "origin"


def test_without_a_token_nobody_comes_through_a_proxy() -> None:
    """The proxy is on this machine, so everybody behind it would look local."""
    for path in ["/v1/tools", "/approvals"]:
        for header in ["forwarded", "via", "x_real_ip", "x_forwarded_for", "x_forwarded_proto"]:
            assert verdict(OPEN, path, **{header: "198.51.100.7"}) == "proxy"


def test_with_a_token_a_proxy_is_fine() -> None:
    settings = guard_settings("127.0.0.1", callers={"": TOKEN})
    bearer = {"authorization": f"Bearer {TOKEN}"}
    assert verdict(settings, "/v1/tools", x_forwarded_for="198.51.100.7", **bearer) == ""
    assert verdict(settings, "/v1/tools", x_forwarded_for="198.51.100.7") == "no_token"
