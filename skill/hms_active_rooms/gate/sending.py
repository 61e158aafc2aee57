"""Sending a claimed action, once, and looking at the room for what became of it.

Only this module calls the client's write methods. Whoever calls `send` has just won
the claim. An unclear outcome becomes `unknown` and is looked at, never repeated; the
one exception follows from the hints: an end is idempotent, so it is sent a second time
after a look that showed the very same session still running.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Literal

from hms_active_rooms.api.client import ActiveRoomsClient
from hms_active_rooms.capability import capability
from hms_active_rooms.errors import ApiError, NotActive, NotFound, PeerNotFound
from hms_active_rooms.gate.calls import EndRoom, RemovePeers, SendMessage, StateChange, parse_call
from hms_active_rooms.gate.impact import Drift, Impact, Person
from hms_active_rooms.gate.journal import Journal
from hms_active_rooms.gate.policy import Policy
from hms_active_rooms.gate.records import Action, finished
from hms_active_rooms.gate.workers import this_worker
from hms_active_rooms.untrusted import quoted

Sleep = Callable[[float], Awaitable[None]]
Ending = Literal["done", "failed", "unknown"]

_FIRST_LOOK_S = 0.2
_LONGEST_WAIT_S = 1.0
_ABORTS_THE_REST = frozenset(
    {"unauthorized", "forbidden", "rate_limited", "connection_failed", "timed_out", "not_active"}
)
"""Errors after which the next person's request would meet the same fate."""


@dataclass(frozen=True)
class Result:
    """How sending ended; becomes the row's `result`."""

    state: Ending
    text: str
    executed: str
    verified: bool | None = None
    notes: tuple[str, ...] = ()
    people: tuple[dict[str, str], ...] = ()
    error: str = ""

    def as_json(self) -> dict[str, Any]:
        """Plain values for the journal."""
        return {
            "text": self.text,
            "executed": self.executed,
            "verified": self.verified,
            "notes": list(self.notes),
            "people": list(self.people),
            "error": self.error,
        }


