"""A person talks to the moderator: messages in, events out, questions in between.

The graph pauses with one interrupt for all that needs a person. Each question is shown
from the journal's row, not from the graph's state, and the answer is bound to the row's
digest; the graph is resumed by the interrupt's id. No input or Ctrl-C decides nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, Final, Literal, Protocol

from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.messages import AIMessage, AnyMessage, HumanMessage, ToolMessage
from langchain_core.runnables import RunnableConfig
from langgraph.errors import GraphRecursionError
from langgraph.graph.state import CompiledStateGraph
from langgraph.types import Command, Interrupt

from hms_active_rooms import blocking
from hms_active_rooms.cli import screen
from hms_active_rooms.cli.deciding import decide_here
from hms_active_rooms.cli.dialogue import Desk, ask
from hms_active_rooms.errors import ActiveRoomsError
from hms_active_rooms.gate.actions import CALLS
from hms_active_rooms.gate.approval import (
    ApprovalRequest,
    Approve,
    BadAnswer,
    Decision,
    Edit,
    Refuse,
)
from hms_active_rooms.gate.gate import Gate
from hms_active_rooms.gate.journal.records import Action
from hms_active_rooms.untrusted import quoted

Event = Mapping[str, Any]
"""`type` says what it is; see `transcript.py` for how each is shown."""

End = Literal["ended", "waiting"]
"""`waiting`: at least one action still waits for a person."""

LEAVE: Final = frozenset({"exit", "quit", "q", "bye"})
HISTORY_SHOWN: Final = 10


class Io(Desk, Protocol):
    """Where the conversation takes place."""

    can_ask: bool
    """Whether a person can be asked here."""

    def message(self) -> str | None:
        """The person's next message; None when there is no more input."""

    def emit(self, event: Event) -> None:
        """Show one event."""

    def busy(self) -> AbstractContextManager[None]:
        """Show that work goes on, until a question or an event is shown."""


