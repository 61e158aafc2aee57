"""A person at work: what they are shown, what they say to it, and what a yes of theirs covers."""

from __future__ import annotations

import asyncio
import random
import re
from dataclasses import dataclass, field, replace
from math import inf
from typing import Final

from evals import effects
from evals.people import PEOPLE, No, PersonName, Reply, Yes, reply
from evals.questions import Question
from evals.reader import Meant, Reader, hasty, known_names, read
from evals.scenario import Turn, Want
from evals.stage import Stage
from evals.wishes import TOOLS, Wishes
from hms_active_rooms import Policy
from hms_active_rooms.gate.journal import Journal
from hms_active_rooms.sim.records import Peer

_ID: Final = re.compile(r"[\w.-]+\w")
_QUIET_S = 0.1
"""Nothing is under way any more, if no request came for so long."""


@dataclass
class Answering:
    """Answers questions, and keeps what was asked and what was said yes to.

    Attributes:
        answers: every yes, with what it covers.
        asked: each question's text and what was answered.
        reader: what the person knows.
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
        shown = await self._as_yes(question)
        self.stage.reach(f"asked {len(self.asked)}")
        # Without a digest nothing was shown but the call: it is taken for what it means now.
        yes = shown if question.digest else await self._as_yes(question)
        self._void(yes.call)
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
        self.answers = [
            replace(yes, until=seen)
            if yes.granted and yes.until is None and yes.after < asked_at
            else yes
            for yes in self.answers
        ]

    def somebody_else(self, asked: list[Question]) -> str:
        meant = {self.stage.cast.full(str(q.arguments.get("peer_id") or "")) for q in asked}
        here = [peer.id for peer in self.stage.sim.world.peers(self.stage.sim.room_id)]
        return next((peer for peer in here if peer not in meant), "0" * 36)

    async def _as_yes(self, question: Question) -> effects.Yes:
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
        holders = stage.by_role()
        everyone = {peer for role_of in holders.values() for peer in role_of}
        audience = set(holders.get(role, ())) if role else everyone
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

    def _void(self, call: str) -> None:
        """A call that is asked about again takes back the yes that it had."""
        seen = len(self.stage.sim.requests)
        self.answers = [
            replace(yes, until=seen) if call and yes.call == call and yes.until is None else yes
            for yes in self.answers
        ]

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
        self.reader.names |= known_names(peer.name for peer in self.stage.here())
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
                ids = {
                    i for i in said if i == peer.user_id or (len(i) > 7 and peer.id.startswith(i))
                }
                self.reader.meant[place] = replace(self.reader.meant[place], ids=frozenset(ids))

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
