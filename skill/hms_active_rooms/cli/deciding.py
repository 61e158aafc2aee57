"""From a proposed action to its end, with the person at this terminal."""

from __future__ import annotations

from hms_active_rooms import blocking
from hms_active_rooms.cli.dialogue import Desk, ask
from hms_active_rooms.cli.settings import person_here
from hms_active_rooms.gate.approval import ApprovalRequest, BadAnswer, Decision, Refuse, Reject
from hms_active_rooms.gate.deciding import Decided, decide
from hms_active_rooms.gate.gate import Gate
from hms_active_rooms.gate.journal import Journal
from hms_active_rooms.gate.journal.records import Action, Way
from hms_active_rooms.gate.policy import Policy
from hms_active_rooms.gate.wording import already

WAY: Way = "terminal"


def finish(gate: Gate, action: Action, desk: Desk) -> Action:
    """Ask, decide and run until the action has ended; asked again when the room changed.

    When somebody else's decision counted, the person is told whose.

    Returns:
        The newest row; `proposed` when the input ended before an answer.

    Raises:
        KeyboardInterrupt: Ctrl-C. Nothing was decided or sent, and the person is told.
    """
    while True:
        action, question = _run(gate, action, desk)
        answer = None if question is None else _asked(gate, question, desk)
        if answer is None:
            return action
        decided = decide_here(gate, action.id, answer, by=person_here(), way=WAY)
        if not decided.counted and (words := decided.problem or already(decided.action)):
            desk.notice(words)
        action = decided.action


def _run(gate: Gate, action: Action, desk: Desk) -> tuple[Action, ApprovalRequest | None]:
    """Run it up to its end or to a question; the person answers in this thread, not in the loop's.

    A row whose sending Ctrl-C broke off is returned: what became of it has to be said.
    """
    asked: list[ApprovalRequest] = []

    async def later(request: ApprovalRequest) -> None:
        asked.append(request)

    if action.state == "approved":
        desk.notice("Sending it, then looking at the room ...")
    try:
        action = blocking.run(gate.drive(action, later, by=person_here(), way=WAY))
    except KeyboardInterrupt:
        action = blocking.run(gate.latest(action))
        if action.state not in ("sent", "unknown"):
            raise
        desk.notice("")  # the terminal wrote ^C
    return action, asked[-1] if asked else None


def decide_here(gate: Gate, action_id: str, answer: object, *, by: str, way: Way) -> Decided:
    """Write an answer; a refusal is the gate's, since nobody said no: it takes back no yes."""
    if isinstance(answer, Refuse):
        answer, by, way = Reject(answer.reason), "gate", "gate"
    return blocking.run(gate.decide(action_id, answer, by=by, way=way))


def _asked(gate: Gate, question: ApprovalRequest, desk: Desk) -> Decision | Refuse | None:
    def bad(text: str) -> None:
        decide_here(gate, question.action_id, BadAnswer(text), by=person_here(), way=WAY)

    try:
        return ask(question, desk, on_bad=bad)
    except KeyboardInterrupt:
        told = how_to_approve(question.action_id)
        desk.notice(f"\nNothing was decided and nothing was sent. {told}")
        raise


def turn_down(journal: Journal, action_id: str, reason: str) -> Decided:
    """Say no: reads no room and sends nothing, so the journal alone is enough."""
    with journal.write() as tx:
        no = Reject(reason)
        return decide(tx, action_id, no, by=person_here(), way=WAY, policy=Policy())


def how_to_approve(action_id: str) -> str:
    """What a person types elsewhere to decide on it."""
    return f"To decide on it, in a terminal: hms-active-rooms approve {action_id}"
