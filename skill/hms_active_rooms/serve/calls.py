"""Runs the tool calls that other programs make by MCP or REST, and answers them.

A repeated call must not change the room twice. So the same call by the same caller is answered like
this:

- While its action is open (waits for a person, or is being sent), the call gets this action.
- An action that ended as done, failed, rejected or expired answers one more call, within an hour.
- An action that ended as unknown answers every call: for an hour after the first such answer, or
  until the room has another session.
- Any later call is a new action. It asks a person even if the policy would not.
- All calls with the same idempotency key get the same action, for ever.

A GET of the action is not a call.
"""

from __future__ import annotations

import asyncio
import json
import logging
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import partial
from math import ceil
from typing import Any, Final

from pydantic import BaseModel

from hms_active_rooms import errors
from hms_active_rooms.gate.actions import CALLS
from hms_active_rooms.gate.actions.change import Arguments, StateChange
from hms_active_rooms.gate.gate import REFUSED, Gate, refused_again
from hms_active_rooms.gate.journal import records
from hms_active_rooms.gate.journal.records import Action, Origin, Way, call_key, content_of
from hms_active_rooms.gate.journal.store import Writing
from hms_active_rooms.gate.sending import Waits, nobody_waits
from hms_active_rooms.gate.view import ActionView, for_model, view
from hms_active_rooms.serve.callers import Caller, threads_of
from hms_active_rooms.serve.decisions import run, to_the_end
from hms_active_rooms.serve.limits import CALLERS_OF_A_TOKEN, MOST_NEW_A_MINUTE, refusals_of
from hms_active_rooms.tools import roster
from hms_active_rooms.tools.active_rooms import read_roster
from hms_active_rooms.tools.arguments import ARGUMENTS, ListPeers, checked
from hms_active_rooms.tools.toolkit import ActiveRoomsToolkit
from hms_active_rooms.untrusted import quoted

MAX_OPEN: Final = 100  # questions of one caller; our choice: twice what the approvals page shows
TOLD_WITHIN: Final = timedelta(hours=1)  # our choice; see the module's docstring

_log = logging.getLogger(__name__)

DATA: Final[dict[str, type[BaseModel]]] = {
    "hms-retrieve-active-room": roster.RoomData,
    "hms-list-peers": roster.PeersData,
    **dict.fromkeys(CALLS, ActionView),
}
"""The pydantic model of `Answer.data`, by the tool's name."""

MCP_DATA: Final[dict[str, type[BaseModel]]] = {**DATA, "hms-list-peers": roster.PeersTable}
"""`DATA` for MCP: a client may show a model both text and data, so a roster is a compact table."""


@dataclass(frozen=True)
class Answer:
    """The result of a tool call.

    Args:
        text: for a model.
        data: for a program.
        action: None if the tool only reads.
        repeated: true if an earlier call made this action, so that this call sent nothing.
    """

    text: str
    data: dict[str, Any]  # see `DATA`
    action: Action | None = None
    repeated: bool = False

    def saying(self, text: str) -> Answer:
        """A copy with this text, also in its data."""
        return replace(self, text=text, data={**self.data, "text": text})


def where_to_approve(action_id: str, page: str = "") -> str:
    """Return words that say where a person can decide. `page` is the address of the approvals page, or ""."""
    terminal = f"in a terminal: hms-active-rooms approve {action_id}"
    return f"on the page {page}, or {terminal}" if page else terminal


def action_answer(action: Action, page: str = "") -> Answer:
    """The answer to a call that changes a room: the state of its action. `page` is as in `call_tool`."""
    text, approve_at = for_model(action), where_to_approve(action.id, page)
    if action.waiting:
        note = f"{action.note} " if action.note else ""
        text = (
            f"{text} {note}A person decides {approve_at}, "
            f"until {action.expires_at:%Y-%m-%d %H:%M:%S} UTC. Do not approve it yourself. "
            "To learn the outcome, make the same call again, with the same arguments."
        )
    data = view(action, approve_at=approve_at, text=text).model_dump(mode="json")
    return Answer(text, data, action)


