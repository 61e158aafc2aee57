"""A person talks with the moderator in a terminal, or a program by JSON lines.

The graph pauses with one interrupt for all actions that need a person. `person.finish` asks about
each action, and runs it. Then the graph continues, and reads in the journal how the actions ended.

Standard output has these events, as text or, with `--json`, as JSON lines:

started   the conversation's name and its room (only with `--json`)
you       what the person wrote, if it came from a pipe
resumed   a turn that an earlier process did not finish continues
message   what the model said
outcome   how an action ended
error     what went wrong
pending   which actions still wait for a person, and how to decide on them
approval  an action that the person is asked about
question  the prompt for the next line
notice    a remark about a question or an answer
"""

from __future__ import annotations

import re
import sqlite3
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import datetime
from typing import Any, Final

from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, AnyMessage, HumanMessage, ToolMessage
from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import BaseCheckpointSaver
from langgraph.errors import EmptyInputError, GraphRecursionError
from langgraph.types import Interrupt, StateSnapshot

from hms_active_rooms import blocking
from hms_active_rooms.cli import screen
from hms_active_rooms.cli.person import Desk, Interrupted, finish, line_from, next_step, still_open
from hms_active_rooms.cli.settings import Settings
from hms_active_rooms.errors import ActiveRoomsError
from hms_active_rooms.gate.actions import CALLS
from hms_active_rooms.gate.approval import ApprovalRequest
from hms_active_rooms.gate.journal.records import FINAL, Action, by_person
from hms_active_rooms.gate.view import view
from hms_active_rooms.moderator.moderator import ModeratorInput, build_moderator
from hms_active_rooms.tools.toolkit import ActiveRoomsToolkit
from hms_active_rooms.untrusted import message_of

Given = ModeratorInput | None

LEAVE: Final = re.compile(
    r"\W*(?:(?:ok|okay|thanks|thank you)\W+)?"
    r"(?:exit|quit|q|wq|leave|log ?out|(?:good ?)?(?:bye(?:[ -]bye)?|night)|ciao|cya|see y(?:ou|a)"
    r"|that'?s (?:all|it)|i'?m done)\W*",
    re.IGNORECASE,
)

_PROMPT = "> "
_SAID: Final = {"human": "you", "ai": "message"}  # the event that shows an earlier message again


