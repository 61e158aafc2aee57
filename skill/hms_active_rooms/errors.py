"""All errors of the package. Errors that callers handle differently have different classes.

`status` and `request_id` are for a log, so `for_model()` leaves them out. No error ever holds a
management token.
"""

from __future__ import annotations

from typing import ClassVar, Literal

Executed = Literal["no", "maybe", "yes"]
"""Whether the request changed anything. "maybe" means that nobody knows."""

_EXECUTED_TEXT: dict[Executed, str] = {
    "no": "Nothing was executed.",
    "maybe": "The request may have been executed.",
    "yes": "The request was executed.",
}


class ActiveRoomsError(Exception):
    """Base class of all errors that this package raises on purpose.

    Attributes:
        code: the fixed name of the error class. Programs can compare it.
        executed: whether the request changed anything: "no", "yes", or "maybe" if nobody knows.
        hint: what to do next. The default is the hint of the class.
    """

    code: ClassVar[str] = "error"
    default_hint: ClassVar[str] = ""
    person_hint: ClassVar[str | None] = None
    """The default hint for a person. None means that a person gets the same hint as a model."""
    held: bool = False
    """True if the call was approved and could not be sent. It is still approved."""

    def __init__(self, message: str, *, executed: Executed = "no", hint: str | None = None) -> None:
        super().__init__(message)
        self.executed: Executed = executed
        self.hint = self.default_hint if hint is None else hint
        if self.own_hint:
            self.add_note(self.own_hint)  # so that a traceback shows it

    def for_person(self) -> str:
        """Return the text for a person: what happened, and whether anything was executed."""
        told = str(self)
        if self.executed == "no" and "Nothing was" in told:
            return told
        return f"{told} {_EXECUTED_TEXT[self.executed]}"

    def for_model(self) -> str:
        """Return the text for a model: what happened, whether anything was executed, what to do next."""
        return " ".join(filter(None, (str(self), _EXECUTED_TEXT[self.executed], self.hint)))

    @property
    def own_hint(self) -> str:
        """The `hint` if it is not the default of the error's class, else ""."""
        return self.hint if self.hint != self.default_hint else ""


def default_hint(code: str, *, for_person: bool = False) -> str:
    """Return the default hint of the error class with this `code`. Return "" if there is no such class."""
    known = [ActiveRoomsError]
    for kind in known:
        if kind.code == code:
            told = kind.person_hint if for_person else None
            return kind.default_hint if told is None else told
        known += kind.__subclasses__()
    return ""


class ConfigurationError(ActiveRoomsError):
    """A setting, a file or an environment variable is missing or wrong."""

    code = "configuration"


class InvalidCall(ActiveRoomsError, ValueError):
    """The call or an argument is wrong. Nothing was sent. Pydantic validators may raise this error."""

    code = "invalid_call"
    default_hint = "Fix the arguments and call again."
    person_hint = ""


class PolicyRefusal(ActiveRoomsError):
    """The policy does not allow this call. No person can approve it."""

    code = "policy_refusal"
    default_hint = "Do not try again. Tell the person what the policy does not allow."
    person_hint = (
        "To change the policy, use --policy, HMS_POLICY_FILE or the variables HMS_POLICY_*."
    )


class OutcomeUnknown(ActiveRoomsError):
    """The request may have been sent, and nobody knows whether it was executed."""

    code = "outcome_unknown"
    default_hint = "Do not repeat the call. Look at the room (it does not show messages)."

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message, executed="maybe", hint=hint)


class JournalError(ActiveRoomsError):
    """The journal of all actions cannot be read or written, so nothing can be sent.

    Attributes:
        retry_after_s: the seconds after which to try again, or None.
    """

    code = "journal"
    retry_after_s: float | None = None  # when to try again, if the journal was only locked
    default_hint = "Nothing is sent without a record. Repair the journal first."


class BrokenRecord(JournalError):
    """The journal's record of an action cannot be read, or contradicts the events of the action."""

    code = "broken_record"
    default_hint = "Nothing is sent for this action. Find out who else can write to the journal."


class ApiError(ActiveRoomsError):
    """The 100ms API answered with an error, or gave no usable answer.

    Args:
        status: the HTTP status, or None.
        request_id: the id that 100ms gave the request, or None.
        retry_after_s: the seconds that 100ms asks to wait, or None.
    """

    code = "api"

    def __init__(
        self,
        message: str,
        *,
        executed: Executed = "no",
        hint: str | None = None,
        status: int | None = None,
        request_id: str | None = None,
        retry_after_s: float | None = None,
    ) -> None:
        super().__init__(message, executed=executed, hint=hint)
        self.status = status
        self.request_id = request_id
        self.retry_after_s = retry_after_s


class Unauthorized(ApiError):
    """401: the token is not valid. The request was not executed.

    Attributes:
        renewed: True if the client has a new token now. The same request may then succeed.
    """

    code = "unauthorized"
    renewed: bool = False
    default_hint = "You cannot fix this. Tell the person to check the 100ms credentials (management tokens expire) and this machine's clock."
    person_hint = "Check the 100ms credentials (management tokens expire) and this machine's clock."


class Forbidden(ApiError):
    """403: the room id is wrong, the room is in another account, or the credentials lack a right."""

    code = "forbidden"
    default_hint = (
        "Check the room id. A room code or a session id does not work. Check the credentials, too."
    )


class NotActive(ApiError):
    """404 "session not active": nobody is in the room now."""

    code = "not_active"
    default_hint = "The room has no running session, so nobody is in it."


class PeerNotFound(ApiError):
    """Nobody with this id or role is in the room now."""

    # 100ms does not document the text "peer not found" of its 404.
    code = "peer_not_found"
    default_hint = (
        "List the peers again. People come and go, and a person who rejoins has a new id."
    )


class NotFound(ApiError):
    """404 with a text that names neither a session nor a peer."""

    code = "not_found"
    default_hint = (
        "The room may be empty. If not, check the room id, and HMS_BASE_URL if it is set."
    )


class InvalidRequest(ApiError):
    """400, or a 4xx that has no class of its own: the API refused the request."""

    code = "invalid_request"
    default_hint = "Fix the arguments and call again."


class RateLimited(ApiError):
    """429: there were too many requests. This request was not executed."""

    code = "rate_limited"
    default_hint = "Wait a little, then try again."


class ServerError(ApiError):
    """5xx: the server of 100ms failed."""

    code = "server_error"
    default_hint = "Look at the room before you do anything else."


class ConnectionFailed(ApiError):
    """No connection to the 100ms API could be made. The request was not executed."""

    code = "connection_failed"
    default_hint = "Check the network and the base URL (HMS_BASE_URL), then try again."


class TimedOut(ApiError):
    """The 100ms API did not answer in time."""

    code = "timed_out"
    default_hint = "Look at the room before you do anything else."


class BadResponse(ApiError):
    """The answer of the 100ms API was cut off, was too large, or is not as its documentation says."""

    code = "bad_response"
    default_hint = "Look at the room before you do anything else."
