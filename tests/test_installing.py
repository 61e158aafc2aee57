"""What to type for an extra, by how the package was installed; never a name alone."""

from __future__ import annotations

import json
from importlib import metadata, util

import pytest

from hms_active_rooms.installing import how_to_install


class Installed:
    """A distribution, and where it came from."""

    version = "1.2.3"

    def __init__(self, **source: object) -> None:
        self._source = source

    def read_text(self, name: str) -> str | None:
        return json.dumps(self._source) if self._source and name == "direct_url.json" else None


@pytest.mark.parametrize(
    ("installed", "told"),
    [
        (
            Installed(url="file:///src/rooms", dir_info={"editable": True}),
            "pip install -e '/src/rooms[cli]'",
        ),
        (Installed(url="file:///my%20src/rooms", dir_info={}), "pip install '/my src/rooms[cli]'"),
        (
            Installed(url="https://h/r.git", vcs_info={"vcs": "git", "commit_id": "abc"}),
            "pip install 'hms-active-rooms[cli] @ git+https://h/r.git@abc'",
        ),
        (
            Installed(url="file:///d/r.whl", archive_info={}),
            "pip install 'hms-active-rooms[cli] @ file:///d/r.whl'",
        ),
        (Installed(), "pip install 'hms-active-rooms[cli]==1.2.3', from the same index as before"),
    ],
)
def test_it_installs_from_where_the_package_came_from(
    monkeypatch: pytest.MonkeyPatch, installed: Installed, told: str
) -> None:
    monkeypatch.setattr(metadata, "distribution", lambda _: installed)
    monkeypatch.setattr(util, "find_spec", lambda _: object())
    assert how_to_install("cli") == told
    monkeypatch.setattr(util, "find_spec", lambda _: None)
    assert how_to_install("cli") == f"uv {told}"


def test_a_copy_of_the_skill_is_started_by_its_launcher(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> object:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "distribution", missing)
    assert "uv run --script" in how_to_install("cli")
