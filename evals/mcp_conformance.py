"""The MCP server under clients nobody here wrote; prints a table.

    python evals/mcp_conformance.py [--folder DIR] [--only npm|langchain]

In a temporary folder it installs from npm the protocol's conformance suite and the MCP
Inspector (with a Node that is new enough), and from Python's index LangChain's MCP client
with the mcp release it needs (older than ours). Each talks HTTP to our server, in front of
a simulated room. Exits 1 when a check that applies fails.

Most scenarios of the suite call test tools that only a reference server has. Those that
apply to any server are listed here; checks in them that still ask for such a tool, or for
prompts, are counted as not applicable.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from hms_active_rooms.sim import Simulation, running_sim

PACKAGES = (
    "node@22",
    "@modelcontextprotocol/conformance@0.2.0-alpha.12",
    "@modelcontextprotocol/inspector@2.12.0",
)
LANGCHAIN = ("langchain-mcp-adapters==0.3.1", "mcp<2", "langgraph>=1.2.20,<2")

OLD, NEW = "2025-11-25", "2026-07-28"
SCENARIOS = {
    OLD: (
        "server-initialize",
        "server-session-lifecycle",
        "ping",
        "tools-list",
        "resources-list",
        "server-sse-multiple-streams",
        "dns-rebinding-protection",
    ),
    NEW: (
        "server-stateless",
        "tools-list",
        "resources-list",
        "sep-2164-resource-not-found",
        "server-sse-multiple-streams",
        "dns-rebinding-protection",
        "caching",
        "http-header-validation",
        "input-required-result-unsupported-methods",
    ),
}

NOT_OURS = ("Not testable: server does not list the diagnostic tool", "prompts/list returned")
"""How the suite's messages begin when a check needs what a server need not have."""

_WAIT_S = 120


@dataclass(frozen=True)
class Row:
    """One line of the table."""

    client: str
    what: str
    passed: int
    failed: int
    not_applicable: int = 0
    notes: str = ""


class Tools:
    """Programs in a folder of their own."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._bin = folder / "node_modules" / ".bin"
        path = f"{self._bin}{os.pathsep}{os.environ.get('PATH', '')}"
        self._environ = {**os.environ, "PATH": path, "HOME": str(folder)}

    def run(self, *command: str) -> subprocess.CompletedProcess[str]:
        """Run a program there."""
        return subprocess.run(
            command,
            cwd=self._folder,
            env=self._environ,
            capture_output=True,
            text=True,
            timeout=_WAIT_S * 5,
            check=False,
        )

    def need(self, *command: str) -> None:
        """Run a program that must succeed."""
        done = self.run(*command)
        if done.returncode:
            raise SystemExit(f"{' '.join(command)} failed:\n{done.stdout}{done.stderr}")


@contextmanager
def server(sim: Simulation, folder: Path) -> Iterator[str]:
    """Our server as people start it; its MCP address."""
    environ = {
        **os.environ,
        "HMS_BASE_URL": sim.base_url,
        "HMS_ACCESS_KEY": sim.access_key,
        "HMS_SECRET": sim.secret,
        "HMS_JOURNAL": f"sqlite:///{folder / 'journal.sqlite'}",
    }
    command = [sys.executable, "-m", "hms_active_rooms", "mcp", "--port", "0", "--json"]
    with subprocess.Popen(
        [*command, "--room", sim.room_id], env=environ, stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stdout
            yield json.loads(process.stdout.readline())["mcp"]
        finally:
            process.terminate()


def conformance(tools: Tools, url: str, folder: Path) -> Iterator[Row]:
    """One row per scenario that applies."""
    for version, scenarios in SCENARIOS.items():
        for scenario in scenarios:
            out = folder / f"{version}-{scenario}"
            tools.run(
                *("conformance", "server", "--url", url, "--scenario", scenario),
                *("--spec-version", version, "--output-dir", str(out)),
            )
            found = sorted(out.rglob("checks.json"))
            checks = json.loads(found[0].read_text()) if found else []
            yield _counted(f"{scenario} ({version})", checks)


def _counted(what: str, checks: Sequence[dict[str, str]]) -> Row:
    failed = [c for c in checks if c["status"] == "FAILURE"]
    not_ours = [c for c in failed if c.get("errorMessage", "").startswith(NOT_OURS)]
    really = [c for c in failed if c not in not_ours]
    passed = sum(c["status"] == "SUCCESS" for c in checks)
    notes = "; ".join(c["id"] for c in really) if checks else "the suite wrote no result"
    return Row(
        "conformance suite", what, passed, len(really) or int(not checks), len(not_ours), notes
    )


def inspector(tools: Tools, url: str, sim: Simulation) -> Iterator[Row]:
    """The Inspector's command line: it cannot ask a person."""
    base = ("mcp-inspector", "--cli", url, "--transport", "http", "--method")
    room = ("--tool-arg", f"room_id={sim.room_id}")

    def call(tool: str, *arguments: str) -> str:
        return tools.run(*base, "tools/call", "--tool-name", tool, *room, *arguments).stdout

    def row(what: str, good: bool) -> Row:
        return Row("MCP Inspector", what, int(good), int(not good))

    strict = tools.run(*base, "tools/list", "--strict")
    yield row("tools/list --strict", strict.returncode == 0 and "hms-list-peers" in strict.stdout)
    people = json.loads(call("hms-list-peers") or "{}").get("structuredContent", {})
    yield row("tools/call hms-list-peers", people.get("total") == 15)
    waiting = json.loads(call("hms-remove-peers", "--tool-arg", "role=viewer") or "{}")
    held = waiting.get("structuredContent", {}).get("waiting") is True
    sent = [r for r in sim.requests if r.method == "POST"]
    yield row("tools/call hms-remove-peers: waits, nothing sent", held and not sent)
    uri = "skill://hms-active-rooms/SKILL.md"
    text = tools.run(*base, "resources/read", "--uri", uri).stdout
    yield row("resources/read SKILL.md", "hms-active-rooms" in text)


