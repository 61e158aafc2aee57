"""The commands `actions`, `approve` and `reject`."""

from __future__ import annotations

import os
import time
from contextlib import ExitStack
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

from typer import Argument, Context, Option

from hms_active_rooms import blocking
from hms_active_rooms.api.ids import parse_room_id
from hms_active_rooms.cli import options, screen
from hms_active_rooms.cli.main import BY_STATE, DONE, FAILED, exit_code
from hms_active_rooms.cli.screen import at, time_left
from hms_active_rooms.cli.settings import Settings, existing, open_gate, open_journal, person_here
from hms_active_rooms.errors import ConfigurationError, InvalidCall
from hms_active_rooms.untrusted import quoted, shortened

if TYPE_CHECKING:
    from hms_active_rooms.gate.journal import records

Before = Annotated[
    str, Option("--before", metavar="DATE", help="Date, or date and time: 2026-11-01T18:00+01:00.")
]


def actions(
    ctx: Context,
    state: Annotated[
        str | None,
        Option(
            help="Only this state: proposed (waits for a person), approved, sent, done, failed, unknown, rejected or expired."
        ),
    ] = None,
    room: Annotated[str | None, Option(metavar="ROOM", help="Only this room.")] = None,
    limit: Annotated[int, Option(min=1, max=1_000_000, help="The most rows to show.")] = 20,
    refused: Annotated[
        bool,
        Option(
            "--refused", help="List requests that `serve` and `mcp` refused, instead of actions."
        ),
    ] = False,
    json: options.Json = False,
    journal: options.JournalUrl = None,
) -> None:
    """List actions: the changes that somebody asked for. `actions show ACTION` shows one."""
    if ctx.invoked_subcommand is not None:
        options.refuse_idle(ctx, ctx.invoked_subcommand)
        return
    if refused:
        options.refuse_idle(ctx, "--refused", "state", "room")
    wanted = next((known for known in BY_STATE if known == state), None)
    if state is not None and wanted is None:
        states = f"States: {', '.join(BY_STATE)}."
        raise InvalidCall(f"--state {quoted(state)} is not a state.", hint=states)
    room_id = parse_room_id(room) if room is not None else None
    with open_journal(Settings(journal=journal)) as book, book.read() as reading:
        requests = reading.refused_requests(limit=limit) if refused else []
        rows = [] if refused else reading.actions(state=wanted, room_id=room_id, limit=limit)
        now = reading.now()
    if json and refused:
        screen.document({"refused": list(map(_event, requests))})
    elif refused:
        lines = [(_event_line(event),) for event in requests]
        screen.table(("REFUSED REQUESTS",), lines, "No request was refused.")
    elif json:
        from hms_active_rooms.gate.view import view

        # Short, because a model may read it: three people of each action, and no question.
        views = [view(row, people=3) for row in rows]
        told = [one.model_dump(mode="json", exclude={"question"}) for one in views]
        screen.document({"actions": told})
    else:
        cells = [
            (
                row.id,
                _state(row, now),
                row.tool.removeprefix("hms-"),
                _whom(row),
                row.room_id,
                shortened(row.requester, 30),
                at(row.created_at),
            )
            for row in rows
        ]
        which = "no such actions" if state or room else "no actions"
        nothing = f"There are {which} in the journal {book.place}."
        heads = ("ACTION", "STATE", "WHAT", "WHOM", "ROOM", "ASKED BY", "WHEN")
        screen.table(heads, cells, nothing)


def _whom(action: records.Action) -> str:
    if action.impact is not None:
        return action.impact.whom()
    return "- (broken record)" if action.contradiction else "- (refused before anybody was asked)"


def _state(action: records.Action, now: datetime) -> str:
    if action.contradiction:
        return f"{action.state} (broken record)"
    if action.state in ("proposed", "approved"):
        return f"{action.state} ({time_left(action.expires_at, now)})"
    return action.state


