"""What other sites and proxies can make this machine send: decided from the headers alone."""

from __future__ import annotations

from typing import Any

import pytest

from hms_active_rooms.serve.admission import GuardSettings, Program, Refusal, guard_settings, judge

TOKEN = "caller-token-0123456789"
OPEN = guard_settings("127.0.0.1", own_login=("/approvals",))


def word(settings: GuardSettings, path: str, **headers: str) -> Any:
    given = {name.replace("_", "-"): [value] for name, value in headers.items()}
    found = judge(settings, path, {"host": ["127.0.0.1:9090"], **given})
    if isinstance(found, Program):
        return found.name
    return found.word if isinstance(found, Refusal) else found


def test_what_another_site_makes_a_browser_send_is_refused() -> None:
    """An image or a link of a page elsewhere sends no Origin."""
    for path in ["/v1/actions/abcdefghijkl", "/mcp", "/approvals/journal"]:
        for site in ["cross-site", "same-site", "anything-new"]:
            assert word(OPEN, path, sec_fetch_site=site, sec_fetch_mode="no-cors") == "site"
            navigation = {"sec_fetch_mode": "navigate", "sec_fetch_dest": "document"}
            assert word(OPEN, path, sec_fetch_site=site, **navigation) == "site"


@pytest.mark.parametrize("path", ["/approvals", "/approvals/"])
def test_a_link_elsewhere_opens_the_page_but_no_frame_does(path: str) -> None:
    given = {"sec_fetch_site": "cross-site", "sec_fetch_mode": "navigate"}
    assert word(OPEN, path, **given, sec_fetch_dest="document") == ""
    assert word(OPEN, path, **given, sec_fetch_dest="iframe") == "site"
    assert word(OPEN, path, sec_fetch_site="cross-site", sec_fetch_mode="no-cors") == "site"


@pytest.mark.parametrize("site", ["same-origin", "none"])
def test_the_own_page_and_the_address_bar_are_let_through(site: str) -> None:
    assert word(OPEN, "/approvals/journal", sec_fetch_site=site) == ""


def test_the_page_is_opened_at_the_address_that_is_named_though_the_proxy_changes_the_host() -> (
    None
):
    address = "https://rooms.example:8443"
    given = {"sec_fetch_site": "same-origin", "sec_fetch_mode": "cors", "origin": address}
    login = "/approvals/login"
    proxied = guard_settings("127.0.0.1", token=TOKEN, own_login=("/approvals",))
    assert word(proxied, login, **given) == "origin"
    named = guard_settings("127.0.0.1", token=TOKEN, own_login=("/approvals",), origins=(address,))
    assert word(named, login, **given) == ""
    assert word(named, login, **{**given, "origin": "https://rooms.example"}) == "origin"


def test_without_a_token_nobody_comes_through_a_proxy() -> None:
    """The proxy is on this machine, so everybody behind it would look local."""
    for path in ["/v1/tools", "/approvals", "/healthz"]:
        for header in ["forwarded", "via", "x_real_ip", "x_forwarded_for", "x_forwarded_proto"]:
            assert word(OPEN, path, **{header: "198.51.100.7"}) == "proxy"


def test_with_a_token_a_proxy_is_fine() -> None:
    settings = guard_settings("127.0.0.1", token=TOKEN)
    bearer = {"authorization": f"Bearer {TOKEN}"}
    assert word(settings, "/v1/tools", x_forwarded_for="198.51.100.7", **bearer) == ""
    assert word(settings, "/v1/tools", x_forwarded_for="198.51.100.7") == "token"