def langchain(folder: Path, url: str, sim: Simulation) -> Row:
    """LangChain's client in a LangGraph agent: our elicitation becomes an interrupt."""
    tools = Tools(folder)
    python = folder / "venv" / "bin" / "python"
    if not python.exists():
        tools.need(sys.executable, "-m", "venv", str(folder / "venv"))
        tools.need(str(python), "-m", "pip", "install", "-q", *LANGCHAIN)
    script = Path(__file__).with_name("mcp_langchain_client.py")
    before = sum(r.method == "POST" for r in sim.requests)
    # -P: beside the script lies a package that Python would take for its own `inspect`.
    done = tools.run(str(python), "-P", str(script), url, sim.room_id, "Spam Bot")
    sent = sum(r.method == "POST" for r in sim.requests) - before
    good = done.returncode == 0 and sent == 1
    notes = "" if good else f"{sent} requests; {(done.stderr or done.stdout)[-300:]}"
    what = "interrupt, approve, resume: one request"
    return Row("langchain-mcp-adapters", what, int(good), int(not good), notes=notes)


def table(rows: Sequence[Row]) -> str:
    """The rows as Markdown."""
    lines = [
        "| client | what | passed | failed | not applicable | notes |",
        "|---|---|---|---|---|---|",
        *(
            f"| {r.client} | {r.what} | {r.passed} | {r.failed} | {r.not_applicable} | {r.notes} |"
            for r in rows
        ),
    ]
    return "\n".join(lines)


def run(folder: Path, only: str | None) -> list[Row]:
    """Install what is needed into the folder, and run it all."""
    rows: list[Row] = []
    folder.mkdir(parents=True, exist_ok=True)
    tools = Tools(folder)
    if only != "langchain" and not (folder / "node_modules" / ".bin" / "conformance").exists():
        tools.need("npm", "init", "-y")
        tools.need("npm", "install", "--no-audit", "--no-fund", PACKAGES[0])
        tools.need("npm", "install", "--no-audit", "--no-fund", *PACKAGES[1:])
    with (
        tempfile.TemporaryDirectory() as scratch,
        running_sim() as sim,
        server(sim, Path(scratch)) as url,
    ):
        if only != "langchain":
            rows += conformance(tools, url, Path(scratch))
            rows += inspector(tools, url, sim)
        if only != "npm":
            rows.append(langchain(folder, url, sim))
    return rows


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--folder", type=Path, help="keep what is installed there")
    parser.add_argument("--only", choices=("npm", "langchain"))
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        rows = run((options.folder or Path(scratch)).resolve(), options.only)
    print(table(rows))
    return int(any(row.failed for row in rows))


if __name__ == "__main__":
    sys.exit(main())
