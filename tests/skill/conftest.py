"""A classroom that the commands of the skill are pointed at, with nothing of this machine in it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from hms_active_rooms.sim.server import Simulation, environment, running_sim
from hms_active_rooms.sim.settings import Settings


@pytest.fixture
def sim(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Simulation]:
    """The classroom; this process and its children work on it, in an empty folder."""
    for name in [n for n in os.environ if n.startswith(("HMS_", "XDG_", "LANGSMITH"))]:
        monkeypatch.delenv(name)
    work = tmp_path / "work"
    work.mkdir()
    monkeypatch.chdir(work)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("HMS_JOURNAL", f"sqlite:///{tmp_path / 'journal.sqlite'}")
    with running_sim("classroom", settings=Settings(removal_delay_s=0.01)) as running:
        for name, value in environment(running).items():
            monkeypatch.setenv(name, value)
        yield running
