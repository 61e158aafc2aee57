"""The five tools as a developer imports them."""

from __future__ import annotations

import asyncio
import json
import os
import pickle
import subprocess
import sys
import threading
import traceback
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from langchain_core.tools import BaseTool, StructuredTool
from langchain_core.utils.function_calling import convert_to_openai_tool

from hms_active_rooms import ActiveRoomsToolkit, Approve, Policy, Reject
from hms_active_rooms.api.client import SyncActiveRoomsClient
from hms_active_rooms.capability import capability
from hms_active_rooms.errors import ConfigurationError, JournalError, PeerNotFound
from hms_active_rooms.gate.approval import ApprovalRequest
from hms_active_rooms.gate.journal import Journal
from stand_in import ROOM, Clock, StandInRoom, peer
from tokenizer import real_tokens

SCHEMAS = Path(__file__).parent / "schemas"


def kit(
    room: StandInRoom, confirm: Any = None, journal: Journal | str = ":memory:", **policy: Any
) -> ActiveRoomsToolkit:
    return ActiveRoomsToolkit(
        room,  # type: ignore[arg-type]
        Policy(rooms=(ROOM,), verify_s=0, **policy),
        journal=journal,
        confirm=confirm,
    )


def named(toolkit: ActiveRoomsToolkit, name: str) -> BaseTool:
    return next(t for t in toolkit.get_tools() if t.name == name)


def students() -> StandInRoom:
    return StandInRoom([peer(n) for n in (1, 2, 3)])


def call(tool: BaseTool, **args: Any) -> Any:
    return tool.invoke({"name": tool.name, "args": args, "id": "1", "type": "tool_call"})


def test_names_descriptions_and_hints_are_the_contracts() -> None:
    for tool, contract in zip(kit(students()).get_tools(), capability().tools, strict=True):
        assert isinstance(tool, StructuredTool)
        assert (tool.name, tool.description) == (contract.name, contract.description)
        assert tool.metadata
        assert tool.metadata["readOnlyHint"] is contract.hints.read_only
        assert tool.metadata["destructiveHint"] is contract.hints.destructive
        assert tool.metadata["idempotentHint"] is contract.hints.idempotent


async def test_other_words_for_what_another_approved_meanwhile_send_nothing() -> None:
    room = students()

    async def confirm(request: ApprovalRequest) -> Any:
        yes = Approve(request.digest)
        await toolkit.gate.decide(request.action_id, yes, by="bob", way="page")
        return request.edit(message="hello")

    toolkit = kit(room, confirm)
    told = await named(toolkit, "hms-send-message").ainvoke({"room_id": ROOM, "message": "helo"})
    assert "approved, not sent" in told
    assert room.posts == []


@pytest.mark.parametrize("limit", [2, 2.0])  # providers that keep all numbers as doubles send 2.0
def test_a_whole_number_is_one_however_json_writes_it(limit: object) -> None:
    found = call(named(kit(students()), "hms-list-peers"), room_id=ROOM, limit=limit, offset=1.0)
    assert (found.artifact["offset"], len(found.artifact["peers"])) == (1, 2)


@pytest.mark.parametrize("limit", [2.5, "2", True, float("nan"), float("inf"), [2]])
def test_what_is_no_whole_number_is_refused(limit: object) -> None:
    found = call(named(kit(students()), "hms-list-peers"), room_id=ROOM, limit=limit)
    assert found.status == "error"
    assert "limit" in found.content


@pytest.mark.parametrize("name", [tool.name for tool in capability().tools])
def test_every_schema_is_a_reviewed_file(name: str) -> None:
    """After a change on purpose: delete the file, run the test, review what it wrote."""
    shown = json.dumps(convert_to_openai_tool(named(kit(students()), name)), indent=2) + "\n"
    file = SCHEMAS / f"{name}.json"
    if not file.exists():
        file.parent.mkdir(exist_ok=True)
        file.write_text(shown)
        pytest.fail(f"{file.name} was written anew: review and commit it")
    assert file.read_text() == shown


def test_the_five_schemas_cost_a_model_at_most_700_tokens() -> None:
    schemas = [convert_to_openai_tool(t) for t in kit(students()).get_tools()]
    assert real_tokens(json.dumps(schemas, separators=(",", ":"))) <= 700


