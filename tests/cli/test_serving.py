"""`serve`: what it says, what it refuses to start with, and the address it tells people."""

from __future__ import annotations

import json
import re
import signal
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import httpx
import pytest

from cli.running import Open, Run, ended
from e2e.server import APPROVER, CALLER, WAIT_S, Browser, Program, guarded, serving, settings
from hms_active_rooms.cli.serving import Where, guides, public_url, reached_at
from hms_active_rooms.errors import ConfigurationError
from hms_active_rooms.sim import Fault
from hms_active_rooms.sim.server import Simulation
from hms_active_rooms.untrusted import quoted
from simulated import posts

REMOVE = "hms-remove-peers"


def test_it_says_where_everything_is_and_for_whom(sim: Simulation, tmp_path: Path) -> None:
    environ = guarded(sim, tmp_path)
    with serving(sim, environ, "--person", "bob o'neil") as server:
        said = server.said
        assert said["rooms"] == [sim.room_id]
        assert (said["token"], said["approvers"]) == (True, 1)
        assert list(said["logins"]) == ["ada", "bob o'neil"]
        assert said["logins"]["bob o'neil"].endswith("&name=bob%20o%27neil")
        assert all(link.startswith(f"{said['page']}#login=") for link in said["logins"].values())
        assert httpx.get(f"{server.url}/healthz").json() == {"status": "ok"}
    assert server.ended() == 0
    for secret in (CALLER, APPROVER, sim.secret):
        assert secret not in json.dumps(said)
        assert secret not in server.stderr


def test_from_the_login_link_to_the_removal(sim: Simulation, tmp_path: Path) -> None:
    """A newcomer's whole path: no token, a program asks, the person with the link approves."""
    with (
        serving(sim, settings(sim, tmp_path)) as server,
        Program(server, "") as program,
        Browser(server) as person,
    ):
        page = person.get("").text
        assert "<title>Approvals</title>" in page
        look = program.tool("hms-list-peers", {"room_id": sim.room_id, "name": "spam"})
        [peer] = look.json()["data"]["peers"]
        waiting = program.tool(REMOVE, {"room_id": sim.room_id, "peer_id": peer["short_id"]})
        told = waiting.json()["data"]
        assert (waiting.status_code, posts(sim)) == (202, [])
        assert f"on the page {server.said['page']}" in told["approve_at"]
        done = person.decide(told["action_id"], person.question(told["action_id"]), yes=True)
        assert "Checked" in done.json()["text"]
        seen = program.get(waiting.headers["location"]).json()["action"]
        assert (seen["state"], seen["decided_by"], seen["decided_way"]) == ("done", "ada", "page")
    assert len(posts(sim)) == 1


def test_ctrl_c_ends_an_mcp_server_that_somebody_started_by_hand(
    sim: Simulation, terminal: Open
) -> None:
    child = terminal("mcp", "--stdio", "--room", sim.room_id)
    child.expect("Ctrl-C ends this server")
    child.sendline("help")  # no message: the answer shows that the server reads
    child.expect("jsonrpc")
    child.signal(signal.SIGINT)
    code, rest = ended(child)
    assert (code, "Traceback" in rest) == (0, False)
    assert "The server was stopped." in rest


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_without_json_a_person_can_read_it_and_a_signal_ends_it(
    sim: Simulation, terminal: Open, sent: signal.Signals
) -> None:
    child = terminal("serve", "--room", sim.room_id, "--port", "0")
    child.expect("Ctrl-C ends it")
    said = child.before or ""
    assert f"Rooms: {sim.room_id}." in said
    assert "no token needed here" in said
    assert "Approvers by REST: none." in said
    assert re.search(
        r"Approvals page for one person \(the link works once\): http://\S+/approvals#login=\S+",
        said,
    )
    child.signal(sent)
    code, rest = ended(child)
    assert (code, "Traceback" in rest) == (0, False)


def test_a_second_ctrl_c_stops_at_once_and_says_what_it_left(
    sim: Simulation, tmp_path: Path
) -> None:
    sim.faults.add(Fault(kind="hang", method="POST", when="after"))
    with serving(sim, guarded(sim, tmp_path)) as server, Program(server, CALLER) as program:
        waiting = program.tool("hms-send-message", {"room_id": sim.room_id, "message": "hi"})
        action = waiting.json()["data"]["action_id"]
        with Program(server, APPROVER) as approver, ThreadPoolExecutor() as threads:
            digest = approver.question(action)
            answer = threads.submit(approver.decide, action, digest, True)
            assert sim.log.wait_until(lambda seen: any(r.method == "POST" for r in seen), WAIT_S)
            server.signal(signal.SIGINT)
            until_refused(server.url)
            server.signal(signal.SIGINT)
            assert server.ended() == 0
            told = answer.result(WAIT_S)
        assert (told.status_code, told.json()["executed"]) == (503, "maybe")
    assert f"send {action}: stopped before its end, so its outcome is unknown" in server.stderr
    assert "Traceback" not in server.stderr
    assert len(posts(sim)) == 1


def until_refused(url: str) -> None:
    """Come back once nobody listens there: the server has begun to stop."""
    place = httpx.URL(url)
    deadline = time.monotonic() + WAIT_S
    while time.monotonic() < deadline:
        try:
            with suppress(ConnectionResetError):  # it was closed with us in its queue
                socket.create_connection((place.host, place.port or 0), WAIT_S).close()
        except ConnectionRefusedError:
            return
    raise AssertionError("it still listens")


