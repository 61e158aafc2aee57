"""`actions`, `approve` and `reject`: the record in a person's hands."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import IO

import pytest

from cli.running import QUESTION, Open, Run, answered, ended, executed
from forks import WAIT_S
from hms_active_rooms.errors import JournalError
from hms_active_rooms.gate.approval import Edit, record_decision
from hms_active_rooms.gate.journal import Journal
from hms_active_rooms.gate.journal.records import REQUESTS
from hms_active_rooms.gate.journal.tables import actions
from hms_active_rooms.sim.faults import Fault
from hms_active_rooms.sim.server import Simulation
from hms_active_rooms.tokens import token_bound
from simulated import peer_id, posts


@pytest.fixture
def waiting(sim: Simulation, call: Run) -> str:
    """The id of a removal that waits for a person."""
    return str(call("remove", sim.room_id, "Spam Bot", "--json").json["action_id"])


@pytest.fixture
def late(sim: Simulation, call: Run) -> str:
    """The id of an end that nobody answered in time."""
    asked = call("end", sim.room_id, "--json", HMS_POLICY_APPROVAL_TTL_S="0.001")
    return str(asked.json["action_id"])


def test_approve_in_a_terminal_shows_asks_and_runs_once(
    sim: Simulation, waiting: str, call: Run, terminal: Open
) -> None:
    child = terminal("approve", waiting)
    child.expect(QUESTION)
    assert '"Spam Bot", role "student"' in (child.before or "")
    assert 'Asked by "cli:' in (child.before or "")
    child.sendline("yes")
    assert ended(child)[0] == 0
    again = terminal("approve", waiting)
    code, rest = ended(again)
    assert code == 0
    assert 'Removed "Spam Bot"' in rest
    assert len(posts(sim)) == 1
    assert re.search(
        r"Decided +approved by \S+ \(terminal\) at ", call("actions", "show", waiting).out
    )


def test_what_the_policy_here_refuses_is_not_asked_about(
    sim: Simulation, waiting: str, call: Run, terminal: Open
) -> None:
    code, told = ended(terminal("approve", waiting, HMS_POLICY_PROTECTED_ROLES="student"))
    assert (code, "the policy protects that role" in told, "Approve?" in told) == (4, True, False)
    assert call("actions", "show", waiting, "--json").json["state"] == "proposed"
    assert posts(sim) == []


def test_approve_without_a_terminal_decides_nothing(
    sim: Simulation, waiting: str, call: Run
) -> None:
    done = call("approve", waiting, given="yes\n")
    assert done.code == 2
    assert "needs a person at a terminal. Nothing was decided" in done.err
    assert f"hms-active-rooms reject {waiting}" in done.err
    assert "There is no action" in call("approve", "abcdefghijkl", given="yes\n").err
    assert call("actions", "show", waiting, "--json").json["state"] == "proposed"
    assert posts(sim) == []


def test_approve_without_a_terminal_tells_the_outcome_of_what_was_sent_unasked(
    sim: Simulation, call: Run
) -> None:
    sim.faults.add(Fault(kind="reset", method="POST", when="after", times=None))
    unasked = {"HMS_POLICY_RELAXED": "hms-send-message"}
    action = call("send", sim.room_id, "hello", "--json", **unasked).json["action_id"]
    done = call("approve", action)
    assert done.code == 5
    assert done.err.startswith("The outcome is unknown: ")
    assert len(posts(sim)) == 1


def test_reject_works_without_a_terminal_and_is_final(
    sim: Simulation, waiting: str, call: Run, terminal: Open
) -> None:
    assert call("reject", waiting, "--reason", "wrong person").code == 0
    shown = call("actions", "show", waiting, "--json").json
    assert (shown["state"], shown["reason"]) == ("rejected", "wrong person")
    assert shown["decided_way"] == "command"
    code, rest = ended(terminal("approve", waiting))
    assert code == 4
    assert "wrong person" in rest
    assert call("reject", waiting).code == 0
    assert posts(sim) == []


def test_an_action_may_be_named_by_the_link_of_a_notice(waiting: str, call: Run) -> None:
    link = f"http://127.0.0.1:9090/approvals#action={waiting}"
    assert call("actions", "show", link, "--json").json["action_id"] == waiting
    assert call("reject", link).code == 0


def test_a_no_with_a_stray_byte_in_its_reason_is_a_no(
    sim: Simulation, waiting: str, call: Run, run: Run
) -> None:
    done = run("reject", waiting, "--reason", "caf\udcff closes")
    assert (done.code, done.err) == (0, "")
    shown = call("actions", "show", waiting, "--json").json
    assert (shown["state"], shown["reason"]) == ("rejected", "caf\ufffd closes")


def test_a_no_after_the_deadline_is_told_that_it_had_expired(late: str, call: Run) -> None:
    done = call("reject", late)
    assert (done.code, done.out) == (4, "")
    assert "Too late to reject. Not executed: The question was not answered in time" in done.err
    assert call("actions", "show", late, "--json").json["state"] == "expired"
    again = call("reject", late, "--json")
    assert (again.code, again.json["state"]) == (4, "expired")


def test_what_was_done_cannot_be_rejected(
    sim: Simulation, waiting: str, call: Run, terminal: Open
) -> None:
    assert answered(terminal("approve", waiting), "yes")[0] == 0
    done = call("reject", waiting)
    assert done.code == 1
    assert "Too late to reject" in done.err


def test_rejecting_and_looking_need_no_credentials(
    sim: Simulation, waiting: str, call: Run
) -> None:
    nothing = {"HMS_ACCESS_KEY": "", "HMS_SECRET": "", "HMS_BASE_URL": ""}
    assert call("actions", **nothing).code == 0
    assert call("actions", "show", waiting, **nothing).code == 0
    assert call("reject", waiting, **nothing).code == 0


def test_the_list_can_be_narrowed(sim: Simulation, waiting: str, call: Run) -> None:
    call("reject", call("end", sim.room_id, "--json").json["action_id"])
    assert len(call("actions", "--json").json["actions"]) == 2
    (row,) = call("actions", "--state", "proposed", "--json").json["actions"]
    assert row["action_id"] == waiting
    assert call("actions", "--room", "a" * 24, "--json").json["actions"] == []
    assert len(call("actions", "--limit", "1", "--json").json["actions"]) == 1
    text = call("actions")
    assert (
        f'{waiting}\tproposed (10 min left)\tremove-peers\t"Spam Bot", role "student"\t' in text.out
    )
    zone = datetime.now(UTC).astimezone().strftime("%Z")
    assert text.out.splitlines()[1].endswith(f" {zone}")


def test_the_exit_code_of_an_action_whose_record_is_broken_is_not_that_of_a_success(
    waiting: str, call: Run, terminal: Open
) -> None:
    with closing(Journal()) as journal, journal.write() as tx:
        tx.db.execute(actions.update().values(state="done"))
    shown = call("actions", "show", waiting, "--wait", "0")
    assert (shown.code, "done (broken record)" in shown.out) == (5, True)
    code, told = ended(terminal("approve", waiting))
    assert (code, "contradicts itself" in told) == (5, True)


def test_a_no_to_an_action_whose_newest_record_is_broken_does_not_end_like_a_success(
    sim: Simulation, call: Run
) -> None:
    first = str(call("end", sim.room_id, "--json").json["action_id"])
    with closing(Journal()) as journal:
        with journal.write() as tx:
            row = tx.get(first)
            assert row is not None
            edit = Edit(row.digest, {"reason": "over"})
            newest = record_decision(tx, first, edit, by="ada", way="page").action
        with journal.write() as tx:
            forged = actions.update().where(actions.c.id == newest.id)
            tx.db.execute(forged.values(state="rejected"))
    done = call("reject", first)
    assert (done.code, "contradicts itself" in done.err) == (5, True)


@pytest.mark.parametrize("answers", [["no"], ["edit", "other words", "yes"]])
def test_a_no_or_an_edit_that_comes_after_somebodys_yes_does_not_end_like_a_success(
    sim: Simulation, waiting: str, terminal: Open, answers: list[str]
) -> None:
    second = terminal("approve", waiting)
    second.expect(QUESTION)
    assert answered(terminal("approve", waiting), "yes")[0] == 0
    second.sendline(answers[0])
    for prompt, line in zip(("New reason", "with these words"), answers[1:], strict=False):
        second.expect(prompt)
        second.sendline(line)
    code, told = ended(second)
    assert (code, "Already approved by" in told, len(posts(sim))) == (1, True, 1)


def test_an_action_whose_record_is_broken_is_not_listed_as_waiting(waiting: str, call: Run) -> None:
    listed = call("actions", HMS_JOURNAL_KEY="k" * 32)  # its row is from before the key
    assert f"{waiting}\tproposed (broken record)\t" in listed.out


def test_a_question_nobody_answered_counts_as_expired(late: str, call: Run) -> None:
    assert call("actions", "--state", "proposed", "--json").json["actions"] == []
    (row,) = call("actions", "--state", "expired", "--json").json["actions"]
    assert row["action_id"] == late
    shown = call("actions", "show", late, "--wait", "60")
    assert shown.code == 4
    assert "Decided   by the program, not by a person (gate)" in shown.out
    assert call("actions", "show", late, "--json").json["decided_by"] == ""


def test_what_the_policy_refused_was_decided_by_nobody(sim: Simulation, call: Run) -> None:
    protected = {"HMS_POLICY_PROTECTED_ROLES": "student"}
    refused = call("remove", sim.room_id, "Spam Bot", "--json", **protected)
    assert refused.code == 4
    (row,) = call("actions", "--json").json["actions"]
    assert (row["state"], row["decided_by"], row["decided_way"]) == ("rejected", "", "policy")
    shown = call("actions", "show", row["action_id"]).out
    assert "Decided   by the program, not by a person (policy)" in shown
    assert "by policy" not in shown


def test_an_expired_action_cannot_be_approved(sim: Simulation, late: str, terminal: Open) -> None:
    code, rest = ended(terminal("approve", late))
    assert code == 4
    assert "not answered in time" in rest
    assert posts(sim) == []


def test_show_tells_everything_that_happened(sim: Simulation, waiting: str, call: Run) -> None:
    call("reject", waiting, "--reason", "no")
    text = call("actions", "show", waiting)
    assert text.code == 0
    assert "proposed by cli:" in text.out
    assert "rejected by" in text.out
    assert peer_id(sim, "Spam Bot")[:8] in text.out
    kinds = [e["kind"] for e in call("actions", "show", waiting, "--json").json["events"]]
    assert kinds == ["proposed", "rejected"]


def test_waiting_ends_with_the_code_of_how_the_action_ended(
    sim: Simulation, waiting: str, call: Run, terminal: Open
) -> None:
    assert call("actions", "show", waiting, "--wait", "0").code == 3
    watcher = terminal("actions", "show", waiting, "--wait", "60", "--json")
    assert answered(terminal("approve", waiting), "yes")[0] == 0
    code, rest = ended(watcher)
    assert code == 0
    assert '"state": "done"' in rest


def test_waiting_follows_an_action_that_was_edited(
    sim: Simulation, call: Run, terminal: Open
) -> None:
    old = call("send", sim.room_id, "helo", "--json").json["action_id"]
    child = terminal("approve", old)
    child.expect(QUESTION)
    child.sendline("edit")
    child.expect("New message")
    child.sendline("hello")
    child.expect("with these words")
    child.sendline("yes")
    assert ended(child)[0] == 0
    after = call("actions", "show", old, "--wait", "60", "--json")
    assert after.code == 0
    assert after.json["edited_from"] == old
    assert f"Went on as  {after.json['action_id']} (done)" in call("actions", "show", old).out
    told = call("approve", old)
    assert (told.code, "Message sent" in told.out) == (0, True)
    assert "with other words" in told.err


def test_an_action_that_was_refused_on_the_spot_can_be_shown(sim: Simulation, call: Run) -> None:
    call("remove", sim.room_id, "--role", "nobody-has-this")
    (row,) = call("actions", "--json").json["actions"]
    text = call("actions", "show", row["action_id"])
    assert text.code == 0
    assert "Nobody has the role" in text.out
    assert "  refused; asked by cli:" in text.out


def test_a_command_again_sends_what_was_approved_and_held_back_only_on_a_terminal_and_shows_it(
    sim: Simulation, call: Run, terminal: Open
) -> None:
    limit, remove = {"HMS_POLICY_ACTIONS_PER_MINUTE": "1"}, ("remove", sim.room_id, "d6a660ef")
    assert answered(terminal("send", sim.room_id, "hello", **limit), "yes")[0] == 0
    code, rest = answered(terminal(*remove, **limit), "yes")
    assert (code, "still approved and was not sent" in rest) == (4, True)
    assert call(*remove).code == 3  # an agent's shell
    assert "remove_peers" not in [request.operation for request in sim.requests]
    code, rest = ended(terminal(*remove))
    assert code == 0
    assert "Already approved by" in rest
    assert 'Remove "Spam Bot"' in rest


def test_an_action_another_worker_approved_is_sent_without_a_second_question(
    sim: Simulation, waiting: str, call: Run, terminal: Open
) -> None:
    # The limit of one action per minute leaves the second one approved and not sent.
    limit = {"HMS_POLICY_ACTIONS_PER_MINUTE": "1"}
    assert answered(terminal("send", sim.room_id, "hello", **limit), "yes")[0] == 0
    code, rest = answered(terminal("approve", waiting, **limit), "yes")
    assert code == 4
    assert "still approved and was not sent" in rest
    assert f"approve {waiting} sends the action" in " ".join(
        call("actions", "show", waiting).out.split()
    )
    assert "approved (" in call("actions").out
    third = terminal("approve", waiting)
    code, rest = ended(third)
    assert code == 0
    assert "Already approved by" in rest
    assert len(posts(sim)) == 2


def test_what_a_killed_sender_left_is_told_how_to_end(
    sim: Simulation, waiting: str, call: Run, terminal: Open
) -> None:
    sim.faults.add(Fault(kind="hang", method="POST", when="after"))
    child = terminal("approve", waiting)
    child.expect(QUESTION)
    child.sendline("yes")
    executed(sim)
    child.kill()
    told = " ".join(call("actions", "show", waiting).out.split())
    assert f"if the sender stopped: hms-active-rooms approve {waiting}" in told
    nobody = call("approve", waiting).err
    assert ("may have been executed" in nobody, "you can only reject" in nobody) == (True, False)
    assert ended(terminal("approve", waiting))[0] == 0
    assert call("actions", "show", waiting, "--json").json["state"] == "done"
    assert len(posts(sim)) == 1


def test_the_list_says_whom_an_action_hits(sim: Simulation, call: Run) -> None:
    call("send", sim.room_id, "hi", "--role", "student")
    call("end", sim.room_id)
    call("remove", sim.room_id, "--role", "nobody-has-this")
    whom = {line.split("\t")[2]: line.split("\t")[3] for line in call("actions").out.splitlines()}
    assert whom["send-message"] == '12 people as "student"'
    roles = '12 as "student" and 1 as "assistant" and 1 as "teacher" and 1 as "viewer"'
    assert whom["end-active-room"] == f"15 people: {roles}"
    assert whom["remove-peers"] == "- (refused before anybody was asked)"
    with closing(Journal()) as journal, journal.write() as tx:
        tx.db.execute(actions.update().values(arguments={}))
    lines = call("actions").out.splitlines()[1:]
    assert [line.split("\t")[3] for line in lines] == ["- (broken record)"] * 3


def test_an_approval_that_could_not_be_sent_is_said_to_be_still_open(
    sim: Simulation, waiting: str, call: Run, terminal: Open
) -> None:
    child = terminal("approve", waiting)
    child.expect(QUESTION)
    sim.faults.add(Fault(kind="unauthorized", times=None))
    child.sendline("yes")
    code, rest = ended(child)
    assert code == 1
    rest = " ".join(rest.split())
    assert "its approval is still open until" in rest
    assert f"hms-active-rooms reject {waiting} takes the approval back" in rest
    assert call("actions", "show", waiting, "--json").json["state"] == "approved"
    assert posts(sim) == []


def test_ctrl_c_while_an_approved_request_is_on_its_way_says_that_it_may_have_been_executed(
    sim: Simulation, waiting: str, terminal: Open
) -> None:
    sim.faults.add(Fault(kind="hang", method="POST", when="after", times=None))
    child = terminal("approve", waiting)
    child.expect(QUESTION)
    child.sendline("yes")
    executed(sim)
    child.expect(r"Waiting for 100ms \.\.\. \d+ s")
    child.sendintr()
    code, rest = ended(child)
    assert code == 5
    assert "may have been executed" in rest
    assert len(posts(sim)) == 1


def test_ctrl_c_before_the_request_says_that_the_approval_is_still_open(
    sim: Simulation, waiting: str, terminal: Open
) -> None:
    child = terminal("approve", waiting)
    child.expect(QUESTION)
    before = len(sim.requests)
    sim.faults.add(Fault(kind="hang", method="GET", times=None))
    child.sendline("yes")
    sim.log.wait_until(lambda seen: len(seen) > before, WAIT_S)
    child.sendintr()
    code, rest = ended(child)
    assert code == 130
    assert "its approval is still open until" in rest
    assert posts(sim) == []


def test_what_ended_is_exported_to_a_new_file_and_only_then_pruned(
    sim: Simulation, waiting: str, call: Run, tmp_path: Path
) -> None:
    call("reject", waiting)
    open_still = call("end", sim.room_id, "--json").json["action_id"]
    file, later = tmp_path / "old.jsonl", "2999-01-01"
    assert call("actions", "prune", "--before", later, "--json").json == {"deleted": 0, "left": 1}
    first = f"hms-active-rooms actions export FILE --before {later}"
    assert first in call("actions", "prune", "--before", later).err
    written = call("actions", "export", str(file), "--before", later, "--json").json
    assert written == {"file": str(file), "actions": 1}
    assert waiting in file.read_text(encoding="utf-8")
    assert open_still not in file.read_text(encoding="utf-8")
    assert file.stat().st_mode & 0o777 == 0o600
    again = call("actions", "export", str(file), "--before", later)
    assert (again.code, "File exists" in again.err) == (2, True)
    assert call("actions", "prune", "--before", "2000-01-01", "--json").json["deleted"] == 0
    assert "Deleted 1 action from" in call("actions", "prune", "--before", later).out
    assert [row["action_id"] for row in call("actions", "--json").json["actions"]] == [open_still]
    for command in (("actions", "show", waiting), ("reject", waiting)):
        assert "There is no action" in call(*command).err
    assert call("actions", "prune", "--before", "soon").code == 2


@pytest.mark.parametrize(
    "stops", [JournalError("it failed"), OSError(28, "full"), KeyboardInterrupt()]
)
def test_an_export_that_was_not_finished_leaves_no_file(
    stops: BaseException, waiting: str, call: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def export(_: Journal, file: IO[str], **__: object) -> int:
        file.write("half of an archive")
        raise stops

    monkeypatch.setattr(Journal, "export", export)
    assert call("actions", "export", str(tmp_path / "old"), "--before", "2999-01-01").code != 0
    assert not (tmp_path / "old").exists()


def test_requests_that_a_server_refused_are_listed_newest_first(
    environ: dict[str, str], call: Run
) -> None:
    journal = Journal()
    assert call("actions", "--refused").err.strip() == "No request was refused."
    for address in ("10.0.0.1", "10.0.0.2"):
        what = {"what": "GET /v1/tools\x1b[2J"}
        journal.note(REQUESTS, "refused", by=address, way="token", **what)
    journal.close()
    _, *shown = call("actions", "--refused").out.splitlines()
    assert ["from 10.0.0.2" in shown[0], "from 10.0.0.1" in shown[1]] == [True, True]
    assert "\x1b" not in shown[0]
    assert '(token): "GET /v1/tools' in shown[0]
    [newest] = call("actions", "--refused", "--limit", "1", "--json").json["refused"]
    assert (newest["kind"], newest["way"], newest["by"]) == ("refused", "token", "10.0.0.2")
    place = Path(environ["XDG_STATE_HOME"]) / "hms-active-rooms" / "journal.sqlite"
    assert call("actions").err.strip() == f'There are no actions in the journal "{place}".'
    assert f'in the journal "{place}"' in call("reject", "nope").err
    assert call("actions", "--refused", "--limit", "0").code == 2


def test_a_role_of_thousands_is_told_in_json_by_a_few(
    start: Callable[[str], Simulation], call: Run
) -> None:
    sim = start("arena")
    for _ in range(3):
        sim.world.join(sim.room_id, name="\U000e0041" * 9000, role="fan", user_id="y" * 9000)
    limit = {"HMS_POLICY_MAX_PEERS": "20000"}
    asked = call("remove", sim.room_id, "--role", "fan", "--json", **limit)
    assert asked.code == 3
    action = asked.json["action_id"]
    listed = call("actions", "--json").json["actions"]
    shown = call("actions", "show", action, "--json").json
    rejected = call("reject", action, "--json").json
    assert "question" not in listed[0]
    for told, most in ((asked.json, 20), (listed[0], 3), (shown, 20), (rejected, 20)):
        impact = told["impact"]
        assert impact["total"] == 19_903
        assert len(impact["people"]) == most
        # The question names up to 50 of them, a short line each.
        assert token_bound(json.dumps(told)) < 800 + most * 160 + 50 * 40 * ("question" in told)


@pytest.mark.parametrize(
    "command",
    [
        ("actions",),
        ("actions", "--json"),
        ("actions", "show", "abc"),
        ("actions", "export", "out.jsonl", "--before", "2026-01-01"),
        ("actions", "prune", "--before", "2026-01-01"),
        ("reject", "abc"),
    ],
)
def test_a_journal_that_is_not_there_is_not_shown_as_an_empty_one(
    command: tuple[str, ...], call: Run, tmp_path: Path
) -> None:
    mistyped = tmp_path / "moderaton" / "journal.sqlite"
    for where in (("--journal", f"sqlite:///{mistyped}"), ()):
        done = call(*command, *where)
        assert done.code == 2
        assert "There is no journal at" in done.out + done.err
        assert "--journal or HMS_JOURNAL" in done.out + done.err
    assert not mistyped.parent.exists()


def test_reading_a_room_makes_no_journal(sim: Simulation, call: Run) -> None:
    assert call("peers", sim.room_id).code == 0
    assert "There is no journal at" in call("actions").err
