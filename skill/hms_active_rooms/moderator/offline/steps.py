"""The next message of the offline model, decided from the message history alone.

Only the last message of the person is read as an order. What tools answered is data: it decides
who a name means and what came of a call, never what is to be done. Earlier turns matter for the
question asked last, for whom a pronoun means, and for what was changed last. Pure.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, NamedTuple

from langchain_core.messages import AIMessage, BaseMessage, ToolCall
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
    Look,
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

_FILTERS: Final = ("name", "role", "user_id")
_MAX_LOOKS: Final = 16
_SHORT_ID: Final = re.compile("[0-9a-fA-F]{8}[0-9a-fA-F-]{0,28}")
_TOOL_OF: Final = {"tell": SendMessage.tool, "remove": RemovePeers.tool, "end": EndRoom.tool}


class Call(NamedTuple):
    """One tool call to propose."""

    tool: str
    arguments: dict[str, Any]


@dataclass(frozen=True)
class Plan:
    """What a turn comes to, and what it leaves for the next.

    Attributes:
        text: the reply, when there are no calls.
        calls: to propose now.
        asks: the reply asks for which of the options the order is; no options: for its words.
        focus: whom the conversation is about, for a pronoun.
        order: the last order, for "same for Priya".
        options: those of the last question, for "the other one".
        changed: the tool of the last change that was proposed, and the state it got.
        room_id: where.
        heard: what was said last and not understood, which may name whom a pronoun means.
    """

    text: str = ""
    calls: tuple[Call, ...] = ()
    asks: bool = False
    focus: tuple[Someone, ...] = ()
    order: Order | None = None
    options: tuple[Someone, ...] = ()
    changed: tuple[str, str] = ("", "")
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
        return _message("\n".join(replies.outcome(result.answer) for result in changed))
    if any(result.answer is None for result in last.results):
        return _message(say("no_answer"))
    plan, system, closing = Plan(), room_of_system(messages), None
    for turn in history[-1 - _MAX_TURNS_BACK :]:
        # Only a question that was really put counts: the person answers what they have read.
        before = plan if closing == plan.text else replace(plan, asks=False)
        plan, closing = _Turn(turn, before, room_id, system).plan(), turn.closing
        plan = replace(
            plan,
            changed=turn.changed or before.changed,
            room_id=plan.room_id or before.room_id,
        )
    if not plan.calls:
        return _message(plan.text)
    if missing := [call.tool for call in plan.calls if call.tool not in available]:
        return _message(say("not_available", tool=quoted(missing[0])))
    if last.rounds >= MAX_ROUNDS:
        return _message(say("too_many_steps"))
    try:
        for call in plan.calls:
            if call.tool in CHANGING:
                parse_call(call.tool, call.arguments)
    except InvalidCall as error:
        return _message(say("invalid", why=error))
    place = [len(messages), last.human.id, last.said]
    return _message("", [_tool_call(c, place, number) for number, c in enumerate(plan.calls)])


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
    said: str = ""
    room: str = ""
    corrected: str = ""

    def plan(self) -> Plan:
        """What the turn comes to."""
        said, before = self.turn.said, self.before
        if said is None:
            return Plan(say("text_only"))
        reading = read(said)
        here = replace(self, said=said, corrected=reading.corrected, room=before.room_id or "")
        if before.asks and (answer := here._answer(reading.orders)) is not None:
            return answer
        orders = reading.orders or here._again()
        if not orders:
            heard = reading.why not in ("injection", "reported", "unreadable", "question")
            told = self._kept(replies.not_understood(reading.why))
            return replace(told, heard=said if heard else "")
        if orders[0].verb == "end_it" and before.order and before.order.verb == "status":
            orders = (Order("end"),)
        if (plan := here._without_room(orders[0])) is not None:
            return plan
        if len(reading.rooms) > 1:
            return Plan(say("two_rooms"))
        if self.fixed_room and reading.rooms - {self.fixed_room}:
            return Plan(say("other_room"))
        room = self.fixed_room or next(iter(reading.rooms), self.system_room or before.room_id)
        if room is None:
            return Plan(say("which_room"))
        if before.room_id not in (None, room):
            return replace(self, before=Plan(room_id=room, changed=before.changed)).plan()
        return replace(replace(here, room=room)._carried_out(orders), room_id=room)

    def _kept(self, text: str) -> Plan:
        """A reply that leaves whom the conversation is about as it was, and drops the question."""
        return replace(self.before, text=text, calls=(), asks=False, heard="")

    def _not_understood(self, why: str) -> Plan:
        return self._kept(replies.not_understood(why))

    def _without_room(self, order: Order) -> Plan | None:
        """What is answered without looking at the room."""
        verb, (tool, state), last = order.verb, self.before.changed, self.before.order
        if verb == "help":
            return self._kept(replies.CAPABILITIES_TEXT)
        if verb == "impossible":
            return self._kept(say("cannot", what=words().texts["cannot"][order.manner]))
        if verb in ("no", "undo"):
            if state in ("done", "unknown"):
                return self._kept(say("cannot_undo", next=say(f"after_{tool}")))
            return self._kept(say("not_executed" if tool and verb == "undo" else "nothing_pending"))
        if verb == "verify" and tool in ("", SendMessage.tool):
            kind = state if state in ("done", "unknown") else "failed"
            return self._kept(say(f"message_{kind}" if tool else "not_changed"))
        if verb in ("look", "status", "verify", *CHANGES):
            return None
        others = tuple(one for one in self.before.options if one not in self.before.focus)
        if verb == "other" and last and self.room and len(others) + 1 == len(self.before.options) == 2:  # fmt: skip
            return self._acted(last, others)
        return self._kept(say("who" if verb == "other" else verb))

    # --- looking ----------------------------------------------------------------------------

    def _room_state(self) -> Plan:
        answers = [r.answer for r in self.turn.results if r.tool == RETRIEVE_ROOM]
        if not answers or (answer := answers[-1]) is None:
            return self._look({}, tool=RETRIEVE_ROOM)
        failed = answer.status == "error"
        text = replies.outcome(answer) if failed else replies.status(answer.artifact, self.room)
        return replace(self._kept(text), order=Order("status"))

    def _look(self, *filters: dict[str, Any], tool: str = LIST_PEERS) -> Plan:
        calls = tuple(Call(tool, {"room_id": self.room, **given}) for given in filters)
        return replace(self._kept(""), calls=calls)

    def _roster(self, names: Sequence[str] = (), role: str = "") -> Roster | Plan:
        """What this turn has read of the room, a plan to read more, or why it cannot be read."""
        answers = [r for r in self.turn.results if r.tool == LIST_PEERS]
        if not answers:
            # Without a filter: roles, look-alikes and similar names are seen only in the whole.
            return self._look({})
        everyone, parts = None, dict[Look, Roster]()
        for result in answers:
            if result.answer is not None and result.failed:
                return self._kept(replies.outcome(result.answer))
            roster = read_roster(result.answer and result.answer.artifact, self.room)
            if roster is None:
                return self._kept(say("no_roster"))
            filtered = {(k, str(v)): roster for k, v in result.arguments.items() if k in _FILTERS}
            parts |= filtered
            everyone = everyone if filtered else roster
        if everyone is None or everyone.matching != everyone.total:
            return self._kept(say("no_roster"))
        if len(answers) == 1 and not everyone.is_whole:
            looks = [look for name in names for look in sought(name, everyone)]
            if role and (found := is_role(role, everyone)):
                looks.append(("role", found))
            if looks:
                return self._look(*({k: v, "limit": MAX_ROWS} for k, v in looks[:_MAX_LOOKS]))
        seen = joined(everyone, parts)
        if not all(covers(name, seen) for name in names):
            return self._kept(say("too_many_alike"))
        return seen

    # --- orders -----------------------------------------------------------------------------

    def _carried_out(self, orders: Sequence[Order]) -> Plan:
        """All of the orders, or, if one of them has to be asked about, none yet."""
        here, calls, plan = self, list[Call](), Plan()
        for order in orders:
            plan = here._one(order)
            if not plan.calls or plan.calls[0].tool not in CHANGING:
                if len(orders) > 1 and plan.asks:
                    plan = replace(plan, asks=False, text=f"{plan.text}\n{say('several')}")
                return plan
            calls += plan.calls
            here = replace(self, before=replace(self.before, focus=plan.focus))
        return replace(plan, calls=tuple(calls), order=orders[-1])

    def _one(self, order: Order) -> Plan:
        verb, before = order.verb, self.before
        if verb == "status" or (verb == "verify" and before.changed[0] == EndRoom.tool):
            return self._room_state()
        if verb == "tell":
            return self._tell(order)
        if verb == "end":
            return replace(self._acted(order, (None,)), focus=())
        if verb == "remove":
            names = [name for name in order.who if not is_pronoun(name)]
            if names and words().names["everyone"].fullmatch(names[0]):
                return self._kept(say("everyone"))
            if not (names or before.focus or order.about or before.heard):
                return self._kept(say("who"))
            roster = self._roster(names)
            who = roster if isinstance(roster, Plan) else self._people(order, roster)
            return who if isinstance(who, Plan) else self._acted(order, who)
        about = audience.names(order.words) if verb == "look" else ("it",)
        if len(about) == 1 and order.manner != "find":
            roster = self._roster(role=about[0])
        else:
            roster = self._roster([name for name in about if not is_pronoun(name)])
        return roster if isinstance(roster, Plan) else self._seen(order, about, roster)

    def _acted(
        self,
        order: Order,
        who: tuple[Someone | None, ...],
        options: tuple[Someone, ...] = (),
    ) -> Plan:
        """The calls that do this to each of them; None stands for the whole room."""
        calls = tuple(_call(order, one, self.room) for one in who)
        focus = tuple(one for one in who if one) or self.before.focus
        return Plan(calls=calls, focus=focus, order=order, options=options)

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
        here, gone, unknown = list[Someone](), list[str](), list[str]()
        for name in about:
            if not is_pronoun(name):
                options = resolve(name, roster).options
                here += options
                unknown += [] if options else [replies.nobody(name, roster)]
            elif not self.before.focus:
                return self._kept(say("who"))
            for one in self.before.focus if is_pronoun(name) else ():
                if isinstance(one, Peer) and one not in roster.peers:
                    gone.append(say("gone", name=quoted(one.name)))
                else:
                    here.append(one)
        if not here and order.manner in ("who", "count") and not gone:
            return self._kept(f"{say('chat_unseen')}\n{replies.who_is_here(roster, count=count)}")
        if not here and order.manner == "list":
            return self._not_understood("")
        lines = [*([replies.found(here, roster)] if here else []), *gone, *unknown]
        return replace(self._kept("\n".join(lines)), focus=tuple(here) or self.before.focus)

    def _people(self, order: Order, roster: Roster) -> tuple[Someone, ...] | Plan:
        """Those an order is for, each for sure, or the question who is meant."""
        chosen, corrected = list[Someone](), self.corrected
        instead = bool(corrected) and not corrected.startswith("not ")
        for name in [corrected] if instead else order.who:
            if is_pronoun(name):
                people = self._pronoun(name, order, roster)
                if not people:
                    return self._kept(say("who"))
                chosen += people
                continue
            found = resolve(name, roster, self.said)
            if not found.options and not roster.is_whole and _SHORT_ID.fullmatch(name):
                # Ids cannot be looked for; the gate finds whose it is, or nobody's.
                found = replace(found, options=(Peer(name, "", "", ""),), sure=True)
            if not found.options:
                return self._kept(replies.nobody(name.strip("\"'"), roster))
            if not found.sure and not (corrected and len(found.options) == 1):
                text = replies.which(found.options, roster)
                if len(order.who) > 1 and not corrected:
                    return self._kept(f"{text}\n{say('several')}")
                options = found.options[: replies.MAX_OPTIONS]
                return Plan(text, asks=True, order=order, options=options)
            chosen += found.options
        if corrected and not instead:
            against = resolve(corrected.removeprefix("not "), roster)
            if not against.options or set(against.options) & set(chosen):
                return self._not_understood("negation")
        return tuple(dict.fromkeys(chosen))

    def _pronoun(self, word: str, order: Order, roster: Roster) -> tuple[Someone, ...]:
        told = mentioned(order.about, roster) or mentioned(self.before.heard, roster)
        focus = told or self.before.focus
        many = words().names["many"].fullmatch(word.strip(" .!"))
        if not many and (len(focus) > 1 or any(isinstance(one, RoleGroup) for one in focus)):
            return ()
        here = {peer.id for peer in roster.peers}
        return () if any(isinstance(one, Peer) and one.id not in here for one in focus) else focus

    def _tell(self, order: Order) -> Plan:
        told, roster = audience.split(order, None), None
        if told is None:
            first = re.findall(r'"[^"]+"|[^\s:,]+', order.words)[:1]
            roster = self._roster(order.who or first)
            if isinstance(roster, Plan):
                return roster
            told = audience.split(order, roster)
        if told is None or isinstance(told, str):
            return self._not_understood(told or "no_end")
        order = replace(order, who=told.who, words=told.words, manner="as is")
        if not told.words:
            asked = replace(self._kept(say("no_message")), asks=True)
            return replace(asked, order=order, options=())
        if not told.who:
            return self._acted(order, (None,))
        roster = roster or self._roster(told.who)
        who = roster if isinstance(roster, Plan) else self._people(order, roster)
        if isinstance(who, Plan) or isinstance(roster, Plan):
            return who if isinstance(who, Plan) else self._kept("")
        # Whom the message leaves the conversation about: a person it names, else its audience.
        named = tuple(p for p in mentioned(told.words, roster) if p not in who)
        of_before = told.plain and re.search(r"(?i)\b(?:s?he|him|s?he's)\b", told.words)
        focus = named or (self.before.focus if of_before else who)
        return replace(self._acted(order, who), focus=focus)

    # --- what refers to the turn before -------------------------------------------------------

    def _answer(self, orders: Sequence[Order]) -> Plan | None:
        """What the sentence comes to as an answer to the question before it; None if it is none."""
        verb, said = orders[0].verb if orders else "", self.said
        last, options = self.before.order, self.before.options
        if verb in ("no", "undo") and len(orders) == 1:
            return replace(self._kept(say("withdrawn")), order=None)
        if not self.room or last is None:
            return None
        if not options:
            other = verb not in ("", "hello", "thanks") or said.rstrip().endswith("?")
            if other or read(said).why in ("unreadable", "injection", "negation"):
                return None
            return self._tell(replace(last, words=said.strip()))
        if verb in ("look", "status", "tell", "end", "help", "verify"):
            return None
        chosen = _choice(said, options, verb)
        if chosen is None:
            return None
        if not chosen:
            return self._kept(say("none_of_them"))
        reason = orders[0].reason if verb == "remove" else None
        return self._acted(replace(last, reason=reason or last.reason), chosen, options)

    def _again(self) -> tuple[Order, ...]:
        """The last order for somebody else: "same for Priya", "no, I mean Chen"."""
        last, match = self.before.order, words().guards["same"].fullmatch(self.said.strip(" .!"))
        name = next(filter(None, match.groups())) if match else ""
        if last and last.verb in ("tell", "remove") and is_name(name):
            other = replace(last, who=(name,), about="", reason=None)
            return () if words().guards["verbs"].match(name) else (other,)
        return ()


def _call(order: Order, to: Someone | None, room: str) -> Call:
    arguments: dict[str, Any] = {"room_id": room}
    if to is not None:
        arguments |= {"role": to.role} if isinstance(to, RoleGroup) else {"peer_id": to.id}
    if order.verb == "tell":
        given: dict[str, Any] = {"message": order.words}
    else:
        given = {"lock": order.lock, "reason": order.reason}
    return Call(_TOOL_OF[order.verb], arguments | {k: v for k, v in given.items() if v})


def _choice(said: str, options: tuple[Someone, ...], verb: str) -> tuple[Someone, ...] | None:
    """The options an answer chooses; () if it is unclear, None if it is no answer."""
    guards = words().guards
    if verb == "yes":
        return options if len(options) == 1 else ()
    if said.rstrip().endswith("?"):
        return ()
    text = guards["answering"].sub("", plainly(said)).strip(" ,.!")
    text = guards["answered"].sub("", text).strip(" ,")
    people = tuple(option for option in options if isinstance(option, Peer))
    if place := _NUMBERED.fullmatch(text):
        word = place[1].lower()
        number = int(word) if word.isdigit() else (*_ORDINALS, word).index(word) + 1
        number = len(options) if word == "last" else number
        named = [one for one in people if one.name == text]
        return options[number - 1 : number] if number and not named else ()
    if guards["all_of_them"].fullmatch(text):
        fits = len(people) == len(options) > 1 and (len(options) == 2 or text[0] not in "bB")
        return options if fits else ()
    if guards["unclear"].match(said.strip()):
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


_ORDINALS: Final = ("first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth")
_NUMBERED: Final = re.compile(rf"(?i)(?:the )?(?:number |no\. |option |#)?(\d{{1,2}}|{'|'.join(_ORDINALS)}|last)(?:st|nd|rd|th)?(?: (?:one|person|option))?[.)]?")  # fmt: skip
