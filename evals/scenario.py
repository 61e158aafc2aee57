"""A scenario: a room, what happens in it, what the person says and wants, and how it should end.

Read from `scenarios/<suite>/<name>.yaml` and checked; people are named as the scene names
them, and the ids come from there. A person is written as their name ("Spam Bot"), the
second one of that name ("Chen Wei#2"), or by user id ("user:guest-90417").
"""

from __future__ import annotations

import re
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any, Final, Literal, Self, get_args

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from evals.content import Facts
from evals.effects import Kind
from hms_active_rooms.sim.faults import Fault
from hms_active_rooms.sim.records import Role
from hms_active_rooms.sim.scenes import SCENES, Scene, ScenePerson, SceneRoom, load_scene

Suite = Literal["moderation", "policy", "injection", "faults", "scale", "disturbed"]
SUITES: Final[tuple[Suite, ...]] = get_args(Suite)
FOLDER: Final = Path(__file__).parent / "scenarios"

OTHER_ROOM: Final = "64f0c1a5500de000000000ff"
"""A room that nobody talks about, in scenarios that have one. Their files call it {other_room}."""

_SCENES: Final = FOLDER.with_name("scenes")

_MOMENT: Final = re.compile(r"(start|end)|(turn|asked|answered|sent) ([1-9][0-9]?)")

Disturbance = Literal[
    "crash", "crash_in_flight", "double_answer", "two_resumes", "replay", "stale_answer"
]
"""What goes wrong around the agent, not in the room:

crash: the process dies after a request was made, before the checkpoint; then it resumes.
crash_in_flight: it dies after a request was carried out, before it wrote down what came back.
double_answer: the person's answer is delivered twice, one after the other.
two_resumes: two copies of the graph resume with the same answer at once.
replay: after the end, the run is resumed again from the checkpoint of the first question.
stale_answer: the answer to the first question comes again when the next one is asked.
"""


class ScenarioError(ValueError):
    """A scenario cannot be used. The text names the file and the place in it."""


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Want(_Part):
    """One change the person wants. Exactly one of the five first fields.

    Attributes:
        remove: this person is out.
        remove_role: all who have the role when it is said are out.
        tell: one message to this person.
        tell_role: one message to this role ("everyone" for all).
        end: the session is over; "locked" also locks the room.
        saying: facts that the message must state, each with its variants: "five minutes|5 minutes".
        type: the message types that are fine, with variants.
        more: further messages of that kind are fine too.
    """

    remove: str | None = None
    remove_role: str | None = None
    tell: str | None = None
    tell_role: str | None = None
    end: Literal["open", "locked"] | None = None
    saying: str | Facts = ()
    type: str = "chat"
    more: bool = False

    @property
    def kind(self) -> Kind:
        if self.end is not None:
            return "end"
        return "send" if self.tell or self.tell_role else "remove"

    @property
    def facts(self) -> Facts:
        return (self.saying,) if isinstance(self.saying, str) else self.saying

    @model_validator(mode="after")
    def _one(self) -> Self:
        given = [self.remove, self.remove_role, self.tell, self.tell_role, self.end]
        if sum(value is not None for value in given) != 1:
            raise ValueError("give exactly one of remove, remove_role, tell, tell_role, end")
        if (self.saying or self.more) and self.tell is None and self.tell_role is None:
            raise ValueError("saying and more are for messages")
        return self


class Turn(_Part):
    """One message of the person, and what they want by it (nothing, if it is a question).

    Attributes:
        may: what serves them too, but need not be: they say yes to it, and asking back is as right.
        rejects: what they ask for and say no to when they see it: no attempt, and never wanted.
        answer: facts that the agent's last words in the turn must state. {count} is how many are
            in the room then, {count:student} how many of them have the role.
    """

    say: str
    wants: tuple[Want, ...] = ()
    may: tuple[Want, ...] = ()
    rejects: tuple[Want, ...] = ()
    answer: Facts = ()


class Changed(_Part):
    """Who gets another name, or another role from the app or the dashboard."""

    who: str
    to: str


class Event(_Part):
    """Something that happens in the room at a moment.

    Attributes:
        at: "start", "turn N" (before the person's Nth message), "asked N" (the Nth question is
            on screen), "answered N" (the answer is given, the agent has not gone on yet),
            "sent N" (just before the Nth state-changing request is answered), "end". A list:
            the first; in repeats of the suite "disturbed" one of them, by chance.
        join: somebody comes in.
        leave, drop, rejoin: who goes, whose connection breaks, who comes back with a new peer id.
        restart: everybody leaves, and comes back into a new session with new peer ids.
        over: everybody leaves.
        fault: set a fault of the simulator.
        pass_s: so many seconds pass, for the room and for the journal.
    """

    at: str | tuple[str, ...]
    join: ScenePerson | None = None
    leave: str | None = None
    drop: str | None = None
    rejoin: str | None = None
    rename: Changed | None = None
    role: Changed | None = None
    restart: bool = False
    over: bool = False
    fault: Fault | None = None
    pass_s: float = Field(default=0.0, ge=0.0)

    @property
    def moments(self) -> tuple[str, ...]:
        return (self.at,) if isinstance(self.at, str) else self.at

    @model_validator(mode="after")
    def _known(self) -> Self:
        for moment in self.moments:
            if not _MOMENT.fullmatch(moment):
                raise ValueError(f"{moment!r} is no moment")
        happens = self.model_dump(exclude={"at"}, exclude_defaults=True)
        if not self.moments or len(happens) != 1:
            raise ValueError("an event is one happening at a moment")
        return self


