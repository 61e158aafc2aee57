"""Faults on demand: what the client sees, and whether the operation was executed."""

from __future__ import annotations

import json
import socket
from urllib.parse import urlsplit

import httpx
import pytest
from pydantic import ValidationError

from hms_active_rooms.sim import Fault, SimApp, Simulation, build_world
from hms_active_rooms.sim.faults import Faults
from hms_active_rooms.sim.settings import sign

HI = {"message": "hi"}


def sent(sim: Simulation) -> int:
    """How many messages were delivered."""
    return len(sim.world.deliveries)


@pytest.mark.parametrize("retry_after_s", [None, 7])
def test_a_429_is_not_executed(
    sim: Simulation, api: httpx.Client, retry_after_s: int | None
) -> None:
    sim.faults.add(Fault(kind="status", status=429, retry_after_s=retry_after_s))
    answer = api.post("/send-message", json=HI)
    assert (answer.status_code, answer.json()) == (
        429,
        {"code": 429, "message": "rate limit exceeded"},
    )
    assert answer.headers.get("retry-after") == (None if retry_after_s is None else "7")
    assert sent(sim) == 0
    assert api.post("/send-message", json=HI).status_code == 200


def test_a_status_has_a_text_of_its_own() -> None:
    for status, text in ((429, "rate limit exceeded"), (502, "bad gateway"), (599, "error")):
        fault = Fault(kind="status", status=status)
        assert fault.refusal == (status, {"code": status, "message": text})


@pytest.mark.parametrize(("when", "executed"), [("before", False), ("after", True)])
def test_a_5xx_may_come_before_or_after_the_operation(
    sim: Simulation, api: httpx.Client, when: str, executed: bool
) -> None:
    sim.faults.add(Fault.model_validate({"kind": "status", "status": 502, "when": when}))
    assert api.post("/send-message", json=HI).status_code == 502
    assert sent(sim) == executed
    entry = sim.requests[-1]
    assert (entry.executed, entry.status, entry.fault) == (executed, 502, "status")


@pytest.mark.parametrize(("when", "executed"), [("before", False), ("after", True)])
def test_a_reset_breaks_the_connection(
    sim: Simulation, api: httpx.Client, when: str, executed: bool
) -> None:
    sim.faults.add(Fault.model_validate({"kind": "reset", "when": when}))
    with pytest.raises(httpx.ReadError):
        api.post("/send-message", json=HI)
    assert sent(sim) == executed
    entry = sim.requests[-1]
    assert (entry.executed, entry.status) == (executed, None)


def test_a_reset_is_a_tcp_reset(sim: Simulation) -> None:
    sim.faults.add(Fault(kind="reset"))
    address = urlsplit(sim.base_url)
    with socket.create_connection((address.hostname, address.port), timeout=20) as raw:
        raw.sendall(b"GET /v2/active-rooms/x HTTP/1.1\r\nHost: sim\r\n\r\n")
        with pytest.raises(ConnectionResetError):
            raw.recv(1)


@pytest.mark.parametrize(("when", "executed"), [("before", False), ("after", True)])
def test_a_hang_lasts_until_the_client_gives_up(
    sim: Simulation, api: httpx.Client, when: str, executed: bool
) -> None:
    sim.faults.add(Fault.model_validate({"kind": "hang", "when": when}))
    with pytest.raises(httpx.ReadTimeout):
        api.post("/send-message", json=HI, timeout=httpx.Timeout(20.0, read=0.2))
    (entry,) = sim.log.wait_until(
        lambda entries: [entry.executed for entry in entries if entry.fault] == [executed]
    )
    assert (entry.status, sent(sim)) == (None, executed)
    assert api.get("").status_code == 200


def test_a_truncated_body_ends_before_its_length(sim: Simulation, api: httpx.Client) -> None:
    sim.faults.add(Fault(kind="truncated", operation="list_peers"))
    with pytest.raises(httpx.RemoteProtocolError, match="without sending complete"):
        api.get("/peers")
    assert api.get("/peers").status_code == 200


def test_a_malformed_body_is_no_json(sim: Simulation, api: httpx.Client) -> None:
    sim.faults.add(Fault(kind="malformed"))
    answer = api.post("/send-message", json=HI)
    assert answer.status_code == 200
    with pytest.raises(json.JSONDecodeError):
        answer.json()
    assert sent(sim) == 1


