"""Asks the person at this terminal about an action, and runs the action after a yes.

A pasted line or a program's output must not count as a yes. So only exact words count, typed after
the question was shown. Three other lines reject the action. If the input ends, nothing is decided.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final, TextIO

from hms_active_rooms import blocking
from hms_active_rooms.cli import screen
from hms_active_rooms.cli.main import DONE, FAILED, INTERRUPTED, exit_code
from hms_active_rooms.cli.screen import at, bold, time_left
from hms_active_rooms.cli.settings import Settings, person_here
from hms_active_rooms.errors import ActiveRoomsError, InvalidCall
from hms_active_rooms.gate.actions import parse_call
from hms_active_rooms.gate.approval import (
    ApprovalRequest,
    BadAnswerError,
    Decided,
    Decision,
    Edit,
    Refuse,
    Reject,
)
from hms_active_rooms.gate.gate import Gate
from hms_active_rooms.gate.journal.records import UNSENT, Action, Way
from hms_active_rooms.gate.view import already, describe, outcome, remedy, view
from hms_active_rooms.untrusted import quoted

NO_VALID_ANSWER: Final = Refuse("no valid answer came")

# What a person can edit here. Only programs can edit a message's type.
_ASKED_WORDS: Final = ("message", "reason")


@dataclass(eq=False)
class Interrupted(KeyboardInterrupt):
    """Raised if Ctrl-C came while a person was asked about an action, or while it was sent. The caller has
    to tell the person how the action ended."""

    action: Action


class Desk:
    """Shows questions on this process's terminal, and reads the answers. The commands that it suggests
    repeat the options in `settings`."""

    way: Way = "terminal"  # how the person is asked, as the journal records it
    said_no = False  # the person's last answer was a no, or other words that came too late
    session = False  # whether "session" is an answer, which also approves later messages
    place = (1, 1)  # number of the next question, and of questions asked together

    def __init__(self, settings: Settings) -> None:
        self.settings, self.shown = settings, sys.stderr

    def question(self, request: ApprovalRequest) -> None:
        number, total = self.place
        head = bold(f"Action {number} of {total}\n", self.shown) if total > 1 else ""
        until = f"{at(request.deadline)}, {time_left(request.deadline, datetime.now(UTC))}"
        end = f"Answer until {until} (action {request.action_id})."
        screen.say(self.shown, f"\n{head}{request.text}\n{end}")

    def notice(self, text: str) -> None:
        screen.say(self.shown, text)

    def read(self, prompt: str) -> str | None:
        """Show the prompt, and return the line that the person types then; None if there is no more
        input."""
        if sys.platform != "win32":
            import termios

            with suppress(OSError, ValueError, termios.error):
                termios.tcflush(sys.stdin.fileno(), termios.TCIFLUSH)
        else:
            import msvcrt

            while screen.is_terminal(sys.stdin) and msvcrt.kbhit():
                msvcrt.getwch()
        screen.write(self.shown, bold(prompt, self.shown))
        line = line_from(sys.stdin)
        if line is None:
            screen.say(self.shown)
        return line


def somebody_here() -> bool:
    """Whether a person can be asked here: the input and standard error are terminals."""
    return screen.is_terminal(sys.stdin, sys.stderr)


def line_from(stream: TextIO) -> str | None:
    """Return the next line without its line end; None if the input has ended."""
    try:
        line = stream.readline()
    except OSError:  # the terminal was closed
        return None
    if screen.is_terminal(stream) and not line.endswith("\n"):
        return None
    return line.rstrip("\r\n") if line else None


def next_step(action: Action, settings: Settings) -> str:
    """What the person can do next about an action, and until when; "" for nothing."""
    approve, reject = (settings.command(word, action.id) for word in ("approve", "reject"))
    until = f"{at(action.expires_at)}, {time_left(action.expires_at, datetime.now(UTC))}"
    match action.state:
        case "proposed" | "approved" if settings.forgotten:
            return "The journal is only in memory, so nobody can decide after this command ends."
        case "proposed":
            return f"To decide, run in a terminal (until {until}): {approve}"
        case "approved":
            return (
                f"The action was not sent, and its approval is still open until {until}: "
                f"{approve} sends the action, {reject} takes the approval back."
            )
        case "sent":
            return f"To wait for the outcome, or to read the room if the sender stopped: {approve}"
        case "unknown" if action.call.visible:
            return f"First see who is in the room: hms-active-rooms peers {action.room_id}"
        case "unknown":
            return (
                f"Ask somebody in the room whether the {action.call.noun} arrived. If it did not,"
                " run the same command again: a person is asked before it is sent a second time."
            )
    return remedy(action)


def still_open(action: Action, settings: Settings) -> str:
    """How a person can decide or send an action that is `proposed` or `approved`; "" in other states."""
    undecided = "Nothing was decided and nothing was sent. " if action.state == "proposed" else ""
    open_ = action.state in UNSENT and not action.contradiction
    return undecided + next_step(action, settings) if open_ else ""


# --- from a proposed action to its end ------------------------------------------------------


def finish(gate: Gate, action: Action, desk: Desk) -> Action:
    """Ask the person, record the decision, and run the action if it is approved. If the room changes
    meanwhile, ask again. Return the action as it is then.

    Raises:
        Interrupted: Ctrl-C.
        ActiveRoomsError: the action could not be sent.
        OutcomeUnknown: an error came after the sending began.
    """

    def decide(answer: object) -> Decided:
        return blocking.run(gate.decide(action.id, answer, by=person_here(), way=desk.way))

    said_yes = False
    while True:
        try:
            if action.state == "approved":
                then = ", and looking at the room afterwards" if action.call.visible else ""
                desk.notice(f"Reading the room once more before sending it{then} ...")
            with screen.progress("Waiting for 100ms", desk.shown):
                action = blocking.run(gate.run(action))
            if action.state != "proposed":
                if said_yes and action.state == "rejected" and (words := already(action)):
                    desk.notice(words)  # somebody else said no before it was sent
                return action
            blocking.run(gate.asked(action, desk.way))
            # `Gate.drive` would ask in the event loop's thread, and waiting for a person blocks it.
            answer = ask(gate.request(action), desk, on_bad=decide)
            if answer is None:
                return action
            decided = decide(answer)
        except KeyboardInterrupt:
            desk.notice("")  # a line end after ^C
            raise Interrupted(blocking.run(gate.latest(action.id))) from None
        except ActiveRoomsError as error:
            left = still_open(blocking.run(gate.latest(action.id)), desk.settings)
            error.hint = " ".join(filter(None, (screen.hint_of(error), left)))
            raise
        late_edit = isinstance(answer, Edit) and not decided.counted
        desk.said_no = late_edit or isinstance(answer, Reject)
        words = decided.problem or already(decided.action, decided.newest)
        if not decided.counted and words:
            desk.notice(words)
        action = decided.newest
        if late_edit and action.state == "approved":
            return action  # this person wants other words than those that were approved
        said_yes = decided.counted and action.state == "approved"


def ask_here(gate: Gate, action: Action, settings: Settings) -> int:
    """Ask and run as `finish` does, and print how the action ended. Returns the exit code."""
    desk = Desk(settings)
    if action.state == "approved" and (words := already(action)):
        screen.err(screen.told(f"{words} It was not sent yet.\n{describe(action)}"))
    try:
        action = finish(gate, action, desk)
    except Interrupted as stopped:
        if left := still_open(stopped.action, settings):
            screen.err(left)
            return INTERRUPTED
        action = stopped.action
    code = report(action, settings)
    return FAILED if code == DONE and desk.said_no else code


def report(action: Action, settings: Settings) -> int:
    """Print the action's outcome, or what it waits for. Returns the exit code."""
    code = exit_code(action)
    if settings.json:
        screen.document(view(action).model_dump(mode="json"))
        return code
    say = screen.out if code == DONE else screen.err
    say(outcome(action))
    if action.state == "proposed":
        # On standard output only the id, for scripts.
        screen.out(action.id)
    if then := next_step(action, settings):
        screen.err(then)
    return code


