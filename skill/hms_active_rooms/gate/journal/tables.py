"""The journal's tables, and how an older journal becomes one of this release."""

from __future__ import annotations

from contextlib import suppress
from datetime import UTC, datetime

import sqlalchemy as sa

from hms_active_rooms.errors import BrokenRecord, JournalError
from hms_active_rooms.gate.journal.records import (
    LEADS_TO,
    Event,
    action_of,
    history_fault,
    seal,
)

SCHEMA_VERSION = 3

metadata = sa.MetaData()

versions = sa.Table("hms_journal", metadata, sa.Column("version", sa.Integer, primary_key=True))

actions = sa.Table(
    "hms_actions",
    metadata,
    sa.Column("id", sa.String(16), primary_key=True),
    sa.Column("call_key", sa.String(64), nullable=False),
    sa.Column("revision", sa.Integer, nullable=False),
    sa.Column("thread", sa.Text, nullable=False, index=True),
    sa.Column("requester", sa.Text, nullable=False),
    sa.Column("tool", sa.String(64), nullable=False),
    sa.Column("room_id", sa.String(64), nullable=False, index=True),
    sa.Column("arguments", sa.JSON, nullable=False),
    sa.Column("impact", sa.JSON(none_as_null=True)),
    sa.Column("digest", sa.String(64), nullable=False),
    sa.Column("gate", sa.String(8), nullable=False),
    sa.Column("state", sa.String(12), nullable=False, index=True),
    sa.Column("note", sa.Text, nullable=False),
    sa.Column("reason", sa.Text, nullable=False),
    sa.Column("decided_by", sa.Text, nullable=False),
    sa.Column("decided_way", sa.Text, nullable=False),
    sa.Column("worker", sa.Text, nullable=False),
    sa.Column("created_at", sa.DateTime, nullable=False, index=True),
    sa.Column("expires_at", sa.DateTime, nullable=False),
    sa.Column("decided_at", sa.DateTime),
    sa.Column("sent_at", sa.DateTime, index=True),
    sa.Column("lease_until", sa.DateTime),
    sa.Column("finished_at", sa.DateTime),
    sa.Column("result", sa.JSON, nullable=False),
    sa.Column("edited_from", sa.String(16)),
    sa.Column("content", sa.String(64), nullable=False, server_default="", index=True),
    sa.Column("told_at", sa.DateTime),
    sa.UniqueConstraint("call_key", "revision"),
)

events = sa.Table(
    "hms_events",
    metadata,
    sa.Column("seq", sa.Integer, primary_key=True, autoincrement=True),
    sa.Column("action_id", sa.String(16), nullable=False, index=True),
    sa.Column("at", sa.DateTime, nullable=False),
    sa.Column("kind", sa.String(24), nullable=False),
    sa.Column("by", sa.Text, nullable=False),
    sa.Column("way", sa.Text, nullable=False),
    sa.Column("data", sa.JSON, nullable=False),
    sa.Column("seal", sa.String(64), nullable=False, server_default=""),
)
"""`seal`: see `records.seal`; "" for an event that is no step of the machine."""

exports = sa.Table(
    "hms_exports",
    metadata,
    sa.Column("action_id", sa.String(16), primary_key=True),
    sa.Column("upto", sa.Integer, nullable=False),
)
"""The newest event of an action that an export holds."""

steps = sa.Table(
    "hms_steps",
    metadata,
    sa.Column("action_id", sa.String(16), primary_key=True),
    sa.Column("peer_id", sa.String(64), primary_key=True),
    sa.Column("state", sa.String(16), nullable=False),
)

asks = sa.Table(
    "hms_asks",
    metadata,
    sa.Column("place", sa.Text, primary_key=True),
    sa.Column("items", sa.JSON, nullable=False),
    sa.Column("at", sa.DateTime, nullable=False),
)

grants = sa.Table(
    "hms_grants",
    metadata,
    sa.Column("seq", sa.Integer, primary_key=True, autoincrement=True),
    sa.Column("tool", sa.String(64), nullable=False),
    sa.Column("room_id", sa.String(64), nullable=False),
    sa.Column("session_id", sa.String(64), nullable=False),
    sa.Column("thread", sa.Text, nullable=False),
    sa.Column("requester", sa.Text, nullable=False),
    sa.Column("worker", sa.Text, nullable=False),
    sa.Column("audience", sa.Text, nullable=False),
    sa.Column("most", sa.Integer, nullable=False),
    sa.Column("granted_by", sa.Text, nullable=False),
    sa.Column("action_id", sa.String(16), nullable=False),
    sa.Column("expires_at", sa.DateTime, nullable=False),
)

_MAY_GO = (
    "OLD.kind <> 'pruned' AND EXISTS (SELECT 1 FROM hms_events p WHERE "
    "p.action_id = OLD.action_id AND p.kind = 'pruned' AND p.seq > OLD.seq)"
)
"""An event may go once the record says that its action is deleted; that record stays."""

