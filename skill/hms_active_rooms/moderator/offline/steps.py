"""The next message of the offline model, decided from the message history alone.

Only the last message of the person is read as a command. What tools answered is data:
it decides who a name means and what came of a call, never what is to be done. Earlier
turns matter for two things: the question asked in the turn before, and the one person
the turn before was about ("remove him").

At most two rounds of reading and one of changing a turn, then text. Pure.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from langchain_core.messages import AIMessage, BaseMessage, ToolCall, ToolMessage
from langchain_core.messages.ai import UsageMetadata

from hms_active_rooms.errors import InvalidCall
from hms_active_rooms.gate.actions import parse_call
from hms_active_rooms.gate.digest import digest
from hms_active_rooms.moderator.offline import replies
from hms_active_rooms.moderator.offline.choices import choose
from hms_active_rooms.moderator.offline.intents import (
    Answer,
    Find,
    Hello,
    Help,
    Impossible,
    Intent,
    Refused,
    Remove,
    Split,
    Target,
    Tell,
    Thanks,
    Unknown,
)
from hms_active_rooms.moderator.offline.plans import (
    CHANGING,
    TOOLS,
    Call,
    Plan,
    act,
    plan_in_room,
    sole,
)
from hms_active_rooms.moderator.offline.rooms import RoomProblem, room_for, understand
from hms_active_rooms.moderator.offline.turns import Turn, room_of_system, turns

MAX_ROUNDS: Final = 3
"""Model messages with tool calls in one turn: to look, to look for somebody who was not shown in
a large room, and to act."""

_MAX_TURNS_BACK: Final = 6
"""A chain of answers and pronouns is followed this far, so that a long one costs little."""

_ROOM_TEXT: Final[dict[RoomProblem, str]] = {
    "none": replies.WHICH_ROOM,
    "other": replies.OTHER_ROOM,
    "two": replies.TWO_ROOMS,
}


def next_step(
    messages: Sequence[BaseMessage],
    room_id: str | None,
    available: frozenset[str] = TOOLS,
) -> AIMessage:
    """The model's answer to a history: tool calls, or text that ends the turn.

    Args:
        messages: any history, also one that other agents or models wrote.
        room_id: the room of the conversation; None to take it from the sentence or the
            system message.
        available: names of the tools that may be called.
    """
    history = turns(messages)
    if not history:
        return _message(replies.CAPABILITIES_TEXT)
    last = history[-1]
    if changed := [result for result in last.results if result.tool in CHANGING]:
        return _message("\n".join(_outcome(result.answer) for result in changed))
    if any(result.answer is None for result in last.results):
        return _message(replies.NO_ANSWER)
    plan = _Reader(history, room_id, room_of_system(messages)).plan(len(history) - 1)
    if not plan.calls:
        return _message(plan.text)
    if missing := [call.tool for call in plan.calls if call.tool not in available]:
        return _message(replies.not_available(missing[0]))
    if last.rounds >= MAX_ROUNDS:
        return _message(replies.TOO_MANY_STEPS)
    try:
        for call in plan.calls:
            if call.tool in CHANGING:
                parse_call(call.tool, call.arguments)
    except InvalidCall as error:
        return _message(replies.not_possible(str(error)))
    turn = [len(messages), last.human.id, last.said]
    return _message("", [_tool_call(c, turn, place) for place, c in enumerate(plan.calls)])


def _outcome(answer: ToolMessage | None) -> str:
    if answer is None:
        return replies.NO_ANSWER
    if answer.status == "error":
        return replies.tool_text(str(answer.text))
    state = answer.artifact.get("state") if isinstance(answer.artifact, dict) else None
    return replies.outcome(str(answer.text), state)


def _message(text: str, calls: Sequence[ToolCall] = ()) -> AIMessage:
    nothing = UsageMetadata(input_tokens=0, output_tokens=0, total_tokens=0)
    return AIMessage(text, tool_calls=list(calls), usage_metadata=nothing)


def _tool_call(call: Call, turn: list[int | str | None], place: int) -> ToolCall:
    # The person's message has an id of its own in a graph, so the same words said again,
    # or a history cut to a fixed length, still give other ids.
    name = digest({"turn": turn, "place": place})[:24]
    return ToolCall(name=call.tool, args=call.arguments, id=f"call_{name}", type="tool_call")


@dataclass(frozen=True)
class _Reader:
    """Works out turns of one history."""

    history: tuple[Turn, ...]
    fixed_room: str | None
    system_room: str | None

    def plan(self, place: int, back: int = 0) -> Plan:
        """What the turn at this place comes to, `back` turns before the last."""
        turn = self.history[place]
        said = turn.said
        if said is None:
            return Plan(replies.TEXT_ONLY)
        understood = understand(said)
        intent = understood.intent
        if (text := _without_room(intent)) is not None and not isinstance(intent, Answer | Unknown):
            return Plan(text)
        if (answer := self._answer(said, intent, place, back)) is not None:
            return answer
        if text is not None:
            return Plan(text)
        if _has_pronoun(intent):
            return self._about_the_last(intent, understood.rooms, place, back)
        room, problem = room_for(understood.rooms, self.fixed_room, self.system_room)
        if room is None:
            return Plan(_ROOM_TEXT[problem or "none"])
        return replace(plan_in_room(intent, turn, room), room_id=room)

    def _before(self, place: int, back: int) -> Plan:
        if place == 0 or back >= _MAX_TURNS_BACK:
            return Plan()
        return self.plan(place - 1, back + 1)

    def _answer(self, said: str, intent: Intent, place: int, back: int) -> Plan | None:
        """What the sentence comes to as an answer to the question before it; None if it is none."""
        if not isinstance(intent, Answer | Unknown | Remove):
            return None
        before = self._before(place, back)
        question = before.question
        # Only a question that was really put: the person answers what they have read.
        if question is None or self.history[place - 1].closing != before.text:
            return None
        if isinstance(intent, Remove) and not isinstance(question.action, Remove):
            return None
        chosen = choose(said, intent, question.options)
        if chosen is None or before.room_id is None:
            return None
        if chosen == "none":
            return Plan(replies.WITHDRAWN)
        if chosen == "unclear":
            return Plan(replies.NONE_OF_THEM)
        action = question.action
        if isinstance(intent, Remove) and isinstance(action, Remove):
            action = replace(action, reason=intent.reason or action.reason)
        calls = tuple(act(action, someone, before.room_id) for someone in chosen)
        return Plan(calls=calls, named=sole(chosen), room_id=before.room_id)

    def _about_the_last(self, intent: Intent, rooms: frozenset[str], place: int, back: int) -> Plan:
        before = self._before(place, back)
        room, _ = room_for(rooms, self.fixed_room, self.system_room)
        if before.named is None or before.room_id is None or room not in (None, before.room_id):
            return Plan(replies.WHO)
        action = intent.splits[0] if isinstance(intent, Tell) else intent
        if not isinstance(action, Split | Remove):
            return Plan(replies.WHO)
        call = act(action, before.named, before.room_id)
        return Plan(calls=(call,), named=before.named, room_id=before.room_id)


def _without_room(intent: Intent) -> str | None:
    """The reply to what needs no room."""
    match intent:
        case Help():
            return replies.CAPABILITIES_TEXT
        case Hello():
            return replies.HELLO
        case Thanks():
            return replies.THANKS
        case Answer(yes=yes):
            return replies.NOTHING_TO_APPROVE if yes else replies.NOTHING_PENDING
        case Impossible(trick=trick):
            return replies.impossible(trick)
        case Refused(why=why):
            return replies.refused(why)
        case Unknown(unreadable=unreadable):
            return replies.not_understood(unreadable=unreadable)
    return None


def _has_pronoun(intent: Intent) -> bool:
    match intent:
        case Remove(target=Target(form="pronoun")) | Find(target=Target(form="pronoun")):
            return True
        case Tell(splits=splits):
            return splits[0].target.form == "pronoun"
    return False
