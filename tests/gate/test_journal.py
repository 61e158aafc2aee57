"""The journal: one winner per step, on disk before a request leaves, append-only."""

from __future__ import annotations

import sqlite3
import stat
import subprocess
import sys
import threading
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import get_args

import pytest
import sqlalchemy as sa
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy.dialects import plugins
from sqlalchemy.engine import CreateEnginePlugin

from hms_active_rooms.errors import ConfigurationError, JournalError
from hms_active_rooms.gate.calls import parse_call
from hms_active_rooms.gate.database import default_url
from hms_active_rooms.gate.drafts import draft
from hms_active_rooms.gate.journal import Journal
from hms_active_rooms.gate.records import Action
from hms_active_rooms.gate.states import ALLOWED, FINAL, State, allowed
from stand_in import ROOM, Clock

STATES: Sequence[State] = get_args(State)


def row(clock: Clock, key: str = "k", revision: int = 1) -> Action:
    call = parse_call("hms-send-message", {"room_id": ROOM, "message": "hi"})
    return draft(
        call,
        key=key,
        revision=revision,
        thread="t",
        requester="agent",
        now=clock(),
        ttl_s=600,
    )


def at(journal: Journal, state: State, clock: Clock) -> Action:
    """A row brought to this state by the machine's own steps."""
    action = journal.insert(row(clock))
    path: dict[State, list[State]] = {
        "proposed": [],
        "approved": ["approved"],
        "sent": ["approved", "sent"],
        "done": ["approved", "sent", "done"],
        "failed": ["approved", "sent", "failed"],
        "unknown": ["approved", "sent", "unknown"],
        "rejected": ["rejected"],
        "expired": ["expired"],
    }
    for step in path[state]:
        assert journal.move(action, step, by="t", way="t")
        action = replace(action, state=step)
    return action


@pytest.mark.parametrize("before", STATES)
@pytest.mark.parametrize("after", STATES)
def test_only_the_machines_steps_are_taken(before: State, after: State) -> None:
    clock = Clock()
    journal = Journal(":memory:", clock=clock)
    action = at(journal, before, clock)
    if allowed(before, after):
        assert journal.move(action, after, by="x", way="y")
    else:
        with pytest.raises(JournalError):
            journal.move(action, after, by="x", way="y")
    now = journal.get(action.id)
    assert now is not None
    assert now.state == (after if allowed(before, after) else before)


def test_nothing_is_sent_but_what_was_approved() -> None:
    assert [s for s in STATES if "sent" in ALLOWED[s]] == ["approved"]
    assert {"done", "failed", "rejected", "expired"} == FINAL


@given(st.lists(st.sampled_from(STATES), max_size=12))
@settings(max_examples=60, deadline=None)
def test_whatever_is_tried_each_step_is_taken_once_and_recorded(tries: list[State]) -> None:
    clock = Clock()
    journal = Journal(":memory:", clock=clock)
    action = journal.insert(row(clock))
    taken = ["proposed"]
    for after in tries:
        try:
            moved = journal.move(action, after, by="x", way="y")
        except JournalError:
            continue
        assert moved
        taken.append(after)
        assert not journal.move(action, after, by="late", way="y"), "a second one was first too"
        action = replace(action, state=after)
    assert [e.kind for e in journal.events(action.id)] == taken