class Conversation:
    """A conversation with the moderator about one room.

    Args:
        toolkit: the tools of the moderator.
        io: reads the person's lines, and writes text.
        model: a chat model or its name; None for the offline model.
        saver: an asynchronous checkpointer that keeps the conversation.
        thread: the conversation's name.
        room_id: the room.
    """

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
        self._graph = build_moderator(
            model, toolkit, room_id=room_id, checkpointer=saver, records_questions=False
        )
        self._gate, self._io, self._thread, self._room_id = toolkit.gate, io, thread, room_id
        self._failures = _ModelFailures()
        self._told: set[str] = set()
        self._asked = set[str]()  # the calls (`call_key`) that this turn asks about
        self._config = RunnableConfig(
            configurable={"thread_id": thread},
            metadata={"room_id": room_id},
            callbacks=[self._failures],
        )

    def state(self) -> StateSnapshot:
        """The saved state of the conversation, from LangGraph. Its metadata has the room's id."""
        return blocking.run(self._graph.aget_state(self._config))

    def run(self, *, new: bool = False) -> bool:
        """Talk until the input ends or the person says goodbye. Return whether an action still waits for a
        person.

        Args:
            new: a new conversation. Else its last messages are shown, and its last turn is finished.

        Raises:
            KeyboardInterrupt: Ctrl-C; the person was told how the actions ended.
            Interrupted: Ctrl-C, and the outcome of an action is not known.
        """
        self._io.emit({"type": "started", "thread": self._thread, "room_id": self._room_id})
        if not new:
            state = self.state()
            said = [
                m for m in state.values.get("messages", []) if m.type in _SAID and m.text.strip()
            ]
            for message in said[-10:]:
                self._io.emit({"type": _SAID[message.type], "text": message.text, "earlier": True})
            if state.tasks:
                # `state.next` may be empty though the last turn is unfinished. To continue is safe,
                # because the journal knows what was sent.
                told = "The last turn was not finished; it goes on."
                self._io.emit({"type": "resumed", "text": told})
                if not self._turn(None, state.interrupts):
                    return True
            else:
                # The journal may have open actions though the graph has no open task.
                self._pending(self._rows())
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
        """Run one turn. `asked` are questions of an earlier process that are still open. Returns
        False if an action still waits for a person."""
        since = self._gate.journal.now()
        self._told.clear()
        self._asked.clear()
        try:
            while asked or (asked := self._streamed(given)):
                if not all(self._decided(pause.value["action_requests"]) for pause in asked):
                    return False
                # The graph goes on without an answer, since the journal has all decisions. What the
                # journal does not have (another one, or pruned) the graph asks about anew.
                given, asked = None, ()
            if given is None:  # a person was asked, and a yes may not have been sent
                with suppress(ActiveRoomsError):
                    rows = [row for row in self._rows() if not row.contradiction]
                    for row in [row for row in rows if row.state == "approved"]:
                        told = still_open(row, self._io.settings)
                        # A conversation that was deleted meanwhile does not have the call any more.
                        if row.call_key in self._asked and self.state().values:
                            told += " A new message here takes it back, too."
                        self._io.notice(told)
        except sqlite3.Error:  # from the checkpointer; the journal raises JournalError
            self._tell_what_is_left(since)
            raise
        except KeyboardInterrupt:
            self._tell_what_is_left(since)
            raise KeyboardInterrupt from None  # not `Interrupted`: the outcome is shown already
        return True

    def _tell_what_is_left(self, since: datetime) -> None:
        rows = self._rows()
        sent = [r for r in rows if r.sent_at and r.sent_at >= since and r.id not in self._told]
        for row in sent:
            self._tell(row)
        self._pending(rows)
        if unclear := [row for row in sent if row.executed == "maybe"]:
            raise Interrupted(unclear[0]) from None

    def _streamed(self, given: Given) -> Sequence[Interrupt]:
        asked: list[Interrupt] = []
        shown: list[bool] = []

        async def stream() -> None:
            async for update in self._graph.astream(
                given, self._config, stream_mode="updates", durability="sync"
            ):
                assert isinstance(update, dict)
                asked.extend(update.pop("__interrupt__", ()))
                for change in update.values():
                    found = change.get("messages", []) if isinstance(change, dict) else []
                    for message in found if isinstance(found, list) else [found]:
                        shown.append(self._show(message))

        failed = {"type": "error", "hint": "The conversation goes on."}
        try:
            with self._io.busy():
                blocking.run(stream)
            if shown and not (asked or any(shown) or self._told):
                text = "The model gave no answer. Write it again, or in other words."
                self._io.emit({"type": "error", "code": "model", "message": text})
        except ActiveRoomsError as error:
            self._io.emit(failed | screen.error_document(error)["error"])
        except GraphRecursionError:
            text = "The moderator took too many steps and was stopped."
            self._io.emit({**failed, "code": "steps", "message": text})
        except EmptyInputError:
            text = "This conversation was deleted meanwhile, for example by `chats prune`."
            begins = {"hint": "Your next message begins it anew."}
            self._io.emit({**failed, "code": "deleted", "message": text, **begins})
        except Exception as error:
            # An interrupt of the graph is no exception here: it comes as an update, see above.
            if error is not self._failures.last:
                raise
            text = f'The model failed: {type(error).__name__} "{message_of(error)}".'
            self._io.emit({**failed, "code": "model", "message": text})
        return asked

    def _show(self, message: AnyMessage) -> bool:
        """Show the message, if it is for the person. Returns whether it is."""
        if isinstance(message, AIMessage) and message.text.strip():
            self._io.emit({"type": "message", "text": message.text})
        elif isinstance(message, ToolMessage) and message.name in CALLS:
            # The artifact's text is for people; the message's text is for the model.
            told = {"state": "failed", "decided_way": "", "executed": "no", "text": message.text}
            self._outcome(told | (message.artifact or {}))
        else:
            return False
        return True

    def _tell(self, row: Action) -> None:
        """Show now how an action ended. The graph shows it only at the end of the turn."""
        self._outcome(view(row).model_dump(mode="json"), next_step(row, self._io.settings))
        self._told.add(row.id)

    def _outcome(self, record: Mapping[str, Any], hint: str = "") -> None:
        """Show how an action ended, if it was not shown already. `record` is its `ActionView`."""
        if (action_id := record.get("action_id")) in self._told:
            return
        state = record["state"]
        if state == "rejected" and not by_person(record["decided_way"]):
            state = "refused"
        told = {"action_id": action_id, "executed": record["executed"], "text": record["text"]}
        self._io.emit({"type": "outcome", "state": state, **told, "hint": hint})

    def _decided(self, requests: Sequence[Mapping[str, Any]]) -> bool:
        """Ask about each request. Returns False if nobody can be asked, or the input ended."""
        rows = [self._gate.journal.get(request["action_id"]) for request in requests]
        self._asked.update(row.call_key for row in rows if row is not None)
        waiting = [row for row in rows if row is not None and row.waiting]
        for number, row in enumerate(waiting, 1):
            if self._io.cannot_ask:
                self._pending(waiting, self._io.cannot_ask)
                return False
            # The graph tries again and shows the error, so it is not shown here.
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
        left = {row.id: told for row in rows if (told := still_open(row, self._io.settings))}
        if left:
            text = "\n".join((*texts, *left.values()))
            self._io.emit({"type": "pending", "action_ids": [*left], "text": text})


