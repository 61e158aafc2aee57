"""A conversation on standard input and output: as text for a person, or as JSON lines.

you      what the person wrote (echoed when it is not typed here)
resumed  a turn that an earlier process did not finish goes on
message  what the model said: indented, so that no line of it can pass for one of ours
outcome  what became of an action, in the gate's words
error    what went wrong
pending  actions that still wait for a person, and how to decide on them
notice, approval, question: around a question (text writes them where the person looks)
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from hms_active_rooms.cli import screen
from hms_active_rooms.cli.person import line_from, prompted, question_text

if TYPE_CHECKING:
    from hms_active_rooms.cli.settings import Settings
    from hms_active_rooms.gate.approval import ApprovalRequest

_PROMPT = "> "
_SPEAKER = "moderator: "
_INDENT = " " * len(_SPEAKER)


class Transcript:
    """`conversation.Io` on this process's streams, with `json` one JSON object a line.
    `piped_answers`: an input that is no terminal may answer approvals too; `go_on`: how to go on
    with the conversation later, "" if it cannot."""

    def __init__(self, settings: Settings, *, piped_answers: bool, go_on: str) -> None:
        self.settings, self._as_json, self._go_on = settings, settings.json, go_on
        self._typed = screen.is_terminal(sys.stdin)
        watched = not self._as_json and screen.is_terminal(sys.stdout)
        # Where the person looks. A question goes there even when the output goes to a file.
        self._looked_at = sys.stdout if watched or not self._typed else sys.stderr
        self.cannot_ask = ""
        if self._typed and not screen.is_terminal(self._looked_at):
            self.cannot_ask = "Nobody can be asked: the output is no terminal."
        elif not self._typed and not piped_answers:
            self.cannot_ask = (
                "Nobody was asked: the input is no terminal, and yes and no are taken from it only"
                " with --approve-from-stdin."
            )
        self._progress = screen.Progress("working", None if self._as_json else sys.stdout)
        self._outcome = ""
        self.busy = self._progress.shown

    def message(self) -> str | None:
        self._outcome = ""
        if not self._typed:
            line = line_from(sys.stdin)
            if line is not None:
                line = line.removeprefix("\ufeff")  # Windows begins a text with it
                self.emit({"type": "you", "text": line})
            return line
        if self._looked_at is not sys.stdout:
            self._look_at(_PROMPT)
            return line_from(sys.stdin)
        with suppress(ImportError):  # not on Windows, whose terminal edits lines itself
            import readline  # noqa: F401 - gives input() line editing
        try:
            return input(_PROMPT)
        except EOFError:
            screen.out()
            return None

    def read(self, prompt: str) -> str | None:
        if self._as_json and not self._typed:
            self.emit({"type": "question", "text": prompt.strip()})
            return line_from(sys.stdin)
        line = prompted(prompt, self._looked_at)
        if not self._as_json and (line is None or not self._typed):
            # Echoed, or ended: either way the line with the prompt is over.
            self._look_at(screen.told(line or "") + "\n")
        return line

    def question(self, request: ApprovalRequest, number: int, total: int) -> None:
        if self._as_json:
            told = {"action_id": request.action_id, "tool": request.tool, "text": request.text}
            told |= {"gate": request.gate, "deadline": request.deadline.isoformat()}
            place = {"number": number, "total": total}
            self.emit({"type": "approval", **told, "arguments": dict(request.arguments), **place})
        if not self._as_json or self._typed:
            self._look_at("\n" + question_text(request, number, total, self._looked_at) + "\n")

    def notice(self, text: str) -> None:
        if self._as_json and not self._typed:
            self.emit({"type": "notice", "text": text})
        else:
            self._look_at(text + "\n")

    def _look_at(self, text: str) -> None:
        screen.write(self._looked_at, screen.wrapped(text, self._looked_at))

    def emit(self, event: Mapping[str, Any]) -> None:
        self._progress.stop()
        if self._as_json:
            screen.document(event)
            return
        text = screen.told(str(event.get("text", "")))
        match event["type"]:
            case "you":
                self._say(text, _PROMPT, "  ")
            case "message":
                # The offline model ends with the outcome it was told; once is enough.
                if text.removeprefix("Nothing was done.\n") != self._outcome:
                    self._say(text.strip("\n"), _SPEAKER, _INDENT)
            case "outcome":
                self._outcome = text
                then = f"\n{event['hint']}" if event.get("hint") else ""
                self._say(text + then, f"[{event['state']}] ", "  ")
            case "error":
                parts = (event["message"], event.get("hint"))
                self._say(screen.told(" ".join(filter(None, parts))), "error: ", "  ")
            case "resumed":
                screen.out(text)
            case "pending" if self._go_on:
                screen.out(f"{text}\nOr go on with: {self._go_on}")
            case "pending":
                screen.out("Nothing was decided and nothing was sent.")

    def _say(self, text: str, first: str, rest: str) -> None:
        screen.out(screen.indented(text, first, rest, sys.stdout))
