"""SKILL.md is valid, small, complete and true."""

from __future__ import annotations

import io
import json
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from docs import LAUNCHER, PROJECT, filled, launcher, policy_table
from hms_active_rooms import errors
from hms_active_rooms.cli.main import WAITING, main
from hms_active_rooms.gate.policy import Policy
from hms_active_rooms.sim.server import Simulation
from skill.guide import REFERENCES, SKILL, Command, blocks, commands, links, pages
from tokenizer import real_tokens

TEXT = SKILL.read_text(encoding="utf-8")
_, HEAD, BODY = TEXT.split("---\n", 2)


def test_the_skill_is_valid(tmp_path: Path) -> None:
    """The name has to be the folder's, so it is validated through a link that has it."""
    link = tmp_path / "hms-active-rooms"
    link.symlink_to(PROJECT)
    done = subprocess.run(
        [str(Path(sys.executable).parent / "agentskills"), "validate", str(link)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_body_is_short() -> None:
    assert len(BODY.splitlines()) < 500
    assert real_tokens(BODY) < 5000


@pytest.mark.parametrize(
    "phrase",
    ["who is in the room", "spamming", "warn them", "kick", "lock it", "did it work", "Not for"],
)
def test_the_description_has_the_persons_own_words(phrase: str) -> None:
    assert phrase in yaml.safe_load(HEAD)["description"]


def test_every_reference_is_one_step_away_with_the_condition_for_reading_it() -> None:
    rows = dict(re.findall(r"^\| \[[^]]+\]\((skill/references/[^)]+)\) \| (.+) \|$", BODY, re.M))
    assert {PROJECT / name for name in rows} == set(REFERENCES.glob("*.md"))
    for page in REFERENCES.glob("*.md"):
        assert "\nRead this when " in page.read_text(encoding="utf-8"), page.name
        assert links(page) == [], "a reference that leads to another one is not found"


def test_every_link_of_the_skill_leads_somewhere() -> None:
    assert links(SKILL)
    assert [link for link in links(SKILL) if not link.is_file()] == []


def every_error() -> Iterator[type[errors.ActiveRoomsError]]:
    waiting = [errors.ActiveRoomsError]
    while waiting:
        kind = waiting.pop()
        waiting += kind.__subclasses__()
        if kind.__module__ == errors.__name__:
            yield kind


def test_every_error_code_has_its_line() -> None:
    table = BODY.partition("## Error codes")[2].partition("\n## ")[0]
    told = set(re.findall(r"`([a-z_]+)`", "".join(re.findall(r"^\| (`.+?) \|", table, re.M))))
    assert told == {kind.code for kind in every_error()} | {"usage", "unexpected"}


def test_every_exit_code_has_its_line() -> None:
    table = BODY.partition("## Exit codes")[2].partition("\n## ")[0]
    told = {int(code) for code in re.findall(r"^\| (\d) \|", table, re.M)}
    meant = set(range(6))
    assert told == meant


def test_no_command_that_an_agent_is_given_approves() -> None:
    for page, text in pages().items():
        assert not re.search(r"^hms-active-rooms approve", "".join(blocks(text, "sh")), re.M), page
        assert "--approve-from-stdin" not in text, page


def test_the_policy_table_is_the_policys() -> None:
    page = (REFERENCES / "policy.md").read_text(encoding="utf-8")
    assert filled(page, "policy", policy_table()) == page, "run: python tests/docs.py"
    for name in Policy.model_fields:
        assert f"`{name}`" in page


def test_the_launcher_names_what_the_project_requires() -> None:
    assert LAUNCHER.read_text(encoding="utf-8") == launcher(), "run: python tests/docs.py"


@pytest.fixture
def call(
    sim: Simulation, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Any:
    """Runs one line of a page as it stands, with real ids for its placeholders."""
    spam = next(p.id for p in sim.world.peers(sim.room_id) if p.name == "Spam Bot")
    policy = blocks((REFERENCES / "policy.md").read_text(encoding="utf-8"), "toml")[0]
    Path("policy.toml").write_text(policy, encoding="utf-8")

    def called(line: str) -> tuple[int, str]:
        monkeypatch.setattr(sys, "stdin", io.StringIO())
        if "ACTION" in line or "actions" in line:  # the first change makes the journal
            assert main(["end", sim.room_id, "--json"]) == WAITING
            line = line.replace("ACTION", json.loads(capsys.readouterr().out)["action_id"])
        line = re.sub("--wait [0-9]+", "--wait 0", line)
        words = shlex.split(line.replace("ROOM", sim.room_id).replace("PEER", spam[:8]))
        assert words[0] == "hms-active-rooms"
        code = main(words[1:])
        out, err = capsys.readouterr()
        return code, out if "--json" in words else out + err

    return called


MESSAGE = "hms-active-rooms send ROOM hello"
ASK = "hms-active-rooms remove ROOM --role student"
REFUSED: dict[str, tuple[dict[str, str], tuple[str, ...]]] = {
    "The policy does not allow room": ({"ROOMS": "a" * 24}, (ASK,)),
    "policy protects": ({"PROTECTED_ROLES": "student"}, (ASK,)),
    "the policy allows at most": ({"MAX_PEERS": "1"}, (ASK,)),
    "actions per minute": (
        {"RELAXED": "hms-send-message", "ACTIONS_PER_MINUTE": "1"},
        (MESSAGE, MESSAGE),
    ),
    "was not answered in time": (
        {"APPROVAL_TTL_S": "0.001"},
        (ASK, "hms-active-rooms actions --json"),
    ),
}
"""What each refusal that the reference tells of comes from: settings of the policy, and commands."""


def test_the_refusals_told_of_are_what_a_command_says(
    call: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = (REFERENCES / "policy.md").read_text(encoding="utf-8")
    assert re.findall(r'^\| "(.+?)" \|', page, re.M) == list(REFUSED)
    for phrase, (policy, lines) in REFUSED.items():
        with monkeypatch.context() as patch:
            for name, value in policy.items():
                patch.setenv(f"HMS_POLICY_{name}", value)
            said = [call(line)[1] for line in lines]
        assert phrase in said[-1], phrase


SERVERS = [c for c in commands() if c.line.split()[1] in ("sim", "mcp", "serve", "chat", "demo")]


@pytest.mark.parametrize("command", [c for c in commands() if c not in SERVERS], ids=str)
def test_every_command_of_the_skill_ends_as_promised(
    command: Command, call: Any, sim: Simulation
) -> None:
    code, out = call(command.line)
    assert code == command.code, out
    if "--json" in command.line:
        assert isinstance(json.loads(out), dict)
    assert not [request for request in sim.requests if request.method == "POST"]


def test_every_server_of_the_skill_takes_its_options(call: Any) -> None:
    """That they serve is tested where they are; here, that the line is one of theirs."""
    for command in SERVERS:
        code, out = call(f"{command.line} --help")
        assert (code, "Usage:" in out) == (0, True)


@pytest.mark.parametrize(
    ("kind", "line"),
    [
        ("peers", "hms-active-rooms peers ROOM --json"),
        ("action", "hms-active-rooms remove ROOM PEER --json"),
        ("error", "hms-active-rooms remove ROOM Nobody --json"),
    ],
)
def test_what_the_skill_shows_is_what_comes_back(kind: str, line: str, call: Any) -> None:
    [shown] = blocks(TEXT, f"json {kind}")
    _, out = call(line)
    assert missing(json.loads(shown), json.loads(out)) == []


def missing(shown: Any, real: Any, path: str = "") -> list[str]:
    """Keys that are shown and do not come back, or come back as another type."""
    if isinstance(shown, dict):
        if not isinstance(real, dict):
            return [path]
        return [
            problem
            for key, value in shown.items()
            for problem in (
                missing(value, real[key], f"{path}.{key}") if key in real else [f"{path}.{key}"]
            )
        ]
    if isinstance(shown, list) and isinstance(real, list):
        return missing(shown[0], real[0], f"{path}[0]") if shown else []
    return [] if type(shown) is type(real) else [path]
