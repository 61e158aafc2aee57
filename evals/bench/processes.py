"""The processes of a run, and what is asked of them: the stand-in, workers, servers."""

from __future__ import annotations

import asyncio
import io
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any, Final, Self

import httpx
import mcp_types as types
from mcp import Client

from evals.bench import MARKS, peer_of

PROJECT: Final = Path(__file__).resolve().parents[2]
_APPROVER: Final = "bench-approver-0123456789"
_TOOL: Final = "hms-remove-peers"
_SYNC: Final = re.compile(r"f(?:data)?sync\(\d+<(.*?)>")


class DidNotRunError(Exception):
    """A process ended too early, or there is no such commit; the text says why."""


class Process:
    """A process that says in one line of JSON that it is ready, then answers each line with one."""

    def __init__(
        self,
        folder: Path,
        role: str,
        url: str = "",
        package: Path | None = None,
        *,
        count: bool = False,
    ) -> None:
        folder.mkdir(parents=True)
        self._folder = folder
        self._syncs = folder / "syncs" if count and shutil.which("strace") else None
        does = ["stand_in"] if role == "stand-in" else ["worker", role, url, str(folder)]
        self._command = [
            *(strace(self._syncs) if self._syncs else []),
            *(sys.executable, "-m", f"evals.bench.{does[0]}", *does[1:]),
            *(["--count"] if count else []),
        ]
        path = os.pathsep.join(str(p) for p in (package, PROJECT) if p)
        clean = {k: v for k, v in os.environ.items() if not k.startswith("HMS_")}
        self._environ = {**clean, "PYTHONPATH": path, "HMS_APPROVER_TOKEN": _APPROVER}
        self.said: dict[str, Any] = {}

    async def __aenter__(self) -> Self:
        with (self._folder / "errors").open("w") as errors:
            self._process = await asyncio.create_subprocess_exec(
                *self._command,
                cwd=self._folder,
                env=self._environ,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
            )
        self.said = await self._line()
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._process.stdin
        self._process.stdin.close()  # its end ends the process
        await self._process.wait()

    async def ask(self, do: str, **given: object) -> dict[str, Any]:
        assert self._process.stdin
        self._process.stdin.write(json.dumps({"do": do, **given}).encode() + b"\n")
        return await self._line()

    async def _line(self) -> dict[str, Any]:
        assert self._process.stdout
        line = await self._process.stdout.readline()
        if not line:
            said = (self._folder / "errors").read_text().strip().splitlines()
            raise DidNotRunError(said[-1] if said else "it ended without a word")
        told: dict[str, Any] = json.loads(line)
        return told

    @property
    def syncs(self) -> str | None:
        """What strace wrote, once the process has ended; None without strace."""
        return self._syncs.read_text() if self._syncs else None


class Server:
    """A server, an open session with its MCP, and clients of its REST."""

    def __init__(
        self, process: Process, http: httpx.AsyncClient, told: Callable[[str], Awaitable[Any]]
    ) -> None:
        self.process = process
        self.mcp = Client(process.said["mcp"], elicitation_callback=self._elicited)
        self._http = http
        self._told = told

    async def remove(self, way: str, room: str, *, count: bool) -> dict[str, Any]:
        """Remove peer 1; see `worker.Watch` for what is told."""
        self._room, self._count = room, count
        call = {"room_id": room, "peer_id": peer_of(1)}
        start = await self._look()
        if way == "REST":
            await self._remove_by_rest(call)
        else:
            await self.mcp.call_tool(_TOOL, call)
        wall_s = time.perf_counter() - self._yes_s
        end = await self._look()
        cpu_s = end["cpu_s"] - start["cpu_s"]
        return {"cpu_s": cpu_s, "wall_s": wall_s, "marks": [start, self._at_yes, end]}

    async def read(self, tool: str, room: str) -> None:
        told = await self.mcp.call_tool(tool, {"room_id": room})
        assert not told.is_error, told

    async def _look(self) -> Mapping[str, Any]:
        room = await self._told(self._room) if self._count else {}
        return {**room, **await self.process.ask("look")}

    async def _yes(self) -> None:
        self._at_yes = await self._look() if self._count else {}
        self._yes_s = time.perf_counter()

    async def _remove_by_rest(self, call: dict[str, str]) -> None:
        base, approver = self.process.said["rest"], {"authorization": f"Bearer {_APPROVER}"}
        asked = await self._http.post(f"{base}/tools/{_TOOL}", json=call)
        where = httpx.URL(base).join(asked.raise_for_status().headers["location"])
        shown = await self._http.get(where, headers=approver)
        digest = {"digest": _found(shown.raise_for_status().json(), "digest")}
        await self._yes()
        done = await self._http.post(f"{where}/approve", json=digest, headers=approver)
        done.raise_for_status()

    async def _elicited(
        self, context: Any, params: types.ElicitRequestParams
    ) -> types.ElicitResult:
        assert isinstance(params, types.ElicitRequestFormParams)
        fields = params.requested_schema
        form = {name: _approving(fields["properties"][name]) for name in fields["required"]}
        await self._yes()
        return types.ElicitResult(action="accept", content=form)


def _approving(field: dict[str, Any]) -> str:
    """The value of a form's field that approves; the only value if there is one."""
    values = field.get("enum") or [option["const"] for option in field.get("oneOf", [field])]
    return str(next((value for value in values if "approve" in value), values[0]))


def _found(document: Any, key: str) -> Any:
    if isinstance(document, dict):
        if key in document:
            return document[key]
        document = list(document.values())
    parts = document if isinstance(document, list) else []
    return next((value for part in parts if (value := _found(part, key)) is not None), None)


def export(ref: str, folder: Path) -> Path:
    """The package of this commit, in the folder."""
    command = ["git", "archive", "--format=tar", ref, "skill", "SKILL.md"]
    try:
        done = subprocess.run(command, cwd=PROJECT, capture_output=True, check=True)
    except OSError as error:
        raise DidNotRunError(str(error)) from None
    except subprocess.CalledProcessError as error:
        raise DidNotRunError(error.stderr.decode().strip()) from None
    with tarfile.open(fileobj=io.BytesIO(done.stdout)) as archive:
        archive.extractall(folder, filter="data")
    return folder / "skill"


def strace(log: Path) -> list[str]:
    options = "--seccomp-bpf -f -y -qq -e trace=fsync,fdatasync -o"
    return ["strace", *options.split(), str(log)]


def syncs_between_marks(log: str) -> list[Counter[str]]:
    found: list[Counter[str]] = [Counter()]
    for path in _SYNC.findall(log):
        name = Path(path).name
        if name == MARKS:
            found.append(Counter())
        else:
            found[-1][name.partition(".")[0]] += 1
    return found[1:-1]
