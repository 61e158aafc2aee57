"""The control API: what people do to a room, and what was seen."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from hms_active_rooms.sim import Simulation


def names(sim: Simulation) -> list[str]:
    return [peer.name for peer in sim.world.peers(sim.room_id)]


def test_somebody_joins_changes_and_leaves(sim: Simulation, control: httpx.Client) -> None:
    joined = control.post("/join", json={"name": "Ann", "role": "student", "user_id": "ann"})
    assert joined.status_code == 201
    peer_id = joined.json()["id"]
    changed = control.post(f"/peers/{peer_id}", json={"name": "Anna", "role": "viewer"})
    assert (changed.json()["name"], changed.json()["role"]) == ("Anna", "viewer")
    assert "Anna" in names(sim)
    assert control.post("/leave", json={"peer_id": peer_id}).status_code == 200
    assert "Anna" not in names(sim)


def test_somebody_leaves_abruptly(
    sim: Simulation, control: httpx.Client, ids: dict[str, str]
) -> None:
    control.post("/leave", json={"peer_id": ids["Sam Lee"], "abrupt": True})
    assert "Sam Lee" in names(sim)
    control.post("/time", json={"advance_s": 60})
    assert "Sam Lee" not in names(sim)


def test_a_room_is_added_disabled_and_named_by_id(sim: Simulation, control: httpx.Client) -> None:
    new = {"name": "Second", "roles": [{"name": "host", "publishes": ["audio"], "max_peers": 1}]}
    room = control.post("/rooms", json=new)
    assert room.status_code == 201
    room_id = room.json()["id"]
    join = {"room_id": room_id, "name": "Ann", "role": "host"}
    assert control.post("/join", json=join).status_code == 201
    full = control.post("/join", json=join)
    assert (full.status_code, full.json()["message"]) == (400, "role limit reached")
    assert control.post(f"/rooms/{room_id}", json={"enabled": False}).status_code == 200
    assert not sim.world.room(room_id).enabled
    assert control.post("/rooms", json=new | {"id": room_id}).status_code == 409


def test_faults_are_set_shown_and_taken_away(api: httpx.Client, control: httpx.Client) -> None:
    assert control.post("/faults", json={"kind": "status", "times": None}).status_code == 201
    assert [api.get("").status_code for _ in range(2)] == [503, 503]
    (shown,) = control.get("/faults").json()
    assert (shown["kind"], shown["happened"]) == ("status", 2)
    control.delete("/faults")
    assert control.get("/faults").json() == []
    assert api.get("").status_code == 200


def test_the_state_shows_rooms_sessions_and_peers(
    sim: Simulation, api: httpx.Client, control: httpx.Client, ids: dict[str, str]
) -> None:
    api.post("/remove-peers", json={"peer_id": ids["Spam Bot"]})
    control.post("/settle")
    (room,) = control.get("/state").json()["rooms"]
    assert room["id"] == sim.room_id
    assert room["enabled"]
    assert len(room["session"]["peers"]) == 14
    assert [peer["name"] for peer in room["session"]["left"]] == ["Spam Bot"]
    api.post("/end-room", json={})
    assert control.get("/state").json()["rooms"][0]["session"]["ending"]
    control.post("/settle")
    (room,) = control.get("/state").json()["rooms"]
    assert room["session"] is None
    assert len(room["past_sessions"]) == 1


def test_requests_are_logged_without_headers(
    sim: Simulation, api: httpx.Client, control: httpx.Client, ids: dict[str, str]
) -> None:
    api.get("/peers", params={"role": "student"})
    api.post("/send-message", json={"message": "hi", "peer_id": ids["Sam Lee"]})
    api.post("/send-message", content=b"{")
    answer = control.get("/requests")
    listed, sent, broken = answer.json()
    assert "Bearer" not in answer.text
    assert sim.management_token()[:40] not in answer.text
    assert (listed["seq"], listed["operation"], listed["query"]) == (
        1,
        "list_peers",
        "role=student",
    )
    assert (listed["body"], listed["status"], listed["executed"]) == (None, 200, True)
    assert sent["body"] == {"message": "hi", "peer_id": ids["Sam Lee"]}
    assert sent["path"] == f"/v2/active-rooms/{sim.room_id}/send-message"
    assert (broken["body"], broken["status"], broken["executed"]) == ("{", 400, False)


def test_any_body_can_be_logged_and_shown(api: httpx.Client, control: httpx.Client) -> None:
    for body in (b'{"message":"\\ud83d"}', b"[NaN]", b"[" * 5000, b"\xff\xfe"):
        api.post("/send-message", content=body)
    assert len(control.get("/requests").json()) == 4


def test_deliveries_and_webhooks_are_shown(
    api: httpx.Client, control: httpx.Client, ids: dict[str, str]
) -> None:
    api.post("/send-message", json={"message": "hi", "peer_id": ids["Sam Lee"]})
    api.post(f"/peers/{ids['Sam Lee']}", json={"role": "viewer"})
    (delivery,) = control.get("/deliveries").json()
    assert delivery["recipients"] == [ids["Sam Lee"]]
    (event,) = control.get("/webhooks").json()
    assert event["type"] == "role.change.success"


def test_a_reset_brings_everything_back(
    sim: Simulation, api: httpx.Client, control: httpx.Client
) -> None:
    before = sorted(api.get("/peers").json()["peers"])
    control.post("/faults", json={"kind": "status"})
    control.post("/faults", json={"kind": "reset", "operation": "end_active_room", "after": 1})
    api.get("")
    api.post("/end-room", json={"lock": True})
    control.post("/reset")
    assert control.get("/requests").json() == []
    assert control.get("/faults").json() == []
    assert sorted(api.get("/peers").json()["peers"]) == before
    assert sim.world.rooms()[0].enabled


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/join", {"name": "Ann"}),
        ("/join", {"name": "Ann", "role": "student", "colour": "red"}),
        ("/time", {"advance_s": -1}),
        ("/time", {"advance_s": 1e300}),
        ("/join", {"name": "Ann", "role": "student", "ago_s": 1e300}),
        ("/faults", {"kind": "fire"}),
        ("/rooms", "text"),
        ("/rooms", {"name": "Second", "roles": []}),
        ("/rooms", {"name": "Second", "roles": [{"name": "a"}], "id": "a/b"}),
        ("/rooms", {"name": "Second", "roles": [{"name": "a"}, {"name": "a"}]}),
        ("/join", {"name": "Ann", "role": "student", "peer_id": "../ann"}),
    ],
)
def test_bad_input_is_a_422_that_names_the_place(
    control: httpx.Client, path: str, body: Any
) -> None:
    answer = control.post(path, json=body)
    assert answer.status_code == 422
    assert answer.json()["message"]


def test_refusals_of_the_world_are_answers(control: httpx.Client) -> None:
    assert control.post("/join", json={"name": "Ann", "role": "admin"}).status_code == 400
    assert control.post("/leave", json={"peer_id": "nobody"}).status_code == 404
    assert control.get("/nothing").status_code == 404


@pytest.mark.parametrize("seconds", [b"Infinity", b"NaN", b"1e400"])
@pytest.mark.parametrize("path", ["/time", "/join"])
def test_no_span_of_time_is_infinite(control: httpx.Client, path: str, seconds: bytes) -> None:
    field = b'"advance_s"' if path == "/time" else b'"name": "A", "role": "student", "ago_s"'
    answer = control.post(path, content=b"{%b: %b}" % (field, seconds))
    assert answer.status_code == 422


def test_time_that_was_advanced_to_its_end_goes_no_further(control: httpx.Client) -> None:
    assert control.post("/time", json={"advance_s": 1e9}).status_code == 200
    further = control.post("/time", json={"advance_s": 1})
    assert (further.status_code, "thirty years" in further.json()["message"]) == (400, True)
    assert control.post("/join", json={"name": "Ann", "role": "student"}).status_code == 201


def test_it_lists_what_it_can_do_with_the_fields_of_each(control: httpx.Client) -> None:
    listed = control.get("/").json()
    assert listed["POST /_sim/leave"] == ["room_id", "peer_id", "abrupt"]
    assert listed["POST /_sim/faults"][:2] == ["kind", "operation"]
    assert listed["POST /_sim/rooms"] == ["name", "id", "roles"]
    unknown = control.get("/nowhere")
    assert (unknown.status_code, unknown.json()["message"]) == (
        404,
        "there is no GET /_sim/nowhere; GET /_sim/ lists all paths",
    )
    assert control.get("/join").status_code == 404
