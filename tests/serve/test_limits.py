"""How many connections there are, and that programs get no more than half of them."""

from __future__ import annotations

import resource

import pytest

from hms_active_rooms.serve import limits
from hms_active_rooms.serve.guard import guard_settings


@pytest.mark.parametrize(
    ("files", "connections"),
    [(1024, 512), (65_536, 512), (resource.RLIM_INFINITY, 512), (256, 128), (8, 16)],
)
def test_half_of_the_files_a_process_may_open_are_for_connections(
    files: int, connections: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _: (files, files))
    assert limits.most_connections() == connections


def test_half_of_the_connections_are_not_for_programs() -> None:
    assert guard_settings("127.0.0.1").most_of_programs == limits.MOST_CONNECTIONS // 2
