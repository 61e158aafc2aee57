"""What an agent may do at all, and what it may do without asking a person.

A tool's hints decide its gate. If the gate is "hard", a person is always asked, unless code lists the
tool in `unattended`. If the gate is "soft", a policy file or a variable can turn off the question.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Final, Literal, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ModelWrapValidatorHandler,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)

from hms_active_rooms.api.ids import parse_room_id
from hms_active_rooms.capability import Hints, capability
from hms_active_rooms.environment import refuse_unknown, unknown_setting
from hms_active_rooms.errors import ConfigurationError, PolicyRefusal
from hms_active_rooms.looks import folded
from hms_active_rooms.plain import plain
from hms_active_rooms.untrusted import quoted, shortened

Gate = Literal["none", "soft", "hard"]

ANY_ROOM: Final = "*"
# A role with at most this many people is removed by one request for each person.
PER_PERSON_LIMIT: Final = 50

ENV_PREFIX: Final = "HMS_POLICY_"


def gate_for(hints: Hints) -> Gate:
    """Return how a tool with these hints is gated.

    "none": Nobody is asked, since the tool only reads.
    "soft": A person is asked, unless a setting or an earlier approval allows the call.
    "hard": A person is asked, unless code sets `Policy.unattended`.
    """
    if hints.destructive:
        return "hard"
    return "none" if hints.read_only else "soft"


def _room(name: str) -> str:
    return name if name == ANY_ROOM else parse_room_id(name)


def _name(name: str) -> str:
    if not re.search(r"[^\W_]", name):
        raise ValueError("a name must have a letter or a digit")
    return name


def _tool(name: str) -> str:
    if name not in (known := [tool.name for tool in capability().tools]):
        raise ValueError(f"there is no tool {quoted(name)}; the tools are {', '.join(known)}")
    return name


def _soft_tool(name: str) -> str:
    if gate_for(capability().tool(_tool(name)).hints) == "hard":
        raise ValueError(
            f"{quoted(name)} is destructive, so `relaxed` cannot name it; in Python code, Policy(unattended=...) can"
        )
    return name


_LISTS: Final[Mapping[str, Callable[[str], str]]] = {
    "rooms": _room,
    "protected_roles": _name,
    "protected_user_ids": _name,
    "relaxed": _soft_tool,
    "unattended": _tool,
}
"""The settings that are lists, each with the check of its entries. The others are numbers."""


class Policy(BaseModel):
    """What an agent may do. The defaults are careful. An unknown setting or a wrong value raises
    ConfigurationError.

    Args:
        rooms: Ids of the rooms an agent may touch. `["*"]` allows any room; `[]` allows no room.
        protected_roles: Roles an agent never removes.
        protected_user_ids: User ids an agent never removes.
        max_peers: The most people one removal may remove.
        actions_per_minute: The most state-changing calls a minute, for one requester in one room.
        actions_per_minute_in_all: The most state-changing calls a minute, of all users together.
        approval_ttl_s: Seconds until an open question or an unused approval expires.
        grant_ttl_s: Seconds for which a yes to further messages to the same target holds.
        audience_growth: A person is asked again if a message's audience has grown by more than this
            since the question; 0.1 is 10 %.
        refusals_in_a_row: After this many refusals in a row the moderator ends its turn.
        verify_s: Seconds to wait until the room shows the effect of a removal or an end.
        relaxed: Tools that run without a question. A destructive tool here is an error.
        unattended: Tools that run without a question, even destructive ones. Only code can set this.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    # `Collection[str]`, so that type checkers accept a list or a set.
    rooms: Collection[str] = ()
    protected_roles: Collection[str] = frozenset()
    protected_user_ids: Collection[str] = frozenset()
    max_peers: int = Field(default=PER_PERSON_LIMIT, ge=1, le=20_000)
    actions_per_minute: int = Field(default=20, ge=1, le=10_000)
    actions_per_minute_in_all: int = Field(default=1000, ge=1, le=100_000)
    approval_ttl_s: float = Field(default=600.0, gt=0, le=86_400)
    grant_ttl_s: float = Field(default=1800.0, gt=0, le=86_400)
    audience_growth: float = Field(default=0.1, ge=0, le=1)
    refusals_in_a_row: int = Field(default=3, ge=1, le=100)
    verify_s: float = Field(default=8.0, ge=0, le=120)
    relaxed: Collection[str] = frozenset()
    unattended: Collection[str] = frozenset()

    @field_validator(*_LISTS, mode="plain")
    @classmethod
    def _texts(cls, given: object, info: ValidationInfo) -> Collection[str]:
        if isinstance(given, str):
            raise ValueError(f"give a list such as [{quoted(given, 100)}], not one text")
        texts: list[Any] = [given]
        if isinstance(given, Collection) and not isinstance(given, Mapping):
            texts = list(given)
        if not all(isinstance(text, str) and text.strip() for text in texts):
            raise ValueError("give a list of texts that are not empty")
        checked = map(_LISTS[str(info.field_name)], texts)
        return tuple(checked) if info.field_name == "rooms" else frozenset(checked)

    @field_validator("*", mode="before")
    @classmethod
    def _no_truth_value(cls, given: object) -> object:
        if isinstance(given, bool):
            raise ValueError("give a number or a list, not true or false")
        return given

    @model_validator(mode="wrap")
    @classmethod
    def _in_plain_words(
        cls, values: Any, validate: ModelWrapValidatorHandler[Self], info: ValidationInfo
    ) -> Self:
        """Validate, or raise ConfigurationError. The context has the source of each value outside code."""
        outside: Mapping[str, str] = info.context or {}
        if "unattended" in outside:
            raise ConfigurationError(
                f"{outside['unattended']} is {_as_typed(values['unattended'])}, but `unattended` "
                "can only be set in code, by Policy(unattended=...).",
                hint="To let messages go without a question, name hms-send-message in `relaxed`.",
            )
        try:
            return validate(values)
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
        field = ".".join(map(str, first["loc"][:1]))
        named = outside.get(field) or shortened(field, 60) or "policy"
        allowed, typed, hint = plain(first, "policy setting"), _as_typed(first["input"]), None
        if first["type"] == "extra_forbidden":
            near = get_close_matches(field.lower(), cls.model_fields, 1) or [*cls.model_fields]
            hint = f"The {'most similar setting is' if len(near) == 1 else 'settings are'} {', '.join(near)}."
        value = "" if hint or typed in allowed else f" is {typed}"
        raise ConfigurationError(f"{named}{value}: {allowed}.", hint=hint)

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Self:
        """Return a copy with the values in `update`, which are validated. `deep` has no effect."""
        return self.model_validate({**dict(self), **(update or {})})

    @classmethod
    def from_file(cls, path: str | Path) -> Policy:
        """Read a policy from a TOML file. Its keys are the fields. Raises ConfigurationError."""
        values, places = _read(path)
        return cls.model_validate(values, context=places)

    @classmethod
    def from_env(cls, environ: Mapping[str, str], **overrides: Any) -> Policy:
        """Make a policy from the variables `HMS_POLICY_<FIELD>`, each a number, or names with commas between.

        Args:
            environ: The variables. `HMS_POLICY_FILE` may name a TOML file to read first.
            overrides: Fields that replace these values. Only they may set `unattended`.

        Raises:
            ConfigurationError: A variable is unknown, or a value is wrong.
        """
        known = {ENV_PREFIX + field.upper(): field for field in ("file", *cls.model_fields)}
        refuse_unknown(environ, known)
        file = environ.get(ENV_PREFIX + "FILE")
        values, places = _read(file) if file else ({}, {})
        for variable, text in environ.items():
            if not variable.startswith(ENV_PREFIX):
                continue
            if (field := known.get(variable)) is None:
                raise unknown_setting(variable, known, ENV_PREFIX)
            # An empty variable is an unset one: it must not clear a protection.
            if field != "file" and text.strip():
                places[field] = variable
                values[field] = _list(variable, text, field) if field in _LISTS else text
        outside = {field: place for field, place in places.items() if field not in overrides}
        return cls.model_validate({**values, **overrides}, context=outside)

    @property
    def only_rooms(self) -> tuple[str, ...] | None:
        """The rooms that the agent may touch; None if it may touch any room."""
        return None if ANY_ROOM in self.rooms else tuple(self.rooms)

    def check_room(self, room_id: str) -> None:
        """Raise PolicyRefusal if the agent may not touch this room."""
        if ANY_ROOM not in self.rooms and room_id not in self.rooms:
            raise PolicyRefusal(
                f"The policy does not allow room {room_id}.",
                hint="A person can allow the room in HMS_POLICY_ROOMS, in the policy file, or in a "
                "program by `rooms=`. A model must not try other rooms.",
            )

    def protects(self, *, role: str, user_id: str) -> str:
        """Return why the policy protects this person: "role" or "user id". "" means not protected."""
        # Letter case, character width and surrounding spaces do not matter.
        if folded(role) in {folded(r) for r in self.protected_roles}:
            return "role"
        if folded(user_id) in {folded(u) for u in self.protected_user_ids}:
            return "user id"
        return ""

    def runs_unasked(self, tool: str) -> bool:
        """Return whether `unattended` or `relaxed` lets this tool run without asking a person."""
        return tool in self.unattended or tool in self.relaxed


