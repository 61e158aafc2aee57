"""Deciding by REST: approvers only, the first decision counts, one request is sent."""

from __future__ import annotations

import asyncio
import logging

import pytest

from hms_active_rooms.capability import capability
from hms_active_rooms.errors import TimedOut
from hms_active_rooms.gate.journal import Journal
from serve.people import kit, remove, students
from serve.rest_callers import ADA, BOB, CALLER, OPEN, problem, rest_app, speaking
from stand_in import ROOM, Clock, peer

REMOVE, SEND = "hms-remove-peers", "hms-send-message"
HELLO = {"room_id": ROOM, "message": "hello"}


# --- who decides --------------------------------------------------------------------------------


@pytest.mark.parametrize("word", ["approve", "reject"])
async def test_the_callers_token_never_decides(word: str, caplog: pytest.LogCaptureFixture) -> None:
    room = students()
    toolkit = kit(room)
    async with speaking(rest_app(toolkit), CALLER) as (me,):
        action = (await me.tool(REMOVE, remove())).json()["data"]
        row = await toolkit.gate.get(action["action_id"])
        body = {"digest": row.digest}
        with caplog.at_level(logging.WARNING):
            told = await me.post(f"/v1/actions/{row.id}/{word}", json=body)
    assert f"hms-active-rooms approve {row.id}" in problem(told, 403, "not_an_approver")["hint"]
    assert (await toolkit.gate.get(row.id)).state == "proposed"
    assert [e.kind for e in toolkit.gate.journal.events(row.id)] == ["proposed"]
    assert "not_an_approver" in caplog.text
    assert CALLER not in caplog.text
    assert room.posts == []


async def test_without_an_approver_nobody_decides_by_rest() -> None:
    room = students()
    app = rest_app(kit(room), guard=OPEN, page="http://127.0.0.1:1/approvals")
    async with speaking(app, "", ADA) as (me, ada):
        action = (await me.tool(REMOVE, remove())).json()["data"]
        told = problem(await ada.approve(action), 403, "not_an_approver")
    assert "http://127.0.0.1:1/approvals" in told["hint"]
    assert room.posts == []


@pytest.mark.parametrize("tool", [t.name for t in capability().tools if not t.hints.read_only])
async def test_an_approvers_token_calls_nothing_that_changes_a_room(tool: str) -> None:
    toolkit = kit(students())
    async with speaking(rest_app(toolkit), ADA) as (ada,):
        told = await ada.tool(tool, {"room_id": ROOM})
    problem(told, 403, "approver_cannot_call")
    assert toolkit.gate.journal.actions() == []


@pytest.mark.parametrize("headers", [{}, {"content-type": "application/json"}])
async def test_a_rejection_without_a_body_is_one_without_a_reason(headers: dict[str, str]) -> None:
    toolkit = kit(students())
    async with speaking(rest_app(toolkit), CALLER, ADA) as (me, ada):
        action = (await me.tool(REMOVE, remove())).json()["data"]
        where = f"/v1/actions/{action['action_id']}"
        told = problem(await ada.post(f"{where}/approve", headers=headers), 422, "invalid_call")
        done = await ada.post(f"{where}/reject", headers=headers)
    assert "digest" in told["detail"]
    assert (done.status_code, done.json()["action"]["state"]) == (200, "rejected")
    row = await toolkit.gate.get(action["action_id"])
    assert (row.decided_by, row.reason) == ("ada", "")


# --- several at once ----------------------------------------------------------------------------


async def test_a_second_decision_is_told_which_one_counted() -> None:
    room = students()
    toolkit = kit(room)
    async with speaking(rest_app(toolkit), CALLER, ADA, BOB) as (me, ada, bob):
        action = (await me.tool(REMOVE, remove())).json()["data"]
        digest = (await toolkit.gate.get(action["action_id"])).digest
        await ada.reject(action, "no")
        where = f"/v1/actions/{action['action_id']}/approve"
        told = problem(await bob.post(where, json={"digest": digest}), 409, "already_decided")
    assert 'Already rejected by "ada" (rest) at ' in told["detail"]
    assert told["action"]["state"] == "rejected"
    assert room.posts == []


async def test_approvals_at_once_send_one_request() -> None:
    room = students()
    async with speaking(rest_app(kit(room)), CALLER, ADA, BOB) as (me, ada, bob):
        action = (await me.tool(REMOVE, remove())).json()["data"]
        verdicts = await asyncio.gather(*(who.approve(action) for who in (ada, bob) * 4))
        told = (await me.get(f"/v1/actions/{action['action_id']}")).json()["action"]
    assert [verb for verb, _ in room.posts] == ["remove"]
    counted = [v.json()["action"]["decided_by"] for v in verdicts if v.status_code == 200]
    assert set(counted) == {told["decided_by"]}
    assert {v.status_code for v in verdicts} == {200, 409}
    assert told["state"] == "done"


