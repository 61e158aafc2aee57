"""What is sent again, and after how long, whatever comes back in whatever order."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from api.wire import PEER, ROOM, FixedToken, Sleeps
from hms_active_rooms.api import ActiveRoomsClient, Backoff
from hms_active_rooms.api.answers import MAX_RETRY_AFTER_S, retry_after_s
from hms_active_rooms.errors import ApiError

OK = {"message": "ok", "peers": {}}
ANSWERS: dict[str, httpx.Response | httpx.HTTPError] = {
    "ok": httpx.Response(200, json=OK),
    "not sent": httpx.ConnectError("x"),
    "429": httpx.Response(429, json={}, headers={"retry-after": "3"}),
    "401": httpx.Response(401, json={}),
    "400": httpx.Response(400, json={}),
    "403": httpx.Response(403, json={}),
    "404": httpx.Response(404, json={}),
    "timeout": httpx.ReadTimeout("x"),
    "408": httpx.Response(408, json={}),
    "cut off": httpx.ReadError("x"),
    "no JSON": httpx.Response(200, content=b"<html>"),
    "another": httpx.Response(200, json={"code": 500, "peers": {}}),
    "500": httpx.Response(500, json={}),
    "503": httpx.Response(503, content=b"busy", headers={"retry-after": "7"}),
    "302": httpx.Response(302, json={}),
    "too large": httpx.Response(200, content=b" " * 2000),
}
READ_AGAIN = {"not sent", "429", "timeout", "408", "cut off", "no JSON", "500", "503"}
NOT_EXECUTED = {"not sent", "429", "401", "400", "403", "404"}


def play(
    answers: Sequence[str],
    *,
    write: bool,
    random: float = 0.5,
    backoff: Backoff = Backoff(),  # noqa: B008 - frozen
    deadline_s: float = 30.0,
) -> tuple[ApiError | None, int, list[float]]:
    """One call: its error, how many requests were sent, and the waits between."""
    left, sleeps = list(answers), Sleeps()

    def answer(_: httpx.Request) -> httpx.Response:
        found = ANSWERS[left.pop(0) if left else "ok"]
        if isinstance(found, httpx.Response):
            return httpx.Response(found.status_code, headers=found.headers, content=found.content)
        raise found

    async def call() -> ApiError | None:
        async with ActiveRoomsClient(
            FixedToken("old", "new"),
            transport=httpx.MockTransport(answer),
            backoff=backoff,
            deadline_s=deadline_s,
            max_answer_bytes=1000,
            sleep=sleeps,
            rng=lambda: random,
        ) as client:
            try:
                if write:
                    await client.remove_peers(ROOM, peer_id=PEER)
                else:
                    await client.list_peers(ROOM)
            except ApiError as error:
                return error
            return None

    error = asyncio.run(call())
    sent = len(answers) - len(left) + (error is None and not left and "ok" not in answers)
    return error, sent, sleeps.waited


names = st.lists(st.sampled_from(list(ANSWERS)), min_size=1, max_size=8)


@settings(deadline=None)
@given(names)
def test_a_write_never_waits_and_is_never_sent_again(answers: list[str]) -> None:
    error, sent, waited = play(answers, write=True)
    assert (sent, waited) == (1, [])
    assert (error is None) == (answers[0] == "ok")
    if error is not None:
        assert error.executed == ("no" if answers[0] in NOT_EXECUTED else "maybe")
        assert getattr(error, "renewed", False) is (answers[0] == "401")


@settings(deadline=None)
@given(names, st.floats(0, 1, exclude_max=True), st.floats(0.1, 100), st.integers(1, 6))
def test_a_read_executes_nothing_and_its_waits_fit_the_deadline_and_what_the_server_asks(
    answers: list[str], random: float, deadline_s: float, attempts: int
) -> None:
    backoff = Backoff(attempts=attempts)
    error, sent, waited = play(
        answers, write=False, random=random, backoff=backoff, deadline_s=deadline_s
    )
    assert error is None or error.executed == "no"
    assert sent <= attempts + 1
    assert all(wait < deadline_s for wait in waited)
    repeated = [name for name in answers[:sent] if name in READ_AGAIN][: len(waited)]
    for name, wait in zip(repeated, waited, strict=True):
        asked = {"429": 3.0, "503": 7.0}.get(name, 0.0)
        assert asked <= wait <= asked + backoff.cap_s


@pytest.mark.parametrize("name", [name for name in ANSWERS if name != "ok"])
@pytest.mark.parametrize("write", [False, True])
def test_each_failure_says_what_was_executed_and_is_sent_again_or_not(
    name: str, write: bool
) -> None:
    error, sent, _ = play([name], write=write)
    again = name in {"401", *READ_AGAIN} and not write
    assert sent == (2 if again else 1)
    assert (error is None) == again
    if error is not None:
        assert error.executed == ("maybe" if write and name not in NOT_EXECUTED else "no")


def test_waits_double_up_to_a_cap_with_full_jitter() -> None:
    backoff = Backoff(attempts=6, base_s=1.0, cap_s=5.0)
    for random in (1.0, 0.25, 0.0):
        _, _, waited = play(["500"] * 4, write=False, random=random, backoff=backoff)
        assert waited == [random * bound for bound in (1, 2, 4, 5)]
    assert Backoff().ceiling_s(10_000) == 8.0


@pytest.mark.parametrize(
    ("header", "message", "expected"),
    [
        (None, "", None),
        ("5", "", 5.0),
        (" 5 ", "", 5.0),
        ("0", "", 0.0),
        ("99999999999999999999", "", MAX_RETRY_AFTER_S),
        ("9" * 5000, "", MAX_RETRY_AFTER_S),
        ("1.5", "", 1.5),
        ("5s", "", 5.0),
        ("5, 7", "", 5.0),
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
