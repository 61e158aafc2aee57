"""A journal of version 0.1.0, and what this release has to make of it, on whatever database."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa

from hms_active_rooms.errors import PolicyRefusal
from hms_active_rooms.gate.actions import parse_call
from hms_active_rooms.gate.approval import Approve, Reject
from hms_active_rooms.gate.journal import Journal
from hms_active_rooms.gate.journal.records import Origin
from hms_active_rooms.gate.journal.tables import SCHEMA_VERSION, metadata
from hms_active_rooms.gate.view import outcome
from stand_in import ROOM, Clock, StandInRoom, gate_on, peer

WRITTEN = Clock().now + timedelta(minutes=5)
"""A moment at which nothing in it is late."""

_SQL = (Path(__file__).parent / "journal_0_1_0.sql").read_text(encoding="utf-8")


def statements(dialect: str = "sqlite") -> list[str]:
    """What writes it."""
    sql = _SQL.partition("\n")[2]
    if dialect == "postgresql":
        sql = sql.replace(" DATETIME", " TIMESTAMP").replace("seq INTEGER", "seq SERIAL")
    return [statement for statement in sql.split(";\n") if statement]


def assert_tables_are_those_of_this_release(url: str) -> None:
    """Every column and index, as in a new journal."""
    engine = sa.create_engine(url, poolclass=sa.NullPool)
    found = sa.inspect(engine)
    for table in metadata.sorted_tables:
        columns = {c["name"]: (c["nullable"], c["type"]) for c in found.get_columns(table.name)}
        assert columns.keys() == {c.name for c in table.columns}
        for column in table.columns:
            nullable, kind = columns[column.name]
            assert nullable == column.nullable
            if engine.dialect.name == "postgresql":  # SQLite enforces no lengths
                assert getattr(kind, "length", None) == getattr(column.type, "length", None)
        indexes = {i["name"] for i in found.get_indexes(table.name)}
        assert indexes >= {index.name for index in table.indexes}
    with engine.connect() as db:
        assert db.exec_driver_sql("SELECT version FROM hms_journal").scalar() == SCHEMA_VERSION


async def assert_reads_right_and_goes_on(journal: Journal) -> None:
    """Everything in it means what it meant, and an approval of then is one now."""
    room = StandInRoom([peer(1, "Anna", "teacher"), peer(2, "Ben"), peer(3, "Spam Bot")])
    clock = Clock(WRITTEN)
    gate = gate_on(room, journal, clock, protected_roles={"teacher"})
    rows = journal.actions(oldest_first=True)
    assert sorted((a.tool, a.state, a.decided_way) for a in rows) == [
        ("hms-end-active-room", "approved", "page"),
        ("hms-remove-peers", "done", "page"),
        ("hms-remove-peers", "proposed", ""),
        ("hms-remove-peers", "rejected", "policy"),
        ("hms-send-message", "approved", "grant"),
        ("hms-send-message", "approved", "page"),
        ("hms-send-message", "done", "page"),
        ("hms-send-message", "rejected", "page"),
        ("hms-send-message", "unknown", "page"),
    ]
    assert all(a.is_as_shown() for a in rows)
    by_id = {a.id: a for a in rows}
    hello, granted, end = by_id["nbi47vmvh5x6"], by_id["iiiajzpl3rdk"], by_id["bnq33r5hyrgt"]
    waits, refused, unknown = by_id["7pyhg4iyigx5"], by_id["eopjvcpeoqbk"], by_id["3qyrdlbzz65a"]
    original, edited, removed = (
        by_id["q5t4coclfcsx"],
        by_id["ngq3yxyie4dl"],
        by_id["opudqnwqhj4a"],
    )

    assert (hello.executed, hello.decided_by) == ("yes", "ada")
    assert [e.kind for e in journal.events(hello.id)] == ["proposed", "approved", "sent", "done"]
    assert (removed.executed, removed.result.verified) == ("yes", True)
    assert [p.outcome for p in removed.result.people] == ["removed", "removed"]
    assert set(journal.steps(removed.id).values()) == {"removed"}
    assert (unknown.executed, unknown.result.error) == ("maybe", "timed_out")
    assert "cannot be looked up" in outcome(await gate.run(unknown.id))

    # A refusal of then is the same refusal, at the same place.
    assert (refused.impact, refused.result.error) == (None, "policy_refusal")
    call = parse_call("hms-remove-peers", {"room_id": ROOM, "role": "teacher"})
    with pytest.raises(PolicyRefusal, match="protects the role") as again:
        await gate.propose(call, Origin("t", "m", "c5", "agent"))
    assert again.value.hint in refused.reason

    # Grants of then are over; who was covered by one is asked.
    asked = await gate.run(granted.id)
    assert (asked.state, asked.revision) == ("proposed", 2)

    # A no to a question takes back the words it was edited into.
    assert edited.edited_from == original.id
    no = await gate.decide(original.id, Reject("no"), by="bob", way="page")
    assert (no.counted, no.action.id, no.action.state) == (True, edited.id, "rejected")
    assert room.posts == []

    # What was shown then can be answered now, and what was approved then is sent.
    yes = await gate.decide(waits.id, Approve(waits.digest), by="ada", way="page")
    assert (await gate.run(yes.action.id)).state == "done"
    assert (await gate.run(end.id)).state == "done"
    assert [verb for verb, _ in room.posts] == ["remove", "end"]
