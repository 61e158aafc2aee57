"""Refused requests on record: who, what, why; never a flood of them, never a secret."""

from __future__ import annotations

import asyncio
import logging
import sqlite3
from pathlib import Path

import pytest

from hms_active_rooms.errors import InvalidCall, JournalError, PolicyRefusal
from hms_active_rooms.gate.journal import Journal
from hms_active_rooms.serve.callers import Caller
from hms_active_rooms.serve.calls import call_tool
from hms_active_rooms.serve.limits import MOST_A_MINUTE, Refusals, refusals_of
from serve.people import client, kit, students
from serve.rest_callers import CALLER, problem, rest_app, speaking
from stand_in import Clock

ELSEWHERE = "7" * 24


def on_record(journal: Journal) -> list[tuple[str, str, str]]:
    """Why, what and who, oldest first."""
    rows = reversed(journal.refused_requests(limit=500))
    return [(row.way, row.data["what"], row.by) for row in rows]


async def test_a_refusal_says_who_wanted_what_and_why() -> None:
    journal = Journal(":memory:")
    refusals = Refusals(journal)
    refusals.add("token", "POST /mcp", "203.0.113.9")
    await refusals.ended()
    assert on_record(journal) == [("token", "POST /mcp", "203.0.113.9")]


async def test_a_flood_is_counted_and_fills_nothing() -> None:
    clock = Clock()
    journal = Journal(":memory:", clock=clock)
    refusals = Refusals(journal)
    for minute in range(3):
        for _ in range(1000):
            refusals.add("token", f"POST /{minute}", "203.0.113.9")
        await clock.sleep(60)
    await refusals.ended()
    rows = on_record(journal)
    assert len(rows) == 3 * (MOST_A_MINUTE + 1)
    counted = [what for _, what, _ in rows if "more" in what]
    assert counted == ["995 more requests"] * 3


async def test_a_flood_hides_nothing_that_is_refused_for_another_reason() -> None:
    journal = Journal(":memory:")
    refusals = Refusals(journal)
    for _ in range(1000):
        refusals.add("token", "POST /mcp", "203.0.113.9")
    refusals.add("policy_refusal", "hms-list-peers of room 7", "rest")
    await refusals.ended()
    assert ("policy_refusal", "hms-list-peers of room 7", "rest") in on_record(journal)


async def test_what_strangers_wrote_is_escaped_and_cut() -> None:
    journal = Journal(":memory:")
    refusals = Refusals(journal)
    refusals.add("host", "GET /\x1b[2J\u202e" + "x" * 1000, "\n" * 500)
    await refusals.ended()
    [(_, what, by)] = on_record(journal)
    assert what.startswith("GET /\\u001b[2J\\u202e")
    assert what.endswith("…")
    assert len(what) < 200
    assert "\n" not in by
    assert "\x1b" not in what


async def test_a_journal_that_takes_nothing_keeps_no_refusal_from_being_one(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    journal = Journal(":memory:")

    def full(*_: object, **__: object) -> None:
        raise JournalError("The journal failed: disk full.")

    monkeypatch.setattr(journal, "note", full)
    refusals = Refusals(journal)
    with caplog.at_level(logging.WARNING):
        refusals.add("token", "POST /mcp", "203.0.113.9")
        await refusals.ended()
    assert "a refusal was not recorded" in caplog.text


async def test_all_ways_in_share_the_limit() -> None:
    journal = Journal(":memory:")
    assert refusals_of(journal) is refusals_of(journal)
    assert refusals_of(journal) is not refusals_of(Journal(":memory:"))


@pytest.mark.parametrize("tool", ["hms-list-peers", "hms-retrieve-active-room"])
async def test_reading_another_room_is_refused_on_record(tool: str) -> None:
    room = students()
    toolkit = kit(room)
    journal = toolkit.gate.journal
    with pytest.raises(PolicyRefusal):
        await call_tool(toolkit, tool, {"room_id": ELSEWHERE}, caller=Caller("rest", "rest"))
    async with client(toolkit, "auto") as mcp:
        assert (await mcp.call_tool(tool, {"room_id": ELSEWHERE})).is_error
    await refusals_of(journal).ended()
    rest, mcp_row = on_record(journal)
    assert rest == ("policy_refusal", f"{tool} of room {ELSEWHERE}", "rest")
    assert mcp_row[:2] == rest[:2]
    assert mcp_row[2].startswith("mcp:")


async def test_listing_the_actions_of_another_room_is_refused_on_record() -> None:
    toolkit = kit(students())
    async with speaking(rest_app(toolkit), CALLER) as (me,):
        wanted = await me.get("/v1/actions", params={"room_id": ELSEWHERE})
    problem(wanted, 403, "policy_refusal")
    await refusals_of(toolkit.gate.journal).ended()
    assert on_record(toolkit.gate.journal) == [("policy_refusal", "GET /v1/actions", "127.0.0.1")]


async def test_a_call_by_rest_that_the_policy_refuses_is_on_record_once() -> None:
    toolkit = kit(students())
    async with speaking(rest_app(toolkit), CALLER) as (me,):
        problem(await me.tool("hms-list-peers", {"room_id": ELSEWHERE}), 403, "policy_refusal")
    await refusals_of(toolkit.gate.journal).ended()
    what = f"hms-list-peers of room {ELSEWHERE}"
    assert on_record(toolkit.gate.journal) == [("policy_refusal", what, "rest")]


async def test_no_action_has_the_name_under_which_refusals_stand() -> None:
    toolkit = kit(students())
    with pytest.raises(InvalidCall, match="no such action"):
        await toolkit.gate.get("(requests)")


def test_refusals_stay_as_they_were_written(tmp_path: Path) -> None:
    path = tmp_path / "journal.sqlite"
    journal = Journal(f"sqlite:///{path}")

    async def refuse() -> None:
        refusals_of(journal).add("token", "POST /mcp", "203.0.113.9")
        await refusals_of(journal).ended()

    asyncio.run(refuse())
    journal.close()
    with sqlite3.connect(path) as db, pytest.raises(sqlite3.IntegrityError, match="append-only"):
        db.execute("DELETE FROM hms_events WHERE action_id = '(requests)'")
