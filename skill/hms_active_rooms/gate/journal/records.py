"""The journal's records as typed values.

A tool call is recorded as an `Action`, one row of the database. If the room changes before the call
is sent, or a person edits the call, it gets a new revision: another action with its own id.

The states of an action:

    proposed -> approved -> sent -> done | failed | unknown
          |         |  ^      |                     unknown -> done | failed
          |         |  +------+ surely not executed: the room is read before another request
          +---------+-> rejected | expired

A later read of the room, or a late answer, can make an `unknown` action `done` or `failed`. An
`approved` action can still be rejected. It expires at its deadline, when the policy or the room does
not allow it any more, or when a person is asked about a new revision. Who approved it is kept.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields, replace
from datetime import UTC, datetime, timedelta
from typing import Any, ClassVar, Literal, NoReturn, get_args

from pydantic import TypeAdapter

from hms_active_rooms.api.ids import refuse_unstorable
from hms_active_rooms.errors import BrokenRecord, JournalError
from hms_active_rooms.gate.actions import parse_call
from hms_active_rooms.gate.actions.change import StateChange
from hms_active_rooms.gate.actions.impact import Impact
from hms_active_rooms.gate.actions.result import Executed, Result
from hms_active_rooms.untrusted import SHORT_ID_CHARS, quoted

State = Literal["proposed", "approved", "sent", "done", "failed", "unknown", "rejected", "expired"]

TRANSITIONS: dict[State, frozenset[State]] = {
    "proposed": frozenset({"approved", "rejected", "expired"}),
    "approved": frozenset({"sent", "rejected", "expired"}),
    "sent": frozenset({"done", "failed", "unknown", "approved"}),
    "unknown": frozenset({"done", "failed"}),
    **dict.fromkeys(("done", "failed", "rejected", "expired"), frozenset()),
}

FINAL: frozenset[State] = frozenset(state for state, then in TRANSITIONS.items() if not then)
"""States that an action never leaves."""

UNSENT: tuple[State, ...] = ("proposed", "approved")  # an action can still be sent from these

EDITED_INTO = "edited by the person into action "  # begins the `reason` of an action replaced so
NOWHERE = "none-"  # a thread with this prefix is no conversation: nobody can continue it
OUTSIDE = "serve:"  # a thread with this prefix holds calls of another program (REST, MCP)
KEPT = "(kept) "  # `Journal.prune` keeps rows of the table `hms_asks` whose `place` has this prefix

# These stand in place of an action id in events: of requests that a server refused at once, and of
# the event `PRUNED` that `Journal.prune` begins with.
REQUESTS, PRUNES = "(requests)", "(prunes)"

LEADS_TO: Mapping[str, State] = {
    **{state: state for state in TRANSITIONS},
    "refused": "rejected",
    "returned": "approved",
}
"""The state after an event of each kind. Other kinds of events change no state."""

CALLED_AGAIN = "called_again"
"""Kind of event: a call stands for an earlier action, whose id is in `runs`. Either both calls name the
same peer, by a short and a full id. Or the earlier action was approved but could not be sent, and this
call sends it. Then the earlier action gets this event, too."""

OTHER_WORDS = "other_words"
"""Kind of event: somebody wanted other words for an action that was approved already. Only a new command
sends it (see `Gate.drive`)."""

PRUNED = "pruned"  # kind of event: the action was exported and deleted; this event stays

# Our choices.
RATE_WINDOW = timedelta(minutes=1)
CLOCKS_DIFFER = timedelta(minutes=1)  # how much the clocks of machines with one journal may differ
SENT_BEFORE = timedelta(hours=1)  # a question mentions the same call if it was sent so lately

Way = Literal[
    "interrupt",  # a person, by an interrupt of a graph
    "callback",  # a person, by the program's own callback
    "terminal",  # a person, at a terminal
    "command",  # somebody with the person's account, by `reject` without a terminal
    "page",  # a person, on the approvals page
    "rest",  # a person, by a program with an approver's token
    "elicitation",  # a person, by an MCP client, which also says who it was
    "message",  # a person wrote something new instead of answering
    "grant",  # a person, earlier: "for the rest of this session"
    "relaxed",  # nobody: the policy lets this soft-gated tool run unasked
    "unattended",  # nobody: code lets this tool run unasked
    "policy",  # nobody: the policy refused it
    "gate",  # nobody: the call was refused, nobody could be asked, or it was too late
    "claim",  # nobody: the room had changed when it was about to be sent
]
"""How a decision on an action came about."""

_NOBODY = frozenset({"relaxed", "unattended", "policy", "gate", "claim"})
_PEOPLE = frozenset(get_args(Way)) - _NOBODY


def by_person(way: Way | Literal[""]) -> bool:
    """Whether a person made a decision that came about in this way."""
    return way in _PEOPLE


def who(by: str, way: str) -> str:
    """Return `by`, the person who decided; "" if `way` says that no person did."""
    return "" if way in _NOBODY else by


def ran_unasked(way: Way | Literal[""]) -> bool:
    """Whether an action that was approved in this way ran without any person's approval."""
    return way in ("relaxed", "unattended")


