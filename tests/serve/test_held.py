"""Lines of the ways in that no other test holds: remove one, and the test here fails."""

from __future__ import annotations

import hashlib
from typing import Any

import mcp_types as types
import pytest

from hms_active_rooms.cli.serving import Where, guard_from, open_toolkit
from hms_active_rooms.cli.settings import Settings
from hms_active_rooms.errors import ConfigurationError
from hms_active_rooms.gate.actions import parse_call
from hms_active_rooms.gate.approval import Approve, Reject
from hms_active_rooms.gate.journal import Journal
from hms_active_rooms.gate.journal.records import Action, Origin
from hms_active_rooms.serve.callers import Caller
from hms_active_rooms.serve.calls import call_tool
from hms_active_rooms.serve.guard import GuardSettings, guard_settings, judge
from hms_active_rooms.serve.limits import refusals_of
from hms_active_rooms.serve.page.feed import room_view
from hms_active_rooms.serve.problems import Refused
from serve.people import YES, Person, client, kit, named, remove, students, text, yes_to
from serve.rest_callers import ADA, APPROVERS, BOB, CALLER, OPEN, problem, rest_app, speaking
from stand_in import ROOM, gate_on, peer

REMOVE, SEND = "hms-remove-peers", "hms-send-message"

modes = pytest.mark.parametrize("mode", ["auto", "legacy"])


# --- whose token it is --------------------------------------------------------------------------


@pytest.mark.parametrize("given", ["Bearer", "Bearer ", "Bearer   "])
def test_where_only_approvers_have_a_token_an_empty_one_is_no_callers(given: str) -> None:
    settings = guard_settings("127.0.0.1", approvers={"ada": ADA})
    headers = {"host": ["127.0.0.1"], "authorization": [given]}
    assert isinstance(judge(settings, "/v1/tools", headers), Refused)


