"""Archives the journal: exports ended actions to a file, and deletes exported actions.

Nothing else is ever deleted. One event of each deleted action stays, so that its id is not used again.
If a replayed graph makes the same call again, nothing is sent.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from io import UnsupportedOperation
from typing import IO, Any

import sqlalchemy as sa

from hms_active_rooms.gate.journal import Journal, records
from hms_active_rooms.gate.journal.records import PRUNED, PRUNES, REQUESTS, Action
from hms_active_rooms.gate.journal.store import Reading, Row, Writing
from hms_active_rooms.gate.journal.tables import actions, asks, events

# Kind of event: the action was exported, with its events up to the number `upto`.
EXPORTED = "exported"

# Why an action is kept; of several reasons for one call, the last counts.
_UNEXPORTED, _RECENT, _BROKEN = 1, 2, 3

_AT_ONCE = 100  # how many calls one transaction prunes, so that other writers do not wait long


@dataclass(frozen=True)
class Pruned:
    """How many actions `Journal.prune` deleted, and how many it kept.

    Args:
        actions: deleted actions.
        left: kept actions, for whatever reason.
        recent: kept actions whose call was sent within the last hour.
        broken: kept actions whose call has a broken record.
    """

    actions: int
    left: int
    recent: int = 0
    broken: int = 0


def export(journal: Journal, file: IO[str], before: datetime, by: str) -> int:
    """Do what `Journal.export` describes, for `journal`."""
    newest, refused_upto, sha256 = dict[str, int](), 0, hashlib.sha256()

    def add(**record: Any) -> None:
        line = json.dumps(record, sort_keys=True, default=datetime.isoformat) + "\n"
        sha256.update(line.encode())
        file.write(line)

    with journal.read() as view:
        for key in _ended(view, before):
            for action, columns in view.revisions(key):
                story, _ = view.story(action.id)
                told, wrong = _events(view, action.id), (story or action).contradiction
                row = columns if wrong else records.row_of(action)
                add(action=row, events=told, steps=view.steps(action.id), contradiction=wrong)
                newest[action.id] = told[-1]["seq"] if told else 0
        for event in _events(view, REQUESTS, events.c.kind != PRUNED, events.c.at < before):
            add(event=event)
            refused_upto = event["seq"]
    end = {"actions": len(newest), "before": before.isoformat(), "sha256": sha256.hexdigest()}
    file.write(json.dumps({"end": end}) + "\n")
    file.flush()
    with suppress(UnsupportedOperation):  # a file in memory
        os.fsync(file.fileno())
    with journal.write() as tx:
        said = {"at": tx.now(), "kind": EXPORTED, "by": by, "way": "archive"}
        rows = [{**said, "action_id": of, "data": {"upto": upto}} for of, upto in newest.items()]
        if rows:
            tx.db.execute(events.insert(), rows)
        tx.note(REQUESTS, EXPORTED, by=by, way="archive", upto=refused_upto, **end)
    return len(newest)


def prune(journal: Journal, before: datetime, by: str) -> Pruned:
    """Do what `Journal.prune` describes, for `journal`."""
    with journal.read() as view:
        calls = _ended(view, before)
    if calls:
        journal.note(PRUNES, PRUNED, by=by, way="archive", before=before.isoformat())
    deleted, kept = 0, Counter[int]()
    for first in range(0, len(calls), _AT_ONCE):
        with journal.write() as tx:
            for key in calls[first : first + _AT_ONCE]:
                revisions = [action for action, _ in tx.revisions(key)]
                if why := max(_why_kept(tx, action) for action in revisions):
                    kept[why] += len(revisions)
                    continue
                for action in revisions:
                    told = {"state": action.state, "digest": action.digest}
                    _delete(tx, action.id, by, told)
                    tx.db.execute(actions.delete().where(actions.c.id == action.id))
                    deleted += 1
    with journal.write() as tx:
        # Delete what belongs to no action: exported events of refused requests, and old questions.
        if upto := _upto(tx, REQUESTS):
            _delete(tx, REQUESTS, by, {}, events.c.seq <= upto)
        old = (asks.c.at < before, ~asks.c.place.startswith(records.KEPT, autoescape=True))
        tx.db.execute(asks.delete().where(*old))
    return Pruned(deleted, kept.total(), kept[_RECENT], kept[_BROKEN])


def _upto(tx: Writing, action_id: str) -> int:
    """The number of an action's last exported event; 0 if there is none."""
    upto = sa.select(sa.func.max(events.c.data["upto"].as_integer()))
    return tx.db.scalar(upto.where(events.c.action_id == action_id, events.c.kind == EXPORTED)) or 0


def _why_kept(tx: Writing, action: Action) -> int:
    """Why the action may not be deleted; 0 if it may."""
    if (tx.story(action.id)[0] or action).contradiction:
        return _BROKEN
    # What was sent lately counts: for the limit of actions a minute, and for a message sent again.
    if action.sent_at is not None and action.sent_at > tx.now() - records.SENT_BEFORE:
        return _RECENT
    newest = sa.select(sa.func.max(events.c.seq))
    newest = newest.where(events.c.action_id == action.id, events.c.kind != EXPORTED)
    # `<=`, since a later export also has the event `EXPORTED` of an earlier one.
    is_exported = 0 < (tx.db.scalar(newest) or 0) <= _upto(tx, action.id)
    return 0 if is_exported else _UNEXPORTED


def _delete(
    tx: Writing, action_id: str, by: str, told: dict[str, str], *which: sa.ColumnElement[bool]
) -> None:
    tx.note(action_id, PRUNED, by=by, way="archive", **told)
    old = (events.c.action_id == action_id, events.c.kind != PRUNED, *which)
    tx.db.execute(events.delete().where(*old))


def _ended(view: Reading, before: datetime) -> list[str]:
    """The keys of calls whose revisions all ended before this time, oldest first."""
    row = actions.c
    over = sa.or_(
        sa.and_(row.state == "expired", row.expires_at < before),
        sa.func.coalesce(row.finished_at, row.decided_at, row.created_at) < before,
    )
    late = sa.and_(row.state.in_(records.UNSENT), row.expires_at < min(before, view.now()))
    has_ended = sa.or_(late, sa.and_(row.state.in_((*records.FINAL, "unknown")), over))
    calls = sa.select(row.call_key).group_by(row.call_key)
    calls = calls.having(sa.func.min(sa.case((has_ended, 1), else_=0)) == 1)
    return [each["call_key"] for each in view.found(calls.order_by(sa.func.min(row.created_at)))]


def _events(view: Reading, action_id: str, *where: sa.ColumnElement[bool]) -> list[Row]:
    which = (events.c.action_id == action_id, *where)
    return view.found(sa.select(events).where(*which).order_by(events.c.seq))