def ask(
    request: ApprovalRequest, desk: Desk, *, on_bad: Callable[[BadAnswerError], object]
) -> Decision | Refuse | None:
    """Ask a person one question, and return the decision; None if the input ended. After three invalid
    lines or unfinished edits, return `NO_VALID_ANSWER`.

    Args:
        on_bad: is called for each invalid line.
    """
    words = [word for word in _ASKED_WORDS if word in request.editable]
    answers = ["yes", "no", *(["edit"] if words else [])]
    if desk.session and request.gate == "soft":
        answers.append("session")
    desk.question(request)
    for _ in range(3):
        line = desk.read(f"Approve? [{'/'.join(answers)}] ")
        if line is None:
            return None
        match line.strip():
            case "yes":
                return request.approve()
            case "no":
                return request.reject()
            case "session" if "session" in answers:
                return request.approve(scope="session")
            case "edit" if words:
                if (edit := _edit(request, words, desk)) is not None:
                    return edit
                desk.question(request)
            case _:
                on_bad(BadAnswerError(f"a line of {len(line)} characters"))
                choice = f"{', '.join(answers[:-1])} or {answers[-1]}"
                more = ' "session" approves further messages, too.' if "session" in answers else ""
                desk.notice(f"That is no answer. Type {choice}, in full.{more}")
    return NO_VALID_ANSWER


def _edit(request: ApprovalRequest, words: Sequence[str], desk: Desk) -> Edit | None:
    changes: dict[str, str] = {}
    for word in words:
        line = desk.read(f"New {word} (empty keeps the old): ")
        if line is None:
            return None
        if text := line.strip():
            changes[word] = text
    if not changes:
        desk.notice("Nothing was changed.")
        return None
    try:
        parse_call(request.tool, dict(request.arguments)).edited(dict(changes))
    except InvalidCall as error:
        desk.notice(str(error))
        return None
    for word, text in changes.items():
        desk.notice(f"New {word}: {quoted(text, 5000)}")
    # Needs a yes, since somebody may have typed "no" as the new words.
    line = desk.read("Approve it with these words? [yes/no] ")
    return request.edit(**changes) if line is not None and line.strip() == "yes" else None
