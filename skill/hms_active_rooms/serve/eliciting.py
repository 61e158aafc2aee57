"""What an MCP client asks its person, what its answer means, and what ties the two. Pure.

A client may keep an answer and give it to whatever is asked when it resumes, so a decision names
its question by the digest and counts for no other. A declined form names nothing and only stops.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Final

from hms_active_rooms.gate.approval import ApprovalRequest, Approve, BadAnswerError, Reject
from hms_active_rooms.gate.journal.records import Way

WAY: Final[Way] = "elicitation"
KEY: Final = "approval"
"""The question's name among the inputs a client is asked for."""

MOST_QUESTIONS: Final = 5
"""About one call; after that the action waits for a person elsewhere."""

MAX_REASON_CHARS: Final = 500

PROGRESS_S: Final = 15.0
"""Between two reports of progress while a person is asked: clients give up after 60 s without."""

_MAX_NAME_CHARS: Final = 40
_NOT_IN_A_NAME: Final = re.compile(r"[^A-Za-z0-9._/@+-]+")

LATE: Final = "it was given for another question. Too late, nothing is sent"
"""Why an answer that names another question, or was asked by another one, is none."""

_NAMED: Final = re.compile(r"(?:approve|reject) [0-9a-f]{32}")


@dataclass(frozen=True)
class Asked:
    """Which question a client is answering: row, digest of what was shown, and how many questions
    there were about this call, this one included."""

    action: str
    digest: str
    count: int

    def encoded(self) -> str:
        """As a request state."""
        return json.dumps(asdict(self), separators=(",", ":"))

    @classmethod
    def decoded(cls, text: str | None) -> Asked | None:
        """What `encoded` wrote, read back; None if the text is anything else."""
        try:
            return cls(**json.loads(text or ""))
        except (ValueError, TypeError):
            return None


def client_name(given: str) -> str:
    """A client's name for itself as one plain word, so that it reads like nothing else."""
    return _NOT_IN_A_NAME.sub("_", given[: 10 * _MAX_NAME_CHARS])[:_MAX_NAME_CHARS] or "unnamed"


def decided_by(name: str) -> str:
    """Who decided, for the record: a client said so. Which person it asked is not known."""
    return f"client {client_name(name)}"


def question(request: ApprovalRequest, elsewhere: str = "", before: str = "") -> str:
    """The request in words, with what tells it from every other request; `elsewhere` it can be
    decided too, and `before` says why the last answer decided nothing."""
    also = f"\nIt can also be decided {elsewhere}." if elsewhere else ""
    last = f"The last answer decided nothing: {before}.\n" if before else ""
    return (
        f"{last}{request.text}\n"
        f"Answer until {request.deadline:%Y-%m-%d %H:%M:%S} UTC "
        f"(action {request.action_id}, digest {request.digest[:12]}).{also}"
    )


def form(digest: str) -> dict[str, Any]:
    """What the client shows below the question with this digest.

    Each decision names the question; `enumNames` is what a client shows for it, if it knows
    that. No default: nobody approves by pressing Enter.
    """
    reason = {"title": "Reason", "description": "Told to the model when you reject."}
    decision = {"title": "Decision", "description": "Approve runs exactly what is shown, once."}
    return {
        "type": "object",
        "properties": {
            "decision": {
                "type": "string",
                **decision,
                "enum": [_names("reject", digest), _names("approve", digest)],
                "enumNames": ["Reject: nothing is sent", "Approve what is shown"],
            },
            "reason": {"type": "string", **reason, "maxLength": MAX_REASON_CHARS},
        },
        "required": ["decision"],
    }


def _names(word: str, digest: str) -> str:
    """A decision with the name of its question: 128 bits of the digest, so that nobody can make
    two questions with the same name."""
    return f"{word} {digest[:32]}"


def answer(action: str, content: Mapping[str, object] | None, digest: str) -> object:
    """The answer a client gave, as `Gate.decide` reads it; None when the person decided nothing.
    `action`: "accept" (`content` is the form), "decline" or "cancel"."""
    if action == "cancel":
        return None
    if action == "decline":
        return Reject()
    given = dict(content or {})
    reason = given.pop("reason", None) or ""
    decision = given.pop("decision", None)
    if action != "accept" or given or not isinstance(reason, str):
        return BadAnswerError("the form has other fields than decision and reason")
    if decision == _names("approve", digest):
        return Approve(digest)
    if decision == _names("reject", digest):
        return Reject(reason[:MAX_REASON_CHARS])
    if isinstance(decision, str) and _NAMED.fullmatch(decision):
        return BadAnswerError(LATE)
    return BadAnswerError("the decision is none of the form's")
