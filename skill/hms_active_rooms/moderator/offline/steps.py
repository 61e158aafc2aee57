"""The next message of the offline model, decided from the message history alone. Pure.

Only the last message of the person is read as an order. What tools answered is data: it decides
who a name means and what came of a call, never what is to be done. Earlier turns matter for the
question asked last, for whom a pronoun means, and for what was changed last.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from typing import Any, Final

from langchain_core.messages import AIMessage, BaseMessage, ToolCall
from langchain_core.messages.ai import UsageMetadata

from hms_active_rooms.errors import InvalidCall
from hms_active_rooms.gate.actions import parse_call
from hms_active_rooms.gate.actions.end_room import EndRoom
from hms_active_rooms.gate.actions.remove_peers import RemovePeers
from hms_active_rooms.gate.actions.send_message import SendMessage
from hms_active_rooms.gate.digest import digest
from hms_active_rooms.moderator.offline import audience, replies, turns
from hms_active_rooms.moderator.offline.reading import (
    CHANGES,
    Order,
    is_name,
    is_pronoun,
    pattern,
    plainly,
    read,
    rows,
    say,
    whole,
)
from hms_active_rooms.moderator.offline.roster import Peer, RoleGroup, Roster, Someone, read_roster
from hms_active_rooms.tools.arguments import MAX_ROWS
from hms_active_rooms.untrusted import quoted

_MAX_ROUNDS: Final = 3
"""Model messages with tool calls in one turn: one to look, one to look closer, one to act."""

_MAX_TURNS_BACK: Final = 8
"""Earlier turns that are read again, so that a long thread costs little."""

_MAX_LOOKS: Final = 16
_SHORT_ID: Final = re.compile("[0-9a-fA-F]{8}[0-9a-fA-F-]{0,28}")
_TOOL_OF: Final = {"tell": SendMessage.tool, "remove": RemovePeers.tool, "end": EndRoom.tool}
_ORDINALS: Final = ["first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth"]

Call = tuple[str, dict[str, Any]]
"""A tool and its arguments."""


@dataclass(frozen=True)
class Plan:
    """What a turn comes to, the calls or else the reply, and what it leaves for the next.

    Attributes:
        asks: the reply asks for which of the options the order is; no options: for its words or
            for whom it is.
        focus: whom the conversation is about, for a pronoun.
        changed: the tool of the last change that was proposed, and the state it got.
        heard: what was said last and not understood, which may name whom a pronoun means.
    """

    text: str = ""
    calls: tuple[Call, ...] = ()
    asks: bool = False
    focus: tuple[Someone, ...] = ()
    order: Order | None = None
    options: tuple[Someone, ...] = ()
    changed: tuple[str, str] = ("", "")
    room_id: str = ""
    heard: str = ""


class _Instead(Exception):
    """The plan of a turn whose orders cannot be carried out, or not yet."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan


def next_step(
    messages: Sequence[BaseMessage],
    room_id: str | None,
    available: frozenset[str] = turns.TOOLS,
) -> AIMessage:
    """The model's answer to a history: tool calls, or text that ends the turn.

    Args:
        messages: any history, also one that other agents or models wrote.
        room_id: the room of the conversation; None to take it from the sentence or the
            system message.
        available: names of the tools that may be called.
    """
    history = turns.turns(messages)
    if not history:
        return _message(say("help"))
    last = history[-1]
    if last.changes:
        return _message("\n".join(map(replies.outcome, last.changes)))
    if any(result.answer is None for result in last.results):
        return _message(say("no_answer"))
    plan, closing, system = Plan(), None, turns.room_of_system(messages) or ""
    for turn in history[-1 - _MAX_TURNS_BACK :]:
        # Only a question that was really put counts: the person answers what they have read.
        before = plan if closing == plan.text else replace(plan, asks=False)
        try:
            plan = _Turn(turn, before, turn.said or "").plan(room_id, system)
        except _Instead as instead:
            plan = instead.plan
        changed = [(made.tool, made.state) for made in turn.changes[-1:]] or [before.changed]
        plan = replace(plan, changed=changed[0], room_id=plan.room_id or before.room_id)
        closing = turn.closing
    if not plan.calls:
        return _message(plan.text)
    if missing := [tool for tool, _ in plan.calls if tool not in available]:
        return _message(say("not_available", tool=quoted(missing[0])))
    if last.rounds >= _MAX_ROUNDS:
        return _message(say("too_many_steps"))
    try:
        for tool, arguments in plan.calls:
            if tool in turns.CHANGING:
                parse_call(tool, arguments)
    except InvalidCall as error:
        return _message(say("invalid", why=error))
    # The person's message has an id of its own in a graph, so the same words said again,
    # or a history cut to a fixed length, still give other ids.
    place = [len(messages), last.human.id, last.said]
    ids = [f"call_{digest({'turn': place, 'place': n})[:24]}" for n in range(len(plan.calls))]
    return _message("", zip(plan.calls, ids, strict=True))


