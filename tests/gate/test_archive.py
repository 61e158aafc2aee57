"""What is exported: what ended before a moment, as it stands; and what cannot be opened at all."""

from __future__ import annotations

import os
from datetime import timedelta
from io import StringIO
from pathlib import Path

import pytest

from hms_active_rooms.errors import ConfigurationError, JournalError
from hms_active_rooms.gate.journal import Journal
from hms_active_rooms.gate.journal.records import REQUESTS
from hms_active_rooms.gate.journal.tables import actions
from stand_in import Clock, insert, row


def test_what_ended_at_the_moment_itself_is_not_older_and_a_second_later_it_is() -> None:
    clock = Clock()
    journal = Journal(":memory:", clock=clock)
    action = insert(journal, row(clock()))
    clock.now += timedelta(seconds=60)
    with journal.write() as tx:
        tx.move(action, "rejected", by="ada", way="page")
    ended = clock()
    journal.note(REQUESTS, "refused", by="x", way="token")
    clock.now += timedelta(seconds=60)
    for later_s, told in ((0, 0), (1, 1)):
        file = StringIO()
        before = ended + timedelta(seconds=later_s)
        assert journal.export(file, before=before, by="ada") == told
        assert file.getvalue().count('"kind": "refused"') == told


def test_a_question_nobody_answered_ended_at_its_deadline_whoever_noted_it_later() -> None:
    clock = Clock()
    journal = Journal(":memory:", clock=clock)
    insert(journal, row(clock(), "asked"))
    sent = insert(journal, row(clock(), "sent"))
    with journal.write() as tx:
        sent = tx.move(tx.move(sent, "approved", by="ada", way="page"), "sent", by="w", way="claim")
    clock.now += timedelta(seconds=5000)  # both had 600 s
    with journal.write() as tx:
        tx.move(sent, "done", by="w", way="look", finished_at=tx.now())
    before = clock() - timedelta(seconds=4000)
    assert journal.export(StringIO(), before=before, by="ada") == 1
    assert journal.export(StringIO(), before=clock() + timedelta(seconds=1), by="ada") == 2


def test_a_question_that_is_late_and_was_read_by_nobody_ended_at_its_deadline_too() -> None:
    clock = Clock()
    journal = Journal(":memory:", clock=clock)
    deadline = insert(journal, row(clock())).expires_at
    clock.now += timedelta(seconds=5000)
    assert journal.export(StringIO(), before=deadline, by="ada") == 0
    assert journal.export(StringIO(), before=deadline + timedelta(seconds=1), by="ada") == 1


def test_a_row_that_cannot_be_read_is_exported_as_it_stands() -> None:
    clock = Clock()
    journal = Journal(":memory:", clock=clock)
    insert(journal, row(clock(), state="rejected"))
    with journal.write() as tx:
        tx.db.execute(actions.update().values(gate="ajar"))
    file = StringIO()
    clock.now += timedelta(seconds=60)
    assert journal.export(file, before=clock(), by="ada") == 1
    assert '"gate": "ajar"' in file.getvalue()


@pytest.mark.parametrize(
    "written",
    [
        "INSERT INTO hms_events SELECT 99, id, created_at, 'seen', x'ff', 'x', '{}', '' FROM hms_actions",
        "UPDATE hms_actions SET steps = x'ff'",
        "UPDATE hms_actions SET requester = x'ff'",
        "UPDATE hms_actions SET call_key = CAST(call_key AS BLOB)",
    ],
)
def test_bytes_where_a_text_should_be_keep_no_row_from_being_read_or_exported(written: str) -> None:
    clock = Clock()
    journal = Journal(":memory:", clock=clock)
    action = insert(journal, row(clock(), state="rejected"))
    with journal.write() as tx:
        tx.db.exec_driver_sql(written)
    insert(journal, row(clock(), "another", state="rejected"))
    clock.now += timedelta(seconds=60)
    file = StringIO()
    assert journal.export(file, before=clock(), by="ada") >= 1
    with journal.read() as view:
        found, *_ = view.same_calls(
            action.thread, action.content, lambda by: bool(by.partition("#"))
        )
        assert found is not None
        assert all(isinstance(state, str) for state in view.steps(action.id).values())
        assert all(isinstance(each.id, str) for each in view.actions("rejected"))


def test_what_no_database_takes_is_an_error_of_the_journal_and_leaves_it_usable() -> None:
    journal = Journal(":memory:")
    for ask in (lambda: journal.get("\udcff"), lambda: journal.actions(limit=10**20)):
        with pytest.raises(JournalError):
            ask()
    with pytest.raises(JournalError):
        journal.note(REQUESTS, "refused", by="\udcff")
    journal.note(REQUESTS, "refused", by="ada")
    assert [event.by for event in journal.refused_requests()] == ["ada"]


def test_a_journal_that_cannot_be_opened_says_why_and_only_a_file_is_shown_whole(
    tmp_path: Path,
) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ConfigurationError, match="cannot be opened: ") as refused:
        Journal(f"sqlite:///{tmp_path / 'file' / 'j.sqlite'}")
    assert "Name a file that can be written" in refused.value.hint
    assert "PostgreSQL" not in refused.value.hint
    for url, shown in (("j.sqlite", True), ("ada@host", False)):
        with pytest.raises(ConfigurationError, match=r"cannot be opened\.") as refused:
            Journal(url)
        assert ("Write it as a URL" in refused.value.hint) == shown
    for url, why in (
        ("sqlite:///j.sqlite?mode=rw", "for a file it can set mode=ro and timeout"),
        ("sqlite:///what?.sqlite", 'the "\\?"'),
        ("postgresql://x/y?sslmode=a&sslmode=b", "given twice"),
        ("mysql://ada:s3cret@host/name", "SQLite or in PostgreSQL"),
    ):
        with pytest.raises(ConfigurationError, match=why) as refused:
            Journal(url)
        assert "more packages" not in refused.value.hint
        assert "s3cret" not in f"{refused.value} {refused.value.hint}"
    with pytest.raises(ConfigurationError) as refused:
        Journal(r"C:\j.sqlite")
    assert 'URL: "sqlite:///C:' in refused.value.hint


def test_who_may_only_read_sees_also_what_is_in_the_log_and_not_yet_in_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock, url = Clock(), f"sqlite:///{tmp_path / 'j.sqlite'}"
    writer = Journal(url, clock=clock)
    action = insert(writer, row(clock()))
    assert (tmp_path / "j.sqlite-wal").stat().st_size
    monkeypatch.setattr(os, "access", lambda _, mode: mode != os.W_OK)
    reader = Journal(url, clock=clock, create=False)
    assert [found.id for found in reader.actions()] == [action.id]
    reader.close()
    writer.close()


def test_what_was_sent_within_the_hour_is_not_pruned_even_if_it_was_exported() -> None:
    clock = Clock()
    journal = Journal(":memory:", clock=clock)
    sent = insert(journal, row(clock()))
    with journal.write() as tx:
        sent = tx.move(sent, "approved", by="ada", way="page")
        sent = tx.move(sent, "sent", by="w", way="claim", sent_at=tx.now())
        tx.move(sent, "unknown", by="w", way="answer", finished_at=tx.now())
    clock.now += timedelta(minutes=30)
    journal.export(StringIO(), before=clock(), by="ada")
    for later, told in ((timedelta(minutes=29), (0, 1)), (timedelta(minutes=2), (1, 0))):
        clock.now += later
        pruned = journal.prune(before=clock() + timedelta(days=1), by="ada")
        assert (pruned.actions, pruned.left) == told
        assert pruned.recent == pruned.left
