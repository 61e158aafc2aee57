"""The journal's tables, and the migration of an older journal to this release."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa

from hms_active_rooms.errors import BrokenRecord, JournalError
from hms_active_rooms.gate.journal import records

SCHEMA_VERSION = 5

# --- types ----------------------------------------------------------------------------------------


class _Moment(sa.TypeDecorator[datetime]):
    impl = sa.DateTime
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: sa.Dialect) -> datetime | None:
        return value and value.astimezone(UTC).replace(tzinfo=None)

    def process_result_value(self, value: datetime | None, dialect: sa.Dialect) -> datetime | None:
        return value and value.replace(tzinfo=UTC)

    def result_processor(self, dialect: sa.Dialect, coltype: object) -> Any:
        return _lenient(super().result_processor(dialect, coltype), lambda _: records.NO_TIME)


class _Json(sa.TypeDecorator[Any]):
    impl = sa.JSON(none_as_null=True)
    cache_ok = True

    def result_processor(self, dialect: sa.Dialect, coltype: object) -> Any:
        read = super().result_processor(dialect, coltype)
        return _lenient(read, lambda value: {"unreadable": str(value)})


def _lenient(read: Any, instead: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Make a column reader that never fails, so that a wrong value does not hide the other rows."""

    def read_or_stand_in(value: Any) -> Any:
        try:
            return read(value) if read else value
        except (ValueError, TypeError, AttributeError, RecursionError):
            return instead(value)

    return read_or_stand_in


# --- tables ---------------------------------------------------------------------------------------

metadata = sa.MetaData()


def _columns(kind: Any, *names: str, **more: Any) -> list[sa.Column[Any]]:
    return [sa.Column(name, kind, **{"nullable": False, **more}) for name in names]


versions = sa.Table(
    "hms_journal",
    metadata,
    *_columns(sa.Integer, "version", primary_key=True),
    *_columns(sa.String(64), "key_check", server_default=""),
)
"""`key_check` tells whether a key is the journal's key; "" if the journal has none."""

actions = sa.Table(
    "hms_actions",
    metadata,
    *_columns(sa.String(16), "id", primary_key=True),
    *_columns(sa.String(64), "call_key", "tool", "digest"),
    *_columns(sa.String(64), "content", server_default="", index=True),
    *_columns(sa.String(64), "room_id", index=True),
    *_columns(sa.Text, "thread", index=True),
    *_columns(sa.Text, "requester", "note", "reason", "decided_by", "decided_way", "worker"),
    *_columns(sa.Text, "granted_in", server_default=""),
    *_columns(sa.Integer, "revision"),
    *_columns(sa.String(8), "gate"),
    *_columns(sa.String(12), "state", index=True),
    *_columns(sa.String(16), "edited_from", nullable=True),
    *_columns(_Json, "arguments", "result"),
    *_columns(_Json, "impact", "steps", nullable=True),
    *_columns(_Moment, "created_at", index=True),
    *_columns(_Moment, "expires_at"),
    *_columns(_Moment, "sent_at", nullable=True, index=True),
    *_columns(_Moment, "decided_at", "lease_until", "finished_at", "told_at", nullable=True),
    sa.UniqueConstraint("call_key", "revision"),
)

events = sa.Table(
    "hms_events",
    metadata,
    *_columns(sa.Integer, "seq", primary_key=True, autoincrement=True),
    *_columns(sa.String(16), "action_id", index=True),
    *_columns(_Moment, "at"),
    *_columns(sa.String(24), "kind"),
    *_columns(sa.Text, "by", "way"),
    *_columns(_Json, "data"),
    *_columns(sa.String(64), "seal", server_default=""),
)
"""`seal` is the value of `records.seal`; "" for an event that changes no state."""

asks = sa.Table(
    "hms_asks",
    metadata,
    *_columns(sa.Text, "place", primary_key=True),
    *_columns(_Json, "items"),
    *_columns(_Moment, "at"),
)

# --- what the database itself refuses -------------------------------------------------------------

_MAY_GO = (
    "OLD.kind <> 'pruned' AND EXISTS (SELECT 1 FROM hms_events p WHERE "
    "p.action_id = OLD.action_id AND p.kind = 'pruned' AND p.seq > OLD.seq)"
)
"""SQL: the event may be deleted, because a later event "pruned" of the same action stays."""

