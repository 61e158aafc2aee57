"""A person talks to the moderator: messages in, events out, questions in between.

The graph pauses with one interrupt for all that needs a person. Each question is shown from the
journal's row, decided and run as the other commands do it (`person.finish`); the graph is then
resumed by the interrupt's id and reads from the journal what came of it. No input or Ctrl-C
decides nothing.

Events, on standard output: as text for a person, or as JSON lines.

you      what the person wrote (echoed when it is not typed here)
resumed  a turn that an earlier process did not finish goes on
message  what the model said: indented, so that no line of it can pass for one of ours
outcome  what became of an action, in the gate's words
error    what went wrong
pending  actions that still wait for a person, and how to decide on them
notice, approval, question: around a question (text writes them where the person looks)
"""

from __future__ import annotations

import re
import sqlite3
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from typing import Any, Final

from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, AnyMessage, HumanMessage, ToolMessage
from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import BaseCheckpointSaver
from langgraph.errors import GraphRecursionError
from langgraph.types import Command, Interrupt, StateSnapshot

from hms_active_rooms import blocking
from hms_active_rooms.cli import screen
from hms_active_rooms.cli.person import Desk, Interrupted, finish, line_from, next_step, still_open
from hms_active_rooms.cli.settings import Settings, person_here
from hms_active_rooms.errors import ActiveRoomsError
from hms_active_rooms.gate.actions import CALLS
from hms_active_rooms.gate.approval import ApprovalRequest
from hms_active_rooms.gate.journal.records import FINAL, UNSENT, Action, by_person
from hms_active_rooms.gate.view import view
from hms_active_rooms.moderator.moderator import ModeratorState, build_moderator
from hms_active_rooms.tools.toolkit import ActiveRoomsToolkit
from hms_active_rooms.untrusted import message_of

Given = ModeratorState | Command[Any] | None

LEAVE: Final = re.compile(
    r"\W*(?:(?:ok|okay|thanks|thank you)\W+)?"
    r"(?:exit|quit|q|wq|log ?out|(?:good ?)?bye(?:[ -]bye)?|ciao|see you)\W*",
    re.IGNORECASE,
)

_PROMPT = "> "


