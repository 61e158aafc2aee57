"""`actions`, `actions show`, `approve` and `reject`: the journal in a person's hands."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, get_args

from hms_active_rooms import blocking
from hms_active_rooms.cli import exits, screen
from hms_active_rooms.cli.changing import report
from hms_active_rooms.cli.deciding import finish, turn_down
from hms_active_rooms.cli.desk import TerminalDesk, somebody_here
from hms_active_rooms.cli.documents import (
    ACTION_HEADS,
    LISTED_PEOPLE,
    action_cells,
    action_document,
    action_record,
    at,
    event_document,
    event_line,
    time_left,
)
from hms_active_rooms.cli.settings import Settings, open_gate, open_journal
from hms_active_rooms.errors import ConfigurationError, InvalidCall
from hms_active_rooms.gate.calls import parse_call
from hms_active_rooms.gate.impact import Impact
from hms_active_rooms.gate.states import FINAL, State
from hms_active_rooms.gate.wording import already, describe, outcome
from hms_active_rooms.untrusted import quoted

if TYPE_CHECKING:
    from hms_active_rooms.gate.journal import Journal
    from hms_active_rooms.gate.records import Action

_POLL_S = 0.2


def show_actions(
    settings: Settings, *, state: str | None, room: str | None, limit: int, as_json: bool
) -> None:
    """The newest actions, newest first."""
    from hms_active_rooms.api.ids import parse_room_id

    wanted = _state(state)
    if limit < 1:
        raise InvalidCall("--limit must be at least 1.", hint="")
    room_id = parse_room_id(room) if room is not None else None
    with open_journal(settings) as journal:
        now = journal.now()
        # A question whose time is over still has its old state until somebody touches it.
        late = wanted in ("proposed", "approved", "expired")
        rows = journal.actions(
            state=None if late else wanted, room_id=room_id, limit=10_000 if late else limit
        )
        rows = [r for r in rows if wanted is None or r.state_at(now) == wanted][:limit]
    if as_json:
        screen.document({"actions": [action_document(r, LISTED_PEOPLE) for r in rows]})
    elif rows:
        screen.table(ACTION_HEADS, [action_cells(row, now) for row in rows])
    else:
        screen.err("There are no such actions." if wanted or room_id else "There are no actions.")


def _state(text: str | None) -> State | None:
    if text is None:
        return None
    for state in get_args(State):
        if state == text:
            return state  # type: ignore[no-any-return]
    raise InvalidCall(f"{quoted(text)} is no state.", hint=f"States: {', '.join(get_args(State))}.")


def show_action(
    action_id: str, settings: Settings, *, wait_s: float | None, everything: bool, as_json: bool
) -> int:
    """One action with everything that happened to it; the exit code.

    Args:
        action_id: any revision of the call.
        settings: the journal.
        wait_s: look until it has ended, for at most so many seconds, and follow it when it
            was edited or asked again. The exit code then says how it ended; else it is 0.
        everything: one document with everybody who is hit; never to a terminal.
        as_json: one document, bounded.
    """
    if everything:
        screen.refuse_a_terminal()
    if wait_s is not None and not 0 <= wait_s <= 86_400:
        raise InvalidCall("--wait takes seconds, from 0 to 86400.", hint="")
    with open_journal(settings) as journal:
        action = _existing(journal, action_id)
        if wait_s is not None:
            action = _awaited(journal, action, wait_s)
        newest = journal.latest(action.call_key) or action
        events, now = journal.events(action.id), journal.now()
    code = exits.DONE if wait_s is None else exits.of_state(action.state_at(now))
    if everything or as_json:
        row = action_record(action) if everything else action_document(action)
        shown = {**row, "events": [event_document(e) for e in events]}
        screen.document({**shown, "newest": newest.id})
        return code
    state = action.state_at(now)
    left = f", {time_left(action.expires_at, now)}" if state == "proposed" else ""
    values = {
        "Action": action.id,
        "State": state + left,
        "What": _what(action),
        "Asked by": f"{quoted(action.requester)} at {at(action.created_at)}",
    }
    if action.decided_by:
        values["Decided"] = f"by {quoted(action.decided_by)}, way {quoted(action.decided_way)}"
    if state not in ("proposed", "approved"):
        values["Outcome"] = screen.told(outcome(action))
    if newest.id != action.id:
        values["Went on as"] = f"{newest.id} ({newest.state_at(now)})"
    screen.fields(values)
    screen.out("Events")
    for event in events:
        screen.out("  " + event_line(event))
    return code


def show_refused(settings: Settings, *, limit: int, as_json: bool) -> None:
    """The newest requests that servers on this journal refused, newest first."""
    if limit < 1:
        raise InvalidCall("--limit must be at least 1.", hint="")
    with open_journal(settings) as journal:
        found = journal.refused_requests(limit=limit)
    if as_json:
        screen.document({"refused": [event_document(event) for event in found]})
    elif found:
        for event in found:
            screen.out(event_line(event))
    else:
        screen.err("No request was refused.")


def _what(action: Action) -> str:
    call = parse_call(action.tool, action.arguments)
    if action.impact is not None:
        return describe(call, Impact.from_json(action.impact), action.note)
    # Refused before anybody was looked up.
    words = ", ".join(f"{k} {quoted(str(v), 200)}" for k, v in action.arguments.items())
    return f"{action.tool}: {words}"


def _awaited(journal: Journal, action: Action, wait_s: float) -> Action:
    until = time.monotonic() + wait_s
    while True:
        action = journal.latest(action.call_key) or action
        state = action.state_at(journal.now())
        left_s = until - time.monotonic()
        if state in FINAL or state == "unknown" or left_s <= 0:
            return action
        time.sleep(min(_POLL_S, left_s))


def approve(action_id: str, settings: Settings, *, as_json: bool) -> int:
    """Ask the person at this terminal about an action, then run it; the exit code.

    Raises:
        ConfigurationError: no terminal; nothing was decided.
    """
    if not somebody_here():
        raise ConfigurationError(
            "Approving needs a person at a terminal; nothing was decided.",
            hint="Run this command in a terminal, without pipes. Rejecting works anywhere: reject.",
        )
    with open_journal(settings) as journal:
        action = _existing(journal, action_id)
    if action.state in FINAL:
        if words := already(action):
            screen.err(words)
        return report(action, as_json=as_json)
    with open_gate(settings, action.room_id) as gate:
        desk = TerminalDesk()
        if action.state_at(gate.journal.now()) == "expired":
            # `run` moves the row, so that every way of asking sees it.
            return report(blocking.run(gate.run(action.id)), as_json=as_json)
        desk.notice(f"Asked by {quoted(action.requester)} at {at(action.created_at)}.")
        if action.state == "approved":
            desk.notice(f"Approved already by {quoted(action.decided_by)}, and not sent yet.")
        return report(finish(gate, action, desk), as_json=as_json)


def reject(action_id: str, settings: Settings, *, reason: str, as_json: bool) -> int:
    """Say no to an action that was not sent yet; the exit code."""
    with open_journal(settings) as journal:
        before = _existing(journal, action_id)
        action = turn_down(journal, before, reason)
    rejected_now = before.state in ("proposed", "approved") and action.state == "rejected"
    match action.state:
        case "rejected" | "expired":
            code = exits.DONE
        case "sent" | "unknown":
            code = exits.UNKNOWN
        case _:
            code = exits.FAILED
    if as_json:
        screen.document(action_document(action))
    elif rejected_now:
        screen.out(f"Rejected: nothing was sent and nothing will be (action {action.id}).")
    else:
        words = ["Too late to reject.", already(action), outcome(action)]
        screen.err(" ".join(filter(None, words)))
    return code


def _existing(journal: Journal, action_id: str) -> Action:
    action = journal.get(action_id.strip().lower())
    if action is None:
        raise InvalidCall(
            f"There is no action {quoted(action_id)} in this journal.",
            hint="List them with: hms-active-rooms actions",
        )
    return action
