"""`langgraph dev`, which serves our graph, while a test runs."""

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

import httpx

from docs import PROJECT
from hms_active_rooms.sim.server import Simulation, environment

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
