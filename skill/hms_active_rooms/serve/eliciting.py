"""What an MCP client asks its person, what its answer means, and what ties the two. Pure.

Threat: an answer is replayed, forged, or given to a question that is not the pending one.
Invariant: an answer counts only for the action and the digest it was asked about, and only
exactly `approve` approves; the journal decides whether anything is sent.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Final

from hms_active_rooms.gate.approval import ApprovalRequest, BadAnswerError

WAY: Final = "elicitation"
KEY: Final = "approval"
"""The question's name among the inputs a client is asked for."""

MOST_QUESTIONS: Final = 5
"""About one call; after that the action waits for a person elsewhere."""

MAX_REASON_CHARS: Final = 500

_MAX_NAME_CHARS: Final = 40
_NOT_IN_A_NAME: Final = re.compile(r"[^A-Za-z0-9._/@+-]+")

FORM: Final[dict[str, Any]] = {
    "type": "object",
    "properties": {
        "decision": {
            "type": "string",
            "title": "Decision",
            "description": "Approve runs exactly what is shown, once.",
            "enum": ["reject", "approve"],
        },
        "reason": {
            "type": "string",
            "title": "Reason",
            "description": "Told to the model when you reject.",
            "maxLength": MAX_REASON_CHARS,
        },
    },
    "required": ["decision"],
}
"""What the client shows below the question. No default: nobody approves by pressing Enter."""


@dataclass(frozen=True)
class Asked:
    """Which question a client is answering.

    Attributes:
        action: the journal's row.
        digest: what was shown.
        count: how many questions there were about this call, this one included.
    """

    action: str
    digest: str
    count: int

    def encoded(self) -> str:
        """As a request state."""
        return json.dumps(asdict(self), separators=(",", ":"))

    @classmethod
    def decoded(cls, text: str | None) -> Asked | None:
        """The inverse; None for anything else."""
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


def question(request: ApprovalRequest, elsewhere: str = "") -> str:
    """The request in words, with what tells it from every other request.

    Args:
        request: what is asked.
        elsewhere: where else it can be decided, behind "can also be decided"; "" to leave it out.
    """
    also = f"\nIt can also be decided {elsewhere}." if elsewhere else ""
    return (
        f"{request.text}\n"
        f"Answer until {request.deadline:%Y-%m-%d %H:%M:%S} UTC "
        f"(action {request.action_id}, digest {request.digest[:12]}).{also}"
    )


def answer(action: str, content: Mapping[str, object] | None, digest: str) -> dict[str, Any] | None:
    """The answer a client gave, as `gate.approval` reads it; None when the person decided nothing.

    Args:
        action: "accept" (the form was sent), "decline" or "cancel".
        content: the form.
        digest: of the question that was asked.

    Raises:
        BadAnswerError: a form that is not ours.
    """
    if action == "cancel":
        return None
    if action == "decline":
        return {"type": "reject", "message": ""}
    given = dict(content or {})
    reason = given.pop("reason", None) or ""
    decision = given.pop("decision", None)
    if action != "accept" or given or not isinstance(reason, str):
        raise BadAnswerError("the form has other fields than decision and reason")
    if decision == "approve":
        return {"type": "approve", "digest": digest}
    if decision == "reject":
        return {"type": "reject", "message": reason[:MAX_REASON_CHARS]}
    raise BadAnswerError("the decision is neither approve nor reject")
