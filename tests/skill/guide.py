"""SKILL.md and its references as a test reads them: pages, commands, blocks."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from docs import PROJECT

SKILL = PROJECT / "SKILL.md"
REFERENCES = PROJECT / "skill" / "references"
EXAMPLES = REFERENCES / "examples"

_FENCE = re.compile(r"^ *```(?P<kind>[^\n]*)\n(?P<body>.*?)^ *```$", re.DOTALL | re.MULTILINE)
_EXIT = re.compile(r"\s+# exits (\d)$")


@dataclass(frozen=True)
class Command:
    """One command of a page, and the exit code the page promises."""

    page: str
    line: str
    code: int

    def __str__(self) -> str:
        return f"{self.page}: {self.line}"


def pages() -> dict[str, str]:
    """Every page's text by its name."""
    return {
        p.name: p.read_text(encoding="utf-8") for p in [SKILL, *sorted(REFERENCES.glob("*.md"))]
    }


def blocks(text: str, kind: str) -> list[str]:
    """The bodies of a page's fenced blocks of one kind."""
    return [m["body"] for m in _FENCE.finditer(text) if m["kind"] == kind]


def commands() -> list[Command]:
    """Every command of every page: each line of an `sh` block, and what stands in the text."""
    found = []
    for page, text in pages().items():
        for line in "".join(blocks(text, "sh")).splitlines():
            code = _EXIT.search(line)
            found.append(Command(page, _EXIT.sub("", line), int(code[1]) if code else 0))
        for line in re.findall(r"`(hms-active-rooms [^`]+)`", _FENCE.sub("", text)):
            found.append(Command(page, line, _promised(line)))
    return sorted(set(found), key=str)


def _promised(line: str) -> int:
    """The exit code of a command in running text, which has no comment to say it."""
    verb = line.split()[1]
    if verb == "approve":
        return 2  # there is no terminal here
    return 3 if verb in ("send", "remove", "end") or "--wait" in line else 0


def links(page: Path) -> list[Path]:
    """What a page links to within the project."""
    targets = re.findall(r"\]\(([^)#:]+)\)", page.read_text(encoding="utf-8"))
    return [page.parent / target for target in targets]
