"""The words a person decides on, and the words that say what came of it.

Every way of asking shows `describe`'s text; every way of reporting shows `outcome`'s. What
strangers wrote is quoted and escaped, so the text is safe raw in a terminal. Pure.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Final

from hms_active_rooms.errors import default_hint
from hms_active_rooms.gate.journal.records import Action, by_person
from hms_active_rooms.untrusted import quoted

NOT_AGAIN: Final = " Do not try again unless the person asks for it."
"""What a model is told about a person's no, behind the outcome."""


def describe(action: Action) -> str:
    """What would happen, to whom, in a few lines; the whole message or reason is shown."""
    if action.impact is None:
        # Refused before anybody was looked up.
        arguments = action.call.arguments().items()
        return f"{action.tool}: " + ", ".join(f"{k} {quoted(str(v), 200)}" for k, v in arguments)
    again = action.revision > 1  # then what has changed comes first, else what is asked
    lines = [f"Asked again: {action.note}"] if action.note and again else []
    lines += action.call.question(action.impact)
    lines += [f"Warning: {warning}" for warning in action.impact.warnings]
    lines += [f"Note: {action.note}"] if action.note and not again else []
    return "\n".join(lines)


def already(action: Action, *, edited: bool = False) -> str:
    """Which decision counted, by whom, which way and when; "" when no person's did.

    Args:
        action: the row somebody was asked about.
        edited: it was approved with other words, in another row.
    """
    if action.decided_at is None or not by_person(action.decided_way):
        return ""
    word = "rejected" if action.state == "rejected" and not edited else "approved"
    who = f"{quoted(action.decided_by, 60)} ({action.decided_way})"
    who += " with other words" if edited else ""
    return f"Already {word} by {who} at {action.decided_at:%Y-%m-%d %H:%M:%S} UTC."


def decider(action: Action) -> str:
    """Who decided on it, and which way; what did if nobody; "" while it is undecided."""
    if not action.decided_way:
        return ""
    if by_person(action.decided_way):
        return f"by {quoted(action.decided_by)}, way {quoted(action.decided_way)}"
    late = action.state == "expired" and action.decided_way == "gate"
    return f"by nobody: {'the time ran out' if late else _DECIDED[action.decided_way]}"


_DECIDED: Final = {
    "relaxed": "the policy lets it run unasked",
    "unattended": "the code lets it run unasked",
    "policy": "the policy refused it",
    "gate": "it was refused on the spot, or nobody could be asked",
    "claim": "the room had changed",
}


def outcome(action: Action) -> str:
    """What came of an action, in one short text for whoever reads it."""
    if action.contradiction:
        return f"The record of the action {action.id} {action.contradiction}. Nothing is sent."
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
        case "expired":
            return f"Not executed: {action.reason or 'not approved in time'}"
        case "rejected" if not by_person(action.decided_way):
            return f"Not executed: {action.reason}"
        case "rejected":
            who = f" by {quoted(action.decided_by, 40)}" if action.decided_by else ""
            reason = f": {quoted(action.reason, 300)}" if action.reason else ""
            return f"Not executed: rejected{who}{reason}."
    text = action.result.text
    if action.edited_from:
        text = f"With the words the person edited: {text}"
    return f"{text} {' '.join(action.result.notes)}".strip() + f" (action {action.id})"


_LATELY: Final = timedelta(hours=1)


def sent_before(action: Action, now: datetime) -> str:
    """For the question about a call: when the same was sent lately, and what came of it."""
    if action.sent_at is None or now - action.sent_at > _LATELY:
        return ""
    ago_s = (now - action.sent_at).total_seconds()
    ago = f"{ago_s:.0f} s" if ago_s < 120 else f"{ago_s / 60:.0f} min"
    return f"The same was sent {ago} ago. {outcome(action)}"


def for_model(action: Action) -> str:
    """`outcome`, and what a model does next: a person's no is not to be asked about again."""
    text, error = outcome(action), action.result.error
    if action.state == "rejected" and by_person(action.decided_way):
        return text + NOT_AGAIN
    if action.state in ("rejected", "failed") and error:
        return f"{text} {default_hint(error)}"
    return text
