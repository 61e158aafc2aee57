"""Archiving the journal: finished actions are written to a file, and those in a file can be
deleted. Nothing else is ever deleted. One event of each deleted action stays, so that its id is
never used again: an old call that runs again, as in a replayed graph, is not sent again."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from io import UnsupportedOperation
from typing import IO, Any

import sqlalchemy as sa

from hms_active_rooms.gate.journal.records import FINAL, KEPT, PRUNED, REQUESTS, UNSENT, row_of
from hms_active_rooms.gate.journal.store import Reading, Writing
from hms_active_rooms.gate.journal.tables import actions, asks, events, exports, grants, steps


@dataclass
class Exported:
    """What a file holds: how many actions, its SHA-256, and the newest event of each action."""

    actions: int = 0
    sha256: str = ""
    upto: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Pruned:
    """How many actions were deleted, and how many that ended in time stay: they were not exported,
    changed since, or contradict their events."""

    actions: int
    left: int


def write(view: Reading, file: IO[str], before: datetime) -> Exported:
    """Write the actions that ended before a moment, and flush the file to disk."""
    found, sha256 = Exported(), hashlib.sha256()

    def add(**record: Any) -> None:
        line = json.dumps(record, sort_keys=True, default=datetime.isoformat) + "\n"
        sha256.update(line.encode())
        file.write(line)

    for key in ended(view, before):
        for action, columns in view.revisions(key):
            told, wrong = _events(view, events.c.action_id == action.id), action.contradiction
            row = columns if wrong else row_of(action)
            add(action=row, events=told, steps=view.steps(action.id), contradiction=wrong)
            found.actions += 1
            found.upto[action.id] = max((event["seq"] for event in told), default=0)
    refused = (events.c.action_id == REQUESTS, events.c.kind != PRUNED)
    for event in _events(view, *refused, events.c.at < before):
        add(event=event)
        found.upto[REQUESTS] = event["seq"]
    found.sha256 = sha256.hexdigest()
    end = {"actions": found.actions, "before": before.isoformat(), "sha256": found.sha256}
    file.write(json.dumps({"end": end}) + "\n")
    file.flush()
    with suppress(UnsupportedOperation):  # a file in memory
        os.fsync(file.fileno())
    return found


def exported(tx: Writing, found: Exported, before: datetime, by: str) -> None:
    """Record what the newest export holds, in place of the one before."""
    tx.db.execute(exports.delete())
    if found.upto:
        rows = [{"action_id": action, "upto": upto} for action, upto in found.upto.items()]
        tx.db.execute(exports.insert(), rows)
    said = {"actions": found.actions, "sha256": found.sha256, "before": before.isoformat()}
    tx.note(REQUESTS, "exported", by=by, way="archive", **said)


def prune(tx: Writing, keys: Sequence[str], by: str) -> Pruned:
    """Delete those of these calls whose revisions are all exported as they are now."""
    gone = left = 0
    for key in keys:
        revisions = [action for action, _ in tx.revisions(key)]
        if any(a.contradiction or _newest(tx, a.id) != _upto(tx, a.id) for a in revisions):
            left += len(revisions)
            continue
        for action in revisions:
            _delete(tx, action.id, by, {"state": action.state, "digest": action.digest})
            tx.db.execute(actions.delete().where(actions.c.id == action.id))
            tx.db.execute(steps.delete().where(steps.c.action_id == action.id))
            gone += 1
    return Pruned(gone, left)


def prune_rest(tx: Writing, before: datetime, by: str) -> None:
    """Delete what belongs to no action: exported events of refused requests, and the old places of
    questions and expired grants."""
    if _upto(tx, REQUESTS):
        _delete(tx, REQUESTS, by, {})
    old = (asks.c.at < before, ~asks.c.place.startswith(KEPT, autoescape=True))
    tx.db.execute(asks.delete().where(*old))
    tx.db.execute(grants.delete().where(grants.c.expires_at < before))


def _newest(tx: Writing, action_id: str) -> object:
    return tx.db.scalar(sa.select(sa.func.max(events.c.seq)).where(events.c.action_id == action_id))


def _upto(tx: Writing, action_id: str) -> int | None:
    return tx.db.scalar(sa.select(exports.c.upto).where(exports.c.action_id == action_id))


def _delete(tx: Writing, action_id: str, by: str, told: dict[str, str]) -> None:
    """Delete the exported events of an action. A new event records that, and stays."""
    old = (events.c.action_id == action_id, events.c.seq <= _upto(tx, action_id))
    tx.note(action_id, PRUNED, by=by, way="archive", **told)
    tx.db.execute(events.delete().where(*old, events.c.kind != PRUNED))
    tx.db.execute(exports.delete().where(exports.c.action_id == action_id))


def ended(view: Reading, before: datetime) -> list[str]:
    """The keys of the calls whose every revision ended before a moment, oldest first."""
    row = actions.c
    over = sa.or_(
        sa.and_(row.state == "expired", row.expires_at < before),
        sa.func.coalesce(row.finished_at, row.decided_at, row.created_at) < before,
    )
    late = sa.and_(row.state.in_(UNSENT), row.expires_at < min(before, view.now()))
    has_ended = sa.or_(late, sa.and_(row.state.in_((*FINAL, "unknown")), over))
    calls = sa.select(row.call_key).group_by(row.call_key)
    calls = calls.having(sa.func.min(sa.case((has_ended, 1), else_=0)) == 1)
    return [each["call_key"] for each in view.found(calls.order_by(sa.func.min(row.created_at)))]


def _events(view: Reading, *where: sa.ColumnElement[bool]) -> list[dict[str, Any]]:
    return view.found(sa.select(events).where(*where).order_by(events.c.seq))