_IS_THERE = "EXISTS (SELECT 1 FROM hms_events e WHERE e.seq = NEW.seq)"

_UNSEALED = (
    f"NEW.seal = '' AND NEW.action_id <> '{records.REQUESTS}' AND NEW.kind IN "
    f"({', '.join(map(repr, records.LEADS_TO))})"
)
"""SQL: the event changes a state but has no seal. Only an earlier release writes such events."""

_NEWER = "the journal is of a newer release"


def _abort(text: str) -> str:
    return f"BEGIN SELECT RAISE(ABORT, '{text}'); END"


_APPEND_ONLY = _abort("events are append-only")
_FUNCTION = "EXECUTE FUNCTION hms_events_no_change()"
_TRIGGERS = {
    "sqlite": {
        "hms_events_no_update": f"BEFORE UPDATE ON hms_events {_APPEND_ONLY}",
        "hms_events_no_delete": f"BEFORE DELETE ON hms_events WHEN NOT ({_MAY_GO}) {_APPEND_ONLY}",
        # INSERT OR REPLACE deletes a row without firing the trigger above.
        "hms_events_no_replace": f"BEFORE INSERT ON hms_events WHEN {_IS_THERE} {_APPEND_ONLY}",
        "hms_events_no_seal": f"BEFORE INSERT ON hms_events WHEN {_UNSEALED} {_abort(_NEWER)}",
    },
    "postgresql": {
        "hms_events_no_change": f"BEFORE UPDATE OR DELETE ON hms_events FOR EACH ROW {_FUNCTION}",
        "hms_events_no_truncate": f"BEFORE TRUNCATE ON hms_events FOR EACH STATEMENT {_FUNCTION}",
        "hms_events_no_seal": f"BEFORE INSERT ON hms_events FOR EACH ROW {_FUNCTION}",
    },
}
_POSTGRESQL_FUNCTION = f"""
CREATE OR REPLACE FUNCTION hms_events_no_change() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
IF TG_OP = 'INSERT' THEN
    IF {_UNSEALED} THEN RAISE EXCEPTION '{_NEWER}'; END IF;
    RETURN NEW;
END IF;
IF TG_OP = 'DELETE' THEN IF {_MAY_GO} THEN RETURN OLD; END IF; END IF;
RAISE EXCEPTION 'events are append-only'; END $$
"""
_FOUND_TRIGGERS = {
    "sqlite": "SELECT name FROM sqlite_master WHERE type = 'trigger'",
    "postgresql": "SELECT tgname FROM pg_trigger "
    "WHERE tgrelid = 'hms_events'::regclass AND tgenabled IN ('O', 'A')",
}


def _triggers(db: sa.Connection) -> set[str]:
    found = set(db.exec_driver_sql(_FOUND_TRIGGERS[db.dialect.name]).scalars())
    return {name for name in found if name.startswith("hms_events_no_")}


def _protect_events(db: sa.Connection) -> None:
    if db.dialect.name == "postgresql":
        db.exec_driver_sql(_POSTGRESQL_FUNCTION)
    for name, rest in _TRIGGERS[db.dialect.name].items():
        db.exec_driver_sql(f"CREATE TRIGGER {name} {rest}")


# --- made, brought up to date, checked ------------------------------------------------------------

_FROM_0_1_0 = [
    "ALTER TABLE hms_actions ADD COLUMN content VARCHAR(64) NOT NULL DEFAULT ''",
    "ALTER TABLE hms_actions ADD COLUMN told_at TIMESTAMP",
    "CREATE INDEX ix_hms_actions_content ON hms_actions (content)",
    "UPDATE hms_actions SET decided_way = 'grant' WHERE decided_way LIKE 'grant of %'",
    "ALTER TABLE hms_events ADD COLUMN seal VARCHAR(64) NOT NULL DEFAULT ''",
    "ALTER TABLE hms_journal ADD COLUMN key_check VARCHAR(64) NOT NULL DEFAULT ''",
    "ALTER TABLE hms_actions ADD COLUMN granted_in TEXT NOT NULL DEFAULT ''",
    "DROP TABLE hms_grants",  # a grant lasts half an hour, so none is lost
    "ALTER TABLE hms_actions ADD COLUMN steps JSON",
    "UPDATE hms_actions SET steps = (SELECT json_group_object(peer_id, state) FROM hms_steps "
    "WHERE hms_steps.action_id = hms_actions.id)",
    "DROP TABLE hms_steps",
]