def test_a_claim_has_one_winner_among_threads(tmp_path: Path) -> None:
    journal = Journal(f"sqlite:///{tmp_path / 'j.sqlite'}")
    clock = Clock(journal.now())
    action = at(journal, "approved", clock)
    start, won = threading.Barrier(8), []

    def claim() -> None:
        start.wait()
        if journal.claim(action, per_minute=100):
            won.append(threading.get_ident())

    threads = [threading.Thread(target=claim) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(won) == 1


CLAIMER = """
import sys
from hms_active_rooms.gate.journal import Journal
journal = Journal(sys.argv[1])
action = journal.get(sys.argv[2])
print("ready", flush=True)
sys.stdin.readline()
print(journal.claim(action, per_minute=100), flush=True)
"""


def test_a_claim_has_one_winner_among_processes(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'j.sqlite'}"
    journal = Journal(url)
    action = at(journal, "approved", Clock(journal.now()))
    workers = [
        subprocess.Popen(
            [sys.executable, "-c", CLAIMER, url, action.id],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(3)
    ]
    for worker in workers:
        assert worker.stdout
        assert worker.stdout.readline() == "ready\n"
    for worker in workers:
        assert worker.stdin
        worker.stdin.write("go\n")
        worker.stdin.flush()
    answers = [worker.communicate(timeout=60)[0].strip() for worker in workers]
    assert sorted(answers) == ["False", "False", "True"]


def test_a_claim_is_for_the_digest_that_was_approved() -> None:
    clock = Clock()
    journal = Journal(":memory:", clock=clock)
    action = at(journal, "approved", clock)
    assert journal.claim(replace(action, digest="0" * 64), per_minute=9) is False
    assert journal.claim(action, per_minute=9) is True


@pytest.mark.parametrize("state", [s for s in STATES if s != "approved"])
def test_only_an_approved_row_can_be_claimed(state: State) -> None:
    clock = Clock()
    journal = Journal(":memory:", clock=clock)
    assert journal.claim(at(journal, state, clock), per_minute=9) is False


def test_a_claim_after_the_deadline_fails() -> None:
    clock = Clock()
    journal = Journal(":memory:", clock=clock)
    action = at(journal, "approved", clock)
    clock.now = action.expires_at
    assert journal.claim(action, per_minute=9) is False


@dataclass
class WaitedForTheLock:
    """A clock for a journal that waits for the database's lock: late as soon as it holds it."""

    file: Path
    early: datetime
    late: datetime

    def __call__(self) -> datetime:
        other = sqlite3.connect(self.file, timeout=0, isolation_level=None)
        try:
            other.execute("BEGIN IMMEDIATE")
        except sqlite3.OperationalError:
            self.early = self.late
        finally:
            other.close()
        return self.early


def waited(tmp_path: Path, state: State, wait_s: float) -> tuple[Journal, Action, datetime]:
    """A journal whose next transaction waits so long, a row, and the time at which it goes on."""
    file, clock = tmp_path / "j.sqlite", Clock()
    journal = Journal(f"sqlite:///{file}", clock=clock)
    action = at(journal, state, clock)
    journal.close()
    late = clock.now + timedelta(seconds=wait_s)
    waiting = WaitedForTheLock(file, clock.now, late)
    return Journal(f"sqlite:///{file}", clock=waiting), action, late


def test_a_claim_that_waited_past_the_deadline_sends_nothing(tmp_path: Path) -> None:
    journal, action, _ = waited(tmp_path, "approved", 600)
    assert journal.claim(action, per_minute=9) is False


def test_an_approval_that_waited_past_the_deadline_is_none(tmp_path: Path) -> None:
    journal, action, _ = waited(tmp_path, "proposed", 600)
    assert not journal.move(action, "approved", by="ada", way="test")


def test_what_is_recorded_is_the_time_after_the_wait(tmp_path: Path) -> None:
    journal, action, late = waited(tmp_path, "approved", 8)
    assert journal.claim(action, per_minute=9, lease_s=60)
    row = journal.get(action.id)
    assert row
    assert (row.sent_at, row.lease_until) == (late, late + timedelta(seconds=60))


@pytest.mark.parametrize("after", ["approved", "rejected", "expired"])
def test_a_decision_is_recorded_at_the_time_after_the_wait(tmp_path: Path, after: State) -> None:
    journal, action, late = waited(tmp_path, "proposed", 8)
    assert journal.move(action, after, by="ada", way="test")
    row = journal.get(action.id)
    assert row
    assert (row.decided_at, row.decided_by, row.decided_way) == (late, "ada", "test")


@pytest.mark.parametrize("after", ["done", "failed", "unknown"])
def test_an_end_is_recorded_at_the_time_after_the_wait(tmp_path: Path, after: State) -> None:
    journal, action, late = waited(tmp_path, "sent", 8)
    assert journal.move(action, after, by="worker", way="answer")
    row = journal.get(action.id)
    assert row
    assert row.finished_at == late
    assert row.decided_at
    assert row.decided_at < late


def test_a_look_that_is_too_old_after_the_wait_claims_nothing(tmp_path: Path) -> None:
    journal, action, late = waited(tmp_path, "approved", 20)
    looked_at = late - timedelta(seconds=20)
    assert journal.claim(action, per_minute=9, looked_at=looked_at) is False
    assert journal.claim(action, per_minute=9, looked_at=late) is True


def test_what_was_given_back_is_approved_as_if_it_had_not_been_sent() -> None:
    clock = Clock()
    journal = Journal(":memory:", clock=clock)
    action = at(journal, "approved", clock)
    assert not journal.give_back(action.id, reason="429")
    assert journal.claim(action, per_minute=1)
    before = journal.get(action.id)
    assert journal.give_back(action.id, reason="429")
    row = journal.get(action.id)
    assert row
    assert before
    assert row == replace(before, state="approved", sent_at=None, lease_until=None, worker="")
    assert journal.claim(action, per_minute=1)
    kinds = [event.kind for event in journal.events(action.id)]
    assert kinds == ["proposed", "approved", "sent", "returned", "sent"]


def test_only_whoever_sent_it_gives_it_back(tmp_path: Path) -> None:
    file, clock = tmp_path / "j.sqlite", Clock()
    journal = Journal(f"sqlite:///{file}", clock=clock)
    action = at(journal, "approved", clock)
    assert journal.claim(action, per_minute=9)
    with sqlite3.connect(file) as db:
        db.execute("UPDATE hms_actions SET worker = 'another'")
    db.close()
    assert not journal.give_back(action.id, reason="429")


def test_one_person_is_removed_by_one_request() -> None:
    clock = Clock()
    journal = Journal(":memory:", clock=clock)
    action = at(journal, "approved", clock)
    assert journal.start_step(action.id, "p", lease_s=9) == "lost"
    assert journal.claim(action, per_minute=9)
    assert journal.start_step(action.id, "p", lease_s=9) == "started"
    assert journal.start_step(action.id, "p", lease_s=9) == "before"
    journal.end_step(action.id, "p", "removed")
    assert journal.steps(action.id) == {"p": "removed"}


def test_the_first_question_at_a_place_stays() -> None:
    journal = Journal(":memory:")
    assert journal.ask(("here",), ["a"]).fresh
    second = journal.ask(("here",), ["b"])
    assert (second.items, second.fresh) == (["a"], False)


def test_two_places_never_share_a_question() -> None:
    journal = Journal(":memory:")
    places = [
        ("turn", "a|b", "c"),
        ("turn", "a", "b|c"),
        ("turn", 'a","b', "c"),
        ("key", "a|b", "c"),
    ]
    for place in places:
        assert journal.ask(place, ["|".join(place)]).fresh
    for place in places:
        assert journal.asked_at(place) == ["|".join(place)]


@pytest.mark.parametrize("sql", ["DELETE FROM hms_events", "UPDATE hms_events SET kind='done'"])
def test_events_are_append_only(tmp_path: Path, sql: str) -> None:
    file = tmp_path / "j.sqlite"
    journal = Journal(f"sqlite:///{file}")
    journal.insert(row(Clock(journal.now())))
    with sqlite3.connect(file) as db, pytest.raises(sqlite3.IntegrityError, match="append-only"):
        db.execute(sql)
    db.close()


def test_the_file_is_durable_and_private(tmp_path: Path) -> None:
    file = tmp_path / "state" / "j.sqlite"
    journal = Journal(f"sqlite:///{file}")
    with journal._engine.connect() as db:
        assert db.exec_driver_sql("PRAGMA journal_mode").scalar() == "wal"
        assert db.exec_driver_sql("PRAGMA synchronous").scalar() == 2
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700


@pytest.mark.parametrize("there_before", [False, True])
@pytest.mark.parametrize(
    "without", ["vfs=unix-none", "vfs=unix-dotfile", "nolock=1", "mode=memory"]
)
def test_where_sqlite_cannot_lock_and_share_a_file_it_is_refused_when_it_is_opened(
    without: str, there_before: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    if there_before:
        Journal("sqlite:///j.sqlite").close()
    with pytest.raises(JournalError, match="WAL") as refused:
        Journal(f"sqlite:///file:j.sqlite?{without}&uri=true")
    assert "local disk" in refused.value.hint
    assert "PostgreSQL" in refused.value.hint


class WritesWithoutWaiting(CreateEnginePlugin):
    """SQLite that does not wait for the disk and ignores who asks it to."""

    def update_url(self, url: sa.URL) -> sa.URL:
        return url

    def engine_created(self, engine: sa.Engine) -> None:
        sa.event.listen(engine, "connect", self.connected)

    def connected(self, connection: sqlite3.Connection, _record: object) -> None:
        def ignored(verb: int, name: str | None, value: str | None, *_: object) -> int:
            is_it = verb == sqlite3.SQLITE_PRAGMA and name == "synchronous" and value is not None
            return sqlite3.SQLITE_IGNORE if is_it else sqlite3.SQLITE_OK

        connection.execute("PRAGMA synchronous=OFF").close()
        connection.set_authorizer(ignored)


def test_where_sqlite_does_not_wait_for_the_disk_it_is_refused_when_it_is_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(plugins.impls, "unwaiting", lambda: WritesWithoutWaiting)
    with pytest.raises(JournalError, match="wait for the disk"):
        Journal(f"sqlite:///{tmp_path / 'j.sqlite'}?plugin=unwaiting")


def test_a_file_that_can_only_be_read_is_a_clear_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    sqlite3.connect("j.sqlite").execute("CREATE TABLE something (a)").connection.close()
    with pytest.raises(JournalError, match="readonly database"):
        Journal("sqlite:///file:j.sqlite?mode=ro&uri=true")


def test_it_survives_the_process(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'j.sqlite'}"
    first = Journal(url)
    action = at(first, "approved", Clock(first.now()))
    first.close()
    found = Journal(url).get(action.id)
    assert found is not None
    assert found.state == "approved"
    assert found.expires_at == action.expires_at


def test_the_default_is_a_file_in_the_users_state_directory(tmp_path: Path) -> None:
    assert default_url(tmp_path) == f"sqlite:///{tmp_path / 'journal.sqlite'}"


FORKS = """
import os
from hms_active_rooms.errors import JournalError
from hms_active_rooms.gate.journal import Journal
journal = Journal(":memory:")
if (child := os.fork()) == 0:
    try:
        journal.actions()
    except JournalError as error:
        print(error, flush=True)
    os._exit(0)
os.waitpid(child, 0)
print(journal.actions())
"""


def test_one_in_memory_stays_with_its_process_and_a_forked_child_is_told() -> None:
    command = [sys.executable, "-c", FORKS]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    told, parent = done.stdout.splitlines()
    assert "or of another process" in told
    assert parent == "[]"


@pytest.mark.timeout(25)  # who waits in the pool in vain gives up after 30 s
def test_closing_one_in_memory_keeps_nobody_waiting_and_says_that_it_is_gone() -> None:
    for _ in range(50):
        journal = Journal(":memory:")
        start = threading.Barrier(7)

        def read(journal: Journal = journal, start: threading.Barrier = start) -> None:
            start.wait()
            with suppress(JournalError):
                while True:
                    journal.actions()

        threads = [threading.Thread(target=read) for _ in range(6)]
        for thread in threads:
            thread.start()
        start.wait()
        journal.close()
        for thread in threads:
            thread.join()
        with pytest.raises(JournalError, match="was in memory and is closed"):
            journal.actions()
        journal.close()  # once more is nothing


@pytest.mark.parametrize("url", ["not a url", "nosuchdb://x", "postgresql+nosuchdriver://x/y"])
def test_a_url_nothing_can_be_made_of_is_a_clear_error(url: str) -> None:
    with pytest.raises(ConfigurationError, match="journal"):
        Journal(url)


def test_a_place_that_cannot_be_written_is_a_clear_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigurationError, match="journal"):
        Journal(f"sqlite:///{tmp_path / 'file' / 'j.sqlite'}")


def test_a_file_that_is_no_journal_is_a_clear_error(tmp_path: Path) -> None:
    (tmp_path / "j.sqlite").write_bytes(b"not a database" * 100)
    with pytest.raises(JournalError, match="not a database"):
        Journal(f"sqlite:///{tmp_path / 'j.sqlite'}")


def test_a_journal_of_another_version_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "j.sqlite"
    Journal(f"sqlite:///{file}").close()
    with sqlite3.connect(file) as db:
        db.execute("UPDATE hms_journal SET version = 99")
    db.close()
    with pytest.raises(JournalError, match="99"):
        Journal(f"sqlite:///{file}")