_APPEND_ONLY = {
    "sqlite": {
        "hms_events_no_update": "BEFORE UPDATE ON hms_events",
        "hms_events_no_delete": f"BEFORE DELETE ON hms_events WHEN NOT ({_MAY_GO})",
        # REPLACE deletes without the trigger above.
        "hms_events_no_replace": "BEFORE INSERT ON hms_events WHEN EXISTS "
        "(SELECT 1 FROM hms_events e WHERE e.seq = NEW.seq)",
    },
    "postgresql": {
        "hms_events_no_change": "BEFORE UPDATE OR DELETE ON hms_events FOR EACH ROW",
        "hms_events_no_truncate": "BEFORE TRUNCATE ON hms_events FOR EACH STATEMENT",
    },
}
_REFUSE = {
    "sqlite": "BEGIN SELECT RAISE(ABORT, 'events are append-only'); END",
    "postgresql": "EXECUTE FUNCTION hms_events_no_change()",
}
_FUNCTION = (
    "CREATE OR REPLACE FUNCTION hms_events_no_change() RETURNS trigger LANGUAGE plpgsql AS "
    f"$$ BEGIN IF TG_OP = 'DELETE' THEN IF {_MAY_GO} THEN RETURN OLD; END IF; END IF; "
    "RAISE EXCEPTION 'events are append-only'; END $$"
)
_TRIGGERS = {
    "sqlite": "SELECT name FROM sqlite_master WHERE type = 'trigger'",
    "postgresql": "SELECT tgname FROM pg_trigger "
    "WHERE tgrelid = 'hms_events'::regclass AND tgenabled <> 'D'",
}

_TO_VERSION = {
    2: [
        "ALTER TABLE hms_actions ADD COLUMN content VARCHAR(64) NOT NULL DEFAULT ''",
        "ALTER TABLE hms_actions ADD COLUMN told_at TIMESTAMP",
        "CREATE INDEX ix_hms_actions_content ON hms_actions (content)",
        "UPDATE hms_actions SET decided_way = 'grant' WHERE decided_way LIKE 'grant of %'",
        "DELETE FROM hms_grants",  # their audiences were one text; they last half an hour
    ],
    3: ["ALTER TABLE hms_events ADD COLUMN seal VARCHAR(64) NOT NULL DEFAULT ''"],
}
"""What makes a journal of the version before one of this version."""

_ALSO_ON = {
    # SQLite enforces no lengths, and cannot change them.
    ("postgresql", 2): ["ALTER TABLE hms_steps ALTER COLUMN state TYPE VARCHAR(16)"],
}


def prepare(db: sa.Connection) -> None:
    """Create the tables, or bring those of an earlier release up to this one.

    Raises:
        JournalError: see `check`.
    """
    found = check(db)
    if found is None:
        metadata.create_all(db)
        db.execute(versions.insert().values(version=SCHEMA_VERSION))
        _protect_events(db)
    elif found < SCHEMA_VERSION:
        for version in range(found + 1, SCHEMA_VERSION + 1):
            for statement in _TO_VERSION[version] + _ALSO_ON.get((db.dialect.name, version), []):
                db.execute(sa.text(statement))
        exports.create(db)
        for trigger in _protections(db):
            table = " ON hms_events" if db.dialect.name == "postgresql" else ""
            db.exec_driver_sql(f"DROP TRIGGER {trigger}{table}")
        _seal(db)
        _protect_events(db)
        db.execute(versions.update().values(version=SCHEMA_VERSION))


def check(db: sa.Connection) -> int | None:
    """The schema version of the journal; None: there is none yet.

    Raises:
        JournalError: it is of a newer release, or not whole.
    """
    there = set(sa.inspect(db).get_table_names()) & set(metadata.tables)
    if not there:
        return None
    found = db.scalar(sa.select(versions.c.version)) if versions.name in there else None
    if found is not None and found > SCHEMA_VERSION:
        raise JournalError(
            f"The journal has schema version {found}; this release reads {SCHEMA_VERSION}.",
            hint="Use a newer release of hms-active-rooms, or another journal.",
        )
    missing = set(metadata.tables) - there if found == SCHEMA_VERSION else {events.name} - there
    if found == SCHEMA_VERSION and not missing:
        missing = set(_APPEND_ONLY[db.dialect.name]) - _protections(db)
    if found is None or missing:
        raise BrokenRecord(
            f"The journal is not whole: it has no {' and no '.join(sorted(missing) or ['version'])}."
        )
    return int(found)


def _protections(db: sa.Connection) -> set[str]:
    found = set(db.exec_driver_sql(_TRIGGERS[db.dialect.name]).scalars())
    return {name for name in found if name.startswith("hms_events_no_")}


def _protect_events(db: sa.Connection) -> None:
    if db.dialect.name == "postgresql":
        db.exec_driver_sql(_FUNCTION)
    for name, when in _APPEND_ONLY[db.dialect.name].items():
        db.exec_driver_sql(f"CREATE TRIGGER {name} {when} {_REFUSE[db.dialect.name]}")


def _seal(db: sa.Connection) -> None:
    """Seal the rows of a release that did not: those whose events lead to them."""
    for row in db.execute(sa.select(actions)).mappings().all():
        query = sa.select(events).where(events.c.action_id == row["id"]).order_by(events.c.seq)
        told = db.execute(query).mappings().all()
        history = [Event(e["at"], e["kind"], e["by"], e["way"], e["data"]) for e in told]
        with suppress(BrokenRecord):
            if not history_fault(action_of(row, _BEFORE), history):
                last = [event for event in told if event["kind"] in LEADS_TO][-1]
                sealed = events.update().where(events.c.seq == last["seq"])
                db.execute(sealed.values(seal=seal(row, last)))


_BEFORE = datetime.min.replace(tzinfo=UTC)
"""A moment at which no row is late."""
