"""All errors of the package. An error has a class of its own if callers handle it differently.

Every error says whether anything was executed (`executed`), what happened (`str(error)`), and what
to do next (`hint`). `for_model()` leaves out what is only for a log (`status`, `request_id`). No
error ever holds an access token.
"""

from __future__ import annotations

from typing import ClassVar, Literal

Executed = Literal["no", "maybe", "yes"]
"""Whether the request changed anything. "maybe" means that nobody knows."""

_EXECUTED_TEXT: dict[Executed, str] = {
    "no": "Nothing was executed.",
    "maybe": "It may have been executed.",
    "yes": "It was executed.",
}


class ActiveRoomsError(Exception):
    """Base of all errors that this package raises on purpose. Programs can rely on `code`; `hint`
    is one sentence on what to do next."""

    code: ClassVar[str] = "error"
    default_hint: ClassVar[str] = ""
    person_hint: ClassVar[str | None] = None
    """The hint for a person, if `default_hint` is worded for a model. None: the same for both."""

    def __init__(self, message: str, *, executed: Executed = "no", hint: str | None = None) -> None:
        super().__init__(message)
        self.executed: Executed = executed
        self.hint = self.default_hint if hint is None else hint

    def for_person(self) -> str:
        """For a person: what happened, and whether anything was executed."""
        told = str(self)
        if self.executed == "no" and "Nothing was" in told:
            return told
        return f"{told} {_EXECUTED_TEXT[self.executed]}"

    def for_model(self) -> str:
        """For a model: what happened, whether anything was executed, and what to do next."""
        return " ".join(filter(None, (str(self), _EXECUTED_TEXT[self.executed], self.hint)))

    @property
    def own_hint(self) -> str:
        """The hint of this error alone, such as how long to wait; "" if it has its class's hint."""
        return self.hint if self.hint != self.default_hint else ""


def default_hint(code: str) -> str:
    """What a model should do next after an error with this code; "" if nothing is known."""
    known = [ActiveRoomsError]
    for kind in known:
        if kind.code == code:
            return kind.default_hint
        known += kind.__subclasses__()
    return ""


class ConfigurationError(ActiveRoomsError):
    """A setting, a file or an environment variable is missing or wrong."""

    code = "configuration"


class InvalidCall(ActiveRoomsError, ValueError):
    """The arguments are wrong; no request was made. A ValueError, so that pydantic reports it too."""

    code = "invalid_call"
    default_hint = "Fix the arguments and call again."
    person_hint = ""


class PolicyRefusal(ActiveRoomsError):
    """The policy does not allow this call, whoever asks."""

    code = "policy_refusal"
    default_hint = "Do not try again; tell the person what the policy does not allow."
    person_hint = "The policy is set by HMS_POLICY_FILE and HMS_POLICY_*."


class OutcomeUnknown(ActiveRoomsError):
    """The request was sent, and nobody knows whether it was executed."""

    code = "outcome_unknown"
    default_hint = "Do not send it again; look at the room and tell the person."
    person_hint = "Look at the room; do not send it again."

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message, executed="maybe", hint=hint)


class JournalError(ActiveRoomsError):
    """The journal cannot be read or written, so nothing can be sent."""

    code = "journal"
    default_hint = "Nothing is sent without a record; repair the journal first."


class BrokenRecord(JournalError):
    """The record of an action cannot be read, or contradicts its own events."""

    code = "broken_record"
    default_hint = "Nothing is sent for it. Find out who else can write to the journal."


class ApiError(ActiveRoomsError):
    """The 100ms API answered with an error, or gave no answer (then `status` is None). `request_id`
    is the server's, if it sent one."""

    code = "api"

    def __init__(
        self,
        message: str,
        *,
        executed: Executed = "no",
        hint: str | None = None,
        status: int | None = None,
        request_id: str | None = None,
    ) -> None:
        super().__init__(message, executed=executed, hint=hint)
        self.status = status
        self.request_id = request_id


class Unauthorized(ApiError):
    """401. The request was not executed."""

    code = "unauthorized"
    default_hint = "You cannot fix this; tell the person to check the 100ms credentials and this machine's clock."
    person_hint = "Check the 100ms credentials and this machine's clock."


class Forbidden(ApiError):
    """403: the room is not in this account, or the room id is wrong."""

    code = "forbidden"
    default_hint = "Check the room id; a room code or a session id is not a room id."


class NotActive(ApiError):
    """404 "session not active": nobody is in the room now."""

    code = "not_active"
    default_hint = "The room has no running session, so there is nobody to act on."


class PeerNotFound(ApiError):
    """404 "peer not found": no such peer is connected now. We assume that 100ms uses this text."""

    code = "peer_not_found"
    default_hint = (
        "List the peers again; people come and go, and a person who rejoins has a new id."
    )


class NotFound(ApiError):
    """404 with a text that is about neither a session nor a peer."""

    code = "not_found"
    default_hint = "Perhaps the room is empty. If not, check the room id and the base URL."


class InvalidRequest(ApiError):
    """400 or another 4xx: the API refused the request."""

    code = "invalid_request"
    default_hint = "Fix the arguments and call again."


class RateLimited(ApiError):
    """429: too many requests, and this one was not executed. `retry_after_s` is how many seconds
    the server asks to wait; None if it does not say."""

    code = "rate_limited"
    default_hint = "Wait a little, then try again."

    def __init__(self, message: str, *, retry_after_s: float | None = None, **rest: object) -> None:
        super().__init__(message, **rest)  # type: ignore[arg-type]
        self.retry_after_s = retry_after_s


class ServerError(ApiError):
    """5xx: the server failed."""

    code = "server_error"
    default_hint = "Look at the room before anything else."


class ConnectionFailed(ApiError):
    """No connection could be made; the request was not executed."""

    code = "connection_failed"
    default_hint = "Check the network and the base URL (HMS_BASE_URL), then try again."


class TimedOut(ApiError):
    """No answer within the deadline."""

    code = "timed_out"
    default_hint = "Look at the room before anything else."


class BadResponse(ApiError):
    """The answer was cut off, too large or not what the API documents."""

    code = "bad_response"
    default_hint = "Look at the room before anything else."
