"""A process that does the work with the code it finds, one command a line, one answer a line.

It keeps to the doors that stay: the public classes, `build_moderator`, `python -m
hms_active_rooms serve`. Standard input's end ends it.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import re
import runpy
import signal
import sqlite3
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from types import FrameType
from typing import Any, Final, Literal
from urllib.request import urlopen

from evals.bench import BURSTS, LARGEST, MANY, MARKS, peer_of, plain, room_of

Told = Mapping[str, Any]

_LIST: Final = "hms-list-peers"
_CALL_FIELDS: Final = {"room_id", "peer_id", "role", "reason"}
_VALIDATES: Final = {"model_validate", "model_validate_json", "validate_python", "validate_json"}
_READS_A_ROW: Final = re.compile(
    r"^SELECT.*\bFROM \w*actions\b|actions\b.*\bRETURNING\b", re.DOTALL
)


class Counts:
    """What this process does that costs, from now on, in every thread that starts later: transactions,
    rows read, parsed calls.

    It hooks SQLAlchemy, SQLite and pydantic. Of the code under test it knows only the journal's table and
    the fields of the call that removes people, so the same counts can be taken of several versions.
    """

    def __init__(self, folder: Path) -> None:
        import sqlalchemy as sa

        self._counts: Counter[str] = Counter()
        self._marks = (folder / MARKS).open("w")
        sa.event.listen(sa.Engine, "begin", self._on_begin)
        sa.event.listen(sa.Engine, "connect", self._on_connect)
        threading.setprofile(self._on_call)
        sys.setprofile(self._on_call)

    def so_far(self) -> dict[str, int]:
        """Counts by name; also leaves a mark among the syncs that `syncs_between_marks` reads."""
        os.fsync(self._marks.fileno())
        return dict(self._counts)

    def _on_begin(self, _: object) -> None:
        self._counts["transactions"] += 1

    def _on_connect(self, connection: sqlite3.Connection, _: object) -> None:
        connection.set_trace_callback(self._on_statement)

    def _on_statement(self, statement: str) -> None:
        if _READS_A_ROW.search(statement):
            self._counts["rows read"] += 1

    def _on_call(self, frame: FrameType, event: str, value: Any) -> None:
        if event != "return" or "pydantic" not in frame.f_code.co_filename:
            return
        name = frame.f_code.co_name
        made = frame.f_locals.get("self") if name == "__init__" else value
        if (name == "__init__" or name in _VALIDATES) and _is_removal(type(made)):
            self._counts["parsed"] += 1


def _is_removal(kind: type) -> bool:
    fields = getattr(kind, "model_fields", {})
    return kind.__module__.startswith("hms_active_rooms") and set(fields) == _CALL_FIELDS


class Watch:
    """CPU of the whole, wall from the yes on, and counts at start, yes and end when counting."""

    def __init__(self, url: str, counts: Counts | None) -> None:
        self._url = url
        self._counts = counts
        self._marks: list[Told] = []

    def start(self, room: str) -> None:
        self._room, self._marks = room, []
        self._mark()
        self._cpu_s = time.process_time()

    def yes(self) -> None:
        self._mark()
        self._yes_s = time.perf_counter()

    def end(self) -> Told:
        wall_s, cpu_s = time.perf_counter() - self._yes_s, time.process_time() - self._cpu_s
        self._mark()
        return {"cpu_s": cpu_s, "wall_s": wall_s, "marks": self._marks}

    def _mark(self) -> None:
        if self._counts is not None:
            with urlopen(f"{self._url}/told/{self._room}") as answer:
                self._marks.append({**json.load(answer), **self._counts.so_far()})


class Worker:
    """The work, by command, with the tools and agents of one code."""

    def __init__(self, url: str, folder: Path, watch: Watch, *, is_plain: bool) -> None:
        from langgraph.checkpoint.sqlite import SqliteSaver

        self.url = url
        self.watch = watch
        self.is_plain = is_plain
        self.loop = asyncio.new_event_loop()
        path = folder / "checkpoints.sqlite"
        saver = SqliteSaver(sqlite3.connect(path, check_same_thread=False))
        if is_plain:
            self.lists: dict[str, Any] = dict.fromkeys(("httpx", "aiohttp"), plain.list_tool(url))
            self.agents = {"create_agent": plain.agent(url, saver)}
        else:
            self._bring_ours(folder, saver)

    def _bring_ours(self, folder: Path, saver: Any) -> None:
        from langchain.agents import create_agent

        from hms_active_rooms import ActiveRoomsClient, ActiveRoomsToolkit, Policy

        environ = {"HMS_MANAGEMENT_TOKEN": "bench", "HMS_BASE_URL": self.url}
        policy = Policy(rooms=("*",), actions_per_minute=10_000)

        def confirm(request: Any) -> Any:
            self.watch.yes()
            return request.approve(by="ada")

        def kit(transport: Literal["httpx", "aiohttp"]) -> ActiveRoomsToolkit:
            client = ActiveRoomsClient.from_env(environ, transport=transport)
            journal = _journal(folder / transport)
            return ActiveRoomsToolkit(client, policy, confirm=confirm, journal=journal)

        kits = {"httpx": kit("httpx"), "aiohttp": kit("aiohttp")}
        tools = {way: {tool.name: tool for tool in kit.get_tools()} for way, kit in kits.items()}
        ours = tools["httpx"]
        self.lists = {way: each[_LIST] for way, each in tools.items()}
        self.callback = ours["hms-remove-peers"]
        self.agents = {
            "create_agent": create_agent(plain.model(), [*ours.values()], checkpointer=saver),
            "moderator": _build_moderator()(plain.model(), kits["httpx"], checkpointer=saver),
        }

    def remove(self, way: str, room: str) -> Told:
        from langgraph.types import Command

        config = {"configurable": {"thread_id": room, "approver": "ada"}}
        self.watch.start(room)
        if way == "callback":
            arguments = {"room_id": room, "peer_id": peer_of(1)}
            self.loop.run_until_complete(self.callback.ainvoke(arguments))
            return self.watch.end()
        agent = self.agents[way]
        [asked] = agent.invoke({"messages": [("user", room)]}, config)["__interrupt__"]
        self.watch.yes()
        agent.invoke(Command(resume={asked.id: _yes(asked.value)}), config)
        return self.watch.end()

    def list(self, transport: str, calls: int, people: int = MANY) -> Told:
        """One call after the other; CPU of one."""
        room, tool = room_of(people), self.lists[transport]

        async def run() -> str:
            for _ in range(calls):
                told = await tool.ainvoke({"room_id": room})
            return str(told)

        cpu_s = time.process_time()
        told = self.loop.run_until_complete(run())
        cpu_s = time.process_time() - cpu_s
        assert "Student" in told, told
        return {"s": cpu_s / calls}

    def list_at_once(self, transport: str) -> Told:
        """100 calls at once, again and again; wall of one, once the connections are open."""
        tool, given = self.lists[transport], {"room_id": room_of(MANY)}

        async def run() -> float:
            for burst in range(BURSTS + 1):
                if burst == 1:  # the first one opened the connections
                    wall_s = time.perf_counter()
                await asyncio.gather(*(tool.ainvoke(given) for _ in range(MANY)))
            return time.perf_counter() - wall_s

        return {"s": self.loop.run_until_complete(run()) / MANY / BURSTS}

    def list_largest(self) -> Told:
        """The largest room; CPU. Plainly, its answer is only read."""
        if not self.is_plain:
            return self.list("httpx", 1, LARGEST)
        with urlopen(f"{self.url}/active-rooms/{room_of(LARGEST)}/peers") as answer:
            body = answer.read()
        cpu_s = time.process_time()
        json.loads(body)
        return {"s": time.process_time() - cpu_s}


def _build_moderator() -> Callable[..., Any]:
    moved = find_spec("hms_active_rooms.moderator") is not None
    home = import_module(f"hms_active_rooms.{'moderator' if moved else 'agent'}")
    found: Callable[..., Any] = home.build_moderator
    return found


def _journal(folder: Path) -> str:
    folder.mkdir()
    return f"sqlite:///{folder}/journal.sqlite"


def _yes(question: Any) -> Any:
    if "action_requests" in question:
        return {"decisions": [_yes(request) for request in question["action_requests"]]}
    digest = {"digest": question["digest"]} if "digest" in question else {}
    return {"type": "approve", **digest}


def _serve_ours(url: str, folder: Path) -> None:
    """`hms-active-rooms serve`; it prints where it listens."""
    os.environ |= {
        "HMS_MANAGEMENT_TOKEN": "bench",
        "HMS_BASE_URL": url,
        "HMS_JOURNAL": _journal(folder / "serve"),
        "HMS_POLICY_ACTIONS_PER_MINUTE": "10000",
    }
    sys.argv[1:] = ["serve", "--room", "*", "--port", "0", "--json"]
    runpy.run_module("hms_active_rooms", run_name="__main__", alter_sys=True)


def _answer(commands: Mapping[str, Callable[..., Told]]) -> None:
    for line in sys.stdin:
        given = json.loads(line)
        print(json.dumps(commands[given.pop("do")](**given)), flush=True)


def _pin() -> Told:
    """To the last core; the stand-in for 100ms keeps to the first."""
    if hasattr(os, "sched_setaffinity"):
        core = {max(os.sched_getaffinity(0))}
        for thread in threading.enumerate():
            os.sched_setaffinity(thread.native_id or 0, core)
    return {}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("role", choices=["ours", "plain", "serve", "serve-plain"])
    parser.add_argument("url")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--count", action="store_true")
    given = parser.parse_args()
    counts = Counts(given.folder) if given.count else None

    def look() -> Told:
        return {"cpu_s": time.process_time(), **(counts.so_far() if counts else {})}

    if given.role.startswith("serve"):

        def until_the_end() -> None:
            _answer({"look": look, "pin": _pin})
            os.kill(os.getpid(), signal.SIGTERM)

        threading.Thread(target=until_the_end, daemon=True).start()
        if given.role == "serve":
            _serve_ours(given.url, given.folder)
        else:
            plain.serve_mcp(given.url)
        return
    watch = Watch(given.url, counts)
    worker = Worker(given.url, given.folder, watch, is_plain=given.role == "plain")
    package = sys.modules.get("hms_active_rooms")
    print(json.dumps({"package": package and package.__file__}), flush=True)
    work = worker.remove, worker.list, worker.list_at_once, worker.list_largest
    _answer({**{each.__name__: each for each in work}, "pin": _pin})


if __name__ == "__main__":
    main()
