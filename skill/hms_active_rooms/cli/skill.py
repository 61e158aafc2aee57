"""The command `skill install`: copies the Agent Skill, with this package, to a folder of skills."""

from __future__ import annotations

import shlex
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Final

from typer import Argument, Option

from hms_active_rooms import __version__
from hms_active_rooms.cli import options, screen
from hms_active_rooms.errors import ConfigurationError, InvalidCall
from hms_active_rooms.untrusted import quoted

NAME: Final = "hms-active-rooms"  # of the skill and of its folder

_PACKAGE: Final = Path(__file__).resolve().parent.parent
_KINDS: Final = frozenset(
    {".py", ".yaml", ".md", ".typed", ".html", ".css", ".js", ".svg", ".txt", ".lark"}
)
"""Suffixes of the files to copy; not those of settings, journals and caches."""


def files(package: Path = _PACKAGE) -> dict[str, bytes]:
    """The contents of the files to install, by their path in the skill's folder. Raises
    ConfigurationError if some are missing."""

    def part(name: str) -> Path:
        # In a wheel, in an installed skill, or above the package in a checkout.
        for place in (package / "_skill", package.parent, package.parent.parent):
            if (place / name).exists():
                return place / name
        raise ConfigurationError(f"The installed package has no {name}.", hint="Install it again.")

    # Only a checkout has SKILL.md outside of skill/.
    guide = part("SKILL.md").read_text(encoding="utf-8").replace("skill/references/", "references/")
    made = {"SKILL.md": guide.replace("skill/scripts/", "scripts/").encode()}
    made["LICENSE"] = part("LICENSE").read_bytes()
    kinds = {part("references"): _KINDS, part("scripts"): {""}, package: _KINDS}
    for folder, wanted in kinds.items():
        for path in sorted(folder.rglob("*")):
            inner = path.relative_to(folder.parent)
            hidden = any(name.startswith((".", "__pycache__", "_skill")) for name in inner.parts)
            if path.suffix in wanted and not hidden and path.is_file() and not path.is_symlink():
                made[inner.as_posix()] = path.read_bytes()
    return made


def install(
    folder: Annotated[str, Argument(metavar="DIR", help="For example ~/.claude/skills.")],
    force: Annotated[
        bool, Option("--force", help="Replace the skill that is there already.")
    ] = False,
    json: options.Json = False,
) -> None:
    """Install the skill as DIR/hms-active-rooms. DIR is where your agent looks for skills.

    The skill gets its own copy of the command. The path of that copy is printed."""
    options.refuse_empty({"folder": folder})
    try:
        parent = Path(folder).expanduser()
    except RuntimeError:
        raise InvalidCall(
            f"{quoted(folder, 200)} begins with the home folder of an unknown user.",
            hint="Give the whole path.",
        ) from None
    target = parent / NAME
    if (parent / "SKILL.md").is_file():
        raise InvalidCall(
            f"{quoted(folder, 200)} is itself a skill.", hint="Give the folder that holds skills."
        )
    if parent.is_file():
        raise InvalidCall(
            f"{quoted(folder, 200)} is a file.",
            hint="Give the folder where your agent looks for skills.",
        )
    if refusal := _refusal(target, force=force):
        raise InvalidCall(f"{quoted(str(target), 300)} {refusal} Nothing was changed.")
    made = files()
    try:
        _write(target, made)
    except OSError as error:
        raise ConfigurationError(
            f"{quoted(str(target), 300)} cannot be written: {error.strerror or error}."
        ) from None
    there = target.resolve()
    command = there / "scripts" / NAME
    told = {"installed": str(there), "version": __version__, "files": len(made)}
    text = f"Installed {NAME} {__version__}: {there} ({len(made)} files)."
    screen.result({**told, "command": str(command)}, text, as_json=json)
    if not json:
        screen.err(f"The skill's command: python3 {shlex.quote(str(command))} --help")


def _refusal(target: Path, *, force: bool) -> str:
    if not target.exists() and not target.is_symlink():
        return ""
    if target.is_symlink() or not (target / "SKILL.md").is_file():
        return "is not an installed skill. Move it away first."
    if (target / ".git").exists() or _PACKAGE.is_relative_to(target.resolve()):
        return "is a checkout, or holds the package that runs now. Give another folder."
    return (
        ""
        if force
        else "exists already. --force replaces it; changes that somebody made in it are lost."
    )


def _write(target: Path, made: Mapping[str, bytes]) -> None:
    """Write a new folder and move it to the target, so the target is never incomplete."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{NAME}-", dir=target.parent) as scratch:
        new, old = Path(scratch) / "new", Path(scratch) / "old"
        for name, content in made.items():
            path = new / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
            path.chmod(0o755 if name.startswith("scripts/") else 0o644)
        if target.exists():
            target.replace(old)
        try:
            new.replace(target)
        except OSError:
            if old.exists():
                old.replace(target)
            raise