def test_a_wrong_argument_is_refused_by_name() -> None:
    wrong: list[tuple[str, dict[str, Any], str]] = [
        ("hms-send-message", {"message": "psst", "peerId": "x"}, "peerId: there is no such"),
        ("hms-send-message", {"message": ""}, "message"),
        ("hms-send-message", {"message": "é" * 2049}, "4098 bytes"),
        ("hms-send-message", {"message": "a", "role": "x", "peer_id": peer(1).id}, "not both"),
        ("hms-remove-peers", {}, "exactly one"),
        ("hms-remove-peers", {"role": "x", "peer_id": peer(1).id}, "exactly one"),
        ("hms-remove-peers", {"peer_ids": [peer(1).id]}, "there is no such argument"),
        ("hms-end-active-room", {"lock": "true"}, "lock"),
        ("hms-end-active-room", {"lock": True, "confirm": True}, "there is no such argument"),
        ("hms-list-peers", {"limit": 0}, "limit"),
    ]
    for name, args, complaint in wrong:
        room = students()
        message = call(named(kit(room, lambda r: r.approve()), name), room_id=ROOM, **args)
        assert message.status == "error"
        assert complaint in message.content
        assert "Nothing was executed" in message.content
        assert room.posts == []


@pytest.mark.parametrize(
    "room_id",
    [
        "",
        "../" + ROOM,
        f"{ROOM}/../{ROOM}",
        f"{ROOM}/end-room?",
        f"{ROOM}\n",
        "６" * 24,
        "abc-defg-hij",
    ],
    ids=repr,
)
def test_a_room_id_that_is_none_never_leaves(room_id: str) -> None:
    for tool in kit(students()).get_tools():
        message = call(tool, room_id=room_id, **({"message": "m"} if "send" in tool.name else {}))
        assert message.status == "error"


def test_a_callback_gets_a_frozen_request_and_decides() -> None:
    room, seen = students(), []

    def confirm(request: ApprovalRequest) -> Approve | Reject:
        seen.append(request)
        with pytest.raises(AttributeError):
            request.digest = "x"  # type: ignore[misc]
        return request.approve(by="ada")

    tool = named(kit(room, confirm), "hms-remove-peers")
    message = call(tool, room_id=ROOM, peer_id=peer(2).id[:8])
    assert message.artifact["state"] == "done"
    assert message.artifact["decided_by"] == "ada"
    assert [p.name for p in seen[0].impact.people] == ["Peer 2"]
    assert len(room.posts) == 1


def test_a_removal_of_somebody_who_has_just_left_is_a_success_although_nothing_was_sent() -> None:
    room = students()

    def gone(_: str) -> None:
        raise PeerNotFound("peer not found", status=404)

    room.before = gone
    tool = named(kit(room, lambda request: request.approve()), "hms-remove-peers")
    message = call(tool, room_id=ROOM, peer_id=peer(2).id)
    assert (message.artifact["executed"], message.status) == ("no", "success")


async def test_an_asynchronous_callback_decides_too() -> None:
    room = students()

    async def confirm(request: ApprovalRequest) -> Approve:
        return request.approve()

    tool = named(kit(room, confirm), "hms-send-message")
    await tool.ainvoke({"room_id": ROOM, "message": "hi"})
    assert len(room.posts) == 1


class SomeApprove(Approve):
    """An approval of another type than the documented one."""


@pytest.mark.parametrize(
    "answer",
    ["yes", True, None, 1, Approve("0" * 64), SomeApprove("0" * 64), Reject()],
    ids=repr,
)
def test_anything_but_an_approval_of_this_request_sends_nothing(answer: object) -> None:
    room = students()
    message = call(
        named(kit(room, lambda _: answer), "hms-remove-peers"), room_id=ROOM, role="student"
    )
    assert message.content.startswith("Not executed")
    assert room.posts == []


def test_a_callback_that_does_not_answer_in_time_sends_nothing() -> None:
    room = students()

    async def confirm(_: ApprovalRequest) -> Any:
        await asyncio.Event().wait()

    tool = named(kit(room, confirm, approval_ttl_s=0.2), "hms-send-message")
    assert call(tool, room_id=ROOM, message="hi").content.startswith("Not executed")
    assert room.posts == []


@pytest.mark.parametrize("ttl_s", [0.05, 600], ids=["too late", "given up"])
@pytest.mark.parametrize("says", ["approved", "rejected"])
@pytest.mark.parametrize("kind", ["a coroutine", "a function"])
async def test_what_a_callback_answers_when_nobody_waits_any_more_is_on_record(
    kind: str, says: str, ttl_s: float
) -> None:
    room, loop = students(), asyncio.get_running_loop()
    called, over = asyncio.Event(), asyncio.Event()

    async def answer(request: ApprovalRequest) -> Any:
        called.set()
        await over.wait()
        return request.approve(by="ada") if says == "approved" else request.reject(by="ada")

    def confirm(request: ApprovalRequest) -> Any:
        if kind == "a coroutine":
            return answer(request)
        return asyncio.run_coroutine_threadsafe(answer(request), loop).result()

    toolkit = kit(room, confirm, approval_ttl_s=ttl_s)
    tool = named(toolkit, "hms-send-message")
    calling = asyncio.create_task(tool.ainvoke({"room_id": ROOM, "message": "hi"}))
    await called.wait()
    if ttl_s == 600:
        calling.cancel()
    await asyncio.wait([calling])
    over.set()
    wanted, journal = says if ttl_s == 600 else "late_answer", toolkit.gate.journal
    [row] = journal.actions()
    while (last := journal.events(row.id)[-1]).kind != wanted:  # noqa: ASYNC110 - a thread's work
        await asyncio.sleep(0)
    assert (last.by, last.way) == ("ada", "callback")
    assert room.posts == []