def asked_a_person(way: Way | Literal[""]) -> bool:
    """Return whether an approval that came about in this way was an answer to a question about this very
    action."""
    return not ran_unasked(way) and way != "grant"


@dataclass(frozen=True)
class Origin:
    """Where a call was made. The same call with the same `thread`, `message` and `call` is the same action.

    Args:
        thread: the conversation, or a name for the process.
        message: the id of the message, or of the graph task, that holds the call.
        call: the id of the call in it.
        requester: who asks.
    """

    thread: str  # the conversation, or a name for the process
    message: str  # the message or graph task that holds the call
    call: str  # the call's id in that message
    requester: str  # who asks, for the record ("agent", "cli:ada")

    def __post_init__(self) -> None:
        refuse_unstorable("thread id", self.thread)


NOTHING = Result()  # the result of an action that has not ended


@dataclass(frozen=True)
class Action:
    """The record of one call, a row of the database. Times are UTC. If the room changes before the call is
    sent, or a person edits the call, a new action with the next `revision` follows.

    Args:
        call_key: the same for all revisions of a call.
        thread: the conversation in which the call was made.
        requester: who asked.
        impact: whom the call affects; None if the call was refused at once.
        digest: a hash of call and impact, which an approval has to repeat.
        granted_in: the process in which the approval covers later messages of the conversation; else "".
        contradiction: why the record cannot be trusted; "" if it can.
        mark: the number of the newest event when the action was read.
    """

    id: str  # short, easy to type; each revision has its own
    call_key: str  # identifies the call; all its revisions have the same
    revision: int
    thread: str  # see `Origin`
    requester: str  # see `Origin`
    call: StateChange  # with full ids once its impact is known
    impact: Impact | None  # whom it affects; None if it was refused before that was known
    digest: str  # hash of revision, call and impact; an approval must repeat it
    gate: Literal["soft", "hard"]  # "hard" for a destructive tool
    state: State  # the state now; after the deadline `expired`, even if that is not stored yet
    created_at: datetime
    expires_at: datetime
    note: str = ""  # why a person is asked again, or when the same call was sent before
    reason: str = ""  # why it was rejected or expired
    decided_by: str = ""  # "" for nobody
    decided_way: Way | Literal[""] = ""
    worker: str = ""  # the process that sends or sent the request
    granted_in: str = ""  # the process where the scope "session" covers later calls; else ""
    decided_at: datetime | None = None
    sent_at: datetime | None = None
    lease_until: datetime | None = None  # until when the worker may still be sending
    finished_at: datetime | None = None
    result: Result = NOTHING  # how the sending ended
    edited_from: str | None = None  # id of the action that a person edited to make this one
    content: str = ""  # digest of the call, see `content_of`
    told_at: datetime | None = None  # when the program that asked was first told how it ended
    contradiction: str = ""  # why the row cannot be read or trusted; "" if it is fine
    mark: int = field(default=0, compare=False)  # the journal's newest event when this was read

    @property
    def tool(self) -> str:
        return self.call.tool

    @property
    def room_id(self) -> str:
        return self.call.room_id

    @property
    def shown(self) -> Impact:
        """Whom the call affects (`impact`). Raises JournalError if the record is broken or does not say
        it."""
        self.check()
        if self.impact is None:
            raise JournalError(f"The action {self.id} was refused at once, so it affects nobody.")
        return self.impact

    def check(self) -> None:
        """Raise BrokenRecord if the record cannot be read, or contradicts its events."""
        if self.contradiction:
            raise BrokenRecord(f"The record of the action {self.id} {self.contradiction}.")

    @property
    def waiting(self) -> bool:
        """True if a person has to decide. Nobody can decide on an action whose record is broken."""
        return self.state == "proposed" and not self.contradiction

    @property
    def ended(self) -> bool:
        """Whether nothing more will be sent for this action. Its outcome may be unknown."""
        return self.state in FINAL or self.state == "unknown"

    @property
    def ended_at(self) -> datetime:
        """When an action that has `ended` did so; if nobody answered the question in time, its deadline."""
        ended = self.finished_at or self.decided_at or self.created_at
        return min(ended, self.expires_at) if self.state == "expired" else ended

    @property
    def executed(self) -> Executed:
        """Whether the room was changed, by this record: "no", "yes", or "maybe" if nobody knows."""
        if self.state in ("sent", "unknown") or self.contradiction:
            return "maybe"
        return self.result.executed if self.state in ("done", "failed") else "no"

    def bound(self, call: StateChange, impact: Impact) -> Action:
        """Return a copy with this call (full ids), this impact, and a `digest` of both and the revision."""
        both = {
            # Without this, an answer to one of two identical calls would fit the other, too.
            "action": [self.call_key, self.revision],
            "tool": call.tool,
            "arguments": call.arguments(),
            "impact": _impact_json(impact),
        }
        return replace(self, call=call, impact=impact, digest=digest(both))

    def is_as_shown(self) -> bool:
        """Return True if `digest` fits the call and the impact, or if there is no impact."""
        return self.impact is None or self.digest == self.bound(self.call, self.impact).digest

    def decided(self, state: State, by: str, way: Way, at: datetime, **more: Any) -> Action:
        """Return a copy in this state, with who decided, how and when. `more` sets other fields."""
        given = replace(self, decided_by=by, decided_way=way, decided_at=at)
        return replace(given, state=state, **more)

    def at(self, now: datetime) -> Action:
        """Return this action as it is at the time `now`: a `proposed` or `approved` action is `expired`
        after its deadline."""
        set_back = (self.decided_at or self.created_at) > now + CLOCKS_DIFFER
        if self.state not in UNSENT or (now < self.expires_at and not set_back):
            return self
        what = "question was not answered" if self.state == "proposed" else "approval was not used"
        why = f"{what} in time"
        if set_back:
            why = "action is dated later than this machine's clock says, so nobody knows how old it is"
        reason = f"The {why}. Ask again if the call is still wanted."
        ended = min(now, self.expires_at)
        if self.state == "approved":
            return replace(self, state="expired", reason=reason, finished_at=ended)
        return self.decided("expired", "gate", "gate", ended, reason=reason)


