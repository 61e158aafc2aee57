"""Two people decide on one action by different ways: one decision counts, the other is told which."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from itertools import combinations, count, permutations
from typing import Any

import pytest

from e2e.people import AtATerminal, AtThePage, ByRest, InAGraph, InAnMcpClient, Person, at_once
from e2e.server import APPROVER, CALLER, Browser, Program, Server, guarded, serving
from hms_active_rooms.gate.journal import Journal
from hms_active_rooms.gate.journal.records import Action
from hms_active_rooms.sim.server import Simulation, running_sim
from hms_active_rooms.sim.settings import Settings
from hms_active_rooms.untrusted import quoted

pytestmark = pytest.mark.slow

REMOVE = "hms-remove-peers"
WAYS = ("page", "rest", "terminal", "elicitation", "interrupt")
ASKERS = {"elicitation", "interrupt"}
"""Ways by which whoever makes the call is asked: one action has one of them at most."""
SCENE = """
about: Enough guests for every test here to remove one.
room: {name: Lobby, roles: [{name: guest}]}
people: [{name: "Guest {n}", role: guest, user_id: "guest-{n}", count: 80}]
"""


@dataclass
class Lobby:
    """One server for all the tests here, and a guest for each."""

    sim: Simulation
    environ: dict[str, str]
    server: Server
    program: Program
    approver: Program
    browser: Browser
    journal: Journal
    _number: Iterator[int] = field(default_factory=lambda: count(1))

    def removal(self) -> dict[str, Any]:
        """The arguments of a removal that nobody asked for yet."""
        name = f"Guest {next(self._number):02d}"
        peers = self.sim.world.peers(self.sim.room_id)
        return {
            "room_id": self.sim.room_id,
            "peer_id": next(p.id for p in peers if p.name == name),
        }

    def asked(self, ways: tuple[str, ...]) -> tuple[str, dict[str, Any], list[Person]]:
        """A new action, its arguments, and people who have its question before them."""
        arguments = self.removal()
        asker: InAnMcpClient | InAGraph | None = None
        if "elicitation" in ways:
            asker = InAnMcpClient(self.server.said["mcp"], "auto", REMOVE, arguments)
            action = asker.action
        elif "interrupt" in ways:
            asker = InAGraph(self.environ, self.sim.room_id, REMOVE, arguments)
            action = asker.action
        else:
            action = self.program.tool(REMOVE, arguments).json()["data"]["action_id"]
        people: list[Person] = []
        for way in ways:
            match way:
                case "page":
                    people.append(AtThePage(self.browser, action))
                case "rest":
                    people.append(ByRest(self.approver, action))
                case "terminal":
                    people.append(AtATerminal(self.environ, action))
                case _:
                    assert asker
                    people.append(asker)
        return action, arguments, people

    def row(self, action: str) -> Action:
        found = self.journal.get(action)
        assert found
        return found

    def posts(self, arguments: dict[str, Any]) -> int:
        """How many requests hit this guest."""
        body = {"peer_id": arguments["peer_id"]}
        return len([r for r in self.sim.requests if r.method == "POST" and r.body == body])


@pytest.fixture(scope="module")
def lobby(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lobby]:
    folder = tmp_path_factory.mktemp("lobby")
    scene = folder / "lobby.yaml"
    scene.write_text(SCENE, encoding="utf-8")
    with running_sim(scene, settings=Settings(removal_delay_s=0.01)) as sim:
        environ = guarded(sim, folder, HMS_POLICY_ACTIONS_PER_MINUTE="1000")
        with (
            serving(sim, environ) as server,
            Program(server, CALLER) as program,
            Program(server, APPROVER) as approver,
            Browser(server) as browser,
        ):
            journal = Journal(environ["HMS_JOURNAL"])
            yield Lobby(sim, environ, server, program, approver, browser, journal)
            journal.close()


def told_which(text: str, row: Action) -> bool:
    """Whether a text says who decided, which way, and what."""
    word = "rejected" if row.state == "rejected" else "approved"
    return f"Already {word} by {quoted(row.decided_by, 60)} ({row.decided_way})" in text


PAIRS = [pair for pair in permutations(WAYS, 2) if {*pair} != ASKERS]
BY_DAY = [
    (("page", "terminal"), True),
    (("terminal", "rest"), False),
    (("rest", "interrupt"), True),
    (("interrupt", "page"), False),
    (("elicitation", "rest"), True),
    (("rest", "elicitation"), False),
]
"""Each way comes first and comes second. At night every pair, whichever of them says yes."""


def by_day_and_night(by_day: list[Any], every: list[Any]) -> list[Any]:
    night = [case for case in every if case not in by_day]
    return [*by_day, *(pytest.param(*case, marks=pytest.mark.nightly) for case in night)]


def named(value: object) -> str | None:
    return "-".join(map(str, value)) if isinstance(value, tuple) else None


@pytest.mark.parametrize(
    ("ways", "yes_first"),
    by_day_and_night(BY_DAY, [(pair, yes) for pair in PAIRS for yes in (True, False)]),
    ids=named,
)
def test_whoever_comes_second_is_told_which_decision_counts(
    ways: tuple[str, str], yes_first: bool, lobby: Lobby
) -> None:
    action, arguments, [quick, late] = lobby.asked(ways)
    quick.decide(yes_first)
    counted = lobby.row(action)
    told = late.decide(not yes_first)

    row = lobby.row(action)
    assert replace(row, told_at=None) == replace(counted, told_at=None)
    assert (row.state, row.decided_way) == ("done" if yes_first else "rejected", ways[0])
    assert lobby.posts(arguments) == yes_first
    assert told_which(told, row), told


VERDICTS = [(True, False), (False, True), (True, True)]


@pytest.mark.parametrize(
    ("ways", "verdicts"),
    by_day_and_night(
        [
            (("page", "rest"), (True, False)),
            (("page", "elicitation"), (False, True)),
            (("rest", "terminal"), (True, True)),
            (("terminal", "interrupt"), (True, False)),
        ],
        [(pair, said) for pair in combinations(WAYS, 2) if {*pair} != ASKERS for said in VERDICTS],
    ),
    ids=named,
)
def test_of_two_decisions_at_the_same_moment_one_counts(
    ways: tuple[str, str], verdicts: tuple[bool, bool], lobby: Lobby
) -> None:
    action, arguments, people = lobby.asked(ways)
    first, second = people
    texts = at_once(lambda: first.decide(verdicts[0]), lambda: second.decide(verdicts[1]))

    row = lobby.row(action)
    assert row.state in ("done", "rejected")
    assert row.decided_way in ways
    winner = ways.index(row.decided_way)
    assert verdicts[winner] == (row.state == "done")
    assert lobby.posts(arguments) == (row.state == "done")
    # A yes that counted may meet the other's no just before it is sent: then it is told that no.
    overruled = f"Not executed: rejected by {quoted(row.decided_by, 60)}"
    assert told_which(texts[1 - winner], row) or overruled in texts[1 - winner], texts
    assert not told_which(texts[winner], row), texts
