"""Reads scenes: files with the room and people that a simulated account begins with."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any, Final, Self

import yaml
from pydantic import BaseModel, Field, ValidationError, model_validator

from hms_active_rooms.plain import explain
from hms_active_rooms.sim.records import IdSource, Roles, RoomId, Seconds
from hms_active_rooms.sim.settings import Settings
from hms_active_rooms.sim.world import World

ROOM_IDS: Final = {  # the built-in scenes, with their room ids
    "classroom": "64f0c1a5500de00000000001",
    "webinar": "64f0c1a5500de00000000002",
    "arena": "64f0c1a5500de00000000003",
    "hostile": "64f0c1a5500de00000000004",
    "idle": "64f0c1a5500de00000000005",
}
SCENES: Final = tuple(ROOM_IDS)


class SceneError(ValueError):
    """A scene cannot be loaded. The text says why."""


class _Part(BaseModel, extra="forbid", frozen=True): ...


class SceneRoom(_Part):
    """The room of a scene. If `id` is "", the room gets an id that depends only on the scene's name."""

    name: str
    id: RoomId = ""
    roles: Roles


class ScenePerson(_Part):
    """A person in the room of a scene.

    Args:
        count: that many people, with a number each in place of `{n}`.
        name_times: how often the name is repeated.
        metadata_times: how often the metadata is repeated.
        minutes_ago: when the person joined, before the start.
        ghost: the person has just lost the connection, but is still listed.
    """

    name: str
    role: str
    user_id: str = ""
    metadata: str = ""
    count: int = Field(default=1, ge=1, le=20_000)
    name_times: int = Field(default=1, ge=1, le=10_000)
    metadata_times: int = Field(default=1, ge=1, le=10_000)
    minutes_ago: Seconds = 0.0  # they joined so many minutes before the start
    shares_screen: bool = False
    ghost: bool = False  # their connection broke just now


class Scene(_Part):
    """The room and people that a simulated account begins with."""

    name: str  # by default the file's, without its ending
    about: str
    room: SceneRoom
    people: tuple[ScenePerson, ...] = ()

    @model_validator(mode="after")
    def _roles_exist(self) -> Self:
        limits = {role.name: role.max_peers for role in self.room.roles}
        holders: Counter[str] = Counter()
        for place, person in enumerate(self.people):
            if person.role not in limits:
                raise ValueError(f"people.{place}.role: {person.role!r} is not a role of the room")
            holders[person.role] += person.count
            limit = limits[person.role]
            if limit is not None and holders[person.role] > limit:
                raise ValueError(f"people.{place}.role: {person.role!r} is full (at most {limit})")
        return self


def load_scene(scene: str | Path) -> Scene:
    """Load a built-in scene by its name, or a .yaml file by its path. Raises SceneError if it cannot."""
    path = Path(scene)
    if isinstance(scene, str) and not scene.endswith((".yaml", ".yml")):
        if scene not in ROOM_IDS:
            raise SceneError(
                f"no scene has the name {scene!r}. Give {', '.join(SCENES)}, or a .yaml file"
            )
        path = Path(__file__).parent / "scenes" / f"{scene}.yaml"
    try:
        data: Any = yaml.load(path.read_text(encoding="utf-8"), Loader=_LOADER)  # noqa: S506
    except OSError as bad:
        raise SceneError(f"{path} cannot be read: {bad.strerror}") from None
    except (UnicodeDecodeError, yaml.YAMLError) as bad:
        reason = " ".join(str(bad).split())
        raise SceneError(f"{path} cannot be read as YAML in UTF-8: {reason}") from None
    if not isinstance(data, dict):
        raise SceneError(f"{path} is not a mapping with the keys about, room and people")
    try:
        return Scene.model_validate({"name": path.stem, **data})
    except ValidationError as bad:
        raise SceneError(f"{path}: {explain(bad, 'field')}") from None


# The C loader is faster and as safe; some builds of PyYAML lack it.
_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def room_id_of(scene: Scene) -> str:
    """The id of the scene's room: the one it gives, else one that depends only on the scene's name."""
    given = scene.room.id or ROOM_IDS.get(scene.name)
    return given or IdSource(f"room/{scene.name}").object_id()


def build_world(
    scene: str | Path | Scene,
    *,
    settings: Settings | None = None,
    clock: Callable[[], datetime] | None = None,
) -> World:
    """Return a world with the room and people of a scene. `scene` is a Scene, the name of a built-in one,
    or the path of a .yaml file. Raises SceneError if it is wrong."""
    loaded = scene if isinstance(scene, Scene) else load_scene(scene)
    ids = IdSource(loaded.name)
    return World(lambda world: _populate(world, loaded), settings=settings, clock=clock, ids=ids)


def _populate(world: World, scene: Scene) -> None:
    room = world.add_room(name=scene.room.name, id=room_id_of(scene), roles=scene.room.roles)
    seen: Counter[str] = Counter()
    # In the order in which they came, since the first one opens the session.
    for person in sorted(scene.people, key=lambda person: -person.minutes_ago):
        name, user_id, peer_id = person.name, person.user_id, ""
        if person.count == 1:
            # These ids depend only on the name, so they stay if another person is added.
            seen[name] += 1
            label = f"{name}/{seen[name]}"
            user_id = user_id or world.ids.uuid_for(f"user/{label}")
            peer_id = world.ids.uuid_for(f"peer/{label}")
        for number in range(1, person.count + 1):
            n = f"{number:0{len(str(person.count))}}" if person.count > 1 else "{n}"
            peer = world.join(
                room.id,
                name=name.replace("{n}", n) * person.name_times,
                role=person.role,
                user_id=user_id.replace("{n}", n),
                metadata=person.metadata * person.metadata_times,
                peer_id=peer_id,
                shares_screen=person.shares_screen,
                ago_s=person.minutes_ago * 60,
            )
            if person.ghost:
                world.leave(room.id, peer.id, abrupt=True)
