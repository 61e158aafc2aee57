"""Ending a room."""

from __future__ import annotations

import httpx
import pytest

from hms_active_rooms.sim import RefusedError, Simulation

ENDING = {"message": "session is ending"}


@pytest.mark.behaviour("end.asynchronous")
def test_an_end_is_accepted_first_and_lands_later(sim: Simulation, api: httpx.Client) -> None:
    answer = api.post("/end-room", json={"reason": "class is over"})
    assert (answer.status_code, answer.json()) == (200, ENDING)
    assert api.get("").status_code == 200
    assert api.post("/end-room", json={}).json() == ENDING
    sim.world.settle()
    assert api.get("").status_code == 404
    assert sim.world.rooms()[0].enabled


@pytest.mark.behaviour("end.lock")
def test_a_lock_keeps_people_out_until_the_room_is_enabled(
    sim: Simulation, api: httpx.Client
) -> None:
    assert api.post("/end-room", json={"lock": True}).json() == ENDING
    with pytest.raises(RefusedError, match="room not active"):
        sim.world.join(sim.room_id, name="Early", role="student")
    sim.world.settle()
    assert api.get("").json()["message"] == "room not active"
    sim.world.set_enabled(sim.room_id, True)
    assert api.get("").json()["message"] == "session not active"
    sim.world.join(sim.room_id, name="Late", role="student")
    assert api.get("").status_code == 200


@pytest.mark.behaviour("end.unlocked-rejoin")
@pytest.mark.parametrize("waits", [True, False])
def test_without_a_lock_the_next_one_in_opens_a_new_session(
    sim: Simulation, api: httpx.Client, waits: bool
) -> None:
    before = api.get("").json()["session"]["id"]
    api.post("/end-room", json={"lock": False})
    if waits:
        sim.world.settle()
    peer = sim.world.join(sim.room_id, name="Eager", role="student")
    session = api.get("").json()["session"]
    assert session["id"] != before
    assert session["peers"] == [peer.id]
    sim.world.settle()
    assert api.get("").json()["session"] == session


@pytest.mark.behaviour("end.not-repeatable")
def test_an_end_of_nothing_is_a_404_and_locks_nothing(sim: Simulation, api: httpx.Client) -> None:
    api.post("/end-room", json={})
    sim.world.settle()
    answer = api.post("/end-room", json={"lock": True})
    assert (answer.status_code, answer.json()) == (
        404,
        {"code": 404, "message": "session not active"},
    )
    assert sim.world.rooms()[0].enabled
