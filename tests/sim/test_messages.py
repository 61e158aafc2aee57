"""Sending messages: who gets them."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from hms_active_rooms.sim import Simulation


def heard(sim: Simulation) -> set[str]:
    """The names of those who got the only message."""
    (delivery,) = sim.world.deliveries
    names = {peer.id: peer.name for peer in sim.world.peers(sim.room_id)}
    return {names[peer_id] for peer_id in delivery.recipients}


@pytest.mark.behaviour("send.answer")
def test_a_message_is_confirmed_and_recorded_with_its_type(
    sim: Simulation, api: httpx.Client
) -> None:
    answer = api.post("/send-message", json={"message": "Quiet please", "type": "chat"})
    assert (answer.status_code, answer.json()) == (200, {"message": "message sent"})
    (delivery,) = sim.world.deliveries
    assert (delivery.message, delivery.type, delivery.audience) == (
        *("Quiet please", "chat", "everyone"),
    )
    assert delivery.session_id == api.get("").json()["session"]["id"]


@pytest.mark.behaviour("send.target")
@pytest.mark.parametrize(
    ("target", "expected"),
    [
        ({}, 15),
        ({"role": ""}, 15),
        ({"peer_id": "", "role": ""}, 15),
        ({"peer_id": None}, 15),
        ({"role": "student"}, 12),
        ({"peer_id": "", "role": "teacher"}, 1),
        ({"peer_id": "Sam Lee"}, 1),
        ({"peer_id": "Sam Lee", "role": ""}, 1),
        ({"peer_id": "Sam Lee", "role": "teacher"}, 1),
    ],
    ids=str,
)
def test_a_peer_goes_before_a_role_and_neither_means_everyone(
    sim: Simulation,
    api: httpx.Client,
    ids: dict[str, str],
    target: dict[str, Any],
    expected: int,
) -> None:
    body = {key: ids.get(value, value) for key, value in target.items()}
    assert api.post("/send-message", json={"message": "hi", **body}).status_code == 200
    assert len(heard(sim)) == len({*heard(sim)})
    assert len(sim.world.deliveries[0].recipients) == expected
    if body.get("peer_id"):
        assert heard(sim) == {"Sam Lee"}


@pytest.mark.behaviour("send.unknown-field")
def test_a_misspelt_target_reaches_everyone(
    sim: Simulation, api: httpx.Client, ids: dict[str, str]
) -> None:
    api.post("/send-message", json={"message": "only you", "peerId": ids["Sam Lee"]})
    assert len(sim.world.deliveries[0].recipients) == 15


@pytest.mark.behaviour("send.message-required")
@pytest.mark.parametrize("body", [{}, {"message": ""}, {"message": None}, {"text": "hi"}])
def test_a_message_without_text_is_refused(
    sim: Simulation, api: httpx.Client, body: dict[str, Any]
) -> None:
    answer = api.post("/send-message", json=body)
    assert (answer.status_code, answer.json()) == (400, {"code": 400, "message": "invalid input"})
    assert sim.world.deliveries == []


@pytest.mark.behaviour("send.message-size")
def test_a_message_may_have_4096_bytes(sim: Simulation, api: httpx.Client) -> None:
    assert api.post("/send-message", json={"message": "é" * 2048}).status_code == 200
    answer = api.post("/send-message", json={"message": "é" * 2048 + "x"})
    assert (answer.status_code, answer.json()["message"]) == (400, "invalid input")
    assert len(sim.world.deliveries) == 1


@pytest.mark.behaviour("send.empty-role")
@pytest.mark.parametrize("role", ["nobody-has-it", "Teacher"])
def test_a_role_without_peers_is_no_error(sim: Simulation, api: httpx.Client, role: str) -> None:
    sent = api.post("/send-message", json={"message": "hi", "role": role})
    assert (sent.status_code, sent.json()) == (200, {"message": "message sent"})
    assert heard(sim) == set()
    removed = api.post("/remove-peers", json={"role": role})
    assert (removed.status_code, removed.json()) == (
        200,
        {"message": "peer remove request submitted"},
    )


@pytest.mark.behaviour("send.ghosts-miss-it")
def test_a_ghost_does_not_hear_anything(
    sim: Simulation, api: httpx.Client, ids: dict[str, str]
) -> None:
    sim.world.leave(sim.room_id, ids["Sam Lee"], abrupt=True)
    api.post("/send-message", json={"message": "hi", "role": "student"})
    (delivery,) = sim.world.deliveries
    assert delivery.missed == (ids["Sam Lee"],)
    assert ids["Sam Lee"] not in delivery.recipients
