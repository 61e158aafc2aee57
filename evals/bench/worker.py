"""A process that does the work with the code it finds, one command a line, one answer a line.

It keeps to the doors that stay: the public classes, `build_moderator`, `python -m
hms_active_rooms serve`. Standard input's end ends it.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import runpy
import signal
import sqlite3
import sys
import threading
import time
from collections.abc import Callable, Mapping
from functools import cached_property
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final, Literal
from urllib.request import urlopen

from evals.bench import BURSTS, LARGEST, MANY, peer_of, plain, room_of
from evals.bench.counting import Counts

Told = Mapping[str, Any]

_LIST: Final = "hms-list-peers"


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
    """The work, by command; `ours` and `plain` differ in the tools they bring."""

    def __init__(self, url: str, folder: Path, watch: Watch) -> None:
        self.url = url
        self.folder = folder
        self.watch = watch
        self.loop = asyncio.new_event_loop()
        self.lists: dict[str, Any] = {}
        self._agents: dict[str, Any] = {}

    def agent(self, way: str) -> Any:
        raise NotImplementedError

    @cached_property
    def saver(self) -> Any:
        from langgraph.checkpoint.sqlite import SqliteSaver

        path = self.folder / "checkpoints.sqlite"
        return SqliteSaver(sqlite3.connect(path, check_same_thread=False))

    def remove(self, way: str, room: str) -> Told:
        from langgraph.types import Command

        config = {"configurable": {"thread_id": room, "approver": "ada"}}
        agent = self._agents.get(way) or self._agents.setdefault(way, self.agent(way))
        self.watch.start(room)
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
        """The largest room; CPU."""
        return self.list("httpx", 1, LARGEST)


class Ours(Worker):
    def __init__(self, url: str, folder: Path, watch: Watch) -> None:
        super().__init__(url, folder, watch)
        from hms_active_rooms import ActiveRoomsClient, ActiveRoomsToolkit, Policy

        environ = {"HMS_MANAGEMENT_TOKEN": "bench", "HMS_BASE_URL": url}
        policy = Policy(rooms=("*",), actions_per_minute=10_000)

        def confirm(request: Any) -> Any:
            watch.yes()
            return request.approve(by="ada")

        def kit(transport: Literal["httpx", "aiohttp"]) -> ActiveRoomsToolkit:
            client = ActiveRoomsClient.from_env(environ, transport=transport)
            journal = _journal(folder / transport)
            return ActiveRoomsToolkit(client, policy, confirm=confirm, journal=journal)

        self._kit, fast = kit("httpx"), kit("aiohttp")
        self._tools = {tool.name: tool for tool in self._kit.get_tools()}
        [fast_list] = [tool for tool in fast.get_tools() if tool.name == _LIST]
        self.lists = {"httpx": self._tools[_LIST], "aiohttp": fast_list}

    def agent(self, way: str) -> Any:
        from langchain.agents import create_agent

        model = plain.model()
        if way == "moderator":
            return _build_moderator()(model, self._kit, checkpointer=self.saver)
        return create_agent(model, list(self._tools.values()), checkpointer=self.saver)

    def remove(self, way: str, room: str) -> Told:
        if way != "callback":
            return super().remove(way, room)
        arguments = {"room_id": room, "peer_id": peer_of(1)}
        self.watch.start(room)
        self.loop.run_until_complete(self._tools["hms-remove-peers"].ainvoke(arguments))
        return self.watch.end()


class Plain(Worker):
    def __init__(self, url: str, folder: Path, watch: Watch) -> None:
        super().__init__(url, folder, watch)
        self.lists = dict.fromkeys(("httpx", "aiohttp"), plain.list_tool(url))
        self._body = b""

    def agent(self, way: str) -> Any:
        return plain.agent(self.url, self.saver)

    def list_largest(self) -> Told:
        if not self._body:
            with urlopen(f"{self.url}/active-rooms/{room_of(LARGEST)}/peers") as answer:
                self._body = answer.read()
        cpu_s = time.process_time()
        json.loads(self._body)
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
    kind = Ours if given.role == "ours" else Plain
    worker = kind(given.url, given.folder, Watch(given.url, counts))
    package = sys.modules.get("hms_active_rooms")
    print(json.dumps({"package": package and package.__file__}), flush=True)
    _answer(
        {
            "remove": worker.remove,
            "list": worker.list,
            "list_at_once": worker.list_at_once,
            "list_largest": worker.list_largest,
            "pin": _pin,
        }
    )


if __name__ == "__main__":
    main()
