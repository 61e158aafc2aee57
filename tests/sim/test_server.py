"""Running the simulator: in a thread, in a process, and not on other people's networks."""

from __future__ import annotations

import socket
import subprocess
import sys

import httpx
import pytest

from accepted import waits_for_acknowledgements
from hms_active_rooms.sim import (
    ROOM_IDS,
    Fault,
    SimApp,
    Simulation,
    build_world,
    running_sim,
)
from hms_active_rooms.sim.server import KEEP_ALIVE_S, ServerError, environment
from hms_active_rooms.sim.settings import sign


def test_a_simulator_is_ready_in_its_block_and_gone_after_it() -> None:
    with running_sim("idle") as sim:
        assert httpx.get(f"{sim.base_url}/active-rooms/x").status_code == 401
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"{sim.base_url}/active-rooms/x")


def test_two_simulators_do_not_share_a_world() -> None:
    with running_sim("classroom") as one, running_sim("classroom") as two:
        one.world.leave(one.room_id, one.world.peers(one.room_id)[0].id)
        assert len(one.world.peers(one.room_id)) == 14
        assert len(two.world.peers(two.room_id)) == 15


@pytest.mark.parametrize("kind", ["hang", "latency"])
def test_slow_and_hung_requests_end_quietly_and_unanswered_with_the_server(
    kind: str, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    # The server ends first, with the request still open.
    with socket.socket() as client:
        with running_sim("idle") as sim:
            latency_s = 600 * (kind != "hang")
            sim.faults.add(Fault.model_validate({"kind": kind, "latency_s": latency_s}))
            client.settimeout(20)
            client.connect(("127.0.0.1", httpx.URL(sim.base_url).port))
            client.sendall(b"GET /v2/x HTTP/1.1\r\nHost: sim\r\n\r\n")
            sim.log.wait_until(lambda entries: len(entries) == 1)
        assert client.recv(1) == b""
    assert capfd.readouterr() == ("", "")
    assert caplog.records == []


def test_an_answer_waits_for_no_acknowledgement() -> None:
    with running_sim("idle") as sim:
        address = ("127.0.0.1", httpx.URL(sim.base_url).port)
        with socket.create_connection(address, timeout=20) as raw:
            raw.sendall(b"GET /v2/x HTTP/1.1\r\nHost: sim\r\n\r\n")
            assert raw.recv(1)
            assert not waits_for_acknowledgements(raw)


def test_a_body_that_never_becomes_whole_is_not_a_request(sim: Simulation) -> None:
    with socket.create_connection(("127.0.0.1", httpx.URL(sim.base_url).port), timeout=20) as raw:
        raw.sendall(b"POST /v2/x HTTP/1.1\r\nHost: sim\r\nContent-Length: 9\r\n\r\n{}")
    # A later request on another connection shows that the first one is over.
    httpx.get(f"{sim.base_url}/y")
    assert [entry.path for entry in sim.requests] == ["/v2/y"]


def test_a_port_that_cannot_be_is_said_plainly() -> None:
    with pytest.raises(ServerError, match="cannot listen"), running_sim("idle", port=70_000):
        pytest.fail("it listens")


def test_a_port_in_use_is_said_plainly() -> None:
    with running_sim("idle") as sim:
        port = httpx.URL(sim.base_url).port
        assert port is not None
        with (
            pytest.raises(ServerError, match=f"127.0.0.1:{port}: Address already in use"),
            running_sim("idle", port=port),
        ):
            pytest.fail("two servers on one port")


def test_it_keeps_connections_longer_than_clients_do() -> None:
    assert KEEP_ALIVE_S > 60


def test_an_app_can_be_used_without_a_server() -> None:
    world = build_world("classroom")
    assert SimApp(world).world is world


async def test_an_app_answers_through_httpx_in_process() -> None:
    world = build_world("classroom")
    token = sign(world.settings, world.clock())
    transport = httpx.ASGITransport(SimApp(world))
    async with httpx.AsyncClient(transport=transport, base_url="http://sim") as client:
        answer = await client.get(
            f"/v2/active-rooms/{ROOM_IDS['classroom']}/peers",
            headers={"Authorization": f"Bearer {token}"},
        )
        assert len(answer.json()["peers"]) == 15
        assert (await client.get("/_sim/state")).status_code == 200


def test_the_log_can_be_waited_for(sim: Simulation, api: httpx.Client) -> None:
    with pytest.raises(TimeoutError):
        sim.log.wait_until(lambda entries: len(entries) > 0, timeout_s=0.01)
    api.get("")
    (entry,) = sim.log.wait_until(lambda entries: len(entries) > 0)
    assert (entry.operation, entry.status) == ("retrieve_active_room", 200)


def test_a_client_finds_it_by_the_variables_of_its_environment(sim: Simulation) -> None:
    values = environment(sim)
    assert "HMS_MANAGEMENT_TOKEN" not in values  # beside the key pair every command would warn
    assert values["HMS_ROOM"] == ROOM_IDS["classroom"]
    assert (values["HMS_ACCESS_KEY"], values["HMS_SECRET"]) == (sim.access_key, sim.secret)
    answer = httpx.get(
        f"{values['HMS_BASE_URL']}/active-rooms/{values['HMS_ROOM']}",
        headers={"Authorization": f"Bearer {sim.management_token()}"},
    )
    assert answer.status_code == 200


def test_it_shares_no_code_with_what_it_tests() -> None:
    show = (
        "import sys, hms_active_rooms.sim\n"
        "own = [m for m in sys.modules if m.startswith('hms_active_rooms.')]\n"
        "words = ['plain', 'untrusted', 'looks', 'tokens']  # what errors of wrong settings are worded with\n"
        "print([m for m in own if m.split('.')[1] not in ('sim', *words)])\n"
        "print([m for m in ('httpx', 'langchain_core', 'mcp', 'sqlalchemy', 'starlette', 'uvicorn') if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", show], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.splitlines() == ["[]", "[]"]
