"""Tool calls from programs that do not run in our process: check, propose, run, tell.

Threat: a client repeats a request because an answer got lost, replays one, sends two at
once, asks more than people can read, or fills the journal. Invariant: the same call by the same
caller is the same row of the journal while that row is open. Once it has ended, its outcome
answers the next such call, once and within an hour, as a repetition; an outcome that stays
unknown answers all of them, for an hour and in the same session. After that the call is a new
action. A person is asked about a new action that was called before, whatever the policy lets run
unasked: so no repetition is sent without a new yes. An explicit key is one row for ever, and
a new key is a new call. Only a call tells an outcome; looking at an action changes nothing.
At most `MAX_OPEN` questions of one thread wait at once; see `serve.pace` for how many new rows it
makes in a minute.
"""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from math import ceil
from typing import TYPE_CHECKING, Any, Final

from pydantic import ValidationError

from hms_active_rooms.capability import capability
from hms_active_rooms.errors import (
    ActiveRoomsError,
    InvalidCall,
    JournalError,
    PolicyRefusal,
    RateLimited,
)
from hms_active_rooms.gate.calls import Arguments, StateChange, explain
from hms_active_rooms.gate.digest import digest
from hms_active_rooms.gate.drafts import Origin
from hms_active_rooms.gate.gate import Gate
from hms_active_rooms.gate.impact import Impact
from hms_active_rooms.gate.records import Action
from hms_active_rooms.serve.answers import (
    Answer,
    action_answer,
    has_ended,
    peers_data,
    peers_table,
    room_data,
)
from hms_active_rooms.serve.pace import MOST_NEW_A_MINUTE, take_one
from hms_active_rooms.serve.refusals import refusals_of
from hms_active_rooms.serve.running import run_to_end
from hms_active_rooms.tools.arguments import ARGUMENTS, ListPeers
from hms_active_rooms.tools.roster import default_budget, render_room, render_roster, roster
from hms_active_rooms.untrusted import quoted

if TYPE_CHECKING:
    from hms_active_rooms.tools.toolkit import ActiveRoomsToolkit

THREADS: Final = "serve:"
"""How the journal's threads of calls from outside begin."""

MAX_KEY_CHARS: Final = 200

MAX_OPEN: Final = 100
"""Our choice: twice what the approvals page shows. More questions at once nobody reads."""

TOLD_WITHIN: Final = timedelta(hours=1)
"""Our choice: how long an outcome that no call was told answers the next same call, and one that
stays unknown, once told, all of them."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Caller:
    """Who calls, and from where.

    Attributes:
        channel: calls of one channel are compared with each other ("mcp", "rest:ada").
        requester: who asks, for the record ("mcp:claude-desktop").
        key: an idempotency key of the caller's own; "" for none.
    """

    channel: str
    requester: str
    key: str = ""

    @property
    def thread(self) -> str:
        """The journal's thread of these calls."""
        return THREADS + self.channel


async def call_tool(
    toolkit: ActiveRoomsToolkit,
    name: str,
    arguments: dict[str, Any],
    *,
    caller: Caller,
    page: str = "",
) -> Answer:
    """One tool call to its end, or to the point where a person has to decide.

    Args:
        toolkit: holds the gate.
        name: tool name of the contract.
        arguments: as received.
        caller: who calls.
        page: address of the approvals page, for those who wait; "" when there is none.

    Raises:
        InvalidCall: no such tool, wrong arguments, or a key used for another call.
        PolicyRefusal, NotActive, PeerNotFound: refused; on record for state changes.
        ActiveRoomsError: the room or the journal cannot be read; says whether anything
            was executed.
    """
    gate = toolkit.gate
    call = checked(name, arguments)
    if not isinstance(call, StateChange):
        return await read(gate, name, call, caller)
    began = gate.journal.now()
    action = await open_call(gate, call, caller)
    answer = await tell(gate, await settle(gate, action), page=page)
    if answer.action is None or not is_repeated(answer.action, began):
        return answer
    text = f"This call was made before and is not sent again; what came of it: {answer.text}"
    return replace(answer, text=text, data={**answer.data, "text": text})