def show(
    action: options.ActionId,
    wait: Annotated[
        float | None,
        Option(
            min=0, max=86_400, metavar="SECONDS", help="Wait up to SECONDS for the action to end."
        ),
    ] = None,
    json: options.Json = False,
    journal: options.JournalUrl = None,
) -> int:
    """Show one action and its events. With --wait, the exit code says how the action ended."""
    from hms_active_rooms.cli.person import next_step, still_open
    from hms_active_rooms.gate.view import already, describe, outcome, view

    until, settings = time.monotonic() + (wait or 0), Settings(journal=journal)
    with open_journal(settings) as book:
        row = existing(book, action)
        newest = book.latest(row.call_key) or row
        while wait and not newest.ended and (left_s := until - time.monotonic()) > 0:
            time.sleep(min(0.2, left_s))
            newest = book.latest(row.call_key) or row
        row = row if wait is None else newest
        told, events = book.story(row.id)
        row, now = told or row, book.now()
    code = DONE if wait is None else exit_code(row)
    if json:
        record = view(row).model_dump(mode="json")
        screen.document({**record, "events": [*map(_event, events)], "newest": newest.id})
        return code
    is_by_nobody = row.decided_way and not row.contradiction
    nobody = f"by the program, not by a person ({row.decided_way})" if is_by_nobody else ""
    values = {
        "Action": row.id,
        "State": _state(row, now),
        "What": describe(row),
        "Asked by": f"{quoted(row.requester)} at {at(row.created_at)}",
        "Decided": already(row, newest).removeprefix("Already ") or nobody,
        "Outcome": screen.told(still_open(row, settings) or outcome(row)),
        "Next": next_step(row, settings) if row.state in ("sent", "failed") else "",
        "Went on as": "" if newest.id == row.id else f"{newest.id} ({newest.state})",
        "Events": "\n".join(map(_event_line, events)),
    }
    screen.fields(values)
    return code


def export(
    file: Annotated[str, Argument(metavar="FILE", help="New file for the JSON lines.")],
    before: Before,
    json: options.Json = False,
    journal: options.JournalUrl = None,
) -> None:
    """Write the actions that ended before DATE to a new file. Nothing is deleted."""
    moment = _moment(before)
    if file == "-":
        raise InvalidCall("An export cannot go to standard output.", hint="Name a new file.")
    with open_journal(Settings(journal=journal)) as book, ExitStack() as unless_written:
        try:
            new = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            # An incomplete export would look like a complete one, so it is deleted.
            unless_written.callback(os.unlink, file)
            with os.fdopen(new, "w", encoding="utf-8", newline="") as lines:
                count = book.export(lines, before=moment, by=person_here())
            unless_written.pop_all()
        except OSError as error:
            raise ConfigurationError(
                f"{quoted(file, 200)} cannot be written: {error.strerror or error}.",
                hint="Name a new file, in a folder that exists and can be written.",
            ) from None
    text = f"Wrote {screen.counted(count, 'action')} to {quoted(file, 200)}."
    screen.result({"file": file, "actions": count}, text, as_json=json)


def prune(before: Before, json: options.Json = False, journal: options.JournalUrl = None) -> None:
    """Delete actions that ended before DATE and were exported. Actions that changed since their export,
    or were sent within the last hour, are kept."""
    moment = _moment(before)
    with open_journal(Settings(journal=journal)) as book:
        pruned = book.prune(before=moment, by=person_here())
    text = f"Deleted {screen.counted(pruned.actions, 'action')} from the journal {book.place}."
    screen.result({"deleted": pruned.actions, "left": pruned.left}, text, as_json=json)
    export = Settings(journal=journal).command("actions", "export", "FILE", "--before", before)
    kept = {
        f"not exported, or changed since the export. Export to a new FILE, then prune again: {export}": (
            pruned.left - pruned.recent - pruned.broken
        ),
        "sent within the last hour. Prune again later.": pruned.recent,
        "with a broken record, which is never deleted.": pruned.broken,
    }
    for why, count in kept.items():
        if count and not json:
            screen.err(f"Kept {screen.counted(count, 'action')} {why}")


