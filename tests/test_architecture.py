"""The layout's rules, read from the source: imports one way, one place per secret power."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from functools import cache
from pathlib import Path

import pytest

import hms_active_rooms
from hms_active_rooms.capability import capability
from hms_active_rooms.tools.arguments import ARGUMENTS

PACKAGE = Path(hms_active_rooms.__file__).parent
PROJECT = PACKAGE.parent.parent
LAYERS = ["cli", "serve", "moderator", "tools", "gate", "api"]
"""Each may import those behind it, never those before it."""

WRITES = {"send_message", "remove_peers", "end_room", "update_peer"}


@cache
def sources() -> list[tuple[str, ast.Module]]:
    return [
        (path.relative_to(PACKAGE).as_posix(), ast.parse(path.read_text(encoding="utf-8")))
        for path in sorted(PACKAGE.rglob("*.py"))
    ]


def imported(tree: ast.Module) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names.add(node.module or "")
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def test_imports_point_one_way() -> None:
    wrong = []
    for name, tree in sources():
        layer = name.split("/")[0]
        for module in imported(tree):
            parts = module.split(".")
            if parts[0] != "hms_active_rooms" or len(parts) < 2:
                continue
            if layer in LAYERS and parts[1] in LAYERS[: LAYERS.index(layer)]:
                wrong.append(f"{name} imports {module}")
    assert wrong == []


def test_the_simulator_shares_no_logic_with_what_it_tests() -> None:
    allowed = tuple(f"hms_active_rooms.{name}" for name in ("sim", "api.models", "plain"))
    for name, tree in sources():
        if name.startswith("sim/"):
            foreign = {
                m
                for m in imported(tree)
                if m.startswith("hms_active_rooms.") and not m.startswith(allowed)
            }
            assert foreign == set(), name


def test_a_library_is_imported_where_it_belongs() -> None:
    for library, homes in [
        ("httpx", {"api/transport.py"}),
        ("aiohttp", {"api/fast.py"}),
        ("langchain_core", {"tools/", "moderator/", "cli/"}),
        ("langgraph", {"tools/", "moderator/", "cli/"}),
        ("langchain", {"moderator/models.py"}),
        ("sqlalchemy", {"gate/"}),
        ("typer", {"cli/"}),
        ("starlette", {"serve/"}),
        ("fastapi", {"serve/rest.py"}),
        ("uvicorn", {"sim/server.py", "serve/app.py"}),
        ("mcp", {"serve/mcp.py"}),
        ("mcp_types", {"serve/mcp.py", "serve/callers.py"}),
    ]:
        users = {
            name
            for name, tree in sources()
            if any(m == library or m.startswith(f"{library}.") for m in imported(tree))
        }
        assert {u for u in users if not u.startswith(tuple(homes))} == set()


def test_only_the_gate_calls_the_clients_write_methods() -> None:
    callers = set()
    for name, tree in sources():
        for node in ast.walk(tree):
            if isinstance(node, ast.Attribute) and node.attr in WRITES:
                callers.add(name)
    assert {c for c in callers if not c.startswith(("api/", "sim/", "gate/actions/"))} == set()


def test_nothing_catches_everything() -> None:
    """A broad except around an interrupt swallows the pause and goes on."""
    for name, tree in sources():
        for node in ast.walk(tree):
            if isinstance(node, ast.ExceptHandler):
                caught = ast.unparse(node.type) if node.type else "everything"
                broad = caught in ("everything", "Exception")
                # Sending has no interrupt in it; there, no error may come out as "not executed".
                # Nor has building a model, where each provider has errors of its own.
                inside = name.startswith(("tools/", "moderator/", "gate/"))
                without = ("gate/sending.py", "moderator/models.py")
                assert name in without or not (broad and inside), name


def test_every_tool_of_the_contract_has_arguments_and_no_other() -> None:
    assert list(ARGUMENTS) == [tool.name for tool in capability().tools]


def test_no_argument_means_consent() -> None:
    words = {"confirm", "approve", "approved", "force", "yes", "consent", "dry_run"}
    for model in ARGUMENTS.values():
        assert not words & set(model.model_fields)


SERVER = {"fastapi", "mcp", "mcp_types", "starlette", "uvicorn", "hms_active_rooms.serve"}


@pytest.mark.parametrize(
    ("module", "absent"),
    [
        ("hms_active_rooms", {"langchain_core", "langgraph", "httpx", "sqlalchemy"}),
        ("hms_active_rooms.api", {"langchain_core", "langgraph", "sqlalchemy", "starlette"}),
        ("hms_active_rooms.gate.gate", {"langchain_core", "langgraph", "typer", "starlette"}),
        ("hms_active_rooms.tools.toolkit", SERVER | {"typer", "langchain"}),
        ("hms_active_rooms.moderator", SERVER | {"typer"}),
        ("hms_active_rooms.serve.decisions", {"typer", "starlette", "uvicorn", "mcp"}),
        ("hms_active_rooms.serve.mcp", {"typer", "fastapi"}),
        ("hms_active_rooms.cli.app", SERVER | {"langchain_core"}),
    ],
)
def test_an_import_brings_only_what_it_needs(module: str, absent: set[str]) -> None:
    code = f"import sys, {module}; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split())
    assert module in loaded
    assert absent & loaded == set()


def test_the_version_is_one() -> None:
    project = tomllib.loads((PROJECT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert project["version"] == hms_active_rooms.__version__


ELSEWHERE = re.compile(r"/(?:root|work|Users/\w+)/|pypi\.org|pythonhosted\.|npmjs\.")


def test_no_file_names_a_folder_of_its_authors_machine_or_a_package_index() -> None:
    """Such a folder is on no other machine, and where packages come from is for the reader's
    tools to say. Paths get in by pasted output, addresses by lock files."""
    listed = subprocess.run(
        ["git", "ls-files", "-z"], cwd=PROJECT, capture_output=True, text=True, check=False
    )
    if listed.returncode:
        pytest.skip("not a git checkout")
    for name in filter(None, listed.stdout.split("\0")):
        path = PROJECT / name
        if path.is_file():
            content = path.read_text(encoding="utf-8", errors="replace")
            assert ELSEWHERE.findall(content) == [], name
