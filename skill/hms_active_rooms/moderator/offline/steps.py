"""The next message of the offline model, decided from the message history alone.

Only the last message of the person is read as an order. What tools answered is data: it decides
who a name means and what came of a call, never what is to be done. Earlier turns matter for the
question asked last, for whom a pronoun means, and for what was changed last. Pure.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from langchain_core.messages import AIMessage, BaseMessage, ToolCall, ToolMessage
from langchain_core.messages.ai import UsageMetadata

from hms_active_rooms.errors import InvalidCall
from hms_active_rooms.gate.actions import parse_call
from hms_active_rooms.gate.actions.end_room import EndRoom
from hms_active_rooms.gate.actions.remove_peers import RemovePeers
from hms_active_rooms.gate.actions.send_message import SendMessage
from hms_active_rooms.gate.digest import digest
from hms_active_rooms.moderator.offline import audience, replies
from hms_active_rooms.moderator.offline.reading import (
    CHANGES,
    Order,
    is_name,
    plainly,
    read,
    words,
)
from hms_active_rooms.moderator.offline.replies import say
from hms_active_rooms.moderator.offline.roster import (
    Peer,
    RoleGroup,
    Roster,
    Someone,
    covers,
    is_pronoun,
    is_role,
    joined,
    mentioned,
    read_roster,
    resolve,
    sought,
)
from hms_active_rooms.moderator.offline.turns import (
    CHANGING,
    LIST_PEERS,
    RETRIEVE_ROOM,
    TOOLS,
    Result,
    Turn,
    room_of_system,
    turns,
)
from hms_active_rooms.tools.arguments import MAX_ROWS
from hms_active_rooms.untrusted import quoted

MAX_ROUNDS: Final = 3
"""Model messages with tool calls in one turn: one to look, one to look closer, one to act."""

_MAX_TURNS_BACK: Final = 8
"""Earlier turns that are read again, so that a long thread costs little."""


_FILTERS: Final = frozenset({"name", "role", "user_id"})
_MAX_LOOKS: Final = 16
_SHORT_ID: Final = re.compile("[0-9a-fA-F]{8}[0-9a-fA-F-]{0,28}")


@dataclass(frozen=True)
class Call:
    """One tool call to propose."""

    tool: str
    arguments: dict[str, Any]


@dataclass(frozen=True)
class Question:
    """What was asked: for which order one of these is wanted; no options: which words to send."""

    order: Order
    options: tuple[Someone, ...]
    text: str


@dataclass(frozen=True)
class Plan:
    """What a turn comes to, and what it leaves for the next.

    Attributes:
        text: the reply, when there are no calls.
        calls: to propose now.
        question: what the reply asks.
        focus: whom the conversation is about, for a pronoun.
        order: the last order, for "same for Priya".
        options: those of the last question, for "the other one".
        changed: the tool of the last change that was proposed, and the state it got.
        room_id: where.
        heard: what was said last and not understood, which may name whom a pronoun means.
    """

    text: str = ""
    calls: tuple[Call, ...] = ()
    question: Question | None = None
    focus: tuple[Someone, ...] = ()
    order: Order | None = None
    options: tuple[Someone, ...] = ()
    changed: tuple[str, str] | None = None
    room_id: str | None = None
    heard: str = ""


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
        return _message(say("no_answer"))
    plan, system = Plan(), room_of_system(messages)
    for place in range(max(0, len(history) - 1 - _MAX_TURNS_BACK), len(history)):
        before = history[place - 1].closing if place else None
        plan = _after(
            _Turn(history[place], plan, room_id, system, before).plan(), history[place], plan
        )
    if not plan.calls:
        return _message(plan.text)
    if missing := [call.tool for call in plan.calls if call.tool not in available]:
        return _message(replies.not_available(missing[0]))
    if last.rounds >= MAX_ROUNDS:
        return _message(say("too_many_steps"))
    try:
        for call in plan.calls:
            if call.tool in CHANGING:
                parse_call(call.tool, call.arguments)
    except InvalidCall as error:
        return _message(f"That cannot be sent: {error} Nothing was done.")
    turn = [len(messages), last.human.id, last.said]
    return _message("", [_tool_call(c, turn, place) for place, c in enumerate(plan.calls)])


def _after(plan: Plan, turn: Turn, before: Plan) -> Plan:
    """The plan with what the turn really did, and what it does not touch kept from before."""
    changed = [result for result in turn.results if result.tool in CHANGING]
    state = before.changed
    if changed:
        artifact = changed[-1].answer.artifact if changed[-1].answer else None
        told = artifact.get("state") if isinstance(artifact, dict) else None
        state = changed[-1].tool, str(told or ("failed" if changed[-1].failed else "done"))
    return replace(plan, changed=state, room_id=plan.room_id or before.room_id)


def _outcome(answer: ToolMessage | None) -> str:
    if answer is None:
        return say("no_answer")
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
class _Turn:
    """Works out one turn, given what the turn before left."""

    turn: Turn
    before: Plan
    fixed_room: str | None
    system_room: str | None
    closing_before: str | None

    def plan(self) -> Plan:
        """What the turn comes to."""
        said = self.turn.said
        if said is None:
            return Plan(say("text_only"))
        reading, question = read(said), self.before.question
        # Only a question that was really put: the person answers what they have read.
        if question is not None and self.closing_before == question.text:
            answer = self._answer(said, reading.orders, question)
            if answer is not None:
                return answer
        orders = reading.orders or self._again(said)
        if isinstance(orders, Plan):
            return orders
        if not orders:
            heard = reading.why not in ("injection", "reported", "unreadable", "question")
            told = self._kept(replies.not_understood(reading.why))
            return replace(told, heard=said if heard else "")
        if orders[0].verb == "end_it" and self.before.order and self.before.order.verb == "status":
            orders = (Order("end"),)
        if (plan := self._without_room(orders[0])) is not None:
            return plan
        if len(reading.rooms) > 1:
            return Plan(say("two_rooms"))
        if self.fixed_room and reading.rooms - {self.fixed_room}:
            return Plan(say("other_room"))
        named = next(iter(reading.rooms), None)
        room = self.fixed_room or named or self.system_room or self.before.room_id
        if room is None:
            return Plan(say("which_room"))
        if self.before.room_id not in (None, room):
            return replace(self, before=Plan(room_id=room, changed=self.before.changed)).plan()
        return replace(self._carried_out(orders, said, room, reading.corrected), room_id=room)

    def _kept(self, text: str) -> Plan:
        """A reply that leaves whom the conversation is about as it was, and drops the question."""
        return replace(self.before, text=text, calls=(), question=None, heard="")

    def _without_room(self, order: Order) -> Plan | None:
        """What is answered without looking at the room."""
        verb, (tool, state) = order.verb, self.before.changed or ("", "")
        if verb == "help":
            return self._kept(replies.CAPABILITIES_TEXT)
        if verb == "impossible":
            return self._kept(replies.cannot(order.manner))
        if verb in ("no", "undo"):
            if state in ("done", "unknown"):
                return self._kept(say("cannot_undo", next=say(f"after_{tool}")))
            return self._kept(say("not_executed" if tool and verb == "undo" else "nothing_pending"))
        if verb == "verify" and tool in ("", SendMessage.tool):
            told = {"": "", "done": "It was sent.", "unknown": "It may have been sent."}
            outcome = told.get(state, "It was not sent.")
            return self._kept(say("last_message" if tool else "not_changed", outcome=outcome))
        if verb in ("look", "status", "verify", *CHANGES):
            return None
        last, room = self.before.order, self.before.room_id
        others = tuple(one for one in self.before.options if one not in self.before.focus)
        if verb == "other" and last and room and len(others) == 1 and len(self.before.options) == 2:
            return replace(self._acted(last, others, room), room_id=room)
        return self._kept(say("who" if verb == "other" else verb))

    # --- looking ----------------------------------------------------------------------------

    def _room_state(self, room: str) -> Plan:
        answers = [r for r in self.turn.results if r.tool == RETRIEVE_ROOM]
        if not answers or answers[-1].answer is None:
            return self._look(Call(RETRIEVE_ROOM, {"room_id": room}))
        answer = answers[-1].answer
        if answers[-1].failed:
            return self._kept(replies.tool_text(str(answer.text)))
        same = isinstance(answer.artifact, dict) and answer.artifact.get("id") == room
        return self._kept(replies.status(answer.artifact if same else None))

    def _look(self, *calls: Call) -> Plan:
        return replace(self._kept(""), calls=calls)

    def _roster(self, room: str, names: Sequence[str] = (), role: str = "") -> Roster | Plan:
        """What this turn has read of the room, a plan to read more, or why it cannot be read."""
        answers = [r for r in self.turn.results if r.tool == LIST_PEERS]
        if not answers:
            # Without a filter: roles, look-alikes and similar names are seen only in the whole.
            return self._look(Call(LIST_PEERS, {"room_id": room}))
        read_now: list[tuple[Result, Roster]] = []
        for result in answers:
            assert result.answer is not None
            if result.failed:
                return self._kept(replies.tool_text(str(result.answer.text)))
            roster = read_roster(result.answer.artifact, room)
            if roster is None:
                return self._kept(say("no_roster"))
            read_now.append((result, roster))
        plain = [roster for result, roster in read_now if not _FILTERS & result.arguments.keys()]
        if not plain or plain[-1].matching != plain[-1].total:
            return self._kept(say("no_roster"))
        everyone = plain[-1]
        if len(read_now) == 1 and not everyone.is_whole and (names or role):
            looks = [look for name in names for look in sought(name, everyone)]
            found = is_role(role, everyone) if role else None
            looks += [("role", found)] if found else []
            filters = [{"room_id": room, key: value, "limit": MAX_ROWS} for key, value in looks]
            if filters:
                calls = tuple(Call(LIST_PEERS, given) for given in filters[:_MAX_LOOKS])
                return self._look(*calls)
        parts = {
            (key, str(value)): found
            for result, found in read_now
            for key, value in result.arguments.items()
            if key in _FILTERS
        }
        seen = joined(everyone, parts)
        if not all(covers(name, seen) for name in names):
            return self._kept(say("too_many_alike"))
        return seen

    # --- orders -----------------------------------------------------------------------------

    def _carried_out(self, orders: Sequence[Order], said: str, room: str, corrected: str) -> Plan:
        """All of the orders, or, if one of them has to be asked about, none yet."""
        focus, calls, plan = self.before.focus, list[Call](), Plan()
        for order in orders:
            plan = self._one(order, said, room, focus, corrected)
            if not plan.calls or plan.calls[0].tool not in CHANGING:
                if len(orders) > 1 and plan.question is not None:
                    plan = replace(plan, question=None, text=plan.text + "\n" + say("several"))
                return plan
            calls += plan.calls
            focus = plan.focus
        return replace(plan, calls=tuple(calls), order=orders[-1])

    def _one(
        self, order: Order, said: str, room: str, focus: tuple[Someone, ...], corrected: str
    ) -> Plan:
        verb = order.verb
        ended = (self.before.changed or ("",))[0] == EndRoom.tool
        if verb == "status" or (verb == "verify" and ended):
            return replace(self._room_state(room), order=Order("status"))
        if verb == "tell":
            return self._tell(order, said, room, focus)
        if verb == "end":
            arguments = {"room_id": room} | ({"lock": True} if order.lock else {})
            call = Call(EndRoom.tool, _with_reason(arguments, order.reason))
            return Plan(calls=(call,), order=order)
        names = [name for name in order.who if not is_pronoun(name)]
        if verb == "remove":
            if names and words().names["everyone"].fullmatch(names[0]):
                return self._kept(say("everyone"))
            if not (names or focus or order.about or self.before.heard):
                return self._kept(say("who"))
            roster = self._roster(room, names)
            who = roster if isinstance(roster, Plan) else self._people(order, roster, said, focus, corrected)  # fmt: skip
            return self._acted(order, who, room)
        about = audience.names(order.words) if verb == "look" else ("it",)
        one = about[0] if len(about) == 1 and order.manner != "find" else ""
        roster = self._roster(
            room, () if one else [n for n in about if not is_pronoun(n)], role=one
        )
        return roster if isinstance(roster, Plan) else self._seen(order, about, roster)

    def _acted(
        self,
        order: Order,
        who: tuple[Someone, ...] | Plan,
        room: str,
        options: tuple[Someone, ...] = (),
    ) -> Plan:
        if isinstance(who, Plan):
            return who
        calls = tuple(_act(order, one, room) for one in who)
        return Plan(calls=calls, focus=who, order=order, options=options)

    def _seen(self, order: Order, about: Sequence[str], roster: Roster) -> Plan:
        """The people, or those of a role, or whether somebody is there."""
        count = order.manner == "count"
        if not about:
            return self._kept(replies.who_is_here(roster, count=count))
        role = is_role(about[0], roster) if len(about) == 1 else None
        if role is not None:
            text = replies.who_is_here(roster, role, count=count)
            sole = roster.with_role(role) if roster.by_role[role] == 1 else ()
            return replace(self._kept(text), focus=sole or (RoleGroup(role, roster.by_role[role]),))
        here, lines = list[Someone](), list[str]()
        for name in about:
            if not is_pronoun(name):
                options = resolve(name, roster).options
                here += options
                lines += [] if options else [replies.nobody(name, roster)]
                continue
            if not self.before.focus:
                return self._kept(say("who"))
            for one in self.before.focus:
                if isinstance(one, Peer) and one not in roster.peers:
                    lines.append(f"{quoted(one.name)} is not here any more.")
                else:
                    here.append(one)
        if not here and order.manner in ("who", "count") and "is not here any more" not in lines[0]:
            return self._kept(f"{say('chat_unseen')}\n{replies.who_is_here(roster, count=count)}")
        if not here and order.manner == "list":
            return self._kept(replies.not_understood(""))
        lines = [replies.found(here, roster), *lines] if here else lines
        return replace(self._kept("\n".join(lines)), focus=tuple(here) or self.before.focus)

    def _people(
        self,
        order: Order,
        roster: Roster,
        said: str,
        focus: tuple[Someone, ...],
        corrected: str = "",
    ) -> tuple[Someone, ...] | Plan:
        """Those an order is for, each for sure, or the question who is meant."""
        chosen = list[Someone]()
        instead = bool(corrected) and not corrected.startswith("not ")
        for name in [corrected] if instead else order.who:
            if is_pronoun(name):
                people = self._pronoun(name.lower().strip(" .!"), order, roster, focus)
                if not people:
                    return self._kept(say("who"))
                chosen += people
                continue
            found = resolve(name, roster, said)
            if not found.options and not roster.is_whole and _SHORT_ID.fullmatch(name):
                # Ids cannot be looked for; the gate finds whose it is, or nobody's.
                found = replace(found, options=(Peer(name, "", "", ""),), sure=True)
            if not found.options:
                return self._kept(replies.nobody(name.strip("\"'"), roster))
            if not found.sure and not (corrected and len(found.options) == 1):
                text = replies.which(found.options, roster)
                if len(order.who) > 1 and not corrected:
                    return self._kept(text + "\n" + say("several"))
                asked = found.options[: replies.MAX_OPTIONS]
                return Plan(text, question=Question(order, asked, text), order=order, options=asked)
            chosen += found.options
        if corrected and not instead:
            against = resolve(corrected[4:], roster)
            if not against.options or set(against.options) & set(chosen):
                return self._kept(replies.not_understood("negation"))
        return tuple(dict.fromkeys(chosen))

    def _pronoun(
        self, word: str, order: Order, roster: Roster, focus: tuple[Someone, ...]
    ) -> tuple[Someone, ...]:
        focus = mentioned(order.about, roster) or mentioned(self.before.heard, roster) or focus
        many = word in ("them", "they", "those", "both", "them both", "both of them", "em", "'em")
        if not many and (len(focus) > 1 or any(isinstance(one, RoleGroup) for one in focus)):
            return ()
        here = {peer.id for peer in roster.peers}
        return () if any(isinstance(one, Peer) and one.id not in here for one in focus) else focus

    def _tell(self, order: Order, said: str, room: str, focus: tuple[Someone, ...]) -> Plan:
        told, roster = audience.split(order, None), None
        if told is None:
            first = re.findall(r'"[^"]+"|[^\s:,]+', order.words)[:1]
            roster = self._roster(room, list(order.who) or first)
            if isinstance(roster, Plan):
                return roster
            told = audience.split(order, roster)
        if told is None or isinstance(told, str):
            return self._kept(replies.not_understood(told or "no_end"))
        order = replace(order, who=told.who, words=told.words, manner="as is")
        if not told.words:
            text = say("no_message")
            return replace(self._kept(text), question=Question(order, (), text), order=order)
        if not told.who:
            call = Call(SendMessage.tool, {"room_id": room, "message": told.words})
            return Plan(calls=(call,), focus=self.before.focus, order=order)
        roster = roster or self._roster(room, told.who)
        who = roster if isinstance(roster, Plan) else self._people(order, roster, said, focus)
        plan = self._acted(order, who, room)
        if isinstance(who, Plan) or isinstance(roster, Plan):
            return plan
        # Whom the message leaves the conversation about: a person it names, else its audience.
        named = tuple(p for p in mentioned(told.words, roster) if p not in who)
        of_before = told.plain and re.search(r"(?i)\b(?:s?he|him|s?he's)\b", told.words)
        return replace(plan, focus=named or (focus if of_before else who))

    # --- what refers to the turn before -------------------------------------------------------

    def _answer(self, said: str, orders: Sequence[Order], question: Question) -> Plan | None:
        """What the sentence comes to as an answer to the question before it; None if it is none."""
        verb, room = orders[0].verb if orders else "", self.before.room_id
        if verb in ("no", "undo") and len(orders) == 1:
            return replace(self._kept(say("withdrawn")), order=None)
        if room is None:
            return None
        if not question.options:
            other = verb not in ("", "hello", "thanks") or said.rstrip().endswith("?")
            if other or read(said).why in ("unreadable", "injection", "negation"):
                return None
            told = replace(question.order, words=said.strip())
            return replace(self._tell(told, said, room, self.before.focus), room_id=room)
        if verb in ("look", "status", "tell", "end", "help", "verify"):
            return None
        chosen = _choice(said, question.options, verb)
        if chosen is None:
            return None
        if not chosen:
            return self._kept(say("none_of_them"))
        reason = orders[0].reason if verb == "remove" else None
        order = replace(question.order, reason=reason or question.order.reason)
        return replace(self._acted(order, chosen, room, question.options), room_id=room)

    def _again(self, said: str) -> tuple[Order, ...] | Plan:
        """The last order for somebody else: "the other one", "same for Priya", "no, I mean Chen"."""
        last = self.before.order
        if last is None or last.verb not in ("tell", "remove"):
            return ()
        text = said.strip(" .!")
        match = words().guards["same"].fullmatch(text)
        name = next(filter(None, match.groups())) if match else ""
        if not is_name(name) or words().guards["verbs"].match(name):
            return ()
        return (replace(last, who=(name,), about="", reason=None),)


def _act(order: Order, someone: Someone, room: str) -> Call:
    """The call that does this to somebody."""
    key, value = (
        ("role", someone.role) if isinstance(someone, RoleGroup) else ("peer_id", someone.id)
    )
    arguments: dict[str, Any] = {"room_id": room, key: value}
    if order.verb == "tell":
        return Call(SendMessage.tool, {**arguments, "message": order.words})
    return Call(RemovePeers.tool, _with_reason(arguments, order.reason))


def _with_reason(arguments: dict[str, Any], reason: str | None) -> dict[str, Any]:
    return {**arguments, "reason": reason} if reason else arguments


_ORDINALS: Final = ("first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth")
_NUMBERED: Final = re.compile(rf"(?i)(?:the )?(?:number |no\. |option |#)?(\d{{1,2}}|{'|'.join(_ORDINALS)}|last)(?:st|nd|rd|th)?(?: (?:one|person|option))?[.)]?")  # fmt: skip


def _choice(said: str, options: tuple[Someone, ...], verb: str) -> tuple[Someone, ...] | None:
    """The options an answer chooses; () if it is unclear, None if it is no answer."""
    if verb == "yes":
        return options if len(options) == 1 else ()
    if said.rstrip().endswith("?"):
        return ()
    text = words().guards["answering"].sub("", plainly(said)).strip(" ,.!")
    text = re.sub(r"(?i)[ ,]+(?:i (?:mean|meant)|obviously|of course)$", "", text)
    people = tuple(option for option in options if isinstance(option, Peer))
    if place := _NUMBERED.fullmatch(text):
        word = place[1].lower()
        number = int(word) if word.isdigit() else (*_ORDINALS, word).index(word) + 1
        number = len(options) if word == "last" else number
        named = [one for one in people if one.name == text]
        return options[number - 1 : number] if number and not named else ()
    if re.fullmatch(r"(?i)(?:both|all)(?: of)?(?: them| these| three)?", text):
        fits = len(people) == len(options) > 1 and (len(options) == 2 or text[0] not in "bB")
        return options if fits else ()
    if re.match(
        r"(?i)(?:not )?(?:the )?(?:first|second|third|last|\d{1,2}\b)|yes\b.", said.strip()
    ):
        return ()
    shown = Roster(people, len(people), len(people), {option.role: 1 for option in options})
    chosen = list[Someone]()
    for name in audience.names(text):
        if not is_name(name):
            return None
        bare = re.sub(r"(?i)^the (.+) one$|^the ", r"\1", name)
        groups = [o for o in options if isinstance(o, RoleGroup) and is_role(bare, shown) == o.role]
        held = [one for one in people if one.role.casefold() == bare.casefold()]
        found = resolve(name, shown).options
        hits = groups or (found if len(found) == 1 else held)
        if len(hits) != 1:
            return None if verb == "remove" or not found else ()
        chosen += hits
    return tuple(dict.fromkeys(chosen)) or None
