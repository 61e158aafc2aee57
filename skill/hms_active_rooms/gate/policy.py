"""What an agent may do at all, and what it may do unasked.

Hints decide which gate a tool has; the policy can only relax soft gates, from any
source, and hard ones only from code that names the tool (`unattended`).
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from hms_active_rooms.api.ids import parse_room_id
from hms_active_rooms.capability import Hints, capability
from hms_active_rooms.environment import check_variables
from hms_active_rooms.errors import ConfigurationError, InvalidCall, PolicyRefusal
from hms_active_rooms.untrusted import folded, quoted

Gate = Literal["none", "soft", "hard"]

ANY_ROOM: Final = "*"
PER_PERSON_LIMIT: Final = 50
"""Up to this many people a role removal is one request per person shown."""

ENV_PREFIX: Final = "HMS_POLICY_"


def gate_for(hints: Hints) -> Gate:
    """The gate a tool's hints ask for. A tool without hints is loaded as destructive."""
    if hints.destructive:
        return "hard"
    return "none" if hints.read_only else "soft"


class Policy(BaseModel):
    """Limits for an agent. Unknown keys are errors; the defaults are the careful ones.

    Sources: arguments, a TOML file (`from_file`), the environment (`from_env`).
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    rooms: tuple[str, ...] = ()
    """Room ids it may touch; `("*",)` for any. Empty: none."""

    protected_roles: frozenset[str] = frozenset()
    """Roles an agent never removes."""

    protected_user_ids: frozenset[str] = frozenset()
    """User ids an agent never removes."""

    max_peers: int = Field(default=PER_PERSON_LIMIT, ge=1, le=20_000)
    """The most people one removal may hit."""

    actions_per_minute: int = Field(default=20, ge=1, le=10_000)
    """State-changing calls sent per minute and journal, whoever asks."""

    approval_ttl_s: float = Field(default=600.0, gt=0, le=86_400)
    """How long a question may be answered and an answer used, in seconds."""

    grant_ttl_s: float = Field(default=1800.0, gt=0, le=86_400)
    """How long "for the rest of this session" lasts at most, in seconds."""

    audience_growth: float = Field(default=0.1, ge=0, le=10)
    """By which share the audience of a message may grow after approval without a new question."""

    refusals_in_a_row: int = Field(default=3, ge=1, le=100)
    """After this many refusals in a row the moderator ends its turn."""

    verify_s: float = Field(default=8.0, ge=0, le=120)
    """How long to look for the effect of a removal or an end, in seconds."""

    relaxed: frozenset[str] = frozenset()
    """Soft-gated tools that run unasked (`hms-send-message`)."""

    unattended: frozenset[str] = frozenset()
    """Tools that run unasked whatever their gate. Only from code, never from a file or variable."""

    @field_validator("rooms")
    @classmethod
    def _room_ids(cls, rooms: tuple[str, ...]) -> tuple[str, ...]:
        try:
            return tuple(r if r == ANY_ROOM else parse_room_id(r) for r in rooms)
        except InvalidCall as error:
            raise ValueError(str(error).removesuffix(".")) from None

    @field_validator("relaxed")
    @classmethod
    def _only_soft(cls, tools: frozenset[str]) -> frozenset[str]:
        for name in _known(tools):
            if gate_for(capability().tool(name).hints) == "hard":
                raise ValueError(
                    f"{name} is destructive: only Policy(unattended=...) in code can allow it"
                )
        return tools

    @field_validator("unattended")
    @classmethod
    def _only_known(cls, tools: frozenset[str]) -> frozenset[str]:
        return frozenset(_known(tools))

    @classmethod
    def build(cls, **values: Any) -> Policy:
        """A policy from arguments.

        Raises:
            ConfigurationError: an unknown key or a wrong value, named.
        """
        return _validated(values, "policy")

    @classmethod
    def from_file(cls, path: str | Path) -> Policy:
        """A policy from a TOML file with the field names as keys.

        Raises:
            ConfigurationError: unreadable, not TOML, an unknown key or a wrong value.
        """
        path = Path(path)
        try:
            values = tomllib.loads(path.read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else str(error)
            raise ConfigurationError(f"Policy file {quoted(str(path), 200)}: {reason}.") from None
        return _from_outside(values, f"Policy file {quoted(str(path), 200)}")

    @classmethod
    def from_env(cls, environ: Mapping[str, str], **overrides: Any) -> Policy:
        """A policy from `HMS_POLICY_FILE` (TOML) and `HMS_POLICY_<FIELD>` (lists by comma).

        `overrides` are the code's own arguments and win; only they may hold `unattended`.

        Raises:
            ConfigurationError: an unknown variable or a wrong value.
        """
        check_variables(environ, cls.model_fields)
        values: dict[str, Any] = {}
        if file := environ.get(ENV_PREFIX + "FILE"):
            values = cls.from_file(file).model_dump(exclude_unset=True)
        for variable, text in environ.items():
            if not variable.startswith(ENV_PREFIX) or variable == ENV_PREFIX + "FILE":
                continue
            field = variable.removeprefix(ENV_PREFIX).lower()
            info = cls.model_fields.get(field)
            if info is None:
                continue
            if not text.strip():
                continue  # an empty variable is an unset one: it must not clear a protection
            is_list = field in {"rooms", "protected_roles", "protected_user_ids", "relaxed"}
            values[field] = [t.strip() for t in text.split(",") if t.strip()] if is_list else text
        _from_outside(values, "The environment")
        return _validated({**values, **overrides}, "policy")

    def check_room(self, room_id: str) -> None:
        """Raises PolicyRefusal for a room it may not touch."""
        if ANY_ROOM not in self.rooms and room_id not in self.rooms:
            raise PolicyRefusal(
                f"The policy does not allow room {room_id}.",
                hint="Use a room the person named; do not try others.",
            )

    def protects(self, *, role: str, user_id: str) -> str:
        """Which of the two is protected ("role", "user id"), or "". Case, width and spaces
        around do not matter: a protection that misses by a letter protects nobody."""
        if folded(role) in {folded(r) for r in self.protected_roles}:
            return "role"
        if folded(user_id) in {folded(u) for u in self.protected_user_ids}:
            return "user id"
        return ""

    def runs_unasked(self, tool: str) -> bool:
        """Whether code or a relaxed soft gate lets this tool run without a person."""
        return tool in self.unattended or tool in self.relaxed


def _known(tools: Iterable[str]) -> list[str]:
    names = {tool.name for tool in capability().tools}
    if unknown := sorted(set(tools) - names):
        raise ValueError(f"there is no tool {quoted(unknown[0])}")
    return sorted(tools)


def _from_outside(values: Mapping[str, Any], source: str) -> Policy:
    if "unattended" in values:
        raise ConfigurationError(
            f"{source}: unattended can only be set in code, by Policy(unattended=...)."
        )
    return _validated(values, source)


def _validated(values: Mapping[str, Any], source: str) -> Policy:
    try:
        return Policy.model_validate(values)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(str(part) for part in first["loc"])
        reason = "there is no such setting" if first["type"] == "extra_forbidden" else first["msg"]
        raise ConfigurationError(
            f"{source}: {quoted(place)[1:-1]}: {reason.removeprefix('Value error, ')}."
        ) from None
