"""`actions`: the journal in a person's hands: the list, one action, the archive."""

from __future__ import annotations

import os
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any, get_args

import typer

from hms_active_rooms.api.ids import parse_room_id
from hms_active_rooms.cli import exits, screen
from hms_active_rooms.cli.screen import at, time_left
from hms_active_rooms.cli.settings import (
    ActionId,
    All,
    JournalUrl,
    Json,
    Settings,
    existing,
    open_journal,
    person_here,
    refuse_idle,
)
from hms_active_rooms.errors import ConfigurationError, InvalidCall
from hms_active_rooms.untrusted import quoted, shortened

if TYPE_CHECKING:
    from hms_active_rooms.gate.journal import records

_LISTED_PEOPLE = 3
"""Of each action in a list, which leaves out its question: that names up to 50."""

_POLL_S = 0.2

Before = Annotated[
    str,
    typer.Option(
        "--before",
        metavar="DATE",
        help="A date in your time zone (2026-11-01), or a time (2026-11-01T18:00+01:00).",
    ),
]


def actions(
    ctx: typer.Context,
    state: Annotated[str | None, typer.Option(help="Only this state, e.g. proposed.")] = None,
    room: Annotated[str | None, typer.Option(metavar="ROOM", help="Only this room.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=1_000_000, help="Rows to show.")] = 20,
    refused: Annotated[
        bool,
        typer.Option(
            "--refused", help="List the HTTP requests that serve and mcp refused, not actions."
        ),
    ] = False,
    json: Json = False,
    journal: JournalUrl = None,
) -> None:
    """List actions: what was asked, decided and done. `actions show ID` for one."""
    if ctx.invoked_subcommand is not None:
        refuse_idle(ctx, ctx.invoked_subcommand)
        return
    if refused:
        refuse_idle(ctx, "--refused", "state", "room")
    wanted, room_id = _state(state), parse_room_id(room) if room is not None else None
    with open_journal(Settings(journal=journal)) as book, book.read() as reading:
        if refused:
            _show_refused(reading.refused_requests(limit=limit), as_json=json)
            return
        rows = reading.actions(state=wanted, room_id=room_id, limit=limit)
        now = reading.now()
    if json:
        from hms_active_rooms.gate.view import view

        views = [view(row, people=_LISTED_PEOPLE) for row in rows]
        told = [one.model_dump(mode="json", exclude={"question"}) for one in views]
        screen.document({"actions": told})
    elif rows:
        heads = ("ACTION", "STATE", "WHAT", "WHOM", "ROOM", "ASKED BY", "WHEN")
        screen.table(heads, [_cells(row, now) for row in rows])
    else:
        which = "no such actions" if state or room else "no actions"
        screen.err(f"There are {which} in the journal {book.place}.")


def _state(text: str | None) -> records.State | None:
    from hms_active_rooms.gate.journal.records import State

    known: dict[str, State] = {state: state for state in get_args(State)}
    if text is not None and text not in known:
        raise InvalidCall(
            f"--state {quoted(text)} is no state.", hint=f"States: {', '.join(known)}."
        )
    return None if text is None else known[text]


def _show_refused(found: list[records.Event], *, as_json: bool) -> None:
    if as_json:
        screen.document({"refused": [_event(event) for event in found]})
        return
    for event in found:
        screen.out(_event_line(event))
    if not found:
        screen.err("No request was refused.")


def _cells(action: records.Action, now: datetime) -> tuple[str, ...]:
    return (
        action.id,
        f"{action.state} ({left})" if (left := _left(action, now)) else action.state,
        action.tool.removeprefix("hms-"),
        action.impact.whom() if action.impact else "nobody: refused",
        action.room_id,
        shortened(action.requester, 30),
        at(action.created_at),
    )


def _left(action: records.Action, now: datetime) -> str:
    return time_left(action.expires_at, now) if action.state == "proposed" else ""


def show(
    action: ActionId,
    wait: Annotated[
        float | None,
        typer.Option(
            metavar="SECONDS",
            help="Wait up to SECONDS for the action to end; the exit code then says how it ended.",
        ),
    ] = None,
    all: All = False,
    json: Json = False,
    journal: JournalUrl = None,
) -> int:
    """Show one action and everything that happened to it."""
    from hms_active_rooms.gate.journal.records import row_of
    from hms_active_rooms.gate.view import view
    from hms_active_rooms.gate.wording import decider, describe, outcome

    if all:
        screen.refuse_a_terminal()
    if wait is not None and not 0 <= wait <= 86_400:
        raise InvalidCall("--wait takes seconds, from 0 to 86400.", hint="")
    with open_journal(Settings(journal=journal)) as book:
        row, until = existing(book, action), time.monotonic() + (wait or 0)
        while wait is not None:
            row = book.latest(row.call_key) or row
            left_s = until - time.monotonic()
            if row.ended or left_s <= 0:
                break
            time.sleep(min(_POLL_S, left_s))
        newest = book.latest(row.call_key) or row
        events, now = book.events(row.id), book.now()
    code = exits.DONE if wait is None else exits.of_state(row.state)
    if all or json:
        # Whole: with everybody it hits, and with the journal's other columns.
        columns = {name: _plain(value) for name, value in row_of(row).items()} if all else {}
        shown = view(row, people=None) if all else view(row)
        told = [_event(event) for event in events]
        document = {**columns, **shown.model_dump(mode="json"), "events": told}
        screen.document({**document, "newest": newest.id})
        return code
    values = {
        "Action": row.id,
        "State": ", ".join(filter(None, (row.state, _left(row, now)))),
        "What": describe(row),
        "Asked by": f"{quoted(row.requester)} at {at(row.created_at)}",
    }
    if decided := decider(row):
        values["Decided"] = decided
    if row.state not in ("proposed", "approved"):
        values["Outcome"] = screen.told(outcome(row))
    if newest.id != row.id:
        values["Went on as"] = f"{newest.id} ({newest.state})"
    screen.fields(values)
    screen.out("Events")
    for event in events:
        screen.out("  " + _event_line(event))
    return code


def export(
    file: Annotated[
        str, typer.Argument(metavar="FILE", help="A new file; one JSON object a line.")
    ],
    before: Before,
    json: Json = False,
    journal: JournalUrl = None,
) -> None:
    """Write every action that ended before DATE to a file, in full. Deletes nothing."""
    moment = _moment(before)
    if file == "-":
        raise InvalidCall("- would be a file of that name.", hint="Name a new file.")
    with open_journal(Settings(journal=journal)) as book:
        try:
            new = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(new, "w", encoding="utf-8") as lines:
                count = book.export(lines, before=moment, by=person_here())
        except OSError as error:
            raise ConfigurationError(
                f"{quoted(file, 200)} cannot be written: {error.strerror or error}.",
                hint="Name a new file: an old one is never replaced.",
            ) from None
    if json:
        screen.document({"file": file, "actions": count})
    else:
        screen.out(f"Wrote {count:,} action{'s' if count != 1 else ''} to {quoted(file, 200)}.")


def prune(before: Before, json: Json = False, journal: JournalUrl = None) -> None:
    """Delete exported actions from the journal.

    It deletes those that ended before DATE and did not change since they were exported.
    """
    moment = _moment(before)
    with open_journal(Settings(journal=journal)) as book:
        pruned = book.prune(before=moment, by=person_here())
    if json:
        screen.document({"deleted": pruned.actions, "left": pruned.left})
        return
    screen.out(
        f"Deleted {pruned.actions:,} action{'s' if pruned.actions != 1 else ''} from the journal {book.place}."
    )
    if pruned.left:
        export = Settings(journal=journal).command("actions", "export", "FILE", "--before", before)
        screen.err(
            f"{pruned.left:,} more ended before that, but were not exported, or changed since. "
            f"Export them first: {export}"
        )


def _moment(text: str) -> datetime:
    """In the person's own time zone unless the text names another."""
    try:
        return datetime.fromisoformat(text).astimezone(UTC)
    except (ValueError, OverflowError):
        raise InvalidCall(
            f"--before {quoted(text, 60)} is no date.",
            hint="Write it like 2026-11-01 or 2026-11-01T18:00+01:00.",
        ) from None


def _event(event: records.Event) -> dict[str, Any]:
    return {name: _plain(value) for name, value in event.__dict__.items()}


def _event_line(event: records.Event) -> str:
    from hms_active_rooms.gate.journal.records import who

    by = f" by {shortened(name, 60)}" if (name := who(event.by, event.way)) else ""
    way = f" ({shortened(event.way, 60)})" if event.way else ""
    shown = {k: v for k, v in event.data.items() if v not in ("", None) and k != "digest"}
    data = ", ".join(f"{k} {quoted(str(v), 200)}" for k, v in shown.items())
    return f"{at(event.at)}  {event.kind}{by}{way}" + (f": {data}" if data else "")


def _plain(value: object) -> object:
    # The database holds UTC without saying so.
    return value.replace(tzinfo=UTC).isoformat() if isinstance(value, datetime) else value
