"""`room` and `peers`: what a stranger wrote is shown, and stays data."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest

from cli.running import Open, Run, ended
from hms_active_rooms.sim.server import Simulation

# Controls, bidi and other format characters, line separators; \n, \t and \r by their place.
ACTIVE = re.compile(
    r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff]"
)


def test_a_room_is_shown_in_three_lines(sim: Simulation, call: Run) -> None:
    done = call("room", sim.room_id)
    assert done.code == 0
    assert done.err == ""
    lines = done.out.splitlines()
    assert lines[0] == f'Room     "Algebra II, Tuesday group" (id {sim.room_id})'
    assert re.fullmatch(r"Session  [0-9a-f]{24}, running for \d+ min", lines[1])
    assert lines[2] == "People   15"


def test_peers_are_rows_with_tabs_when_piped(sim: Simulation, call: Run) -> None:
    done = call("peers", sim.room_id)
    assert done.code == 0
    head, *rows = done.out.splitlines()
    assert head == "ID\tNAME\tROLE\tUSER ID"
    assert len(rows) == 15
    assert '\t"Spam Bot"\t"student"\t"guest-90417"' in done.out
    assert done.err.startswith('15 in the room: "student" 12,')


def test_peers_can_be_narrowed_and_paged(sim: Simulation, call: Run) -> None:
    def shown(*options: str) -> list[str]:
        return [p["name"] for p in call("peers", sim.room_id, "--json", *options).json["peers"]]

    assert shown("--role", "teacher") == ["Nora Berg"]
    assert shown("--user-id", "chen.wei") == ["Chen Wei", "Chen Wei"]
    assert shown("--name", "SPAM") == ["Spam Bot"]
    everyone = shown()
    assert shown("--limit", "2", "--offset", "1") == everyone[1:3]
    assert shown("--offset", "99") == []


def test_names_that_look_alike_are_pointed_out(sim: Simulation, call: Run) -> None:
    assert "looks like" in call("peers", sim.room_id, "--name", "martin").err


def test_twenty_thousand_people_are_a_hundred_rows(
    start: Callable[[str], Simulation], call: Run
) -> None:
    sim = start("arena")
    done = call("peers", sim.room_id)
    assert done.code == 0
    assert done.out.count("\n") == 101
    assert "20,000 in the room" in done.err
    assert "Shown: 1 to 100" in done.err


def test_an_idle_room_is_told(start: Callable[[str], Simulation], call: Run) -> None:
    sim = start("idle")
    done = call("peers", sim.room_id)
    assert done.code == 1
    assert "session" in done.err


@pytest.mark.parametrize("command", ["room", "peers"])
def test_a_hostile_room_cannot_act_on_a_pipe(
    start: Callable[[str], Simulation], call: Run, command: str
) -> None:
    sim = start("hostile")
    done = call(command, sim.room_id)
    assert done.code == 0
    assert not ACTIVE.search(done.out + done.err)
    assert "\r" not in done.out
    if command == "peers":
        here = len(call("peers", sim.room_id, "--json").json["peers"])
        assert [line.count("\t") for line in done.out.splitlines()] == [3] * (here + 1)


@pytest.mark.parametrize("command", ["room", "peers"])
def test_a_hostile_room_is_ascii_in_json(
    start: Callable[[str], Simulation], call: Run, command: str
) -> None:
    sim = start("hostile")
    done = call(command, sim.room_id, "--json")
    assert done.out.isascii()
    assert done.out.rstrip("\n").isprintable()
    assert done.json


def test_a_hostile_room_cannot_act_on_a_terminal(
    start: Callable[[str], Simulation], terminal: Open
) -> None:
    sim = start("hostile")
    code, shown = ended(terminal("peers", sim.room_id, NO_COLOR="1"))
    assert code == 0
    assert not ACTIVE.search(shown)
    # Neither a name nor a role can start a line of its own.
    assert not re.search(r"^(role: host|Honest Host)", shown, re.MULTILINE)


def test_markup_in_a_name_is_only_text(sim: Simulation, terminal: Open) -> None:
    sim.world.join(sim.room_id, name="[bold red]x[/] :smile:", role="student")
    _, shown = ended(terminal("peers", sim.room_id, "--name", "smile"))
    assert "[bold red]x[/] :smile:" in shown


def test_colours_are_for_terminals_and_can_be_refused(
    sim: Simulation, call: Run, terminal: Open
) -> None:
    assert "\x1b" not in call("peers", sim.room_id).out
    assert "\x1b[1m" in ended(terminal("peers", sim.room_id))[1]
    assert "\x1b" not in ended(terminal("peers", sim.room_id, NO_COLOR="1"))[1]
