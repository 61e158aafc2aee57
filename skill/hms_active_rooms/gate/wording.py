"""The words a person decides on, and the words that say what came of it.

Every way of asking shows `describe`'s text; every way of reporting shows `outcome`'s.
What strangers wrote is quoted and escaped, so the text is safe raw in a terminal.
Pure.
"""

from __future__ import annotations

from hms_active_rooms.gate.calls import EndRoom, RemovePeers, SendMessage, StateChange
from hms_active_rooms.gate.impact import Impact, Person
from hms_active_rooms.gate.records import Action
from hms_active_rooms.untrusted import quoted

SHOWN_PEOPLE = 50
"""Every person of a removal is shown; audiences larger than this are shown as counts."""

NOBODYS_WAYS = ("policy", "gate", "claim")
"""Decisions that nobody made: the policy, a deadline, a change in the room."""

_SHOWN_TEXT_CHARS = 5000
"""A whole message (4096 bytes) is always shown: nobody approves words they did not see."""


def describe(call: StateChange, impact: Impact, note: str = "") -> str:
    """What would happen, to whom, in a few lines; the whole message or reason is shown."""
    lines = [f"Asked again: {note}"] if note else []
    lines += _action_lines(call, impact)
    lines += [f"Warning: {warning}" for warning in impact.warnings]
    return "\n".join(lines)


def _action_lines(call: StateChange, impact: Impact) -> list[str]:
    room = f"room {call.room_id}"
    match call:
        case SendMessage():
            text = quoted(call.message, _SHOWN_TEXT_CHARS)
            kind = "" if call.type == "chat" else f" of type {quoted(call.type, 100)}"
            match impact.kind:
                case "direct":
                    head = f"Send a message{kind} to one person in {room}:"
                    return [head, *_people_lines(impact.people), f"Message: {text}"]
                case "role":
                    head = (
                        f"Send a message{kind} to everyone with the role "
                        f"{quoted(call.role or '', 100)} in {room} ({_count(impact.total)})."
                    )
                case _:
                    head = (
                        f"Send a message{kind} to EVERYONE in {room} "
                        f"({_count(impact.total)}: {_roles(impact)})."
                    )
            return [head, f"Message: {text}"]
        case RemovePeers():
            reason = _reason_lines(call.reason)
            if impact.kind == "remove-peer":
                return [f"Remove one person from {room}:", *_people_lines(impact.people), *reason]
            head = (
                f"Remove everyone who has the role {quoted(call.role or '', 100)} now "
                f"from {room} ({_count(impact.total)})"
            )
            shown = impact.people[:SHOWN_PEOPLE]
            left = len(impact.people) - len(shown)
            more = [f"  ... and {left} more"] if left else []
            return [f"{head}:", *_people_lines(shown), *more, *reason]
        case EndRoom():
            then = "END the session and LOCK the room" if call.lock else "END the session"
            head = f"{then} for everyone in {room} ({_count(impact.total)}: {_roles(impact)})."
            return [head, f"Session: {quoted(impact.session_id, 40)}", *_reason_lines(call.reason)]
    return [f"{call.tool} in {room}"]


def already(action: Action) -> str:
    """Which decision counted, by whom, which way and when; "" when no person's did."""
    if action.decided_at is None or action.decided_way in NOBODYS_WAYS:
        return ""
    word = "rejected" if action.state == "rejected" else "approved"
    who = f"{quoted(action.decided_by, 60)} ({quoted(action.decided_way, 40)[1:-1]})"
    return f"Already {word} by {who} at {action.decided_at:%Y-%m-%d %H:%M:%S} UTC."


def person_line(person: Person) -> str:
    """One person in one line: name, role, user id, short id."""
    return (
        f"{quoted(person.name)}, role {quoted(person.role, 30)}, "
        f"user id {quoted(person.user_id, 40)}, id {person.short_id}"
    )


def _people_lines(people: tuple[Person, ...]) -> list[str]:
    return [f"  {person_line(person)}" for person in people]


def _reason_lines(reason: str | None) -> list[str]:
    return [f"Reason shown to the others: {quoted(reason, 600)}"] if reason else []


def _roles(impact: Impact) -> str:
    shown = " and ".join(f"{count:,} as {quoted(role, 30)}" for role, count in impact.by_role[:12])
    left = len(impact.by_role) - 12
    return f"{shown} and {left} other roles" if left > 0 else shown


def _count(total: int) -> str:
    return "1 person" if total == 1 else f"{total:,} people"


def outcome(action: Action) -> str:
    """What came of an action, in one short text for a model or a person."""
    match action.state:
        case "proposed":
            return f"Not executed: waiting for a person to approve it (action {action.id})."
        case "approved":
            return f"Not executed yet: approved, not sent (action {action.id})."
        case "sent":
            return (
                f"Being sent by another worker (action {action.id}). "
                "Do not send it again; look at the room in a moment."
            )
        case "rejected" | "expired":
            who = f" by {quoted(action.decided_by, 40)}" if action.decided_by else ""
            word = "rejected" if action.state == "rejected" else "not approved in time"
            if action.decided_way in NOBODYS_WAYS:
                return f"Not executed: {action.reason}"
            reason = f": {quoted(action.reason, 300)}" if action.reason else ""
            if action.state == "expired":
                return f"Not executed: {action.reason or word}"
            return (
                f"Not executed: {word}{who}{reason}. "
                "Do not try again unless the person asks for it."
            )
    text = str(action.result.get("text", ""))
    if action.edited_from:
        text = f"With the words the person edited: {text}"
    notes = " ".join(str(note) for note in action.result.get("notes", ()))
    return f"{text} {notes}".strip() + f" (action {action.id})"
