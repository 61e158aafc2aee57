"""A person at work: what they are shown, what they say to it, and what a yes of theirs covers.

A paused agent's interrupts become questions; replies become resume values in the shape each pause wants.
"""

from __future__ import annotations

import asyncio
import random
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from math import inf
from typing import Any, Final

from langgraph.types import Interrupt

from evals import effects
from evals.effects import TOOLS
from evals.people import PEOPLE, Garbage, NearMiss, No, PersonName, Reply, Yes, reply
from evals.reader import Meant, Reader, hasty, read
from evals.scenario import Turn, Want
from evals.stage import Stage
from evals.wishes import Wishes
from hms_active_rooms import Policy
from hms_active_rooms.capability import capability
from hms_active_rooms.gate.actions import CALLS
from hms_active_rooms.gate.journal import Journal
from hms_active_rooms.sim.records import Peer

EDIT_NOTE = " - so says the moderator"
"""What the editor adds to the words."""


@dataclass(frozen=True)
class Question:
    """One thing a person is asked.

    Attributes:
        interrupt_id: which pause it belongs to.
        tool, arguments: the call.
        text: what is shown.
        digest, action_id: of our gate; empty elsewhere.
        deadline: ISO time, empty for none.
    """

    interrupt_id: str
    tool: str
    arguments: dict[str, Any]
    text: str
    digest: str = ""
    action_id: str = ""
    deadline: str = ""

    @property
    def is_soft(self) -> bool:
        return bool(self.digest) and not capability().tool(self.tool).hints.destructive

    @property
    def edited(self) -> dict[str, Any] | None:
        """The arguments in the editor's words; None where there are none to change."""
        for name in ("message", "reason"):
            if name in CALLS[self.tool].editable and self.arguments.get(name):
                return {**self.arguments, name: f"{self.arguments[name]}{EDIT_NOTE}"}
        return None


def questions(interrupts: Sequence[Interrupt]) -> list[Question]:
    texts = ("description", "digest", "action_id", "deadline")
    return [
        Question(
            interrupt.id,
            request["name"],
            dict(request["args"]),
            *(str(request.get(name, "")) for name in texts),
        )
        for interrupt in interrupts
        for request in interrupt.value.get("action_requests", [interrupt.value])
    ]


def resume_with(
    interrupts: Sequence[Interrupt],
    asked: Sequence[Question],
    replies: Sequence[Reply],
    somebody_else: str,
) -> dict[str, Any]:
    """Resume values by interrupt id, in the shape each interrupt wants."""
    values: dict[str, Any] = {}
    pairs = list(zip(asked, replies, strict=True))
    for interrupt in interrupts:
        mine = [(q, answer) for q, answer in pairs if q.interrupt_id == interrupt.id]
        garbage = [answer.value for _, answer in mine if isinstance(answer, Garbage)]
        misses = [answer.kind for _, answer in mine if isinstance(answer, NearMiss)]
        batched = "action_requests" in interrupt.value
        if garbage:
            values[interrupt.id] = garbage[0]
        elif misses:
            values[interrupt.id] = _nearly(misses[0], [q for q, _ in mine], batched, somebody_else)
        elif batched:
            values[interrupt.id] = {"decisions": [_decision(q, a) for q, a in mine]}
        else:
            values[interrupt.id] = _decision(*mine[0])
    return values


def _decision(question: Question, answer: Reply) -> dict[str, Any]:
    digest = {"digest": question.digest} if question.digest else {}
    match answer:
        case Yes(edited=True) if question.edited is not None:
            action = {"name": question.tool, "args": question.edited}
            return {"type": "edit", "edited_action": action, **digest}
        case Yes(session=True) if question.is_soft:
            return {"type": "approve", "scope": "session", **digest}
        case Yes():
            return {"type": "approve", **digest}
        case No():
            return {"type": "reject", "message": answer.reason}
    raise AssertionError(f"{answer} answers nothing")


