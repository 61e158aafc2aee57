"""`python -m evals.bench`: run everything in turn, print two tables, write RESULTS.md."""

from __future__ import annotations

import argparse
import asyncio
import itertools
import platform
import shutil
import statistics
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any, Final

import httpx

from evals.bench import BASE_REF, LARGEST, MANY, PEOPLE, room_of
from evals.bench.processes import (
    PROJECT,
    DidNotRunError,
    Process,
    Server,
    export,
    syncs_between_marks,
)
from evals.figures import commit, table

NOW: Final = "this code"
PLAIN: Final = "plain"
IN_PROCESS: Final = ("callback", "create_agent", "moderator")
WAYS: Final = (*IN_PROCESS, "REST", "MCP elicitation")
_LIST: Final = "hms-list-peers"
_ROOM: Final = "hms-retrieve-active-room"
_LIBRARIES: Final = """langchain langchain-core langgraph langgraph-checkpoint-sqlite mcp httpx
aiohttp pydantic sqlalchemy uvicorn starlette"""


@dataclass
class Code:
    """The running processes of one code: a worker that calls tools and runs agents, and a server of
    MCP, and of REST but for the plain code; None where nothing but the agent is counted."""

    name: str
    worker: Process
    server: Server | None = None

    async def remove(self, way: str, room: str, *, count: bool = False) -> dict[str, Any]:
        """One removal, and what it cost; the room is only used once."""
        if way in IN_PROCESS:
            return await self.worker.ask("remove", way=way, room=room)
        assert self.server
        return await self.server.remove(way, room, count=count)


