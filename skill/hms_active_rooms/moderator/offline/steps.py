"""The next message of the offline model, decided from the message history alone. Pure.

Only the last message of the person is read as an order. What tools answered is data: it decides
who a name means and what came of a call, never what is to be done. Earlier turns matter for the
question asked last, for whom a pronoun means, and for what was changed last.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from typing import Any, Final, NoReturn

from langchain_core.messages import AIMessage, BaseMessage, ToolCall
from langchain_core.messages.ai import UsageMetadata

from hms_active_rooms.errors import InvalidCall
from hms_active_rooms.gate.actions import parse_call
from hms_active_rooms.gate.actions.end_room import EndRoom
from hms_active_rooms.gate.actions.impact import people_count
from hms_active_rooms.gate.actions.remove_peers import RemovePeers
from hms_active_rooms.gate.actions.send_message import SendMessage
from hms_active_rooms.gate.journal.records import digest
from hms_active_rooms.moderator.offline import reading as r
from hms_active_rooms.moderator.offline import turns
from hms_active_rooms.moderator.offline.reading import Order, is_name, is_pronoun, pattern, say
from hms_active_rooms.moderator.offline.roster import Peer, RoleGroup, Roster, Someone, read_roster
from hms_active_rooms.tools.arguments import MAX_ROWS
from hms_active_rooms.untrusted import quoted

_MAX_ROUNDS: Final = 3
"""Model messages with tool calls in one turn: one to look, one to look closer, one to act."""

_MAX_TURNS_BACK: Final = 8
"""Earlier turns that are read again, so that a long thread costs little."""

_MAX_LOOKS: Final = 16
_SHORT_ID: Final = re.compile("[0-9a-fA-F]{8}[0-9a-fA-F-]{0,28}")
_STATUS: Final = Order("status")
_TOOL_OF: Final = {"tell": SendMessage.tool, "remove": RemovePeers.tool, "end": EndRoom.tool}

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


class _Stop(Exception):
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
        return _message("\n".join(change.told for change in last.changes))
    if any(result.answer is None for result in last.results):
        return _message(say("no_answer"))
    plan, closing, system = Plan(), None, turns.room_of_system(messages)
    for turn in history[-1 - _MAX_TURNS_BACK :]:
        # Only a question that was really put counts: the person answers what they have read.
        before = plan if closing == plan.text else replace(plan, asks=False)
        try:
            plan = _Turn(turn, before, turn.said or "", before.room_id).plan(room_id, system)
        except _Stop as stop:
            plan = stop.plan
        changed = [(made.tool, made.state) for made in turn.changes[-1:]] or [before.changed]
        plan, closing = replace(plan, changed=changed[0]), turn.closing
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
    room: str

    def plan(self, fixed: str | None, system: str) -> Plan:
        """The calls or the reply, in the model's own room, the sentence's or the system message's.

        Raises:
            _Stop: the plan that comes before, or in place of, what was asked for.
        """
        before, reading = self.before, r.read(self.said)
        if self.turn.said is None:
            self._stop("unreadable")
        if before.asks and (answer := self._answer(reading)) is not None:
            return answer
        orders = reading.orders or self._again()
        if not orders:
            heard = reading.why not in ("injection", "reported", "unreadable", "question")
            self._stop(reading.why, heard=self.said if heard else "")
        room = fixed or next(iter(reading.rooms), system or before.room_id)
        if reading.rooms - {room}:
            self._stop("other_room")
        if not room and orders[0].verb in ("look", "status", *r.CHANGES):
            self._stop("which_room")
        if before.room_id not in ("", room):
            before = Plan(changed=before.changed)
        return replace(self, room=room, before=before)._carried_out(orders)

    def _stop(self, text: str, **left: Any) -> NoReturn:
        """Ends the turn with a reply. It leaves whom the conversation is about, and no question."""
        fresh: dict[str, Any] = {"calls": (), "asks": False, "heard": "", **left}
        raise _Stop(replace(self.before, text=say(text), room_id=self.room, **fresh))

    # --- looking ----------------------------------------------------------------------------------

    def _look(self, *filters: dict[str, Any], tool: str = turns.LIST_PEERS) -> NoReturn:
        self._stop("", calls=tuple((tool, {"room_id": self.room, **given}) for given in filters))

    def _answers(self, tool: str) -> list[Any]:
        """What this tool answered in this turn, as data; it is called first if it was not."""
        results = [result for result in self.turn.results if result.tool == tool]
        if not results:
            # Without a filter: roles, look-alikes and similar names are seen only in the whole.
            self._look({}, tool=tool)
        for result in results:
            if result.failed:
                self._stop(result.told)
        return [result.answer and result.answer.artifact for result in results]

    def _room_state(self) -> NoReturn:
        seen = self._answers(turns.RETRIEVE_ROOM)[-1]
        match (
            seen.get("session") if isinstance(seen, dict) and seen.get("id") == self.room else None
        ):
            case {"id": str(session), "created_at": str(since)} if isinstance(seen["total"], int):
                told = {"session": quoted(session, 40), "since": quoted(since, 40)}
                self._stop(say("live", people=people_count(seen["total"]), **told), order=_STATUS)
        self._stop("unreadable_answer")

    def _roster(self, names: Sequence[str] = (), role: str = "") -> Roster:
        """What this turn has read of the room, enough to tell whom these names or this role mean."""
        read = [read_roster(one, self.room) for one in self._answers(turns.LIST_PEERS)]
        everyone, parts = read[0], [part for part in read[1:] if part]
        if everyone is None or everyone.matching != everyone.total or len(parts) + 1 < len(read):
            self._stop("unreadable_answer")
        if everyone.is_whole:
            return everyone
        group = everyone.group(role) if role else None
        looks = [look for name in names for look in everyone.sought(name)]
        looks += [("role", group.options[0].role)] if group else []
        if looks and not parts:
            self._look(*({k: v, "limit": MAX_ROWS} for k, v in looks[:_MAX_LOOKS]))
        people = {peer.id: peer for part in (everyone, *parts) for peer in part.peers}
        seen = everyone.model_copy(update={"peers": tuple(people.values())})
        meant = [one for name in names for one in seen.resolve(name).options]
        sure = group or all(part.is_whole for part in parts)
        if not sure and not any(isinstance(one, RoleGroup) for one in meant):
            self._stop("too_many_alike")
        return seen

    def _seen(self, order: Order) -> NoReturn:
        about = r.names(order.words) if order.verb == "look" else ("it",)
        named = [name for name in about if not is_pronoun(name)]
        one, count = about[0] if len(about) == 1 else "", order.manner == "count"
        roster = self._roster(role=one) if one and order.manner != "find" else self._roster(named)
        group, focus = roster.group(one), self.before.focus if len(named) < len(about) else ()
        if not about or group:
            role = group.options[0].role if group else None
            held = roster.group(f"all {role}") or group
            told = roster.who_is_here(role, count=count)
            self._stop(told, focus=held.options if held else self.before.focus)
        if len(named) < len(about) and not focus:
            self._stop("who")
        found = {name: roster.resolve(name).options for name in named}
        gone = [p for p in focus if isinstance(p, Peer) and p not in roster.peers]
        here = [*chain(*found.values()), *(one for one in focus if one not in gone)]
        if not here and not gone and order.manner != "find":
            unseen = f"{say('chat_unseen')}\n{roster.who_is_here(count=count)}"
            self._stop("not_understood" if order.manner == "list" else unseen)
        lines = [roster.found(here)] if here else []
        lines += [say("gone", name=quoted(one.name)) for one in gone]
        lines += [roster.nobody(name) for name, options in found.items() if not options]
        self._stop("\n".join(lines), focus=tuple(here) or self.before.focus)

    # --- orders -----------------------------------------------------------------------------------

    def _carried_out(self, orders: Sequence[Order]) -> Plan:
        here, calls, plan = self, list[Call](), Plan()
        for order in orders:
            try:
                plan = here._one(order)
            except _Stop as stop:
                if len(orders) == 1 or not stop.plan.asks:
                    raise
                self._stop(f"{stop.plan.text}\n{say('several')}")
            calls += plan.calls
            here = replace(self, before=replace(self.before, focus=plan.focus))
        return replace(plan, calls=tuple(calls))

    def _one(self, order: Order) -> Plan:
        before, (tool, state) = self.before, self.before.changed
        match order.verb:
            case "tell":
                return self._tell(order)
            case "end" | "end_it" if order.verb == "end" or before.order == _STATUS:
                return replace(self._acted(replace(order, verb="end"), (None,)), focus=())
            case "remove":
                names = [name for name in order.who if not is_pronoun(name)]
                if names and pattern("everyone").fullmatch(names[0]):
                    self._stop("everyone")
                if not (names or before.focus or order.about or before.heard):
                    self._stop("who", asks=True, order=order, options=())
                return self._acted(order, self._people(order, self._roster(names)))
            case "verify" if tool in ("", SendMessage.tool):
                self._stop(say("message" if tool else "nothing_pending", state=state))
            case "status" | "verify" if order.verb == "status" or tool == EndRoom.tool:
                self._room_state()
            case "look" | "verify":
                self._seen(order)
            case "no" | "undo":
                ran = state in ("done", "unknown")
                self._stop(say("cannot_undo", then=say(tool)) if ran else "nothing_pending")
            case "cannot":
                ways = (why for told, why in r.rows("cannot") if r.begins(order.words, told))
                self._stop(say("cannot", what=next(ways)))
            case "other":
                others = tuple(one for one in before.options if one not in before.focus)
                if before.order and self.room and len(others) + 1 == len(before.options) == 2:
                    return self._acted(before.order, others)
                self._stop("who")
        return self._stop(order.verb)

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
        return Plan("", tuple(calls), False, focus, order, options, room_id=self.room)

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
                self._stop(roster.nobody(name.strip("\"'")))
            if not found.sure:
                text, one = roster.which(found.options), len(order.who) == 1
                text = text if one else f"{text}\n{say('several')}"
                self._stop(text, asks=one, order=order, options=found.shown)
            chosen += found.options
        but = roster.resolve(order.but).options if order.but else ()
        spared = {part for one in but for part in (one, one.role)}
        groups = [one.role for one in chosen if isinstance(one, RoleGroup)]
        if order.but and (not spared or spared & {*chosen, *groups}):
            self._stop("exception")
        return tuple(dict.fromkeys(chosen))

    def _pronoun(self, word: str, order: Order, roster: Roster) -> tuple[Someone, ...]:
        told = roster.mentioned(order.about) or roster.mentioned(self.before.heard)
        focus = told or self.before.focus
        group = len(focus) > 1 or any(isinstance(one, RoleGroup) for one in focus)
        gone = any(isinstance(one, Peer) and one not in roster.peers for one in focus)
        if not focus or gone or (group and not pattern("many").fullmatch(word.strip(" .!"))):
            self._stop("who", asks=True, order=order, options=())
        return focus

    def _tell(self, order: Order) -> Plan:
        # "Nora is here, say hi" may be for her; an announcement is for everyone.
        vague = order.manner in ("say", "shout", "write")
        try:
            order = r.addressed(order, self._roster)
        except r.Unclear as unclear:
            self._stop(str(unclear))
        order = replace(order, words=r.as_typed(order.words, self.said))
        if not order.words:
            self._stop("no_message", asks=True, order=order, options=())
        if not order.who and not (vague and order.about):
            return self._acted(order, (None,))
        roster = self._roster(order.who)
        if not order.who and {*roster.mentioned(order.about)} - {*self.before.focus}:
            self._stop("who", asks=True, order=order, options=())
        who = self._people(order, roster)
        # Whom the message leaves the conversation about: a person it names, else its audience.
        named = tuple(p for p in roster.mentioned(order.words) if p not in who)
        of_before = re.search(r"(?i)\b(?:s?he|him|s?he's)\b", order.words)
        focus = named or (self.before.focus if of_before else who)
        return replace(self._acted(order, who), focus=focus)

    # --- what refers to the turn before -----------------------------------------------------------

    def _answer(self, reading: r.Reading) -> Plan | None:
        """What the sentence comes to as an answer to the question before it; None if it is none."""
        orders, last = reading.orders, self.before.order
        verb = orders[0].verb if orders else ""
        if verb in ("no", "undo") and len(orders) == 1:
            self._stop("withdrawn", order=None)
        if not self.room or last is None:
            return None
        if not self.before.options:
            asked = self.said.rstrip().endswith("?")
            other = asked or verb not in ("", "hello", "thanks", "cannot")
            if other or reading.why in ("unreadable", "injection", "negation"):
                return None
            if last.verb == "tell" and not last.words:
                return self._tell(replace(last, words=self.said.strip()))
            name = self.said.strip(" .!")
            return self._one(replace(last, who=(name,), about="")) if is_name(name) else None
        if verb in ("look", "status", "tell", "end", "help", "verify"):
            return None
        chosen = _choice(self.said, self.before.options, verb)
        if chosen == ():
            self._stop("none_of_them")
        last = replace(last, reason=orders[0].reason if verb == "remove" else last.reason)
        return self._acted(last, chosen, self.before.options) if chosen else None

    def _again(self) -> tuple[Order, ...]:
        """The last order for somebody else: "same for Priya", "no, I mean Chen"."""
        last, match = self.before.order, pattern("same").fullmatch(self.said.strip(" .!"))
        name = next(filter(None, match.groups())) if match else ""
        if last and last.verb in ("tell", "remove") and is_name(name):
            return (replace(last, who=(name,), about="", but="", reason=None),)
        return ()


def _choice(said: str, options: tuple[Someone, ...], verb: str) -> tuple[Someone, ...] | None:
    """The options that the person's words choose; () if that is unclear, None if they choose nothing
    and say something else."""
    if said.rstrip().endswith("?"):
        return ()
    if verb == "yes":
        return options if len(options) == 1 else ()
    text = pattern("answering").sub("", r.plainly(said)).strip(" ,.!#)")
    people = tuple(option for option in options if isinstance(option, Peer))
    if place := pattern("place").fullmatch(text):
        number = {"first": 1, "second": 2, "third": 3, "last": len(options)}.get(place[1].lower())
        return options[(number or int(place[1])) - 1 :][:1]
    if pattern("all_of_them").fullmatch(text):
        # "both" fits two people only.
        fits = len(people) == len(options) > 1 and (len(options) == 2 or text[0] not in "bB")
        return options if fits else ()
    if pattern("unclear").match(said.strip()):
        return ()
    by_role = {one.role: one.count if isinstance(one, RoleGroup) else 1 for one in options}
    shown = Roster(peers=people, total=len(people), by_role=by_role)
    found = [shown.resolve(name).options for name in r.names(text) if is_name(name)]
    if found and all(len(one) == 1 and one[0] in options for one in found):
        return tuple(dict.fromkeys(chain(*found)))
    return () if any(found) and verb != "remove" else None
