"""What the data of an answer costs a model, counted by the real tokenizers."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from hms_active_rooms.api.models import Peer
from hms_active_rooms.gate.actions.result import PersonResult, Result
from hms_active_rooms.gate.view import MAX_PEOPLE
from hms_active_rooms.serve.calls import action_answer
from hms_active_rooms.tokens import token_bound
from hms_active_rooms.tools.arguments import DEFAULT_ROWS
from hms_active_rooms.tools.roster import (
    PeersData,
    PeersTable,
    Roster,
    default_budget,
    peers_data,
    peers_table,
    peers_within,
    render_roster,
)
from rosters import roster
from serve.people import client, kit, remove, students
from serve.rest_callers import CALLER, rest_app, speaking
from stand_in import ROOM, StandInRoom, peer
from tokenizer import real_tokens

TEXT_TOKENS = 1500
DATA_TOKENS = 1700
"""The rows of the text once more, and the name of each value in each row."""

TEXTS = {
    "ordinary": "Priya Raman",
    "Cyrillic": "Александр Иванов",
    "invisible": "\U000e0041" * 200,
    "pictures": "👩‍👩‍👧‍👦" * 30,
    "marks": "a" + "\u0301" * 200,
    "line ends": "\n" * 200,
    "backslashes": "\\" * 200,
    "quotes": '"' * 200,
    "rare letters": "ꙮ" * 200,
    "active": "`<a>" * 50,
}


def crowd(text: str, roles: int, limit: int = DEFAULT_ROWS) -> Roster:
    """120 people whose texts are all this one."""
    people = [
        Peer(
            id=f"{n:08x}-0000-4000-8000-{n:012x}",
            name=f"{n}{text}",
            role=f"{n % roles}{text}",
            user_id=f"student-{1000 + n}" if text == "Priya Raman" else f"{n}{text}",
            metadata="",
            joined_at="2026-11-24T10:00:00Z",
        )
        for n in range(120)
    ]
    return roster(people, limit=limit)


def in_json(data: Any) -> str:
    return json.dumps(data, ensure_ascii=False, separators=(",", ":"))


def test_text_and_data_of_a_roster_are_bounded_whatever_it_holds() -> None:
    for kind in TEXTS:
        for roles in [1, 40]:
            view = crowd(TEXTS[kind], roles)
            data = peers_data(ROOM, view)
            assert real_tokens(render_roster(view)) <= TEXT_TOKENS
            assert real_tokens(in_json(data)) <= DATA_TOKENS
            assert [row["short_id"] for row in data["peers"]] == [row.short_id for row in view.rows]
            assert data["left_out"] == view.left_out
            PeersData.model_validate(data)


def test_roles_that_begin_alike_keep_their_own_counts() -> None:
    people = [
        Peer(id=f"{n:08}", role="a-very-long-role-of-a-template-" + "xyz"[n % 3]) for n in range(7)
    ]
    assert sorted(peers_data(ROOM, roster(people))["by_role"].values()) == [2, 2, 3]


def test_ordinary_people_are_all_in_the_data_uncut() -> None:
    view = crowd("Priya Raman", 1)
    rows = peers_data(ROOM, view)["peers"]
    assert len(rows) == len(view.rows) > 40
    assert {len(row) for row in rows} == {4}
    assert rows[7]["name"] == "7Priya Raman"


@pytest.mark.parametrize("kind", TEXTS)
def test_data_alone_is_in_the_same_budget_however_it_is_written(kind: str) -> None:
    for roles in [1, 40]:
        for limit in [1, 50, 100]:
            view = crowd(TEXTS[kind], roles, limit)
            for written in (in_json, json.dumps):
                data = peers_within(ROOM, view, default_budget(limit), written)
                PeersData.model_validate(data)
                assert token_bound(written(data)) <= default_budget(limit)
                assert real_tokens(written(data)) <= default_budget(limit)
                assert 1 <= len(data["peers"]) <= limit
                assert data["by_role"]
                assert data["left_out"] == 120 - len(data["peers"])


@pytest.mark.parametrize("kind", TEXTS)
def test_for_mcp_text_and_data_are_in_one_budget(kind: str) -> None:
    for roles in [1, 40]:
        for limit in [1, 50, 100]:
            budget = default_budget(limit)
            view = crowd(TEXTS[kind], roles, limit)
            told, data = peers_table(ROOM, view, budget)
            PeersTable.model_validate(data)
            rows = len(data["peers"])
            assert 1 <= rows <= limit
            assert rows == 1 or token_bound(told) + token_bound(in_json(data)) <= budget
            assert real_tokens(told + in_json(data)) <= budget
            assert [row[0] for row in data["peers"]] == [row.short_id for row in view.rows[:rows]]
            assert data["left_out"] == 120 - rows
            assert f"Shown: 1 to {rows} of 120." in told


def test_for_mcp_nobody_is_a_table_without_rows() -> None:
    told, data = peers_table(ROOM, roster([]), default_budget(50))
    assert "Nobody is in the room." in told
    assert data["peers"] == []


async def test_the_result_of_a_role_removal_names_few_and_first_who_is_left() -> None:
    toolkit = kit(students())
    async with client(toolkit, "auto") as mcp:
        waiting = await mcp.call_tool("hms-remove-peers", remove())
    row = await toolkit.gate.get(waiting.structured_content["action_id"])
    people = tuple(
        PersonResult(f"id-{n}", "\U000e0041" * 200, "failed" if n == 444 else "removed")
        for n in range(500)
    )
    ended = replace(row, state="failed", result=Result("x", "partly", people=people))
    told = action_answer(ended).data["result"]
    assert told["people"][0]["id"] == "id-444"
    assert (len(told["people"]), told["people_left_out"]) == (MAX_PEOPLE, 500 - MAX_PEOPLE)
    assert real_tokens(in_json(told)) <= DATA_TOKENS


def test_of_a_few_people_everything_is_told_and_bounded() -> None:
    for kind in TEXTS:
        people = [
            Peer(
                id=f"{n:08x}-0000-4000-8000-{n:012x}",
                name=TEXTS[kind],
                role=TEXTS[kind],
                user_id=TEXTS[kind],
                metadata=TEXTS[kind] * 1000,
                joined_at="2026-11-24T10:00:00.123456Z",
            )
            for n in range(5)
        ]
        view = roster(people)
        data = peers_data(ROOM, view)
        PeersData.model_validate(data)
        assert [row["id"] for row in data["details"]] == [peer.id for peer in people]
        assert {row["joined_at"] for row in data["details"]} == {"2026-11-24T10:00:00.123456Z"}
        assert real_tokens(in_json(data)) <= DATA_TOKENS
        told, table = peers_table(ROOM, view, default_budget(DEFAULT_ROWS))
        PeersTable.model_validate(table)
        assert len(table["details"]) == len(table["peers"]) >= 1
        assert real_tokens(told + in_json(table)) <= TEXT_TOKENS


async def test_by_mcp_and_rest_a_locked_journal_sends_nothing_and_says_what_to_do(
    tmp_path: Path,
) -> None:
    file, room = tmp_path / "j.sqlite", students()
    toolkit = kit(room, f"sqlite:///{file}?timeout=0")
    async with (
        speaking(rest_app(toolkit), CALLER) as [program],
        client(toolkit, "auto") as mcp,
    ):
        with closing(sqlite3.connect(file, isolation_level=None)) as other:
            other.execute("BEGIN EXCLUSIVE")
            refused = await program.tool("hms-remove-peers", remove())
            result = await mcp.call_tool("hms-remove-peers", remove())
    assert (refused.status_code, refused.headers["retry-after"]) == (503, "10")
    said = refused.json()
    for text in (f"{said['detail']} {said['hint']}", str(result.content)):
        assert "Nothing was executed. Nothing is sent without a record. Try again, or stop" in text
    assert (said["executed"], result.is_error, room.posts) == ("no", True, [])
    await toolkit.aclose()


async def test_by_mcp_and_rest_one_person_is_told_in_full() -> None:
    known = {"metadata": "hand raised", "joined_at": "2026-11-24T10:00:00Z"}
    one = peer(1).model_copy(update=known)
    room = StandInRoom([one, *[peer(n) for n in range(2, 9)]])
    wanted: dict[str, Any] = {"room_id": ROOM, "name": "Peer 1"}
    full = {"id": one.id, **known}
    async with client(kit(room), "auto") as mcp:
        by_mcp = (await mcp.call_tool("hms-list-peers", wanted)).structured_content
    async with speaking(rest_app(kit(room)), CALLER) as (me,):
        by_rest = (await me.tool("hms-list-peers", wanted)).json()["data"]
        everyone = (await me.tool("hms-list-peers", {"room_id": ROOM})).json()["data"]
        # Whom no filter tells apart can be told in full a few at a time.
        wanted |= {"name": "Peer", "limit": 5, "offset": 5}
        last = (await me.tool("hms-list-peers", wanted)).json()["data"]
    async with client(kit(room), "auto") as mcp:
        same = (await mcp.call_tool("hms-list-peers", wanted)).structured_content
    assert by_mcp["details"] == by_rest["details"] == [full]
    assert everyone["details"] == []
    assert [p["id"] for p in last["details"]] == [p["id"] for p in same["details"]]
    assert (len(last["details"]), len(last["peers"]), last["matching"]) == (3, 3, 8)


NOTHING: dict[str, dict[str, Any]] = {
    "hms-list-peers": {"role": None, "user_id": "", "name": None, "limit": "", "offset": None},
    "hms-send-message": {"message": "hi", "peer_id": "", "role": None, "type": ""},
    "hms-remove-peers": {"peer_id": peer(1).id, "role": "", "reason": None},
    "hms-end-active-room": {"reason": "", "lock": None},
}


@pytest.mark.parametrize("tool", NOTHING)
async def test_null_and_nothing_are_absent_by_mcp_and_rest(tool: str) -> None:
    given = {"room_id": ROOM, **NOTHING[tool]}
    said = {name: value for name, value in given.items() if value not in (None, "")}
    async with client(kit(students()), "auto") as mcp, client(kit(students()), "legacy") as old:
        told = [(await each.call_tool(tool, given)).structured_content for each in (mcp, old)]
    async with speaking(rest_app(kit(students())), CALLER) as (me,):
        told.append((await me.tool(tool, given)).json()["data"])
    for data in told:
        if tool == "hms-list-peers":
            assert (data["matching"], len(data["peers"])) == (3, 3)
        else:
            assert said.items() <= data["arguments"].items()
            assert {"role", "reason"}.isdisjoint(data["arguments"])
