"""Archiving the journal: finished actions are written to a file, whole, and deleted once they are
in one. Nothing else is ever deleted, and one event stays of each action: its id is never used
again, so a call of then that is run again is not sent again."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from io import UnsupportedOperation
from typing import IO, TYPE_CHECKING, Any

import sqlalchemy as sa

from hms_active_rooms.errors import BrokenRecord
from hms_active_rooms.gate.journal.records import KEPT, PRUNED, REQUESTS, Action, naive, row_of
from hms_active_rooms.gate.journal.tables import actions, asks, events, exports, grants, steps

if TYPE_CHECKING:
    from hms_active_rooms.gate.journal.store import Reading, Writing


@dataclass
class Exported:
    """What a file holds: the number of its actions, its SHA-256, and the newest event of each."""

    actions: int = 0
    sha256: str = ""
    upto: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Pruned:
    """How many actions were deleted, and how many that ended in time are left: not exported,
    changed since, or contradicting their events."""

    actions: int
    left: int


def write(view: Reading, file: IO[str], before: datetime) -> Exported:
    """Write what ended before a moment, and flush it to disk."""
    found, sha256 = Exported(), hashlib.sha256()

    def add(record: dict[str, Any]) -> None:
        line = json.dumps(record, sort_keys=True, default=datetime.isoformat) + "\n"
        sha256.update(line.encode())
        file.write(line)

    for key in ended(view, before):
        for action in view.revisions(key):
            told = _events(view, events.c.action_id == action.id)
            record = {"action": row_of(action), "events": told, "steps": view.steps(action.id)}
            add(record | {"contradiction": action.contradiction})
            found.actions += 1
            found.upto[action.id] = max((event["seq"] for event in told), default=0)
    refused = (events.c.action_id == REQUESTS, events.c.kind != PRUNED)
    for event in _events(view, *refused, events.c.at < naive(before)):
        add({"event": event})
        found.upto[REQUESTS] = event["seq"]
    found.sha256 = sha256.hexdigest()
    end = {"actions": found.actions, "before": before.isoformat(), "sha256": found.sha256}
    file.write(json.dumps({"end": end}) + "\n")
    file.flush()
    with suppress(UnsupportedOperation):  # a text in memory
        os.fsync(file.fileno())
    return found


def exported(tx: Writing, found: Exported, before: datetime, by: str) -> None:
    """Record what the newest file holds."""
    tx.db.execute(exports.delete())
    if found.upto:
        rows = [{"action_id": action, "upto": upto} for action, upto in found.upto.items()]
        tx.db.execute(exports.insert(), rows)
    said = {"actions": found.actions, "sha256": found.sha256, "before": before.isoformat()}
    tx.note(REQUESTS, "exported", by=by, way="archive", **said)


def prune(tx: Writing, keys: Sequence[str], by: str) -> Pruned:
    """Delete those of the calls that were exported as they are."""
    gone = left = 0
    for key in keys:
        revisions = tx.revisions(key)
        if not all(action.ended and _is_exported(tx, action) for action in revisions):
            left += len(revisions)
            continue
        for action in revisions:
            told = {"state": action.state, "digest": action.digest}
            _delete(tx, action.id, by, told)
            tx.db.execute(actions.delete().where(actions.c.id == action.id))
            tx.db.execute(steps.delete().where(steps.c.action_id == action.id))
            gone += 1
    return Pruned(gone, left)


def prune_rest(tx: Writing, before: datetime, by: str) -> None:
    """Delete what belongs to no action: refused requests that were exported, old questions'
    places and grants."""
    if _upto(tx, REQUESTS):
        _delete(tx, REQUESTS, by, {})
    old = (asks.c.at < naive(before), ~asks.c.place.startswith(KEPT, autoescape=True))
    tx.db.execute(asks.delete().where(*old))
    tx.db.execute(grants.delete().where(grants.c.expires_at < naive(before)))


def _is_exported(tx: Writing, action: Action) -> bool:
    newest = sa.select(sa.func.max(events.c.seq)).where(events.c.action_id == action.id)
    return not action.contradiction and tx.db.scalar(newest) == _upto(tx, action.id)


def _upto(tx: Writing, action_id: str) -> int:
    upto = sa.select(exports.c.upto).where(exports.c.action_id == action_id)
    return tx.db.scalar(upto) or -1


def _delete(tx: Writing, action_id: str, by: str, told: dict[str, str]) -> None:
    """Delete the events that were exported; the one that says so stays."""
    old = (events.c.action_id == action_id, events.c.seq <= _upto(tx, action_id))
    tx.note(action_id, PRUNED, by=by, way="archive", **told)
    tx.db.execute(events.delete().where(*old, events.c.kind != PRUNED))
    tx.db.execute(exports.delete().where(exports.c.action_id == action_id))


def ended(view: Reading, before: datetime) -> list[str]:
    """The calls whose every revision ended before a moment and can be read, oldest first."""
    calls = sa.select(actions.c.call_key).group_by(actions.c.call_key)
    calls = calls.having(sa.func.max(actions.c.created_at) < naive(before))
    found = []
    for key in view.db.scalars(calls.order_by(sa.func.min(actions.c.created_at))).all():
        with suppress(BrokenRecord):
            if all(a.ended and a.ended_at < before for a in view.revisions(key)):
                found.append(key)
    return found


def _events(view: Reading, *where: sa.ColumnElement[bool]) -> list[dict[str, Any]]:
    found = view.db.execute(sa.select(events).where(*where).order_by(events.c.seq))
    return [dict(row) for row in found.mappings()]
