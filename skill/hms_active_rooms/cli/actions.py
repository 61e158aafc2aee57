"""`actions`, `actions show`, `approve` and `reject`: the journal in a person's hands."""

from __future__ import annotations

import os
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any, get_args

import typer

from hms_active_rooms.api.ids import parse_room_id
from hms_active_rooms.cli import exits, screen
from hms_active_rooms.cli.options import Action, All, Journal, Json, PolicyFile
from hms_active_rooms.cli.screen import at, time_left
from hms_active_rooms.cli.settings import (
    Settings,
    open_gate,
    open_journal,
    person_here,
)
from hms_active_rooms.errors import ConfigurationError, InvalidCall
from hms_active_rooms.untrusted import quoted, shortened

if TYPE_CHECKING:
    from hms_active_rooms.gate.journal import Journal as Book
    from hms_active_rooms.gate.journal import records

_LISTED_PEOPLE = 3
"""Of each action in a list, which leaves out its question: that names up to 50."""

_POLL_S = 0.2

Before = Annotated[
    str, typer.Option("--before", metavar="DATE", help="A date, or a time with its zone.")
]


def actions(
    ctx: typer.Context,
    state: Annotated[str | None, typer.Option(help="Only this state, e.g. proposed.")] = None,
    room: Annotated[str | None, typer.Option(metavar="ROOM", help="Only this room.")] = None,
    limit: Annotated[int, typer.Option(help="Rows to show.")] = 20,
    refused: Annotated[
        bool,
        typer.Option(
            "--refused", help="List HTTP requests that a server refused, instead of actions."
        ),
    ] = False,
    json: Json = False,
    journal: Journal = None,
) -> None:
    """List actions: what was asked, decided and done. `actions show ID` for one."""
    if ctx.invoked_subcommand is not None:
        return
    if limit < 1:
        raise InvalidCall("--limit must be at least 1.", hint="")
    wanted, room_id = _state(state), parse_room_id(room) if room is not None else None
    settings = Settings(journal)
    with open_journal(settings) as book, book.read() as reading:
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
        raise InvalidCall(f"{quoted(text)} is no state.", hint=f"States: {', '.join(known)}.")
    return None if text is None else known[text]


def _show_refused(found: list[records.Event], *, as_json: bool) -> None:
    if as_json:
        screen.document({"refused": [_event(event) for event in found]})
    for line in () if as_json else [_event_line(event) for event in found]:
        screen.out(line)
    if not found and not as_json:
        screen.err("No request was refused.")


def _cells(action: records.Action, now: datetime) -> tuple[str, ...]:
    """One line of a list of actions."""
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
    action: Action,
    wait: Annotated[
        float | None,
        typer.Option(
            metavar="SECONDS",
            help="Wait up to SECONDS for the action to end; the exit code then says how it ended.",
        ),
    ] = None,
    all: All = False,
    json: Json = False,
    journal: Journal = None,
) -> int:
    """Show one action and everything that happened to it."""
    if all:
        screen.refuse_a_terminal()
    if wait is not None and not 0 <= wait <= 86_400:
        raise InvalidCall("--wait takes seconds, from 0 to 86400.", hint="")
    settings = Settings(journal)
    with open_journal(settings) as book:
        row = _existing(book, action)
        if wait is not None:
            row = _awaited(book, row, wait)
        newest = book.latest(row.call_key) or row
        events, now = book.events(row.id), book.now()
    code = exits.DONE if wait is None else exits.of_state(row.state)
    if all or json:
        shown = {**_document(row, whole=all), "events": [_event(e) for e in events]}
        screen.document({**shown, "newest": newest.id})
        return code
    from hms_active_rooms.gate.wording import describe, outcome

    values = {
        "Action": row.id,
        "State": ", ".join(filter(None, (row.state, _left(row, now)))),
        "What": describe(row),
        "Asked by": f"{quoted(row.requester)} at {at(row.created_at)}",
    }
    if row.decided_by:
        values["Decided"] = f"by {quoted(row.decided_by)}, way {quoted(row.decided_way)}"
    if row.state not in ("proposed", "approved"):
        values["Outcome"] = screen.told(outcome(row))
    if newest.id != row.id:
        values["Went on as"] = f"{newest.id} ({newest.state})"
    screen.fields(values)
    screen.out("Events")
    for event in events:
        screen.out("  " + _event_line(event))
    return code


def _document(row: records.Action, *, whole: bool) -> dict[str, Any]:
    """The view of an action; whole: with everybody it hits, and with the journal's other columns."""
    from hms_active_rooms.gate.journal.records import row_of
    from hms_active_rooms.gate.view import view

    if not whole:
        return view(row).model_dump(mode="json")
    columns = {name: _plain(value) for name, value in row_of(row).items()}
    return {**columns, **view(row, people=None).model_dump(mode="json")}


def _awaited(journal: Book, action: records.Action, wait_s: float) -> records.Action:
    """The newest revision once it has ended, or as it is when the time is over."""
    until = time.monotonic() + wait_s
    while True:
        action = journal.latest(action.call_key) or action
        left_s = until - time.monotonic()
        if action.ended or left_s <= 0:
            return action
        time.sleep(min(_POLL_S, left_s))


