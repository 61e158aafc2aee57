"""The parts of README, references and launcher that are generated. `python tests/docs.py` writes them."""

from __future__ import annotations

import inspect
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import yaml

from hms_active_rooms.capability import capability
from hms_active_rooms.cli import rooms
from hms_active_rooms.gate.policy import Policy, gate_for

PROJECT = Path(__file__).parent.parent
BEHAVIOURS = PROJECT / "skill" / "hms_active_rooms" / "sim" / "behaviours.yaml"
LAUNCHER = PROJECT / "skill" / "scripts" / "hms-active-rooms"
CONTROL = """## The control API

`GET /_sim/`, on the simulator's own host, lists every path and the fields that it takes. Among them:

| path | what it does |
|---|---|
| `/_sim/join`, `/_sim/leave` | a person joins or leaves a room |
| `/_sim/rooms/ROOM` | enables or disables a room |
| `/_sim/time` | moves the clock forward |
| `/_sim/faults` | makes coming requests fail. The kinds are `reset`, `latency` (with `latency_s`), `status` (with `status` and `retry_after_s`), `unauthorized`, `hang`, `truncated`, `malformed` and `oversized`. `operation` names the one operation that fails: `retrieve_active_room`, `list_peers`, `send_message`, `remove_peers`, `end_active_room` or another. Without it, any does |
| `/_sim/requests`, `/_sim/deliveries`, `/_sim/webhooks` | the requests that came, the messages with those who got them, and the webhook events |
| `/_sim/state`, `/_sim/reset` | `state` shows everything, `reset` puts everything back to the start |

## The behaviours

"""
SESSION = "kick Spam Bot\nyes\n"

_COMMANDS = {
    "hms-retrieve-active-room": rooms.room,
    "hms-list-peers": rooms.peers,
    "hms-send-message": rooms.send,
    "hms-remove-peers": rooms.remove,
    "hms-end-active-room": rooms.end,
}
_DOES = {name: (inspect.getdoc(run) or "").split(".")[0] for name, run in _COMMANDS.items()}
_ASKS = {
    "none": "no",
    "soft": "yes; in a conversation the person can allow further messages to the same target, "
    f"for {Policy().grant_ttl_s / 60:.0f} minutes",
    "hard": "yes, each time",
}


def hints_table() -> str:
    """The tools, their hints, and when a person is asked."""
    lines = [
        "| tool | what it does | readOnly | destructive | idempotent | asks a person first? |",
        "|---|---|---|---|---|---|",
    ]
    for tool in capability().tools:
        hints = tool.hints
        flags = (hints.read_only, hints.destructive, hints.idempotent)
        cells = [f"`{tool.name}`", _DOES[tool.name], *("yes" if f else "no" for f in flags)]
        lines.append("| " + " | ".join([*cells, _ASKS[gate_for(hints)]]) + " |")
    return "\n".join(lines)


def behaviours() -> dict[str, Any]:
    """What `behaviours.yaml` says: `grades` by name, best first, and `behaviours`, the rows."""
    table: dict[str, Any] = yaml.safe_load(BEHAVIOURS.read_text(encoding="utf-8"))
    return table


def behaviours_table() -> str:
    """What the simulator does and how well each is known, below a line on each grade."""
    table = behaviours()
    legend = [f"- **{grade}**: {meaning}." for grade, meaning in table["grades"].items()]
    head = ["| behaviour | what the simulator does | known | source |", "|---|---|---|---|"]
    rows = [
        "| `{id}` | {does} | {grade} | {source} |".format(
            **{key: " ".join(text.split()).replace("|", "\\|") for key, text in row.items()}
        )
        for row in table["behaviours"]
    ]
    return "\n".join([*legend, "", *head, *rows]) + "\n"


def session() -> str:
    """What the demo prints, with the two things that differ each time made the same."""
    done = subprocess.run(
        [sys.executable, "-m", "hms_active_rooms", "demo"],
        input=SESSION,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=100,
        check=True,
        env={**{k: v for k, v in os.environ.items() if not k.startswith("HMS_")}, "NO_COLOR": "1"},
    )
    text = re.sub(
        r"until \d{4}-\d\d-\d\d \d\d:\d\d:\d\d \w+", "until 2026-11-24 10:10:00 UTC", done.stdout
    )
    text = re.sub(r"\(action \w{12}\)", "(action wz2z7twiiors)", text)
    return f"```\n{text.strip()}\n```"


def simulator_page() -> str:
    """skill/references/simulator.md."""
    return (
        "# What the simulator does, and how well it is known\n\n"
        "Read this when a behaviour of the API matters and you want to know whether it is a fact.\n"
        "Generated from `sim/behaviours.yaml`; each row has a test in `tests/sim`.\n\n"
        + CONTROL
        + behaviours_table().strip()
        + "\n"
    )


def launcher() -> str:
    """skill/scripts/hms-active-rooms, with the requirements of the command and of its MCP server."""
    project = tomllib.loads((PROJECT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    wanted = {*project["dependencies"], *extras["cli"], *extras["mcp"], *extras["serve"]}
    named = sorted(each for each in wanted if not each.startswith(project["name"]))
    block = "".join(f'#   "{requirement}",\n' for requirement in named)
    text = LAUNCHER.read_text(encoding="utf-8")
    before, start, rest = text.partition("# dependencies = [\n")
    _, end, after = rest.partition("# ]\n")
    assert end
    return before + start + block + end + after


def policy_table() -> str:
    """Every setting of the policy with its default, from the class itself."""
    described = re.findall(r"^    (\w+): (.*(?:\n        .*)*)", inspect.getdoc(Policy) or "", re.M)
    lines = ["| setting | default | meaning |", "|---|---|---|"]
    for name, text in described:
        default = Policy.model_fields[name].default
        shown = "none" if default in ((), frozenset()) else f"{default:g}"
        lines.append(f"| `{name}` | {shown} | {' '.join(text.split())} |")
    return "\n".join(lines)


def filled(text: str, name: str, block: str) -> str:
    """The text with the part between the markers `<!-- name -->` replaced."""
    start, end = f"<!-- {name} -->", f"<!-- /{name} -->"
    before, _, rest = text.partition(start)
    _, found, after = rest.partition(end)
    assert found, f"no {start} ... {end}"
    return f"{before}{start}\n{block}\n{end}{after}"


def main() -> None:
    readme = PROJECT / "README.md"
    text = filled(readme.read_text(encoding="utf-8"), "hints", hints_table())
    readme.write_text(filled(text, "session", session()), encoding="utf-8")
    page = PROJECT / "skill" / "references" / "simulator.md"
    page.write_text(simulator_page(), encoding="utf-8")
    policy = PROJECT / "skill" / "references" / "policy.md"
    text = filled(policy.read_text(encoding="utf-8"), "policy", policy_table())
    policy.write_text(text, encoding="utf-8")
    LAUNCHER.write_text(launcher(), encoding="utf-8")


if __name__ == "__main__":
    main()
