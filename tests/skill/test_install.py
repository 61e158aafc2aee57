"""`skill install`: a lean copy that works by itself, and that takes nothing away from anybody."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pexpect
import pytest

import hms_active_rooms
from docs import PROJECT
from hms_active_rooms.cli.main import main
from hms_active_rooms.cli.skill import files
from hms_active_rooms.sim.server import Simulation

PACKAGE = Path(hms_active_rooms.__file__).parent
WHEEL = {
    "SKILL.md": "hms_active_rooms/_skill/SKILL.md",
    "LICENSE": "hms_active_rooms/_skill/LICENSE",
    "skill/references": "hms_active_rooms/_skill/references",
    "skill/scripts": "hms_active_rooms/_skill/scripts",
}
"""What a wheel holds besides the package, as pyproject.toml says it."""


@pytest.fixture
def skills(tmp_path: Path) -> Path:
    """A folder where a loader looks, with the skill in it."""
    assert main(["skill", "install", str(tmp_path / "skills")]) == 0
    return tmp_path / "skills"


def tree(folder: Path) -> dict[str, bytes]:
    return {
        p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()
    }


def launch(skills: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    script = skills / "hms-active-rooms" / "scripts" / "hms-active-rooms"
    return subprocess.run(
        [sys.executable, str(script), *arguments],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_the_copy_is_a_valid_skill(skills: Path) -> None:
    validate = Path(sys.executable).parent / "agentskills"
    done = subprocess.run(
        [str(validate), "validate", str(skills / "hms-active-rooms")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_file_the_copy_names_is_in_it(skills: Path) -> None:
    copy = skills / "hms-active-rooms"
    guide = (copy / "SKILL.md").read_text(encoding="utf-8")
    assert "skill/" not in guide
    for page in (PROJECT / "skill" / "references").rglob("*.*"):
        if "__pycache__" not in page.parts:
            assert (copy / "references" / page.relative_to(PROJECT / "skill/references")).is_file()
    assert "](references/api.md)" in guide
    assert "scripts/hms-active-rooms" in guide
    assert os.access(copy / "scripts" / "hms-active-rooms", os.X_OK)


def test_the_whole_package_goes_with_it() -> None:
    there = {
        f"hms_active_rooms/{p.relative_to(PACKAGE).as_posix()}"
        for p in PACKAGE.rglob("*")
        if p.is_file() and "__pycache__" not in p.parts
    }
    assert there - set(files()) == set()


def test_nothing_else_goes_with_it(tmp_path: Path) -> None:
    project = tmp_path / "project"
    package = project / "skill" / "hms_active_rooms"
    shutil.copytree(PACKAGE, package)
    for name in ("references", "scripts"):
        shutil.copytree(PROJECT / "skill" / name, project / "skill" / name)
    for name in ("SKILL.md", "LICENSE"):
        shutil.copy(PROJECT / name, project)
    before = set(files(package))
    for name in (".env", "secret.key", "journal.sqlite", "__pycache__/x.py", ".git/config.yaml"):
        for folder in (package, package / "gate", project / "skill" / "references"):
            (folder / name).parent.mkdir(exist_ok=True)
            (folder / name).write_text("secret")
    (tmp_path / "elsewhere.py").write_text("secret")
    (package / "link.py").symlink_to(tmp_path / "elsewhere.py")
    assert set(files(package)) == before


def test_the_command_runs_by_itself_from_the_copy(skills: Path, sim: Simulation) -> None:
    """From the question to the checked outcome, by nothing but the copy."""
    marked = skills / "hms-active-rooms" / "hms_active_rooms" / "__init__.py"
    marked.write_text(marked.read_text().replace('__version__ = "', '__version__ = "9.'))
    assert launch(skills, "--version").stdout.startswith("hms-active-rooms 9.")

    asked = launch(skills, "remove", sim.room_id, "Spam Bot", "--reason", "spam", "--json")
    assert asked.returncode == 3, asked.stderr
    action = json.loads(asked.stdout)["action_id"]
    assert launch(skills, "approve", action, "--json").returncode == 2
    assert not [r for r in sim.requests if r.method == "POST"]

    script = skills / "hms-active-rooms" / "scripts" / "hms-active-rooms"
    person = pexpect.spawn(sys.executable, [str(script), "approve", action], timeout=60)
    person.expect("Approve")
    person.sendline("yes")
    person.expect(pexpect.EOF)
    person.close()
    assert person.exitstatus == 0

    seen = launch(skills, "actions", "show", action, "--wait", "60", "--json")
    assert seen.returncode == 0
    assert "Checked" in json.loads(seen.stdout)["text"]
    assert len([r for r in sim.requests if r.method == "POST"]) == 1


@pytest.mark.parametrize("as_json", [True, False])
def test_without_its_packages_it_says_what_to_install(skills: Path, as_json: bool) -> None:
    script = skills / "hms-active-rooms" / "scripts" / "hms-active-rooms"
    done = subprocess.run(
        [sys.executable, "-I", "-S", str(script), "peers", "x", *(["--json"] if as_json else [])],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    told = json.loads(done.stdout)["error"]["hint"] if as_json else done.stderr
    assert "-m pip install" in told
    assert "'sqlalchemy>=" in told
    assert "'mcp" not in told, "peers needs no server"


def test_a_clients_server_without_its_packages_is_started_by_uv(
    skills: Path, tmp_path: Path
) -> None:
    script = skills / "hms-active-rooms" / "scripts" / "hms-active-rooms"
    uv = tmp_path / "uv"
    uv.write_text('#!/bin/sh\necho "$@"\n')
    uv.chmod(0o755)
    command = [sys.executable, "-I", "-S", str(script), "mcp", "--stdio"]
    done = subprocess.run(
        command, capture_output=True, text=True, check=True, env={"PATH": str(tmp_path)}
    )
    started = f"run --quiet --script {script} mcp --stdio\n"
    assert done.stdout == started
    # A client that is started from a desktop knows no folder of the person's.
    usual = tmp_path / ".local" / "bin"
    usual.mkdir(parents=True)
    uv.rename(usual / "uv")
    desktop = {"PATH": "/usr/bin", "HOME": str(tmp_path)}
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=desktop)
    assert done.stdout == started
    without = subprocess.run(
        command, capture_output=True, text=True, check=False, env={"PATH": "/n", "HOME": "/n"}
    )
    assert (without.returncode, without.stdout) == (2, "")
    assert "-m pip install 'fastapi" in without.stderr
    assert "install uv" in without.stderr


@pytest.mark.parametrize(
    ("package", "release", "told"),
    [("pydantic", "1.10.4", "'pydantic>="), ("mcp", "3.0", "'mcp>="), ("typer", "0.100.0rc1", "")],
)
def test_packages_of_another_release_are_as_good_as_missing(
    package: str, release: str, told: str, skills: Path, tmp_path: Path
) -> None:
    script = skills / "hms-active-rooms" / "scripts" / "hms-active-rooms"
    wanted = re.findall(r'^#   "([\w-]+)>=([\d.]+)', script.read_text("utf-8"), re.MULTILINE)
    for name, least in {**dict(wanted), package: release}.items():
        (there := tmp_path / f"{name.replace('-', '_')}-{least}.dist-info").mkdir()
        (there / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {least}\n")
    done = subprocess.run(
        [sys.executable, "-S", str(script), "mcp", "--stdio"],
        env={"PYTHONPATH": str(tmp_path), "PATH": "/n", "HOME": "/n"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode != 0
    assert ("1 packages are missing or have the wrong version" in done.stderr) == bool(told)
    assert told in done.stderr


def test_a_checkout_has_unix_line_ends_everywhere() -> None:
    """With a carriage return behind it, `python3` is not found."""
    asked = ["git", "check-attr", "eol", "--", "skill/scripts/hms-active-rooms", ".ci/run"]
    told = subprocess.run(asked, cwd=PROJECT, capture_output=True, text=True, check=True)
    assert all(line.endswith(": eol: lf") for line in told.stdout.splitlines())


def test_an_installed_wheel_has_the_skill_in_it(tmp_path: Path) -> None:
    site = tmp_path / "site"
    shutil.copytree(PACKAGE, site / "hms_active_rooms")
    for source, place in WHEEL.items():
        copy = shutil.copytree if (PROJECT / source).is_dir() else shutil.copy
        (site / place).parent.mkdir(exist_ok=True)
        copy(PROJECT / source, site / place)
    assert files(site / "hms_active_rooms") == files()


def test_the_wheel_is_told_to_hold_the_skill() -> None:
    project = tomllib.loads((PROJECT / "pyproject.toml").read_text(encoding="utf-8"))
    wheel = project["tool"]["hatch"]["build"]["targets"]["wheel"]
    assert wheel.get("force-include") == WHEEL


def test_a_copy_can_install_another_copy(skills: Path, tmp_path: Path) -> None:
    assert launch(skills, "skill", "install", str(tmp_path / "others")).returncode == 0
    assert tree(tmp_path / "others") == {
        name: content for name, content in tree(skills).items() if "__pycache__" not in name
    }


def test_an_earlier_install_is_replaced_whole_if_forced(skills: Path) -> None:
    copy = skills / "hms-active-rooms"
    (copy / "hms_active_rooms" / "old.py").write_text("")
    assert launch(skills, "--version").returncode == 0  # leaves caches behind
    before = tree(skills)
    assert main(["skill", "install", str(skills)]) == 2
    assert tree(skills) == before
    assert main(["skill", "install", str(skills), "--force"]) == 0
    assert not (copy / "hms_active_rooms" / "old.py").exists()
    assert [p.name for p in skills.iterdir()] == ["hms-active-rooms"]


def test_an_install_that_fails_half_way_leaves_the_old_one(
    skills: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = tree(skills)
    replace = Path.replace

    def full(self: Path, target: Path) -> Path:
        if self.name == "new":
            raise OSError(28, "No space left on device")
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", full)
    assert main(["skill", "install", str(skills), "--force"]) == 2
    assert tree(skills) == before


def test_what_it_did_not_put_there_stays(tmp_path: Path) -> None:
    theirs = tmp_path / "hms-active-rooms"
    theirs.mkdir()
    (theirs / "thesis.txt").write_text("years of work")
    for force in ([], ["--force"]):
        assert main(["skill", "install", str(tmp_path), *force]) == 2
        assert tree(tmp_path) == {"hms-active-rooms/thesis.txt": b"years of work"}


def test_a_checkout_is_never_replaced(skills: Path) -> None:
    (skills / "hms-active-rooms" / ".git").mkdir()
    assert main(["skill", "install", str(skills), "--force"]) == 2


def test_it_does_not_replace_what_it_runs_from(skills: Path) -> None:
    done = launch(skills, "skill", "install", str(skills), "--force")
    assert done.returncode == 2
    assert "that runs now" in done.stderr


def test_a_link_is_not_followed(skills: Path, tmp_path: Path) -> None:
    link = tmp_path / "more" / "hms-active-rooms"
    link.parent.mkdir()
    link.symlink_to(skills / "hms-active-rooms")
    before = tree(skills)
    assert main(["skill", "install", str(link.parent), "--force"]) == 2
    assert tree(skills) == before


def test_the_skills_own_folder_is_not_taken_for_the_place_of_skills(
    skills: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["skill", "install", str(skills / "hms-active-rooms"), "--json"]) == 2
    assert (
        "that holds skills" in json.loads(capsys.readouterr().out.splitlines()[-1])["error"]["hint"]
    )


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert main(["skill", "install", str(tmp_path / "file")]) == 2