def _message(text: str, calls: Iterable[tuple[Call, str]] = ()) -> AIMessage:
    nothing = UsageMetadata(input_tokens=0, output_tokens=0, total_tokens=0)
    made = [ToolCall(name=t, args=a, id=name, type="tool_call") for (t, a), name in calls]
    return AIMessage(text, tool_calls=made, usage_metadata=nothing)


@dataclass(frozen=True)
class _Turn:
    """Works out one turn, given what the turn before left."""

    turn: turns.Turn
    before: Plan
    said: str
    room: str = ""

    def plan(self, fixed: str | None, system: str) -> Plan:
        """The calls or the reply, in the model's own room, the sentence's or the system message's.

        Raises:
            _Instead: the plan that comes before, or in place of, what was asked for.
        """
        before = self.before
        if self.turn.said is None:
            raise self._stop("text_only")
        reading, here = read(self.said), replace(self, room=before.room_id)
        if before.asks and (answer := here._answer(reading.orders, reading.why)) is not None:
            return answer
        orders = reading.orders or here._again()
        if not orders:
            heard = reading.why not in ("injection", "reported", "unreadable", "question")
            raise self._stop(reading.why, heard=self.said if heard else "")
        ended = before.changed[0] not in ("", SendMessage.tool)
        if orders[0].verb not in ("look", "status", *CHANGES, "verify" if ended else ""):
            return here._without_looking(orders[0])
        room = fixed or next(iter(reading.rooms), system or before.room_id)
        if not room or reading.rooms - {room}:
            raise self._stop("other_room" if room else "which_room")
        if before.room_id not in ("", room):
            here = replace(here, before=Plan(changed=before.changed))
        return replace(replace(here, room=room)._carried_out(orders), room_id=room)

    def _stop(self, text: str, **left: Any) -> _Instead:
        """A reply that leaves whom the conversation is about, and drops the question."""
        fresh: dict[str, Any] = {"calls": (), "asks": False, "heard": "", **left}
        return _Instead(replace(self.before, text=say(text), **fresh))

    def _without_looking(self, order: Order) -> Plan:
        verb, (tool, state), last = order.verb, self.before.changed, self.before.order
        others = tuple(one for one in self.before.options if one not in self.before.focus)
        if verb == "cannot":
            told = (why for what, why in rows(verb) if re.match(f"(?i){whole(what)}", order.words))
            raise self._stop(say(verb, what=next(told)))
        if verb in ("no", "undo") and state in ("done", "unknown"):
            raise self._stop(say("cannot_undo", next=say(f"after_{tool}")))
        if verb in ("no", "undo"):
            raise self._stop("not_executed" if tool and verb == "undo" else "nothing_pending")
        if verb == "verify":
            raise self._stop(say("message" if tool else "not_changed", state=state))
        if verb != "other":
            raise self._stop(verb)
        if not (last and self.room and len(others) + 1 == len(self.before.options) == 2):
            raise self._stop("who")
        return self._acted(last, others)

    # --- looking ----------------------------------------------------------------------------------

    def _look(self, *filters: dict[str, Any], tool: str = turns.LIST_PEERS) -> _Instead:
        calls = tuple((tool, {"room_id": self.room, **given}) for given in filters)
        return self._stop("", calls=calls)

    def _room_state(self) -> Plan:
        answers = [r for r in self.turn.results if r.tool == turns.RETRIEVE_ROOM]
        if not answers:
            raise self._look({}, tool=turns.RETRIEVE_ROOM)
        last, artifact = answers[-1], answers[-1].answer and answers[-1].answer.artifact
        text = replies.outcome(last) if last.failed else replies.status(artifact, self.room)
        raise self._stop(text)

    def _roster(self, names: Sequence[str] = (), role: str = "") -> Roster:
        """What this turn has read of the room, enough to tell whom these names or this role mean."""
        answers = [r for r in self.turn.results if r.tool == turns.LIST_PEERS]
        if not answers:
            # Without a filter: roles, look-alikes and similar names are seen only in the whole.
            raise self._look({})
        if failed := [result for result in answers if result.failed]:
            raise self._stop(replies.outcome(failed[0]))
        read = [read_roster(one.answer and one.answer.artifact, self.room) for one in answers]
        everyone, parts = read[0], [part for part in read[1:] if part]
        if everyone is None or everyone.matching != everyone.total or len(parts) + 1 < len(read):
            raise self._stop("unreadable_answer")
        looks = [look for name in names for look in everyone.sought(name)]
        group = everyone.group(role) if role else None
        looks += [("role", group.options[0].role)] if group else []
        if not everyone.is_whole and looks and not parts:
            raise self._look(*({k: v, "limit": MAX_ROWS} for k, v in looks[:_MAX_LOOKS]))
        seen = everyone.joined(parts)
        seen_all = everyone.is_whole or group or all(part.is_whole for part in parts)
        options = chain(*(seen.resolve(name).options for name in (() if seen_all else names)))
        if not seen_all and not any(isinstance(one, RoleGroup) for one in options):
            raise self._stop("too_many_alike")
        return seen

    def _seen(self, order: Order) -> Plan:
        about = audience.names(order.words) if order.verb == "look" else ("it",)
        named = [name for name in about if not is_pronoun(name)]
        one, count = about[0] if len(about) == 1 else "", order.manner == "count"
        roster = self._roster(role=one) if one and order.manner != "find" else self._roster(named)
        group, focus = roster.group(one), self.before.focus if len(named) < len(about) else ()
        if not about or group:
            role = group.options[0].role if group else None
            held = roster.group(f"all {role}") or group
            told = replies.who_is_here(roster, role, count=count)
            raise self._stop(told, focus=held.options if held else self.before.focus)
        if len(named) < len(about) and not focus:
            raise self._stop("who")
        found = {name: roster.resolve(name).options for name in named}
        gone = [p for p in focus if isinstance(p, Peer) and p not in roster.peers]
        here = [*chain(*found.values()), *(one for one in focus if one not in gone)]
        if not here and not gone and order.manner != "find":
            unseen = f"{say('chat_unseen')}\n{replies.who_is_here(roster, count=count)}"
            raise self._stop("not_understood" if order.manner == "list" else unseen)
        lines = [replies.found(here, roster)] if here else []
        lines += [say("gone", name=quoted(one.name)) for one in gone]
        lines += [replies.nobody(name, roster) for name, options in found.items() if not options]
        raise self._stop("\n".join(lines), focus=tuple(here) or self.before.focus)

    # --- orders -----------------------------------------------------------------------------------

    def _carried_out(self, orders: Sequence[Order]) -> Plan:
        here, calls, plan = self, list[Call](), Plan()
        for order in orders:
            try:
                plan = here._one(order)
            except _Instead as instead:
                plan = instead.plan
            if not plan.calls or plan.calls[0][0] not in turns.CHANGING:
                several = len(orders) > 1 and plan.asks
                text = f"{plan.text}\n{say('several')}" if several else plan.text
                return replace(plan, asks=plan.asks and not several, text=text)
            calls += plan.calls
            here = replace(self, before=replace(self.before, focus=plan.focus))
        return replace(plan, calls=tuple(calls))

    def _one(self, order: Order) -> Plan:
        verb, before = order.verb, self.before
        if verb == "status" or (verb == "verify" and before.changed[0] == EndRoom.tool):
            return self._room_state()
        if verb == "tell":
            return self._tell(order)
        if verb == "end":
            return replace(self._acted(order, (None,)), focus=())
        if verb != "remove":
            return self._seen(order)
        names = [name for name in order.who if not is_pronoun(name)]
        if names and pattern("everyone").fullmatch(names[0]):
            raise self._stop("everyone")
        if not (names or before.focus or order.about or before.heard):
            raise self._stop("who", asks=True, order=order, options=())
        return self._acted(order, self._people(order, self._roster(names)))

    def _acted(
        self, order: Order, who: Sequence[Someone | None], options: tuple[Someone, ...] = ()
    ) -> Plan:
        words = {"message": order.words} if order.verb == "tell" else {"reason": order.reason}
        given = {k: v for k, v in {"lock": order.lock, **words}.items() if v}
        calls = []
        for one in who:
            peer = {"peer_id": one.id} if isinstance(one, Peer) else {}
            to = {"role": one.role} if isinstance(one, RoleGroup) else peer
            calls.append((_TOOL_OF[order.verb], {"room_id": self.room, **to, **given}))
        focus = tuple(one for one in who if one) or self.before.focus
        return Plan(calls=tuple(calls), focus=focus, order=order, options=options)

    def _people(self, order: Order, roster: Roster) -> tuple[Someone, ...]:
        chosen = list[Someone]()
        for name in order.who:
            if is_pronoun(name):
                chosen += self._pronoun(name, order, roster)
                continue
            found = roster.resolve(name, self.said)
            if not found.options and not roster.is_whole and _SHORT_ID.fullmatch(name):
                # Ids cannot be looked for; the gate finds whose it is, or nobody's.
                found = found._replace(options=(Peer(name, "", "", ""),), sure=True)
            if not found.options:
                raise self._stop(replies.nobody(name.strip("\"'"), roster))
            if not found.sure:
                text, one = replies.which(found.options, roster), len(order.who) == 1
                text = text if one else f"{text}\n{say('several')}"
                options = found.options[: replies.MAX_OPTIONS]
                raise self._stop(text, asks=one, order=order, options=options)
            chosen += found.options
        return tuple(dict.fromkeys(chosen))

    def _pronoun(self, word: str, order: Order, roster: Roster) -> tuple[Someone, ...]:
        told = roster.mentioned(order.about) or roster.mentioned(self.before.heard)
        focus = told or self.before.focus
        group = len(focus) > 1 or any(isinstance(one, RoleGroup) for one in focus)
        gone = any(isinstance(one, Peer) and one not in roster.peers for one in focus)
        if not focus or gone or (group and not pattern("many").fullmatch(word.strip(" .!"))):
            raise self._stop("who", asks=True, order=order, options=())
        return focus

    def _tell(self, order: Order) -> Plan:
        # "Nora is here, say hi" may be for her; an announcement is for everyone.
        vague = order.manner in ("say", "shout", "write")
        try:
            order = audience.split(order, self._roster)
        except audience.Unclear as unclear:
            raise self._stop(str(unclear)) from None
        if not order.words:
            raise self._stop("no_message", asks=True, order=order, options=())
        if not order.who and not (vague and order.about):
            return self._acted(order, (None,))
        roster = self._roster(order.who)
        if not order.who and {*roster.mentioned(order.about)} - {*self.before.focus}:
            raise self._stop("who", asks=True, order=order, options=())
        who = self._people(order, roster)
        # Whom the message leaves the conversation about: a person it names, else its audience.
        named = tuple(p for p in roster.mentioned(order.words) if p not in who)
        of_before = re.search(r"(?i)\b(?:s?he|him|s?he's)\b", order.words)
        focus = self.before.focus if of_before and order.manner == "told" else who
        return replace(self._acted(order, who), focus=named or focus)

    # --- what refers to the turn before -----------------------------------------------------------

    def _answer(self, orders: Sequence[Order], why: str) -> Plan | None:
        """What the sentence comes to as an answer to the question before it; None if it is none."""
        verb, last = orders[0].verb if orders else "", self.before.order
        if verb in ("no", "undo") and len(orders) == 1:
            raise self._stop("withdrawn", order=None)
        if not self.room or last is None:
            return None
        if not self.before.options:
            asked = self.said.rstrip().endswith("?")
            other = asked or verb not in ("", "hello", "thanks", "cannot")
            if other or why in ("unreadable", "injection", "negation"):
                return None
            if last.verb == "tell" and not last.words:
                return self._tell(replace(last, words=self.said.strip()))
            name = self.said.strip(" .!")
            return self._one(replace(last, who=(name,), about="")) if is_name(name) else None
        if verb in ("look", "status", "tell", "end", "help", "verify"):
            return None
        chosen = _choice(self.said, self.before.options, verb)
        if chosen == ():
            raise self._stop("none_of_them")
        reason = orders[0].reason if verb == "remove" else last.reason
        last = replace(last, reason=reason)
        return self._acted(last, chosen, self.before.options) if chosen else None

    def _again(self) -> tuple[Order, ...]:
        """The last order for somebody else: "same for Priya", "no, I mean Chen"."""
        last, match = self.before.order, pattern("same").fullmatch(self.said.strip(" .!"))
        name = next(filter(None, match.groups())) if match else ""
        if last and last.verb in ("tell", "remove") and is_name(name):
            return (replace(last, who=(name,), about="", reason=None),)
        return ()


