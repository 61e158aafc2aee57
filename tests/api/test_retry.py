"""Decisions about sending again, for every cause and every input."""

from __future__ import annotations

from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hms_active_rooms.api import Backoff
from hms_active_rooms.api.retry import (
    MAX_RETRY_AFTER_S,
    Cause,
    Decision,
    Effect,
    Wait,
    decide,
    executed,
    retry_after_s,
)

CAUSES: tuple[Cause, ...] = get_args(Cause)
causes = st.sampled_from(CAUSES)
effects: st.SearchStrategy[Effect] = st.sampled_from(["read", "write"])
seconds = st.floats(min_value=0, max_value=1e6)
chance = st.floats(min_value=0, max_value=1, exclude_max=True)


@given(causes, st.integers(1, 50), seconds, chance, st.none() | seconds, st.booleans())
def test_a_write_never_waits_and_one_that_may_have_been_executed_is_never_sent_again(
    cause: Cause,
    attempt: int,
    remaining: float,
    random: float,
    after: float | None,
    refreshed: bool,
) -> None:
    decision = decide(
        cause,
        "write",
        attempt=attempt,
        remaining_s=remaining,
        random=random,
        retry_after_s=after,
        refreshed=refreshed,
    )
    assert not isinstance(decision, Wait)
    if executed(cause, "write") != "no":
        assert decision == "stop"


@given(causes, effects, st.integers(1, 10_000), seconds, chance, st.none() | seconds)
def test_a_wait_fits_the_deadline_and_never_undercuts_the_server(
    cause: Cause,
    effect: Effect,
    attempt: int,
    remaining: float,
    random: float,
    after: float | None,
) -> None:
    backoff = Backoff(attempts=10_001)
    decision = decide(
        cause,
        effect,
        attempt=attempt,
        remaining_s=remaining,
        random=random,
        retry_after_s=after,
        backoff=backoff,
    )
    if isinstance(decision, Wait):
        assert 0 <= decision.seconds < remaining
        assert (after or 0) <= decision.seconds <= (after or 0) + backoff.cap_s


@given(causes, effects, st.integers(4, 1000), chance)
def test_attempts_are_bounded(cause: Cause, effect: Effect, attempt: int, random: float) -> None:
    decision = decide(
        cause, effect, attempt=attempt, remaining_s=1e9, random=random, refreshed=True
    )
    assert decision == "stop"


@given(causes)
def test_a_read_never_executed_anything(cause: Cause) -> None:
    assert executed(cause, "read") == "no"


def choice(cause: Cause, effect: Effect) -> Decision:
    return decide(cause, effect, attempt=1, remaining_s=30, random=0.5)


@pytest.mark.parametrize(
    ("cause", "write_executed", "read_again"),
    [
        ("not_sent", "no", True),
        ("rate_limited", "no", True),
        ("refused", "no", False),
        ("timeout", "maybe", True),
        ("cut_off", "maybe", True),
        ("malformed", "maybe", True),
        ("contradicts", "maybe", False),
        ("server_error", "maybe", True),
        ("redirected", "maybe", False),
        ("too_large", "maybe", False),
    ],
)
def test_the_table_in_the_docstring_holds(
    cause: Cause, write_executed: str, read_again: bool
) -> None:
    assert executed(cause, "write") == write_executed
    assert choice(cause, "read") == (Wait(0.25) if read_again else "stop")
    assert choice(cause, "write") == "stop"


@pytest.mark.parametrize("effect", ["read", "write"])
def test_a_401_gets_a_new_token_once_at_once(effect: Effect) -> None:
    assert choice("unauthorized", effect) == "refresh_token"
    assert executed("unauthorized", effect) == "no"
    again = decide("unauthorized", effect, attempt=1, remaining_s=30, random=0.5, refreshed=True)
    assert again == "stop"


def test_waits_double_up_to_a_cap_with_full_jitter() -> None:
    def bound(attempt: int, random: float) -> Decision:
        return decide(
            "timeout",
            "read",
            attempt=attempt,
            remaining_s=100,
            random=random,
            backoff=Backoff(attempts=9, base_s=1.0, cap_s=5.0),
        )

    assert [bound(n, 1.0) for n in (1, 2, 3, 4)] == [Wait(1), Wait(2), Wait(4), Wait(5)]
    assert bound(4, 0.0) == Wait(0)


@pytest.mark.parametrize(
    ("header", "message", "expected"),
    [
        (None, "", None),
        ("5", "", 5.0),
        (" 5 ", "", 5.0),
        ("0", "", 0.0),
        ("99999999999999999999", "", MAX_RETRY_AFTER_S),
        ("9" * 5000, "", None),
        ("-5", "", None),
        ("1e3", "", None),
        ("٣", "", None),
        ("nan", "", None),
        ("soon", "", None),
        ("Thu, 01 Jan 1970 00:01:40 GMT", "", 60.0),
        ("Thu, 01 Jan 1970 00:01:40", "", 60.0),
        ("Thu, 01 Jan 1970 00:00:00 GMT", "", 0.0),
        ("Fri, 31 Dec 9999 23:59:59 GMT", "", MAX_RETRY_AFTER_S),
        ("Fri, 31 Dec 9999 23:59:59 -2359", "", MAX_RETRY_AFTER_S),
        (None, "rate limit exceeded, retry after 45 seconds", 45.0),
        ("garbage", "retry after 1 second", 1.0),
        ("7", "retry after 45 seconds", 7.0),
    ],
)
def test_the_wait_the_server_asks_for_is_understood(
    header: str | None, message: str, expected: float | None
) -> None:
    assert retry_after_s(header, message, now=40.0) == expected


@given(st.none() | st.text(), st.text(), st.floats(min_value=0, max_value=1e12))
def test_no_retry_after_is_an_error(header: str | None, message: str, now: float) -> None:
    wait = retry_after_s(header, message, now=now)
    assert wait is None or 0 <= wait <= MAX_RETRY_AFTER_S
