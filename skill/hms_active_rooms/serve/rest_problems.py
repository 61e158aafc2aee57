"""What a refused REST request is told: problem+json (RFC 9457), with a status for every error."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field

from hms_active_rooms.errors import (
    ActiveRoomsError,
    ApiError,
    ApprovalNeeded,
    BadResponse,
    ConfigurationError,
    ConnectionFailed,
    Forbidden,
    InvalidCall,
    InvalidRequest,
    JournalError,
    NotActive,
    NotFound,
    OutcomeUnknown,
    PeerNotFound,
    PolicyRefusal,
    RateLimited,
    ServerError,
    TimedOut,
    Unauthorized,
)
from hms_active_rooms.serve.answers import ActionData

MEDIA_TYPE: Final = "application/problem+json"
TYPE_PREFIX: Final = "urn:hms-active-rooms:problem:"

STATUS: Final[dict[type[ActiveRoomsError], int]] = {
    ActiveRoomsError: 500,
    ConfigurationError: 500,
    InvalidCall: 422,
    PolicyRefusal: 403,
    ApprovalNeeded: 409,
    OutcomeUnknown: 502,
    JournalError: 503,
    ApiError: 502,
    # The server's own credentials or rooms: nothing the caller sent is wrong.
    Unauthorized: 502,
    Forbidden: 502,
    NotActive: 404,
    PeerNotFound: 404,
    NotFound: 404,
    InvalidRequest: 422,
    RateLimited: 429,
    ServerError: 502,
    ConnectionFailed: 502,
    TimedOut: 504,
    BadResponse: 502,
}
"""Every class of the error tree; a test holds that none is missing."""

TITLES: Final = {
    400: "The request is malformed",
    401: "A token is needed",
    403: "Not allowed",
    404: "Not there",
    405: "Not a method of this resource",
    408: "The request did not arrive in time",
    409: "Decided already, or about something else",
    413: "The request is too large",
    415: "Not JSON",
    421: "Another host",
    422: "The call is wrong",
    429: "Too many requests",
    500: "The server is set up wrongly",
    502: "100ms failed",
    503: "Not to be answered now",
    504: "100ms did not answer",
}


class Problem(BaseModel):
    """Why a request was refused, and whether anything was executed."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    type: str = Field(description="A URN that ends in the code.")
    title: str
    status: int
    detail: str
    code: str = Field(description="Stable, for programs.")
    executed: Literal["no", "maybe", "yes"] = Field(description="Whether a room was changed.")
    hint: str = Field(description="What to do next; may be empty.")
    action: ActionData | None = Field(
        default=None, description="The action as it is now, where somebody else decided first."
    )


class Refusal(BaseModel):
    """Refused before the request was read: host, origin, size or token."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    title: str
    status: int


class ProblemError(Exception):
    """A request is answered with this problem."""

    def __init__(
        self,
        status: int,
        code: str,
        detail: str,
        *,
        hint: str = "",
        headers: Mapping[str, str] | None = None,
        action: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(detail)
        self.headers = dict(headers or {})
        self.problem = Problem(
            type=TYPE_PREFIX + code,
            title=TITLES[status],
            status=status,
            detail=detail,
            code=code,
            executed="no",
            hint=hint,
            action=ActionData.model_validate(action) if action else None,
        )


def problem_of(error: ActiveRoomsError) -> tuple[Problem, dict[str, str]]:
    """The problem an error of the tree becomes, and the headers that go with it."""
    status = next(STATUS[kind] for kind in type(error).__mro__ if kind in STATUS)
    headers = {}
    if isinstance(error, RateLimited) and error.retry_after_s is not None:
        headers["retry-after"] = str(max(0, int(error.retry_after_s + 0.999)))
    problem = Problem(
        type=TYPE_PREFIX + error.code,
        title=TITLES[status],
        status=status,
        detail=str(error),
        code=error.code,
        executed=error.executed,
        hint=error.hint,
    )
    return problem, headers