def _moment(text: str) -> datetime:
    """The time in `--before`, in UTC. Without a time zone it is this machine's local time."""
    try:
        return datetime.fromisoformat(text).astimezone(UTC)
    except (ValueError, OverflowError):
        raise InvalidCall(
            f"--before {quoted(text, 60)} is not a date.",
            hint="Write it like 2026-11-01 or 2026-11-01T18:00+01:00.",
        ) from None


def _event(event: records.Event) -> dict[str, Any]:
    return {**vars(event), "at": event.at.isoformat()}


def _event_line(event: records.Event) -> str:
    from hms_active_rooms.gate.journal.records import who

    role = " by"
    if event.kind == "refused":  # a request, or an action that somebody asked for
        role = " from" if "what" in event.data else "; asked by"
    by = f"{role} {shortened(name, 60)}" if (name := who(event.by, event.way)) else ""
    way = f" ({shortened(event.way, 60)})" if event.way else ""
    shown = {
        k: v for k, v in event.data.items() if v not in ("", None) and k not in ("digest", "file")
    }
    names = {k: "" if k == "what" else f"{k} " for k in shown}  # the request that was refused
    data = ", ".join(f"{names[k]}{quoted(str(v), 200)}" for k, v in shown.items())
    return f"{at(event.at)}  {event.kind}{by}{way}" + (f": {data}" if data else "")


# --- a person's yes or no ----------------------------------------------------------------------


def approve(action: options.ActionId, settings: Settings) -> int:
    """Show an action that waits, and send it after a yes. Needs a terminal."""
    from hms_active_rooms.cli.person import ask_here, report, somebody_here
    from hms_active_rooms.gate.journal.records import FINAL, UNSENT
    from hms_active_rooms.gate.view import already

    with open_journal(settings) as book:
        named = existing(book, action)
        row = book.latest(named.call_key) or named
    if row.id != named.id:
        replaced = f"The action {named.id} was replaced by {row.id}."
        screen.err(f"{already(named, row)} {replaced}".strip())
    if row.state in FINAL or not (row.state in UNSENT or somebody_here()):
        if words := already(row):
            screen.err(words)
        return report(row, settings)
    if not somebody_here():
        raise ConfigurationError(
            "Approving needs a person at a terminal. Nothing was decided.",
            hint=f"Without a terminal you can only reject: {settings.command('reject', row.id)}",
        )
    with open_gate(settings, row.room_id) as gate:
        screen.err(f"Asked by {quoted(row.requester)} at {screen.at(row.created_at)}.")
        blocking.run(gate.check_allowed(row))
        return ask_here(gate, row, settings)


def reject(
    action: options.ActionId,
    reason: Annotated[str, Option(metavar="TEXT", help="The reason, for whoever asked.")] = "",
    json: options.Json = False,
    journal: options.JournalUrl = None,
) -> int:
    """Reject an action that waits. Needs no terminal."""
    from hms_active_rooms.cli.person import somebody_here
    from hms_active_rooms.gate.approval import Reject, record_decision
    from hms_active_rooms.gate.view import already, outcome, view

    # Rejecting reads no room and sends nothing, so it needs only the journal.
    with open_journal(Settings(journal=journal)) as book:
        wanted, by, no = existing(book, action).id, person_here(), Reject(reason)
        with book.write() as tx:
            way: records.Way = "terminal" if somebody_here() else "command"
            decided = record_decision(tx, wanted, no, by=by, way=way)
    row = decided.action
    if json:
        screen.document(view(row).model_dump(mode="json"))
    elif decided.counted:
        screen.out(f"Rejected. Nothing was sent, and nothing will be sent (action {row.id}).")
    else:
        late = "" if row.state == "rejected" else "Too late to reject."
        screen.err(" ".join(filter(None, (late, already(row), outcome(row)))))
    # Not DONE if the action was executed before the person rejected it.
    if row.state == "rejected" and not row.contradiction:
        return DONE
    return exit_code(row) or FAILED
