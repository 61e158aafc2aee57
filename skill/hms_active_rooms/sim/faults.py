"""Makes requests to the simulator go wrong when a test or a person says so."""

from __future__ import annotations

import itertools
import threading
from collections import Counter
from http import HTTPStatus
from typing import Final, Literal, Self

from pydantic import BaseModel, Field, model_validator

from hms_active_rooms.sim.operations import OPERATIONS, UNAUTHORIZED, Answer, error
from hms_active_rooms.sim.records import Json
from hms_active_rooms.sim.world import RefusedError

FaultKind = Literal[
    "latency", "status", "unauthorized", "reset", "hang", "truncated", "malformed", "oversized"
]

_NAMES: Final = "|".join(operation.name for operation in OPERATIONS)
_TEXTS: Final = {
    **{status.value: status.phrase.lower() for status in HTTPStatus},
    # The text that the docs have for a 429, on the analytics endpoints.
    429: "rate limit exceeded",
}


class Fault(BaseModel, extra="forbid", frozen=True):
    """One fault. It hits the requests that match `operation` and `method`.

    Attributes:
        kind: `latency` (a late but normal answer), `status` (an error with the status below),
            `unauthorized` (a 401, whatever the token), `reset` (the connection breaks), `hang` (no
            answer until the client gives up), `truncated` (the body stops half way), `malformed`
            (the body is no JSON), `oversized` (valid JSON, made longer by white space).
        operation: hit only this operation, by its name in `operations.py`; None: any.
        method: hit only this HTTP method; None: any.
        times: how often the fault happens; None: until it is removed.
        after: how many matching requests pass unharmed first.
        when: whether the fault comes `before` or `after` the operation is executed. The kinds that
            damage a body always come after it.
        latency_s: how many seconds to wait, at the time that `when` names. It works with every
            kind; `latency` needs it.
        status: the HTTP status of the kind `status`.
        message: the error text of the kind `status`; by default the usual text of that status.
        retry_after_s: the Retry-After header of the kind `status`.
        size_bytes: how large the body of the kind `oversized` is.
    """

    kind: FaultKind
    operation: str | None = Field(default=None, pattern=f"^({_NAMES})$")
    method: str | None = None
    times: int | None = Field(default=1, ge=1)
    after: int = Field(default=0, ge=0)
    when: Literal["before", "after"] = "before"
    latency_s: float = Field(default=0.0, ge=0.0, le=600.0)
    status: int = Field(default=503, ge=400, le=599)
    message: str | None = None
    retry_after_s: int | None = Field(default=None, ge=0)
    size_bytes: int = Field(default=8 * 1024 * 1024, ge=0, le=256 * 1024 * 1024)

    @model_validator(mode="after")
    def _latency_is_late(self) -> Self:
        if self.kind == "latency" and not self.latency_s:
            raise ValueError("latency_s has to say how many seconds")
        return self

    @property
    def refusal(self) -> tuple[int, Answer] | None:
        """The error to answer with, if the kind is `status` or `unauthorized`; else None."""
        if self.kind == "unauthorized":
            return UNAUTHORIZED
        text = _TEXTS.get(self.status, "error") if self.message is None else self.message
        return error(self.status, text) if self.kind == "status" else None

    def damaged(self, body: bytes) -> bytes:
        if self.kind == "malformed":
            return b'{"code":200,"message":"message se'
        # White space keeps it valid JSON: only the size is wrong.
        return body.ljust(self.size_bytes) if self.kind == "oversized" else body

    @property
    def executes(self) -> bool:
        """Whether the operation is executed in spite of this fault."""
        if self.kind in ("latency", "truncated", "malformed", "oversized"):
            return True
        return self.when == "after" and self.kind != "unauthorized"


class Faults:
    """The faults that are set. Safe from any thread."""

    def __init__(self) -> None:
        self._faults: dict[int, Fault] = {}
        self._seen, self._happened = Counter[int](), Counter[int]()
        self._ids = itertools.count(1)
        self._lock = threading.Lock()

    def add(self, fault: Fault) -> int:
        with self._lock:
            self._faults[fault_id := next(self._ids)] = fault
            return fault_id

    def remove(self, fault_id: int) -> None:
        with self._lock:
            if self._faults.pop(fault_id, None) is None:
                raise RefusedError(404, "no such fault")

    def clear(self) -> None:
        with self._lock:
            self._faults.clear()

    def shown(self) -> list[dict[str, Json]]:
        """The faults in the order they were added, with their `id` and the count `happened`."""
        with self._lock:
            return [
                {"id": fault_id, "happened": self._happened[fault_id], **fault.model_dump()}
                for fault_id, fault in self._faults.items()
            ]

    def take(self, operation: str, method: str) -> Fault | None:
        """The first fault that hits this request, or None. Counts that the fault happened."""
        with self._lock:
            matching = [
                n
                for n, f in self._faults.items()
                if f.operation in (None, operation) and (f.method or method).upper() == method
            ]
            self._seen.update(matching)
            for fault_id in matching:
                fault = self._faults[fault_id]
                if self._seen[fault_id] > fault.after and self._happened[fault_id] != fault.times:
                    self._happened[fault_id] += 1
                    return fault
            return None
