"""From a proposed action to its end, with the person at this terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hms_active_rooms import blocking
from hms_active_rooms.cli.desk import TerminalDesk
from hms_active_rooms.cli.dialogue import NO_VALID_ANSWER, NoValidAnswerError, ask
from hms_active_rooms.cli.settings import person_here
from hms_active_rooms.gate.approval import Decision, Reject
from hms_active_rooms.gate.deciding import Deciding
from hms_active_rooms.gate.policy import Policy
from hms_active_rooms.gate.wording import already
from hms_active_rooms.serve.decisions import is_ours

if TYPE_CHECKING:
    from hms_active_rooms.gate.gate import Gate
    from hms_active_rooms.gate.journal import Journal
    from hms_active_rooms.gate.records import Action

WAY = "terminal"


def finish(gate: Gate, action: Action, desk: TerminalDesk) -> Action:
    """Ask, decide and run until the action has ended; asked again when the room changed.

    When somebody else's decision counted, the person is told whose.

    Returns:
        The newest row; `proposed` when the input ended before an answer.

    Raises:
        KeyboardInterrupt: Ctrl-C. At a question nothing is decided, and the person is told.
    """
    answered: tuple[str, bool] | None = None
    while True:
        if action.state == "approved":
            desk.notice("Sending it, then looking at the room ...")
            action = blocking.run(gate.run(action.id))
        if action.state in ("sent", "unknown"):
            action = blocking.run(gate.run(action.id))
            break
        if action.state != "proposed":
            break
        by, way = person_here(), WAY
        try:
            decision = _asked(gate, action, desk)
        except NoValidAnswerError:
            # Nobody said no: what was approved elsewhere by now stays approved.
            decision, by, way = Reject(NO_VALID_ANSWER), "gate", "gate"
        if decision is None:
            return action
        answered = action.id, isinstance(decision, Reject)
        action = blocking.run(gate.decide(action.id, decision, by=by, way=way))
    if answered is not None:
        row = blocking.run(gate.get(answered[0]))
        ours = is_ours(row, action, rejects=answered[1], by=person_here(), way=WAY)
        if not ours and (words := already(row)):
            desk.notice(words)
    return action


def _asked(gate: Gate, action: Action, desk: TerminalDesk) -> Decision | None:
    blocking.run(gate.asked(action, WAY))
    try:
        return ask(
            gate.request(action),
            desk,
            on_bad=lambda text: blocking.run(gate.bad_answer(action, text, way=WAY)),
        )
    except KeyboardInterrupt:
        desk.notice(f"\nNothing was decided and nothing was sent. {how_to_approve(action)}")
        raise


def turn_down(journal: Journal, action: Action, reason: str) -> Action:
    """Reject an action that was not sent yet; the row as it is then.

    The half of the gate that decides is enough: saying no reads no room and sends nothing.
    """
    deciding = Deciding(journal, Policy())
    return blocking.run(deciding.withdraw(action.id, reason, by=person_here(), way=WAY))


def how_to_approve(action: Action) -> str:
    """What a person types elsewhere to decide on it."""
    return f"To decide on it, in a terminal: hms-active-rooms approve {action.id}"