class Conversation:
    """One thread of the moderator graph.

    Args:
        graph: compiled with a checkpointer.
        gate: the gate behind its tools.
        io: where it takes place.
        thread: the thread's id.
        approver: who answers, for the record.
        room_id: kept with the thread.
    """

    def __init__(
        self,
        graph: CompiledStateGraph[Any, Any, Any, Any],
        gate: Gate,
        io: Io,
        *,
        thread: str,
        approver: str,
        room_id: str,
    ) -> None:
        self._graph = graph
        self._gate = gate
        self._io = io
        self._approver = approver
        self._failures = _ModelFailures()
        self._config = RunnableConfig(
            configurable={"thread_id": thread, "approver": approver},
            metadata={"room_id": room_id},
            callbacks=[self._failures],
        )

    # --- what is there already -----------------------------------------------------------

    def room_of_thread(self) -> str | None:
        """The room this thread is about; None for a new thread."""
        metadata = self._graph.get_state(self._config).metadata
        room = (metadata or {}).get("room_id")
        return str(room) if room is not None else None

    def show_history(self) -> None:
        """The last messages of the thread."""
        messages = self._graph.get_state(self._config).values.get("messages", [])
        said = [m for m in messages if isinstance(m, (HumanMessage, AIMessage)) and m.text.strip()]
        for message in said[-HISTORY_SHOWN:]:
            kind = "you" if isinstance(message, HumanMessage) else "message"
            self._io.emit({"type": kind, "text": message.text, "earlier": True})

    # --- the loop ------------------------------------------------------------------------

    def run(self) -> End:
        """Finish what an earlier process left, then talk until the input ends."""
        left = self._graph.get_state(self._config)
        # Killed in the middle of a turn. Going on is safe: the journal knows what was sent.
        if left.tasks and not self._turn(None, left.interrupts):
            return "waiting"
        while (text := self._io.message()) is not None:
            if text.strip().rstrip(".!").lower() in LEAVE:
                break
            if text.strip() and not self._turn({"messages": [HumanMessage(text)]}):
                return "waiting"
        return "ended"

    def _turn(self, given: object, asked: Sequence[Interrupt] = ()) -> bool:
        """One message of the person and all that follows; False when actions stay pending."""
        while asked or (asked := self._streamed(given)):
            resume = self._answered(asked)
            if resume is None:
                return False
            given, asked = Command(resume=resume), ()
        return True

    def _streamed(self, given: object) -> Sequence[Interrupt]:
        """Run the graph until it pauses or ends; what it asks."""
        asked: list[Interrupt] = []
        try:
            with self._io.busy():
                for update in self._graph.stream(
                    given, self._config, stream_mode="updates", durability="sync"
                ):
                    assert isinstance(update, dict)
                    asked += update.pop("__interrupt__", ())
                    for change in update.values():
                        self._show(_messages(change))
        except ActiveRoomsError as error:
            self._io.emit({"type": "error", **screen.error_document(error)["error"]})
        except GraphRecursionError:
            self._fail("steps", "The moderator took too many steps and was stopped.")
        except Exception as error:
            # No pause travels as an exception here: LangGraph turns it into an update above.
            if error is not self._failures.last:
                raise
            text = f"The model failed: {type(error).__name__} {quoted(str(error), 300)}."
            self._fail("model", text)
        return asked

    def _fail(self, code: str, text: str) -> None:
        hint = "The conversation goes on."
        self._io.emit({"type": "error", "code": code, "message": text, "hint": hint})

    def _show(self, messages: Sequence[AnyMessage]) -> None:
        for message in messages:
            if isinstance(message, AIMessage) and message.text.strip():
                self._io.emit({"type": "message", "text": message.text})
            elif isinstance(message, ToolMessage) and message.name in CALLS:
                self._io.emit({"type": "outcome", **_outcome(message)})

    # --- asking --------------------------------------------------------------------------

    def _answered(self, interrupts: Sequence[Interrupt]) -> dict[str, Any] | None:
        """What to resume with, by interrupt; None when the input ended: nothing is decided."""
        resume: dict[str, Any] = {}
        for pause in interrupts:
            ids = [str(asked["action_id"]) for asked in pause.value["action_requests"]]
            answers = self._answers([blocking.run(self._gate.get(action_id)) for action_id in ids])
            if answers is None:
                return None
            resume[pause.id] = {"decisions": answers}
        return resume

    def _answers(self, rows: Sequence[Action]) -> list[dict[str, object]] | None:
        waiting = [row for row in rows if row.state == "proposed"]
        if waiting and not self._io.can_ask:
            self._pending(waiting)
            return None
        answers = {row.id: _no_decision(row) for row in rows}
        for number, row in enumerate(waiting, 1):
            request = self._gate.request(row)
            try:
                decision = self._ask(request, number, len(waiting))
            except KeyboardInterrupt:
                self._io.notice("")  # the terminal wrote ^C where the answer goes
                self._pending(waiting)
                raise
            if decision is None:
                self._pending(waiting)
                return None
            if isinstance(decision, Refuse):
                self._io.notice("No valid answer, so everything asked here is refused.")
                for undecided in waiting:
                    self._decide(undecided.id, decision)
                return [_no_decision(row) for row in rows]
            answers[row.id] = as_answer(decision, request)
        return [answers[row.id] for row in rows]

    def _ask(self, request: ApprovalRequest, number: int, total: int) -> Decision | Refuse | None:
        return ask(
            request,
            self._io,
            on_bad=lambda text: self._decide(request.action_id, BadAnswer(text)),
            session=True,
            number=number,
            total=total,
        )

    def _decide(self, action_id: str, answer: BadAnswer | Refuse) -> None:
        decide_here(self._gate, action_id, answer, by=self._approver, way="interrupt")

    def _pending(self, rows: Sequence[Action]) -> None:
        self._io.emit({"type": "pending", "action_ids": [row.id for row in rows]})


def as_answer(decision: Decision, request: ApprovalRequest) -> dict[str, object]:
    """The decision as the plain object that an interrupt is resumed with, bound to its digest."""
    bound = {"digest": request.digest}
    match decision:
        case Approve():
            return {"type": "approve", "scope": decision.scope, **bound}
        case Edit():
            action = {"name": request.tool, "args": {**request.arguments, **decision.changes}}
            return {"type": "edit", "edited_action": action, **bound}
        case _:
            return {"type": "reject", "message": decision.reason, **bound}


def _no_decision(row: Action) -> dict[str, object]:
    """The answer about a row that is not `proposed` any more, decided elsewhere or too late.

    A yes changes no such row. A no would take back a yes that was not sent yet.
    """
    return {"type": "approve", "digest": row.digest}


class _ModelFailures(BaseCallbackHandler):
    """Remembers the model's last error, to tell a provider's trouble from a bug of ours."""

    last: BaseException | None = None

    def on_llm_error(self, error: BaseException, **_: Any) -> None:
        """See LangChain."""
        self.last = error


def _messages(change: object) -> list[AnyMessage]:
    """The messages in one node's update."""
    found = change.get("messages", []) if isinstance(change, dict) else []
    return list(found) if isinstance(found, list) else [found]


def _outcome(message: ToolMessage) -> dict[str, Any]:
    """How a state-changing call ended, by code and not in the model's words.

    The record's text is for whoever reads it; the message's may tell a model what to do next.
    """
    record = message.artifact if isinstance(message.artifact, dict) else {}
    state, action_id = record.get("state", "failed"), record.get("action_id")
    return {
        # Without an action nobody was asked, so nobody rejected it.
        "state": "refused" if state == "rejected" and action_id is None else state,
        "action_id": action_id,
        "executed": record.get("executed", "no"),
        "text": record.get("text", message.text),
    }