async def call_tool(
    toolkit: ActiveRoomsToolkit,
    name: str,
    arguments: Arguments | dict[str, Any],
    *,
    caller: Caller,
    page: str = "",
) -> Answer:
    """Call the tool `name`. Return when the call has ended, or waits for a person. `page` is the address of
    the approvals page, or ""."""
    gate = toolkit.gate
    call = arguments if isinstance(arguments, Arguments) else checked(name, arguments)
    if not isinstance(call, StateChange):
        return await read(gate, name, call, caller)
    began = gate.journal.now()
    action, _ = await open_call(gate, call, caller)
    return await tell(gate, await settle(gate, action), began, page=page)


def input_schema(tool: str) -> dict[str, Any]:
    """The JSON schema of a tool's arguments, as LangChain shows it to a model. `tool` is its name."""
    schema = ARGUMENTS[tool].model_json_schema()
    return {key: value for key, value in schema.items() if key not in ("title", "description")}


async def read(
    gate: Gate, name: str, call: Arguments, caller: Caller, *, table: bool = False
) -> Answer:
    """Call the tool `name`, which only reads. With `table`, a list of people is a compact `PeersTable`."""
    try:
        if isinstance(call, ListPeers):
            view, budget = await read_roster(gate, call)
            if table:
                return Answer(*roster.peers_table(call.room_id, view, budget))
            text, view = roster.shown(view, budget)
            return Answer(text, roster.peers_data(call.room_id, view))
        live = await gate.active_room(call.room_id)
    except errors.PolicyRefusal as error:
        # A call that only reads is no action in the journal, so record its refusal here.
        what = f"{name} of room {call.room_id}"
        refusals_of(gate.journal).add(error.code, what, caller.requester)
        raise
    return Answer(roster.render_room(live), roster.room_data(live))


async def open_call(
    gate: Gate, call: StateChange, caller: Caller, shown: Way | None = None
) -> tuple[Action, bool]:
    """Return the action for a call, and whether it is new. A repeated call gets the action of the earlier
    call.

    Args:
        gate: records the action.
        call: the change of the room.
        caller: the program that calls.
        shown: how the caller shows a question to a person; None if it shows none.

    Raises:
        RateLimited: the caller made too many new calls in this minute.
        PolicyRefusal: too many questions wait, or the policy does not allow the call.
    """
    keyed = Origin(caller.thread, "key", caller.key, caller.requester)
    found, who, earlier = await asyncio.to_thread(_look, gate, call, caller, keyed)
    if found is not None and not await _is_over(gate, found, caller):
        try:
            return refused_again(found), False
        except errors.ActiveRoomsError:
            await _record_told(gate, found)
            raise
    _keep_pace(gate, call, caller)
    if caller.key:
        await asyncio.to_thread(_bind_key, gate, call, caller)
    turn = f"same call of {caller.requester}"
    origin = keyed if caller.key else replace(keyed, message=turn, call=earlier)
    try:
        new: Any = {"is_new": True, "always_ask": found is not None, "mine": who}
        admit = partial(_admit, caller)
        return await gate.propose(call, origin, shown=shown, admit=admit, **new), True
    except REFUSED:
        refused = await gate.find(call, origin)
        if refused is not None and refused.ended:
            await _record_told(gate, refused)
        raise


def _look(
    gate: Gate, call: StateChange, caller: Caller, keyed: Origin
) -> tuple[Action | None, list[str], str]:
    """What the journal has of a call: its newest action, and the requesters that made it and count as
    this caller. Also a text that is unique to this call: the number of earlier ones and of prunes."""
    with gate.journal.read() as view:
        newest, who, earlier = view.same_calls(
            caller.thread,
            content_of(call),
            caller.is_mine,
            lambda row: records.may_be_same(row.call, call),
        )
        if caller.key:
            newest = view.latest(call_key(call, keyed))
        return newest, who, f"{earlier} {len(view.events(records.PRUNES))}"


