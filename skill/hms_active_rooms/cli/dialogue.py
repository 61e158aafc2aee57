"""The one way this program asks a person: what is shown, what counts as an answer.

Threat: a line that was meant for something else (a paste, a program's output, a name)
is taken for consent. Invariant: only the exact words count, after the question was
shown; three lines without a decision are a refusal, and no line at all decides nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Protocol

from hms_active_rooms.errors import InvalidCall
from hms_active_rooms.gate.actions import parse_call
from hms_active_rooms.gate.approval import ApprovalRequest, Decision, Edit, Refuse
from hms_active_rooms.untrusted import quoted

MAX_BAD_ANSWERS: Final = 3
NO_VALID_ANSWER: Final = Refuse("no valid answer came")

# Of the words a person may edit, those they are asked for; a message's type is for programs.
_ASKED_WORDS: Final = ("message", "reason")


class Desk(Protocol):
    """Where a person sits."""

    def question(self, request: ApprovalRequest, number: int, total: int) -> None:
        """Show one request: its text exactly, until when it can be answered, its place of many."""

    def notice(self, text: str) -> None:
        """Show a line about the question."""

    def read(self, prompt: str) -> str | None:
        """One line they typed after the prompt was shown; None when there is no more input."""


def ask(
    request: ApprovalRequest,
    desk: Desk,
    *,
    on_bad: Callable[[str], None],
    session: bool = False,
    number: int = 1,
    total: int = 1,
) -> Decision | Refuse | None:
    """One person's decision on one request; None when the input ended: nothing is decided.

    Args:
        request: what to show.
        desk: where to show it and read the answer.
        on_bad: told about each line that was no answer, for the record.
        session: whether "session" is offered for a soft gate.
        number: place among the questions asked together.
        total: how many are asked together.

    Returns:
        `NO_VALID_ANSWER` when three lines were no answer.
    """
    words: list[str] = [word for word in _ASKED_WORDS if word in request.editable]
    answers = ["yes", "no", *(["edit"] if words else [])]
    if session and request.gate == "soft":
        answers.append("session")
    prompt = f"Approve? [{'/'.join(answers)}] "
    desk.question(request, number, total)
    for _ in range(MAX_BAD_ANSWERS):
        line = desk.read(prompt)
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
                desk.question(request, number, total)
            case _:
                on_bad(f"a line of {len(line)} characters")
                choice = f"{', '.join(answers[:-1])} or {answers[-1]}"
                desk.notice(f"That is no answer. Type {choice}, in full.")
    return NO_VALID_ANSWER


def _edit(request: ApprovalRequest, words: list[str], desk: Desk) -> Edit | None:
    """The request with other words, once the person has seen them and said yes."""
    changes: dict[str, str] = {}
    for word in words:
        line = desk.read(f"New {word} (empty: as it is): ")
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
    # Somebody who types "no" instead of new words must not send "no".
    line = desk.read("Approve it with these words? [yes/no] ")
    return request.edit(**changes) if line is not None and line.strip() == "yes" else None
