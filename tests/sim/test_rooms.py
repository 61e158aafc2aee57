"""Rooms and sessions as the API shows them."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from hms_active_rooms.sim import ROOM_IDS, RefusedError, Settings, Simulation, running_sim

Op = tuple[str, str, Any]

SESSION_NOT_ACTIVE = {"code": 404, "message": "session not active"}


def call(sim: Simulation, api: httpx.Client, operation: Op, room_id: str) -> httpx.Response:
    method, path, body = operation
    return api.request(method, f"{sim.base_url}/active-rooms/{room_id}{path}", json=body)


@pytest.mark.behaviour("room.retrieve")
def test_an_active_room_shows_its_session_and_the_peer_ids(
    sim: Simulation, api: httpx.Client
) -> None:
    room = api.get("").json()
    assert list(room) == ["id", "name", "customer_id", "session"]
    assert list(room["session"]) == ["id", "created_at", "peers"]
    assert room["id"] == sim.room_id
    assert room["name"] == "Algebra II, Tuesday group"
    assert room["customer_id"] == sim.world.settings.account_id
    assert room["session"]["peers"] == [peer.id for peer in sim.world.peers(sim.room_id)]


@pytest.mark.behaviour("room.foreign-403", "errors.shape")
def test_a_room_id_that_is_malformed_or_foreign_is_a_403(
    sim: Simulation, api: httpx.Client, operation: Op
) -> None:
    for room_id in [
        "64f0c1a5500deffffffffff0",
        "short",
        "64F0C1A5500DE00000000001",
        "x" * 24,
        "%0A",
        "a%20b",
    ]:
        answer = call(sim, api, operation, room_id)
        expected = {"code": 403, "message": "user does not have required permission"}
        assert (answer.status_code, answer.json()) == (403, expected)


@pytest.mark.behaviour("room.foreign-403")
def test_a_setting_makes_it_a_404() -> None:
    with running_sim("idle", settings=Settings(foreign_room_status=404)) as sim:
        answer = httpx.get(
            f"{sim.base_url}/active-rooms/{ROOM_IDS['arena']}",
            headers={"Authorization": f"Bearer {sim.management_token()}"},
        )
        assert (answer.status_code, answer.json()["message"]) == (404, "room not found")


@pytest.mark.behaviour("room.idle-404", "room.idle-404-elsewhere")
def test_in_a_room_without_a_session_every_operation_is_a_404(
    sim: Simulation, api: httpx.Client, operation: Op, idle_room: str
) -> None:
    answer = call(sim, api, operation, idle_room)
    assert (answer.status_code, answer.json()) == (404, SESSION_NOT_ACTIVE)
    assert not sim.requests[-1].executed


@pytest.mark.behaviour("room.disabled-idle-404")
def test_in_a_disabled_room_without_a_session_the_text_differs(
    sim: Simulation, api: httpx.Client, operation: Op, idle_room: str
) -> None:
    sim.world.set_enabled(idle_room, False)
    answer = call(sim, api, operation, idle_room)
    assert (answer.status_code, answer.json()["message"]) == (404, "room not active")


@pytest.mark.behaviour("room.disabled-keeps-session")
def test_disabling_a_room_blocks_joins_and_keeps_the_session(
    sim: Simulation, api: httpx.Client, operation: Op
) -> None:
    before = api.get("").json()
    sim.world.set_enabled(sim.room_id, False)
    assert api.get("").json() == before
    assert call(sim, api, operation, sim.room_id).status_code == 200
    with pytest.raises(RefusedError, match="room not active"):
        sim.world.join(sim.room_id, name="Late", role="student")


@pytest.mark.behaviour("room.session-opens-and-closes")
def test_a_session_opens_with_the_first_and_closes_with_the_last_peer(
    sim: Simulation, api: httpx.Client, idle_room: str
) -> None:
    url = f"{sim.base_url}/active-rooms/{idle_room}"
    seen = []
    for _ in range(2):
        first = sim.world.join(idle_room, name="One", role="student")
        second = sim.world.join(idle_room, name="Two", role="student")
        room = api.get(url).json()
        assert room["session"]["peers"] == [first.id, second.id]
        seen.append(room["session"]["id"])
        sim.world.leave(idle_room, first.id)
        assert api.get(url).json()["session"]["peers"] == [second.id]
        sim.world.leave(idle_room, second.id)
        assert api.get(url).json() == SESSION_NOT_ACTIVE
    assert seen[0] != seen[1]


@pytest.mark.behaviour("room.holds-20000", "peers.no-pages")
def test_an_arena_comes_in_one_answer() -> None:
    with running_sim("arena") as sim:
        headers = {"Authorization": f"Bearer {sim.management_token()}"}
        url = f"{sim.base_url}/active-rooms/{sim.room_id}"
        listed = httpx.get(f"{url}/peers", headers=headers, timeout=60.0).json()["peers"]
        room = httpx.get(url, headers=headers, timeout=60.0).json()
    assert len(listed) == 20_000
    assert set(room["session"]["peers"]) == set(listed)


@pytest.mark.behaviour("room.enable", "end.lock")
def test_a_locked_room_is_opened_again_as_the_docs_say(
    sim: Simulation, api: httpx.Client, control: httpx.Client
) -> None:
    api.post("/end-room", json={"lock": True})
    sim.world.settle()
    ann = {"name": "Ann", "role": "student"}
    assert control.post("/join", json=ann).status_code == 404
    url = f"{sim.base_url}/rooms/{sim.room_id}"
    opened = api.post(url, json={"enabled": True})
    assert opened.status_code == 200
    assert list(opened.json()) == [
        *("id", "name", "enabled", "description", "customer_id", "recording_source_template"),
        *("enabled_source_template", "recording", "template_id", "template", "region"),
        *("created_at", "updated_at"),
    ]
    assert (opened.json()["id"], opened.json()["enabled"]) == (sim.room_id, True)
    assert control.post("/join", json=ann).status_code == 201
    assert api.post(url, json={"enabled": False}).json()["enabled"] is False
    assert api.get("").status_code == 200
    assert sim.requests[-2].operation == "enable_room"


@pytest.mark.behaviour("room.enable")
@pytest.mark.parametrize(
    ("body", "status"), [({}, 200), ({"enabled": None}, 200), ({"enabled": "yes"}, 400)]
)
def test_without_a_value_for_enabled_a_room_stays_as_it_is(
    sim: Simulation, api: httpx.Client, body: object, status: int
) -> None:
    assert api.post(f"{sim.base_url}/rooms/{sim.room_id}", json=body).status_code == status
    assert sim.world.room(sim.room_id).enabled