def _admit(caller: Caller, tx: Writing) -> None:
    mine = tx.count(state="proposed", thread=caller.thread, requester=caller.requester)
    ours = tx.count(state="proposed", within=threads_of(caller.token))
    waiting = ours if ours >= CALLERS_OF_A_TOKEN * MAX_OPEN else mine
    if waiting >= MAX_OPEN:
        # Not recorded as an action, so a flood of calls cannot fill the journal.
        _log.warning(
            "refused a call of %s: %d questions wait", quoted(caller.requester, 80), waiting
        )
        raise errors.PolicyRefusal(
            f"{waiting} calls wait for a person. New calls are refused until some are decided.",
            hint="Tell the person that calls wait. Call again after they have decided.",
        )


def _bind_key(gate: Gate, call: StateChange, caller: Caller) -> None:
    place, content = json.dumps(["key", caller.thread, caller.key]), records.as_made(call)
    with gate.journal.write() as tx:
        if not tx.ask(place, [content]) and tx.asked_at(place) != [content]:
            raise errors.InvalidCall(
                "This idempotency key was used for another call.",
                hint="Use a new key for a new call.",
            )


def _keep_pace(gate: Gate, call: StateChange, caller: Caller) -> None:
    # A policy that allows more actions a minute allows as many new calls.
    most = max(MOST_NEW_A_MINUTE, gate.policy.actions_per_minute)
    refusals, who = refusals_of(gate.journal), f"{caller.thread} {caller.requester}"
    for name, limit in ((who, most), (f"token {caller.token}", most * CALLERS_OF_A_TOKEN)):
        if wait_s := refusals.take_one(name, limit):
            what = f"{call.tool} of room {call.room_id}"
            refusals.add(errors.RateLimited.code, what, caller.requester)
            raise errors.RateLimited(
                f"At most {limit} new calls are allowed in a minute.",
                hint=f"Call again in {ceil(wait_s)} s.",
                retry_after_s=wait_s,
            )


UNSETTLED: Final = ("approved", "sent", "unknown")


async def settle(gate: Gate, action: Action, waits: Waits = nobody_waits) -> Action:
    """Send an `approved` action, or look up the outcome of a `sent` or `unknown` one. Return the action as
    it is then. `waits()` tells whether the calling program still waits."""
    if action.state in UNSETTLED:
        return await to_the_end(gate, action.id, run(gate, action, waits))
    return action


async def tell(gate: Gate, action: Action, began: datetime | None, *, page: str = "") -> Answer:
    """Return the result of a call whose action has this state. `began` is when the call came; None if that
    does not matter. `page` is the address of the approvals page, or ""."""
    if action.ended:
        await _record_told(gate, action)
    answer = action_answer(action, page)
    if began is None or not action.ended or action.ended_at >= began:
        return answer
    text = f"This call was made before and is not sent again. Its outcome: {answer.text}"
    return replace(answer.saying(text), repeated=True)


async def _record_told(gate: Gate, action: Action) -> None:
    def note() -> None:
        with gate.journal.write(notes_only=True) as tx:
            tx.told(action.id)

    if action.told_at is not None:
        return
    try:
        await asyncio.to_thread(note)
    except errors.JournalError as error:
        # Harmless: the next same call gets the same outcome.
        _log.warning("cannot record that the caller got the outcome of %s: %s", action.id, error)


async def _is_over(gate: Gate, action: Action, caller: Caller) -> bool:
    """Whether the same call now makes a new action; the module's docstring has the rules."""
    if caller.key or not action.ended:
        return False
    now = gate.journal.now()
    if action.state != "unknown":
        return action.told_at is not None or now - action.ended_at > TOLD_WITHIN
    if action.told_at is None or now - action.told_at > TOLD_WITHIN:
        return action.told_at is not None
    # An unknown outcome matters only in its own session.
    with suppress(errors.ActiveRoomsError):
        session = (await gate.active_room(action.room_id)).session
        return session.id != action.shown.session_id
    return False
