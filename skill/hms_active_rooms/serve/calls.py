"""Tool calls from programs in other processes: check, propose, run, tell the outcome.

The same call by the same caller is one row while that row is open. When the row has ended, the next
same call within an hour is told its outcome, once. If the outcome stays unknown, every same call
within that hour is told so, as long as the same session runs. After that, the same call is a new
action, and a person is asked about it even if the policy lets it run unasked. A call with an
idempotency key is one row for ever. Reading an action does not count as being told.
"""

from __future__ import annotations

import asyncio
import json
import logging
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from math import ceil
from typing import Any, Final

from pydantic import BaseModel

from hms_active_rooms.errors import (
    ActiveRoomsError,
    InvalidCall,
    JournalError,
    PolicyRefusal,
    RateLimited,
)
from hms_active_rooms.gate.actions import CALLS
from hms_active_rooms.gate.actions.change import Arguments, StateChange
from hms_active_rooms.gate.gate import REFUSED, Gate, refused_again
from hms_active_rooms.gate.journal.records import Action, Origin, Way, call_key, content_of
from hms_active_rooms.gate.view import ActionView, for_model, view
from hms_active_rooms.serve.callers import Caller, threads_of
from hms_active_rooms.serve.decisions import run, to_the_end
from hms_active_rooms.serve.limits import CALLERS_OF_A_TOKEN, MOST_NEW_A_MINUTE, refusals_of
from hms_active_rooms.tools.active_rooms import roster
from hms_active_rooms.tools.arguments import ARGUMENTS, ListPeers, checked
from hms_active_rooms.tools.roster import (
    PeersData,
    PeersTable,
    RoomData,
    peers_data,
    peers_table,
    render_room,
    room_data,
    shown,
)
from hms_active_rooms.tools.toolkit import ActiveRoomsToolkit
from hms_active_rooms.untrusted import quoted

MAX_OPEN: Final = 100
"""Our choice: twice what the approvals page shows; nobody reads more open questions."""

TOLD_WITHIN: Final = timedelta(hours=1)
"""Our choice: within this time, the next same call is told an outcome, once. An unknown outcome is
told to every same call, for this long after it was told first."""

_log = logging.getLogger(__name__)


DATA: Final[dict[str, type[BaseModel]]] = {
    "hms-retrieve-active-room": RoomData,
    "hms-list-peers": PeersData,
    **dict.fromkeys(CALLS, ActionView),
}
"""By tool name, the model of `Answer.data`; a test holds that the names are the contract's."""

MCP_DATA: Final[dict[str, type[BaseModel]]] = {**DATA, "hms-list-peers": PeersTable}
"""As `DATA`, for MCP, whose clients show a model the text, the data, or both."""


@dataclass(frozen=True)
class Answer:
    """The answer to a call: a text for a model, data as in `DATA`, and the row of a state-changing
    call. `repeated`: the outcome is that of an earlier same call, and nothing was sent."""

    text: str
    data: dict[str, Any]
    action: Action | None = None
    repeated: bool = False

    def saying(self, text: str) -> Answer:
        """This answer with another text."""
        return replace(self, text=text, data={**self.data, "text": text})


def where_to_approve(action_id: str, page: str = "") -> str:
    """Where a person decides, in words. `page`: address of the approvals page, if any."""
    terminal = f"in a terminal: hms-active-rooms approve {action_id}"
    return f"on the page {page}, or {terminal}" if page else terminal


