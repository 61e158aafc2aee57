"""Login links and sessions: once, not for ever, and only with both halves."""

from __future__ import annotations

import pytest

from hms_active_rooms.errors import InvalidCall
from hms_active_rooms.serve.page.routes import Logins


class Seconds:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Seconds:
    return Seconds()


@pytest.fixture
def logins(clock: Seconds) -> Logins:
    return Logins(60.0, 600.0, clock)


def test_a_link_opens_one_session(logins: Logins) -> None:
    token = logins.link()
    assert logins.open(token, " ada ")[0].name == "ada"
    with pytest.raises(InvalidCall, match="used already"):
        logins.open(token, "bob")


def test_a_link_gets_too_old(logins: Logins, clock: Seconds) -> None:
    token = logins.link()
    clock.now += 60.0
    with pytest.raises(InvalidCall, match="too old"):
        logins.open(token, "ada")


def test_a_link_for_somebody_is_nobody_elses(logins: Logins) -> None:
    assert logins.open(logins.link("ada"), "bob")[0].name == "ada"


def test_a_name_that_cannot_be_read_is_none_and_the_link_stays(logins: Logins) -> None:
    for name in [
        "",
        "   ",
        "a" * 61,
        "a\nb",
        "\u202eada",
        "a\u200bda",
        'ada" (page)',
        "\ud800",
        "\u3164",
    ]:
        token = logins.link()
        with pytest.raises(InvalidCall, match="A name has"):
            logins.open(token, name)
        assert logins.open(token, "Zoë O'Connor")[0].name == "Zoë O'Connor"


@pytest.mark.parametrize("token", ["", "x", "\ud800", "ü" * 1000])
def test_what_is_no_link_is_refused_like_a_used_one(logins: Logins, token: str) -> None:
    with pytest.raises(InvalidCall, match="used already"):
        logins.open(token, "ada")
    assert logins.find(token, token) is None


def test_a_session_needs_both_its_halves(logins: Logins) -> None:
    session, cookie, key = logins.open(logins.link(), "ada")
    _, _, other = logins.open(logins.link(), "bob")
    assert logins.find(cookie, key) == session
    for wrong in (
        (cookie, ""),
        (cookie, other),
        ("", key),
        (key, cookie),
        ("", ""),
        ("", cookie + key),
        ("\udcff", "\udcff"),
    ):
        assert logins.find(*wrong) is None


def test_a_session_ends_by_itself_and_by_logging_out(logins: Logins, clock: Seconds) -> None:
    ada, bob = (logins.open(logins.link(), name) for name in ("ada", "bob"))
    logins.close(ada[0])
    assert logins.find(*ada[1:]) is None
    assert not logins.lasts(ada[0])
    assert logins.lasts(bob[0])
    clock.now += 600.0
    assert logins.find(*bob[1:]) is None


def test_no_secret_is_shown_by_repr(logins: Logins) -> None:
    token = logins.link()
    session, cookie, key = logins.open(token, "ada")
    assert not any(secret in repr((logins, session)) for secret in (token, cookie, key))
