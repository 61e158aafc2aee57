"""Faults: what makes requests to the simulator fail."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from http import HTTPStatus
from typing import Annotated, Final, Literal, Self

from pydantic import AfterValidator, BaseModel, Field, model_validator

from hms_active_rooms.sim.operations import OPERATIONS, UNAUTHORIZED, Answer, error
from hms_active_rooms.sim.records import Json

FaultKind = Literal[
    "latency", "status", "unauthorized", "reset", "hang", "truncated", "malformed", "oversized"
]

_TEXTS: Final = {
    **{status.value: status.phrase.lower() for status in HTTPStatus},
    # As in the docs of the analytics endpoints.
    429: "rate limit exceeded",
}


def _known(name: str) -> str:
    names = [operation.name for operation in OPERATIONS]
    if name not in names:
        raise ValueError(f"give one of {', '.join(names)}")
    return name


class Fault(BaseModel, extra="forbid", frozen=True):
    """A fault that hits requests to the simulated API.

    Args:
        kind: `latency`, `status`, `unauthorized` (401), `reset` (the connection breaks), `hang` (no
            answer), `truncated`, `malformed` (no JSON) or `oversized`.
        operation: hit only this one, such as "list_peers".
        method: hit only this one, such as "POST".
        times: how many requests are hit; None for all.
        after: how many requests pass before.
        when: whether the fault comes before or after the operation runs.
        latency_s: a pause in seconds.
        status: the status of the kind `status`.
        size_bytes: the size of an `oversized` answer.
    """

    kind: FaultKind
    operation: Annotated[str, AfterValidator(_known)] | None = None  # a name in `operations.py`
    method: str | None = None
    times: int | None = Field(default=1, ge=1)  # how often; None: until it is removed
    after: int = Field(default=0, ge=0)  # how many matching requests pass before the first hit
    # Before or after the operation runs. The kinds that damage a body always run it.
    when: Literal["before", "after"] = "before"
    latency_s: float = Field(default=0.0, ge=0.0, le=600.0)  # pause before or after (`when`)
    status: int = Field(default=503, ge=400, le=599)  # of the kind `status`
    retry_after_s: int | None = Field(default=None, ge=0)  # header of the answer
    size_bytes: int = Field(default=8 * 1024 * 1024, ge=0, le=256 * 1024 * 1024)  # if `oversized`

    @model_validator(mode="after")
    def _latency_is_late(self) -> Self:
        if self.kind == "latency" and not self.latency_s:
            raise ValueError("the kind latency needs latency_s")
        return self

    @property
    def refusal(self) -> tuple[int, Answer] | None:
        """HTTP status and JSON of the error answer, for the kinds `status` and `unauthorized`; else None."""
        if self.kind == "unauthorized":
            return UNAUTHORIZED
        text = _TEXTS.get(self.status, "error")
        return error(self.status, text) if self.kind == "status" else None

    def damaged(self, body: bytes) -> bytes:
        """Return the body as it is sent: changed for the kinds `malformed` and `oversized`, else the same."""
        if self.kind == "malformed":
            return b'{"code":200,"message":"message se'
        # White space at the end keeps the JSON valid.
        return body.ljust(self.size_bytes) if self.kind == "oversized" else body

    @property
    def executes(self) -> bool:
        """Whether the operation runs in spite of the fault."""
        late = self.when == "after" and self.kind != "unauthorized"
        return late or self.kind in ("latency", "truncated", "malformed", "oversized")


@dataclass
class _Armed:
    fault: Fault
    seen: int = 0  # how many requests matched
    happened: int = 0


class Faults:
    """The faults that are set on a simulator. Any thread may call these methods."""

    def __init__(self) -> None:
        self._armed: list[_Armed] = []
        self._lock = threading.Lock()

    def add(self, fault: Fault) -> None:
        with self._lock:
            self._armed.append(_Armed(fault))

    def clear(self) -> None:
        with self._lock:
            self._armed.clear()

    def shown(self) -> list[dict[str, Json]]:
        """Return the faults, oldest first. `happened` counts the requests that each has hit."""
        with self._lock:
            return [{"happened": one.happened, **one.fault.model_dump()} for one in self._armed]

    def take(self, operation: str, method: str) -> Fault | None:
        """Return the first fault that hits a request for this operation, or None. Count the request."""
        with self._lock:
            matching = [
                one
                for one in self._armed
                if one.fault.operation in (None, operation)
                and (one.fault.method or method).upper() == method
            ]
            for one in matching:
                one.seen += 1
            for one in matching:
                if one.seen > one.fault.after and one.happened != one.fault.times:
                    one.happened += 1
                    return one.fault
            return None