async def test_a_digest_of_something_else_decides_nothing() -> None:
    room = students()
    async with speaking(rest_app(kit(room)), CALLER, ADA) as (me, ada):
        action = (await me.tool(REMOVE, remove())).json()["data"]
        where = f"/v1/actions/{action['action_id']}"
        problem(await ada.post(f"{where}/approve", json={"digest": "0" * 64}), 409, "stale_digest")
        problem(await ada.post(f"{where}/reject", json={"digest": "0" * 64}), 409, "stale_digest")
        assert (await me.get(where)).json()["action"]["state"] == "proposed"
    assert room.posts == []


async def test_too_late_is_told_so() -> None:
    clock = Clock()
    toolkit = kit(students(), Journal(":memory:", clock=clock))
    async with speaking(rest_app(toolkit), CALLER, ADA) as (me, ada):
        action = (await me.tool(REMOVE, remove())).json()["data"]
        await clock.sleep(601)
        (listed,) = (await me.get("/v1/actions", params={"state": "expired"})).json()["actions"]
        assert (listed["state"], listed["waiting"]) == ("expired", False)
        told = problem(await ada.approve(action), 409, "expired")
    assert "not answered in time" in told["detail"]


async def test_an_unknown_outcome_is_an_answer_and_no_second_request() -> None:
    room = students()

    def lost(_: str) -> None:
        raise TimedOut("No answer.", executed="maybe")

    room.after = lost
    async with speaking(rest_app(kit(room)), CALLER, ADA) as (me, ada):
        action = (await me.tool(SEND, HELLO)).json()["data"]
        told = (await ada.approve(action)).json()["action"]
        again = (await me.tool(SEND, HELLO)).json()["data"]
    assert (told["state"], told["executed"]) == (again["state"], again["executed"])
    assert (told["state"], told["executed"]) == ("unknown", "maybe")
    assert len(room.posts) == 1


# --- what a yes can be ----------------------------------------------------------------------


async def test_words_can_be_edited_when_approving() -> None:
    room = students()
    async with speaking(rest_app(kit(room)), CALLER, ADA) as (me, ada):
        action = (await me.tool(SEND, HELLO)).json()["data"]
        verdict = (await ada.approve(action, words={"message": "good morning"})).json()
        old = (await me.get(f"/v1/actions/{action['action_id']}")).json()
    assert [body["message"] for _, body in room.posts] == ["good morning"]
    assert old["newest_id"] == verdict["action"]["action_id"] != action["action_id"]


@pytest.mark.parametrize(
    "words", [{"message": "x" * 5000}, {"reason": "x"}, {"peer_id": peer(2).id}, {}]
)
async def test_wrong_words_decide_nothing(words: dict[str, str]) -> None:
    room = students()
    async with speaking(rest_app(kit(room)), CALLER, ADA) as (me, ada):
        action = (await me.tool(SEND, HELLO)).json()["data"]
        told = problem(await ada.approve(action, words=words), 422, "invalid_call")
        assert next(iter(words), "words") in told["detail"]
        now = (await me.get(f"/v1/actions/{action['action_id']}")).json()["action"]
    assert now["state"] == "proposed"
    assert room.posts == []


@pytest.mark.parametrize("tool", [SEND, REMOVE])
async def test_there_is_no_yes_for_the_session(tool: str) -> None:
    room = students()
    async with speaking(rest_app(kit(room)), CALLER, ADA) as (me, ada):
        action = (await me.tool(tool, HELLO if tool == SEND else remove())).json()["data"]
        told = problem(await ada.approve(action, scope="session"), 422, "invalid_call")
        assert "scope" in told["detail"]
        now = (await me.get(f"/v1/actions/{action['action_id']}")).json()["action"]
    assert now["state"] == "proposed"
    assert room.posts == []


async def test_an_approval_that_the_policy_refuses_by_now_is_told_so() -> None:
    room = students()
    toolkit = kit(room, protected_roles=("teacher",))
    async with speaking(rest_app(toolkit), CALLER, ADA) as (me, ada):
        action = (await me.tool(REMOVE, remove())).json()["data"]
        room.peers[0] = peer(1, role="teacher")
        for already in (False, True):
            told = problem(await ada.approve(action), 409, "policy_refusal")
            assert "the policy protects that role" in told["detail"]
            assert ("Already" in told["detail"]) == already
    assert room.posts == []


async def test_a_change_since_then_is_asked_about_again() -> None:
    room = students()
    async with speaking(rest_app(kit(room)), CALLER, ADA) as (me, ada):
        action = (await me.tool(REMOVE, remove())).json()["data"]
        room.peers[0] = peer(1, role="teacher")
        again = await ada.approve(action)
        assert again.status_code == 202
        new = again.json()["action"]
        assert new["action_id"] != action["action_id"]
        assert again.headers["location"] == f"/v1/actions/{new['action_id']}"
        told = problem(await ada.approve(action), 409, "stale_digest")
        assert told["detail"].count("asked again, as action") == 1
        assert room.posts == []
        assert (await ada.approve(new)).status_code == 200
    assert len(room.posts) == 1
