"""Of what code, on what, when and by which command scores were made."""

from __future__ import annotations

import json
import platform
import subprocess
from dataclasses import dataclass
from datetime import UTC, date, datetime
from hashlib import sha256
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Final

PACKAGES: Final = ("hms-active-rooms", "langgraph", "langchain", "langchain-core", "inspect-ai")

_ROOT: Final = Path(__file__).parent.parent
_CODE: Final = ("skill/hms_active_rooms", "evals")
_TEXTS: Final = (".py", ".yaml", ".md", ".txt")
_LOGS: Final = _ROOT / "evals" / "logs"
_WRITTEN: Final = ("RESULTS.md", "MODEL_CARD.md")


@dataclass(frozen=True)
class About:
    """What a reader needs to do it again. `code` is a digest, see `fingerprint`; `commit` is git's."""

    day: date
    command: str
    python: str
    versions: tuple[tuple[str, str], ...]
    code: str = ""
    commit: str = ""


def about(command: str) -> About:
    day = datetime.now(UTC).date()
    versions = tuple((name, _version(name)) for name in PACKAGES)
    python = platform.python_version()
    return About(day, command, python, versions, fingerprint(python, versions), _commit())


def _commit() -> str:
    """The checked out commit; "and changes" if what is scored differs from it."""

    def git(*arguments: str) -> str:
        command = ["git", *arguments]
        done = subprocess.run(command, cwd=_ROOT, capture_output=True, text=True, check=False)
        return done.stdout.strip()

    try:
        changed = git("status", "--porcelain", "--", *_CODE, ":!*/RESULTS.md", ":!*.jsonl")
        return git("rev-parse", "--short", "HEAD") + (" and changes" if changed else "")
    except OSError:
        return ""  # no git


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"


def fingerprint(python: str, versions: tuple[tuple[str, str], ...]) -> str:
    """A digest of the code, the scenarios and the versions that scores depend on."""
    digest = sha256(json.dumps([python, versions]).encode())
    for folder in _CODE:
        for path in sorted((_ROOT / folder).rglob("*")):
            if path.suffix in _TEXTS and _LOGS not in path.parents and path.name not in _WRITTEN:
                digest.update(f"{path.relative_to(_ROOT)}\0".encode() + path.read_bytes())
    return digest.hexdigest()
