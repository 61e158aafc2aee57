"""One client on several event loops, in several threads, and from synchronous code."""

from __future__ import annotations

import ast
import asyncio
import gc
import json
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

import hms_active_rooms
from api.wire import PEER, ROOM, FixedToken
from hms_active_rooms.api import ActiveRoomsClient, SyncActiveRoomsClient
from hms_active_rooms.errors import InvalidCall, NotActive


class Handler(BaseHTTPRequestHandler):
    disable_nagle_algorithm = True
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self._answer(404 if "role=none" in self.path else 200)

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        self._answer(200)

    def _answer(self, status: int) -> None:
        about = PEER if f"/peers/{PEER}" in self.path else ROOM
        document = {
            "message": "ok" if status == 200 else "session not active",
            "peers": {},
            "id": about,
            "session": {"id": "s", "peers": []},
        }
        body = json.dumps(document).encode()
        self.send_response(status)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture(scope="module")
def base_url() -> Iterator[str]:
    """A server in a thread, for clients that run on other loops than the test's."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}/v2"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def client(base_url: str, transport: Any) -> ActiveRoomsClient:
    return ActiveRoomsClient(FixedToken(), base_url=base_url, transport=transport)


def test_one_client_survives_asyncio_run_twice_and_leaves_no_open_socket(
    client: ActiveRoomsClient,
) -> None:
    for _ in range(3):
        assert asyncio.run(client.list_peers(ROOM)) == ()
    gc.collect()


def test_a_client_that_nobody_closes_leaves_no_open_socket(base_url: str, transport: Any) -> None:
    async def forget() -> None:
        client = ActiveRoomsClient(FixedToken(), base_url=base_url, transport=transport)
        await client.list_peers(ROOM)
        del client
        gc.collect()

    asyncio.run(forget())
    gc.collect()


def test_two_loops_at_once_use_one_client(client: ActiveRoomsClient) -> None:
    together = threading.Barrier(2, timeout=30)
    got: list[object] = []

    async def work() -> None:
        await client.list_peers(ROOM)
        await asyncio.to_thread(together.wait)
        got.append(await asyncio.gather(*(client.list_peers(ROOM) for _ in range(10))))

    threads = [threading.Thread(target=lambda: asyncio.run(work())) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert got == [[()] * 10] * 2


def test_closing_on_one_loop_closes_the_other_loops_connections_too(
    client: ActiveRoomsClient,
) -> None:
    opened, closed = threading.Event(), threading.Event()

    async def other() -> None:
        await client.list_peers(ROOM)
        opened.set()
        await asyncio.to_thread(closed.wait, 30)
        with pytest.raises(InvalidCall, match="closed"):
            await client.list_peers(ROOM)

    async def close() -> None:
        await client.list_peers(ROOM)
        await client.aclose()

    thread = threading.Thread(target=lambda: asyncio.run(other()))
    thread.start()
    opened.wait(30)
    asyncio.run(close())
    closed.set()
    thread.join()
    gc.collect()


def test_closing_under_a_request_lets_it_end_and_leaves_no_open_socket(
    base_url: str, transport: Any
) -> None:
    async def close_after(steps: int) -> object:
        client = ActiveRoomsClient(FixedToken(), base_url=base_url, transport=transport)
        call = asyncio.create_task(client.remove_peers(ROOM, role="r"))
        for _ in range(steps):
            await asyncio.sleep(0)
        await client.aclose()
        return await call

    for steps in range(1, 25):
        assert asyncio.run(close_after(steps)) is not None
    gc.collect()


OPERATIONS: dict[str, Callable[[SyncActiveRoomsClient], Any]] = {
    "retrieve_active_room": lambda c: c.retrieve_active_room(ROOM),
    "list_peers": lambda c: c.list_peers(ROOM, user_id="u", role="r"),
    "retrieve_peer": lambda c: c.retrieve_peer(ROOM, PEER),
    "update_peer": lambda c: c.update_peer(ROOM, PEER, name="n", role="r", metadata="m"),
    "send_message": lambda c: c.send_message(ROOM, "hi", role="r", type="chat"),
    "remove_peers": lambda c: c.remove_peers(ROOM, role="r", reason="x"),
    "end_room": lambda c: c.end_room(ROOM, reason="x", lock=True),
}


@pytest.mark.parametrize("name", OPERATIONS)
def test_every_operation_runs_from_synchronous_code(client: ActiveRoomsClient, name: str) -> None:
    with SyncActiveRoomsClient(client) as sync:
        assert OPERATIONS[name](sync) == asyncio.run(_as_async(client, name))


async def _as_async(client: ActiveRoomsClient, name: str) -> Any:
    """The same call on the asynchronous client."""

    class Same:
        def __getattr__(self, method: str) -> Any:
            return getattr(client, method)

    return await OPERATIONS[name](Same())  # type: ignore[arg-type]


def test_the_synchronous_client_has_the_same_methods_and_arguments() -> None:
    import inspect

    methods = inspect.getmembers(ActiveRoomsClient, inspect.iscoroutinefunction)
    names = {name for name, _ in methods if not name.startswith("_")} - {"aclose"}
    assert names == set(OPERATIONS)
    for name in names:
        there = inspect.signature(getattr(ActiveRoomsClient, name))
        here = inspect.signature(getattr(SyncActiveRoomsClient, name))
        assert here == there


def test_errors_reach_synchronous_code(client: ActiveRoomsClient) -> None:
    with SyncActiveRoomsClient(client) as sync:
        with pytest.raises(NotActive):
            sync.list_peers(ROOM, role="none")
        with pytest.raises(InvalidCall):
            sync.end_room("x")


async def test_synchronous_code_inside_a_running_loop_works(client: ActiveRoomsClient) -> None:
    with SyncActiveRoomsClient(client) as sync:
        assert sync.list_peers(ROOM) == ()


@pytest.mark.slow
def test_a_script_ends_cleanly_without_closing_anything(base_url: str, transport: str) -> None:
    script = f"""
from hms_active_rooms.api import ActiveRoomsClient, StaticToken, SyncActiveRoomsClient
client = ActiveRoomsClient(StaticToken("t"), base_url={base_url!r}, transport={transport!r})
sync = SyncActiveRoomsClient(client)
print(sync.list_peers({ROOM!r}))
"""
    ended = subprocess.run(
        [sys.executable, "-W", "error", "-c", script],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "()\n", "")


def test_the_client_does_not_block_its_event_loop(client: ActiveRoomsClient) -> None:
    import blockbuster

    async def work() -> None:
        with blockbuster.blockbuster_ctx("hms_active_rooms"):
            await client.list_peers(ROOM)
            await client.end_room(ROOM)
            await client.aclose()

    asyncio.run(work())


@pytest.mark.slow
def test_only_the_transport_imports_the_http_library() -> None:
    package = Path(hms_active_rooms.__file__).parent
    found = {
        path.relative_to(package).as_posix()
        for path in package.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if (
            isinstance(node, ast.Import)
            and any(n.name.split(".")[0] == "httpx" for n in node.names)
        )
        or (isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "httpx")
    }
    assert found == {"api/transport.py"}


def test_importing_the_api_loads_no_http_library_and_no_framework() -> None:
    script = (
        "import sys, hms_active_rooms.api\n"
        "print(sorted({'httpx', 'aiohttp', 'jwt', 'langchain_core', 'langgraph'} & set(sys.modules)))"
    )
    ended = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert ended.stdout == "[]\n"