_JSON = json.JSONEncoder(sort_keys=True, separators=(",", ":"), default=datetime.isoformat)


def canonical(value: object) -> bytes:
    """Return compact ASCII JSON with sorted keys. Equal JSON values give equal bytes."""
    return _JSON.encode(value).encode()


def digest(value: Mapping[str, object]) -> str:
    """Return the SHA-256 of `canonical(value)`, in hex."""
    return hashlib.sha256(canonical(value)).hexdigest()


def _impact_json(impact: Impact) -> dict[str, Any]:
    """The impact as JSON. Fields newer than 0.1.0 are left out if empty, so that old digests stay valid."""
    dumped: dict[str, Any] = _IMPACT.dump_python(impact, mode="json")
    later = ("room_name", "receivers")
    return {name: value for name, value in dumped.items() if value or name not in later}


def as_made(call: StateChange) -> str:
    """Return the digest of a call's tool and arguments. Where the call was made does not count."""
    return digest({"tool": call.tool, "arguments": call.arguments()})


def content_of(call: StateChange) -> str:
    """Return a digest of a call's tool and arguments, the same for the short and the full id of a peer."""
    arguments = call.arguments()
    if "peer_id" in arguments:
        arguments["peer_id"] = arguments["peer_id"][:SHORT_ID_CHARS]
    return digest({"tool": call.tool, "arguments": arguments})