class Conversation:
    """One thread of the moderator, about one room. `model`: as `build_moderator` takes it; `saver`
    works asynchronously."""

    def __init__(
        self,
        toolkit: ActiveRoomsToolkit,
        io: Transcript,
        model: BaseChatModel | str | None,
        saver: BaseCheckpointSaver[str],
        *,
        thread: str,
        room_id: str,
    ) -> None:
        self._graph = build_moderator(model, toolkit, room_id=room_id, checkpointer=saver)
        self._gate, self._io, self._thread = toolkit.gate, io, thread
        self._failures = _ModelFailures()
        self._told: set[str] = set()
        self._config = RunnableConfig(
            configurable={"thread_id": thread, "approver": person_here()},
            metadata={"room_id": room_id},
            callbacks=[self._failures],
        )

    def _state(self) -> StateSnapshot:
        return blocking.run(self._graph.aget_state(self._config))

    def room_of_thread(self) -> str | None:
        """The room this thread is about; None for a new thread."""
        room = (self._state().metadata or {}).get("room_id")
        return str(room) if room is not None else None

    def show_history(self) -> None:
        """The last messages of the thread."""
        messages = self._state().values.get("messages", [])
        said = [m for m in messages if isinstance(m, (HumanMessage, AIMessage)) and m.text.strip()]
        for message in said[-10:]:
            kind = "you" if isinstance(message, HumanMessage) else "message"
            self._io.emit({"type": kind, "text": message.text, "earlier": True})

    def run(self, *, new: bool = False) -> bool:
        """Finish what an earlier process left, then talk until the input ends. True: at least one
        action still waits for a person. `new`: no earlier process knew this thread.

        Raises:
            Interrupted: Ctrl-C while a request was on its way; its outcome was told.
            KeyboardInterrupt: Ctrl-C before; what is still open was told.
        """
        if not new:
            state = self._state()
            if state.tasks:
                # LangGraph's tasks, since `next` is empty between a task's writes and its
                # checkpoint. Going on is safe: the journal knows what was sent.
                told = "The last turn was not finished; it goes on."
                self._io.emit({"type": "resumed", "text": told})
                if not self._turn(None, state.interrupts):
                    return True
            else:
                # Open in the journal, though the graph may not know it.
                self._pending([row for row in self._rows() if row.state in UNSENT])
        while (text := self._io.message()) is not None:
            if LEAVE.fullmatch(text):
                break
            if text.strip() and not self._turn({"messages": [HumanMessage(text)]}):
                return True
        return False

    def _rows(self) -> list[Action]:
        with self._gate.journal.read() as reading:
            return reading.actions(thread=self._thread, limit=50)

    def _turn(self, given: Given, asked: Sequence[Interrupt] = ()) -> bool:
        """One message of the person and all that follows; False when actions stay pending."""
        since = self._gate.journal.now()
        self._told.clear()
        try:
            while asked or (asked := self._streamed(given)):
                resume = {}
                for pause in asked:
                    requests = pause.value["action_requests"]
                    if not self._decided(requests):
                        return False
                    # Decided by now, so these decide nothing: a yes changes no such row, and a no
                    # would take back a yes that was not sent yet.
                    yes = [{"type": "approve", "digest": one["digest"]} for one in requests]
                    resume[pause.id] = {"decisions": yes}
                given, asked = Command(resume=resume), ()
        except KeyboardInterrupt:
            self._tell_what_is_left(since)
            raise KeyboardInterrupt from None
        except sqlite3.Error:  # of the checkpoints: the journal has errors of its own
            self._tell_what_is_left(since)
            raise
        return True

    def _tell_what_is_left(self, since: datetime) -> None:
        rows = self._rows()
        sent = [r for r in rows if r.sent_at and r.sent_at >= since and r.id not in self._told]
        for row in sent:
            self._tell(row)
        self._pending([row for row in rows if row.state in UNSENT])
        if unclear := [row for row in sent if row.executed == "maybe"]:
            raise Interrupted(unclear[0]) from None

    def _streamed(self, given: Given) -> Sequence[Interrupt]:
        asked: list[Interrupt] = []

        async def stream() -> None:
            async for update in self._graph.astream(
                given, self._config, stream_mode="updates", durability="sync"
            ):
                assert isinstance(update, dict)
                asked.extend(update.pop("__interrupt__", ()))
                for change in update.values():
                    found = change.get("messages", []) if isinstance(change, dict) else []
                    for message in found if isinstance(found, list) else [found]:
                        self._show(message)

        failed = {"type": "error", "hint": "The conversation goes on."}
        try:
            with self._io.busy():
                blocking.run(stream)
        except ActiveRoomsError as error:
            self._io.emit(failed | screen.error_document(error)["error"])
        except GraphRecursionError:
            text = "The moderator took too many steps and was stopped."
            self._io.emit({**failed, "code": "steps", "message": text})
        except Exception as error:
            # No pause travels as an exception here: LangGraph turns it into an update above.
            if error is not self._failures.last:
                raise
            text = f'The model failed: {type(error).__name__} "{message_of(error)}".'
            self._io.emit({**failed, "code": "model", "message": text})
        return asked

    def _show(self, message: AnyMessage) -> None:
        if isinstance(message, AIMessage) and message.text.strip():
            self._io.emit({"type": "message", "text": message.text})
        elif isinstance(message, ToolMessage) and message.name in CALLS:
            # By code and not in the model's words: the record's text is for whoever reads it,
            # the message's may tell a model what to do next.
            told = {"state": "failed", "decided_way": "", "executed": "no", "text": message.text}
            self._outcome(told | (message.artifact or {}))

    def _tell(self, row: Action) -> None:
        """How an action that was asked about here ended; the graph's own words come too late."""
        self._outcome(view(row).model_dump(mode="json"), next_step(row, self._io.settings))
        self._told.add(row.id)

    def _outcome(self, record: Mapping[str, Any], hint: str = "") -> None:
        """What became of an action, by its `ActionView`, unless it was told before."""
        if (action_id := record.get("action_id")) in self._told:
            return
        state = record["state"]
        if state == "rejected" and not by_person(record["decided_way"]):
            state = "refused"
        told = {"action_id": action_id, "executed": record["executed"], "text": record["text"]}
        self._io.emit({"type": "outcome", "state": state, **told, "hint": hint})

    def _decided(self, requests: Sequence[Mapping[str, Any]]) -> bool:
        """Ask about each of these; False when the input ended: nothing is decided."""
        rows = [blocking.run(self._gate.get(request["action_id"])) for request in requests]
        waiting = [row for row in rows if row.state == "proposed"]
        for number, row in enumerate(waiting, 1):
            if self._io.cannot_ask:
                self._pending(waiting, self._io.cannot_ask)
                return False
            # What went wrong is told by the graph, which tries an open approval once more.
            with suppress(ActiveRoomsError):
                self._io.place = (number, len(waiting))
                ended = finish(self._gate, row, self._io)
                if ended.state in FINAL:
                    self._tell(ended)
                elif ended.state == "proposed":
                    self._pending([ended, *waiting[number:]])
                    return False
        return True

    def _pending(self, rows: Sequence[Action], *texts: str) -> None:
        if rows:
            ids = [row.id for row in rows]
            texts += tuple(still_open(row, self._io.settings) for row in rows)
            self._io.emit({"type": "pending", "action_ids": ids, "text": "\n".join(texts)})


