"""`skill install`: puts a lean, correctly named copy of the Agent Skill where a loader looks."""

from __future__ import annotations

import hashlib
import json as jsons
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Final, NamedTuple

import typer

from hms_active_rooms import __version__
from hms_active_rooms.cli import exits, screen
from hms_active_rooms.cli.settings import Json
from hms_active_rooms.errors import ConfigurationError, InvalidCall
from hms_active_rooms.untrusted import quoted

NAME: Final = "hms-active-rooms"
"""Loaders want the folder to have the skill's name."""

RECORD: Final = ".installed.json"
"""What an install wrote, file by file; a folder without it is not ours to replace."""

_PACKAGE: Final = Path(__file__).resolve().parent.parent
_KINDS: Final = frozenset(
    {".py", ".yaml", ".md", ".typed", ".html", ".css", ".js", ".svg", ".txt", ".lark"}
)
"""Kinds of files that belong to the skill. Everything else stays: settings, journals, caches."""

_SHOWN: Final = 5


class Parts(NamedTuple):
    """Where the skill's parts lie: in a checkout, a wheel or an earlier install."""

    guide: Path
    references: Path
    scripts: Path
    license: Path


def parts(package: Path = _PACKAGE) -> Parts:
    """The parts of a package folder; ConfigurationError: the guide did not come with it."""
    wheel, beside = package / "_skill", package.parent
    for top, more in ((wheel, wheel), (beside.parent, beside), (beside, beside)):
        found = Parts(top / "SKILL.md", more / "references", more / "scripts", top / "LICENSE")
        if found.guide.is_file() and found.references.is_dir() and found.scripts.is_dir():
            return found
    raise ConfigurationError("This installation has no SKILL.md in it.", hint="Install it again.")


def files(package: Path = _PACKAGE) -> dict[str, bytes]:
    """Every file of an install, by its path in the skill's folder."""
    found = parts(package)
    # In a checkout the rest lies in skill/; loaders look for references/ beside SKILL.md.
    guide = found.guide.read_text(encoding="utf-8").replace("skill/references/", "references/")
    made = {"SKILL.md": guide.replace("skill/scripts/", "scripts/").encode()}
    if found.license.is_file():
        made["LICENSE"] = found.license.read_bytes()
    for folder, kinds in (
        (found.references, _KINDS),
        (found.scripts, frozenset({""})),
        (package, _KINDS),
    ):
        for path in _inside(folder):
            inner = path.relative_to(folder)
            if path.suffix in kinds and inner.parts[0] != "_skill":
                made[(Path(folder.name) / inner).as_posix()] = path.read_bytes()
    return made


def _inside(folder: Path) -> Iterator[Path]:
    for path in sorted(folder.iterdir()):
        if path.name.startswith(".") or path.name == "__pycache__" or path.is_symlink():
            continue
        if path.is_dir():
            yield from _inside(path)
        elif path.is_file():
            yield path


def install(
    folder: Annotated[
        str,
        typer.Argument(
            metavar="DIR", help="Where your agent looks for skills, e.g. ~/.claude/skills."
        ),
    ],
    force: Annotated[
        bool,
        typer.Option(
            "--force", help="Replace an install that was changed, or another copy of this skill."
        ),
    ] = False,
    json: Json = False,
) -> int:
    """Install the skill as DIR/hms-active-rooms.

    The package is copied too, with a command that runs from there.
    """
    parent = Path(folder).expanduser()
    target = parent / NAME
    if (parent / "SKILL.md").is_file():
        raise InvalidCall(
            f"{quoted(folder, 200)} is a skill itself.", hint="Give the folder that holds skills."
        )
    if refusal := _refusal(target, force=force):
        raise InvalidCall(f"{quoted(str(target), 300)} {refusal} Nothing was changed.", hint="")
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
        screen.err(f"Its command: python3 {command} --help")
    return exits.DONE


def _refusal(target: Path, *, force: bool) -> str:
    if target.is_symlink():
        return "is a link. Remove it first."
    if not target.exists():
        return ""
    if not target.is_dir():
        return "is a file. Move it away first."
    if (target / ".git").exists() or _PACKAGE.is_relative_to(target.resolve()):
        return "is where this command runs from, or a checkout."
    record = _record(target)
    if record is None:
        if force and _is_this_skill(target):
            return ""
        more = " --force replaces it." if _is_this_skill(target) else " Move it away first."
        return f"was not put there by this command.{more}"
    if not force and (changed := _changed(target, record)):
        names = ", ".join(quoted(name, 80) for name in changed[:_SHOWN])
        left = f" and {len(changed) - _SHOWN} more" if len(changed) > _SHOWN else ""
        return f"was changed since it was installed: {names}{left}. --force replaces it."
    return ""


def _record(target: Path) -> dict[str, str] | None:
    """Path and hash of what an earlier install wrote; None: it was not ours."""
    try:
        record = jsons.loads((target / RECORD).read_text(encoding="utf-8"))
        written = record["files"] if record["skill"] == NAME else None
    except (OSError, ValueError, LookupError, TypeError):
        return None
    return written if isinstance(written, dict) else None


def _is_this_skill(target: Path) -> bool:
    try:
        head = (target / "SKILL.md").read_text(encoding="utf-8").split("\n", 3)
    except (OSError, UnicodeDecodeError):
        return False
    return head[:2] == ["---", f"name: {NAME}"]


def _changed(target: Path, written: Mapping[str, str]) -> list[str]:
    """Files that are not as they were written, missing ones and new ones among them."""
    there = {
        path.relative_to(target).as_posix(): path
        for path in target.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts and path.name != RECORD
    }
    return sorted(
        name
        for name in {*there, *written}
        if name not in there or _hash(there[name].read_bytes()) != written.get(name)
    )


def _write(target: Path, made: Mapping[str, bytes]) -> None:
    """Write it beside the target, then swap: a loader never sees half a skill."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{NAME}-", dir=target.parent) as scratch:
        new = Path(scratch) / "new"
        for name, content in made.items():
            path = new / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
            path.chmod(0o755 if name.startswith("scripts/") else 0o644)
        record = {
            "skill": NAME,
            "version": __version__,
            "files": {name: _hash(content) for name, content in made.items()},
        }
        (new / RECORD).write_text(jsons.dumps(record, indent=1) + "\n", encoding="utf-8")
        old = Path(scratch) / "old"
        if target.exists():
            target.replace(old)
        try:
            new.replace(target)
        except OSError:
            if old.exists():
                old.replace(target)
            raise


def _hash(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
