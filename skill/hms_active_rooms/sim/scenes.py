"""The built-in scenes, and how a scene becomes a world."""

from __future__ import annotations

from pathlib import Path
from types import MappingProxyType
from typing import Final

from hms_active_rooms.sim.clock import Clock, IdSource, utc_now
from hms_active_rooms.sim.records import Role
from hms_active_rooms.sim.scene_file import Scene, SceneError, ScenePerson, read_scene
from hms_active_rooms.sim.settings import Settings
from hms_active_rooms.sim.world import World

ROOM_IDS: Final = MappingProxyType(
    {
        "classroom": "64f0c1a5500de00000000001",
        "webinar": "64f0c1a5500de00000000002",
        "arena": "64f0c1a5500de00000000003",
        "hostile": "64f0c1a5500de00000000004",
        "idle": "64f0c1a5500de00000000005",
    }
)
"""The room id of each built-in scene."""

SCENES: Final = tuple(ROOM_IDS)
"""The names of the built-in scenes."""

_FOLDER: Final = Path(__file__).parent / "scenes"


def load_scene(scene: str | Path) -> Scene:
    """A built-in scene by name, or a scene file of your own by path (ending in .yaml).

    Raises:
        SceneError: no such scene, or the file says something unknown.
    """
    if isinstance(scene, str) and not scene.endswith((".yaml", ".yml")):
        if scene not in ROOM_IDS:
            raise SceneError(f"no scene {scene!r}; there are {', '.join(SCENES)}")
        return read_scene(_FOLDER / f"{scene}.yaml")
    return read_scene(Path(scene))


def room_id_of(scene: Scene) -> str:
    """The id of a scene's room: its own, the built-in scene's, or one made from the name."""
    own = scene.room.id or ROOM_IDS.get(scene.name)
    return own or IdSource(f"room/{scene.name}").object_id()


def build_world(
    scene: str | Path | Scene, *, settings: Settings | None = None, clock: Clock = utc_now
) -> World:
    """A world with the scene's room and people in it. Same scene, same ids.

    Args:
        scene: a built-in scene's name, a path, or a scene.
        settings: delays, switches and credentials.
        clock: the wall clock.

    Raises:
        SceneError: see `load_scene`.
    """
    loaded = scene if isinstance(scene, Scene) else load_scene(scene)
    return World(
        lambda world: _populate(world, loaded),
        settings=settings,
        clock=clock,
        ids=IdSource(loaded.name),
    )


def _populate(world: World, scene: Scene) -> None:
    roles = tuple(Role(role.name, role.publishes, role.max_peers) for role in scene.room.roles)
    room = world.add_room(
        name=scene.room.name, room_id=room_id_of(scene), roles=roles, enabled=True
    )
    seen: dict[str, int] = {}
    # Whoever came first joins first: it is their join that opens the session.
    for person in sorted(scene.people, key=lambda person: -person.minutes_ago):
        if person.count > 1:
            _join_crowd(world, room.id, person)
            continue
        # A peer's id depends on the name alone, so that editing a scene keeps the others'.
        seen[person.name] = seen.get(person.name, 0) + 1
        label = f"{person.name}/{seen[person.name]}"
        peer = world.join(
            room.id,
            name=person.name * person.name_times,
            role=person.role,
            user_id=person.user_id or world.ids.uuid_for(f"user/{label}"),
            metadata=person.metadata * person.metadata_times,
            peer_id=world.ids.uuid_for(f"peer/{label}"),
            kind=person.kind,
            shares_screen=person.shares_screen,
            ago_s=person.minutes_ago * 60,
        )
        if person.ghost:
            world.leave(room.id, peer.id, abrupt=True)
    # Last, since nobody can join a disabled room.
    world.set_enabled(room.id, scene.room.enabled)


def _join_crowd(world: World, room_id: str, crowd: ScenePerson) -> None:
    digits = len(str(crowd.count))
    for number in range(1, crowd.count + 1):
        n = f"{number:0{digits}}"
        world.join(
            room_id,
            name=crowd.name.replace("{n}", n) * crowd.name_times,
            role=crowd.role,
            user_id=crowd.user_id.replace("{n}", n),
            metadata=crowd.metadata * crowd.metadata_times,
            kind=crowd.kind,
            ago_s=crowd.minutes_ago * 60,
        )