class OtherTool(_Part):
    """A tool of somebody else's MCP server that the agent has too: what is said of it, what it says."""

    name: str
    description: str
    output: str


class State(_Part):
    """How the room is at the end. What is not given does not matter.

    Attributes:
        here, gone: people who are in the room, or not; by who they were at the start.
        session: whether one runs; of the room the person talks about.
        locked: whether joining is blocked.
        messages: how many messages were delivered.
    """

    here: tuple[str, ...] = ()
    gone: tuple[str, ...] = ()
    session: Literal["running", "over"] | None = None
    locked: bool | None = None
    messages: int | None = None


class Scenario(_Part):
    """One scenario.

    Attributes:
        about: what it checks, in a sentence.
        scene: a scene of `evals/scenes` or of the simulator, by name, or roles and people of its own.
        people: more people in that room at the start.
        policy: settings of `Policy` beside the room.
        other_tools: of another MCP server. Our moderator takes none.
        other_room: a second room with a session of its own.
        turns: what the person says. {id:Name} becomes an id.
        events: what happens meanwhile.
        disturb: what goes wrong around the agent.
        right: the end state that counts as done, besides every want being fulfilled.
        right_instead: the end state that counts as done instead of the wants.
        harmful: end states that are harm, besides every change nobody wanted.
    """

    suite: Suite
    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]*$")]
    about: str
    scene: str = "classroom"
    roles: tuple[Role, ...] = ()
    room_name: str = ""
    people: tuple[ScenePerson, ...] = ()
    policy: dict[str, Any] = Field(default_factory=dict)
    other_room: bool = False
    other_tools: tuple[OtherTool, ...] = ()
    turns: tuple[Turn, ...] = Field(min_length=1)
    events: tuple[Event, ...] = ()
    disturb: Disturbance | None = None
    right: State = State()
    right_instead: State | None = None
    harmful: tuple[State, ...] = ()

    @property
    def is_idle(self) -> bool:
        """Whether nothing is wanted, not even an answer: whoever does nothing does it right."""
        return not any(turn.wants or turn.rejects or turn.answer for turn in self.turns)

    @model_validator(mode="after")
    def _scene_can_be_built(self) -> Self:
        self.built_scene()
        return self

    def built_scene(self) -> Scene:
        if self.scene == "own":
            room = SceneRoom(name=self.room_name or self.name, roles=self.roles)
            return Scene(name=self.name, about=self.about, room=room, people=self.people)
        own = {path.stem: path for path in sorted(_SCENES.glob("*.yaml"))}
        if self.scene not in (*own, *SCENES):
            raise ValueError(
                f"scene: {self.scene!r} is not one of own, {', '.join((*own, *SCENES))}"
            )
        base = load_scene(own.get(self.scene, self.scene))
        roles = {role.name: role for role in (*base.room.roles, *self.roles)}
        room = base.room.model_copy(
            update={"roles": tuple(roles.values()), "name": self.room_name or base.room.name}
        )
        return Scene(name=base.name, about=base.about, room=room, people=base.people + self.people)


def read_scenario(path: Path) -> Scenario:
    """Read and check one file; its name and folder are the scenario's name and suite.

    Raises:
        ScenarioError: unreadable, no YAML, or something unknown or missing in it.
    """
    where = f"{path.parent.name}/{path.name}"
    try:
        text = path.read_text(encoding="utf-8").replace("{other_room}", OTHER_ROOM)
        data: Any = yaml.safe_load(text)
        if not isinstance(data, dict):
            raise ScenarioError(f"{where}: a scenario is a mapping")
        return Scenario.model_validate({"suite": path.parent.name, "name": path.stem, **data})
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as bad:
        raise ScenarioError(f"{where}: {' '.join(str(bad).split())}") from None
    except ValidationError as bad:
        first = bad.errors(include_url=False, include_input=False)[0]
        place = "".join(f"{part}: " for part in [".".join(str(p) for p in first["loc"])] if part)
        raise ScenarioError(
            f"{where}: {place}{first['msg'].removeprefix('Value error, ')}"
        ) from None


@lru_cache
def scenarios() -> tuple[Scenario, ...]:
    """All scenarios, in suite order, then by name.

    Raises:
        ScenarioError: one of the files cannot be used.
    """
    return tuple(
        read_scenario(path) for suite in SUITES for path in sorted((FOLDER / suite).glob("*.yaml"))
    )


def chosen(suites: tuple[str, ...] = (), names: tuple[str, ...] = ()) -> tuple[Scenario, ...]:
    """The scenarios of these suites (all, if none) with these names (all, if none).

    Raises:
        ScenarioError: there is no such suite or scenario.
    """
    for suite in set(suites) - set(SUITES):
        raise ScenarioError(f"there is no suite {suite!r}; there are {', '.join(SUITES)}")
    for name in set(names) - {scenario.name for scenario in scenarios()}:
        raise ScenarioError(f"there is no scenario {name!r}")
    of_suites = [s for s in scenarios() if not suites or s.suite in suites]
    return tuple(s for s in of_suites if not names or s.name in names)
