"""The next message of the offline model, decided from the message history alone. Pure.

Only the last message of the person is read as an order. What tools answered is data: it decides
who a name means and what came of a call, never what is to be done. Earlier turns matter for the
question asked last, for whom a pronoun means, and for what was changed last.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import chain, pairwise, takewhile
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
from hms_active_rooms.moderator.offline import turns
from hms_active_rooms.moderator.offline.reading import (
    ANYBODY,
    CHANGES,
    Order,
    Reading,
    read,
    spares,
)
from hms_active_rooms.moderator.offline.roster import (
    MAX_OPTIONS,
    Mention,
    Peer,
    RoleGroup,
    Roster,
    Someone,
    forms,
    read_roster,
)
from hms_active_rooms.moderator.offline.tokens import LEADS, Token, classes
from hms_active_rooms.moderator.offline.words import cannot, listed, say, section
from hms_active_rooms.tools.arguments import MAX_ROWS
from hms_active_rooms.untrusted import quoted

_MAX_ROUNDS: Final = 3
"""Model messages with tool calls in one turn: one to look, one to look closer, one to act."""

_MAX_TURNS_BACK: Final = 8
"""Earlier turns that are read again, so that a long thread costs little."""

_MAX_LOOKS: Final = 16
_SHORT_ID: Final = re.compile("[0-9a-fA-F]{8}[0-9a-fA-F-]{0,28}")
_STATUS: Final = Order("status")
_LOOKING: Final = frozenset(("", "look", "status", "everyone", "who", "lock_only", *CHANGES))
_NO_ANSWER: Final = ("unreadable", "injection", "negation")
_FIGURE: Final = re.compile(
    r"(?i)\d+(?:[:.]\d+)*|\b(?:two|three|four|five|six|seven|eight|nine|ten|\w+teen|(?:twen|thir|for|fif)ty|noon"
    r"|(?:half|quarter)(?= past| to)|(?:mon|tues|wednes|thurs|fri|satur|sun)day)\b"
)
_TOO: Final = frozenset(("too", "as well", "also", "now", "instead", "actually"))
_NAMING: Final = classes("NAME BACK PLEASE FRONT COMMA STOP DET LEAD THAT")
_AGAIN: Final = _NAMING | {"ROLE", "SAME", "AND", "negation", "FOR", "TO", "SEND"}
_TOLD_TOO: Final = classes("MUST TAKE BE KNOW IT ONLY")
_CHOOSING: Final = _NAMING | {"NUMBER", "KICK", "TO", "HE", "IT", "S"}
_TOOL_OF: Final = {"tell": SendMessage.tool, "remove": RemovePeers.tool, "end": EndRoom.tool}
_THEM: Final = classes("PRON ALLOF")
_ALL: Final = _THEM | {"EVERYONE", "BOTH"}

Call = tuple[str, dict[str, Any]]
"""A tool and its arguments."""


@dataclass(frozen=True)
class Plan:
    """What the model does in a turn: make `calls`, or reply with `text`. The rest is for the next turn.

    Attributes:
        asks: whether `text` is a question. If there are `options`, the question is which of them is meant.
        focus: the people or roles that a pronoun in the next sentence means.
        order: the last order that was carried out or asked about.
        changed: the tool of the last change that was called, and the state of the change, such as "rejected".
        ran: the tool of the last change that was, or may have been, carried out. Empty if there is none.
        heard: the last sentence, if the model did not understand all of it.
    """

    text: str = ""
    calls: tuple[Call, ...] = ()
    asks: bool = False
    focus: tuple[Someone, ...] = ()
    order: Order | None = None
    options: tuple[Someone, ...] = ()
    changed: tuple[str, str] = ("", "")
    ran: str = ""
    room_id: str = ""
    heard: str = ""


class _Stop(Exception):
    """Ends the work on a turn early, with this plan: a reply, a question, or a look at the room."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan


def next_step(
    messages: Sequence[BaseMessage],
    room_id: str | None,
    available: frozenset[str] = turns.TOOLS,
) -> AIMessage:
    """Return the model's next message: tool calls, or text that ends the turn.

    Args:
        room_id: the room of the conversation. If None, the sentence or a system message names the room.
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
        ran = [made.tool for made in turn.changes if made.state in ("done", "unknown")]
        ran = ran[-1:] or [before.ran]
        plan, closing = replace(plan, changed=changed[0], ran=ran[0]), turn.closing
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
    """One turn of the conversation, and what the turn before left for it."""

    turn: turns.Turn
    before: Plan
    said: str
    room: str

    def plan(self, fixed: str | None, system: str) -> Plan:
        """The calls or the reply. The room is the model's own, the sentence's or the system message's.

        Raises:
            _Stop: the plan that comes before, or in place of, what was asked for.
        """
        if self.turn.said is None:
            self._stop("unreadable")
        before, reading = self.before, read(self.said)
        room = fixed or next(iter(reading.rooms), system or before.room_id)
        if before.asks and (answer := replace(self, room=room)._answer(reading)) is not None:
            return answer
        verb = reading.orders[0].verb if reading.orders else ""
        if reading.rooms - {room}:
            self._stop("other_room")
        if not room and verb in ("look", "status", *CHANGES):
            self._stop("which_room")
        if before.room_id not in ("", room):
            before = Plan(changed=before.changed)
        here = replace(self, room=room, before=before)
        named = any(not m.is_pronoun for one in reading.orders for m in one.who)
        looks = verb in _LOOKING and reading.why not in ("unreadable", "injection")
        if room and looks and (reading.unknown or named):
            reading = read(self.said, here._roster(reading.unknown))
        orders = (
            here._further()
            or here._repeated()
            or here._resent()
            or reading.orders
            or here._again(reading)
        )
        if not orders:
            heard = reading.why not in ("injection", "reported", "unreadable")
            here._stop(reading.why, heard=self.said if heard else "")
        return here._carried_out(orders)

    def _stop(self, text: str, **left: Any) -> NoReturn:
        """Ends the turn with a reply. The focus stays as it was, and no question is open."""
        fresh: dict[str, Any] = {"calls": (), "asks": False, "heard": "", **left}
        told = say(text)
        if self.before.ran:  # an earlier change was carried out, so something was done
            told = told.replace("Nothing was done.", "Nothing more was done.")
        raise _Stop(replace(self.before, text=told, room_id=self.room, **fresh))

    def _ask(self, text: str, order: Order, options: Sequence[Someone] = ()) -> NoReturn:
        """Ends the turn with a question: which option is meant, or what the order leaves out."""
        self._stop(text, asks=True, order=order, options=tuple(options[:MAX_OPTIONS]))

    # --- looking ----------------------------------------------------------------------------------

    def _look(self, *filters: dict[str, Any], tool: str = turns.LIST_PEERS) -> NoReturn:
        self._stop("", calls=tuple((tool, {"room_id": self.room, **given}) for given in filters))

    def _answers(self, tool: str) -> list[tuple[turns.Result, Any]]:
        """The results of this tool in this turn, with their artifacts. Calls the tool if there are none."""
        results = [result for result in self.turn.results if result.tool == tool]
        if not results:
            # Without a filter: roles, look-alikes and similar names are seen only in the whole.
            self._look({}, tool=tool)
        for result in results:
            if result.failed:
                self._stop(result.told)
        return [(result, result.answer and result.answer.artifact) for result in results]

    def _room_state(self) -> NoReturn:
        [*_, (_, seen)] = self._answers(turns.RETRIEVE_ROOM)
        match seen:
            case {
                "id": self.room,
                "session": {"id": str(session), "created_at": str(since)},
                "total": int(total),
            }:
                told = {"session": quoted(session, 40), "since": quoted(since, 40)}
                kinds = {one.type for one in read(self.said).tokens}
                of_us = re.search(r"(?i)\bwe\b", self.said)
                of_room = of_us or "ROOM" in kinds or "WORD" not in kinds  # not "is the poll open?"
                order = _STATUS if of_room else None
                self._stop(say("live", people=people_count(total), **told), order=order)
        self._stop("unreadable_answer")

    def _roster(self, names: Sequence[str] = ()) -> Roster:
        """The roster that this turn has read. In a large room it also looks for these names."""
        read = [read_roster(seen, self.room) for _, seen in self._answers(turns.LIST_PEERS)]
        everyone, parts = read[0], [part for part in read[1:] if part]
        if everyone is None or everyone.matching != everyone.total or len(parts) + 1 < len(read):
            self._stop("unreadable_answer")
        if not everyone.is_whole and names and not parts:
            looks = dict.fromkeys(look for name in names for look in everyone.sought(name))
            self._look(*({k: v, "limit": MAX_ROWS} for k, v in [*looks][:_MAX_LOOKS]))
        people = {peer.id: peer for part in (everyone, *parts) for peer in part.peers}
        return everyone.model_copy(update={"peers": tuple(people.values())})

    def _all_seen(self, said: str) -> bool:
        """Whether everybody whom this name could mean was shown."""
        for one, seen in self._answers(turns.LIST_PEERS):
            told = [str(v).casefold() for k, v in one.arguments.items() if k in ("name", "role")]
            part = read_roster(seen, self.room)
            filtered = set(one.arguments) & {"name", "role", "user_id"}
            if part and part.is_whole and (not filtered or (told and told[0] in said.casefold())):
                return True
        return False

    def _seen(self, order: Order) -> NoReturn:
        roster, count = self._roster(), order.words == "count"
        asked = read(self.said, roster)
        named = [one for one in order.who if not one.is_pronoun]
        focus = self.before.focus if len(named) < len(order.who) or order.verb == "verify" else ()
        if len(named) < len(order.who) and not focus:
            self._stop("who")
        ahead = [*takewhile(lambda one: one.type != "NAME", asked.tokens)]
        if "who" in (one.text for one in ahead) and "IS" not in (one.type for one in ahead):
            # "Who spams?" asks what somebody does. No name tells that, not even "Spam Bot".
            named = [m for m in named if any(isinstance(one, RoleGroup) for one in m.options)]
        groups = [one for m in named for one in m.options if isinstance(one, RoleGroup)]
        if groups or not (named or focus):
            role = groups[0].role if groups else None
            told = roster.who_is_here(role, count=count)
            unseen = asked.unknown and not (groups or count)
            told = f"{say('chat_unseen')}\n{told}" if unseen else told
            of_one = [one.type for one in asked.tokens[:2]] == ["IS", "NAME"]
            focus = tuple(chain(*(m.options for m in named))) if of_one else tuple(groups)
            heard = self.said if spares(asked.tokens) else ""
            self._stop(told, focus=focus or self.before.focus, heard=heard)
        gone = [p for p in focus if isinstance(p, Peer) and p not in roster.peers]
        here = [*chain(*(m.options for m in named)), *(one for one in focus if one not in gone)]
        lines = [roster.found(here)] if here else []
        lines += [say("gone", name=quoted(one.name)) for one in gone]
        lines += [roster.nobody(one.said) for one in named if not one.options]
        heard = self.said if len({*asked.people}) > len(order.who) else ""
        self._stop("\n".join(lines), focus=tuple(here) or self.before.focus, heard=heard)

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
            calls += [call for call in plan.calls if call not in calls]
            here = replace(self, before=replace(self.before, focus=plan.focus, order=plan.order))
        return replace(plan, calls=tuple(calls))

    def _one(self, order: Order) -> Plan:
        before, (tool, state) = self.before, self.before.changed
        heard = " ".join(one.type for one in read(before.heard or "-").tokens)
        match order.verb:
            case "tell":
                return self._tell(order)
            case "end" | "end_it" if (
                order.verb == "end"
                or before.order == _STATUS
                or re.search("END (DET )?ROOM", heard)
            ):
                return replace(self._acted(replace(order, verb="end"), (None,)), focus=())
            case "remove":
                unnamed = all(one.is_pronoun for one in order.who)
                if unnamed and not (before.focus or order.about or before.heard):
                    self._ask("who", order)
                return self._acted(order, self._people(order))
            case "verify" if tool in ("", SendMessage.tool):
                self._stop(say("message" if tool else "nothing_pending", state=state))
            case "status" | "verify" if order.verb == "status" or tool == EndRoom.tool:
                self._room_state()
            case "look" | "verify":
                self._seen(order)
            case "no" | "undo":
                if not before.ran:
                    self._stop("nothing_pending")
                last = "cannot_undo" if state in ("done", "unknown") else "ran_before"
                was = "may have been" if state == "unknown" else "was"
                self._stop(say(last, was=was, then=say(before.ran)))
            case "cannot":
                self._stop(say("cannot", what=say(cannot()[order.words])), heard=self.said)
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

    def _people(self, order: Order) -> tuple[Someone, ...]:
        roster, chosen = self._roster(), list[Someone]()
        for one in order.who:
            options, sure = one.options, one.sure
            if one.said == ANYBODY:
                self._ask("who", order) if len(order.who) == 1 else self._stop("who")
            if one.is_pronoun:
                chosen += self._pronoun(one.said, order, roster)
                continue
            if not options and not roster.is_whole and _SHORT_ID.fullmatch(one.said):
                # Ids cannot be looked for; the gate finds whose it is, or nobody's.
                options, sure = (Peer(one.said, "", "", ""),), True
            elif not one.groups and not self._all_seen(one.said):
                self._stop("too_many_alike")
            if not options and len(order.who) == 1:
                self._ask(roster.nobody(one.said), order)
            if not options:
                self._stop(roster.nobody(one.said))
            if not sure:
                if len(order.who) > 1:
                    self._stop(f"{roster.which(options)}\n{say('several')}")
                self._ask(roster.which(options), order, options)
            chosen += options
        but = {o for one in order.but for o in one.options}
        spared = {part for one in but for part in (one, one.role)}
        groups = [one.role for one in chosen if isinstance(one, RoleGroup)]
        if order.but and (not spared or spared & {*chosen, *groups}):
            self._stop("exception")
        return tuple(dict.fromkeys(chosen))

    def _pronoun(self, word: str, order: Order, roster: Roster) -> tuple[Someone, ...]:
        heard = read(self.before.heard or "-", roster)
        if spares(heard.tokens) and not order.about:
            self._ask("who", order)
        told = order.about or heard.people
        if unsure := [one for one in told if one.options and not one.sure and order.about]:
            self._ask(roster.which(unsure[0].options), order, unsure[0].options)
        named = tuple(dict.fromkeys(chain(*(one.options for one in told))))
        focus = named or self.before.focus
        if order.verb == "tell" and not focus and self.before.calls and self.before.order:
            # "Tell Ann that he comes", then "tell her": nobody was named but whom the message was for.
            focus = tuple(o for m in self.before.order.who if m.sure for o in m.options)
        if "them" not in word and word != "they":
            focus = tuple(one for one in focus if isinstance(one, Peer)) or focus
        kinds = {isinstance(one, RoleGroup) for one in focus}
        group = len(focus) > 1 or True in kinds
        # "Tell the students: Ann is rude", then "kick them"
        last = self.before.order
        words = last.words if last and order.verb == "remove" else ""
        # "Tell Ann we kick trolls", then "kick them"
        to_many = last and last.verb == "tell" and all(m.groups for m in last.who)
        plural = bool(to_many or re.search(r"\w\ws\b", words))
        to_some = plural and (not order.about or order.verb == "tell")
        them = "them" in word and to_some and len(focus) == 1 and isinstance(focus[0], Peer)
        own = re.match(r"(?i)s?he\b", words) and not order.about  # "tell Ann she is late"
        other = own and word != ("her" if words[0] in "sS" else "him")
        # "Tell Ann to leave Bob alone", then "kick them"
        sent_to = {o for m in last.who for o in m.options} if last else set()
        bids = words.startswith("Please ") and not order.about and not sent_to & {*focus}
        what = word == "it" and not order.about and last and last.verb == "tell"
        unclear = them or other or bids or what
        gone = any(isinstance(one, Peer) and one not in roster.peers for one in focus)
        many = word in ("they", "'em", "em") or "them" in word
        not_two = "both" in word and len(focus) != 2
        mixed = len(kinds) > 1 and not order.about  # "is Ann a student?", then "kick them"
        if not focus or gone or not_two or unclear or mixed or (group and not many):
            self._ask("who", order)
        return focus

    def _tell(self, order: Order) -> Plan:
        last = self.before.order
        to_all = last and last.verb == "tell" and not last.who
        fresh = re.search(section("fresh"), self.said)
        too = order.again or (not fresh and re.search(r"(?i)\b(now|too|also|as well)\b", self.said))
        if too and not order.words and last and last.verb == "tell":
            order = replace(order, words=last.words)
        if not order.words:
            self._ask("no_message", order)
        unnamed = not (order.about or self.before.focus) and all(
            m.is_pronoun and ("all" in m.said.split() or (to_all and m.said == "them"))
            for m in order.who
        )
        if not order.who or unnamed:
            return self._acted(order, (None,))
        who = self._people(order)
        # Whom the message leaves the conversation about: a person it names, else its audience.
        told = chain(*(m.options for m in read(order.words, self._roster()).people))
        named = tuple(dict.fromkeys(p for p in told if p not in who))
        of_before = re.search(r"(?i)\b(?:s?he|him|s?he's)\b", order.words)
        own = who if re.match(r"(?i)s?he\b", order.words) else ()  # "tell Ann she is late"
        focus = named or ((*self.before.focus, *own) if of_before else who)
        if len(who) == 1 and not any(isinstance(one, Peer) for one in named):
            focus = focus if of_before else (*named, *who)  # "tell Ann to leave the crew alone"
        return replace(self._acted(order, who), focus=tuple(dict.fromkeys(focus)))

    # --- what refers to the turn before -----------------------------------------------------------

    def _answer(self, reading: Reading) -> Plan | None:
        """The plan if the sentence answers the question before it. None if it does not."""
        last, options = self.before.order, self.before.options
        verb = reading.orders[0].verb if reading.orders else ""
        if verb in ("no", "undo"):
            self._stop("withdrawn", order=None)
        if last and last.verb == "tell" and not last.words and verb in ("remove", "end"):
            begins = reading.tokens[0].type in classes("KICK TAKE END PLEASE ASK BACK")
            ends = re.search(section("the_room"), self.said)
            if not begins or (verb == "end" and not ends):
                self._ask("no_message", last)  # "Ann has to go", "finish the exam"
        if not self.room or last is None or verb in ("look", "status", "end", "help", "verify"):
            return None
        asked = self.said.rstrip().endswith("?")
        bids = re.fullmatch(section("told_to"), self.said)
        if bids and not read(self.said, self._roster()).people:
            told = read(f"tell them {self.said}")  # after "tell Ann", "to wave" is what to tell her
            reading = told if [one.verb for one in told.orders] == ["tell"] else reading
            verb = "tell" if reading is told else verb
        named = all(m.said != ANYBODY for m in last.who)
        if verb == last.verb == "tell" and named and not (last.words or options):
            words, who = reading.orders[0].words, reading.orders[0].who
            fragment = re.match("(about|of|for|on)\\b", words)  # "ask her about her homework"
            if words and not fragment and all(one.is_pronoun for one in who):
                return self._tell(replace(last, words=words))
        if not options:
            back = "BACK" in {t.type for t in reading.tokens} and not _means_it(reading.tokens)
            other = verb not in ("", "hello", "thanks", "cannot") or reading.why in _NO_ANSWER
            if back or asked or other:
                return None
            told = read(self.said, self._roster(reading.unknown))
            names = {one.type for one in told.tokens} <= _NAMING | {"TO", "FOR"}
            names = names and _means_it(told.tokens)
            roles = {g.role for m in last.who if m.said == ANYBODY for g in m.groups}
            others = {p.role for m in told.people for p in m.people} - roles
            if names and roles and others:
                self._ask("who", last)  # "kick a student", and then a teacher's name
            fits = names and told.people
            corrected = fits and "BACK" in {one.type for one in told.tokens}
            if last.verb == "tell" and not (last.words or corrected):
                words, tokens = (
                    re.sub(section("the_words_are"), "", self.said),
                    " ".join(t.told for t in told.tokens),
                )
                if ":" not in self.said[: -len(words)] and not re.search(section("answer"), tokens):
                    self._ask("no_message", last)
                words = words.strip(' "“”')
                return self._tell(replace(last, words=words))
            return self._one(replace(last, who=told.people, about=())) if fits else None
        if verb == "tell":
            return None
        if last.verb == "tell" and verb == "remove":
            return None
        chosen = _choice(self.said, options, verb)
        if chosen == ():
            self._stop("none_of_them", asks=True, order=last, options=options)
        return self._acted(last, chosen, options) if chosen else None

    def _again(self, reading: Reading) -> tuple[Order, ...]:
        """The last order for somebody else: "same for Priya", "no, I mean Chen"."""
        last, tokens = self.before.order, reading.tokens
        if last is None or last.verb not in ("tell", "remove"):
            return ()
        back = {"BACK", "negation"} & {one.type for one in tokens}
        corrects = back or re.search(section("mistaken"), self.said)
        if (
            corrects
            and (named := re.sub(section("meant")[last.verb], "I mean", self.said)) != self.said
        ):
            tokens = read(named, self._roster(reading.unknown)).tokens
        kinds, texts = [one.type for one in tokens], {one.text for one in tokens}
        bare = [one for one in tokens if one.type not in LEADS]  # "not the students"
        people = [
            (one.who, before.type) for before, one in pairwise([*tokens[-1:], *bare]) if one.who
        ]
        said = " ".join(one.text for one in tokens if one.type == "WORD")
        if said and not people:
            people = [(self._roster().unsure(said, None, leads=False), "")]
            kinds = [kind for kind in kinds if kind != "WORD"] if people[0][0].options else kinds
        own = {o for m in last.who for o in m.options}
        if kinds == ["PRON", "PLEASE"] and {*self.before.focus} - own:  # "is Ann here?", "her too"
            people, kinds = [(Mention(tokens[0].text, is_pronoun=True), "")], ["NAME"]
        meant = [who for who, before in people if before != "negation"]
        spared = "negation" in kinds
        again = spared or corrects or {"BACK", "SAME", "AND"} & set(kinds) or texts & _TOO
        about = last.verb == "tell" and corrects and read(last.words, self._roster()).people
        if not (again and meant) or about:
            return ()  # "tell Ann that Bob is rude", then "no, I meant Cy"
        told = _TOLD_TOO if re.search(section("gets_it"), self.said) else frozenset[str]()
        other = _AGAIN - {"SEND"} if last.verb == "remove" else _AGAIN | {"ONLY"} | told
        several = not (back or corrects) and len(people) > 1 and "AND" in kinds  # "Ann and Bob too"
        answers = any(
            t.type != "NAME" and (t.text[:1] == "y" or t.text == "that was") for t in tokens
        )
        titled = any(a.type == "ROLE" and b.who for a, b in pairwise(tokens))  # "student Ann too"
        last_kind = [kind for kind in kinds if kind not in ("PLEASE", "STOP")][-1:]
        if answers or titled or last_kind == ["negation"]:  # "Ann too, Bob not"
            return ()
        if not (set(kinds) <= other and _means_it(tokens)):
            return ()
        if len(people) != 1 + spared and not several:
            return ()
        if spared and meant[-1].groups and any(who.people for who, _ in people):
            return ()  # "not Ann, the student"
        held = [t for t in tokens if t.type == "ROLE"]
        many = all(t.text.endswith("s") or t.text in section("collective") for t in held)
        many = many or any(g.count == 1 for m in meant for g in m.groups)
        chosen = meant if several else meant[-1:]
        who = tuple(m._replace(sure=m.sure or (many and not m.people)) for m in chosen)
        reason = last.reason if "SAME" in kinds else None
        return (replace(last, who=who, about=(), but=(), reason=reason),)

    def _further(self) -> tuple[Order, ...]:
        """A further message: "and Priya that we start", "and also that we start". Empty if it is none."""
        last, lead = self.before.order, re.match(r"(?i)(and|plus)( also)?( to)? (?=\w)", self.said)
        if not (lead and last and last.verb == "tell" and last.words and self.before.calls):
            return ()
        rest = re.sub("(?i)^(also )?that ", "everyone that ", self.said[lead.end() :])
        reading = read(f"tell {rest}", self._roster(read(f"tell {rest}").unknown))
        told = " ".join(one.type for one in reading.tokens if one.type not in LEADS - {"THAT"})
        if len(reading.orders) != 1 or not re.match(section("further"), told):
            if rest not in self.said:
                self._stop("no_end")  # "and that Ann has to go"
            return ()
        [order] = reading.orders  # of "and that we end at nine" the audience is the last one
        return (replace(order, who=order.who if rest in self.said else last.who),)

    def _repeated(self) -> tuple[Order, ...]:
        """The last message once more: "send that again". Empty if the sentence says anything else, or
        names somebody else than whom the message was for."""
        last, said = self.before.order, re.fullmatch(section("repeats"), self.said)
        if not (
            said and last and last.verb == "tell" and last.words and len(self.before.calls) == 1
        ):
            return ()
        own, role = {o for m in last.who for o in m.people} or None, said["role"]
        to = not {"him", "her"} & {*self.said.lower().split()} or {*self.before.focus} == own
        to = to and (not role or any(role in forms(g.role) for m in last.who for g in m.groups))
        return (last,) if to else ()

    def _resent(self) -> tuple[Order, ...]:
        """The last message with another number or day: "sorry, make that 3:30". Empty if the sentence says
        anything else, or if it is not clear which number of the message is meant, or to whom it goes."""
        last, said = self.before.order, self.said.lower().replace("oh no", "oh")
        if not last or last.verb != "tell" or len(self.before.calls) != 1:
            return ()
        old, told = _FIGURE.findall(last.words), [*dict.fromkeys(_FIGURE.findall(self.said))]
        new = [one for one in told if one.lower() not in map(str.lower, old)]
        own, rest = (
            set(re.findall("[a-z]+", _FIGURE.sub("", t.lower()))) for t in (last.words, said)
        )
        corrects, known = rest & listed("corrects"), own | listed("corrects") | listed("resends")
        if not (len(old) == len(new) == 1 and corrects and rest <= known):
            return ()
        at = f"at {old[0]}" in last.words
        unfit = ({"day", "date"} & rest and at) or ("time" in rest and own & listed("numbered"))
        alike = (at and f"at {new[0]}" in said) or _shape(old[0]) == _shape(new[0])
        to = not {"him", "her"} & rest or [m.people for m in last.who if not m.groups]
        other = re.search(section("resends_not"), said.replace(new[0].lower(), "#"))
        if other or unfit or not (alike and to and (len(told) == 1 or "not" in rest)):
            return ()
        return (replace(last, words=last.words.replace(old[0], new[0])),)


def _shape(figure: str) -> str:
    alike = re.sub("[A-Za-z]+", "a", re.sub(r"\d+", "0", figure))
    return "day" if figure.endswith("day") else alike


def _means_it(tokens: Sequence[Token]) -> bool:
    """Whether words that name somebody are an answer, and no greeting, thanks or withdrawal."""
    polite = {one.text for one in tokens if one.type == "PLEASE"}
    back = {one.text for one in tokens if one.type == "BACK"}
    named = [n for n, one in enumerate(tokens) if one.who or one.type == "NUMBER"]
    after = [t.text for t in tokens[named[-1] :] if t.type == "BACK"] if named else []
    late = any("mean" not in text for text in after)  # "Ann, no wait", but not "Ann, I mean"
    late = late or any(a.text == "sorry" and b.who for a, b in pairwise(tokens))  # said to her
    return polite <= listed("answering") and not (late or listed("withdrawn") & back)


def _choice(said: str, options: tuple[Someone, ...], verb: str) -> tuple[Someone, ...] | None:
    """The options that the person chooses with these words. Empty if that is unclear. None if the words
    are no choice but something else."""
    if said.rstrip().endswith("?") or re.search(r"(?i)\bthe (two|three|\d)\b", said):
        return ()
    if verb == "yes":
        return options if len(options) == 1 else ()
    people = tuple(one for one in options if isinstance(one, Peer))
    by_role = {one.role: one.count if isinstance(one, RoleGroup) else 1 for one in options}
    said = re.sub(r"(?i)(?<=\w),? the (one|guy|girl) with [\w' ]+\W?$", "", said)
    read_so = read(said, Roster(peers=people, total=len(people), by_role=by_role))
    kinds = {one.type for one in read_so.tokens}
    if not _means_it(read_so.tokens):
        return ()
    if kinds & {"negation", "condition", "delay"}:
        return None if {"NAME", "COMMA"} <= kinds else ()
    ordinals = {"first": 1, "second": 2, "third": 3, "two": 2, "three": 3, "last": len(options)}
    texts = [(one.type, one.text) for one in read_so.tokens]
    places = [text for kind, text in texts if kind == "NUMBER" or text in ordinals]
    found = read_so.people
    if "BACK" in kinds and len(found) > 1:
        return ()
    if any(t.type in _THEM and not re.search("both|em", t.text) for t in read_so.tokens):
        return ()
    if kinds & _ALL and kinds <= (_CHOOSING | _ALL) - {"BACK"} and not found:
        # "both" fits two people only.
        fits = len(options) == 2 or (len(options) > 2 and "both" not in said.lower())
        return options if fits and len(people) == len(options) else ()
    if places and not found:
        figure = re.fullmatch(r"(\d+)[.)]?", places[0])
        number = ordinals.get(places[0], int(figure[1]) if figure else 0)
        fits = kinds <= _CHOOSING and len(places) == 1 and 0 < number <= len(options)
        return options[number - 1 : number] if fits else ()
    plural = any(t.type == "ROLE" and t.text.endswith("s") for t in read_so.tokens)
    has_role = "ROLE" in kinds and ("NAME" in kinds or not plural)
    if has_role and kinds <= _CHOOSING | classes("ROLE ROLED IN OF"):
        # "Nowak, the one in the audience", "the one from the staff"
        named = [
            {*m.people} | {p for p in people for g in m.groups if p.role == g.role} for m in found
        ]
        both = set.intersection({*options}, *named)
        return tuple(both) if len(both) == 1 else ()
    if found and kinds <= _CHOOSING and all(m.sure and m.options[0] in options for m in found):
        return tuple(dict.fromkeys(chain(*(m.options for m in found))))
    return () if any(m.options for m in found) and verb != "remove" else None