def _choice(said: str, options: tuple[Someone, ...], verb: str) -> tuple[Someone, ...] | None:
    """The options an answer chooses; () if it is unclear, None if it is no answer."""
    if said.rstrip().endswith("?"):
        return ()
    if verb == "yes":
        return options if len(options) == 1 else ()
    text = pattern("answering").sub("", plainly(said)).strip(" ,.!#)")
    people = tuple(option for option in options if isinstance(option, Peer))
    if place := pattern("place").fullmatch(text):
        word = place[1].lower()
        number = len(options) if word == "last" else 1 + [*_ORDINALS, *"12345678"].index(word) % 8
        return options[number - 1 : number]
    if pattern("all_of_them").fullmatch(text):
        fits = len(people) == len(options) > 1 and (len(options) == 2 or text[0] not in "bB")
        return options if fits else ()
    if pattern("unclear").match(said.strip()):
        return ()
    by_role = Counter(one.role for one in people)
    by_role |= Counter({o.role: o.count for o in options if isinstance(o, RoleGroup)})
    shown = Roster(peers=people, total=len(people), by_role=dict(by_role))
    found = [shown.resolve(name).options for name in audience.names(text) if is_name(name)]
    if found and all(len(one) == 1 and one[0] in options for one in found):
        return tuple(dict.fromkeys(chain(*found)))
    return () if any(found) and verb != "remove" else None