class Sender:
    """Sends claimed actions and looks at what they did."""

    def __init__(
        self, client: ActiveRoomsClient, journal: Journal, policy: Policy, sleep: Sleep
    ) -> None:
        self._client = client
        self._journal = journal
        self._policy = policy
        self._sleep = sleep

    async def send(self, action: Action, drift: Drift) -> Action:
        """Send a row that this caller just moved to `sent`, and record how it ended."""
        call = parse_call(action.tool, action.arguments)
        impact = Impact.from_json(action.impact or {})
        try:
            match call:
                case SendMessage():
                    result = await self._message(call, impact)
                case RemovePeers() if impact.kind == "remove-each":
                    result = await self._remove_each(action, call, drift.people)
                case RemovePeers():
                    result = await self._remove(call, impact, drift.people or impact.people)
                case EndRoom():
                    result = await self._end(action, call, impact)
                case _:
                    raise AssertionError(f"no way to send {call.tool}")
        except asyncio.CancelledError:
            cut = Result("unknown", "Interrupted while it was being sent.", "maybe")
            self._record(action, cut, "cancelled")
            raise
        result = Result(**{**result.__dict__, "notes": (*drift.notes, *result.notes)})
        return await asyncio.to_thread(self._record, action, result, "answer")

    async def look(self, action: Action) -> Action:
        """Look for what became of an `unknown` action; it becomes `done` when the room shows it."""
        call = parse_call(action.tool, action.arguments)
        impact = Impact.from_json(action.impact or {})
        if isinstance(call, SendMessage):
            return action
        if isinstance(call, RemovePeers) and impact.kind == "remove-each":
            return await self._look_each(action, impact)
        ids = {p.id for p in impact.people}
        seen, why = await self._gone(call.room_id, impact.session_id, ids, wait=False)
        if seen is not True:
            text = f"{_unsure(call)} A look {'shows no effect yet' if seen is False else why}."
            await asyncio.to_thread(
                self._journal.note, action.id, "looked", by=this_worker(), way="look", seen=seen
            )
            return _with_result(action, {**action.result, "text": text, "executed": "maybe"})
        text = f"{_effect(call, impact)} Seen by a look at the room afterwards."
        result = Result("done", text, "yes", verified=True)
        return await asyncio.to_thread(self._record, action, result, "look")

    def _record(self, action: Action, result: Result, way: str) -> Action:
        columns = finished(result.as_json(), self._journal.now())
        data = {"executed": result.executed, "verified": result.verified, "error": result.error}
        self._journal.move(action, result.state, by=this_worker(), way=way, data=data, **columns)
        return self._journal.get(action.id) or action

    # --- one request -----------------------------------------------------------------------

    async def _message(self, call: SendMessage, impact: Impact) -> Result:
        try:
            await self._client.send_message(
                call.room_id, call.message, peer_id=call.peer_id, role=call.role, type=call.type
            )
        except ApiError as error:
            if error.executed == "no":
                return _failed(error)
            text = f"{_unsure(call)} ({error}) A message cannot be looked up."
            return Result("unknown", text, "maybe", error=error.code)
        return Result("done", _effect(call, impact), "yes")

    async def _remove(
        self, call: RemovePeers, impact: Impact, people: tuple[Person, ...]
    ) -> Result:
        error: ApiError | None = None
        try:
            await self._client.remove_peers(
                call.room_id, peer_id=call.peer_id, role=call.role, reason=call.reason
            )
        except (PeerNotFound, NotActive):
            return Result("done", "They had already left; nothing was left to do.", "no", True)
        except ApiError as unclear:
            if unclear.executed == "no":
                return _failed(unclear)
            error = unclear
        ids = {p.id for p in people}
        gone, why = await self._gone(call.room_id, impact.session_id, ids, wait=True)
        if error is None:
            return _accepted(_effect(call, impact), gone, why, self._policy.verify_s)
        if gone:
            text = f"{_effect(call, impact)} The answer was lost ({error.code}); the room shows it."
            return Result("done", text, "yes", verified=True, error=error.code)
        text = f"{_unsure(call)} ({error}) A look {why or 'shows no effect yet'}."
        return Result("unknown", text, "maybe", verified=False, error=error.code)

    async def _end(self, action: Action, call: EndRoom, impact: Impact) -> Result:
        hints = capability().tool(call.tool).hints
        for attempt in (1, 2):
            error: ApiError | None = None
            try:
                await self._client.end_room(call.room_id, reason=call.reason, lock=call.lock)
            except (NotActive, NotFound):
                over = "The session was already over."
                notes = ("Whether the room is locked could not be seen.",) if call.lock else ()
                return Result("done", over, "no", verified=True, notes=notes)
            except ApiError as unclear:
                if unclear.executed == "no":
                    return _failed(unclear)
                error = unclear
            gone, why = await self._gone(call.room_id, impact.session_id, set(), wait=True)
            if error is None:
                return _accepted(_effect(call, impact), gone, why, self._policy.verify_s)
            if gone:
                text = (
                    f"The session is over. The answer was lost ({error.code}); the room shows it."
                )
                notes = ("Whether the room is locked could not be seen.",) if call.lock else ()
                return Result("done", text, "yes", verified=True, notes=notes, error=error.code)
            same_session = gone is False
            if attempt == 1 and hints.idempotent and same_session:
                await asyncio.to_thread(
                    self._journal.note, action.id, "sent_again", by=this_worker(), way="idempotent"
                )
                continue
            text = f"{_unsure(call)} ({error}) A look {why or 'shows the session still running'}."
            return Result("unknown", text, "maybe", verified=False, error=error.code)
        raise AssertionError("unreachable")

    # --- one request per person --------------------------------------------------------------

    async def _remove_each(
        self, action: Action, call: RemovePeers, people: tuple[Person, ...]
    ) -> Result:
        fate: dict[str, str] = {}
        last_error: ApiError | None = None
        for person in people:
            if last_error is not None and last_error.code in _ABORTS_THE_REST:
                fate[person.id] = "not sent"
                continue
            if not await asyncio.to_thread(self._journal.start_step, action.id, person.id):
                fate[person.id] = "unknown"
                continue
            try:
                await self._client.remove_peers(call.room_id, peer_id=person.id, reason=call.reason)
                fate[person.id] = "removed"
            except PeerNotFound:
                fate[person.id] = "gone"
            except ApiError as error:
                last_error = error
                fate[person.id] = "failed" if error.executed == "no" else "unknown"
            await asyncio.to_thread(self._journal.end_step, action.id, person.id, fate[person.id])
        return await self._sum_up(action, call, people, fate, last_error, wait=True)

    async def _look_each(self, action: Action, impact: Impact) -> Action:
        call = parse_call(action.tool, action.arguments)
        steps = await asyncio.to_thread(self._journal.steps, action.id)
        fate = {p.id: steps.get(p.id, "not sent") for p in impact.people}
        fate = {peer: "unknown" if state == "sending" else state for peer, state in fate.items()}
        result = await self._sum_up(action, call, impact.people, fate, None, wait=False)
        if result.state == "done":
            return await asyncio.to_thread(self._record, action, result, "look")
        return _with_result(action, result.as_json())

    async def _sum_up(
        self,
        action: Action,
        call: StateChange,
        people: tuple[Person, ...],
        fate: dict[str, str],
        error: ApiError | None,
        *,
        wait: bool,
    ) -> Result:
        sent = {peer for peer, state in fate.items() if state in ("removed", "unknown")}
        session_id = Impact.from_json(action.impact or {}).session_id
        gone: bool | None = True
        why, still = "", set[str]()
        if sent:
            gone, why, still = await self._watch(call.room_id, session_id, sent, wait=wait)
            if gone is not None:
                for peer in sent - still:
                    fate[peer] = "removed"
        rows = tuple({"id": p.id, "name": p.name, "outcome": fate[p.id]} for p in people)
        count = {s: sum(v == s for v in fate.values()) for s in set(fate.values())}
        parts = [f"{count[s]} {s}" for s in _FATES if s in count]
        text = f"Removal of {len(people)} people: {', '.join(parts)}."
        if error is not None:
            text += f" The last error: {error}"
        names = [quoted(r["name"], 30) for r in rows if r["outcome"] not in ("removed", "gone")]
        if names:
            text += f" Not removed: {', '.join(names[:10])}{'…' if len(names) > 10 else ''}."
        code = error.code if error else ""
        if "unknown" in count:
            return Result("unknown", text, "maybe", False, people=rows, error=code)
        if names:
            executed = "partly" if count.get("removed") else "no"
            return Result("failed", text, executed, people=rows, error=code)
        if still or gone is None:
            text += f" {len(still) or 'Some'} still listed ({why or 'ghosts can stay 60 s'})."
        return Result("done", text, "yes", verified=not still and gone is True, people=rows)

    # --- looking -------------------------------------------------------------------------------

    async def _gone(
        self, room_id: str, session_id: str, ids: set[str], *, wait: bool
    ) -> tuple[bool | None, str]:
        """Whether the peers (none given: the session) are gone; None and why: could not look."""
        gone, why, _ = await self._watch(room_id, session_id, ids, wait=wait)
        return gone, why

    async def _watch(
        self, room_id: str, session_id: str, ids: set[str], *, wait: bool
    ) -> tuple[bool | None, str, set[str]]:
        """Poll until gone or `verify_s` passed (removals land a moment later, ghosts stay 60 s)."""
        left_s, pause_s = (self._policy.verify_s if wait else 0.0), _FIRST_LOOK_S
        while True:
            try:
                room = await self._client.retrieve_active_room(room_id)
            except (NotActive, NotFound):
                return True, "", set()
            except ApiError as error:
                answer: tuple[bool | None, str, set[str]] = None, f"failed: {error}", set(ids)
            else:
                here = set(room.session.peers)
                if room.session.id != session_id:
                    return True, "", set()
                still = ids & here
                if ids and not still:
                    return True, "", set()
                answer = False, "", still
            if left_s <= 0:
                return answer
            await self._sleep(min(pause_s, left_s))
            left_s -= pause_s
            pause_s = min(pause_s * 2, _LONGEST_WAIT_S)


