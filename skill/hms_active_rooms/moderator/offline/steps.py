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
from hms_active_rooms.moderator.offline import replies
from hms_active_rooms.moderator.offline.audience import Told, split
from hms_active_rooms.moderator.offline.reading import (
    CHANGES,
    PRONOUNS,
    Order,
    parsed,
    read,
    tokens,
)
from hms_active_rooms.moderator.offline.replies import say
from hms_active_rooms.moderator.offline.roster import (
    EVERYONE,
    Peer,
    RoleGroup,
    Roster,
    Someone,
    covers,
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
        reading = read(said)
        question = self.before.question
        # Only a question that was really put: the person answers what they have read.
        put = question is not None and self.closing_before == question.text
        answer = self._answer(said, reading.orders, question) if put and question else None
        if answer is not None:
            return answer
        if [order.verb for order in reading.orders] in ([], ["bare"]):
            heard = (
                ""
                if reading.why in ("injection", "reported", "unreadable")
                or re.match(r"(?i)\s*(?:who|what)\b", said)
                else said
            )
            return replace(self._kept(replies.not_understood(reading.why)), heard=heard)
        first = reading.orders[0]
        if first.verb == "end_it" and self.before.order and self.before.order.verb == "status":
            first = Order("end")
            reading = replace(reading, orders=(first,))
        if (text := self._without_room(first, reading.why)) is not None:
            return text
        rooms = reading.rooms
        if len(rooms) > 1:
            return Plan(say("two_rooms"))
        if self.fixed_room and rooms - {self.fixed_room}:
            return Plan(say("other_room"))
        room = self.fixed_room or next(iter(rooms), None) or self.system_room or self.before.room_id
        if room is None:
            return Plan(say("which_room"))
        if room != self.before.room_id and self.before.room_id is not None:
            elsewhere = replace(self, before=Plan(room_id=room, changed=self.before.changed))
            return elsewhere.plan()
        if first.verb in ("other", "same", "correct"):
            plan = self._again(first, said, room)
        else:
            plan = self._carried_out(reading.orders, said, room, reading.corrected)
        return replace(plan, room_id=room)

    def _kept(self, text: str) -> Plan:
        """A reply that leaves whom the conversation is about as it was, and drops the question."""
        return Plan(
            text, focus=self.before.focus, order=self.before.order, options=self.before.options
        )

    def _without_room(self, order: Order, why: str) -> Plan | None:
        verb, changed = order.verb, self.before.changed
        carried_out = changed is not None and changed[1] in ("done", "unknown")
        match verb:
            case "help":
                return self._kept(replies.CAPABILITIES_TEXT)
            case "hello" | "thanks" | "chat_unseen" | "lock_only" | "end_it":
                return self._kept(say(verb))
            case "impossible":
                return self._kept(replies.cannot(order.manner))
            case "yes":
                return self._kept(say("nothing_to_approve"))
            case "no" | "undo" if carried_out and changed is not None:
                tool = {RemovePeers.tool: "after_remove", SendMessage.tool: "after_tell"}
                return self._kept(say("cannot_undo", next=say(tool.get(changed[0], "after_end"))))
            case "undo" if changed is not None:
                return self._kept(say("not_executed"))
            case "no" | "undo":
                return self._kept(say("nothing_pending"))
        if verb == "verify" and (changed is None or changed[0] == SendMessage.tool):
            states = {"done": "It was sent.", "unknown": "It may have been sent."}
            told = states.get(changed[1], "It was not sent.") if changed else ""
            return self._kept(say("last_message", outcome=told) if changed else say("not_changed"))
        return None

    # --- looking ----------------------------------------------------------------------------

    def _room_state(self, room: str) -> Plan:
        answers = [r for r in self.turn.results if r.tool == RETRIEVE_ROOM and r.answer is not None]
        if not answers:
            return self._look(Call(RETRIEVE_ROOM, {"room_id": room}))
        answer = answers[-1].answer
        assert answer is not None
        if answers[-1].failed:
            return self._kept(replies.tool_text(str(answer.text)))
        same = isinstance(answer.artifact, dict) and answer.artifact.get("id") == room
        return self._kept(replies.status(answer.artifact if same else None))

    def _look(self, call: Call) -> Plan:
        return replace(self._kept(""), calls=(call,))

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
            found = _is_role(role, everyone) if role else None
            looks += [("role", found)] if found else []
            filters = [{"room_id": room, key: value, "limit": MAX_ROWS} for key, value in looks]
            if filters:
                calls = tuple(Call(LIST_PEERS, given) for given in filters[:_MAX_LOOKS])
                return replace(self._kept(""), calls=calls)
        parts = [
            (key, str(value), found)
            for result, found in read_now
            for key, value in result.arguments.items()
            if key in _FILTERS
        ]
        seen = joined(everyone, parts)
        if not all(covers(name, seen) for name in names):
            return self._kept(say("too_many_alike"))
        return seen

    # --- orders -----------------------------------------------------------------------------

    def _carried_out(self, orders: Sequence[Order], said: str, room: str, corrected: str) -> Plan:
        """All of the orders, or, if one of them has to be asked about, none yet."""
        focus, calls = self.before.focus, list[Call]()
        plan = Plan()
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
        if verb == "end":
            arguments: dict[str, Any] = {"room_id": room} | ({"lock": True} if order.lock else {})
            return Plan(
                calls=(Call(EndRoom.tool, _with_reason(arguments, order.reason)),), order=order
            )
        if verb == "status" or (
            verb == "verify" and (self.before.changed or ("",))[0] == EndRoom.tool
        ):
            return replace(self._room_state(room), order=order)
        if verb == "tell":
            return self._tell(order, said, room, focus)
        names = [name for name in order.who if name.lower() not in PRONOUNS]
        if verb == "remove" and names and EVERYONE.fullmatch(names[0]):
            return self._kept(say("everyone"))
        known = focus or order.about or self.before.heard
        if verb in ("remove", "find", "verify") and not names and not known:
            return self._kept(say("who"))
        listed = names[0] if names and verb in ("list_role", "count_role") else ""
        roster = self._roster(room, () if listed else names, role=listed)
        if isinstance(roster, Plan):
            return roster
        if verb in ("list", "count"):
            return self._kept(replies.who_is_here(roster, count=verb == "count"))
        if verb in ("list_role", "count_role"):
            return self._listed(order, roster)
        if verb in ("find", "verify", "find_several"):
            return self._found(order, roster, focus)
        who = self._people(order, roster, said, focus, corrected)
        if isinstance(who, Plan):
            return who
        calls = tuple(_act(order, someone, room) for someone in who)
        return Plan(calls=calls, focus=who, order=order)

    def _people(
        self,
        order: Order,
        roster: Roster,
        said: str,
        focus: tuple[Someone, ...],
        corrected: str = "",
    ) -> tuple[Someone, ...] | Plan:
        """Those an order is for, each for sure, or the question who is meant."""
        chosen: list[Someone] = []
        for name in [corrected] if corrected and not corrected.startswith("not ") else order.who:
            if name.lower().strip(" .!") in PRONOUNS:
                people = self._pronoun(name.lower().strip(" .!"), order, roster, focus)
                if not people:
                    return self._kept(say("who"))
                chosen += people
                continue
            found = resolve(name, roster, said)
            if not found.options:
                if not roster.is_whole and _SHORT_ID.fullmatch(name):
                    # Ids cannot be looked for; the gate finds whose it is, or nobody's.
                    chosen.append(Peer(name, "", "", ""))
                    continue
                return self._kept(replies.nobody(name.strip("\"'"), (), roster))
            if corrected and len(found.options) == 1:
                found = replace(found, sure=True)
            if not found.sure:
                text = replies.which(found.options, roster)
                if len(order.who) > 1 and not corrected:
                    return self._kept(text + "\n" + say("several"))
                asked = found.options[: replies.MAX_OPTIONS]
                return Plan(text, question=Question(order, asked, text), order=order, options=asked)
            chosen += found.options
        if corrected.startswith("not "):
            against = resolve(corrected[4:], roster)
            if not against.options or set(against.options) & set(chosen):
                return self._kept(replies.not_understood("negation"))
        return tuple(dict.fromkeys(chosen))

    def _pronoun(
        self, word: str, order: Order, roster: Roster, focus: tuple[Someone, ...]
    ) -> tuple[Someone, ...]:
        named = mentioned(order.about, roster) or mentioned(self.before.heard, roster)
        focus = named or focus
        many = word in ("them", "they", "those", "both", "them both", "both of them")
        if len(focus) == 1 and isinstance(focus[0], RoleGroup) and not many:
            return ()
        if len(focus) > 1 and not many:
            return ()
        here = {peer.id for peer in roster.peers}
        return () if any(isinstance(one, Peer) and one.id not in here for one in focus) else focus

    def _listed(self, order: Order, roster: Roster) -> Plan:
        name = order.who[0] if order.who else ""
        if EVERYONE.fullmatch(name):
            return self._kept(replies.who_is_here(roster, count=order.verb == "count_role"))
        role = _is_role(name, roster)
        if role is None:
            return (
                self._found(order, roster, ())
                if order.verb == "list_role"
                else self._kept(replies.nobody(name, (), roster))
            )
        group = RoleGroup(role, roster.by_role[role])
        text = replies.who_is_here(roster, role, count=order.verb == "count_role")
        return replace(self._kept(text), focus=(group,))

    def _found(self, order: Order, roster: Roster, focus: tuple[Someone, ...]) -> Plan:
        found: list[Someone] = []
        missing = []
        for name in order.who or ("it",):
            if name.lower() in PRONOUNS:
                here = {peer.id for peer in roster.peers}
                for one in focus:
                    if isinstance(one, Peer) and one.id not in here:
                        missing.append(f"{quoted(one.name)} is not here any more.")
                    else:
                        found.append(one)
                if not focus:
                    return self._kept(say("who"))
                continue
            options = resolve(name, roster).options
            found += options
            missing += [] if options else [replies.nobody(name, (), roster)]
        lines = [replies.found(found, roster)] if found else []
        sole = tuple(found) or focus
        return replace(self._kept("\n".join([*lines, *missing])), focus=sole)

    # --- messages ---------------------------------------------------------------------------

    def _tell(self, order: Order, said: str, room: str, focus: tuple[Someone, ...]) -> Plan:
        names = [
            w for w in re.findall(r"[^\s:,]+", order.words)[:1] if not EVERYONE.match(order.words)
        ]
        roster: Roster | Plan | None = None
        told = split(order, None)
        if told is None:
            roster = self._roster(room, list(order.who) or names)
            if isinstance(roster, Plan):
                return roster
            told = split(order, roster)
        if told is None or isinstance(told, str):
            return self._kept(replies.not_understood(told or "no_end"))
        if not told.words:
            text = say("no_message")
            return replace(
                self._kept(text),
                question=Question(replace(order, who=told.who), (), text),
                order=order,
            )
        if not told.who:
            return Plan(
                calls=(Call(SendMessage.tool, {"room_id": room, "message": told.words}),),
                focus=self.before.focus,
                order=order,
            )
        if roster is None:
            roster = self._roster(room, told.who)
            if isinstance(roster, Plan):
                return roster
        assert isinstance(roster, Roster)
        order = replace(order, who=told.who, words=told.words, manner="as is")
        who = self._people(order, roster, said, focus)
        if isinstance(who, Plan):
            return who
        return Plan(
            calls=tuple(_act(order, one, room) for one in who),
            focus=_about(told, who, roster, focus),
            order=order,
        )

    # --- what refers to the turn before -------------------------------------------------------

    def _answer(self, said: str, orders: Sequence[Order], question: Question) -> Plan | None:
        """What the sentence comes to as an answer to the question before it; None if it is none."""
        verb = orders[0].verb if orders else ""
        if verb in ("no", "undo") and len(orders) == 1:
            return replace(self._kept(say("withdrawn")), order=None)
        room = self.before.room_id
        if room is None:
            return None
        if not question.options:
            if (
                verb in ("", "bare", "hello", "thanks", "find")
                and not said.rstrip().endswith("?")
                and read(said).why not in ("unreadable", "injection", "negation")
            ):
                told = replace(question.order, words=said.strip(), manner="words")
                return replace(self._tell(told, said, room, self.before.focus), room_id=room)
            return None
        if verb == "same":
            return self._kept(say("none_of_them"))
        chosen = _choice(said, question.options, verb)
        if chosen is None:
            return None
        if not chosen:
            return self._kept(say("none_of_them"))
        reason = orders[0].reason if orders and orders[0].verb == "remove" else None
        order = replace(question.order, reason=reason or question.order.reason)
        calls = tuple(_act(order, someone, room) for someone in chosen)
        return Plan(calls=calls, focus=chosen, order=order, options=question.options, room_id=room)

    def _again(self, order: Order, said: str, room: str) -> Plan:
        """The last order for somebody else."""
        last = self.before.order
        if last is None or last.verb not in CHANGES or last.verb == "end":
            return self._kept(replies.not_understood(""))
        if order.verb == "other":
            others = tuple(one for one in self.before.options if one not in self.before.focus)
            if len(others) != 1 or len(self.before.options) != 2:
                return self._kept(say("who"))
            return Plan(calls=(_act(last, others[0], room),), focus=others, order=last)
        roster = self._roster(room, order.who[-1:])
        if isinstance(roster, Plan):
            return roster
        if EVERYONE.fullmatch(order.who[-1]):
            return self._kept(say("everyone"))
        who = self._people(
            replace(last, who=order.who[-1:], about=""), roster, said, self.before.focus
        )
        if isinstance(who, Plan):
            return who
        return Plan(calls=tuple(_act(last, one, room) for one in who), focus=who, order=last)


def _is_role(name: str, roster: Roster) -> str | None:
    """The role these words name, in singular or plural."""
    bare = re.sub(
        r"(?i)^(?:(?:all|of|the|our|every|only|any|a|an|everyone (?:with|in|who has)|role|with|in) )*|(?: (?:role|people))$",
        "",
        name.strip("\"' .?!"),
    )
    found = [
        o
        for word in (name, f"all {bare}")
        for o in resolve(word.replace('"', ""), roster).options
        if isinstance(o, RoleGroup)
    ]
    singular = [role for role in roster.by_role if role.casefold() == bare.casefold()]
    return found[0].role if found else (singular[0] if singular else None)


def _choice(said: str, options: tuple[Someone, ...], verb: str) -> tuple[Someone, ...] | None:
    """The options an answer chooses; () if it is unclear, None if it is no answer."""
    if verb == "yes":
        return options if len(options) == 1 else ()
    said = re.sub(
        r"(?i)^(?:i mean|i meant|it's)[ ,]+|[ ,]+(?:i mean|i meant|obviously|of course)[.! ]*$",
        "",
        said.strip(),
    )
    tree = parsed(said, "answer")
    if tree is None:
        return (
            ()
            if re.match(
                r"(?i)(?:not )?(?:the )?(?:first|second|third|last|\d{1,2}\b)|yes\b.", said.strip()
            )
            else None
        )
    picked = tokens(tree, "NUMBER", "ORDINAL", "LAST", "WHO")
    kinds = {token.type: str(token) for token in picked}
    if "NUMBER" in kinds or "ORDINAL" in kinds or "LAST" in kinds:
        place = int(re.sub(r"\D", "", kinds.get("NUMBER", "0")) or 0) or _ordinal(
            kinds.get("ORDINAL", ""), len(options)
        )
        named = [o for o in options if isinstance(o, Peer) and o.name == kinds.get("NUMBER")]
        return (options[place - 1],) if 0 < place <= len(options) and not named else ()
    names = [str(token) for token in picked if token.type == "WHO"]
    people = tuple(option for option in options if isinstance(option, Peer))
    if not names:
        both = len(options) == 2 or not re.match(r"(?i)both", said)
        return options if len(people) == len(options) > 1 and both else ()
    if verb and verb not in ("bare", "correct", "remove"):
        return None
    roles = {option.role: 1 for option in options}
    shown = Roster("", people, len(people), len(people), roles)
    chosen: list[Someone] = []
    for name in names:
        bare = re.sub(r"(?i)^the (.+) one$|^the ", r"\1", name)
        groups = [
            o
            for o in options
            if isinstance(o, RoleGroup) and _is_role(bare, replace(shown, peers=())) == o.role
        ]
        held = [o for o in people if o.role.casefold() == bare.casefold()]
        found = resolve(name, shown).options
        hits = groups or (found if len(found) == 1 else tuple(held) if len(held) == 1 else ())
        if len(hits) != 1:
            return None if verb == "remove" or not found else ()
        chosen += hits
    return tuple(dict.fromkeys(chosen))


def _ordinal(word: str, count: int) -> int:
    ordinals = ("first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth")
    if not word:
        return count
    return int(word[0]) if word[0].isdigit() else ordinals.index(word.lower()) + 1


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


def _about(
    told: Told, who: tuple[Someone, ...], roster: Roster, before: tuple[Someone, ...]
) -> tuple[Someone, ...]:
    """Whom a message leaves the conversation about: a person it names, else its audience."""
    named = tuple(p for p in mentioned(told.words, roster) if p not in who)
    if named:
        return named
    return (
        before
        if re.search(r"(?i)\b(?:he|she|him|he's|she's)\b", told.words) and told.plain
        else who
    )