def may_be_same(one: StateChange, other: StateChange) -> bool:
    """Return whether two calls with the same `content_of` may name one peer: one id begins with the other."""
    short, full = sorted((getattr(c, "peer_id", None) or "" for c in (one, other)), key=len)
    return full.startswith(short)


def call_key(call: StateChange, origin: Origin) -> str:
    """Return the key of a call: a hash of the call before any edit, and of `origin` without the requester."""
    where = {"thread": origin.thread, "message": origin.message, "call": origin.call}
    return digest({**where, "digest": as_made(call)})


def action_id(key: str, revision: int) -> str:
    """Return the id of the action that is this revision of the call with this `call_key` (here: `key`)."""
    raw = hashlib.sha256(canonical([key, str(revision)])).digest()
    return base64.b32encode(raw)[:12].decode().lower()


@dataclass(frozen=True)
class Event:
    """`kind` says what happened to an action, `by` who did it, `way` how. Only `Journal.prune` deletes it."""

    at: datetime
    kind: str
    by: str
    way: str
    data: dict[str, Any]


# --- rows of the database -------------------------------------------------------------------

Columns = Mapping[Any, Any]
"""A row of the database: maps the names of its columns to values."""

NO_TIME = datetime(1970, 1, 1, tzinfo=UTC)  # stands in place of a stored time that cannot be read

_IMPACT = TypeAdapter(Impact)
_RESULT = TypeAdapter(Result)
_FIELDS = {field.name for field in fields(Action)}
_PLAIN = _FIELDS - {"call", "impact", "result", "contradiction", "mark"}
_SEALED = sorted(
    # All columns, except those that can change while the state does not.
    _PLAIN - {"worker", "lease_until", "told_at"}
    | {"tool", "room_id", "arguments", "impact", "result"}
)
_KNOWN = {"state": get_args(State), "gate": ("soft", "hard"), "decided_way": ("", *get_args(Way))}
_UNKNOWN = {"state": "unknown", "gate": "hard", "decided_way": ""}


class Unreadable(StateChange):
    """Stands in place of a recorded call that cannot be read. Its methods raise BrokenRecord."""

    tool = "unreadable"
    noun = "call"
    editable = frozenset()

    def _refuse(self, *_: object, **__: object) -> NoReturn:
        raise BrokenRecord("The call cannot be read.")

    assess: ClassVar[Any] = _refuse
    drift: ClassVar[Any] = _refuse
    question: ClassVar[Any] = _refuse
    request: ClassVar[Any] = _refuse
    effect: ClassVar[Any] = _refuse


def row_of(action: Action) -> dict[str, Any]:
    """Return the database row of an action. Its keys are the names of the columns."""
    return {
        **{name: getattr(action, name) for name in _PLAIN},
        "tool": action.tool,
        "room_id": action.room_id,
        "arguments": action.call.arguments(),
        "impact": None if action.impact is None else _impact_json(action.impact),
        "result": _RESULT.dump_python(action.result, mode="json", exclude_defaults=True),
    }