class _ModelFailures(BaseCallbackHandler):
    """Remembers the model's last error, to tell a provider's trouble from a bug of ours."""

    run_inline = True
    last: BaseException | None = None

    def on_llm_error(self, error: BaseException, **_: Any) -> None:
        self.last = error


class Transcript(Desk):
    """A conversation on this process's streams, with `json` one JSON object a line.
    `piped_answers`: an input that is no terminal may answer approvals too; `go_on`: how to go on
    with the conversation later, "" if it cannot; `cannot_ask`: why nobody can be asked here, ""
    when somebody can."""

    way = "interrupt"
    session = True

    def __init__(self, settings: Settings, *, piped_answers: bool, go_on: str) -> None:
        self.settings, self._as_json, self._go_on = settings, settings.json, go_on
        self._typed = screen.is_terminal(sys.stdin)
        self._programs = self._as_json and not self._typed
        watched = not self._as_json and screen.is_terminal(sys.stdout)
        # Where the person looks. A question goes there even when the output goes to a file.
        self.shown = sys.stdout if watched or not self._typed else sys.stderr
        self.cannot_ask = ""
        if self._typed and not screen.is_terminal(self.shown):
            self.cannot_ask = "Nobody can be asked: the output is no terminal."
        elif not self._typed and not piped_answers:
            only = "yes and no are taken from it only with --approve-from-stdin"
            self.cannot_ask = f"Nobody was asked: the input is no terminal, and {only}."
        self._progress = screen.Progress("working", None if self._as_json else sys.stdout)
        self._outcome = ""
        self.busy = self._progress.shown

    def message(self) -> str | None:
        """The person's next message; None when there is no more input."""
        self._outcome = ""
        if not self._typed:
            line = line_from(sys.stdin)
            if line is not None:
                line = line.removeprefix("\ufeff")  # Windows begins a text with it
                self.emit({"type": "you", "text": line})
            return line
        if self.shown is not sys.stdout:
            screen.write(self.shown, _PROMPT)
            return line_from(sys.stdin)
        with suppress(ImportError):  # not on Windows, whose terminal edits lines itself
            import readline  # noqa: F401 - gives input() line editing
        try:
            return input(_PROMPT)
        except EOFError:
            screen.out()
            return None

    def read(self, prompt: str) -> str | None:
        if self._programs:
            self.emit({"type": "question", "text": prompt.strip()})
            return line_from(sys.stdin)
        line = super().read(prompt)
        if line is not None and not self._typed:
            self.notice(screen.told(line))
        return line

    def question(self, request: ApprovalRequest) -> None:
        if self._as_json:
            told = {"action_id": request.action_id, "tool": request.tool, "text": request.text}
            told |= {"gate": request.gate, "deadline": request.deadline.isoformat()}
            place = dict(zip(("number", "total"), self.place, strict=True))
            self.emit({"type": "approval", **told, "arguments": dict(request.arguments), **place})
        if not self._programs:
            super().question(request)

    def notice(self, text: str) -> None:
        if self._programs:
            self.emit({"type": "notice", "text": text})
        else:
            super().notice(text)

    def emit(self, event: Mapping[str, Any]) -> None:
        """Show an event; `type` says what it is."""
        self._progress.stop()
        if self._as_json:
            screen.document(event)
            return
        text = screen.told(str(event.get("text", "")))
        match event["type"]:
            case "you":
                screen.out(text, _PROMPT, "  ")
            case "message":
                # The offline model ends with the outcome it was told; once is enough.
                if text.removeprefix("Nothing was done.\n") != self._outcome:
                    screen.out(text.strip("\n"), "moderator: ", " " * 11)
            case "outcome":
                self._outcome = text
                then = f"\n{event['hint']}" if event.get("hint") else ""
                screen.out(text + then, f"[{event['state']}] ", "  ")
            case "error":
                parts = (event["message"], event.get("hint"))
                screen.out(screen.told(" ".join(filter(None, parts))), "error: ", "  ")
            case "resumed":
                screen.out(text)
            case "pending" if self._go_on:
                screen.out(f"{text}\nOr go on with: {self._go_on}")
            case "pending":
                screen.out("Nothing was decided and nothing was sent.")
