"""Paths, methods, headers and the order of checks."""

from __future__ import annotations

from contextlib import closing
from http.client import HTTPConnection

import httpx
import pytest

from hms_active_rooms.sim import Simulation


@pytest.mark.behaviour("transport.unknown-404", "errors.shape")
def test_an_unknown_path_or_method_is_a_404(sim: Simulation, api: httpx.Client) -> None:
    for method, path in [
        ("GET", "/v2/active-rooms"),
        ("GET", "/v2/active-rooms/{room}/"),
        ("POST", "/v2/active-rooms/{room}"),
        ("DELETE", "/v2/active-rooms/{room}"),
        ("POST", "/v2/active-rooms/{room}/peers"),
        ("DELETE", "/v2/active-rooms/{room}/peers/some-peer"),
        ("POST", "/v2/active-rooms/{room}/peers/some-peer/remove"),
        ("POST", "/v2/active-rooms/{room}/end"),
        ("POST", "/v2/active-rooms/{room}/end-active-session"),
        ("POST", "/v2/active-rooms/{room}/remove-peer"),
        ("GET", "/v2/active-rooms/{room}/end-room"),
        ("PUT", "/v2/active-rooms/{room}/peers/some-peer"),
        ("GET", "/v2/active-rooms/{room}%2Fpeers%2F"),
        ("GET", "/active-rooms/{room}"),
        ("GET", "/v2active-rooms/{room}"),
        ("GET", "/v2"),
        ("GET", "/"),
        ("GET", "/v2/rooms/{room}"),
    ]:
        origin = sim.base_url.removesuffix("/v2")
        answer = api.request(method, origin + path.replace("{room}", sim.room_id))
        assert (answer.status_code, answer.json()) == (404, {"code": 404, "message": "not found"})
        assert sim.requests[-1].operation == ""


@pytest.mark.behaviour("transport.content-type-optional")
@pytest.mark.parametrize("kind", [None, "application/json", "text/plain"])
def test_the_content_type_does_not_matter(api: httpx.Client, kind: str | None) -> None:
    headers = {} if kind is None else {"Content-Type": kind}
    assert api.get("", headers=headers).status_code == 200
    sent = api.post("/send-message", content=b'{"message":"hi"}', headers=headers)
    assert (sent.status_code, sent.json()) == (200, {"message": "message sent"})


@pytest.mark.behaviour("transport.absolute-target")
@pytest.mark.parametrize("host", ["api.100ms.live", ""])
def test_a_client_may_reach_it_as_if_it_were_a_proxy(sim: Simulation, host: str) -> None:
    origin = sim.base_url.removesuffix("/v2")
    target = f"http://{host}" if host else origin
    headers = {"Authorization": f"Bearer {sim.management_token()}"}
    with httpx.Client(proxy=origin, headers=headers, trust_env=False) as client:
        listed = client.get(f"{target}/v2/active-rooms/{sim.room_id}/peers?role=teacher")
        assert (listed.status_code, len(listed.json()["peers"])) == (200, 1)
        assert client.get(f"{target}/_sim/state").status_code == 200
        assert client.get(target).status_code == 404
    assert sim.requests[0].path == f"/v2/active-rooms/{sim.room_id}/peers"
    with closing(HTTPConnection(origin.removeprefix("http://"))) as plain:
        plain.request("GET", f"HTTP://{host}/v2/active-rooms/{sim.room_id}", headers=headers)
        assert plain.getresponse().status == 200


@pytest.mark.behaviour("errors.order")
def test_the_first_thing_wrong_decides_the_answer(
    sim: Simulation, api: httpx.Client, idle_room: str
) -> None:
    wrong_token = {"Authorization": "Bearer wrong"}
    foreign, idle = (f"{sim.base_url}/active-rooms/{room}" for room in ("foreign", idle_room))
    bad = b"{"

    def status(url: str, headers: dict[str, str] | None = None) -> int:
        return api.post(url, content=bad, headers=headers).status_code

    assert status(f"{foreign}/nowhere", wrong_token) == 404
    assert status(f"{foreign}/end-room", wrong_token) == 401
    assert status(f"{foreign}/end-room") == 403
    assert status(f"{idle}/end-room") == 400
    assert api.post(f"{idle}/remove-peers", json={"peer_id": "x"}).status_code == 404
    assert api.post("/remove-peers", json={"peer_id": "x"}).json()["message"] == "peer not found"


def test_the_api_answers_json_with_a_length_and_a_date(api: httpx.Client) -> None:
    headers = api.get("").headers
    assert headers["content-type"] == "application/json"
    assert int(headers["content-length"]) > 0
    assert "date" in headers