def action_answer(action: Action, page: str = "") -> Answer:
    """The answer about a state-changing call, from its row."""
    text, approve_at = for_model(action), where_to_approve(action.id, page)
    if action.state == "proposed":
        note = f"It is asked again: {action.note} " if action.note else ""
        text = (
            f"{text} {note}A person decides on it {approve_at}, "
            f"until {action.expires_at:%Y-%m-%d %H:%M:%S} UTC. Do not approve it for them. "
            "The same call with the same arguments tells what came of it."
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
    """Run one tool call to its end, or until a person has to decide. `arguments`: validated, or as
    received; `page`: address of the approvals page, if there is one. The `executed` of each
    ActiveRoomsError says whether anything was executed."""
    gate = toolkit.gate
    call = arguments if isinstance(arguments, Arguments) else checked(name, arguments)
    if not isinstance(call, StateChange):
        return await read(gate, name, call, caller)
    began = gate.journal.now()
    action, _ = await open_call(gate, call, caller)
    return await tell(gate, await settle(gate, action), began, page=page)


def input_schema(tool: str) -> dict[str, Any]:
    """The JSON schema of a tool's arguments, the same that LangChain shows a model."""
    schema = ARGUMENTS[tool].model_json_schema()
    return {key: value for key, value in schema.items() if key not in ("title", "description")}


async def read(
    gate: Gate, name: str, call: Arguments, caller: Caller, *, table: bool = False
) -> Answer:
    """The answer of a tool that only reads. With `table`, a roster's data is a `PeersTable`, and
    text and data share one budget. A room that the policy does not allow is recorded and raised."""
    try:
        if isinstance(call, ListPeers):
            view, budget = await roster(gate, call)
            if table:
                return Answer(*peers_table(call.room_id, view, budget))
            text, view = shown(view, budget)
            return Answer(text, peers_data(call.room_id, view))
        live = await gate.active_room(call.room_id)
    except PolicyRefusal as error:
        # A refused read has no row of its own.
        what = f"{name} of room {call.room_id}"
        refusals_of(gate.journal).add(error.code, what, caller.requester)
        raise
    return Answer(render_room(live), room_data(live))


async def open_call(
    gate: Gate, call: StateChange, caller: Caller, shown: Way | None = None
) -> tuple[Action, bool]:
    """The row for this call by this caller, and whether it is new. An earlier row is used while it
    is open, or while its outcome was not told. `shown`: the way by which the question of a new row
    is shown to a person at once; None: it is not. Raises what `Gate.propose` raises and, without a
    row, RateLimited for too many new calls and PolicyRefusal for too many open questions."""
    keyed = Origin(caller.thread, "key", caller.key, caller.requester)
    found, sent, earlier, mine, ours = await asyncio.to_thread(_look, gate, call, caller, keyed)
    if found is not None and not await _is_over(gate, found, caller):
        try:
            return refused_again(found), False
        except ActiveRoomsError:
            await _told(gate, found)
            raise
    _keep_pace(gate, call, caller)
    again = found is not None
    waiting = ours if ours >= CALLERS_OF_A_TOKEN * MAX_OPEN else mine
    if waiting >= MAX_OPEN and (again or not gate.policy.runs_unasked(call.tool)):
        # Without a row, so that a flood cannot fill the journal.
        _log.warning("refused %s: %d questions wait", quoted(caller.requester, 80), waiting)
        raise PolicyRefusal(
            f"{waiting} calls wait for a person; no more are taken until some are decided.",
            hint="Tell the person what waits. Call again once they decided.",
        )
    if caller.key:
        await asyncio.to_thread(_bind_key, gate, call, caller)
    turn = f"turn of {caller.requester}"
    origin = keyed if caller.key else replace(keyed, message=turn, call=str(earlier))
    try:
        new: Any = {"is_new": True, "always_ask": again, "sent": sent}
        return await gate.propose(call, origin, shown=shown, **new), True
    except REFUSED:
        refused = await gate.find(call, origin)
        if refused is not None and refused.ended:
            await _told(gate, refused)
        raise


def _look(
    gate: Gate, call: StateChange, caller: Caller, keyed: Origin
) -> tuple[Action | None, Action | None, int, int, int]:
    """The newest row of this call, the newest that was sent, how often the call was made before,
    and how many questions wait for the caller and for all callers with its token."""
    with gate.journal.read() as view:
        mine = view.count(state="proposed", thread=caller.thread, requester=caller.requester)
        ours = view.count(state="proposed", within=threads_of(caller.token))
        same = caller.thread, content_of(call), caller.is_mine
        newest, sent, earlier = view.same_calls(*same)
        if caller.key:
            newest = view.latest(call_key(call, keyed))
        return newest, sent, earlier, mine, ours


def _bind_key(gate: Gate, call: StateChange, caller: Caller) -> None:
    place, content = json.dumps(["key", caller.thread, caller.key]), content_of(call)
    with gate.journal.write() as tx:
        if not tx.ask(place, [content]) and tx.asked_at(place) != [content]:
            raise InvalidCall(
                "This idempotency key was used for another call.",
                hint="Use a new key for a new call.",
            )


def _keep_pace(gate: Gate, call: StateChange, caller: Caller) -> None:
    # A policy that lets more actions be sent per minute also lets as many be asked for.
    most = max(MOST_NEW_A_MINUTE, gate.policy.actions_per_minute)
    refusals, who = refusals_of(gate.journal), f"{caller.thread} {caller.requester}"
    for name, limit in ((who, most), (f"token {caller.token}", most * CALLERS_OF_A_TOKEN)):
        if wait_s := refusals.take_one(name, limit):
            what = f"{call.tool} of room {call.room_id}"
            refusals.add(RateLimited.code, what, caller.requester)
            raise RateLimited(
                f"{limit} new calls came in this minute, and no more are taken in it.",
                hint=f"Call again in {ceil(wait_s)} s.",
                retry_after_s=wait_s,
            )


UNSETTLED: Final = ("approved", "sent", "unknown")


async def settle(gate: Gate, action: Action) -> Action:
    """Send the row if it is approved, look for its effect if it was sent; return it as it is."""
    if action.state in UNSETTLED:
        return await to_the_end(gate, action.id, run(gate, action))
    return action


async def tell(gate: Gate, action: Action, began: datetime | None, *, page: str = "") -> Answer:
    """The answer about a row; records that its outcome was told. `began`: when this call came; if
    the row had ended by then, the answer says that an earlier call made it. None: an earlier round
    of this call was answered already."""
    if action.ended:
        await _told(gate, action)
    answer = action_answer(action, page)
    if began is None or not action.ended or action.ended_at >= began:
        return answer
    text = f"This call was made before and is not sent again; what came of it: {answer.text}"
    return replace(answer.saying(text), repeated=True)


async def _told(gate: Gate, action: Action) -> None:
    def note() -> None:
        with gate.journal.write(notes_only=True) as tx:
            tx.told(action.id)

    if action.told_at is not None:
        return
    try:
        await asyncio.to_thread(note)
    except JournalError as error:
        # The row tells what was executed even without this note. The next same call is then told
        # the same outcome again, and nothing is sent.
        _log.warning("told, and not on record: %s: %s", action.id, error)


async def _is_over(gate: Gate, action: Action, caller: Caller) -> bool:
    """Whether the next same call is a new action: this one has ended and its outcome was told."""
    if caller.key or not action.ended:
        return False
    now = gate.journal.now()
    if action.state != "unknown":
        return action.told_at is not None or now - action.ended_at > TOLD_WITHIN
    if action.told_at is None or now - action.told_at > TOLD_WITHIN:
        return action.told_at is not None
    # An unknown outcome is not told any more once another session runs.
    with suppress(ActiveRoomsError):
        session = (await gate.active_room(action.room_id)).session
        return session.id != action.shown.session_id
    return False
