"""Removing peers."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from hms_active_rooms.sim import Simulation

SUBMITTED = {"message": "peer remove request submitted"}


def listed(api: httpx.Client) -> set[str]:
    return {peer["name"] for peer in api.get("/peers").json()["peers"].values()}


@pytest.mark.behaviour("remove.asynchronous")
def test_a_removal_is_accepted_first_and_lands_later(
    sim: Simulation, api: httpx.Client, ids: dict[str, str]
) -> None:
    answer = api.post("/remove-peers", json={"peer_id": ids["Spam Bot"], "reason": "spam"})
    assert (answer.status_code, answer.json()) == (200, SUBMITTED)
    assert "Spam Bot" in listed(api)
    sim.world.settle()
    assert "Spam Bot" not in listed(api)
    assert len(api.get("/peers").json()["peers"]) == 14


@pytest.mark.behaviour("remove.asynchronous")
def test_a_removal_asked_twice_removes_once(
    sim: Simulation, api: httpx.Client, ids: dict[str, str]
) -> None:
    for _ in range(2):
        assert api.post("/remove-peers", json={"peer_id": ids["Spam Bot"]}).json() == SUBMITTED
    sim.world.settle()
    left = [event for event in sim.world.webhooks if event["type"] == "peer.leave.success"]
    assert len(left) == 1


@pytest.mark.behaviour("remove.by-role")
def test_a_role_is_removed_as_it_was_when_asked(
    sim: Simulation, api: httpx.Client, ids: dict[str, str]
) -> None:
    assert api.post("/remove-peers", json={"role": "student"}).json() == SUBMITTED
    sim.world.join(sim.room_id, name="Newcomer", role="student")
    sim.world.settle()
    assert listed(api) == {"Nora Berg", "Omar Haddad", "Grace Okafor (parent)", "Newcomer"}


@pytest.mark.behaviour("remove.by-role")
def test_a_peer_id_goes_before_a_role(
    sim: Simulation, api: httpx.Client, ids: dict[str, str]
) -> None:
    api.post("/remove-peers", json={"peer_id": ids["Spam Bot"], "role": "teacher"})
    sim.world.settle()
    assert "Spam Bot" not in listed(api)
    assert "Nora Berg" in listed(api)


@pytest.mark.behaviour("remove.target-required")
@pytest.mark.parametrize(
    "body", [{}, {"peer_id": ""}, {"peer_id": "", "role": ""}, {"peer_ids": ["x"]}, {"reason": "x"}]
)
def test_a_removal_of_nobody_is_refused(api: httpx.Client, body: dict[str, Any]) -> None:
    answer = api.post("/remove-peers", json=body)
    assert (answer.status_code, answer.json()) == (400, {"code": 400, "message": "invalid input"})


@pytest.mark.behaviour("remove.no-ban")
def test_a_removed_peer_may_come_back_as_another_peer(
    sim: Simulation, api: httpx.Client, ids: dict[str, str]
) -> None:
    api.post("/remove-peers", json={"peer_id": ids["Spam Bot"]})
    sim.world.settle()
    again = sim.world.join(sim.room_id, name="Spam Bot", role="student", user_id="guest-90417")
    assert again.id != ids["Spam Bot"]
    assert list(api.get("/peers", params={"user_id": "guest-90417"}).json()["peers"]) == [again.id]


def test_removing_the_last_peer_closes_the_session(sim: Simulation, api: httpx.Client) -> None:
    for role in ("teacher", "assistant", "student", "viewer"):
        api.post("/remove-peers", json={"role": role})
    sim.world.settle()
    assert api.get("").json()["message"] == "session not active"
