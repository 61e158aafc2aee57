"""REST: the tools, the actions that wait, and what came of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from hms_active_rooms.capability import capability
from hms_active_rooms.errors import JournalError, TimedOut
from hms_active_rooms.gate.actions import parse_call
from hms_active_rooms.gate.journal import Journal
from hms_active_rooms.gate.journal.records import Origin
from hms_active_rooms.gate.journal.store import Writing
from serve.people import broken, kit, remove, students
from serve.rest_callers import ADA, CALLER, problem, rest_app, speaking
from stand_in import ROOM, SESSION, Clock, StandInRoom, gate_on, peer

REMOVE, SEND, LIST = "hms-remove-peers", "hms-send-message", "hms-list-peers"
HELLO = {"room_id": ROOM, "message": "hello"}


# --- the tools --------------------------------------------------------------------------------


async def test_the_five_tools_are_listed_with_hints_and_schemas() -> None:
    async with speaking(rest_app(kit(students())), CALLER) as (me,):
        tools = (await me.get("/v1/tools")).json()["tools"]
    assert [t["name"] for t in tools] == [t.name for t in capability().tools]
    for tool, contract in zip(tools, capability().tools, strict=True):
        assert tool["description"] == contract.description
        assert tool["hints"] == {
            "readOnly": contract.hints.read_only,
            "destructive": contract.hints.destructive,
            "idempotent": contract.hints.idempotent,
        }
        assert tool["input_schema"]["additionalProperties"] is False
        assert tool["output_schema"]["type"] == "object"


async def test_a_reader_answers_in_words_and_in_data() -> None:
    async with speaking(rest_app(kit(students())), CALLER, ADA) as (me, ada):
        people = await me.tool(LIST, {"room_id": ROOM, "role": "student"})
        room = await ada.tool("hms-retrieve-active-room", {"room_id": ROOM})
    assert people.status_code == room.status_code == 200
    assert '"Peer 1"' in people.json()["text"]
    assert [p["name"] for p in people.json()["data"]["peers"]] == ["Peer 1", "Peer 2", "Peer 3"]
    assert room.json()["data"]["session_id"] == SESSION


async def test_a_state_change_waits_at_its_location() -> None:
    room = students()
    app = rest_app(kit(room), page="http://127.0.0.1:9090/approvals")
    async with speaking(app, CALLER) as (me,):
        waiting = await me.tool(REMOVE, remove())
        assert waiting.status_code == 202
        data = waiting.json()["data"]
        assert waiting.headers["location"] == f"/v1/actions/{data['action_id']}"
        assert (data["state"], data["executed"], data["waiting"]) == ("proposed", "no", True)
        assert "http://127.0.0.1:9090/approvals" in data["approve_at"]
        shown = (await me.get(waiting.headers["location"])).json()
    assert shown["action"]["action_id"] == shown["newest_id"] == data["action_id"]
    assert '"Peer 1"' in shown["action"]["question"]
    assert len(shown["action"]["digest"]) == 64
    assert [e["kind"] for e in shown["events"]] == ["proposed"]
    assert room.posts == []


async def test_a_call_is_approved_sent_and_its_outcome_told() -> None:
    room = students()
    toolkit = kit(room)
    async with speaking(rest_app(toolkit), CALLER, ADA) as (me, ada):
        action = (await me.tool(REMOVE, remove())).json()["data"]
        verdict = await ada.approve(action)
        again = await me.tool(REMOVE, remove())
    assert verdict.status_code == 200
    assert "Removed" in verdict.json()["text"]
    assert again.status_code == 200
    told = again.json()["data"]
    assert (told["action_id"], told["state"]) == (action["action_id"], "done")
    assert (told["decided_by"], told["decided_way"]) == ("ada", "rest")
    assert [verb for verb, _ in room.posts] == ["remove"]
    kinds = [e.kind for e in toolkit.gate.journal.events(action["action_id"])]
    assert kinds == ["proposed", "approved", "sent", "done", "told"]


async def test_a_no_is_told_with_its_reason_and_sends_nothing() -> None:
    room = students()
    async with speaking(rest_app(kit(room)), CALLER, ADA) as (me, ada):
        action = (await me.tool(REMOVE, remove())).json()["data"]
        assert (await ada.reject(action, "leave him")).status_code == 200
        told = (await me.tool(REMOVE, remove())).json()
    assert told["data"]["state"] == "rejected"
    assert '"leave him"' in told["text"]
    assert room.posts == []


async def test_a_get_changes_nothing_and_the_next_same_call_gets_the_outcome_as_repeated(
    tmp_path: Path,
) -> None:
    """A page of another site can make a browser send a GET; what a program polls is no answer."""
    room = students()
    toolkit = kit(room, f"sqlite:///{tmp_path / 'journal.sqlite'}")
    async with speaking(rest_app(toolkit), CALLER, ADA) as (me, ada):
        waiting = await me.tool(SEND, HELLO)
        assert waiting.json()["repeated"] is False
        where, action_id = waiting.headers["location"], waiting.json()["data"]["action_id"]
        await ada.approve(waiting.json()["data"])
        before = toolkit.gate.journal.events(action_id)
        for who in (me, ada):
            assert (await who.get(where)).json()["action"]["state"] == "done"
        assert toolkit.gate.journal.events(action_id) == before
        told = await me.tool(SEND, HELLO)
        new = await me.tool(SEND, HELLO)
    assert (told.status_code, told.json()["repeated"]) == (200, True)
    assert "not sent again" in told.json()["text"]
    assert (new.status_code, new.json()["repeated"]) == (202, False)
    assert new.headers["location"] != where
    assert len(room.posts) == 1


async def test_what_was_executed_is_told_even_if_that_cannot_be_recorded(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    room = students()

    def not_taken(*_: Any) -> Any:
        raise JournalError("The journal failed.")

    async with speaking(rest_app(kit(room)), CALLER, ADA) as (me, ada):
        await ada.approve((await me.tool(SEND, HELLO)).json()["data"])
        monkeypatch.setattr(Writing, "told", not_taken)
        told = await me.tool(SEND, HELLO)
    assert told.status_code == 200
    assert told.json()["data"]["executed"] == "yes"
    assert len(room.posts) == 1


# --- idempotency key ----------------------------------------------------------------------------


async def test_one_key_is_one_action_for_ever() -> None:
    room = students()
    async with speaking(rest_app(kit(room)), CALLER, ADA) as (me, ada):
        first = await me.tool(SEND, HELLO, idempotency_key="k 1")
        await ada.approve(first.json()["data"])
        later = [await me.tool(SEND, HELLO, idempotency_key="k 1") for _ in range(3)]
        other = await me.tool(SEND, HELLO, idempotency_key="k 2")
    assert {r.json()["data"]["action_id"] for r in later} == {first.json()["data"]["action_id"]}
    assert {r.json()["data"]["executed"] for r in later} == {"yes"}
    assert other.status_code == 202
    assert len(room.posts) == 1


async def test_a_key_of_one_call_is_none_for_another() -> None:
    async with speaking(rest_app(kit(students())), CALLER) as (me,):
        await me.tool(SEND, HELLO, idempotency_key="k")
        again = await me.tool(SEND, {**HELLO, "message": "ho"}, idempotency_key="k")
    problem(again, 422, "invalid_call")


@pytest.mark.parametrize("keys", [[""], ["x" * 201], ["a", "b"], ["\xe9"]])
async def test_a_malformed_key_is_refused(keys: list[str]) -> None:
    toolkit = kit(students())
    headers = [(b"idempotency-key", key.encode("latin-1")) for key in keys]
    async with speaking(rest_app(toolkit), CALLER) as (me,):
        answer = await me.post(f"/v1/tools/{SEND}", json=HELLO, headers=headers)
    problem(answer, 422, "invalid_call")
    assert toolkit.gate.journal.actions() == []


# --- rooms and lists ----------------------------------------------------------------------------


async def test_another_room_is_refused_on_every_path() -> None:
    journal = Journal(":memory:")
    other = gate_on(students(), journal)
    row = await other.propose(parse_call(REMOVE, remove()), Origin("t", "m", "1", "agent"))
    room = students()
    toolkit = kit(room, journal, rooms=("7" * 24,))
    async with speaking(rest_app(toolkit), CALLER, ADA) as (me, ada):
        answers = [
            await me.tool(LIST, {"room_id": ROOM}),
            await me.tool(REMOVE, remove()),
            await me.get("/v1/actions", params={"room_id": ROOM}),
        ]
        by_id = [
            await me.get(f"/v1/actions/{row.id}"),
            await ada.post(f"/v1/actions/{row.id}/approve", json={"digest": row.digest}),
            await ada.post(f"/v1/actions/{row.id}/reject", json={}),
            await me.get("/v1/actions/abcdefghijkl"),
        ]
        assert (await me.get("/v1/actions")).json() == {"actions": []}
    for answer in answers:
        problem(answer, 403, "policy_refusal")
    for answer in by_id:
        problem(answer, 404, "no_action")
    assert len({answer.content for answer in by_id}) == 1
    assert (await other.get(row.id)).state == "proposed"
    assert room.posts == []


async def test_actions_are_listed_by_state_and_room_newest_first() -> None:
    clock = Clock()
    toolkit = kit(students(), Journal(":memory:", clock=clock))
    async with speaking(rest_app(toolkit), CALLER, ADA) as (me, ada):
        first = (await me.tool(REMOVE, remove(1))).json()["data"]
        await clock.sleep(1)
        second = (await me.tool(REMOVE, remove(2))).json()["data"]
        await ada.reject(first)

        async def ids(**filters: Any) -> list[str]:
            found = await me.get("/v1/actions", params=filters)
            return [a["action_id"] for a in found.json()["actions"]]

        assert await ids() == [second["action_id"], first["action_id"]]
        assert await ids(limit=1) == [second["action_id"]]
        assert await ids(state="rejected", room_id=ROOM) == [first["action_id"]]


async def test_the_action_of_a_refusal_on_the_spot_has_no_request() -> None:
    toolkit = kit(StandInRoom([peer(2)]))
    async with speaking(rest_app(toolkit), CALLER) as (me,):
        problem(await me.tool(REMOVE, remove()), 404, "peer_not_found")
        (row,) = toolkit.gate.journal.actions()
        shown = (await me.get(f"/v1/actions/{row.id.upper()}")).json()
    assert shown["action"]["impact"] is None
    assert shown["action"]["state"] == "rejected"


async def test_a_name_cannot_act_in_what_shows_the_answer() -> None:
    room = StandInRoom([peer(1, name="</script>\u202e\ud800\x1b[2J")])
    async with speaking(rest_app(kit(room)), CALLER, ADA) as (me, ada):
        people = await me.tool(LIST, {"room_id": ROOM})
        action = (await me.tool(REMOVE, {"room_id": ROOM, "role": "student"})).json()["data"]
        shown = await me.get(f"/v1/actions/{action['action_id']}")
        verdict = await ada.approve(action)
    for answer in (people, shown, verdict):
        assert answer.status_code == 200
        assert answer.content.isascii()
        assert b"\x1b" not in answer.content
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["cache-control"] == "no-store"


# --- trouble ------------------------------------------------------------------------------------


async def test_a_room_that_does_not_answer_is_a_problem_that_says_so(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    room = students()

    async def silent(_: str) -> Any:
        raise TimedOut("No answer.", executed="no")

    monkeypatch.setattr(room, "list_peers", silent)
    toolkit = kit(room)
    async with speaking(rest_app(toolkit), CALLER) as (me,):
        problem(await me.tool(LIST, {"room_id": ROOM}), 504, "timed_out")
        problem(await me.tool(REMOVE, remove()), 504, "timed_out")
    assert toolkit.gate.journal.actions() == []


async def test_without_a_journal_nothing_is_sent_and_the_operator_can_read_why(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    room = students()
    async with speaking(rest_app(kit(room)), CALLER, ADA) as (me, ada):
        action = (await me.tool(REMOVE, remove())).json()["data"]
        broken(monkeypatch, doors=["write"])
        yes = {"digest": action["digest"]}
        told = await ada.post(f"/v1/actions/{action['action_id']}/approve", json=yes)
    problem(told, 503, "journal")
    assert 'approve": The journal failed' in caplog.text
    assert room.posts == []
