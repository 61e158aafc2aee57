"""The webhook events that the world records."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from hms_active_rooms.sim import RefusedError, Simulation

PLACE = {"room_id", "room_name", "session_id", "template_id"}
PERSON = {"peer_id", "user_id", "user_name", "user_data", "role"}


def events(sim: Simulation, kind: str = "") -> list[Any]:
    return [event for event in sim.world.webhooks if not kind or event["type"] == kind]


def kinds(sim: Simulation) -> list[Any]:
    return [event["type"] for event in events(sim)]


@pytest.mark.behaviour("webhooks.session", "webhooks.peer")
def test_a_session_of_one_person_makes_four_events(sim: Simulation, idle_room: str) -> None:
    peer = sim.world.join(idle_room, name="Ann", role="student", user_id="ann", metadata="{}")
    sim.world.advance(90)
    sim.world.leave(idle_room, peer.id)
    opened, joined, left, closed = events(sim)
    assert kinds(sim) == [
        "session.open.success",
        "peer.join.success",
        "peer.leave.success",
        "session.close.success",
    ]
    for event in events(sim):
        assert list(event) == [
            *("version", "id", "account_id", "app_id", "timestamp", "type", "data")
        ]
        assert event["version"] == "2.0"
        assert len(event["timestamp"]) == len("2021-11-30T12:58:49Z")
        assert event["data"].keys() >= PLACE
    assert opened["data"].keys() == PLACE | {"session_started_at"}
    assert joined["data"].keys() == PLACE | PERSON | {"joined_at", "session_started_at", "type"}
    assert left["data"].keys() == joined["data"].keys() | {
        *("left_at", "duration", "reason", "message")
    }
    assert closed["data"].keys() == opened["data"].keys() | {
        *("session_duration", "session_stopped_at")
    }
    assert (joined["data"]["user_name"], joined["data"]["user_data"]) == ("Ann", "{}")
    assert joined["data"]["type"] == "regular"
    assert (left["data"]["reason"], left["data"]["message"]) == ("client request", "")
    assert left["data"]["duration"] >= 90
    assert closed["data"]["session_duration"] >= 90


@pytest.mark.behaviour("webhooks.peer")
def test_a_removal_gives_its_reason_as_the_message(
    sim: Simulation, api: httpx.Client, ids: dict[str, str]
) -> None:
    api.post("/remove-peers", json={"peer_id": ids["Spam Bot"], "reason": "spam"})
    sim.world.settle()
    (left,) = events(sim)
    assert left["data"]["peer_id"] == ids["Spam Bot"]
    assert (left["data"]["reason"], left["data"]["message"]) == ("peer kicked", "spam")


@pytest.mark.behaviour("webhooks.peer")
def test_a_ghost_leaves_with_its_websocket(sim: Simulation, ids: dict[str, str]) -> None:
    sim.world.leave(sim.room_id, ids["Sam Lee"], abrupt=True)
    assert events(sim) == []
    sim.world.advance(60)
    (left,) = events(sim)
    assert left["data"]["reason"] == "websocket closed"


@pytest.mark.behaviour("webhooks.join-failure")
def test_a_failed_join_says_why(sim: Simulation, ids: dict[str, str]) -> None:
    with pytest.raises(RefusedError, match="role not allowed"):
        sim.world.join(sim.room_id, name="Ann", role="admin")
    with pytest.raises(RefusedError, match="duplicate peer id"):
        sim.world.join(sim.room_id, name="Ann", role="student", peer_id=ids["Sam Lee"])
    first, second = events(sim, "peer.join.failure")
    assert first["data"].keys() == PLACE - {"session_id"} | PERSON | {
        *("joined_at", "type", "error_message")
    }
    assert first["data"]["type"] == "regular"
    assert first["data"]["joined_at"] == "0001-01-01T00:00:00Z"
    assert first["data"]["error_message"] == "role not allowed"
    assert second["data"]["error_message"] == "duplicate peer id"
    assert len(sim.world.peers(sim.room_id)) == 15


@pytest.mark.behaviour("webhooks.leave-failure")
def test_leaving_twice_fails_as_the_docs_say(sim: Simulation, ids: dict[str, str]) -> None:
    sim.world.leave(sim.room_id, ids["Sam Lee"])
    with pytest.raises(RefusedError, match="peer not found"):
        sim.world.leave(sim.room_id, ids["Sam Lee"])
    (failed,) = events(sim, "peer.leave.failure")
    assert failed["data"].keys() == PLACE - {"session_id"} | PERSON | {
        *("joined_at", "left_at", "duration", "type", "error_message")
    }
    assert failed["data"]["error_message"] == "Peer not joined"
    assert (failed["data"]["left_at"], failed["data"]["duration"]) == ("0001-01-01T00:00:00Z", 0)
    with pytest.raises(RefusedError):
        sim.world.leave(sim.room_id, "nobody")
    assert len(events(sim, "peer.leave.failure")) == 1


@pytest.mark.behaviour("webhooks.room-end")
def test_an_end_sends_everyone_away_and_closes_the_session(
    sim: Simulation, api: httpx.Client
) -> None:
    api.post("/end-room", json={"reason": "over", "lock": True})
    sim.world.settle()
    assert kinds(sim) == [
        "room.end.success",
        *["peer.leave.success"] * 15,
        "session.close.success",
    ]
    ended = events(sim)[0]["data"]
    assert ended.keys() == PLACE | PERSON - {"user_data"} | {
        *("lock_room", "reason", "source", "session_started_at")
    }
    assert (ended["lock_room"], ended["reason"], ended["source"]) == (True, "over", "api")


@pytest.mark.behaviour("webhooks.room-end")
def test_an_end_asked_twice_ends_once(sim: Simulation, api: httpx.Client) -> None:
    for reason in ("first", "second"):
        api.post("/end-room", json={"reason": reason})
    sim.world.settle()
    (ended,) = events(sim, "room.end.success")
    assert ended["data"]["reason"] == "first"
    assert len(events(sim, "session.close.success")) == 1


@pytest.mark.behaviour("webhooks.room-end")
def test_an_end_of_nothing_fails(sim: Simulation, api: httpx.Client, idle_room: str) -> None:
    api.post(f"{sim.base_url}/active-rooms/{idle_room}/end-room", json={})
    (failed,) = events(sim)
    assert failed["type"] == "room.end.failure"
    assert failed["data"]["error_code"] == 404
    assert failed["data"]["error_message"] == "session not found"


@pytest.mark.behaviour("webhooks.role-change")
def test_a_role_change_says_from_what_to_what(
    sim: Simulation, api: httpx.Client, ids: dict[str, str]
) -> None:
    for name in ("Sam Lee", "Sam Patel"):
        api.post(f"/peers/{ids[name]}", json={"role": "teacher"})
    changed, failed = events(sim)
    assert (changed["type"], failed["type"]) == ("role.change.success", "role.change.failure")
    assert changed["data"].keys() == PLACE | PERSON | {
        *("previous_role", "joined_at", "session_started_at", "role_changed_at")
    }
    assert (changed["data"]["previous_role"], changed["data"]["role"]) == ("student", "teacher")
    assert failed["data"].keys() == PLACE | PERSON | {
        *("joined_at", "session_started_at", "error_message")
    }
    assert failed["data"]["error_message"] == "role limit reached"


@pytest.mark.behaviour("webhooks.silence")
def test_messages_names_and_metadata_make_no_event(
    sim: Simulation, api: httpx.Client, ids: dict[str, str]
) -> None:
    api.post("/send-message", json={"message": "hi"})
    api.post(f"/peers/{ids['Sam Lee']}", json={"name": "New", "metadata": "new"})
    assert events(sim) == []
