"""Listing and retrieving peers."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from hms_active_rooms.sim import Simulation

KEYS = ["id", "name", "user_id", "metadata", "role", "joined_at"]


def names(api: httpx.Client, **filters: Any) -> list[str]:
    answer = api.get("/peers", params=filters)
    assert answer.status_code == 200
    return sorted(peer["name"] for peer in answer.json()["peers"].values())


@pytest.mark.behaviour("peers.list")
def test_the_list_is_a_map_by_peer_id_without_tracks(sim: Simulation, api: httpx.Client) -> None:
    answer = api.get("/peers").json()
    assert list(answer) == ["peers"]
    assert {peer.id for peer in sim.world.peers(sim.room_id)} == set(answer["peers"])
    for peer_id, peer in answer["peers"].items():
        assert list(peer) == KEYS
        assert peer["id"] == peer_id


@pytest.mark.behaviour("peers.filter")
def test_the_list_can_be_filtered_by_role_and_by_user(api: httpx.Client) -> None:
    assert names(api, role="teacher") == ["Nora Berg"]
    assert names(api, user_id="sam.lee") == ["Sam Lee"]
    assert len(names(api, role="student")) == 12


@pytest.mark.behaviour("peers.filter")
@pytest.mark.parametrize(
    "filters", [{"role": "nobody"}, {"user_id": "nobody"}, {"role": "Student"}]
)
def test_without_a_match_the_map_is_empty(api: httpx.Client, filters: dict[str, str]) -> None:
    answer = api.get("/peers", params=filters)
    assert (answer.status_code, answer.json()) == (200, {"peers": {}})


def test_of_a_filter_given_twice_the_first_counts(api: httpx.Client) -> None:
    assert len(api.get("/peers?role=teacher&role=student").json()["peers"]) == 1


@pytest.mark.behaviour("peers.filter-both")
def test_both_filters_must_match(api: httpx.Client) -> None:
    assert names(api, role="student", user_id="sam.lee") == ["Sam Lee"]
    assert names(api, role="teacher", user_id="sam.lee") == []


@pytest.mark.behaviour("peers.filter-empty")
def test_an_empty_filter_counts_as_absent(api: httpx.Client) -> None:
    assert len(names(api, role="", user_id="")) == 15
    assert names(api, role="teacher", user_id="") == ["Nora Berg"]


@pytest.mark.behaviour("peers.no-pages")
def test_paging_parameters_change_nothing(api: httpx.Client) -> None:
    answer = api.get("/peers", params={"limit": 2, "start": "x", "name": "Sam Lee"}).json()
    assert list(answer) == ["peers"]
    assert len(answer["peers"]) == 15


@pytest.mark.behaviour("peers.sorted")
def test_the_map_is_in_the_order_of_the_ids(api: httpx.Client) -> None:
    listed = list(api.get("/peers").json()["peers"])
    assert listed == sorted(listed)


@pytest.mark.behaviour("peers.same-user-twice")
def test_one_user_may_be_there_twice(api: httpx.Client) -> None:
    listed = api.get("/peers", params={"user_id": "chen.wei"}).json()["peers"]
    assert len(listed) == 2
    assert {peer["name"] for peer in listed.values()} == {"Chen Wei"}


@pytest.mark.behaviour("peer.retrieve")
def test_a_peer_comes_with_its_tracks(api: httpx.Client, ids: dict[str, str]) -> None:
    peer = api.get(f"/peers/{ids['Sam Lee']}").json()
    assert list(peer) == [*KEYS, "tracks"]
    tracks = peer["tracks"]
    assert all(tracks[track_id]["id"] == track_id for track_id in tracks)
    assert sorted(track["type"] for track in tracks.values()) == ["audio", "video"]
    assert len({track["stream_id"] for track in tracks.values()}) == 1
    for track in tracks.values():
        assert list(track) == [
            *("id", "stream_id", "mute", "type", "source", "started_at", "description")
        ]
        assert (track["source"], track["mute"], track["description"]) == ("regular", False, "")


@pytest.mark.behaviour("peer.retrieve")
def test_a_shared_screen_is_a_third_track_and_a_viewer_has_none(
    api: httpx.Client, ids: dict[str, str]
) -> None:
    tracks = list(api.get(f"/peers/{ids['Nora Berg']}").json()["tracks"].values())
    screens = [track for track in tracks if track["source"] == "screen"]
    others = [track for track in tracks if track["source"] == "regular"]
    assert [track["type"] for track in screens] == ["video"]
    assert screens[0]["stream_id"] not in {track["stream_id"] for track in others}
    assert api.get(f"/peers/{ids['Grace Okafor (parent)']}").json()["tracks"] == {}


@pytest.mark.behaviour("peer.unknown-404")
@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("GET", "/peers/{peer}", None),
        ("POST", "/peers/{peer}", {"name": "x"}),
        ("POST", "/send-message", {"message": "x", "peer_id": "{peer}"}),
        ("POST", "/remove-peers", {"peer_id": "{peer}"}),
    ],
)
def test_a_peer_that_never_was_or_has_left_is_a_404(
    sim: Simulation,
    api: httpx.Client,
    ids: dict[str, str],
    method: str,
    path: str,
    body: dict[str, str] | None,
) -> None:
    sim.world.leave(sim.room_id, ids["Sam Lee"])
    for peer in (ids["Sam Lee"], "00000000-0000-4000-8000-000000000000", "x", "%20"):
        filled = body and {key: value.replace("{peer}", peer) for key, value in body.items()}
        answer = api.request(method, path.replace("{peer}", peer), json=filled)
        assert (answer.status_code, answer.json()) == (
            404,
            {"code": 404, "message": "peer not found"},
        )
    assert sim.world.deliveries == []


@pytest.mark.behaviour("peer.ghost")
def test_a_ghost_stays_listed_for_a_minute(
    sim: Simulation, api: httpx.Client, ids: dict[str, str]
) -> None:
    sim.world.leave(sim.room_id, ids["Sam Lee"], abrupt=True)
    sim.world.settle()
    sim.world.advance(30)
    assert "Sam Lee" in names(api)
    sim.world.advance(30)
    assert "Sam Lee" not in names(api)


@pytest.mark.behaviour("peer.ghost")
def test_a_ghost_can_be_removed_before_its_time(
    sim: Simulation, api: httpx.Client, ids: dict[str, str]
) -> None:
    sim.world.leave(sim.room_id, ids["Sam Lee"], abrupt=True)
    assert api.post("/remove-peers", json={"peer_id": ids["Sam Lee"]}).status_code == 200
    sim.world.settle()
    assert "Sam Lee" not in names(api)
    sim.world.advance(120)
    assert len(names(api)) == 14