def action_of(row: Columns, now: datetime, wrong: str = "") -> Action:
    """Return the action in a database row, as it is at `now`. `wrong` says why the row cannot be trusted;
    "" if it can."""
    found = {name: row[name] for name in _PLAIN}
    try:
        odd = [name for name, known in _KNOWN.items() if row[name] not in known]
        odd += [name for name, value in found.items() if value is NO_TIME]
        if odd or not isinstance(row["revision"], int):
            raise ValueError(f"the value of {(odd or ['revision'])[0]} is not one it can have")
        # 0.1.0 wrote the code of a refusal as `code`.
        result = {("error" if name == "code" else name): v for name, v in row["result"].items()}
        found |= {
            "call": parse_call(row["tool"], row["arguments"]),
            "impact": None if row["impact"] is None else _IMPACT.validate_python(row["impact"]),
            "result": _RESULT.validate_python(result),
        }
    except (ValueError, TypeError, AttributeError) as error:
        wrong = f"cannot be read: {quoted(str(error).splitlines()[0], 200)}"
        found |= {name: _UNKNOWN[name] for name in _KNOWN if row[name] not in _KNOWN[name]}
        call = Unreadable.model_construct(room_id=str(row["room_id"]))
        found |= {"call": call, "impact": None, "result": NOTHING}
    return Action(**found, contradiction=wrong, mark=row.get("mark") or 0).at(now)


def sealed(key: bytes, **values: object) -> str:
    """Return the HMAC-SHA256 of the values in hex; if the key is empty, their SHA-256."""
    text = canonical(values)
    return (hmac.new(key, text, "sha256") if key else hashlib.sha256(text)).hexdigest()


def seal(key: bytes, columns: Columns, event: Columns) -> str:
    """Return a hash of two rows: an action (`columns`), and the event that last changed its state. With a
    `key`, only its owner can make the hash."""
    row = {name: columns[name] for name in _SEALED}
    said = [event[name] for name in ("at", "kind", "by", "way", "data")]
    return sealed(key, row=row, event=said)


def contradiction(key: bytes, columns: Columns, event: Columns, found: str) -> str:
    """Return why an action's row (`columns`) cannot be trusted; "" if it can. `event` is the event that last
    changed its state, and `found` the stored hash of both rows."""
    if event["kind"] is None:
        return "contradicts itself: the events that led to it are gone"
    if found == seal(key, columns, event):
        return ""
    if key and found == seal(b"", columns, event):
        return "was made before the journal had a key, or by somebody who does not have the key"
    return (
        "contradicts itself: another program changed it. Its last step on record is "
        f"{quoted(event['kind'], 24)} by {quoted(event['by'])} ({quoted(event['way'], 24)}) "
        f"at {event['at']:%Y-%m-%d %H:%M:%S} UTC"
    )


def history_fault(row: Action, events: Iterable[Event]) -> str:
    """Return what is wrong with the events of the action `row`; "" if they lead to its stored state."""
    state: State | None = None
    decided, sender = {("", "")}, row.worker
    for event in events:
        after = LEADS_TO.get(event.kind)
        if after is None:
            continue
        first = event.kind in ("proposed", "refused")
        if first != (state is None) or (state and after not in TRANSITIONS[state]):
            return f"contradicts itself: it goes from {state or 'nothing'} to {after}"
        if first and event.by != row.requester:
            return f"contradicts itself: its events begin with {quoted(event.by)}"
        if after in ("approved", "rejected", "expired") and event.kind == after:
            # Who approved an action that expired stays in its row. (0.1.0 wrote "grant of ACTION")
            before = decided if (state, after) == ("approved", "expired") else set()
            decided = {(event.by, event.way.split(" ")[0]), *before}
        sender = event.by if after == "sent" else sender
        state = after
    ended = state == row.state or (row.state == "expired" and state in UNSENT)
    if not ended or (("", "") not in decided and (row.decided_by, row.decided_way) not in decided):
        by = " and ".join(quoted(name) for name, _ in sorted(decided))
        return f"contradicts itself: its events end with {state}, decided by {by}"
    if row.worker not in ("", sender):
        return f"contradicts itself: its events say that {quoted(sender)} sent it"
    return ""