@dataclass
class Bench:
    """One run of everything.

    Attributes:
        folder: for the processes' files.
        repeats: samples of each measure, taken in turn.
        calls: reads in a sample.
        counts: by code and way, what one removal does.
        samples: by code and measure, seconds.
        missing: by code that did not run, why.
    """

    folder: Path
    repeats: int
    calls: int
    counts: dict[tuple[str, str], Counter[str]] = field(default_factory=dict)
    samples: dict[tuple[str, str], list[float]] = field(default_factory=lambda: defaultdict(list))
    missing: dict[str, str] = field(default_factory=dict)

    async def run(self) -> None:
        self._rooms = (room_of(PEOPLE, n) for n in itertools.count())
        packages: dict[str, Path | None] = {PLAIN: None, NOW: PROJECT / "skill"}
        async with AsyncExitStack() as stack:
            stand_in = await stack.enter_async_context(Process(self.folder / "room", "stand-in"))
            self._url = str(stand_in.said["url"])
            self._http = await stack.enter_async_context(
                httpx.AsyncClient(trust_env=False, timeout=60)
            )
            try:
                packages[BASE_REF] = export(BASE_REF, self.folder / BASE_REF)
            except DidNotRunError as error:
                self.missing[BASE_REF] = str(error)
            for name, package in packages.items():
                try:
                    await self._count(name, package)
                except DidNotRunError as error:
                    if name != BASE_REF:
                        raise
                    self.missing[name] = str(error)
            await self._time({n: p for n, p in packages.items() if n not in self.missing})

    async def _start(
        self, stack: AsyncExitStack, name: str, package: Path | None, *, count: bool = False
    ) -> Code:
        folder = self.folder / f"{'counted' if count else 'timed'} {name}"

        async def process(role: str) -> Process:
            new = Process(folder / role, role, self._url, package, count=count)
            return await stack.enter_async_context(new)

        code = Code(name, await process("ours" if package else "plain"))
        assert str(code.worker.said["package"]).startswith(str(package)), code.worker.said
        if package or not count:
            server = await process("serve" if package else "serve-plain")
            code.server = Server(server, self._http, self._told)
            await stack.enter_async_context(code.server.mcp)
        return code

    async def _told(self, room: str) -> dict[str, Any]:
        told: dict[str, Any] = (await self._http.get(f"{self._url}/told/{room}")).json()
        return told

    async def _count(self, name: str, package: Path | None) -> None:
        async with AsyncExitStack() as stack:
            code = await self._start(stack, name, package, count=True)
            for way in WAYS if package else ("create_agent",):
                for _ in range(2):  # the first is to warm up
                    cost = await code.remove(way, next(self._rooms), count=True)
                start, yes, end = (Counter(_numbers(mark)) for mark in cost["marks"])
                assert len(cost["marks"][2]["removed"]) == 1, (name, way)
                from_yes = Counter({f"{what} from yes": n for what, n in (end - yes).items()})
                self.counts[name, way] = end - start + from_yes
        self._add_syncs(code.worker, name, IN_PROCESS if package else ("create_agent",))
        if code.server:
            self._add_syncs(code.server.process, name, WAYS[len(IN_PROCESS) :])

    def _add_syncs(self, process: Process, name: str, ways: Sequence[str]) -> None:
        """Each way left six marks: start, yes and end of the removal to warm up, then of the other."""
        between = syncs_between_marks(process.syncs or "")
        for way, first in zip(ways, range(3, len(between), 6), strict=False):
            self.counts[name, way] += between[first] + between[first + 1]

    async def _time(self, packages: Mapping[str, Path | None]) -> None:
        async with AsyncExitStack() as stack:
            codes = [await self._start(stack, *package) for package in packages.items()]
            for code in codes:
                assert code.server
                for process in (code.worker, code.server.process):
                    await process.ask("pin")
            for repeat in range(self.repeats + 1):
                if repeat == 1:  # the first round was to warm up
                    self.samples.clear()
                for way in WAYS:
                    for code in codes:
                        which = "create_agent" if code.name == PLAIN else way
                        cost = await code.remove(which, next(self._rooms))
                        self.samples[code.name, f"{way} CPU"].append(cost["cpu_s"])
                        self.samples[code.name, f"{way} wall"].append(cost["wall_s"])
                await self._reads(codes)

    async def _reads(self, codes: Sequence[Code]) -> None:
        work: dict[str, tuple[str, dict[str, object]]] = {
            "list": ("list", {"transport": "httpx", "calls": self.calls}),
            "fast": ("list", {"transport": "aiohttp", "calls": self.calls}),
            "at once": ("list_at_once", {"transport": "aiohttp"}),
            "largest": ("list_largest", {}),
        }
        for measure, (do, given) in work.items():
            for code in codes:
                before = await self._told(room_of(MANY))
                took = await code.worker.ask(do, **given)
                after = await self._told(room_of(MANY))
                self.samples[code.name, measure].append(took["s"])
                if measure == "at once":
                    served_s = after["cpu_s"] - before["cpu_s"]
                    asked = after["requests"] - before["requests"]
                    self.samples[code.name, "served"].append(served_s / asked / took["s"])
        for measure, tool in (("MCP list", _LIST), ("MCP room", _ROOM)):
            for code in codes:
                assert code.server
                called = _LIST if code.name == PLAIN else tool
                since = time.perf_counter()
                for _ in range(self.calls):
                    await code.server.read(called, room_of(MANY))
                self.samples[code.name, measure].append(time.perf_counter() - since)

    def ratio(self, name: str, measure: str, *, upside_down: bool = False) -> str:
        """The median of the code's samples, each divided by the plain one taken beside it."""
        pairs = zip(self.samples[name, measure], self.samples[PLAIN, measure], strict=True)
        middle = statistics.median(b / a if upside_down else a / b for a, b in pairs)
        return f"{middle:.2f}x"

    def count(self, name: str, way: str, what: str) -> str:
        known = what not in ("journal", "checkpoints") or shutil.which("strace")
        return str(self.counts[name, way][what]) if known else "no strace"

    def removal(self) -> str:
        names = [name for name in (NOW, BASE_REF) if name not in self.missing]
        rows = []
        for label, target, what in [
            ("SQL transactions", "<= 6", "transactions"),
            ("... from the yes on", "<= 3", "transactions from yes"),
            ("syncs of the journal", "<= 4", "journal"),
            ("syncs of the checkpoints", "-", "checkpoints"),
            ("HTTP requests from the yes on", "<= 4", "requests from yes"),
            ("the call is parsed", "1 + rows read", "parsed"),
            ("rows read", "-", "rows read"),
        ]:
            cells = [" / ".join(self.count(name, way, what) for name in names) for way in WAYS]
            rows.append([label, target, *cells, self.count(PLAIN, "create_agent", what)])
        for label, what in [("CPU of the whole", "CPU"), ("wall from the yes to done", "wall")]:
            cells = [
                " / ".join(self.ratio(name, f"{way} {what}") for name in names) for way in WAYS
            ]
            rows.append([label, "<= 2x", *cells, "1x"])
        return table(["", "target", *WAYS, "plain agent"], rows)

    def reading(self) -> str:
        rows = []
        for label, beside, target, measure in [
            (f"list, {MANY} people, CPU", "plain tool on httpx", "<= 1.5x", "list"),
            (f"... with `fast`, {MANY} people, CPU", "plain tool on httpx", "<= 1x", "fast"),
            (
                f"... with `fast`, {MANY} at once, calls/s",
                "plain tool on httpx",
                ">= 2x",
                "at once",
            ),
            (f"list, {LARGEST:,} people, CPU", "json.loads", "<= 3x", "largest"),
            (f"list over MCP, {MANY} people, wall", "plain MCPServer", "<= 1.5x", "MCP list"),
            ("room over MCP, wall", "plain MCPServer's list", "<= 1.1x", "MCP room"),
        ]:
            cells = [
                f"not run: {self.missing[name]}"
                if name in self.missing
                else self.ratio(name, measure, upside_down=measure == "at once")
                for name in (NOW, BASE_REF)
            ]
            rows.append([label, beside, target, *cells])
        return table(["", "beside", "target", NOW, f"`{BASE_REF}`"], rows)


