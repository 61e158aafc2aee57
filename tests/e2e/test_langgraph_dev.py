"""`langgraph dev` serves the graph: start, see the interrupt, approve, resume."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from docs import PROJECT
from hms_active_rooms.sim.server import Simulation, environment, running_sim

START_S = 90


@contextlib.contextmanager
def langgraph_dev(sim: Simulation, folder: Path) -> Iterator[str]:
    """The development server on a free port, with an empty state of its own."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    work = folder / "project"
    work.mkdir()
    (work / "langgraph.json").write_bytes((PROJECT / "langgraph.json").read_bytes())
    (work / "pyproject.toml").write_text('[project]\nname = "served"\nversion = "0"\n')
    env = {
        **{k: v for k, v in os.environ.items() if not k.startswith(("HMS_", "LANG"))},
        **environment(sim),
        "HMS_JOURNAL": f"sqlite:///{folder / 'journal.sqlite'}",
        "LANGGRAPH_STRICT_MSGPACK": "true",
        "LANGSMITH_TRACING": "false",
    }
    log = folder / "server.log"
    with log.open("wb") as out:
        server = subprocess.Popen(
            [
                str(Path(sys.executable).parent / "langgraph"),
                "dev",
                "--no-browser",
                "--no-reload",
                "--host=127.0.0.1",
                f"--port={port}",
            ],
            cwd=work,
            env=env,
            stdout=out,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    url = f"http://127.0.0.1:{port}"
    try:
        deadline = time.monotonic() + START_S
        while True:
            with contextlib.suppress(httpx.TransportError):
                if httpx.get(f"{url}/ok", timeout=5).status_code == 200:
                    break
            assert server.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.2)
        yield url
    finally:
        os.killpg(server.pid, signal.SIGTERM)
        server.wait(timeout=30)


@pytest.mark.nightly  # by day tests/skill/test_examples.py does the same with LangGraph's own client
def test_langgraph_dev_serves_the_moderator_and_asks(tmp_path: Path) -> None:
    with running_sim("classroom") as sim, langgraph_dev(sim, tmp_path) as url:

        def post(path: str, **body: Any) -> Any:
            answer = httpx.post(f"{url}{path}", json=body, timeout=60)
            answer.raise_for_status()
            return answer.json()

        thread = post("/threads")["thread_id"]
        run = f"/threads/{thread}/runs/wait"
        asked = post(
            run,
            assistant_id="moderator",
            input={"messages": [{"role": "user", "content": "kick Spam Bot"}]},
        )
        [interrupt] = asked["__interrupt__"]
        assert '"Spam Bot"' in interrupt["value"]["action_requests"][0]["description"]
        assert not [r for r in sim.requests if r.method == "POST"]
        digest = interrupt["value"]["action_requests"][0]["digest"]
        answer = {"decisions": [{"type": "approve", "digest": digest}]}
        post(run, assistant_id="moderator", command={"resume": {interrupt["id"]: answer}})
        assert len([r for r in sim.requests if r.method == "POST"]) == 1
        assert "Spam Bot" not in [p.name for p in sim.world.peers(sim.room_id)]