async def test_a_person_who_thinks_keeps_no_other_call_waiting() -> None:
    room, loop = students(), asyncio.get_running_loop()
    loop.set_default_executor(ThreadPoolExecutor(1))
    asked, over = asyncio.Event(), threading.Event()

    def confirm(request: ApprovalRequest) -> Approve:
        if request.arguments["message"] == "slow":
            loop.call_soon_threadsafe(asked.set)
            over.wait()
        return request.approve()

    tool = named(kit(room, confirm), "hms-send-message")
    slow = asyncio.create_task(tool.ainvoke({"room_id": ROOM, "message": "slow"}))
    await asked.wait()
    quick = asyncio.create_task(tool.ainvoke({"room_id": ROOM, "message": "quick"}))
    await asyncio.wait([quick], timeout=10)
    sent = [body["message"] for _, body in room.posts]
    over.set()
    await asyncio.gather(slow, quick)
    assert sent == ["quick"]


def test_no_answer_of_a_callback_is_none_whatever_the_journals_clock_says() -> None:
    room = students()

    async def confirm(_: ApprovalRequest) -> Any:
        await asyncio.Event().wait()

    toolkit = kit(room, confirm, Journal(":memory:", clock=Clock()), approval_ttl_s=0.2)
    message = call(named(toolkit, "hms-send-message"), room_id=ROOM, message="hi")
    assert "nobody answered in time" in message.content
    assert message.artifact["state"] == "rejected"
    assert room.posts == []


def test_what_was_approved_elsewhere_stays_approved_when_a_callback_never_answers() -> None:
    room = students()

    async def confirm(request: ApprovalRequest) -> Any:
        gate = toolkit.gate
        await gate.decide(request.action_id, request.approve(), by="bob", way="page")
        await asyncio.Event().wait()

    toolkit = kit(room, confirm, Journal(":memory:", clock=Clock()), approval_ttl_s=0.2)
    message = call(named(toolkit, "hms-send-message"), room_id=ROOM, message="hi")
    assert message.artifact["state"] == "done"
    assert message.artifact["decided_by"] == "bob"


@pytest.mark.parametrize("later", [False, True])
@pytest.mark.parametrize("failure", [RuntimeError("no display"), StopIteration(), SystemExit()])
def test_a_callback_that_fails_sends_nothing(failure: BaseException, later: bool) -> None:
    room = students()

    def confirm(_: ApprovalRequest) -> Any:
        raise failure

    async def confirm_later(_: ApprovalRequest) -> Any:
        raise failure

    toolkit = kit(room, confirm_later if later else confirm)
    with pytest.raises(RuntimeError):
        call(named(toolkit, "hms-send-message"), room_id=ROOM, message="hi")
    assert "3 in the room" in named(toolkit, "hms-list-peers").invoke({"room_id": ROOM})
    assert room.posts == []


ASKS_AND_IS_INTERRUPTED = """
import asyncio, os, signal, sys, threading
from hms_active_rooms import ActiveRoomsToolkit, Policy
from stand_in import ROOM, StandInRoom, peer

def confirm(request):
    os.kill(os.getpid(), signal.SIGINT)
    threading.Event().wait()  # as `input` waits for a line that nobody types

toolkit = ActiveRoomsToolkit(StandInRoom([peer(1)]), Policy(rooms=[ROOM]), journal=":memory:", confirm=confirm)
send = next(tool for tool in toolkit.get_tools() if "send" in tool.name)
arguments = {"room_id": ROOM, "message": "hi"}
send.invoke(arguments) if sys.argv[1] == "invoke" else asyncio.run(send.ainvoke(arguments))
"""


