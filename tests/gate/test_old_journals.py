"""A journal that an earlier release wrote is opened, brought up to date, and means what it meant."""

from __future__ import annotations

import sqlite3
import threading
from contextlib import closing
from pathlib import Path

import pytest

from hms_active_rooms.errors import JournalError
from hms_active_rooms.gate.journal import Journal
from old_journal import (
    WRITTEN,
    assert_reads_right_and_goes_on,
    assert_tables_are_those_of_this_release,
    statements,
)
from stand_in import Clock


def written(tmp_path: Path) -> str:
    with closing(sqlite3.connect(tmp_path / "j.sqlite")) as db:
        db.executescript(";\n".join(statements()))
    return f"sqlite:///{tmp_path / 'j.sqlite'}"


async def test_a_journal_of_0_1_0_reads_right_and_goes_on(tmp_path: Path) -> None:
    url = written(tmp_path)
    Journal(url).close()
    assert_tables_are_those_of_this_release(url)
    await assert_reads_right_and_goes_on(Journal(url, clock=Clock(WRITTEN)))


def test_many_who_open_it_at_once_bring_it_up_to_date_once(tmp_path: Path) -> None:
    url, start, rows = written(tmp_path), threading.Barrier(5), list[int]()

    def open_it() -> None:
        start.wait()
        journal = Journal(url)
        rows.append(journal.count())
        journal.close()

    threads = [threading.Thread(target=open_it) for _ in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert rows == 5 * [9]
    assert_tables_are_those_of_this_release(url)


def test_what_breaks_off_on_the_way_leaves_it_as_it_was(tmp_path: Path) -> None:
    url = written(tmp_path)
    with closing(sqlite3.connect(tmp_path / "j.sqlite")) as db:
        db.execute("CREATE TABLE ix_hms_actions_content (in_the_way)")
        before = list(db.iterdump())
        with pytest.raises(JournalError):
            Journal(url)
        assert list(db.iterdump()) == before
        db.execute("DROP TABLE ix_hms_actions_content")
    Journal(url).close()
    assert_tables_are_those_of_this_release(url)


def test_a_process_of_0_1_0_that_still_runs_cannot_move_a_row(tmp_path: Path) -> None:
    url = written(tmp_path)
    with closing(sqlite3.connect(tmp_path / "j.sqlite", isolation_level=None)) as old:
        old.execute("SELECT 1 FROM hms_actions").fetchall()
        journal = Journal(url, clock=Clock(WRITTEN))
        before = journal.actions()
        old.execute("BEGIN IMMEDIATE")
        old.execute("UPDATE hms_actions SET state = 'sent' WHERE state = 'approved'")
        with pytest.raises(sqlite3.IntegrityError, match="newer release"):
            old.execute(
                'INSERT INTO hms_events (action_id, at, kind, "by", way, data) VALUES '
                "('bnq33r5hyrgt', '2026-01-01 12:00:00.000000', 'sent', 'w', 'claim', '{}')"
            )
        old.execute("ROLLBACK")
        assert journal.actions() == before


def test_a_row_of_then_that_is_not_what_its_events_say_is_shown_as_one(tmp_path: Path) -> None:
    for number, forged in enumerate(
        (
            "UPDATE hms_actions SET state = 'approved' WHERE state = 'proposed'",
            "UPDATE hms_actions SET decided_by = 'eve' WHERE id = 'nbi47vmvh5x6'",
            "UPDATE hms_actions SET decided_way = 'page' WHERE id = 'iiiajzpl3rdk'",
        )
    ):
        folder = tmp_path / str(number)
        folder.mkdir()
        url = written(folder)
        with closing(sqlite3.connect(folder / "j.sqlite")) as db, db:
            assert db.execute(forged).rowcount == 1
        journal = Journal(url, clock=Clock(WRITTEN))
        [found] = [a.contradiction for a in journal.actions() if a.contradiction]
        assert "contradicts itself" in found
        journal.close()


def test_a_journal_of_a_development_build_is_refused_and_left_as_it_is(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/j.sqlite"
    Journal(url).close()
    with closing(sqlite3.connect(tmp_path / "j.sqlite")) as db:
        db.execute("UPDATE hms_journal SET version = 3")
        db.commit()
    with pytest.raises(JournalError, match="duplicate column name"):
        Journal(url)
    with closing(sqlite3.connect(tmp_path / "j.sqlite")) as db:
        assert db.execute("SELECT version FROM hms_journal").fetchall() == [(3,)]