def _numbers(mark: Mapping[str, Any]) -> dict[str, int]:
    return {what: n for what, n in mark.items() if isinstance(n, int)}


def report(bench: Bench, command: str) -> str:
    libraries = ", ".join(f"{name} {metadata.version(name)}" for name in _LIBRARIES.split())
    missing = bench.missing.get(BASE_REF)
    cells = (
        f"`{BASE_REF}` did not run: {missing}" if missing else f"each cell: {NOW} / `{BASE_REF}`"
    )
    return f"""\
# What a removal and a read cost

<!-- Generated by `{command}`; not written by hand. -->

- On {datetime.now(UTC):%Y-%m-%d}, by `{command}`, at commit {commit("skill") or "unknown"}.
- Python {platform.python_version()}; {libraries}.
- Samples of each measure: {bench.repeats}, each taken right after the same work done plainly; a ratio is the median of the samples' ratios. The two codes have the same libraries. The processes measured share one core; the stand-in for 100ms keeps to another.

## One removal of one person, question to outcome

In a room of {PEOPLE} people; {cells}. Plain agent: `create_agent` with `HumanInTheLoopMiddleware` and a tool that only posts; agents keep their checkpoints in a SQLite file. Of servers it is the server's CPU, and the wall time of their client. Syncs are counted with strace. A parse is one pydantic validation that yields the call's model, LangChain's own included; a row read is one `SELECT` or `RETURNING` on the table of actions.

{bench.removal()}

## Reading

{MANY} at once is a burst whose connections are open, as in a service that keeps asking. The stand-in does not limit it: it is busy for {100 * statistics.median(bench.samples[NOW, "served"]):.0f} % of that time.

{bench.reading()}
"""


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m evals.bench")
    parser.add_argument("--repeats", type=int, default=11)
    parser.add_argument("--calls", type=int, default=10, help="reads in a sample")
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "RESULTS.md")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(Path(folder).resolve(), given.repeats, given.calls)
        asyncio.run(bench.run())
    told = report(bench, "make bench")
    given.output.write_text(told, encoding="utf-8")
    print(told)


if __name__ == "__main__":
    main()
