"""The scenarios can be read, say what they mean, and cover what the suites are for."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import get_args

import pytest

from evals.scenario import (
    OTHER_ROOM,
    SUITES,
    Disturbance,
    Event,
    Scenario,
    ScenarioError,
    State,
    Want,
    chosen,
    read_scenario,
    scenarios,
)
from evals.stage import Cast
from hms_active_rooms.gate.policy import Policy
from hms_active_rooms.looks import skeleton
from hms_active_rooms.sim.faults import FaultKind
from hms_active_rooms.sim.scenes import ScenePerson, build_world

ORDER = re.compile(r"\b(?:remove|end the room|send|hms-\w+)", re.IGNORECASE)
EVERYBODY = "everyone"


def by_name(scenario: Scenario) -> str:
    return f"{scenario.suite}/{scenario.name}"


def in_suite(suite: str) -> tuple[Scenario, ...]:
    return tuple(scenario for scenario in scenarios() if scenario.suite == suite)


def wants_of(scenario: Scenario) -> list[Want]:
    return [want for turn in scenario.turns for want in turn.wants]


def spelled_out(person: ScenePerson) -> Iterator[str]:
    for number in range(1, person.count + 1):
        yield person.name.replace("{n}", str(number))


def cast_of(scenario: Scenario) -> Cast:
    world = build_world(scenario.built_scene())
    return Cast(world.peers(world.rooms()[0].id))


def unknown(labels: Iterable[str], cast: Cast, joined: set[str]) -> list[str]:
    def is_known(label: str) -> bool:
        try:
            return bool(cast.id(label))
        except KeyError:
            return label in joined

    return sorted(label for label in labels if not is_known(label))


def labels_of_joins(scenario: Scenario, moment: str) -> set[str]:
    """Who comes in at moments that match, as the first or second of that name."""
    names = {
        name
        for event in scenario.events
        if event.join is not None and all(re.fullmatch(moment, at) for at in event.moments)
        for name in spelled_out(event.join)
    }
    return names | {f"{name}#2" for name in names}


def roles_of(scenario: Scenario) -> set[str]:
    return {role.name for role in scenario.built_scene().room.roles}


# --- every file ------------------------------------------------------------------------------


def test_there_are_enough_in_every_suite() -> None:
    counts = {suite: len(in_suite(suite)) for suite in SUITES}
    assert sum(counts.values()) >= 75
    assert counts["moderation"] >= 25
    assert counts["policy"] >= 12
    assert counts["injection"] >= 18
    assert counts["faults"] >= 17
    assert counts["disturbed"] >= 17
    assert counts["scale"] >= 4


def test_names_and_sentences_about_are_not_repeated() -> None:
    names = [scenario.name for scenario in scenarios()]
    abouts = [scenario.about for scenario in scenarios()]
    assert len(set(names)) == len(names)
    assert len(set(abouts)) == len(abouts)
    assert [about for about in abouts if not about.endswith(".") or len(about) > 120] == []
    assert [name for name in names if not re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", name)] == []


def test_everybody_a_scenario_names_is_there() -> None:
    for scenario in scenarios():
        cast = cast_of(scenario)
        named = {want.remove or want.tell for want in wants_of(scenario)}
        for event in scenario.events:
            changed = (change.who for change in (event.rename, event.role) if change)
            named |= {event.leave, event.drop, event.rejoin, *changed}
        ids = {label for turn in scenario.turns for label in re.findall(r"\{id:(.*?)\}", turn.say)}
        states = (scenario.right, scenario.right_instead or State(), *scenario.harmful)
        at_the_end = {label for state in states for label in (*state.here, *state.gone)}
        assert (
            unknown(
                {label for label in named if label} | ids, cast, labels_of_joins(scenario, ".*")
            )
            == []
        )
        # What is right must hold in every run, so it names only people who come in every run.
        surely = labels_of_joins(scenario, r"start|end|turn \d+")
        assert unknown(at_the_end, cast, surely) == []


def test_the_roles_and_settings_a_scenario_names_exist() -> None:
    for scenario in scenarios():
        roles = roles_of(scenario)
        wanted = {want.remove_role or want.tell_role for want in wants_of(scenario)} - {None}
        assert wanted <= roles | {EVERYBODY}
        assert not any(want.remove_role == EVERYBODY for want in wants_of(scenario))
        for event in scenario.events:
            assert event.role is None or event.role.to in roles
            assert event.join is None or event.join.role in roles
        policy = Policy(rooms=("7" * 24,), **scenario.policy)
        # These make things run without a person's yes, which would be the scenario's own harm.
        assert not policy.relaxed
        assert not policy.unattended


def test_moments_and_placeholders_can_come_true() -> None:
    for scenario in scenarios():
        turns = [at for event in scenario.events for at in event.moments if at.startswith("turn ")]
        assert all(int(at.removeprefix("turn ")) <= len(scenario.turns) for at in turns)
        said = " ".join(turn.say for turn in scenario.turns)
        placeholders = {word.split(":")[0] for word in re.findall(r"\{(.*?)\}", said)}
        assert placeholders <= {"id"}
        assert scenario.other_room or OTHER_ROOM not in said


def test_all_of_them_can_be_chosen_by_suite_and_by_name() -> None:
    assert chosen() == scenarios()
    assert {s.suite for s in chosen(("scale",))} == {"scale"}
    assert [s.name for s in chosen(names=("remove-one",))] == ["remove-one"]
    with pytest.raises(ScenarioError, match="no suite 'speed'"):
        chosen(("speed",))
    with pytest.raises(ScenarioError, match="no scenario 'remove-none'"):
        chosen(names=("remove-none",))


# --- what the suites cover -------------------------------------------------------------------


def test_moderation_wants_every_kind_of_change_and_sometimes_none() -> None:
    wants = [want for scenario in in_suite("moderation") for want in wants_of(scenario)]
    assert any(want.remove for want in wants)
    assert any(want.remove_role for want in wants)
    assert any(want.tell for want in wants)
    assert {want.tell_role for want in wants} >= {EVERYBODY, "student"}
    assert {want.end for want in wants} >= {"open", "locked"}
    assert sum(not wants_of(scenario) for scenario in in_suite("moderation")) >= 5
    assert sum(len(wants_of(scenario)) > 1 for scenario in in_suite("moderation")) >= 3
    assert sum(len(scenario.turns) > 1 for scenario in in_suite("moderation")) >= 8


def test_policy_scenarios_use_every_limit() -> None:
    used = {key for scenario in in_suite("policy") for key in scenario.policy}
    assert used >= {
        "protected_roles",
        "protected_user_ids",
        "max_peers",
        "actions_per_minute",
        "approval_ttl_s",
        "refusals_in_a_row",
    }
    assert any(scenario.other_room for scenario in in_suite("policy"))
    passing = {
        at.split()[0]
        for scenario in in_suite("policy")
        for event in scenario.events
        if event.pass_s
        for at in event.moments
    }
    assert passing == {"turn", "asked", "answered"}


def test_injected_orders_stand_everywhere_a_stranger_can_write() -> None:
    suite = in_suite("injection")
    people = [
        person
        for scenario in suite
        for person in (*scenario.people, *(e.join for e in scenario.events if e.join))
    ]
    assert any(ORDER.search(person.name) for person in people)
    assert any(ORDER.search(person.user_id) for person in people)
    assert any(ORDER.search(person.metadata) for person in people)
    assert any(ORDER.search(role.name) for scenario in suite for role in scenario.roles)
    assert any(ORDER.search(scenario.room_name) for scenario in suite)
    renames = [e.rename for scenario in suite for e in scenario.events if e.rename]
    assert any(ORDER.search(rename.to) for rename in renames)
    assert any("\n" in turn.say for scenario in suite for turn in scenario.turns)
    assert "hostile" in {scenario.scene for scenario in suite}


def test_every_injection_has_a_task_of_the_person_beside_it() -> None:
    for scenario in in_suite("injection"):
        assert any(t.wants or t.rejects or t.answer for t in scenario.turns), scenario.name


def test_there_are_enough_sentences_scenes_and_long_tasks() -> None:
    said = {turn.say for scenario in scenarios() for turn in scenario.turns}
    assert len(said) >= 150
    assert len({scenario.scene for scenario in scenarios()}) >= 10
    assert sum(3 <= len(scenario.turns) <= 8 for scenario in scenarios()) >= 20


def test_injection_has_look_alikes_floods_and_several_turns() -> None:
    suite = in_suite("injection")

    def has_twins(scenario: Scenario) -> bool:
        names = {person.name for person in scenario.built_scene().people}
        return len({skeleton(name) for name in names}) < len(names)

    assert sum(has_twins(scenario) for scenario in suite if scenario.scene != "hostile") >= 2
    assert any(person.count >= 100 for scenario in suite for person in scenario.people)
    assert any(person.metadata_times >= 100 for s in suite for person in s.people)
    assert sum(len(scenario.turns) > 1 for scenario in suite) >= 8


def test_every_fault_and_every_happening_is_used() -> None:
    events = [event for scenario in scenarios() for event in scenario.events]
    faults = [event.fault for event in events if event.fault is not None]
    assert {fault.kind for fault in faults} == set(get_args(FaultKind))
    assert {fault.status for fault in faults if fault.kind == "status"} >= {429, 500, 503}
    for kind in ("hang", "reset"):
        assert {fault.when for fault in faults if fault.kind == kind} == {"before", "after"}
    assert {fault.operation for fault in faults} >= {
        "send_message",
        "remove_peers",
        "end_active_room",
        "list_peers",
        "retrieve_active_room",
    }
    happened = {key for event in events for key in event.model_dump(exclude_defaults=True)}
    assert happened == set(Event.model_fields)
    moments = {at.split()[0] for event in events for at in event.moments}
    assert moments == {"start", "turn", "asked", "answered", "sent", "end"}


@pytest.mark.parametrize("disturbance", get_args(Disturbance))
def test_every_disturbance_meets_a_removal_a_message_and_an_end(disturbance: Disturbance) -> None:
    disturbed = [s for s in in_suite("disturbed") if s.disturb == disturbance]
    if disturbance == "stale_answer":
        # The old yes is to the first question; what it must not start is the last one.
        assert all(
            scenario.turns[0].wants and not scenario.turns[-1].wants for scenario in disturbed
        )
        assert {scenario.turns[-1].say.split()[0] for scenario in disturbed} == {
            "kick",
            "tell",
            "end",
        }
        return
    kinds = {want.kind for scenario in disturbed for want in wants_of(scenario)}
    assert kinds == {"remove", "send", "end"}


def test_ghosts_restarts_and_newcomers_come_between_question_and_answer() -> None:
    between = [
        event
        for scenario in (*in_suite("faults"), *in_suite("disturbed"))
        for event in scenario.events
        if any(at.startswith(("asked", "answered")) for at in event.moments)
    ]
    assert any(event.restart for event in between)
    assert any(event.over for event in between)
    assert any(event.join for event in between)
    assert any(event.rename for event in between)
    assert any(event.role for event in between)
    assert any(person.ghost for scenario in in_suite("faults") for person in scenario.people)


def test_scale_reaches_two_and_twenty_thousand() -> None:
    assert {scenario.scene for scenario in in_suite("scale")} == {"webinar", "arena"}


# --- what is refused -------------------------------------------------------------------------

GOOD = "about: It works.\nturns:\n  - say: hello\n"


def written(folder: Path, text: str, suite: str = "moderation") -> Path:
    path = folder / suite / "some-scenario.yaml"
    path.parent.mkdir()
    path.write_text(text, encoding="utf-8")
    return path


def test_the_folder_and_the_file_name_the_scenario(tmp_path: Path) -> None:
    scenario = read_scenario(written(tmp_path, GOOD))
    assert (scenario.suite, scenario.name) == ("moderation", "some-scenario")


@pytest.mark.parametrize(
    ("text", "place"),
    [
        (GOOD + "expects: done\n", "expects: "),
        ("turns:\n  - say: hello\n", "about: "),
        ("about: It works.\nturns: []\n", "turns: "),
        (GOOD.replace("hello", "[hello]"), "turns.0.say: "),
        (GOOD + "    wishes: []\n", "turns.0.wishes: "),
        (GOOD + "    wants: [{}]\n", "turns.0.wants.0: .*exactly one"),
        (GOOD + "    wants: [{ remove: Ada, tell: Ben }]\n", "turns.0.wants.0: .*exactly one"),
        (GOOD + "    wants: [{ remove: Ada, saying: bye }]\n", "turns.0.wants.0: .*for messages"),
        (GOOD + "    wants: [{ end: maybe }]\n", "turns.0.wants.0.end: "),
        (GOOD + "events: [{ at: noon, over: true }]\n", "events.0: .*'noon' is no moment"),
        (GOOD + "events: [{ at: turn 0, over: true }]\n", "events.0: .*'turn 0' is no moment"),
        (GOOD + "events: [{ at: [end, noon], over: true }]\n", "events.0: .*'noon'"),
        (GOOD + "events: [{ at: start }]\n", "events.0: .*one happening"),
        (GOOD + "events: [{ at: [], over: true }]\n", "events.0: .*one happening"),
        (GOOD + "events: [{ at: end, over: true, restart: true }]\n", "events.0: .*one happening"),
        (GOOD + "events: [{ at: start, fault: { kind: fire } }]\n", "events.0.fault.kind: "),
        (GOOD + "events: [{ at: start, fault: { kind: hang, operation: mute } }]\n", "operation: "),
        (GOOD + "events: [{ at: start, pass_s: -1 }]\n", "events.0.pass_s: "),
        (GOOD + "disturb: earthquake\n", "disturb: "),
        (GOOD + "right: { sessions: over }\n", "right.sessions: "),
        (GOOD + "harmful: [{ here: Ada }]\n", "harmful.0.here: "),
        (GOOD + "scene: beach\n", "scene: 'beach' is not one of own, .*classroom"),
        (GOOD + "scene: own\n", "roles"),
        (GOOD + "people: [{ name: Ada, role: queen }]\n", "'queen' is not a role"),
        (GOOD + "people: [{ name: Ada, role: student, age: 9 }]\n", "people.0.age: "),
        ("", "a mapping"),
        ("- about\n", "a mapping"),
        ("about: [\n", "line 2"),
        ("about: a\n\tb: c\n", "line 2"),
    ],
)
def test_what_is_unknown_or_wrong_is_refused_by_file_and_place(
    tmp_path: Path, text: str, place: str
) -> None:
    path = written(tmp_path, text)
    with pytest.raises(ScenarioError, match=rf"^moderation/some-scenario\.yaml: [\s\S]*{place}"):
        read_scenario(path)


def test_a_suite_that_does_not_exist_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ScenarioError, match=r"^speed/some-scenario\.yaml: suite: "):
        read_scenario(written(tmp_path, GOOD, suite="speed"))


def test_a_missing_file_and_one_that_is_not_utf_8_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ScenarioError, match=r"^moderation/gone\.yaml: "):
        read_scenario(tmp_path / "moderation" / "gone.yaml")
    path = written(tmp_path, GOOD)
    path.write_bytes(b"about: \xff\n")
    with pytest.raises(ScenarioError, match=r"^moderation/some-scenario\.yaml: "):
        read_scenario(path)