class _ModelFailures(BaseCallbackHandler):
    """Remembers the model's last error, to tell it from an error of this program."""

    run_inline = True
    last: BaseException | None = None

    def on_llm_error(self, error: BaseException, **_: Any) -> None:
        self.last = error


class Transcript(Desk):
    """Reads the person's lines, and writes text or JSON lines.

    Args:
        piped_answers: an approval may come from a pipe.
        go_on: the command that continues the conversation later; "" for none.
    """

    way = "interrupt"
    session = True

    def __init__(self, settings: Settings, *, piped_answers: bool, go_on: str) -> None:
        self.settings, self._as_json, self._go_on = settings, settings.json, go_on
        self._typed = screen.is_terminal(sys.stdin)
        self._programs = self._as_json and not self._typed
        watched = not self._as_json and screen.is_terminal(sys.stdout)
        # If the output is a file, questions go to standard error.
        self.shown = sys.stdout if watched or not self._typed else sys.stderr
        self.cannot_ask = ""  # why nobody can be asked here; "" if somebody can
        if self._typed and not screen.is_terminal(self.shown):
            self.cannot_ask = "Nobody can be asked: the output is no terminal."
        elif not self._typed and not piped_answers:
            only = "answers from a pipe count only with --approve-from-stdin"
            self.cannot_ask = f"Nobody was asked: the input is no terminal, and {only}."
        self._stop_progress: Callable[[], None] = lambda: None
        self._outcome = ""

    @contextmanager
    def busy(self) -> Iterator[None]:
        """Show that the moderator is busy, until the next event or the end of the block."""
        stream = None if self._as_json else sys.stdout
        with screen.progress("working", stream) as self._stop_progress:
            yield

    def message(self) -> str | None:
        """The person's next message; None if there is no more input."""
        self._outcome = ""
        if not self._typed:
            line = line_from(sys.stdin)
            if line is not None:
                line = line.removeprefix("\ufeff")  # byte order mark, from Windows
                self.emit({"type": "you", "text": line})
            return line
        if self.shown is not sys.stdout:
            screen.write(self.shown, _PROMPT)
            return line_from(sys.stdin)
        with suppress(ImportError):  # on Windows the terminal edits lines itself
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
        """Print an event of the conversation, as text or as a JSON line."""
        self._stop_progress()
        if self._as_json:
            screen.document(event)
            return
        text = screen.told(str(event.get("text", "")))
        match event["type"]:
            case "you":
                screen.out(text, _PROMPT, "  ")
            case "message":
                # The offline model repeats the outcome that is shown already.
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
