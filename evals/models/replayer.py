"""A model that does what the person asks, and says everything more than once.

Its calls are those of the offline model, made again with the same and with new ids: in
one message, in the next ones, in another order, and calls of earlier turns among them.
What only reads is called once: said twice it harms nobody and costs time.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Final

from evals.models.reading import as_read
from evals.models.stateless import Move, Proposal, Situation, proposals
from hms_active_rooms.moderator.offline import next_step
from hms_active_rooms.moderator.offline.turns import CHANGING, Turn

MAX_MESSAGES: Final = 8
"""Messages with calls in one turn."""

MAX_REPEATS: Final = 3
"""Messages of one turn that only repeat."""

MAX_EARLIER: Final = 2
"""Calls of earlier turns in one message."""


def replayer(situation: Situation) -> Move:
    chance = situation.step_random
    rounds = _rounds(situation.turn)
    earlier = [call for turn in situation.turns[:-1] for made in _rounds(turn) for call in made]
    if situation.turn.rounds >= MAX_MESSAGES:
        return Move(_outcome(situation.turn))
    if not rounds:
        reply = next_step(as_read(situation), situation.room_id, situation.tools)
        proposed = proposals(reply, ids=True)
        if not proposed:
            return Move(str(reply.text))
        if not any(call.changes for call in proposed):
            return Move(calls=tuple(proposed))
        return Move(calls=_shuffled([*_thrice(proposed), *_some(earlier, chance)], chance))
    if len(rounds) <= situation.turn_random.randint(1, MAX_REPEATS):
        again = _thrice(rounds[0][::-1])
        chosen = chance.sample(again, k=chance.randint(1, len(again)))
        return Move(calls=_shuffled([*chosen, *_some(earlier, chance)], chance))
    return Move(_outcome(situation.turn))


def _outcome(turn: Turn) -> str:
    answers = [r.answer for r in turn.results if r.tool in CHANGING]
    said = dict.fromkeys(str(answer.text)[:500] for answer in answers if answer is not None)
    return "\n".join(said) or "Done."


def _rounds(turn: Turn) -> list[list[Proposal]]:
    """The changing calls of a turn, by message; each once, however often it was made."""
    found = [
        {repr((c.tool, c.arguments)): c for c in proposals(message, ids=True) if c.changes}
        for message in turn.rest
    ]
    return [list(different.values()) for different in found if different]


def _thrice(calls: Sequence[Proposal]) -> list[Proposal]:
    """Each call with its id, with the same id again, and with a new one."""
    return [
        Proposal(call.tool, call.arguments, identity)
        for call in calls
        for identity in (call.id, call.id, None)
    ]


def _some(calls: Sequence[Proposal], chance: random.Random) -> list[Proposal]:
    few = chance.sample(list(calls), k=min(len(calls), chance.randint(0, MAX_EARLIER)))
    return [Proposal(c.tool, c.arguments, chance.choice((c.id, None))) for c in few]


def _shuffled(calls: list[Proposal], chance: random.Random) -> tuple[Proposal, ...]:
    chance.shuffle(calls)
    return tuple(calls)