def prepare(db: sa.Connection, key: bytes) -> bool:
    """Create the tables, or update those of an earlier release. Return True if there were none. `key` signs
    the records; b"" for no signature."""
    found = check(db, key)
    if found is None:
        metadata.create_all(db, checkfirst=False)
        db.execute(versions.insert().values(version=SCHEMA_VERSION))
        _protect_events(db)
    elif found < SCHEMA_VERSION:
        on_postgresql = db.dialect.name == "postgresql"
        for statement in _FROM_0_1_0:
            aggregate = "json_object_agg" if on_postgresql else "json_group_object"
            db.execute(sa.text(statement.replace("json_group_object", aggregate)))
        for trigger in _triggers(db):
            db.exec_driver_sql(f"DROP TRIGGER {trigger}{on_postgresql * ' ON hms_events'}")
        _seal(db)
        _protect_events(db)
        db.execute(versions.update().values(version=SCHEMA_VERSION))
    if key and not is_bound(db):
        db.execute(versions.update().values(key_check=_key_check(key)))
    return found is None


def is_bound(db: sa.Connection) -> bool:
    """Return whether the journal has a key."""
    return bool(db.scalar(sa.select(versions.c.key_check)))


def check(db: sa.Connection, key: bytes) -> int | None:
    """Return the schema version of the journal, or None if there is no journal yet. Raises JournalError if
    this release cannot use the journal, or if it has another key."""
    there = set(sa.inspect(db).get_table_names()) & set(metadata.tables)
    if not there:
        return None
    found = db.scalar(sa.select(versions.c.version)) if versions.name in there else None
    if found is not None and found >= SCHEMA_VERSION:
        check_still(db, key)
    missing = set(metadata.tables) - there if found == SCHEMA_VERSION else {events.name} - there
    if found == SCHEMA_VERSION and not missing:
        missing = set(_TRIGGERS[db.dialect.name]) - _triggers(db)
    if found is None or missing:
        raise BrokenRecord(
            f"The journal is not whole: it has no {' and no '.join(sorted(missing) or ['version'])}."
        )
    return int(found)


def check_still(db: sa.Connection, key: bytes) -> None:
    """Raise JournalError if a newer release has migrated the journal, or if its key is another one."""
    cursor = db.connection.cursor()  # far quicker than by SQLAlchemy
    cursor.execute("SELECT version, key_check FROM hms_journal")
    version, known = cursor.fetchone() or (0, "")
    if version > SCHEMA_VERSION:
        raise JournalError(
            f"The journal has schema version {version}. This release reads versions up to {SCHEMA_VERSION}.",
            hint="Use a newer release of hms-active-rooms, or another journal.",
        )
    if known and known != _key_check(key):
        raise JournalError(
            f"The journal is signed with {'another' if key else 'a'} key, so it cannot be checked.",
            hint="Set HMS_JOURNAL_KEY to the key with which the journal was begun.",
        )


def _key_check(key: bytes) -> str:
    return records.sealed(key, journal="hms-active-rooms")


def _seal(db: sa.Connection) -> None:
    """Seal the actions of an earlier release, except those that contradict their events."""
    for row in db.execute(sa.select(actions)).mappings().all():
        query = sa.select(events).where(events.c.action_id == row["id"]).order_by(events.c.seq)
        told = db.execute(query).mappings().all()
        history = [records.Event(e["at"], e["kind"], e["by"], e["way"], e["data"]) for e in told]
        action = records.action_of(row, row["decided_at"] or row["created_at"])
        if not action.contradiction and not records.history_fault(action, history):
            last = [event for event in told if event["kind"] in records.LEADS_TO][-1]
            sealing = events.update().where(events.c.seq == last["seq"])
            db.execute(sealing.values(seal=records.seal(b"", row, last)))
