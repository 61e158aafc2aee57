"""The public names are typed for programs that know nothing of our settings."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

TESTS = Path(__file__).parent


@pytest.mark.nightly  # `make types` checks the same file, with our settings
@pytest.mark.timeout(600)
def test_a_strict_program_without_plugins_type_checks(tmp_path: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "mypy",
        "--strict",
        "--config-file=",
        "--follow-imports=silent",
    ]
    program = tmp_path / "api.py"
    program.write_bytes((TESTS / "typing" / "api.py").read_bytes())
    done = subprocess.run(
        [*command, str(program)], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