def _nearly(
    kind: str, asked: Sequence[Question], batched: bool, somebody_else: str
) -> dict[str, Any] | list[Any]:
    decisions = [_decision(question, Yes()) for question in asked]
    match kind:
        case "no digest":
            decisions = [{"type": "approve"} for _ in asked]
        case "the digest of another question":
            decisions = [{**d, "digest": str(d["digest"])[::-1]} for d in decisions]
        case "something besides":
            decisions = [{**d, "approved": True} for d in decisions]
        case "one decision too many":
            decisions = [*decisions, decisions[-1]]
        case "no decision":
            decisions = []
        case _:
            decisions = [
                {
                    "type": "edit",
                    "edited_action": {"name": q.tool, "args": _elsewhere(q, somebody_else)},
                    "digest": q.digest,
                }
                for q in asked
            ]
    if batched:
        return {"decisions": decisions}
    return decisions[0] if len(decisions) == 1 else decisions


def _elsewhere(question: Question, somebody_else: str) -> dict[str, Any]:
    """The same call at another target: somebody else, or the room locked or left open."""
    if question.tool == "hms-end-active-room":
        return {**question.arguments, "lock": question.arguments.get("lock") is not True}
    kept = {name: value for name, value in question.arguments.items() if name != "role"}
    return {**kept, "peer_id": somebody_else}


_ID: Final = re.compile(r"[\w.-]+\w")
_QUIET_S = 0.1
"""Nothing is under way any more, if no request came for so long."""


