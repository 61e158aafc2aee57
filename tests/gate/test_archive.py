"""What is old enough to be exported: what ended before a moment, by when it really ended."""

from __future__ import annotations

from datetime import timedelta
from io import StringIO

from hms_active_rooms.gate.journal import Journal
from hms_active_rooms.gate.journal.records import REQUESTS
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