def checked(name: str, arguments: dict[str, Any]) -> Arguments:
    """The call, checked like any.

    Raises:
        InvalidCall: no such tool, or wrong arguments.
    """
    capability().tool(name)
    try:
        return ARGUMENTS[name].model_validate(arguments)
    except ValidationError as error:
        raise InvalidCall(explain(error)) from None


async def read(
    gate: Gate, name: str, call: Arguments, caller: Caller, *, table: bool = False
) -> Answer:
    """The answer of a reader.

    Args:
        gate: reads.
        name: tool name of the contract.
        call: its checked arguments.
        caller: who calls.
        table: a roster's data is `PeersTable`, and costs what it may together with the text.

    Raises:
        PolicyRefusal: another room than the policy allows; nothing was read, on record.
        ApiError: the room could not be read.
    """
    try:
        if isinstance(call, ListPeers):
            everyone = await gate.peers(call.room_id)
            filters = call.model_dump(exclude={"room_id"})
            view = roster(everyone, **filters)
            if table:
                return Answer(name, *peers_table(call.room_id, view, default_budget(call.limit)))
            return Answer(name, render_roster(view), peers_data(call.room_id, view))
        live = await gate.active_room(call.room_id)
    except PolicyRefusal as error:
        # A refused reader has no row among the actions.
        _log.warning("refused %s: %s", name, quoted(str(error), 200))
        what = f"{name} of room {call.room_id}"
        refusals_of(gate.journal).add(error.code, what, caller.requester)
        raise
    return Answer(name, render_room(live), room_data(live))


async def open_call(gate: Gate, call: StateChange, caller: Caller) -> Action:
    """The row for this call by this caller: the one that is open or not told yet, or a new one.

    Raises:
        RateLimited: too many new calls of this thread in this minute; not proposed.
        PolicyRefusal: too many questions of this thread wait; not proposed.
        PolicyRefusal, InvalidCall, PeerNotFound, NotActive: refused, on record.
        ApiError: the room could not be read; nothing was executed.
    """
    origin, again = await _origin(gate, call, caller)
    if await gate.find(call, origin) is None:
        _keep_pace(gate, call, caller)
        if again or not gate.policy.runs_unasked(call.tool):
            await _room_for_one_more(gate, caller)
        await _bind_key(gate, call, caller)
    try:
        return await (gate.asking() if again else gate).propose(call, origin)
    except ActiveRoomsError:
        with suppress(JournalError):
            refused = await gate.find(call, origin)
            if refused is not None and has_ended(refused):
                await _told(gate, refused)
        raise


def _keep_pace(gate: Gate, call: StateChange, caller: Caller) -> None:
    # Whoever lets more actions be sent in a minute lets them be asked for.
    most = max(MOST_NEW_A_MINUTE, gate.policy.actions_per_minute)
    wait_s = take_one(gate.journal, caller.thread, most)
    if not wait_s:
        return
    _log.warning("refused %s: %d new calls in a minute", quoted(caller.requester, 80), most)
    what = f"{call.tool} of room {call.room_id}"
    refusals_of(gate.journal).add(RateLimited.code, what, caller.requester)
    raise RateLimited(
        f"{most} new calls came in this minute, and no more are taken in it.",
        hint=f"Call again in {ceil(wait_s)} s.",
        retry_after_s=wait_s,
    )


async def _room_for_one_more(gate: Gate, caller: Caller) -> None:
    waiting = await asyncio.to_thread(
        gate.journal.count, state="proposed", at=gate.journal.now(), thread=caller.thread
    )
    if waiting >= MAX_OPEN:
        # No row either: a flood must not fill the journal.
        _log.warning("refused %s: %d questions wait", quoted(caller.requester, 80), waiting)
        raise PolicyRefusal(
            f"{waiting} calls wait for a person; no more are taken until some are decided.",
            hint="Tell the person what waits. Call again once they decided.",
        )


