"""The official Node SDK works against the simulator, with nothing changed but the base URL.

The SDK is an outside program here: npm installs it into pytest's cache and node runs it.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from hms_active_rooms.sim import Fault, Simulation

PACKAGE = "@100mslive/server-sdk@0.3.0"

# The SDK has no option for its address, so the HTTP client inside it is told.
SCRIPT = """
const HMS = require("@100mslive/server-sdk");
const sdk = new HMS.SDK(process.env.HMS_ACCESS_KEY, process.env.HMS_SECRET);
const rooms = sdk.activeRooms;
rooms.apiService.axios.defaults.baseURL = process.env.HMS_BASE_URL + "/";
const room = process.env.HMS_ROOM;
const steps = JSON.parse(process.argv[2]);
(async () => {
  const seen = [];
  for (const [method, ...rest] of steps) {
    try {
      seen.push({ value: (await rooms[method](room, ...rest)) ?? null });
    } catch (error) {
      seen.push({ code: error.code, message: error.message });
    }
  }
  console.log(JSON.stringify(seen));
})();
"""

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def sdk_folder(pytestconfig: pytest.Config) -> Path:
    if shutil.which("node") is None or shutil.which("npm") is None:
        pytest.skip("node and npm are not on this machine")
    cache = pytestconfig.cache
    assert cache is not None
    worker = os.environ.get("PYTEST_XDIST_WORKER", "main")
    folder = cache.mkdir(f"node-sdk-{worker}")
    if not (folder / "node_modules" / "@100mslive").is_dir():
        (folder / "package.json").write_text("{}")
        done = subprocess.run(
            ["npm", "install", "--ignore-scripts", "--no-audit", "--no-fund", PACKAGE],
            cwd=folder,
            capture_output=True,
            text=True,
            timeout=100,
            check=False,
        )
        if done.returncode != 0:
            pytest.skip(f"npm cannot install {PACKAGE}: {done.stderr.strip()[-300:]}")
    (folder / "run.js").write_text(SCRIPT)
    return folder


def run(
    sdk_folder: Path, sim: Simulation, *steps: list[Any], **variables: str
) -> list[dict[str, Any]]:
    """Call the SDK's methods in one process, one after the other."""
    done = subprocess.run(
        ["node", "run.js", json.dumps(steps)],
        cwd=sdk_folder,
        env={
            "PATH": os.environ["PATH"],
            "NODE_ENV": "production",
            "HMS_ACCESS_KEY": sim.access_key,
            "HMS_SECRET": sim.secret,
            "HMS_BASE_URL": sim.base_url,
            "HMS_ROOM": sim.room_id,
            **variables,
        },
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    seen: list[dict[str, Any]] = json.loads(done.stdout.splitlines()[-1])
    return seen


def test_all_seven_operations_work(sim: Simulation, sdk_folder: Path, ids: dict[str, str]) -> None:
    sam, bot = ids["Sam Lee"], ids["Spam Bot"]
    room, peers, peer, updated, sent, removed, ended = run(
        sdk_folder,
        sim,
        ["retrieve"],
        ["retrieveActivePeers"],
        ["retrievePeerDetails", sam],
        ["updatePeer", sam, {"role": "viewer"}],
        ["sendMessage", {"message": "hi", "peer_id": sam}],
        ["removePeer", {"peer_id": bot, "reason": "spam"}],
        ["end", {"reason": "over", "lock": True}],
    )
    assert room["value"]["id"] == sim.room_id
    assert len(room["value"]["session"]["peers"]) == 15
    assert peers["value"][sam]["name"] == "Sam Lee"
    assert len(peer["value"]["tracks"]) == 2
    assert (updated["value"]["role"], updated["value"]["tracks"]) == ("viewer", {})
    assert [step["value"] for step in (sent, removed, ended)] == [None] * 3
    assert [entry.operation for entry in sim.requests] == [
        "retrieve_active_room",
        "list_peers",
        "retrieve_peer",
        "update_peer",
        "send_message",
        "remove_peers",
        "end_active_room",
    ]
    assert all(entry.status == 200 for entry in sim.requests)
    assert sim.world.deliveries[0].recipients == (sam,)
    sim.world.settle()
    assert not sim.world.peers(sim.room_id)


def test_a_direct_message_by_the_sdks_own_types_reaches_everyone(
    sim: Simulation, sdk_folder: Path, ids: dict[str, str]
) -> None:
    run(sdk_folder, sim, ["sendMessage", {"message": "only you", "peerId": ids["Sam Lee"]}])
    assert len(sim.world.deliveries[0].recipients) == 15


def test_the_sdk_repeats_a_post_once_after_a_401(sim: Simulation, sdk_folder: Path) -> None:
    sim.faults.add(Fault(kind="unauthorized"))
    (sent,) = run(sdk_folder, sim, ["sendMessage", {"message": "hi"}])
    assert sent == {"value": None}
    first, second = sim.requests
    assert (first.status, second.status) == (401, 200)
    assert first.body == second.body
    assert len(sim.world.deliveries) == 1


def test_the_sdk_reads_the_errors(sim: Simulation, sdk_folder: Path) -> None:
    sim.world.advance(1)
    unknown, invalid, ended, gone = run(
        sdk_folder,
        sim,
        ["retrievePeerDetails", "00000000-0000-4000-8000-000000000000"],
        ["removePeer", {}],
        ["end", {}],
        ["updatePeer", "x", {"metadata": {}}],
    )
    assert unknown == {"code": 404, "message": "peer not found"}
    assert invalid == {"code": 400, "message": "invalid input"}
    assert ended == {"value": None}
    assert gone["code"] == 400


@pytest.mark.behaviour("transport.absolute-target")
@pytest.mark.parametrize("variable", ["http_proxy", "https_proxy"])
def test_the_sdk_works_through_a_proxy(
    sim: Simulation, sdk_folder: Path, ids: dict[str, str], variable: str
) -> None:
    """By http_proxy the SDK's HTTP client sends the whole URL to the proxy, which is the simulator
    itself here. By https_proxy it does the same for an https URL, and never sends CONNECT."""
    scheme = variable.partition("_")[0]
    room, sent = run(
        sdk_folder,
        sim,
        ["retrieve"],
        ["sendMessage", {"message": "hi", "peer_id": ids["Sam Lee"]}],
        HMS_BASE_URL=f"{scheme}://api.100ms.live/v2",
        **{variable: sim.base_url.removesuffix("/v2")},
    )
    assert room["value"]["id"] == sim.room_id
    assert sent == {"value": None}
    assert [entry.operation for entry in sim.requests] == ["retrieve_active_room", "send_message"]
