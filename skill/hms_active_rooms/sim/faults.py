"""Faults on demand: which request goes wrong, how, and how often."""

from __future__ import annotations

import itertools
import threading
from dataclasses import dataclass
from fnmatch import fnmatchcase
from http import HTTPStatus
from typing import Final, Literal

from pydantic import BaseModel, ConfigDict, Field

from hms_active_rooms.sim.operations import OPERATIONS

FaultKind = Literal[
    "latency", "status", "unauthorized", "reset", "hang", "truncated", "malformed", "oversized"
]

_NAMES: Final = "|".join(operation.name for operation in OPERATIONS)

_TEXTS: Final = {
    **{status.value: status.phrase.lower() for status in HTTPStatus},
    # The text that the docs have for a 429, on the analytics endpoints.
    429: "rate limit exceeded",
}


class Fault(BaseModel):
    """One thing that goes wrong.

    Attributes:
        kind: `latency` (late, else normal), `status` (that status instead of an answer),
            `unauthorized` (a 401, whatever the token), `reset` (the connection breaks),
            `hang` (no answer until the client gives up), `truncated` (the body stops half
            way), `malformed` (the body is no JSON), `oversized` (valid, but padded).
        operation: only this operation, by name.
        method: only this HTTP method.
        path: only paths that match this shell pattern, for example `/v2/*/peers`.
        times: how often, None for as long as it is set.
        after: let the first so many matching requests pass.
        when: `before` or `after` the operation was executed. Damaged bodies are always after.
        latency_s: wait so long, `when` it says, with any kind.
        status: for `status`.
        message: the error text for `status`; by default one that fits it.
        retry_after_s: sends a Retry-After header with `status`.
        size_bytes: how large an `oversized` body gets.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: FaultKind
    operation: str | None = Field(default=None, pattern=f"^({_NAMES})$")
    method: str | None = None
    path: str | None = None
    times: int | None = Field(default=1, ge=1)
    after: int = Field(default=0, ge=0)
    when: Literal["before", "after"] = "before"
    latency_s: float = Field(default=0.0, ge=0.0, le=600.0)
    status: int = Field(default=503, ge=400, le=599)
    message: str | None = None
    retry_after_s: int | None = Field(default=None, ge=0)
    size_bytes: int = Field(default=8 * 1024 * 1024, ge=0, le=256 * 1024 * 1024)

    @property
    def text(self) -> str:
        """The error text that a `status` fault answers with."""
        return _TEXTS.get(self.status, "error") if self.message is None else self.message

    @property
    def executes(self) -> bool:
        """Whether the operation runs although the answer goes wrong."""
        if self.kind in ("latency", "truncated", "malformed", "oversized"):
            return True
        return self.when == "after" and self.kind != "unauthorized"

    def matches(self, operation: str, method: str, path: str) -> bool:
        """Whether a request is one that this fault is about."""
        return (
            self.operation in (None, operation)
            and (self.method is None or self.method.upper() == method)
            and (self.path is None or fnmatchcase(path, self.path))
        )


@dataclass(slots=True)
class _Armed:
    fault: Fault
    seen: int = 0
    fired: int = 0


class Faults:
    """The faults that are set. Safe from any thread."""

    def __init__(self) -> None:
        self._armed: dict[int, _Armed] = {}
        self._ids = itertools.count(1)
        self._lock = threading.Lock()

    def add(self, fault: Fault) -> int:
        """Set a fault; returns its number."""
        with self._lock:
            fault_id = next(self._ids)
            self._armed[fault_id] = _Armed(fault)
            return fault_id

    def remove(self, fault_id: int) -> bool:
        """Take one away; False when it is not set."""
        with self._lock:
            return self._armed.pop(fault_id, None) is not None

    def clear(self) -> None:
        """Take all away."""
        with self._lock:
            self._armed.clear()

    def all(self) -> list[tuple[int, Fault, int]]:
        """Number, fault and how often it has happened, in the order they were set."""
        with self._lock:
            return [(number, armed.fault, armed.fired) for number, armed in self._armed.items()]

    def take(self, operation: str, method: str, path: str) -> Fault | None:
        """What happens to this request: the fault set first of those that are ready."""
        with self._lock:
            armed = self._armed.values()
            matching = [a for a in armed if a.fault.matches(operation, method, path)]
            for one in matching:
                one.seen += 1
            for one in matching:
                if one.seen > one.fault.after and one.fired != one.fault.times:
                    one.fired += 1
                    return one.fault
            return None