def test_an_oversized_body_is_valid_but_large(sim: Simulation, api: httpx.Client) -> None:
    sim.faults.add(Fault(kind="oversized", size_bytes=3_000_000))
    answer = api.get("/peers")
    assert len(answer.content) == 3_000_000
    assert len(answer.json()["peers"]) == 15


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_401_comes_once_whatever_the_token_and_is_never_executed(
    sim: Simulation, api: httpx.Client, when: str
) -> None:
    sim.faults.add(Fault.model_validate({"kind": "unauthorized", "when": when}))
    answer = api.post("/send-message", json=HI)
    assert (answer.status_code, answer.json()["message"]) == (401, "Token validation error")
    assert sent(sim) == 0
    assert api.post("/send-message", json=HI).status_code == 200


def test_a_latency_without_seconds_is_refused(sim: Simulation) -> None:
    told = httpx.post(f"{sim.control_url}/faults", json={"kind": "latency"})
    assert (told.status_code, "latency_s" in told.text) == (422, True)
    assert httpx.get(f"{sim.control_url}/faults").json() == []


def test_an_operation_that_there_is_not_is_refused_with_those_that_there_are(
    sim: Simulation,
) -> None:
    fault = {"kind": "reset", "operation": "end_room"}
    told = httpx.post(f"{sim.control_url}/faults", json=fault)
    assert told.status_code == 422
    assert "operation: give one of retrieve_active_room, list_peers" in told.text


@pytest.mark.parametrize("when", ["before", "after"])
def test_latency_delays_and_changes_nothing(sim: Simulation, api: httpx.Client, when: str) -> None:
    sim.faults.add(Fault.model_validate({"kind": "latency", "latency_s": 0.01, "when": when}))
    assert api.post("/send-message", json=HI).json() == {"message": "message sent"}
    assert sim.requests[-1].fault == "latency"


def test_latency_after_the_operation_shows_it_executed_before_the_answer(
    sim: Simulation, api: httpx.Client
) -> None:
    sim.faults.add(Fault(kind="latency", latency_s=600, when="after"))
    with pytest.raises(httpx.ReadTimeout):
        api.post("/send-message", json=HI, timeout=httpx.Timeout(20.0, read=0.2))
    entries = sim.log.wait_until(lambda entries: any(entry.executed for entry in entries))
    assert entries[-1].status is None


def taken(fault: Fault, *requests: tuple[str, str]) -> list[bool]:
    faults = Faults()
    faults.add(fault)
    return [faults.take(*request) is not None for request in requests]


GET_PEERS = ("list_peers", "GET")
SEND = ("send_message", "POST")


def test_a_fault_hits_only_what_it_is_about() -> None:
    assert taken(Fault(kind="reset", operation="send_message"), GET_PEERS, SEND) == [False, True]
    assert taken(Fault(kind="reset", method="post"), GET_PEERS, SEND) == [False, True]
    assert taken(Fault(kind="reset"), SEND) == [True]


def test_a_fault_skips_the_first_and_stops_after_its_times() -> None:
    fault = Fault(kind="reset", after=2, times=2, operation="send_message")
    hits = taken(fault, SEND, GET_PEERS, SEND, SEND, SEND, SEND)
    assert hits == [False, False, False, True, True, False]
    assert taken(Fault(kind="reset", times=None), *[SEND] * 5) == [True] * 5


def test_of_two_faults_the_first_set_comes_first() -> None:
    faults = Faults()
    faults.add(Fault(kind="hang"))
    faults.add(Fault(kind="reset"))
    kinds = [fault.kind for _ in range(2) if (fault := faults.take(*SEND))]
    assert kinds == ["hang", "reset"]
    assert faults.take(*SEND) is None
    assert [fault["happened"] for fault in faults.shown()] == [1, 1]
    faults.clear()
    assert faults.shown() == []


@pytest.mark.parametrize(
    "wrong",
    [
        {"kind": "fire"},
        {"kind": "reset", "operation": "mute"},
        {"kind": "reset", "tims": 2},
        {"kind": "status", "status": 200},
        {"kind": "reset", "times": 0},
    ],
)
def test_a_fault_that_makes_no_sense_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        Fault.model_validate(wrong)


async def test_in_process_a_broken_connection_is_an_exception() -> None:
    world = build_world("classroom")
    app = SimApp(world)
    headers = {"Authorization": f"Bearer {sign(world.settings, world.clock())}"}
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://sim/v2") as client:
        app.faults.add(Fault(kind="reset", when="after"))
        path = f"/active-rooms/{world.rooms()[0].id}/send-message"
        with pytest.raises(ConnectionResetError):
            await client.post(path, json=HI, headers=headers)
        assert (await client.post(path, json=HI, headers=headers)).status_code == 200
    assert len(world.deliveries) == 2
