"""Of what code, on what, when and by which command scores were made."""

from __future__ import annotations

import json
import platform
from dataclasses import dataclass
from datetime import date
from hashlib import sha256
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Final

PACKAGES: Final = ("hms-active-rooms", "langgraph", "langchain", "langchain-core", "inspect-ai")

_ROOT: Final = Path(__file__).parent.parent
_CODE: Final = ("skill/hms_active_rooms", "evals")
_TEXTS: Final = (".py", ".yaml", ".md", ".txt")
_LOGS: Final = _ROOT / "evals" / "logs"
_WRITTEN: Final = ("RESULTS.md", "MODEL_CARD.md")


@dataclass(frozen=True)
class About:
    """What a reader needs to do it again. `code` is a digest, see `fingerprint`."""

    day: date
    command: str
    python: str
    versions: tuple[tuple[str, str], ...]
    code: str = ""

    def as_json(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "code": self.code,
            "day": self.day.isoformat(),
            "command": self.command,
            "python": self.python,
            "versions": self.versions,
        }

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> About:
        """The inverse of `as_json`."""
        versions = tuple((str(name), str(number)) for name, number in data["versions"])
        day = date.fromisoformat(data["day"])
        return cls(day, data["command"], data["python"], versions, data["code"])


def about(command: str, day: date) -> About:
    """This code and this machine's versions."""
    versions = tuple((name, _version(name)) for name in PACKAGES)
    python = platform.python_version()
    return About(day, command, python, versions, fingerprint(python, versions))


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
