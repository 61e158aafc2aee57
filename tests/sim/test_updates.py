"""Changing a peer through the API."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from hms_active_rooms.sim import Role, Simulation
from hms_active_rooms.sim.operations import update


@pytest.mark.behaviour("update.partial")
@pytest.mark.parametrize(
    "change",
    [{"name": "Samuel"}, {"role": "viewer"}, {"metadata": "{}"}, {"name": "S", "role": "viewer"}],
)
def test_what_is_given_changes_at_once_and_the_rest_stays(
    api: httpx.Client, ids: dict[str, str], change: dict[str, str]
) -> None:
    path = f"/peers/{ids['Sam Lee']}"
    before = api.get(path).json()
    answer = api.post(path, json=change)
    assert answer.status_code == 200
    assert api.get(path).json() == answer.json()
    expected = before | change
    expected["tracks"] = {} if "role" in change else before["tracks"]
    assert answer.json() == expected


@pytest.mark.behaviour("update.nothing")
@pytest.mark.parametrize(
    "body",
    [{}, None, {"name": ""}, {"role": None, "metadata": ""}, {"mute": True}, {"reason": "spam"}],
)
def test_an_update_that_sets_nothing_changes_nothing(
    sim: Simulation, api: httpx.Client, ids: dict[str, str], body: Any
) -> None:
    path = f"/peers/{ids['Chen Wei']}"
    before = api.get(path).json()
    content = b"null" if body is None else None
    answer = api.post(path, content=content) if content else api.post(path, json=body)
    assert (answer.status_code, answer.json()) == (200, before)
    assert sim.world.webhooks == []


@pytest.mark.behaviour("update.metadata-is-text")
def test_metadata_is_any_text_but_no_object(api: httpx.Client, ids: dict[str, str]) -> None:
    path = f"/peers/{ids['Sam Lee']}"
    assert api.post(path, json={"metadata": "not { json"}).json()["metadata"] == "not { json"
    refused = api.post(path, content=b'{"metadata": {"isHandRaised": true}}')
    assert refused.status_code == 400
    assert refused.json()["message"] == (
        'request body contains an invalid value for the "metadata" field'
    )


@pytest.mark.behaviour("update.role-change")
def test_a_new_role_keeps_the_peer_and_stops_what_it_may_not_publish(
    api: httpx.Client, ids: dict[str, str]
) -> None:
    path = f"/peers/{ids['Sam Lee']}"
    before = api.get(path).json()
    viewer = api.post(path, json={"role": "viewer"}).json()
    assert (viewer["id"], viewer["joined_at"]) == (before["id"], before["joined_at"])
    assert viewer["tracks"] == {}
    back = api.post(path, json={"role": "student"}).json()
    assert sorted(track["type"] for track in back["tracks"].values()) == ["audio", "video"]


@pytest.mark.behaviour("update.role-change")
def test_tracks_that_the_new_role_may_publish_go_on(api: httpx.Client, ids: dict[str, str]) -> None:
    path = f"/peers/{ids['Sam Lee']}"
    before = api.get(path).json()["tracks"]
    assert api.post(path, json={"role": "teacher"}).json()["tracks"] == before


@pytest.mark.behaviour("update.role-change")
def test_a_track_that_a_new_role_adds_joins_the_stream_that_runs(sim: Simulation) -> None:
    roles = (Role("voice", ("audio",)), Role("face", ("audio", "video")))
    room = sim.world.add_room(name="Studio", roles=roles)
    peer = sim.world.join(room.id, name="Ann", role="voice")
    (voice,) = peer.tracks
    update(sim.world, room.id, peer.id, role="face")
    assert [track.type for track in peer.tracks] == ["audio", "video"]
    assert {track.stream_id for track in peer.tracks} == {voice.stream_id}


@pytest.mark.behaviour("update.role-change")
def test_a_shared_screen_stops_with_the_role_that_allowed_it(
    api: httpx.Client, ids: dict[str, str]
) -> None:
    path = f"/peers/{ids['Nora Berg']}"
    before = api.get(path).json()["tracks"].values()
    after = api.post(path, json={"role": "student"}).json()["tracks"].values()
    assert [track for track in before if track["source"] == "regular"] == list(after)
    assert len(before) == 3


@pytest.mark.behaviour("update.unknown-role-400")
def test_a_role_that_the_room_does_not_have_is_refused_whole(
    api: httpx.Client, ids: dict[str, str]
) -> None:
    path = f"/peers/{ids['Sam Lee']}"
    before = api.get(path).json()
    answer = api.post(path, json={"role": "admin", "name": "Changed"})
    assert (answer.status_code, answer.json()) == (400, {"code": 400, "message": "invalid role"})
    assert api.get(path).json() == before


@pytest.mark.behaviour("update.full-role-400")
def test_a_full_role_is_refused(api: httpx.Client, ids: dict[str, str]) -> None:
    assert api.post(f"/peers/{ids['Sam Lee']}", json={"role": "teacher"}).status_code == 200
    answer = api.post(f"/peers/{ids['Sam Patel']}", json={"role": "teacher"})
    assert (answer.status_code, answer.json()["message"]) == (400, "role limit reached")
    assert api.post(f"/peers/{ids['Sam Lee']}", json={"role": "teacher"}).status_code == 200