async def settle(gate: Gate, action: Action) -> Action:
    """Send what is approved, look for what became of what was sent; the row as it is then."""
    if action.state in ("approved", "sent", "unknown"):
        return await run_to_end(gate, action.id)
    return action


async def tell(gate: Gate, action: Action, *, page: str = "") -> Answer:
    """The answer about a row. An outcome that is told once is not told again to a new call."""
    if has_ended(action):
        await _told(gate, action)
    return action_answer(action, page)


def is_repeated(action: Action, began: datetime) -> bool:
    """Whether this outcome was there before a call that began at this moment. Pure."""
    return has_ended(action) and _ended_at(action) < began


async def _told(gate: Gate, action: Action) -> None:
    try:
        if await _told_at(gate, action) is None:
            await asyncio.to_thread(gate.journal.note, action.id, "told", way="call")
    except JournalError as error:
        # The row tells what was executed, whether or not this is noted; without the note the
        # next same call gets the same outcome, and nothing is sent.
        _log.warning("told, and not on record: %s: %s", action.id, error)


async def _told_at(gate: Gate, action: Action) -> datetime | None:
    """When a call was told the outcome first; None: none was."""
    events = await asyncio.to_thread(gate.journal.events, action.id)
    return next((event.at for event in events if event.kind == "told"), None)


async def _origin(gate: Gate, call: StateChange, caller: Caller) -> tuple[Origin, bool]:
    """Where this call is made, and whether the same call was made and over before."""
    if caller.key:
        return _keyed(caller), False

    def turn(number: int) -> Origin:
        return Origin(caller.thread, "turn", str(number), caller.requester)

    async def over(number: int) -> bool:
        action = await gate.find(call, turn(number))
        unknown = action is not None and action.state == "unknown"
        if unknown and await gate.find(call, turn(number + 1)) is not None:
            return True  # whatever it was given up for: another session may be over by now
        return await _is_over(gate, action)

    # Turns are over in order, so the first open one is found in few steps however many there are.
    if not await over(0):
        return turn(0), False
    told, opened = 0, 1
    while await over(opened):
        told, opened = opened, opened * 2
    while opened - told > 1:
        middle = (told + opened) // 2
        if await over(middle):
            told = middle
        else:
            opened = middle
    return turn(opened), True


async def _is_over(gate: Gate, action: Action | None) -> bool:
    if action is None or not has_ended(action):
        return False
    if action.state == "unknown":
        return await _is_given_up(gate, action)
    if gate.journal.now() - _ended_at(action) > TOLD_WITHIN:
        return True
    return await _told_at(gate, action) is not None


async def _is_given_up(gate: Gate, action: Action) -> bool:
    """Whether an unknown outcome was told long enough, or another session runs by now."""
    told_at = await _told_at(gate, action)
    if told_at is None:
        return False
    if gate.journal.now() - told_at > TOLD_WITHIN:
        return True
    shown = Impact.from_json(action.impact or {}).session_id
    with suppress(ActiveRoomsError):
        return (await gate.active_room(action.room_id)).session.id != shown
    return False


def _ended_at(action: Action) -> datetime:
    ended = action.finished_at or action.decided_at or action.created_at
    # A question nobody touched was over at its deadline, not when somebody noticed.
    return min(ended, action.expires_at) if action.state == "expired" else ended


def _keyed(caller: Caller) -> Origin:
    if len(caller.key) > MAX_KEY_CHARS or not caller.key.isascii() or not caller.key.isprintable():
        raise InvalidCall(
            f"An idempotency key has at most {MAX_KEY_CHARS} printable ASCII characters."
        )
    return Origin(caller.thread, "key", caller.key, caller.requester)


async def _bind_key(gate: Gate, call: StateChange, caller: Caller) -> None:
    """Tie a key to the first call that was made with it."""
    if not caller.key:
        return
    content = digest({"tool": call.tool, "arguments": call.arguments()})
    place = await gate.place_ask(("key", caller.thread, caller.key), [content])
    if place.items[0] != content:
        raise InvalidCall(
            "This idempotency key was used for another call.", hint="Use a new key for a new call."
        )