_FATES = ("removed", "gone", "failed", "unknown", "not sent")


def _with_result(action: Action, result: dict[str, Any]) -> Action:
    return Action(**{**action.__dict__, "result": result})


def _failed(error: ApiError) -> Result:
    return Result("failed", error.for_model(), "no", error=error.code)


def _accepted(text: str, gone: bool | None, why: str, waited_s: float) -> Result:
    if gone:
        return Result("done", f"{text} Checked: the room shows it.", "yes", verified=True)
    seen = f"the look {why}" if gone is None else f"not visible after {waited_s:g} s"
    return Result(
        "done", f"{text} Accepted by 100ms, but {seen}; look again.", "yes", verified=False
    )


def _effect(call: StateChange, impact: Impact) -> str:
    match call:
        case SendMessage():
            who = {
                "direct": f"to {quoted(impact.people[0].name)}" if impact.people else "",
                "role": f"to {impact.total} with the role {quoted(call.role or '', 30)}",
                "everyone": f"to everyone ({impact.total})",
            }[impact.kind]
            return f"Message sent {who}."
        case RemovePeers() if impact.kind == "remove-peer":
            person = impact.people[0]
            return f"Removed {quoted(person.name)} (id {person.short_id})."
        case RemovePeers():
            return f"Removed everyone with the role {quoted(call.role or '', 30)}."
    lock = " and the room is locked" if isinstance(call, EndRoom) and call.lock else ""
    return f"The session was ended for {impact.total} people{lock}."


def _unsure(call: StateChange) -> str:
    what = {"hms-send-message": "message", "hms-remove-peers": "removal"}.get(call.tool, "end")
    return f"The outcome is unknown: the {what} was sent and may have been executed."
