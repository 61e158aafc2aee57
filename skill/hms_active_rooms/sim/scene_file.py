"""The format of a scene file: a room, its roles and who is in it, checked before use."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from hms_active_rooms.sim.records import Medium


class SceneError(ValueError):
    """A scene cannot be used. The text names the file and the place in it."""


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class SceneRole(_Part):
    """A role of the template: its name, what it publishes, how many may hold it."""

    name: str
    publishes: tuple[Medium, ...] = ()
    max_peers: int | None = Field(default=None, ge=1)


class SceneRoom(_Part):
    """The room. `id` is for scenes of your own; the built-in ones have theirs."""

    name: str
    id: str | None = Field(default=None, pattern=r"^[0-9a-f]{24}$")
    enabled: bool = True
    roles: tuple[SceneRole, ...] = Field(min_length=1)


class ScenePerson(_Part):
    """One person, or `count` of them with `{n}` in the name and the user id.

    Attributes:
        name_times, metadata_times: repeat the text so often; for very long ones.
        minutes_ago: when they joined, before the scene starts.
        ghost: their connection broke just now; they stay listed for a minute.
    """

    name: str
    role: str
    user_id: str = ""
    metadata: str = ""
    count: int = Field(default=1, ge=1, le=20_000)
    name_times: int = Field(default=1, ge=1, le=10_000)
    metadata_times: int = Field(default=1, ge=1, le=10_000)
    minutes_ago: float = Field(default=0.0, ge=0.0)
    kind: Literal["regular", "sip"] = "regular"
    shares_screen: bool = False
    ghost: bool = False


class Scene(_Part):
    """A whole scene; `name` is the file's name without its ending."""

    name: str
    about: str
    room: SceneRoom
    people: tuple[ScenePerson, ...] = ()

    @model_validator(mode="after")
    def _roles_exist(self) -> Self:
        roles = {role.name: role for role in self.room.roles}
        holders = dict.fromkeys(roles, 0)
        for place, person in enumerate(self.people):
            if person.role not in roles:
                raise ValueError(f"people.{place}.role: {person.role!r} is not a role of the room")
            holders[person.role] += person.count
            limit = roles[person.role].max_peers
            if limit is not None and holders[person.role] > limit:
                raise ValueError(f"people.{place}.role: {person.role!r} is full ({limit})")
        return self


def read_scene(path: Path) -> Scene:
    """Read and check a scene file.

    Raises:
        SceneError: the file cannot be read, is no YAML, or says something unknown.
    """
    try:
        data: Any = yaml.load(path.read_text(encoding="utf-8"), Loader=_LOADER)  # noqa: S506
    except OSError as missing:
        raise SceneError(f"{path}: {missing.strerror}") from None
    except UnicodeDecodeError as bad:
        raise SceneError(f"{path}: not UTF-8 (byte {bad.start})") from None
    except yaml.YAMLError as bad:
        raise SceneError(f"{path}: {' '.join(str(bad).split())}") from None
    if not isinstance(data, dict):
        raise SceneError(f"{path}: a scene is a mapping with about, room and people")
    try:
        return Scene.model_validate({"name": path.stem, **data})
    except ValidationError as bad:
        problems = [
            f"{'.'.join(str(part) for part in error['loc'])}: {error['msg']}"
            if error["loc"]
            else error["msg"].removeprefix("Value error, ")
            for error in bad.errors()
        ]
        raise SceneError("\n".join(f"{path}: {problem}" for problem in problems)) from None


# The C loader is the same safe loader, only faster; some builds of PyYAML lack it.
_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