def test_a_journal_in_memory_is_told_to_whoever_starts_a_server(sim: Simulation, run: Run) -> None:
    done = run("mcp", "--stdio", "--room", sim.room_id, HMS_JOURNAL=":memory:")
    assert done.code == 0
    assert "`approve` finds nothing in it" in done.err
    assert "in memory" not in run("mcp", "--stdio", "--room", sim.room_id).err


def test_a_room_in_capitals_is_a_room_that_the_policy_names(sim: Simulation, run: Run) -> None:
    named = ("mcp", "--stdio", "--room", sim.room_id.upper())
    assert "does not name" in run(*named, HMS_POLICY_ROOMS="0" * 24).err
    assert run(*named, HMS_POLICY_ROOMS=sim.room_id).code == 0


@pytest.mark.parametrize(
    ("arguments", "variables", "complaint"),
    [
        ([], {}, "No room is allowed"),
        (["--room", "abc"], {}, '"abc" is not a room id'),
        (["--room", "ROOM", "--host", "0.0.0.0"], {}, "needs a token"),
        (["--room", "ROOM"], {"HMS_APPROVER_TOKEN": "short"}, "at least 16"),
        (
            ["--room", "ROOM"],
            {"HMS_SERVER_TOKEN": CALLER, "HMS_APPROVER_TOKEN": CALLER},
            "same token",
        ),
        (["--room", "ROOM", "--person", "a\x1b[31mda"], {}, "A name has"),
        (["--room", "ROOM", "--person", "ada", "--person", ""], {}, '"" is not a valid name'),
        (["--room", "ROOM", "--person", "ada", "--person", "ada "], {}, 'names "ada" twice'),
        (["--room", "ROOM", "--allow-host", "https://x"], {}, "is no host name"),
        (["--room", "ROOM", "--allow-host", "rooms.example"], {}, "needs a token"),
        (["--room", "ROOM"], {"HMS_SERVER_URL": "rooms.example/approvals"}, "is not an address"),
        (["--room", "ROOM"], {"HMS_SERVER_URL": "https://rooms.example"}, "needs a token"),
    ],
)
def test_it_refuses_to_start_unsafely(
    arguments: list[str], variables: dict[str, str], complaint: str, sim: Simulation, call: Run
) -> None:
    given = [sim.room_id if a == "ROOM" else a for a in arguments]
    done = call("serve", "--port", "0", *given, **variables)
    assert done.code == 2
    assert complaint in done.err
    assert CALLER not in done.err
    assert sim.requests == ()


def test_behind_a_proxy_it_tells_the_address_of_the_proxy(sim: Simulation, tmp_path: Path) -> None:
    public = "https://rooms.example"
    with serving(sim, guarded(sim, tmp_path, HMS_SERVER_URL=public)) as server:
        said = server.said
        assert (said["page"], said["mcp"]) == (f"{public}/approvals", f"{public}/mcp")
        link = said["logins"]["ada"]
        assert link.startswith(f"{public}/approvals#login=")
        login = {"token": link.partition("#login=")[2].partition("&")[0]}
        # A proxy passes on the name that people use, or puts in the one it uses itself.
        for host in ("127.0.0.1", "rooms.example"):
            with httpx.Client(base_url=said["bound"], headers={"host": host}) as passed_on:
                assert passed_on.get("/approvals").status_code == 200
                evil = {"origin": "https://evil.example", "authorization": f"Bearer {CALLER}"}
                assert passed_on.get("/v1/tools", headers=evil).status_code == 403
        headers = {"host": "rooms.example", "origin": public}
        answer = httpx.post(f"{said['bound']}/approvals/login", json=login, headers=headers)
        assert answer.status_code == 200
        assert "Secure" in answer.headers["set-cookie"]


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ("", ""),
        ("https://rooms.example", "https://rooms.example"),
        ("https://Rooms.example:443/", "https://rooms.example"),
        ("http://rooms.example:80", "http://rooms.example"),
        ("https://rooms.example:8443", "https://rooms.example:8443"),
        ("http://[::1]:9090", "http://[::1]:9090"),
    ],
)
def test_the_address_is_what_a_browser_calls_the_origin(given: str, meant: str) -> None:
    assert public_url({"HMS_SERVER_URL": given}) == meant


@pytest.mark.parametrize(
    "wrong",
    ["rooms.example", "ftp://x", "https://a/b", "https://u@a", "https://A?b", "https://a\n"],
)
def test_what_is_no_origin_is_no_address_and_named_as_it_was_typed(wrong: str) -> None:
    with pytest.raises(ConfigurationError, match="not an address") as raised:
        public_url({"HMS_SERVER_URL": wrong})
    assert quoted(wrong) in str(raised.value)


def test_every_file_that_a_guide_sends_a_reader_to_can_be_read() -> None:
    found = guides()
    assert "SKILL.md" in found
    sent_to = {
        f"references/examples/{name}"
        for text in found.values()
        for name in re.findall(r"`(?:examples/)?(\w+\.py)`", text)
    }
    assert "references/examples/callback.py" in sent_to
    assert sent_to <= set(found)
    beside = {name for name in found if not name.startswith("references/")}
    assert beside == {"SKILL.md"}


def test_bound_to_every_address_it_tells_the_first_name_it_is_reached_by() -> None:
    bound = "http://0.0.0.0:9090"
    everywhere = Where(host="0.0.0.0", allow_host=["rooms.example", "other.example"])
    assert reached_at(bound, everywhere, {}) == "http://rooms.example:9090"
    assert reached_at(bound, everywhere, {"HMS_SERVER_URL": "https://a.b"}) == "https://a.b"
    here = Where(allow_host=["rooms.example"])
    assert reached_at("http://127.0.0.1:9090", here, {}) == "http://127.0.0.1:9090"