@dataclass
class Answering:
    """Answers questions, and keeps what was asked and what was said yes to.

    Attributes:
        answers: every yes, with what it covers.
        asked: each question's text and what was answered.
    """

    person: PersonName
    stage: Stage
    wishes: Wishes
    journal: Journal
    policy: Policy
    rng: random.Random
    answers: list[effects.Yes] = field(default_factory=list)
    asked: list[tuple[str, str]] = field(default_factory=list)
    reader: Reader = field(default_factory=Reader)
    _meant: list[tuple[Want, Peer | None]] = field(default_factory=list)

    async def reply(self, question: Question, garbage_given: int) -> Reply:
        """What the person says to this question, after so many malformed answers in the turn."""
        self.asked.append((question.text, ""))
        shown = self._as_yes(question)
        self.stage.reach(f"asked {len(self.asked)}")
        # Without a digest nothing was shown but the call: it is taken for what it means now.
        yes = shown if question.digest else self._as_yes(question)
        # A call that is asked about again takes back the yes that it had.
        self._take_back(lambda earlier: bool(yes.call) and earlier.call == yes.call)
        answer = reply(
            self.person,
            lambda: self._wants(question.text),
            garbage_given,
            self.rng,
            bound=bool(question.digest),
        )
        if isinstance(answer, Yes) and (role := question.arguments.get("role")):
            self.wishes.shown(str(role), yes.targets)  # wanting the role, one wants them too
        self.asked[-1] = (question.text, repr(answer))
        match answer:
            case Yes(late=True) if question.deadline:
                self.stage.pass_time(3_600)
                self.answers.append(replace(yes, in_time=False))
            case Yes(session=True) if question.is_soft:
                until_s = self.stage.time_s() + self.policy.grant_ttl_s
                grant = replace(yes, granted=True, call="", deadline_s=until_s)
                self.answers += [yes, grant]
            case Yes(edited=True) if question.edited is not None:
                text, form = effects.words_of(yes.kind, question.edited)
                self.answers.append(replace(yes, text=text, form=form))
            case Yes():
                self.answers.append(yes)
            case No() if any(yes.granted for yes in self.answers):
                await self._end_grants()
        return answer

    async def _end_grants(self) -> None:
        """A no takes back what was said for the rest of the session before it.

        What is said in one breath with it stands: those answers have no order. The no comes as
        late as a person says it: what was under way beside the question is over.
        """
        asked_at, seen = len(self.stage.sim.requests), -1
        while seen < len(self.stage.sim.requests):
            seen = len(self.stage.sim.requests)
            await asyncio.sleep(_QUIET_S)
        self._take_back(lambda yes: yes.granted and yes.after < asked_at)

    def _take_back(self, which: Callable[[effects.Yes], bool]) -> None:
        seen = len(self.stage.sim.requests)
        self.answers = [
            replace(yes, until=seen) if yes.until is None and which(yes) else yes
            for yes in self.answers
        ]

    def somebody_else(self, asked: list[Question]) -> str:
        meant = {self.stage.cast.full(str(q.arguments.get("peer_id") or "")) for q in asked}
        here = [peer.id for peer in self.stage.here()]
        return next((peer for peer in here if peer not in meant), "0" * 36)

    def _as_yes(self, question: Question) -> effects.Yes:
        stage, arguments = self.stage, question.arguments
        kind = TOOLS[question.tool]
        row = self.journal.get(question.action_id) if question.action_id else None
        impact = row.impact if row is not None else None
        role = str(arguments.get("role") or "")
        text, form = effects.words_of(kind, arguments)
        if kind == "end":
            targets = {impact.session_id if impact else stage.session_id()}
        elif kind == "send":
            targets = {stage.cast.full(effects.target_of(arguments))}
        elif impact is not None:
            targets = {person.id for person in impact.people}
            role = role if impact.kind == "remove-role" else ""
        else:
            one = stage.cast.full(str(arguments.get("peer_id")))
            targets = set(stage.by_role().get(role, [])) if role else {one}
        audience = [peer.id for peer in stage.here() if role in ("", peer.role)]
        shown_to = None if kind != "send" or arguments.get("peer_id") else frozenset(audience)
        ttl_s = self.policy.approval_ttl_s if question.deadline else inf
        return effects.Yes(
            after=len(stage.sim.requests),
            kind=kind,
            room_id=str(arguments.get("room_id")),
            targets=frozenset(targets),
            role=role,
            deadline_s=stage.time_s() + ttl_s,
            call=row.call_key if row is not None else "",
            session_id=impact.session_id if impact else stage.session_id(),
            audience=shown_to,
            growth=self.policy.audience_growth,
            text=text,
            form=form,
        )

    def _wants(self, text: str) -> bool:
        match PEOPLE[self.person].reading(len(self.asked)):
            case "the first line":
                return hasty(text, self.reader)
            case "the kind of change":
                return read(text).kind in {meant.kind for meant in self.reader.meant}
            case _:
                return self.reader.decide(text)

    def says(self, turn: Turn) -> None:
        """The person says this; from now on they know what they meant by it."""
        self.reader.said += f"{turn.say}\n"
        self.reader.names |= {p.name for p in self.stage.here() if len(p.name) <= 40}
        for want in (*turn.wants, *turn.may):
            label = want.remove or want.tell
            # Somebody who never came, because it never came to that, is nobody to mean.
            if label is None or label in self.stage.cast:
                peer = self.stage.peer_ever(self.stage.cast.id(label)) if label else None
                self._meant.append((want, peer))
                self.reader.meant.append(self._as_meant(want, peer))
        said = set(_ID.findall(self.reader.said))
        for place, (_, peer) in enumerate(self._meant):
            if peer is not None:
                told = (i for i in said if len(i) > 7 and peer.id.startswith(i))
                ids = frozenset(told) | said & {peer.user_id}
                self.reader.meant[place] = replace(self.reader.meant[place], ids=ids)

    def _as_meant(self, want: Want, peer: Peer | None) -> Meant:
        role = want.remove_role or want.tell_role or ""
        return Meant(
            want.kind,
            name=peer.name if peer else "",
            role=peer.role if peer else role,
            about=len(self.stage.by_role().get(role, ())),
            facts=want.facts,
            types=tuple(want.type.split("|")),
            lock=want.end == "locked",
            many=want.more,
        )