_PLAIN: Final = {
    "protected_roles": r"[\w ,.-]*",
    "protected_user_ids": r"\s*[\w.|/:@+=-]*\s*(,\s*[\w.|/:@+=-]*\s*)*",
}
# A variable with a list without quotes must match its pattern in `_PLAIN`, or else this one.
_IN_OTHERS: Final = r"[\w ,*-]*"

_NO_NAME: Final = re.compile(
    r"-.*|true|false|yes|no|on|off|none|null|nil|undefined|nan|nobody|all|any|everyone|everybody",
    re.IGNORECASE,
)
"""In a variable, such a word is a role or user id only if it stands in quotes."""

# What `tomllib` raises for a text that is not TOML, or is nested too deeply.
_NOT_TOML: Final = (ValueError, RecursionError)


def _read(path: str | Path) -> tuple[dict[str, Any], dict[str, str]]:
    """Read a policy file. Returns its settings, and the place of each for error messages."""
    source = f"Policy file {quoted(str(path), 200)}"
    try:
        values = tomllib.loads(Path(path).read_text(encoding="utf-8-sig"))
    except (OSError, *_NOT_TOML) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        what = "" if isinstance(error, OSError) else " is not TOML"
        hint = f"Check the file that {ENV_PREFIX}FILE or --policy names."
        raise ConfigurationError(f"{source}{what}: {reason}.", hint=hint) from None
    return values, {key: f"{source}: {shortened(key, 60)}" for key in values}


def _list(variable: str, text: str, field: str) -> list[str]:
    text, found = text.strip(), None
    items = [item.strip() for item in text.split(",") if item.strip()]
    odd = field in _PLAIN and any(map(_NO_NAME.fullmatch, items))
    if re.fullmatch(_PLAIN.get(field, _IN_OTHERS), text) and not odd:
        found = items
    else:
        with suppress(*_NOT_TOML):
            found = tomllib.loads(f"list = {text if text.startswith('[') else f'[{text}]'}")["list"]
    # An empty list of protected names would take away what the policy file protects.
    if not isinstance(found, list) or (field in _PLAIN and not found):
        raise ConfigurationError(
            f"{variable} is {quoted(text, 100)}. This is not a list of names.",
            hint='Write names between commas: teacher, host. Or a list: ["teacher", "host"].',
        )
    return found


def _as_typed(value: object) -> str:
    names = value if isinstance(value, list | tuple | set | frozenset) else [value]
    return quoted(", ".join(map(str, names)), 100)