@pytest.mark.parametrize("token", [CALLER, ADA, BOB, "x" * 20])
def test_the_guard_finds_a_token_by_its_hash_whichever_was_given(
    token: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """How long it takes tells nobody which one was close, or came first."""
    settings = guard_settings("127.0.0.1", callers={"": CALLER}, approvers=APPROVERS)
    judge(settings, "/v1/tools", {"host": ["127.0.0.1"], "authorization": ["Bearer another"]})
    hashed, real = list[bytes](), hashlib.sha256

    def counted(secret: bytes) -> Any:
        hashed.append(secret)
        return real(secret)

    monkeypatch.setattr(hashlib, "sha256", counted)
    found = judge(
        settings, "/v1/tools", {"host": ["127.0.0.1"], "authorization": [f"Bearer {token}"]}
    )
    assert isinstance(found, Refused) == (token not in (CALLER, ADA, BOB))
    assert hashed == [token.encode()]


@pytest.mark.parametrize(
    ("guard", "token", "status"),
    [
        (guard_settings("127.0.0.1", approvers=APPROVERS), "", 403),
        (guard_settings("127.0.0.1", approvers=APPROVERS), ADA[:-1] + "x", 401),
        (OPEN, ADA, 403),
    ],
    ids=["no token", "another token", "no approvers"],
)
async def test_whoever_is_no_approver_decides_nothing(
    guard: GuardSettings, token: str, status: int
) -> None:
    room = students()
    toolkit = kit(room)
    told = await call_tool(toolkit, REMOVE, remove(), caller=Caller("test", "tester"))
    assert told.action
    where = f"/v1/actions/{told.action.id}"
    async with speaking(rest_app(toolkit, guard=guard), token) as (somebody,):
        for word, body in (("approve", {"digest": told.action.digest}), ("reject", {})):
            answer = await somebody.post(f"{where}/{word}", json=body)
            assert answer.status_code == status
    assert (await toolkit.gate.get(told.action.id)).state == "proposed"
    assert room.posts == []


# --- on record ----------------------------------------------------------------------------------


@modes
async def test_what_a_person_was_asked_through_their_client_is_on_record(mode: str) -> None:
    toolkit = kit(students())
    async with client(toolkit, mode, Person([YES])) as mcp:
        result = await mcp.call_tool(REMOVE, remove())
    events = toolkit.gate.journal.events(result.structured_content["action_id"])
    assert [e.kind for e in events] == ["proposed", "asked", "approved", "sent", "done", "told"]
    assert [e.way for e in events if e.kind in ("asked", "approved")] == ["elicitation"] * 2


@pytest.mark.parametrize("word", ["", "/approve", "/reject"])
async def test_an_action_of_another_room_is_refused_on_record_whoever_wants_it(word: str) -> None:
    journal = Journal(":memory:")
    foreign = await gate_on(students(), journal).propose(
        parse_call(REMOVE, remove()), Origin("t", "m", "1", "agent")
    )
    toolkit = kit(students(), journal, rooms=("7" * 24,))
    where = f"/v1/actions/{foreign.id}{word}"
    async with speaking(rest_app(toolkit), ADA) as (ada,):
        body = {"digest": foreign.digest}
        told = await (ada.post(where, json=body) if word else ada.get(where))
    problem(told, 404, "no_action")
    await refusals_of(journal).ended()
    rows = [(row.way, row.data["what"]) for row in journal.refused_requests()]
    assert rows == [("another_room", f"action {foreign.id}")]


# --- what a client is told ----------------------------------------------------------------------


@modes
async def test_a_yes_after_somebody_elses_no_sends_nothing_and_tells_whose_it_was(
    mode: str,
) -> None:
    room = students()
    toolkit = kit(room)
    gate = toolkit.gate

    async def too_late(_: Any, asked: Any) -> types.ElicitResult:
        (row,) = gate.journal.actions()
        await gate.decide(row.id, gate.request(row).reject("no"), by="ada", way="terminal")
        return named(YES, asked.requested_schema)

    async with client(toolkit, mode, too_late) as mcp:  # type: ignore[arg-type]  # asks like one
        result = await mcp.call_tool(REMOVE, remove())
    assert room.posts == []
    assert 'Already rejected by "ada" (terminal) at ' in text(result)
    assert result.structured_content["text"] == text(result)


async def test_an_accepted_round_sent_again_asks_nobody_and_sends_no_second_message() -> None:
    room, person = students(), Person([YES])
    said = {"room_id": ROOM, "message": "five minutes"}
    async with client(kit(room), "auto", person) as mcp:
        asked = await mcp.session.call_tool(SEND, said, allow_input_required=True)
        assert isinstance(asked, types.InputRequiredResult)
        answers = yes_to(asked)
        for _ in range(2):
            await mcp.call_tool(
                SEND, said, input_responses=answers, request_state=asked.request_state
            )
    assert person.questions == []
    assert [verb for verb, _ in room.posts] == ["send"]


def test_the_page_is_told_no_name_raw_and_none_in_full_length() -> None:
    name = "\u202e\x1b[2J" + "n" * 10_000
    [row] = room_view(ROOM, None, [peer(1, name)])["rows"]
    assert row["name"].startswith("\\u202e\\u001b[2J")
    assert len(row["name"]) < 100


# --- a no in time -------------------------------------------------------------------------------


async def test_a_no_ends_what_was_granted_for_the_session() -> None:
    gate = gate_on(students())

    async def proposed(call: str) -> Action:
        words = parse_call(SEND, {"room_id": ROOM, "message": "hi"})
        return await gate.propose(words, Origin("thread", "message", call, "agent"))

    first = await proposed("1")
    yes = Approve(first.digest, scope="session")
    await gate.decide(first.id, yes, by="ada", way="interrupt")
    assert (await proposed("2")).state == "approved"
    assert (await gate.decide(first.id, Reject("no"), by="bob", way="terminal")).counted
    assert (await proposed("3")).state == "proposed"


# --- what the command serves --------------------------------------------------------------------


@pytest.fixture
def journal_here(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> Settings:
    monkeypatch.setenv("HMS_ACCESS_KEY", "0" * 24)
    monkeypatch.setenv("HMS_SECRET", "s" * 40)
    return Settings(journal=f"sqlite:///{tmp_path / 'journal.sqlite'}")


def test_rooms_that_the_policy_names_stay_the_only_ones(
    journal_here: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HMS_POLICY_ROOMS", ROOM)
    with pytest.raises(ConfigurationError, match="does not name room"):
        open_toolkit(journal_here, ["7" * 24])


def test_reached_from_elsewhere_the_server_needs_a_token(
    journal_here: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It binds this machine, behind a proxy that others reach."""
    monkeypatch.setenv("HMS_SERVER_URL", "https://rooms.example")
    monkeypatch.delenv("HMS_SERVER_TOKEN", raising=False)
    with pytest.raises(ConfigurationError, match="needs a token"):
        guard_from(journal_here, Where())