@pytest.mark.skipif(sys.platform == "win32", reason="os.kill ends a process there")
@pytest.mark.parametrize("way", ["invoke", "ainvoke"])
def test_ctrl_c_while_a_person_is_asked_ends_the_program(way: str) -> None:
    tests = str(Path(__file__).parents[1])
    ended = subprocess.run(
        [sys.executable, "-c", ASKS_AND_IS_INTERRUPTED, way],
        env=os.environ | {"PYTHONPATH": tests},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ended.stderr.splitlines()[-1] == "KeyboardInterrupt"


def test_without_anybody_to_ask_nothing_is_sent() -> None:
    room = students()
    message = call(named(kit(room), "hms-end-active-room"), room_id=ROOM)
    assert message.content.startswith("Not executed")
    assert (message.status, message.artifact["state"]) == ("error", "rejected")
    assert room.posts == []


def test_a_plain_invoke_works_and_gives_text() -> None:
    assert "3 in the room" in named(kit(students()), "hms-list-peers").invoke({"room_id": ROOM})


def test_the_artifact_holds_what_is_shown_and_how_many_there_are() -> None:
    artifact = call(named(kit(students()), "hms-list-peers"), room_id=ROOM, limit=1).artifact
    assert (len(artifact["peers"]), artifact["total"], artifact["left_out"]) == (1, 3, 2)
    json.dumps(artifact)


def test_a_policy_without_rooms_is_an_error_whose_traceback_says_what_to_do() -> None:
    with pytest.raises(ConfigurationError, match="No room is allowed") as caught:
        ActiveRoomsToolkit(students(), Policy(), journal=":memory:")  # type: ignore[arg-type]
    assert "HMS_POLICY_ROOMS" in "".join(traceback.format_exception(caught.value))


@pytest.mark.parametrize("confirm", [True, "yes", object(), lambda: None, lambda a, b: a])
def test_what_cannot_be_asked_with_a_request_is_an_error_when_built(confirm: Any) -> None:
    with pytest.raises(ConfigurationError, match="has to be a function of one argument"):
        kit(students(), confirm)


ENVIRON = {"HMS_ACCESS_KEY": "key", "HMS_SECRET": "s" * 32}


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"rooms": ROOM}, rf'rooms: give a list such as \["{ROOM}"\]'),
        ({"rooms": ROOM, "policy": Policy()}, "give a list"),
        ({"rooms": [ROOM], "policy": "policy.toml"}, r"has to be a Policy\. It is 'policy\.toml'"),
        ({"policy": {"rooms": [ROOM]}}, "has to be a Policy"),
        ({"rooms": [ROOM], "journal": "j.sqlite"}, "cannot be opened"),
    ],
)
def test_what_is_of_another_type_is_an_error_that_names_it_when_built(
    given: dict[str, Any], told: str
) -> None:
    with pytest.raises(ConfigurationError, match=told):
        ActiveRoomsToolkit.from_env(**{"journal": ":memory:", "environ": ENVIRON} | given)


def test_a_client_whose_calls_cannot_be_awaited_is_refused_when_the_toolkit_is_built() -> None:
    client: Any = SyncActiveRoomsClient.from_env(ENVIRON)
    with pytest.raises(ConfigurationError, match="is of the type SyncActiveRoomsClient"):
        ActiveRoomsToolkit(client, Policy(rooms=[ROOM]), journal=":memory:")


def test_from_env_signs_the_journal_with_the_key_that_it_is_given(tmp_path: Path) -> None:
    place = tmp_path / "j.sqlite"
    environ = {**ENVIRON, "HMS_JOURNAL": f"sqlite:///{place}", "HMS_JOURNAL_KEY": "k" * 32}
    ActiveRoomsToolkit.from_env(rooms=[ROOM], environ=environ)
    with pytest.raises(JournalError, match="signed with a key"):
        Journal(place, key="")


def test_a_toolkit_that_is_refused_makes_no_journal(tmp_path: Path) -> None:
    environ = {**ENVIRON, "HMS_JOURNAL": f"sqlite:///{tmp_path / 'j.sqlite'}"}
    wrong: list[dict[str, Any]] = [{}, {"rooms": [ROOM], "confirm": True}]
    for given in wrong:
        with pytest.raises(ConfigurationError):
            ActiveRoomsToolkit.from_env(environ=environ, **given)
    assert list(tmp_path.iterdir()) == []


def test_from_env_takes_rooms_policy_callback_and_journal(tmp_path: Path) -> None:
    toolkit = ActiveRoomsToolkit.from_env(
        rooms={ROOM},
        policy=Policy(protected_roles=frozenset({"teacher"})),
        confirm=lambda r: r.reject(),
        journal=tmp_path / "100%?.sqlite",
        environ=ENVIRON,
    )
    assert toolkit.gate.policy.rooms == (ROOM,)
    assert (tmp_path / "100%?.sqlite").stat().st_size
    assert toolkit.gate.policy.protected_roles == {"teacher"}
    assert "s" * 32 not in repr(toolkit)


def test_from_env_names_what_is_missing() -> None:
    with pytest.raises(ConfigurationError) as caught:
        ActiveRoomsToolkit.from_env(rooms=[ROOM], journal=":memory:", environ={})
    assert "HMS_ACCESS_KEY" in caught.value.for_model()


def test_an_artifact_survives_a_checkpoint() -> None:
    artifact = call(named(kit(students()), "hms-end-active-room"), room_id=ROOM).artifact
    assert pickle.loads(pickle.dumps(artifact)) == artifact
    json.dumps(artifact)