def approve(
    action: Action, json: Json = False, journal: Journal = None, policy: PolicyFile = None
) -> int:
    """Decide on an action that waits, and run it. Needs a person at a terminal."""
    from hms_active_rooms.cli.person import somebody_here

    if not somebody_here():
        raise ConfigurationError(
            "Approving needs a person at a terminal; nothing was decided.",
            hint="Run this command in a terminal, without pipes. Rejecting works anywhere: reject.",
        )
    from hms_active_rooms.cli.changing import ask_here, report
    from hms_active_rooms.gate.journal.records import FINAL
    from hms_active_rooms.gate.wording import already

    settings = Settings(journal, policy)
    with open_journal(settings) as book:
        row = _existing(book, action)
    if row.state in FINAL:
        if words := already(row):
            screen.err(words)
        return report(row, as_json=json)
    with open_gate(settings, row.room_id) as gate:
        notices = [f"Asked by {quoted(row.requester)} at {at(row.created_at)}."]
        if row.state == "approved":
            notices.append(f"Approved already by {quoted(row.decided_by)}, and not sent yet.")
        return ask_here(gate, row, as_json=json, notices=notices)


def reject(
    action: Action,
    reason: Annotated[str, typer.Option(metavar="TEXT", help="Why; whoever asked is told.")] = "",
    json: Json = False,
    journal: Journal = None,
) -> int:
    """Say no to an action that waits. Works without a terminal."""
    from hms_active_rooms.gate.approval import Reject
    from hms_active_rooms.gate.deciding import decide
    from hms_active_rooms.gate.policy import Policy
    from hms_active_rooms.gate.wording import already, outcome

    settings = Settings(journal)
    with open_journal(settings) as book:
        wanted, no = _existing(book, action).id, Reject(reason)
        # A no reads no room and sends nothing, so the journal alone is enough.
        with book.write() as tx:
            decided = decide(tx, wanted, no, by=person_here(), way="terminal", policy=Policy())
    row = decided.action
    if json:
        screen.document(_document(row, whole=False))
    elif decided.counted:
        screen.out(f"Rejected: nothing was sent and nothing will be (action {row.id}).")
    else:
        words = ["Too late to reject.", already(row), outcome(row)]
        screen.err(" ".join(filter(None, words)))
    if row.state in ("rejected", "expired"):
        return exits.DONE
    return exits.UNKNOWN if row.state in ("sent", "unknown") else exits.FAILED


def export(
    file: Annotated[str, typer.Argument(metavar="FILE", help="A new file, for JSON Lines.")],
    before: Before,
    json: Json = False,
    journal: Journal = None,
) -> None:
    """Write every action that ended before a moment to a file, whole. Deletes nothing."""
    moment, settings = _moment(before), Settings(journal)
    with open_journal(settings) as book:
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
        screen.out(f"Wrote {count:,} actions to {quoted(file, 200)}.")


def prune(before: Before, json: Json = False, journal: Journal = None) -> None:
    """Delete what ended before a moment, was exported, and did not change since."""
    moment, settings = _moment(before), Settings(journal)
    with open_journal(settings) as book:
        pruned = book.prune(before=moment, by=person_here())
    if json:
        screen.document({"deleted": pruned.actions, "left": pruned.left})
        return
    screen.out(f"Deleted {pruned.actions:,} actions from the journal {book.place}.")
    if pruned.left:
        screen.err(f"{pruned.left:,} more ended by then, and are not exported as they are now.")


def _moment(text: str) -> datetime:
    """A date or a time as a person types it, in their own time zone unless it says another."""
    try:
        return datetime.fromisoformat(text).astimezone(UTC)
    except (ValueError, OverflowError):
        raise InvalidCall(
            f"{quoted(text, 60)} is no date.", hint="As 2026-11-01, or 2026-11-01T18:00+01:00."
        ) from None


def _existing(journal: Book, action_id: str) -> records.Action:
    action = journal.get(action_id.strip().lower())
    if action is None:
        raise InvalidCall(
            f"There is no action {quoted(action_id)} in the journal {journal.place}.",
            hint="List them with: hms-active-rooms actions",
        )
    return action


def _event(event: records.Event) -> dict[str, Any]:
    return {name: _plain(value) for name, value in event.__dict__.items()}


def _event_line(event: records.Event) -> str:
    """One event in one line."""
    by = f" by {shortened(event.by, 60)}" if event.by else ""
    way = f" ({shortened(event.way, 60)})" if event.way else ""
    shown = {k: v for k, v in event.data.items() if v not in ("", None) and k != "digest"}
    data = ", ".join(f"{k} {quoted(str(v), 200)}" for k, v in shown.items())
    return f"{at(event.at)}  {event.kind}{by}{way}" + (f": {data}" if data else "")


def _plain(value: object) -> object:
    """A moment as text; the database holds UTC without saying so."""
    if isinstance(value, datetime):
        return value.replace(tzinfo=UTC).isoformat()
    return value
