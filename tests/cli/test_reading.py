"""`room` and `peers`: what a stranger wrote is shown, and stays data."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable
from typing import Any

import pytest

from cli.running import Open, Run, ended
from hms_active_rooms.api.client import ActiveRoomsClient
from hms_active_rooms.api.models import Peers
from hms_active_rooms.sim.server import Simulation
from hms_active_rooms.tokens import token_bound
from hms_active_rooms.tools.arguments import DEFAULT_ROWS, MAX_ROWS
from hms_active_rooms.tools.roster import default_budget

# Controls, bidi and other format characters, line separators; \n, \t and \r by their place.
ACTIVE = re.compile(
    r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff]"
)


def test_a_room_is_shown_in_four_lines(sim: Simulation, call: Run) -> None:
    done = call("room", sim.room_id)
    assert done.code == 0
    assert done.err == ""
    lines = done.out.splitlines()
    assert lines[0] == f'Room     "Algebra II, Tuesday group" (id {sim.room_id})'
    assert re.fullmatch(r"Session  [0-9a-f]{24}", lines[1])
    assert re.fullmatch(r"Started  20\d\d-\d\d-\d\dT[0-9:.]+Z", lines[2])
    assert lines[3] == "People   15"


def test_peers_are_rows_with_tabs_when_piped(sim: Simulation, call: Run) -> None:
    done = call("peers", sim.room_id)
    assert done.code == 0
    head, *rows = done.out.splitlines()
    assert head == "ID\tNAME\tROLE\tUSER ID"
    assert len(rows) == 15
    assert '\t"Spam Bot"\t"student"\t"guest-90417"' in done.out
    assert done.err.startswith('15 in the room: 12 as "student" and ')


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
    told = call("peers", sim.room_id, "--name", "martin").err
    assert re.search(r'look the same: "Alice Martin" \(\w+\) and "Аlice Martin" \(\w+\)', told)


def test_every_pair_of_the_shown_that_looks_the_same_is_pointed_out(
    sim: Simulation, call: Run
) -> None:
    for name in ("Ann One", "Ben Two", "Ann One", "Ben Two"):
        sim.world.join(sim.room_id, name=name, role="viewer")
    told = call("peers", sim.room_id, "--role", "viewer").err
    for name in ("Ann One", "Ben Two"):
        assert len(re.findall(rf'"{name}" \(\w+\)', told)) == 2
    for _ in range(30):
        sim.world.join(sim.room_id, name="Ann One", role="viewer")
        for number in range(30):
            sim.world.join(sim.room_id, name=f"N {number}", role="viewer")
    told = call("peers", sim.room_id, "--role", "viewer", "--limit", "2000").err
    assert ("and 26 more" in told, "12 more such names" in told) == (True, True)
    assert len(told) < 10_000


@pytest.mark.parametrize("option", [(), ("--all",), ("--json",)])
def test_people_whose_records_could_not_be_read_are_counted(
    sim: Simulation, call: Run, option: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    real = ActiveRoomsClient.list_peers

    async def list_peers(client: ActiveRoomsClient, room_id: str) -> Peers:
        whole = await real(client, room_id)
        found = Peers(whole[2:])
        found.unreadable = tuple(peer.id for peer in whole[:2])
        return found

    monkeypatch.setattr(ActiveRoomsClient, "list_peers", list_peers)
    done = call("peers", sim.room_id, *option)
    assert "100ms also lists 2 people whose data cannot be read" in done.err
    assert "--json" not in option or done.json["unreadable"] == 2


def test_twenty_thousand_people_are_a_hundred_rows(
    start: Callable[[str], Simulation], call: Run
) -> None:
    sim = start("arena")
    done = call("peers", sim.room_id)
    assert done.code == 0
    assert done.out.count("\n") == 101
    assert "20,000 in the room" in done.err
    assert "Shown: 1 to 100" in done.err


def test_what_peers_costs_depends_on_the_rows_and_not_on_who_is_there(
    start: Callable[[str], Simulation], call: Run
) -> None:
    called = 0

    def count(_frame: object, event: str, _argument: object) -> None:
        nonlocal called
        called += event == "call"

    room_id = start("arena").room_id
    for limit in ("1", "10"):  # the first one imports what it needs
        called = 0
        sys.setprofile(count)
        try:
            assert call("peers", room_id, "--limit", limit).code == 0
        finally:
            sys.setprofile(None)
        assert limit == "1" or called < 20_000, "less than one call for each person"


@pytest.mark.parametrize("scene", ["arena", "hostile"])
def test_json_costs_a_model_no_more_than_a_tools_answer(
    start: Callable[[str], Simulation], call: Run, scene: str
) -> None:
    sim = start(scene)
    assert token_bound(call("room", sim.room_id, "--json").out) <= default_budget(1)
    default = call("peers", sim.room_id, "--json")
    assert token_bound(default.out) <= default_budget(DEFAULT_ROWS) == 1500
    most = call("peers", sim.room_id, "--json", "--limit", str(MAX_ROWS))
    assert token_bound(most.out) <= default_budget(MAX_ROWS)
    for page in (default.json, most.json):
        assert page["left_out"] == page["total"] - len(page["peers"])


def test_the_next_page_begins_where_the_budget_ended_the_first(
    start: Callable[[str], Simulation], call: Run
) -> None:
    sim = start("arena")
    first = call("peers", sim.room_id, "--json").json
    assert len(first["peers"]) > 20
    after = str(len(first["peers"]))
    assert first["total"] == 20_000
    next_page = call("peers", sim.room_id, "--json", "--offset", after).json["peers"]
    both = [p["short_id"] for p in first["peers"] + next_page]
    assert (
        both
        == [p["short_id"] for p in records(call("peers", sim.room_id, "--all").out)][: len(both)]
    )


@pytest.mark.parametrize(
    "text",
    ["x" * 107_000, "Александр Иванов " * 5000, "\u202e\U000e0041`" * 9000, "👩‍👩‍👧‍👦" * 5000],
)
def test_no_text_of_a_stranger_is_longer_in_json_than_in_a_tools_answer(
    sim: Simulation, call: Run, text: str
) -> None:
    for _ in range(30):
        sim.world.join(sim.room_id, name=text, role="student", user_id=text, metadata=text)
    for limit in ("1", "50"):
        done = call("peers", sim.room_id, "--json", "--limit", limit, "--offset", "15")
        assert token_bound(done.out) <= default_budget(int(limit))
        assert done.json["peers"]
        for shown in done.json["peers"]:
            assert set(shown) == {"short_id", "name", "role", "user_id"}
            assert all(token_bound(value) <= 65 for value in shown.values())


def test_json_takes_as_many_rows_as_the_tools_do(sim: Simulation, call: Run) -> None:
    most, more = (call("peers", sim.room_id, "--json", "--limit", n) for n in ("100", "101"))
    assert (most.code, most.json) == (0, more.json)


def records(text: str) -> list[Any]:
    """The objects of JSON Lines."""
    return [json.loads(line) for line in text.splitlines()]


def test_all_writes_everybody_whole_one_object_a_line(sim: Simulation, call: Run) -> None:
    sim.world.join(sim.room_id, name="N\n\x1b[31m" * 30, role="student", metadata="m" * 107_000)
    done = call("peers", sim.room_id, "--all")
    assert done.code == 0
    assert done.err == ""
    assert done.out.isascii()
    people = records(done.out)
    assert len(people) == 16
    newest = next(p for p in people if p["metadata"] == "m" * 107_000)
    assert newest["name"] == "N\n\x1b[31m" * 30
    assert newest["id"].startswith(newest["short_id"])
    assert newest["joined_at"]


def test_all_can_be_narrowed_and_not_paged(sim: Simulation, call: Run) -> None:
    def shown(*options: str) -> list[str]:
        return [p["name"] for p in records(call("peers", sim.room_id, "--all", *options).out)]

    assert shown("--role", "teacher") == ["Nora Berg"]
    assert shown("--user-id", "chen.wei", "--json") == ["Chen Wei", "Chen Wei"]
    assert shown("--name", "SPAM") == ["Spam Bot"]
    assert shown("--name", "nobody of that name") == []
    for options in (("--limit", "5"), ("--offset", "1")):
        done = call("peers", sim.room_id, "--all", *options)
        assert (done.code, done.out) == (2, "")


def test_all_of_a_room_has_the_ids_of_everybody(
    start: Callable[[str], Simulation], call: Run
) -> None:
    sim = start("arena")
    [room] = records(call("room", sim.room_id, "--all").out)
    assert room["id"] == sim.room_id
    assert len(room["session"]["peers"]) == 20_000


@pytest.mark.parametrize("command", ["room", "peers"])
def test_all_is_not_written_to_a_terminal(sim: Simulation, terminal: Open, command: str) -> None:
    code, shown = ended(terminal(command, sim.room_id, "--all"))
    assert code == 2
    assert "> " in shown
    assert "Nora" not in shown
    assert not sim.requests


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
        here = call("peers", sim.room_id, "--json").json["total"]
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
