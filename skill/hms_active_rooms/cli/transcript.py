"""A conversation on standard input and output: as text for a person, or as JSON lines.

you      what the person wrote (echoed when it is not typed here)
message  what the model said: indented, so that no line of it can pass for one of ours
outcome  what became of an action, in the gate's words
error    what went wrong
pending  actions that still wait for a person
notice, approval, question: around a question (text writes them where the person looks)
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

from hms_active_rooms.cli import screen
from hms_active_rooms.cli.desk import line_from, prompted, question_text

if TYPE_CHECKING:
    from rich.status import Status

    from hms_active_rooms.gate.approval import ApprovalRequest

_PROMPT = "> "
_SPEAKER = "moderator: "
_INDENT = " " * len(_SPEAKER)


class Transcript:
    """`conversation.Io` on this process's streams.

    Args:
        as_json: one JSON object a line on standard output.
        piped_answers: an input that is no terminal may answer approvals too.
        pending_help: what to tell for each action that still waits, with `{action_id}`.
    """

    def __init__(self, *, as_json: bool, piped_answers: bool, pending_help: str) -> None:
        self._as_json = as_json
        self._pending_help = pending_help
        self._typed = screen.is_terminal(sys.stdin)
        watched = not as_json and screen.is_terminal(sys.stdout)
        # Where the person looks. A question goes there even when the output goes to a file.
        self._looked_at = sys.stdout if watched or not self._typed else sys.stderr
        self.can_ask = screen.is_terminal(self._looked_at) if self._typed else piped_answers
        self._status: Status | None = None
        self._last_outcome = ""

    # --- the person ----------------------------------------------------------------------

    def message(self) -> str | None:
        """See `Io`."""
        self._last_outcome = ""
        if not self._typed:
            line = line_from(sys.stdin)
            if line is not None:
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
        """See `Desk`."""
        self._quiet()
        if self._as_json and not self._typed:
            self.emit({"type": "question", "text": prompt.strip()})
            return line_from(sys.stdin)
        line = prompted(prompt, self._looked_at)
        if not self._as_json and (line is None or not self._typed):
            # Echoed, or ended: either way the line with the prompt is over.
            self._look_at(screen.told(line or "") + "\n")
        return line

    def question(self, request: ApprovalRequest, number: int, total: int) -> None:
        """See `Desk`."""
        self._quiet()
        if self._as_json:
            told = {"action_id": request.action_id, "tool": request.tool, "text": request.text}
            told |= {"gate": request.gate, "deadline": request.deadline.isoformat()}
            place = {"number": number, "total": total}
            self.emit({"type": "approval", **told, "arguments": dict(request.arguments), **place})
        if not self._as_json or self._typed:
            self._look_at("\n" + question_text(request, number, total, self._looked_at) + "\n")

    def notice(self, text: str) -> None:
        """See `Desk`."""
        self._quiet()
        if self._as_json and not self._typed:
            self.emit({"type": "notice", "text": text})
        else:
            self._look_at(text + "\n")

    def _look_at(self, text: str) -> None:
        self._looked_at.write(text)
        self._looked_at.flush()

    # --- events --------------------------------------------------------------------------

    def emit(self, event: Mapping[str, Any]) -> None:
        """See `Io`."""
        self._quiet()
        if self._as_json:
            screen.document(event)
            return
        text = screen.told(str(event.get("text", "")))
        match event["type"]:
            case "you":
                screen.out(screen.indented(text, _PROMPT, "  "))
            case "message":
                # The offline model ends with the outcome it was told; once is enough.
                if text != self._last_outcome:
                    screen.out(screen.indented(text.strip("\n"), _SPEAKER, _INDENT))
            case "outcome":
                self._last_outcome = text
                screen.out(screen.indented(text, f"[{event['state']}] ", "  "))
            case "error":
                parts = (event["message"], event.get("hint"))
                screen.out("error: " + screen.told(" ".join(filter(None, parts))))
            case "pending":
                screen.out("Nothing was decided and nothing was executed.")
                for action_id in event["action_ids"] if self._pending_help else ():
                    screen.out(self._pending_help.format(action_id=action_id))

    # --- the spinner ---------------------------------------------------------------------

    @contextmanager
    def busy(self) -> Iterator[None]:
        """See `Io`."""
        if self._as_json or not screen.colours(sys.stdout):
            yield
            return
        from rich.console import Console

        self._status = Console(file=sys.stdout).status("working ...", spinner="dots")
        self._status.start()
        try:
            yield
        finally:
            self._quiet()

    def _quiet(self) -> None:
        """Stop the spinner: nothing may move beside what a person reads or types."""
        if self._status is not None:
            self._status.stop()
            self._status = None
